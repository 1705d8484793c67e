//! x87 results with a moved exponent: what an unmasked overflow or underflow leaves in a register.
//!
//! The result is the true one times 2^-24576 (overflow) or 2^24576 (underflow), rounded once (SDM vol. 1, 8.5.4 and
//! 8.5.5). It is had by moving the operands' exponents before the same operation.

use crate::x87::{self, Bin, Done, Env, F80, Un};

/// Half of the bias adjustment.
const HALF: i32 = 12288;

/// `bin` again, after an overflow (`over`) or an underflow.
pub fn bin(op: Bin, a: F80, b: F80, env: Env, over: bool) -> Done {
    let half = if over { -HALF } else { HALF };
    let (by_a, by_b) = match op {
        Bin::Add | Bin::Sub | Bin::Subr => (2 * half, 2 * half),
        Bin::Mul => (half, half),
        Bin::Div => (half, -half),
        Bin::Divr => (-half, half),
    };
    x87::bin(op, moved(a, by_a), moved(b, by_b), env)
}

/// FSCALE again.
pub fn scale(st0: F80, st1: F80, env: Env, over: bool) -> Done {
    let half = if over { -HALF } else { HALF };
    let mut done = x87::un(Un::Scale, moved(st0, 2 * half), st1, env);
    if over && done.status & x87::OE != 0 {
        // Still too large: infinity, whatever the rounding (SDM vol. 1, 8.5.4).
        done.value = [1 << 63, st0[1] & 0x8000 | 0x7fff];
        done.status |= x87::C1;
    }
    if !over && done.value[1] & 0x7fff == 0 {
        // Still too small: zero likewise.
        done.value = [0, st0[1] & 0x8000];
        done.status &= !x87::C1;
    }
    done
}

/// A result that was exact, such as a remainder, but tiny.
pub fn exact(mut done: Done) -> Done {
    done.value = moved(done.value, 2 * HALF);
    done
}

/// A finite value times 2^by. A value that would leave the range is so much smaller than the other operand that only its
/// being there counts, so the nearest end of the range does.
fn moved(v: F80, by: i32) -> F80 {
    if v[0] == 0 {
        return v;
    }
    let zeros = v[0].leading_zeros();
    let exponent = ((v[1] & 0x7fff) as i32).max(1) - zeros as i32 + by;
    [
        v[0] << zeros,
        v[1] & 0x8000 | exponent.clamp(1, 0x7ffe) as u64,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_out_of_range_keeps_its_significand() {
        let env = Env {
            control: 0x337,
            status: 0,
        };
        let huge = [3 << 62, 0x7ffe];
        let over = bin(Bin::Mul, huge, huge, env, true);
        assert_eq!(
            over.value,
            [9 << 60, (2 * 0x7ffe - 0x3fff + 1 - 24576) as u64]
        );
        let least = [1, 0];
        let under = bin(Bin::Mul, least, least, env, false);
        assert_eq!(
            under.value,
            [1 << 63, (2 * (1 - 63) - 0x3fff + 24576) as u64]
        );
    }
}
