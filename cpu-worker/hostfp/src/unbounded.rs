//! Whether SSE arithmetic with an unmasked overflow or underflow loses precision: that is judged with an exponent without
//! bounds (SDM vol. 1, 11.5.2.4 and 11.5.2.5), which the masked instruction cannot tell.
//!
//! Lane by lane: one that is out of bounds is computed again with its operands' exponents moved towards the middle. Only on
//! the way to #XM, so speed does not matter.

use crate::X;
use crate::ops::{Fp, FpBin, FpCvt};
use crate::sse::{self, OE, PE, UE};

/// All exceptions masked.
const MASKED: u32 = 0x1f80;

/// The format of a lane.
#[derive(Clone, Copy)]
struct Format {
    fp: Fp,
    bits: u32,
    fraction: u32,
}

const SINGLE: Format = Format {
    fp: Fp::Ss,
    bits: 32,
    fraction: 23,
};
const DOUBLE: Format = Format {
    fp: Fp::Sd,
    bits: 64,
    fraction: 52,
};

impl Format {
    fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }
    fn greatest_exponent(self) -> i64 {
        (1 << (self.bits - 1 - self.fraction)) - 2
    }

    /// The exponent field, as if denormals were normalised, and the fraction below the leading one; not for zero.
    fn parts(self, v: u64) -> (i64, u64) {
        let magnitude = v & (self.sign() - 1);
        let (exponent, fraction) = (
            (magnitude >> self.fraction) as i64,
            magnitude & self.fraction_mask(),
        );
        if exponent != 0 {
            return (exponent, fraction);
        }
        let up = fraction.leading_zeros() - (63 - self.fraction);
        (1 - i64::from(up), fraction << up & self.fraction_mask())
    }

    fn fraction_mask(self) -> u64 {
        (1 << self.fraction) - 1
    }

    /// A finite value with its exponent changed, kept in bounds: what would leave them only has to be there.
    fn with_exponent(self, v: u64, f: impl Fn(i64) -> i64) -> u64 {
        if v & (self.sign() - 1) == 0 {
            return v;
        }
        let (exponent, fraction) = self.parts(v);
        let exponent = f(exponent).clamp(1, self.greatest_exponent()) as u64;
        v & self.sign() | exponent << self.fraction | fraction
    }
}

/// The operation of one lane, with its operands.
type Lane = (FpBin, u64, u64);

/// The lanes as plain operations, at most four.
fn lanes(op: FpBin, f: Format, packed: bool, a: X, b: X) -> Vec<Lane> {
    let per = (64 / f.bits) as usize;
    let n = if packed { 2 * per } else { 1 };
    let mask = u64::MAX >> (64 - f.bits);
    let lane = |x: X, i: usize| x[i / per] >> (i % per * f.bits as usize) & mask;
    let pair = |i: usize| {
        if i < n / 2 {
            (lane(a, 2 * i), lane(a, 2 * i + 1))
        } else {
            (lane(b, 2 * i - n), lane(b, 2 * i - n + 1))
        }
    };
    (0..n)
        .map(|i| match op {
            FpBin::Hadd => (FpBin::Add, pair(i).0, pair(i).1),
            FpBin::Hsub => (FpBin::Sub, pair(i).0, pair(i).1),
            FpBin::AddSub if i % 2 == 0 => (FpBin::Sub, lane(a, i), lane(b, i)),
            FpBin::AddSub => (FpBin::Add, lane(a, i), lane(b, i)),
            _ => (op, lane(a, i), lane(b, i)),
        })
        .collect()
}

/// The MXCSR with everything masked and no flag set. Flush-to-zero, itself inexact, is in force only where underflow was masked.
fn masked(mxcsr: u32) -> u32 {
    const ROUNDING_AND_DAZ: u32 = 0x6040;
    let ftz = if mxcsr & UE << 7 != 0 {
        mxcsr & 0x8000
    } else {
        0
    };
    mxcsr & ROUNDING_AND_DAZ | ftz | MASKED
}

/// Whether any lane loses precision, given the MXCSR that unmasks what happened.
pub(crate) fn is_inexact(op: FpBin, fp: Fp, a: X, b: X, mxcsr: u32) -> bool {
    let (f, packed) = match fp {
        Fp::Ss => (SINGLE, false),
        Fp::Sd => (DOUBLE, false),
        Fp::Ps => (SINGLE, true),
        Fp::Pd => (DOUBLE, true),
    };
    let unmasked = !(mxcsr >> 7) & (OE | UE);
    let control = masked(mxcsr);
    let raises = |op, x, y| sse::arithmetic(op, f.fp, [x, 0], [y, 0], control).mxcsr & 0x3f;
    lanes(op, f, packed, a, b).into_iter().any(|(op, x, y)| {
        let flags = raises(op, x, y);
        if flags & unmasked == 0 {
            return flags & PE != 0;
        }
        let middle = f.greatest_exponent() / 2;
        // The exponents of factors do not matter; those of summands must keep their distance.
        let by = if flags & OE != 0 { -middle } else { middle };
        let near = |v| match op {
            FpBin::Mul | FpBin::Div => f.with_exponent(v, |_| middle),
            _ => f.with_exponent(v, |e| e + by),
        };
        raises(op, near(x), near(y)) & PE != 0
    })
}

/// The same for CVTSD2SS and CVTPD2PS: without bounds, only what 24 bits of significand cannot hold is lost.
pub(crate) fn is_narrowing_inexact(op: FpCvt, b: X, mxcsr: u32) -> bool {
    let unmasked = !(mxcsr >> 7) & (OE | UE);
    let control = masked(mxcsr);
    let lanes = if op == FpCvt::Pd2Ps { 2 } else { 1 };
    b[..lanes].iter().any(|&v| {
        let flags = sse::conversion(FpCvt::Sd2Ss, [0; 2], [v, 0], control).mxcsr & 0x3f;
        if flags & unmasked == 0 {
            return flags & PE != 0;
        }
        let fraction = v << 12;
        let significand = if v >> 52 & 0x7ff == 0 {
            fraction
        } else {
            fraction >> 1 | 1 << 63
        };
        64 - significand.leading_zeros() - significand.trailing_zeros() > 24
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_tiny_product_is_exact() {
        // 3 * 2^-1074 halved loses a bit as a denormal, and none without bounds.
        let (tiny, half) = ([3, 0], [0.5f64.to_bits(), 0]);
        let um = 0x1f80 & !0x800;
        assert!(!is_inexact(FpBin::Mul, Fp::Sd, tiny, half, um));
        let done = sse::bin(FpBin::Mul, Fp::Sd, tiny, half, um);
        assert!(done.trap && done.mxcsr & PE == 0);
        let third = [(1.0f64 / 3.0).to_bits(), 0];
        assert!(is_inexact(
            FpBin::Mul,
            Fp::Sd,
            [f64::MIN_POSITIVE.to_bits() + 1, 0],
            third,
            um
        ));
    }
}
