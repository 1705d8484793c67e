//! Addition, subtraction, logic, comparison, and the atomic exchanges built on them.

use crate::eval::Eval;
use crate::flags::FlagOp;
use crate::op::{Arg, Cond, Kind, Op, RAX, Width};

use super::{destination, source, update};

/// ADD OR ADC SBB AND SUB XOR CMP TEST.
#[inline(always)]
pub fn binary<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    w: Width,
    dst: Arg,
    src: Arg,
) -> Result<(), E::Stop> {
    let b = source(e, op, w, src)?;
    if matches!(kind, Kind::Cmp | Kind::Test) {
        let a = destination(e, op, w, dst)?;
        combine(e, kind, w, a, b);
        return Ok(());
    }
    update(e, op, w, dst, |e, a| combine(e, kind, w, a, b))
}

/// The result of `a OP b`; sets the flags.
#[inline(always)]
fn combine<E: Eval>(e: &mut E, kind: Kind, w: Width, a: E::V, b: E::V) -> E::V {
    let (result, form) = match kind {
        Kind::Add => (e.add(w, a, b), FlagOp::Add),
        Kind::Adc => {
            let c = e.cond(Cond::B);
            let c = e.b_to(w, c);
            let sum = e.add(w, a, b);
            (e.add(w, sum, c), FlagOp::Add)
        }
        Kind::Sbb => {
            let c = e.cond(Cond::B);
            let c = e.b_to(w, c);
            let difference = e.sub(w, a, b);
            (e.sub(w, difference, c), FlagOp::Sub)
        }
        Kind::Or => (e.or(w, a, b), FlagOp::Logic),
        Kind::Xor => (e.xor(w, a, b), FlagOp::Logic),
        Kind::And | Kind::Test => (e.and(w, a, b), FlagOp::Logic),
        _ => (e.sub(w, a, b), FlagOp::Sub),
    };
    e.flags(form, w, a, b, result);
    result
}

/// INC DEC NEG NOT.
#[inline(always)]
pub fn unary<E: Eval>(e: &mut E, op: &Op, kind: Kind, w: Width, dst: Arg) -> Result<(), E::Stop> {
    update(e, op, w, dst, |e, a| match kind {
        Kind::Inc => count(e, w, a, true),
        Kind::Dec => count(e, w, a, false),
        Kind::Neg => {
            let zero = e.imm(w, 0);
            let r = e.sub(w, zero, a);
            e.flags(FlagOp::Sub, w, zero, a, r);
            r
        }
        _ => e.not(w, a),
    })
}

/// INC and DEC: as ADD and SUB of 1, but CF stays.
#[inline(always)]
fn count<E: Eval>(e: &mut E, w: Width, a: E::V, up: bool) -> E::V {
    let one = e.imm(w, 1);
    let r = if up {
        e.add(w, a, one)
    } else {
        e.sub(w, a, one)
    };
    let carry = e.cond(Cond::B);
    let carry = e.b_to(Width::Q, carry);
    let form = if up { FlagOp::Inc } else { FlagOp::Dec };
    e.flags(form, w, carry, one, r);
    r
}

/// XADD: the source register is written before the destination, which therefore wins where both are one register.
#[inline(always)]
pub fn xadd<E: Eval>(e: &mut E, op: &Op, w: Width, dst: Arg) -> Result<(), E::Stop> {
    let b = e.reg(w, op.src);
    update(e, op, w, dst, |e, a| {
        let sum = e.add(w, a, b);
        e.flags(FlagOp::Add, w, a, b, sum);
        e.set_reg(w, op.src, a);
        sum
    })
}

/// CMPXCHG: the destination is always written; the accumulator only if they differ.
#[inline(always)]
pub fn cmpxchg<E: Eval>(e: &mut E, op: &Op, w: Width, dst: Arg) -> Result<(), E::Stop> {
    let new = e.reg(w, op.src);
    let acc = e.reg(w, RAX);
    let whole = e.reg(Width::Q, RAX);
    let untouched = e.reg(Width::Q, op.dst);
    let finish = |e: &mut E, old: E::V| {
        let r = e.sub(w, acc, old);
        e.flags(FlagOp::Sub, w, acc, old, r);
        let same = e.eq(w, acc, old);
        if matches!(w, Width::D | Width::Q) {
            // An equal EAX is not written at all, so that the upper half of RAX stays.
            let read = e.zext(w, Width::Q, old);
            let rax = e.select(Width::Q, same, whole, read);
            e.set_reg(Width::Q, RAX, rax);
        } else {
            let low = e.select(w, same, acc, old);
            e.set_reg(w, RAX, low);
        }
        same
    };
    if dst == Arg::Mem {
        // Memory is written back in any case.
        return update(e, op, w, dst, |e, old| {
            let same = finish(e, old);
            e.select(w, same, new, old)
        });
    }
    let old = e.reg(w, op.dst);
    let same = finish(e, old);
    if w == Width::D {
        // A register that differs is not written, so that its upper half stays.
        let wide = e.zext(w, Width::Q, new);
        let v = e.select(Width::Q, same, wide, untouched);
        e.set_reg(Width::Q, op.dst, v);
    } else {
        let v = e.select(w, same, new, old);
        e.set_reg(w, op.dst, v);
    }
    Ok(())
}
