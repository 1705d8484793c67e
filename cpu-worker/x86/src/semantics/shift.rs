//! Shifts and rotates.
//!
//! A count of zero (after the cut to 5 or 6 bits) leaves all flags alone. Operands below 64 bits are shifted as 64-bit
//! values, where no count can reach the width and the bit shifted out last is still there to be CF.

use crate::eval::Eval;
use crate::flags::{CF, FlagOp, OF};
use crate::op::{Arg, Cond, Kind, Op, RCX, Width};

use super::moves::narrow;
use super::update;

/// The cut count: as a value of width B, and as a constant where it is an immediate.
#[derive(Clone, Copy)]
struct Count<V> {
    value: V,
    known: Option<u64>,
}

#[inline(always)]
fn count<E: Eval>(e: &mut E, op: &Op, w: Width, src: Arg) -> Count<E::V> {
    if src == Arg::Reg {
        let cl = e.reg(Width::B, RCX);
        let mask = e.imm(Width::B, if w == Width::Q { 63 } else { 31 });
        Count {
            value: e.and(Width::B, cl, mask),
            known: None,
        }
    } else {
        Count {
            value: e.imm(Width::B, op.imm),
            known: Some(op.imm),
        }
    }
}

/// `(k + n) & 63` or `(k - n) & 63`, width B: a count that complements the given one.
#[inline(always)]
fn minus<E: Eval>(e: &mut E, k: u64, n: E::V) -> E::V {
    let k = e.imm(Width::B, k);
    let d = e.sub(Width::B, k, n);
    let mask = e.imm(Width::B, 63);
    e.and(Width::B, d, mask)
}

#[inline(always)]
fn less_one<E: Eval>(e: &mut E, n: E::V) -> E::V {
    let one = e.imm(Width::B, 1);
    let d = e.sub(Width::B, n, one);
    let mask = e.imm(Width::B, 63);
    e.and(Width::B, d, mask)
}

#[inline(always)]
fn widen<E: Eval>(e: &mut E, w: Width, v: E::V) -> E::V {
    if w == Width::Q {
        v
    } else {
        e.zext(w, Width::Q, v)
    }
}

#[inline(always)]
fn shl_by<E: Eval>(e: &mut E, v: E::V, by: u32) -> E::V {
    let n = e.imm(Width::B, by as u64);
    e.shl(Width::Q, v, n)
}

#[inline(always)]
fn shr_by<E: Eval>(e: &mut E, v: E::V, by: u32) -> E::V {
    let n = e.imm(Width::B, by as u64);
    e.shr(Width::Q, v, n)
}

/// CF in bit 0 and OF in bit 11 from two values of width Q of which only bit 0 counts.
#[inline(always)]
fn pack<E: Eval>(e: &mut E, cf: E::V, of: E::V) -> E::V {
    let one = e.imm(Width::Q, 1);
    let cf = e.and(Width::Q, cf, one);
    let of = e.and(Width::Q, of, one);
    let of = shl_by(e, of, OF.trailing_zeros());
    e.or(Width::Q, cf, of)
}

/// Bit 0 of the result is the top bit of `r` (zero-extended to Q), XOR `with`.
#[inline(always)]
fn top_xor<E: Eval>(e: &mut E, w: Width, r: E::V, with: E::V) -> E::V {
    let top = shr_by(e, r, w.bits() - 1);
    e.xor(Width::Q, top, with)
}

/// Bit 0 of the result is the XOR of the two top bits of `r` (zero-extended to Q): OF after a right shift or rotate.
#[inline(always)]
fn two_top<E: Eval>(e: &mut E, w: Width, r: E::V) -> E::V {
    let next = shr_by(e, r, w.bits() - 2);
    top_xor(e, w, r, next)
}

/// Sets SZP from the result and CF, OF from `bits`, unless the count is zero.
#[inline(always)]
fn shift_flags<E: Eval>(e: &mut E, w: Width, n: Count<E::V>, bits: E::V, r: E::V) {
    match n.known {
        Some(0) => {}
        Some(_) => e.flags(FlagOp::Szp, w, bits, r, r),
        None => {
            let some = nonzero(e, n.value);
            e.flags_if(some, FlagOp::Szp, w, bits, r, r);
        }
    }
}

/// Sets only CF and OF, unless the count is zero.
#[inline(always)]
fn rotate_flags<E: Eval>(e: &mut E, n: Count<E::V>, bits: E::V) {
    if n.known == Some(0) {
        return;
    }
    let all = e.flag_bits();
    let mask = e.imm(Width::Q, !(CF | OF));
    let kept = e.and(Width::Q, all, mask);
    let all = e.or(Width::Q, kept, bits);
    match n.known {
        Some(_) => e.flags(FlagOp::Real, Width::Q, all, all, all),
        None => {
            let some = nonzero(e, n.value);
            e.flags_if(some, FlagOp::Real, Width::Q, all, all, all);
        }
    }
}

#[inline(always)]
fn nonzero<E: Eval>(e: &mut E, n: E::V) -> E::B {
    let zero = e.imm(Width::B, 0);
    let none = e.eq(Width::B, n, zero);
    e.b_not(none)
}

/// SHL SHR SAR ROL ROR.
#[inline(always)]
pub fn shift<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    w: Width,
    dst: Arg,
    src: Arg,
) -> Result<(), E::Stop> {
    let n = count(e, op, w, src);
    update(e, op, w, dst, |e, a| match kind {
        Kind::Shl => shl(e, w, a, n),
        Kind::Shr => shr(e, w, a, n),
        Kind::Sar => sar(e, w, a, n),
        _ => rotate(e, kind, w, a, n),
    })
}

#[inline(always)]
fn shl<E: Eval>(e: &mut E, w: Width, a: E::V, n: Count<E::V>) -> E::V {
    let wide = widen(e, w, a);
    let shifted = e.shl(Width::Q, wide, n.value);
    let out = if w == Width::Q {
        let back = minus(e, 64, n.value);
        e.shr(Width::Q, a, back)
    } else {
        shr_by(e, shifted, w.bits())
    };
    let r = narrow(e, w, shifted);
    let of = top_xor(e, w, shifted, out);
    let bits = pack(e, out, of);
    shift_flags(e, w, n, bits, r);
    r
}

#[inline(always)]
fn shr<E: Eval>(e: &mut E, w: Width, a: E::V, n: Count<E::V>) -> E::V {
    let wide = widen(e, w, a);
    let shifted = e.shr(Width::Q, wide, n.value);
    let out = if w == Width::Q {
        let less = less_one(e, n.value);
        e.shr(Width::Q, a, less)
    } else {
        let twice = shl_by(e, wide, 1);
        e.shr(Width::Q, twice, n.value)
    };
    let of = two_top(e, w, shifted);
    let bits = pack(e, out, of);
    let r = narrow(e, w, shifted);
    shift_flags(e, w, n, bits, r);
    r
}

#[inline(always)]
fn sar<E: Eval>(e: &mut E, w: Width, a: E::V, n: Count<E::V>) -> E::V {
    let (shifted, out) = if w == Width::Q {
        let less = less_one(e, n.value);
        (e.sar(w, a, n.value), e.sar(w, a, less))
    } else {
        let wide = e.sext(w, Width::Q, a);
        let twice = shl_by(e, wide, 1);
        (
            e.sar(Width::Q, wide, n.value),
            e.sar(Width::Q, twice, n.value),
        )
    };
    let zero = e.imm(Width::Q, 0);
    let bits = pack(e, out, zero);
    let r = narrow(e, w, shifted);
    shift_flags(e, w, n, bits, r);
    r
}

#[inline(always)]
fn rotate<E: Eval>(e: &mut E, kind: Kind, w: Width, a: E::V, n: Count<E::V>) -> E::V {
    let mask = e.imm(Width::B, (w.bits() - 1) as u64);
    let by = e.and(Width::B, n.value, mask);
    let r = if kind == Kind::Rol {
        e.rotl(w, a, by)
    } else {
        e.rotr(w, a, by)
    };
    let wide = widen(e, w, r);
    let bits = if kind == Kind::Rol {
        let of = top_xor(e, w, wide, wide);
        pack(e, wide, of)
    } else {
        let cf = shr_by(e, wide, w.bits() - 1);
        let of = two_top(e, w, wide);
        pack(e, cf, of)
    };
    rotate_flags(e, n, bits);
    r
}

/// RCL and RCR: rotates of one bit more than the operand, CF being that bit.
#[inline(always)]
pub fn rotate_carry<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    w: Width,
    dst: Arg,
    src: Arg,
) -> Result<(), E::Stop> {
    let n = count(e, op, w, src);
    let n = modulo_carry(e, w, n);
    let left = kind == Kind::Rcl;
    update(e, op, w, dst, |e, a| {
        let carry = e.cond(Cond::B);
        let carry = e.b_to(Width::Q, carry);
        let (r, out) = if w == Width::Q {
            rotate_65(e, left, a, carry, n)
        } else {
            rotate_narrow(e, left, w, a, carry, n)
        };
        let of = if left {
            top_xor(e, w, r, out)
        } else {
            two_top(e, w, r)
        };
        let bits = pack(e, out, of);
        rotate_flags(e, n, bits);
        narrow(e, w, r)
    })
}

/// The count modulo 9 or 17; 33 and 65 exceed any count.
#[inline(always)]
fn modulo_carry<E: Eval>(e: &mut E, w: Width, n: Count<E::V>) -> Count<E::V> {
    let modulus = w.bits() as u64 + 1;
    if let Some(k) = n.known {
        return Count {
            value: e.imm(Width::B, k % modulus),
            known: Some(k % modulus),
        };
    }
    let mut value = n.value;
    if matches!(w, Width::B | Width::W) {
        for _ in 0..31 / modulus {
            let m = e.imm(Width::B, modulus);
            let below = e.ult(Width::B, value, m);
            let less = e.sub(Width::B, value, m);
            value = e.select(Width::B, below, value, less);
        }
    }
    Count { value, known: None }
}

/// The operand (8, 16 or 32 bits) with CF above it, rotated within 64 bits. Gives the result and CF, both in bit 0 up, width Q.
#[inline(always)]
fn rotate_narrow<E: Eval>(
    e: &mut E,
    left: bool,
    w: Width,
    a: E::V,
    carry: E::V,
    n: Count<E::V>,
) -> (E::V, E::V) {
    let a = e.zext(w, Width::Q, a);
    let top = shl_by(e, carry, w.bits());
    let x = e.or(Width::Q, a, top);
    let back = minus(e, w.bits() as u64 + 1, n.value);
    let (p, q) = if left {
        (e.shl(Width::Q, x, n.value), e.shr(Width::Q, x, back))
    } else {
        (e.shr(Width::Q, x, n.value), e.shl(Width::Q, x, back))
    };
    let r = e.or(Width::Q, p, q);
    let out = shr_by(e, r, w.bits());
    let mask = e.imm(Width::Q, w.mask());
    (e.and(Width::Q, r, mask), out)
}

#[inline(always)]
fn rotate_65<E: Eval>(e: &mut E, left: bool, a: E::V, carry: E::V, n: Count<E::V>) -> (E::V, E::V) {
    let q = Width::Q;
    let back = minus(e, 64, n.value);
    let less = less_one(e, n.value);
    let one = e.imm(Width::B, 1);
    let (main, inserted, wrapped, out) = if left {
        let half = e.shr(q, a, one);
        (
            e.shl(q, a, n.value),
            e.shl(q, carry, less),
            e.shr(q, half, back),
            e.shr(q, a, back),
        )
    } else {
        let twice = e.shl(q, a, one);
        (
            e.shr(q, a, n.value),
            e.shl(q, carry, back),
            e.shl(q, twice, back),
            e.shr(q, a, less),
        )
    };
    let r = e.or(q, main, inserted);
    let r = e.or(q, r, wrapped);
    let some = nonzero(e, n.value);
    (e.select(q, some, r, a), e.select(q, some, out, carry))
}

/// SHLD and SHRD. With 16 bits and counts above 16 (undefined) the destination follows the source once more.
#[inline(always)]
pub fn double<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    w: Width,
    dst: Arg,
    src: Arg,
) -> Result<(), E::Stop> {
    let n = count(e, op, w, src);
    let b = e.reg(w, op.sub2);
    let left = kind == Kind::Shld;
    update(e, op, w, dst, |e, a| {
        let wa = widen(e, w, a);
        let wb = widen(e, w, b);
        let (r, out) = match w {
            Width::Q => double_64(e, left, wa, wb, n),
            Width::D => double_32(e, left, wa, wb, n),
            _ => double_16(e, left, wa, wb, n),
        };
        let r = narrow(e, w, r);
        let wide = widen(e, w, r);
        let of = e.xor(Width::Q, wide, wa);
        let of = shr_by(e, of, w.bits() - 1);
        let bits = pack(e, out, of);
        shift_flags(e, w, n, bits, r);
        if n.known == Some(0) { a } else { r }
    })
}

#[inline(always)]
fn double_64<E: Eval>(e: &mut E, left: bool, a: E::V, b: E::V, n: Count<E::V>) -> (E::V, E::V) {
    let q = Width::Q;
    let rest = minus(e, 63, n.value);
    let one = e.imm(Width::B, 1);
    if left {
        let main = e.shl(q, a, n.value);
        let half = e.shr(q, b, one);
        let fill = e.shr(q, half, rest);
        let back = minus(e, 64, n.value);
        (e.or(q, main, fill), e.shr(q, a, back))
    } else {
        let main = e.shr(q, a, n.value);
        let twice = e.shl(q, b, one);
        let fill = e.shl(q, twice, rest);
        let less = less_one(e, n.value);
        (e.or(q, main, fill), e.shr(q, a, less))
    }
}

#[inline(always)]
fn double_32<E: Eval>(e: &mut E, left: bool, a: E::V, b: E::V, n: Count<E::V>) -> (E::V, E::V) {
    let q = Width::Q;
    if left {
        let high = shl_by(e, a, 32);
        let x = e.or(q, high, b);
        let x = e.shl(q, x, n.value);
        let out = e.shl(q, a, n.value);
        (shr_by(e, x, 32), shr_by(e, out, 32))
    } else {
        let high = shl_by(e, b, 32);
        let x = e.or(q, high, a);
        let twice = shl_by(e, a, 1);
        (e.shr(q, x, n.value), e.shr(q, twice, n.value))
    }
}

#[inline(always)]
fn double_16<E: Eval>(e: &mut E, left: bool, a: E::V, b: E::V, n: Count<E::V>) -> (E::V, E::V) {
    let q = Width::Q;
    let high = shl_by(e, a, 32);
    let middle = shl_by(e, b, 16);
    let x = e.or(q, high, middle);
    let x = e.or(q, x, a);
    if left {
        let x = e.shl(q, x, n.value);
        (shr_by(e, x, 32), shr_by(e, x, 48))
    } else {
        let twice = shl_by(e, x, 1);
        (e.shr(q, x, n.value), e.shr(q, twice, n.value))
    }
}
