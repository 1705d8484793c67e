//! Multiplication and division.

use crate::eval::Eval;
use crate::flags::{FlagOp, OF};
use crate::op::{AH, Arg, Kind, Op, RAX, RDX, Width};

use super::{flag_bit, source};

/// CF and OF say whether the upper half matters; SF, ZF and PF (undefined) follow the lower one.
#[inline(always)]
fn product_flags<E: Eval>(e: &mut E, w: Width, signed: bool, lo: E::V, hi: E::V) {
    let expected = if signed {
        let n = e.imm(Width::B, w.bits() as u64 - 1);
        e.sar(w, lo, n)
    } else {
        e.imm(w, 0)
    };
    let fits = e.eq(w, hi, expected);
    let over = e.b_not(fits);
    let cf = e.b_to(Width::Q, over);
    let of = flag_bit(e, over, OF.trailing_zeros());
    let bits = e.or(Width::Q, cf, of);
    e.flags(FlagOp::Szp, w, bits, lo, lo);
}

/// One-operand MUL and IMUL.
#[inline(always)]
pub fn widening<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    w: Width,
    src: Arg,
) -> Result<(), E::Stop> {
    let signed = kind == Kind::Imul1;
    let b = source(e, op, w, src)?;
    let a = e.reg(w, RAX);
    let lo = e.mul(w, a, b);
    let hi = e.mul_hi(w, signed, a, b);
    product_flags(e, w, signed, lo, hi);
    e.set_reg(w, RAX, lo);
    e.set_reg(w, if w == Width::B { AH } else { RDX }, hi);
    Ok(())
}

/// Two- and three-operand IMUL.
#[inline(always)]
pub fn imul<E: Eval>(e: &mut E, op: &Op, kind: Kind, w: Width, src: Arg) -> Result<(), E::Stop> {
    let b = source(e, op, w, src)?;
    let a = if kind == Kind::Imul3 {
        e.imm(w, op.imm)
    } else {
        e.reg(w, op.dst)
    };
    let lo = e.mul(w, a, b);
    let hi = e.mul_hi(w, true, a, b);
    product_flags(e, w, true, lo, hi);
    e.set_reg(w, op.dst, lo);
    Ok(())
}

/// DIV and IDIV; the flags (undefined) stay.
#[inline(always)]
pub fn divide<E: Eval>(e: &mut E, op: &Op, kind: Kind, w: Width, src: Arg) -> Result<(), E::Stop> {
    let d = source(e, op, w, src)?;
    let upper = if w == Width::B { AH } else { RDX };
    let lo = e.reg(w, RAX);
    let hi = e.reg(w, upper);
    let (quotient, remainder) = e.div_rem(w, kind == Kind::Idiv, hi, lo, d)?;
    e.set_reg(w, RAX, quotient);
    e.set_reg(w, upper, remainder);
    Ok(())
}
