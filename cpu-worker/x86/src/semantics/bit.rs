//! Bit tests, scans and counts.

use crate::eval::Eval;
use crate::flags::{CF, FlagOp, ZF};
use crate::op::{AddrSize, Arg, Kind, Op, OpFlags, Width};

use super::{flag_bit, source};

/// BT BTS BTR BTC. With a register as the bit number and memory as the destination, the number reaches beyond the operand.
#[inline(always)]
pub fn test<E: Eval>(
    e: &mut E,
    op: &Op,
    kind: Kind,
    w: Width,
    dst: Arg,
    src: Arg,
) -> Result<(), E::Stop> {
    let number = match src {
        Arg::Reg => e.reg(w, op.src),
        _ => e.imm(w, op.imm),
    };
    let mask = e.imm(w, w.bits() as u64 - 1);
    let position = e.and(w, number, mask);
    let position = e.trunc(w, Width::B, position);
    if dst != Arg::Mem {
        let a = e.reg(w, op.dst);
        let r = flip(e, kind, w, a, position);
        if kind != Kind::Bt {
            e.set_reg(w, op.dst, r);
        }
        return Ok(());
    }
    let mut at = e.ea(op, w.bytes())?;
    if src == Arg::Reg {
        at = displace(e, op, w, at, number);
    }
    if kind == Kind::Bt {
        let a = e.load(w, at)?;
        flip(e, kind, w, a, position);
    } else {
        let (a, loc) = e.load_rmw(w, at)?;
        let r = flip(e, kind, w, a, position);
        e.store_rmw(w, loc, r);
    }
    Ok(())
}

/// The address of the operand that holds bit `number`, counted from the one at `at`.
#[inline(always)]
fn displace<E: Eval>(e: &mut E, op: &Op, w: Width, at: E::V, number: E::V) -> E::V {
    let q = Width::Q;
    let wide = if w == q { number } else { e.sext(w, q, number) };
    let bits = e.imm(Width::B, w.bits().trailing_zeros() as u64);
    let bytes = e.imm(Width::B, w.bytes().trailing_zeros() as u64);
    let words = e.sar(q, wide, bits);
    let distance = e.shl(q, words, bytes);
    let sum = e.add(q, at, distance);
    if op.has(OpFlags::LONG) && !op.has(OpFlags::ADDR_CUT) {
        return sum;
    }
    // The address size cuts the offset in the segment.
    let cut = if op.addr == AddrSize::A16 {
        0xffff
    } else {
        u32::MAX.into()
    };
    let mask = e.imm(q, cut);
    if !op.has(OpFlags::SEG_BASE) {
        return e.and(q, sum, mask);
    }
    let base = e.seg_base(op.seg);
    let offset = e.sub(q, sum, base);
    let offset = e.and(q, offset, mask);
    e.add(q, base, offset)
}

/// Sets CF to the bit, all other flags staying, and gives the operand with the bit set, cleared or complemented.
#[inline(always)]
fn flip<E: Eval>(e: &mut E, kind: Kind, w: Width, a: E::V, position: E::V) -> E::V {
    let one = e.imm(w, 1);
    let shifted = e.shr(w, a, position);
    let bit = e.and(w, shifted, one);
    let carry = if w == Width::Q {
        bit
    } else {
        e.zext(w, Width::Q, bit)
    };
    let all = e.flag_bits();
    let mask = e.imm(Width::Q, !CF);
    let kept = e.and(Width::Q, all, mask);
    let all = e.or(Width::Q, kept, carry);
    e.flags(FlagOp::Real, Width::Q, all, all, all);
    let select = e.shl(w, one, position);
    match kind {
        Kind::Bts => e.or(w, a, select),
        Kind::Btr => {
            let others = e.not(w, select);
            e.and(w, a, others)
        }
        Kind::Btc => e.xor(w, a, select),
        _ => a,
    }
}

/// BSF BSR TZCNT LZCNT POPCNT.
#[inline(always)]
pub fn scan<E: Eval>(e: &mut E, op: &Op, kind: Kind, w: Width, src: Arg) -> Result<(), E::Stop> {
    let a = source(e, op, w, src)?;
    let zero = e.imm(w, 0);
    let none = e.eq(w, a, zero);
    match kind {
        Kind::Bsf | Kind::Bsr => {
            let found = if kind == Kind::Bsf {
                e.ctz(w, a)
            } else {
                let leading = e.clz(w, a);
                let last = e.imm(w, w.bits() as u64 - 1);
                e.sub(w, last, leading)
            };
            // A zero source leaves the destination as it was, its upper half included (AMD's manual; Intel's processors agree).
            let old = e.reg(Width::Q, op.dst);
            e.flags(FlagOp::Logic, w, a, a, a);
            if w == Width::W {
                let low = e.trunc(Width::Q, w, old);
                let r = e.select(w, none, low, found);
                e.set_reg(w, op.dst, r);
            } else {
                let wide = if w == Width::Q {
                    found
                } else {
                    e.zext(w, Width::Q, found)
                };
                let r = e.select(Width::Q, none, old, wide);
                e.set_reg(Width::Q, op.dst, r);
            }
        }
        Kind::Popcnt => {
            let r = e.popcnt(w, a);
            let zf = flag_bit(e, none, ZF.trailing_zeros());
            e.flags(FlagOp::Real, Width::Q, zf, zf, zf);
            e.set_reg(w, op.dst, r);
        }
        _ => {
            let r = if kind == Kind::Tzcnt {
                e.ctz(w, a)
            } else {
                e.clz(w, a)
            };
            let first = e.eq(w, r, zero);
            let zf = flag_bit(e, first, ZF.trailing_zeros());
            let cf = flag_bit(e, none, CF.trailing_zeros());
            let bits = e.or(Width::Q, zf, cf);
            e.flags(FlagOp::Real, Width::Q, bits, bits, bits);
            e.set_reg(w, op.dst, r);
        }
    }
    Ok(())
}
