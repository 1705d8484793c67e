//! What each lifted instruction means, written once over [`Eval`].
//!
//! One file a family. The functions are `inline(always)` and take the kind, width and operand places as arguments beside
//! the `Op`, so that the interpreter's handlers are the same functions with those arguments fixed.
//!
//! Flags that the manuals leave undefined get a value that costs least and that current processors mostly give: AF is 0
//! after logic, shifts and multiplications; OF after a shift by more than one is what the one-bit rule gives for the result;
//! BT and DIV leave the other flags alone.

pub mod alu;
pub mod avx;
pub mod avx_fn;
pub mod bit;
pub mod bmi;
pub mod branch;
pub mod crypto;
pub mod deposit;
pub mod flagops;
pub mod mmx;
pub mod moves;
pub mod muldiv;
pub mod sha;
pub mod shift;
pub mod sse;
pub mod sse4a;
pub mod sse_fn;
pub mod sse_string;
pub mod stack;
pub mod x87;
pub mod x87_arith;
pub mod x87_env;
pub mod x87_trans;
pub mod xsave;

use crate::eval::Eval;
use crate::exception::Vector;
use crate::op::{Arg, Kind, Op, Width};

/// Evaluates a lifted instruction.
pub fn execute<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    use Kind::*;
    let (k, w, d, s) = (op.kind, op.width, op.dst_arg, op.src_arg);
    match k {
        Nop => Ok(()),
        Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test => alu::binary(e, op, k, w, d, s),
        Inc | Dec | Neg | Not => alu::unary(e, op, k, w, d),
        Mov => moves::mov(e, op, w, d, s),
        Movzx | Movsx => moves::extend(e, op, k, w, op.width2, s),
        Lea => moves::lea(e, op, w),
        Xchg => moves::xchg(e, op, w, d),
        Bswap => moves::bswap(e, op, w),
        Movbe => moves::movbe(e, op, w, d, s),
        Cmovcc => moves::cmov(e, op, w, s),
        Setcc => moves::setcc(e, op, d),
        Cwd => moves::cwd(e, w),
        Xadd => alu::xadd(e, op, w, d),
        Cmpxchg => alu::cmpxchg(e, op, w, d),
        Rol | Ror | Shl | Shr | Sar => shift::shift(e, op, k, w, d, s),
        Rcl | Rcr => shift::rotate_carry(e, op, k, w, d, s),
        Shld | Shrd => shift::double(e, op, k, w, d, s),
        Bt | Bts | Btr | Btc => bit::test(e, op, k, w, d, s),
        Bsf | Bsr | Tzcnt | Lzcnt | Popcnt => bit::scan(e, op, k, w, s),
        Bmi => bmi::execute(e, op),
        Mul | Imul1 => muldiv::widening(e, op, k, w, s),
        Imul2 | Imul3 => muldiv::imul(e, op, k, w, s),
        Div | Idiv => muldiv::divide(e, op, k, w, s),
        Push => stack::push(e, op, w, s),
        Pop => stack::pop(e, op, w, d),
        Leave => stack::leave(e, op, w),
        Lahf | Sahf | Clc | Stc | Cmc | Cld | Std => flagops::execute(e, k),
        Jcc => branch::jcc(e, op),
        Jmp => branch::jmp(e, op),
        JmpInd => branch::jmp_indirect(e, op, w, s),
        Call => branch::call(e, op, w),
        CallInd => branch::call_indirect(e, op, w, s),
        Ret => branch::ret(e, op, w),
        Loop => branch::loop_(e, op),
        MovX | MovPart | VecBin | VecShiftImm | VecShiftReg | VecShuffle | VecUnary | FpBin
        | FpUnary | FpCompare | FpConvert | VecExtract | VecInsert | VecMask | VecTest
        | VecBlend | VecYmm | FpFma => sse::execute(e, op),
        // These are functions of `Cpu`; nobody evaluates them.
        String | X87 | Mmx | SseHelper | Helper | Time | System | Invalid => {
            let always = always(e);
            e.raise_if(always, Vector::InvalidOpcode)
        }
    }
}

/// A truth that is true.
#[inline(always)]
pub(crate) fn always<E: Eval>(e: &mut E) -> E::B {
    let zero = e.imm(Width::B, 0);
    e.eq(Width::B, zero, zero)
}

/// The value of the source operand.
#[inline(always)]
pub(crate) fn source<E: Eval>(e: &mut E, op: &Op, w: Width, at: Arg) -> Result<E::V, E::Stop> {
    match at {
        Arg::Reg => Ok(e.reg(w, op.src)),
        Arg::Mem => {
            let a = e.ea(op, w.bytes())?;
            e.load(w, a)
        }
        Arg::Imm | Arg::None => Ok(e.imm(w, op.imm)),
    }
}

/// The value of the destination operand, which is only read.
#[inline(always)]
pub(crate) fn destination<E: Eval>(e: &mut E, op: &Op, w: Width, at: Arg) -> Result<E::V, E::Stop> {
    match at {
        Arg::Mem => {
            let a = e.ea(op, w.bytes())?;
            e.load(w, a)
        }
        _ => Ok(e.reg(w, op.dst)),
    }
}

/// Writes the destination operand.
#[inline(always)]
pub(crate) fn write<E: Eval>(
    e: &mut E,
    op: &Op,
    w: Width,
    at: Arg,
    v: E::V,
) -> Result<(), E::Stop> {
    match at {
        Arg::Mem => {
            let a = e.ea(op, w.bytes())?;
            e.store(w, a, v)
        }
        _ => {
            e.set_reg(w, op.dst, v);
            Ok(())
        }
    }
}

/// Replaces the destination operand by `f` of it. `f` may set flags: by then nothing can fault any more.
#[inline(always)]
pub(crate) fn update<E: Eval>(
    e: &mut E,
    op: &Op,
    w: Width,
    at: Arg,
    f: impl FnOnce(&mut E, E::V) -> E::V,
) -> Result<(), E::Stop> {
    match at {
        Arg::Mem => {
            let a = e.ea(op, w.bytes())?;
            let (old, loc) = e.load_rmw(w, a)?;
            let new = f(e, old);
            e.store_rmw(w, loc, new);
        }
        _ => {
            let old = e.reg(w, op.dst);
            let new = f(e, old);
            e.set_reg(w, op.dst, new);
        }
    }
    Ok(())
}

/// `value` of width B, D or Q as a bit of EFLAGS: `(value & 1) << bit`, width Q.
#[inline(always)]
pub(crate) fn flag_bit<E: Eval>(e: &mut E, c: E::B, bit: u32) -> E::V {
    let one = e.b_to(Width::Q, c);
    let n = e.imm(Width::B, bit as u64);
    e.shl(Width::Q, one, n)
}
