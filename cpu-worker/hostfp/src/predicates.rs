//! The predicates that VCMPxx has beyond SSE's eight (SDM vol. 2, table 3-1), from those eight.
//!
//! A predicate is a set of outcomes (less, equal, greater, unordered) and whether it is quiet. One comparison of SSE raises the
//! flags: UNORD if quiet, LT if signalling. Which lanes are unordered, less and equal then says the rest.

use crate::X;
use crate::ops::Fp;
use crate::sse::{self, Done};

const LESS: u8 = 1;
const EQUAL: u8 = 2;
const GREATER: u8 = 4;
const UNORDERED: u8 = 8;

/// SSE's predicates by number.
const EQ: u8 = 0;
const LT: u8 = 1;
const UNORD: u8 = 3;

/// All exceptions masked, and the guest's denormals-are-zero.
fn quiet_control(mxcsr: u32) -> u32 {
    0x1f80 | mxcsr & 0x40
}

/// For which outcomes the predicate holds.
fn outcomes(predicate: u8) -> u8 {
    const TABLE: [u8; 16] = [
        EQUAL,
        LESS,
        LESS | EQUAL,
        UNORDERED,
        LESS | GREATER | UNORDERED,
        GREATER | EQUAL | UNORDERED,
        GREATER | UNORDERED,
        LESS | EQUAL | GREATER,
        EQUAL | UNORDERED,
        LESS | UNORDERED,
        LESS | EQUAL | UNORDERED,
        0,
        LESS | GREATER,
        GREATER | EQUAL,
        GREATER,
        LESS | EQUAL | GREATER | UNORDERED,
    ];
    TABLE[usize::from(predicate & 15)]
}

/// Whether a quiet NaN raises IE: as in the first 16 predicates, and the other way round in the second.
fn is_signalling(predicate: u8) -> bool {
    const FIRST: u16 = 0b0110_0110_0110_0110;
    (FIRST >> (predicate & 15) & 1 != 0) != (predicate & 16 != 0)
}

/// VCMPxx: all ones or zero in each lane; scalar ones keep the rest of `a`.
pub(crate) fn compare(fp: Fp, a: X, b: X, predicate: u8, mxcsr: u32) -> Done<X> {
    let raising = if is_signalling(predicate) { LT } else { UNORD };
    let flags = sse::compare(fp, a, b, raising, mxcsr);
    let packed = match fp {
        Fp::Ss => Fp::Ps,
        Fp::Sd => Fp::Pd,
        _ => fp,
    };
    let lanes = |predicate| sse::compare(packed, a, b, predicate, quiet_control(mxcsr)).value;
    let (unordered, less, equal) = (lanes(UNORD), lanes(LT), lanes(EQ));
    let set = outcomes(predicate);
    let pick = |on: u8, v: u64| if set & on != 0 { v } else { 0 };
    let half = |i: usize| {
        let greater = !(unordered[i] | less[i] | equal[i]);
        pick(UNORDERED, unordered[i])
            | pick(LESS, less[i])
            | pick(EQUAL, equal[i])
            | pick(GREATER, greater)
    };
    let value = match fp {
        Fp::Ss => [a[0] >> 32 << 32 | half(0) & 0xffff_ffff, a[1]],
        Fp::Sd => [half(0), a[1]],
        _ => [half(0), half(1)],
    };
    Done { value, ..flags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eight_are_sses() {
        let values = [0.0f64, -0.0, 1.0, -1.0, f64::INFINITY, f64::NAN];
        let (x, y) = (values, values);
        for p in 0..8 {
            for (a, b) in x.iter().flat_map(|&a| y.iter().map(move |&b| (a, b))) {
                let (a, b) = ([a.to_bits(), 7], [b.to_bits(), 9]);
                assert_eq!(
                    compare(Fp::Sd, a, b, p, 0x1f80),
                    sse::compare(Fp::Sd, a, b, p, 0x1f80),
                    "{p} {a:x?} {b:x?}"
                );
            }
        }
    }
}
