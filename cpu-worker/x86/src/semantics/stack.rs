//! PUSH, POP and LEAVE.

use crate::eval::Eval;
use crate::op::{Arg, Op, RBP, RSP, Width};

use super::{source, write};

/// Width Q of a stack offset of width `w`.
#[inline(always)]
pub(crate) fn offset<E: Eval>(e: &mut E, w: Width, sp: E::V) -> E::V {
    if w == Width::Q {
        sp
    } else {
        e.zext(w, Width::Q, sp)
    }
}

/// Pushes a value of width `w`.
#[inline(always)]
pub(crate) fn push_value<E: Eval>(e: &mut E, op: &Op, w: Width, v: E::V) -> Result<(), E::Stop> {
    let s = op.stack_width();
    let sp = e.reg(s, RSP);
    let bytes = e.imm(s, w.bytes() as u64);
    let sp = e.sub(s, sp, bytes);
    let at = offset(e, s, sp);
    let at = e.stack_ea(op, at, w.bytes(), true)?;
    e.store(w, at, v)?;
    e.set_reg(s, RSP, sp);
    Ok(())
}

/// Reads the top of the stack; gives the value and the stack pointer after it and `extra` more bytes (stack width).
#[inline(always)]
pub(crate) fn peek<E: Eval>(
    e: &mut E,
    op: &Op,
    w: Width,
    extra: u64,
) -> Result<(E::V, E::V), E::Stop> {
    let s = op.stack_width();
    let sp = e.reg(s, RSP);
    let at = offset(e, s, sp);
    let at = e.stack_ea(op, at, w.bytes(), false)?;
    let v = e.load(w, at)?;
    let bytes = e.imm(s, w.bytes() as u64 + extra);
    Ok((v, e.add(s, sp, bytes)))
}

#[inline(always)]
pub fn push<E: Eval>(e: &mut E, op: &Op, w: Width, src: Arg) -> Result<(), E::Stop> {
    let v = source(e, op, w, src)?;
    push_value(e, op, w, v)
}

/// POP: a popped stack pointer replaces the incremented one.
#[inline(always)]
pub fn pop<E: Eval>(e: &mut E, op: &Op, w: Width, dst: Arg) -> Result<(), E::Stop> {
    let (v, sp) = peek(e, op, w, 0)?;
    if dst == Arg::Mem {
        write(e, op, w, dst, v)?;
        e.set_reg(op.stack_width(), RSP, sp);
    } else {
        e.set_reg(op.stack_width(), RSP, sp);
        e.set_reg(w, op.dst, v);
    }
    Ok(())
}

#[inline(always)]
pub fn leave<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<(), E::Stop> {
    let s = op.stack_width();
    let frame = e.reg(s, RBP);
    let at = offset(e, s, frame);
    let at = e.stack_ea(op, at, w.bytes(), false)?;
    let v = e.load(w, at)?;
    let bytes = e.imm(s, w.bytes() as u64);
    let sp = e.add(s, frame, bytes);
    e.set_reg(s, RSP, sp);
    e.set_reg(w, RBP, v);
    Ok(())
}
