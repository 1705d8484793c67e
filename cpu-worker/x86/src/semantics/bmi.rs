//! BMI1 and BMI2 but for TZCNT: ANDN to SHRX. `dst`, `src1` and `src` are as their names say; `sub` is [`Bmi`].
//!
//! Flags that the manual leaves undefined are those of a logical operation.

use super::{flag_bit, source};
use crate::eval::Eval;
use crate::flags::{CF, FlagOp};
use crate::op::{Op, RDX, Width};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Bmi {
    Andn,
    /// src1 holds start and length.
    Bextr,
    Blsi,
    Blsmsk,
    Blsr,
    /// src1 holds the index.
    Bzhi,
    /// dst is the high half, src1 the low half's register.
    Mulx,
    /// By an immediate.
    Rorx,
    /// By src1.
    Sarx,
    Shlx,
    Shrx,
}

impl Bmi {
    fn of(n: u8) -> Bmi {
        use Bmi::*;
        const ALL: [Bmi; 11] = [
            Andn, Bextr, Blsi, Blsmsk, Blsr, Bzhi, Mulx, Rorx, Sarx, Shlx, Shrx,
        ];
        ALL[n as usize]
    }
}

/// Evaluates one.
pub fn execute<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let w = op.width;
    let a = source(e, op, w, op.src_arg)?;
    let one = e.imm(w, 1);
    match Bmi::of(op.sub) {
        Bmi::Andn => {
            let b = e.reg(w, op.src1);
            let b = e.not(w, b);
            let r = e.and(w, a, b);
            e.flags(FlagOp::Logic, w, r, r, r);
            e.set_reg(w, op.dst, r);
        }
        Bmi::Bextr => bextr(e, op, a),
        Bmi::Blsi => {
            let zero = e.imm(w, 0);
            let negative = e.sub(w, zero, a);
            let r = e.and(w, negative, a);
            let none = e.eq(w, a, zero);
            let any = e.b_not(none);
            finish(e, op, any, r);
        }
        Bmi::Blsmsk | Bmi::Blsr => {
            let zero = e.imm(w, 0);
            let less = e.sub(w, a, one);
            let r = if op.sub == Bmi::Blsr as u8 {
                e.and(w, less, a)
            } else {
                e.xor(w, less, a)
            };
            let none = e.eq(w, a, zero);
            finish(e, op, none, r);
        }
        Bmi::Bzhi => {
            let (index, fits) = below_width(e, w, op, 0);
            let mask = low_mask(e, w, index);
            let cut = e.and(w, a, mask);
            let r = e.select(w, fits, cut, a);
            let beyond = e.b_not(fits);
            finish(e, op, beyond, r);
        }
        Bmi::Mulx => {
            let b = e.reg(w, RDX);
            let low = e.mul(w, a, b);
            let high = e.mul_hi(w, false, a, b);
            e.set_reg(w, op.src1, low);
            e.set_reg(w, op.dst, high);
        }
        Bmi::Rorx => {
            let count = e.imm(Width::B, op.imm & (u64::from(w.bits()) - 1));
            let r = e.rotr(w, a, count);
            e.set_reg(w, op.dst, r);
        }
        shift => {
            let count = e.reg(Width::B, op.src1);
            let mask = e.imm(Width::B, u64::from(w.bits()) - 1);
            let count = e.and(Width::B, count, mask);
            let r = match shift {
                Bmi::Sarx => e.sar(w, a, count),
                Bmi::Shlx => e.shl(w, a, count),
                _ => e.shr(w, a, count),
            };
            e.set_reg(w, op.dst, r);
        }
    }
    Ok(())
}

/// Writes the result, and the flags of a logical operation but for CF.
fn finish<E: Eval>(e: &mut E, op: &Op, carry: E::B, r: E::V) {
    let carry = flag_bit(e, carry, CF.trailing_zeros());
    e.flags(FlagOp::Szp, op.width, carry, r, r);
    e.set_reg(op.width, op.dst, r);
}

/// Byte `n` of src1, made smaller than the width (width B), and whether it was.
fn below_width<E: Eval>(e: &mut E, w: Width, op: &Op, n: u64) -> (E::V, E::B) {
    let b = e.reg(w, op.src1);
    let count = e.imm(Width::B, 8 * n);
    let b = e.shr(w, b, count);
    let b = e.trunc(w, Width::B, b);
    let bits = e.imm(Width::B, w.bits().into());
    let fits = e.ult(Width::B, b, bits);
    let mask = e.imm(Width::B, u64::from(w.bits()) - 1);
    (e.and(Width::B, b, mask), fits)
}

/// The low `n` bits, n being below the width.
fn low_mask<E: Eval>(e: &mut E, w: Width, n: E::V) -> E::V {
    let one = e.imm(w, 1);
    let bit = e.shl(w, one, n);
    e.sub(w, bit, one)
}

fn bextr<E: Eval>(e: &mut E, op: &Op, a: E::V) {
    let w = op.width;
    let (start, inside) = below_width(e, w, op, 0);
    let (length, short) = below_width(e, w, op, 1);
    let zero = e.imm(w, 0);
    let moved = e.shr(w, a, start);
    let moved = e.select(w, inside, moved, zero);
    let mask = low_mask(e, w, length);
    let cut = e.and(w, moved, mask);
    let r = e.select(w, short, cut, moved);
    e.flags(FlagOp::Logic, w, r, r, r);
    e.set_reg(w, op.dst, r);
}
