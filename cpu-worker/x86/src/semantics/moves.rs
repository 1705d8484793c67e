//! Moves, extensions, exchanges, LEA, CMOVcc and SETcc.

use crate::eval::Eval;
use crate::op::{Arg, Cond, Kind, Op, RAX, RDX, Width};

use super::{source, update, write};

#[inline(always)]
pub fn mov<E: Eval>(e: &mut E, op: &Op, w: Width, dst: Arg, src: Arg) -> Result<(), E::Stop> {
    let v = source(e, op, w, src)?;
    write(e, op, w, dst, v)
}

/// MOVZX, MOVSX, MOVSXD, CBW, CWDE, CDQE.
#[inline(always)]
pub fn extend<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    to: Width,
    from: Width,
    src: Arg,
) -> Result<(), E::Stop> {
    let v = source(e, op, from, src)?;
    let v = if from == to {
        v
    } else if kind == Kind::Movzx {
        e.zext(from, to, v)
    } else {
        e.sext(from, to, v)
    };
    e.set_reg(to, op.dst, v);
    Ok(())
}

#[inline(always)]
pub fn lea<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<(), E::Stop> {
    let a = e.ea(op, 0)?;
    let a = narrow(e, w, a);
    e.set_reg(w, op.dst, a);
    Ok(())
}

/// The low part of a value of width Q.
#[inline(always)]
pub(crate) fn narrow<E: Eval>(e: &mut E, w: Width, v: E::V) -> E::V {
    if w == Width::Q {
        v
    } else {
        e.trunc(Width::Q, w, v)
    }
}

#[inline(always)]
pub fn xchg<E: Eval>(e: &mut E, op: &Op, w: Width, dst: Arg) -> Result<(), E::Stop> {
    let new = e.reg(w, op.src);
    update(e, op, w, dst, |e, old| {
        e.set_reg(w, op.src, old);
        new
    })
}

/// BSWAP of 16 bits is undefined; processors clear the register's low half.
#[inline(always)]
pub fn bswap<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<(), E::Stop> {
    let v = if w == Width::W {
        e.imm(w, 0)
    } else {
        let v = e.reg(w, op.dst);
        e.bswap(w, v)
    };
    e.set_reg(w, op.dst, v);
    Ok(())
}

#[inline(always)]
pub fn movbe<E: Eval>(e: &mut E, op: &Op, w: Width, dst: Arg, src: Arg) -> Result<(), E::Stop> {
    let v = source(e, op, w, src)?;
    let v = e.bswap(w, v);
    write(e, op, w, dst, v)
}

/// CMOVcc reads its source, and with 32 bits clears the upper half, whether or not the condition holds.
#[inline(always)]
pub fn cmov<E: Eval>(e: &mut E, op: &Op, w: Width, src: Arg) -> Result<(), E::Stop> {
    let new = source(e, op, w, src)?;
    let old = e.reg(w, op.dst);
    let c = e.cond(Cond::from_bits(op.sub));
    let v = e.select(w, c, new, old);
    e.set_reg(w, op.dst, v);
    Ok(())
}

#[inline(always)]
pub fn setcc<E: Eval>(e: &mut E, op: &Op, dst: Arg) -> Result<(), E::Stop> {
    let c = e.cond(Cond::from_bits(op.sub));
    let v = e.b_to(Width::B, c);
    write(e, op, Width::B, dst, v)
}

/// CWD, CDQ, CQO.
#[inline(always)]
pub fn cwd<E: Eval>(e: &mut E, w: Width) -> Result<(), E::Stop> {
    let a = e.reg(w, RAX);
    let n = e.imm(Width::B, (w.bits() - 1) as u64);
    let sign = e.sar(w, a, n);
    e.set_reg(w, RDX, sign);
    Ok(())
}
