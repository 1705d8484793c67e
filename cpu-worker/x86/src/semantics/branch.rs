//! Near transfers of control.
//!
//! The target is checked before anything is committed: in 64-bit mode indirect targets must be canonical, and where CS
//! has a limit (`SEG_CHECK`) every target must lie within it.

use crate::eval::Eval;
use crate::op::{AddrSize, Arg, Cond, Op, OpFlags, RCX, RSP, Width};

use super::moves::narrow;
use super::source;
use super::stack::{peek, push_value};

/// The target of a relative transfer, cut to the operand size, width Q.
#[inline(always)]
fn relative<E: Eval>(e: &mut E, op: &Op) -> E::V {
    let next = e.next_rip(op);
    let distance = e.imm(Width::Q, op.imm);
    let target = e.add(Width::Q, next, distance);
    let mask = e.imm(Width::Q, op.width.mask());
    e.and(Width::Q, target, mask)
}

/// Checks the target of a relative transfer that is taken if `c`.
#[inline(always)]
fn check_relative<E: Eval>(e: &mut E, op: &Op, c: E::B) -> Result<(), E::Stop> {
    if !op.has(OpFlags::SEG_CHECK) {
        return Ok(());
    }
    let target = relative(e, op);
    let zero = e.imm(Width::Q, 0);
    let checked = e.select(Width::Q, c, target, zero);
    e.check_target(op, checked)
}

#[inline(always)]
pub fn jcc<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let c = e.cond(Cond::from_bits(op.sub));
    check_relative(e, op, c)?;
    e.branch(op, c, op.imm);
    Ok(())
}

#[inline(always)]
pub fn jmp<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let c = super::always(e);
    check_relative(e, op, c)?;
    e.jump_rel(op, op.imm);
    Ok(())
}

/// The operand of an indirect transfer as a checked target.
#[inline(always)]
fn indirect<E: Eval>(e: &mut E, op: &Op, w: Width, src: Arg) -> Result<E::V, E::Stop> {
    let v = source(e, op, w, src)?;
    let target = if w == Width::Q {
        v
    } else {
        e.zext(w, Width::Q, v)
    };
    e.check_target(op, target)?;
    Ok(target)
}

#[inline(always)]
pub fn jmp_indirect<E: Eval>(e: &mut E, op: &Op, w: Width, src: Arg) -> Result<(), E::Stop> {
    let target = indirect(e, op, w, src)?;
    e.jump_to(op, target);
    Ok(())
}

#[inline(always)]
pub fn call<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<(), E::Stop> {
    let c = super::always(e);
    check_relative(e, op, c)?;
    let next = e.next_rip(op);
    let next = narrow(e, w, next);
    push_value(e, op, w, next)?;
    e.jump_rel(op, op.imm);
    Ok(())
}

#[inline(always)]
pub fn call_indirect<E: Eval>(e: &mut E, op: &Op, w: Width, src: Arg) -> Result<(), E::Stop> {
    let target = indirect(e, op, w, src)?;
    let next = e.next_rip(op);
    let next = narrow(e, w, next);
    push_value(e, op, w, next)?;
    e.jump_to(op, target);
    Ok(())
}

#[inline(always)]
pub fn ret<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<(), E::Stop> {
    let (v, sp) = peek(e, op, w, op.imm)?;
    let target = if w == Width::Q {
        v
    } else {
        e.zext(w, Width::Q, v)
    };
    e.check_target(op, target)?;
    e.set_reg(op.stack_width(), RSP, sp);
    e.jump_to(op, target);
    Ok(())
}

/// LOOPNE, LOOPE, LOOP and JrCXZ, by `sub`.
#[inline(always)]
pub fn loop_<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let w = match op.addr {
        AddrSize::A16 => Width::W,
        AddrSize::A32 => Width::D,
        AddrSize::A64 => Width::Q,
    };
    let counter = e.reg(w, RCX);
    let zero = e.imm(w, 0);
    if op.sub == 3 {
        let c = e.eq(w, counter, zero);
        check_relative(e, op, c)?;
        e.branch(op, c, op.imm);
        return Ok(());
    }
    let one = e.imm(w, 1);
    let counter = e.sub(w, counter, one);
    let done = e.eq(w, counter, zero);
    let mut c = e.b_not(done);
    if op.sub < 2 {
        let zf = e.cond(if op.sub == 1 { Cond::E } else { Cond::Ne });
        c = e.b_and(c, zf);
    }
    check_relative(e, op, c)?;
    e.set_reg(w, RCX, counter);
    e.branch(op, c, op.imm);
    Ok(())
}
