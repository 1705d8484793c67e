//! x87 transcendental functions in integer arithmetic, equal on every host.
//!
//! Each is computed to about 120 bits (`crate::wide`) and rounded once, by the guest's rounding control, so results are
//! correctly rounded but for cases closer to a rounding boundary than 2^-50 of an ulp: always within 1 ulp (`tests/truth.rs`). Arguments of
//! FSIN, FCOS, FSINCOS and FPTAN are reduced by 2/pi to 256 bits, not by the 66 bits of pi that CPUs have.
//!
//! Special operands follow the tables of Intel SDM vol. 2 (F2XM1, FCOS, FPATAN, FPTAN, FSIN, FSINCOS, FYL2X, FYL2XP1).
//! Where the manual calls a result undefined (F2XM1 outside -1 to 1, FYL2XP1 outside its range) the true function is given
//! as far as it has a value.

use crate::wide::{self, Wide};
use crate::x87::{self, Bin, C2, DE, Done, Env, F80, FLAGS, IE, PE, ZE};

const INDEFINITE: F80 = [0xc000_0000_0000_0000, 0xffff];
const ONE: F80 = [1 << 63, 0x3fff];
const SIGN: u64 = 0x8000;

const fn infinity(sign: u64) -> F80 {
    [1 << 63, 0x7fff | sign]
}
const fn zero(sign: u64) -> F80 {
    [0, sign]
}

/// What kind of value an operand is. Signs are looked at apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Zero,
    Finite,
    Infinite,
    /// A NaN, or an encoding that is not supported.
    Other,
}

fn class(v: F80) -> Class {
    match v[1] & 0x7fff {
        0 if v[0] == 0 => Class::Zero,
        0 => Class::Finite,
        0x7fff if v[0] == 1 << 63 => Class::Infinite,
        0x7fff => Class::Other,
        _ if v[0] >> 63 == 0 => Class::Other,
        _ => Class::Finite,
    }
}

fn sign(v: F80) -> u64 {
    v[1] & SIGN
}

/// DE if the operand is a denormal.
fn denormal(v: F80) -> u16 {
    if v[1] & 0x7fff == 0 && v[0] != 0 {
        DE
    } else {
        0
    }
}

fn done(value: F80, status: u16) -> Done {
    Done { value, status }
}

fn invalid() -> Done {
    done(INDEFINITE, IE)
}

/// The response to NaNs and unsupported encodings, which is that of any arithmetic.
fn not_a_number(a: F80, b: F80, env: Env) -> Done {
    let mut d = x87::bin(Bin::Add, a, b, Env { status: 0, ..env });
    d.status &= FLAGS;
    d
}

/// The rounded result of an irrational function.
fn rounded(w: Wide, env: Env, flags: u16) -> Done {
    let mut d = w.to_f80(env.control, true);
    d.status |= flags | PE;
    d
}

/// F2XM1: 2^x - 1.
pub fn f2xm1(x: F80, env: Env) -> Done {
    match class(x) {
        Class::Zero => done(x, 0),
        Class::Infinite if sign(x) == 0 => done(x, 0),
        Class::Infinite => done([1 << 63, 0xbfff], 0),
        Class::Other => not_a_number(x, x, env),
        // 2^1 - 1 is exact, and outside of -1 to 1 nothing is defined.
        Class::Finite if x[1] & 0x7fff >= 0x3fff => match sign(x) {
            0 => done(x, PE),
            _ => done([1 << 63, 0xbffe], PE),
        },
        Class::Finite => {
            let y = Wide::from_f80(x).mul(wide::LN_2);
            rounded(wide::exp_m1(y), env, denormal(x))
        }
    }
}

/// FYL2X: st1 * log2(st0).
pub fn yl2x(x: F80, y: F80, env: Env) -> Done {
    let flags = denormal(x) | denormal(y);
    match (class(x), class(y)) {
        (Class::Other, _) | (_, Class::Other) => not_a_number(y, x, env),
        (Class::Zero, Class::Zero) => invalid(),
        (Class::Zero, Class::Infinite) => done(infinity(sign(y) ^ SIGN), 0),
        (Class::Zero, _) => done(infinity(sign(y) ^ SIGN), ZE),
        _ if sign(x) != 0 => invalid(),
        (Class::Infinite, Class::Zero) => invalid(),
        (Class::Infinite, _) => done(infinity(sign(y)), denormal(y)),
        (Class::Finite, c) => {
            let log = wide::log2(Wide::from_f80(x));
            match c {
                _ if log.is_zero() && c == Class::Infinite => invalid(),
                Class::Infinite => done(infinity(sign(y) ^ log.sign()), denormal(x)),
                _ if log.is_zero() => done(zero(sign(y)), denormal(y)),
                Class::Zero => done(zero(sign(y) ^ log.sign()), denormal(x)),
                _ => product(log, y, x[0] == 1 << 63, env, flags),
            }
        }
    }
}

/// log * y, exact but for the rounding if the logarithm is (that of a power of two).
fn product(log: Wide, y: F80, exact: bool, env: Env, flags: u16) -> Done {
    let w = log.mul(Wide::from_f80(y));
    let mut d = w.to_f80(env.control, !exact);
    d.status |= flags;
    d
}

/// FYL2XP1: st1 * log2(st0 + 1).
pub fn yl2xp1(x: F80, y: F80, env: Env) -> Done {
    let flags = denormal(x) | denormal(y);
    match (class(x), class(y)) {
        (Class::Other, _) | (_, Class::Other) => not_a_number(y, x, env),
        (Class::Zero, Class::Infinite) => invalid(),
        (Class::Zero, _) => done(zero(sign(x) ^ sign(y)), denormal(y)),
        (Class::Infinite, _) if sign(x) != 0 => invalid(),
        (Class::Infinite, Class::Zero) => invalid(),
        (Class::Infinite, _) => done(infinity(sign(y)), denormal(y)),
        // No logarithm there.
        (Class::Finite, _) if sign(x) != 0 && x[1] & 0x7fff >= 0x3fff => invalid(),
        (Class::Finite, Class::Infinite) => done(infinity(sign(x) ^ sign(y)), denormal(x)),
        (Class::Finite, Class::Zero) => done(zero(sign(x) ^ sign(y)), denormal(x)),
        (Class::Finite, Class::Finite) => {
            product(wide::log2_1p(Wide::from_f80(x)), y, false, env, flags)
        }
    }
}

/// FPATAN: the angle of the point (st0, st1).
pub fn patan(x: F80, y: F80, env: Env) -> Done {
    let (cx, cy) = (class(x), class(y));
    if cx == Class::Other || cy == Class::Other {
        return not_a_number(y, x, env);
    }
    let flags = denormal(x) | denormal(y);
    let left = sign(x) != 0;
    let angle = match (cy, cx) {
        (Class::Zero, _) if !left => return done(zero(sign(y)), denormal(x)),
        (Class::Finite, Class::Infinite) if !left => return done(zero(sign(y)), denormal(y)),
        (Class::Zero, _) | (Class::Finite, Class::Infinite) => wide::PI,
        (Class::Infinite, Class::Infinite) if left => wide::PI.half().mul(Wide::THREE).half(),
        (Class::Infinite, Class::Infinite) => wide::PI.half().half(),
        (Class::Infinite, _) | (_, Class::Zero) => wide::PI.half(),
        _ => wide::atan2(Wide::from_f80(y).abs(), Wide::from_f80(x).abs(), left),
    };
    rounded(angle.with_sign(sign(y)), env, flags)
}

/// What FSIN, FCOS, FSINCOS and FPTAN do with operands that are not plain numbers in range.
fn trigonometric(x: F80, env: Env) -> Result<(Wide, Wide), Done> {
    match class(x) {
        Class::Other => Err(not_a_number(x, x, env)),
        Class::Infinite => Err(invalid()),
        // |x| >= 2^63: out of range, told by C2; the operand stays.
        Class::Finite if x[1] & 0x7fff >= 0x3fff + 63 => Err(done(x, C2)),
        _ => Ok(wide::sin_cos(x)),
    }
}

/// FSIN.
pub fn sin(x: F80, env: Env) -> Done {
    match trigonometric(x, env) {
        Err(d) => d,
        Ok(_) if class(x) == Class::Zero => done(x, 0),
        Ok((sin, _)) => rounded(sin, env, denormal(x)),
    }
}

/// FCOS.
pub fn cos(x: F80, env: Env) -> Done {
    match trigonometric(x, env) {
        Err(d) => d,
        Ok(_) if class(x) == Class::Zero => done(ONE, 0),
        Ok((_, cos)) => rounded(cos, env, denormal(x)),
    }
}

/// FSINCOS: the sine with the flags of both, and the cosine.
pub fn sincos(x: F80, env: Env) -> (Done, F80) {
    match trigonometric(x, env) {
        Err(d) => (d, d.value),
        Ok(_) if class(x) == Class::Zero => (done(x, 0), ONE),
        Ok((sin, cos)) => {
            let cos = rounded(cos, env, 0);
            let mut sin = rounded(sin, env, denormal(x));
            // C1 tells of the last result, the cosine.
            sin.status = sin.status & FLAGS | cos.status;
            (sin, cos.value)
        }
    }
}

/// FPTAN: the tangent, and 1.0 (or the NaN once more).
pub fn ptan(x: F80, env: Env) -> (Done, F80) {
    match trigonometric(x, env) {
        Err(d) => (d, d.value),
        Ok(_) if class(x) == Class::Zero => (done(x, 0), ONE),
        Ok((sin, cos)) => (rounded(wide::tan(x, sin, cos), env, denormal(x)), ONE),
    }
}

#[cfg(test)]
mod tests {
    use core::arch::asm;

    use super::*;

    const ENV: Env = Env {
        control: x87::DEFAULT,
        status: 0,
    };

    /// The host's own instruction on st0 and st1; the result on top, or (`second`) the one below.
    macro_rules! host {
        ($insn:literal, $x:expr, $y:expr, $pops:literal) => {{
            let (x, y): (F80, F80) = ($x, $y);
            let mut r: F80 = [0; 2];
            // SAFETY: touches the x87 stack, left empty, and the local that it writes.
            unsafe {
                asm!("fninit", "fld tbyte ptr [{y}]", "fld tbyte ptr [{x}]", $insn, $pops, "fstp tbyte ptr [{r}]", "fninit",
                     x = in(reg) &raw const x, y = in(reg) &raw const y, r = in(reg) &raw mut r,
                     out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                     out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _, options(nostack));
            }
            r
        }};
    }

    /// Distance in units of the last place, of values of one sign.
    fn ulps(a: F80, b: F80) -> u128 {
        let place = |v: F80| u128::from(v[1] & 0x7fff) << 63 | u128::from(v[0] & (u64::MAX >> 1));
        assert_eq!(a[1] >> 15, b[1] >> 15, "{a:x?} {b:x?}");
        place(a).abs_diff(place(b))
    }

    /// A small generator: any 64-bit sequence will do.
    fn random(seed: &mut u64) -> u64 {
        *seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        *seed ^ *seed >> 29
    }

    /// A number with an exponent from `low` to `high`.
    fn number(seed: &mut u64, low: i32, high: i32) -> F80 {
        let bits = random(seed);
        let exponent = 16383 + low + (bits % (high - low + 1) as u64) as i32;
        [random(seed) | 1 << 63, exponent as u64 | bits >> 63 << 15]
    }

    #[test]
    fn results_are_within_an_ulp_of_the_hosts_which_is_within_one_of_the_truth() {
        let mut seed = 1;
        for i in 0..4000 {
            let x = number(&mut seed, -70, -1);
            let y = number(&mut seed, -20, 20);
            let positive = [
                number(&mut seed, -100, 100)[0],
                number(&mut seed, -100, 100)[1] & 0x7fff,
            ];
            let check = |name: &str, ours: Done, hosts: F80, x: F80| {
                let d = ulps(ours.value, hosts);
                assert!(d <= 2, "{i} {name} {x:x?}: {:x?} {hosts:x?}", ours.value);
            };
            check("f2xm1", f2xm1(x, ENV), host!("f2xm1", x, y, ""), x);
            check("fsin", sin(x, ENV), host!("fsin", x, y, ""), x);
            check("fcos", cos(x, ENV), host!("fcos", x, y, ""), x);
            check(
                "fptan",
                ptan(x, ENV).0,
                host!("fptan", x, y, "fstp st(0)"),
                x,
            );
            check("fpatan", patan(x, y, ENV), host!("fpatan", x, y, ""), x);
            check("fpatan", patan(y, x, ENV), host!("fpatan", y, x, ""), x);
            check(
                "fyl2x",
                yl2x(positive, y, ENV),
                host!("fyl2x", positive, y, ""),
                positive,
            );
            let small = number(&mut seed, -70, -3);
            check(
                "fyl2xp1",
                yl2xp1(small, y, ENV),
                host!("fyl2xp1", small, y, ""),
                small,
            );
        }
    }

    #[test]
    fn reduction_uses_all_of_pi() {
        // sin(pi rounded to 64 bits) is what the rounding lost: -5.0165...e-20.
        let pi = [0xc90f_daa2_2168_c235, 0x4000];
        let d = sin(pi, ENV);
        assert_eq!(d.value, [0xece6_75d1_fc8f_8cbb, 0xbfbe]);
        assert_eq!(sin([1 << 63, 0x3fff + 63], ENV).status, C2);
    }

    #[test]
    fn known_values() {
        assert_eq!(
            yl2x([1 << 63, 0x4002], ONE, ENV),
            done([3 << 62, 0x4000], 0),
            "log2(8), exactly"
        );
        assert_eq!(yl2x(ONE, [3 << 62, 0xc000], ENV), done([0, SIGN], 0));
        assert_eq!(yl2x([0, 0], ONE, ENV), done(infinity(SIGN), ZE));
        assert_eq!(patan(ONE, ONE, ENV).value, [0xc90f_daa2_2168_c235, 0x3ffe]);
        assert_eq!(
            patan([0, SIGN], [0, 0], ENV).value,
            [0xc90f_daa2_2168_c235, 0x4000]
        );
        assert_eq!(cos([0, 0], ENV), done(ONE, 0));
        assert_eq!(
            f2xm1([1 << 63, 0x3ffe], ENV).value,
            [0xd413_cccf_e779_9211, 0x3ffd]
        );
    }
}
