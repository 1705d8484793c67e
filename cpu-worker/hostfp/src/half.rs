//! F16C: conversions between binary16 and binary32, in integers.
//!
//! VCVTPH2PS is exact: only a signalling NaN raises a flag, and MXCSR's control bits do not matter. VCVTPS2PH rounds as the
//! immediate or MXCSR says; it ignores flush-to-zero, and heeds denormals-are-zero (SDM vol. 1, 14.4).

use crate::X;
use crate::sse::{Done, FLAGS, OE, PE, UE};

const IE: u32 = 1;
const DE: u32 = 2;
const PRE: u32 = 7;
const DAZ: u32 = 0x40;

/// The four halves in the low 64 bits as singles.
pub fn to_single(halves: u64, mxcsr: u32) -> Done<X> {
    let mut raised = 0;
    let mut lane = |i: u32| {
        let (v, flags) = widen((halves >> (16 * i)) as u16);
        raised |= flags;
        u64::from(v)
    };
    let value = [lane(0) | lane(1) << 32, lane(2) | lane(3) << 32];
    finish(value, raised, mxcsr)
}

/// Four singles as halves in the low 64 bits. `imm`: bit 2 chooses MXCSR's rounding, else bits 0 and 1 are the mode.
pub fn from_single(x: X, imm: u8, mxcsr: u32) -> Done<X> {
    let mode = if imm & 4 != 0 {
        mxcsr >> 13 & 3
    } else {
        u32::from(imm & 3)
    };
    let mut raised = 0;
    let mut value = 0;
    for i in 0..4 {
        let v = (x[i / 2] >> (32 * (i % 2))) as u32;
        let (h, flags) = narrow(v, mode, mxcsr);
        raised |= flags;
        value |= u64::from(h) << (16 * i);
    }
    finish([value, 0], raised, mxcsr)
}

fn finish(value: X, mut raised: u32, mxcsr: u32) -> Done<X> {
    let unmasked = !(mxcsr >> 7) & FLAGS;
    if raised & unmasked & PRE != 0 {
        raised &= PRE;
    }
    Done {
        value,
        mxcsr: mxcsr | raised,
        trap: raised & unmasked != 0,
    }
}

fn widen(h: u16) -> (u32, u32) {
    let sign = u32::from(h >> 15) << 31;
    let (exponent, fraction) = (u32::from(h >> 10 & 31), u32::from(h & 0x3ff));
    match (exponent, fraction) {
        (0, 0) => (sign, 0),
        (0, _) => {
            let up = fraction.leading_zeros() - 21;
            (sign | (113 - up) << 23 | (fraction << up & 0x3ff) << 13, 0)
        }
        (31, 0) => (sign | 0x7f80_0000, 0),
        (31, _) => {
            let signalling = fraction & 0x200 == 0;
            let flags = if signalling { IE } else { 0 };
            (sign | 0x7fc0_0000 | fraction << 13, flags)
        }
        _ => (sign | (exponent + 112) << 23 | fraction << 13, 0),
    }
}

fn narrow(v: u32, mode: u32, mxcsr: u32) -> (u16, u32) {
    let sign = (v >> 16) as u16 & 0x8000;
    let (exponent, fraction) = (v >> 23 & 0xff, v & 0x7f_ffff);
    if exponent == 0xff {
        if fraction == 0 {
            return (sign | 0x7c00, 0);
        }
        let flags = if fraction & 0x40_0000 == 0 { IE } else { 0 };
        return (sign | 0x7e00 | (fraction >> 13) as u16, flags);
    }
    if exponent == 0 && (fraction == 0 || mxcsr & DAZ != 0) {
        return (sign, 0);
    }
    let denormal = if exponent == 0 { DE } else { 0 };
    // The value is `significand` * 2^(last), the leading bit of a normal number at 23.
    let (significand, last) = if exponent == 0 {
        (fraction, -149)
    } else {
        (fraction | 1 << 23, exponent as i32 - 150)
    };
    let (h, flags) = round(significand, last, sign != 0, mode, mxcsr);
    (sign | h, flags | denormal)
}

/// `significand` * 2^`last` rounded to a half's magnitude; OE, UE and PE.
fn round(significand: u32, last: i32, negative: bool, mode: u32, mxcsr: u32) -> (u16, u32) {
    let masked = |flag: u32| mxcsr & flag << 7 != 0;
    let top = 31 - significand.leading_zeros() as i32 + last;
    let at = |unit: i32| {
        let down = (unit - last).clamp(0, 31) as u32;
        let wide = u64::from(significand) << 2;
        let kept = wide >> down;
        let sticky = wide & ((1 << down) - 1) != 0;
        let (whole, lost) = (kept >> 2, kept & 3 | u64::from(sticky));
        let up = match mode {
            0 => lost > 2 || lost == 2 && whole & 1 != 0,
            1 => lost != 0 && negative,
            2 => lost != 0 && !negative,
            _ => false,
        };
        (whole as u32 + u32::from(up), lost != 0)
    };
    // As if the exponent had no bounds: eleven bits.
    let (free, free_inexact) = at(top - 10);
    let carried = free >> 11 != 0;
    let field = top + i32::from(carried) + 15;
    let inexact = |on: bool| if on { PE } else { 0 };
    if field >= 31 {
        let to_infinity = match mode {
            0 => true,
            1 => negative,
            2 => !negative,
            _ => false,
        };
        let v = 0x7c00 - u16::from(!to_infinity);
        return (v, OE | inexact(free_inexact || masked(OE)));
    }
    if field >= 1 {
        let fraction = if carried { free >> 1 } else { free };
        let v = (field as u32) << 10 | fraction & 0x3ff;
        return (v as u16, inexact(free_inexact));
    }
    if !masked(UE) {
        return (0, UE | inexact(free_inexact));
    }
    let (v, lost) = at(-24);
    (v as u16, if lost { UE | PE } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for h in 0..=u16::MAX {
            let wide = to_single(h.into(), 0x1f80);
            let back = from_single(wide.value, 0, 0x1f80);
            let signalling = h & 0x7c00 == 0x7c00 && h & 0x3ff != 0 && h & 0x200 == 0;
            let expected = if signalling { h | 0x200 } else { h };
            assert_eq!(back.value[0] as u16, expected, "{h:#x}");
            assert_eq!(wide.mxcsr & 1 != 0, signalling);
        }
    }

    #[test]
    fn rounding_is_as_asked() {
        let third = u64::from((1.0f32 / 3.0).to_bits());
        let up = from_single([third, 0], 2, 0x1f80);
        let down = from_single([third, 0], 1, 0x1f80);
        assert_eq!((up.value[0], down.value[0]), (0x3556, 0x3555));
        let big = u64::from(65520f32.to_bits());
        assert_eq!(from_single([big, 0], 0, 0x1f80).value[0], 0x7c00);
        assert_eq!(from_single([big, 0], 3, 0x1f80).value[0], 0x7bff);
        assert_eq!(from_single([big, 0], 0, 0x1f80).mxcsr, 0x1f80 | OE | PE);
    }
}
