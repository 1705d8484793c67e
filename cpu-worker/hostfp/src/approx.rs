//! RCPPS and RSQRTPS: approximations whose bits differ between makers of CPUs, so they are defined here.
//!
//! The result is the true value rounded to 12 significant bits, a relative error of at most 2^-12 (the architecture allows
//! 1.5 * 2^-12). Built from one IEEE division or square root in double precision, it is equal on every host.
//! Special cases: Intel SDM vol. 2, RCPPS and RSQRTPS: denormal operands count as zero, tiny results become zero.

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = 0x7f80_0000;
const QUIET: u32 = 0x40_0000;
const DEFAULT_NAN: u32 = 0xffc0_0000;

/// The reciprocal of a float, both as bits.
pub fn rcp(x: u32) -> u32 {
    let sign = x & SIGN;
    match x & !SIGN {
        m if m > INFINITY => x | QUIET,
        INFINITY => sign,
        m if m < 0x80_0000 => sign | INFINITY,
        m => sign | short(1.0 / f64::from(f32::from_bits(m))),
    }
}

/// The reciprocal square root of a float, both as bits.
pub fn rsqrt(x: u32) -> u32 {
    match x & !SIGN {
        m if m > INFINITY => x | QUIET,
        m if m < 0x80_0000 => x & SIGN | INFINITY,
        _ if x & SIGN != 0 => DEFAULT_NAN,
        INFINITY => 0,
        m => short(1.0 / f64::from(f32::from_bits(m)).sqrt()),
    }
}

/// A positive double rounded to 12 significant bits, as a float; zero if that is tiny.
fn short(v: f64) -> u32 {
    const DROPPED: u32 = 52 - 11;
    let bits = (v.to_bits() + (1 << (DROPPED - 1))) >> DROPPED << DROPPED;
    let exponent = (bits >> 52) as i32 - 1023 + 127;
    if exponent <= 0 {
        return 0;
    }
    (exponent as u32) << 23 | (bits >> (52 - 23)) as u32 & 0x7f_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(approximate: fn(u32) -> u32, exact: fn(f64) -> f64) {
        let mut x = 0x0080_0000u32;
        while x < INFINITY {
            let want = exact(f64::from(f32::from_bits(x)));
            let got = f64::from(f32::from_bits(approximate(x)));
            let tiny = want < f64::from(f32::MIN_POSITIVE);
            assert!(
                tiny && got == 0.0 || (got / want - 1.0).abs() <= 1.5 / 4096.0,
                "{x:#x}: {got} for {want}"
            );
            x += 0x0123_4567 >> 6;
        }
    }

    #[test]
    fn relative_error_is_within_the_documented_bound() {
        check(rcp, |x| 1.0 / x);
        check(rsqrt, |x| 1.0 / x.sqrt());
    }

    #[test]
    fn special_operands() {
        assert_eq!(rcp(0), INFINITY);
        assert_eq!(rcp(SIGN | 1), SIGN | INFINITY);
        assert_eq!(rcp(INFINITY | 1), INFINITY | QUIET | 1);
        assert_eq!(rcp(SIGN | INFINITY), SIGN);
        assert_eq!(rsqrt(SIGN), SIGN | INFINITY);
        assert_eq!(rsqrt(0xbf80_0000), DEFAULT_NAN);
        assert_eq!(rsqrt(SIGN | INFINITY), DEFAULT_NAN);
        assert_eq!(rsqrt(INFINITY), 0);
    }
}
