//! Decoding of x87: which function of `Cpu`, on which stack register or memory format.
//!
//! `Op::imm` is the encoding, from which FOP and the host's stub for the instruction follow: see [`encoding`].

use iced_x86::{Instruction, MemorySize, Mnemonic as M, OpKind, Register};

use super::{Ctx, function, set_dst};
use crate::features::Features;
use crate::op::{Handler, Kind, Op, Width};
use crate::semantics::x87_arith as a;
use crate::semantics::{x87_env as env, x87_trans as t};

/// The instruction, if it is one of x87's.
pub(crate) fn decode(i: &Instruction, c: &Ctx, bytes: &[u8]) -> Option<Op> {
    let (run, sub) = arithmetic(i)
        .or_else(|| moves(i))
        .or_else(|| compares(i))
        .or_else(|| functions(i))
        .or_else(|| control(i))?;
    if !c.has(Features::FPU) || needs_cmov(i.mnemonic()) && !c.has(Features::CMOV) {
        return None;
    }
    let mut op = function(i, c, Kind::X87, run);
    op.sub = sub;
    op.imm = encoding(&bytes[..i.len()]);
    op.src = stack_register(i);
    if i.op_count() > 0 && matches!(i.op_kind(0), OpKind::Memory | OpKind::Register) {
        set_dst(i, 0, &mut op);
    }
    op.width = match i.memory_size() {
        MemorySize::FpuEnv14 | MemorySize::FpuState94 => Width::W,
        _ => Width::D,
    };
    Some(op)
}

/// The opcode, D8 to DF, and the ModRM byte below it; WAIT (9B) has no ModRM byte, and zero in its place. No prefix looks like either.
fn encoding(bytes: &[u8]) -> u64 {
    let escape = bytes.iter().position(|b| b & 0xf8 == 0xd8);
    match escape.and_then(|at| bytes.get(at..at + 2)) {
        Some(&[opcode, modrm]) => u64::from(opcode) << 8 | u64::from(modrm),
        _ => 0x9b00,
    }
}

/// FCMOVcc, FCOMI and FUCOMI came with CMOV.
fn needs_cmov(m: M) -> bool {
    condition(m).is_some() || matches!(m, M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip)
}

/// The register operand that is not the implied ST(0): the one written, else the one read.
fn stack_register(i: &Instruction) -> u8 {
    let register = |n: u32| {
        (i.op_count() > n && i.op_kind(n) == OpKind::Register && i.op_register(n).is_st())
            .then(|| i.op_register(n).number() as u8)
    };
    if matches!(i.mnemonic(), M::Fcompp | M::Fucompp) {
        return 1;
    }
    match (register(0), register(1)) {
        (Some(0) | None, Some(r)) => r,
        (Some(r), _) => r,
        _ => 0,
    }
}

/// Whether the destination is a register other than the implied one: by encoding, so also ST(0) as ST(i).
fn to_i(i: &Instruction) -> bool {
    i.op_count() == 2 && i.op1_register() == Register::ST0 && reversed(i)
}

/// DC and DE opcodes have ST(i) as their destination.
fn reversed(i: &Instruction) -> bool {
    use iced_x86::Code as C;
    matches!(
        i.code(),
        C::Fadd_sti_st0
            | C::Fmul_sti_st0
            | C::Fsub_sti_st0
            | C::Fsubr_sti_st0
            | C::Fdiv_sti_st0
            | C::Fdivr_sti_st0
    )
}

/// FADD to FDIVR in all forms. The numbers are those of `hostfp::x87::Bin` and `Mem`.
fn arithmetic(i: &Instruction) -> Option<(Handler, u8)> {
    macro_rules! forms {
        ($f:literal) => {
            match i.memory_size() {
                MemorySize::Float32 => a::arith_mem::<$f, 0>,
                MemorySize::Float64 => a::arith_mem::<$f, 1>,
                MemorySize::Int16 => a::arith_mem::<$f, 2>,
                MemorySize::Int32 => a::arith_mem::<$f, 3>,
                _ if to_i(i) => a::arith::<$f, true, false>,
                _ => a::arith::<$f, false, false>,
            }
        };
    }
    let run: Handler = match i.mnemonic() {
        M::Fadd | M::Fiadd => forms!(0),
        M::Fmul | M::Fimul => forms!(1),
        M::Fsub | M::Fisub => forms!(2),
        M::Fsubr | M::Fisubr => forms!(3),
        M::Fdiv | M::Fidiv => forms!(4),
        M::Fdivr | M::Fidivr => forms!(5),
        M::Faddp => a::arith::<0, true, true>,
        M::Fmulp => a::arith::<1, true, true>,
        M::Fsubp => a::arith::<2, true, true>,
        M::Fsubrp => a::arith::<3, true, true>,
        M::Fdivp => a::arith::<4, true, true>,
        M::Fdivrp => a::arith::<5, true, true>,
        _ => return None,
    };
    Some((run, 0))
}

/// The number of a memory operand's format as `hostfp::x87::Mem` has it.
fn mem_format(i: &Instruction) -> u8 {
    match i.memory_size() {
        MemorySize::Float32 => 0,
        MemorySize::Float64 => 1,
        MemorySize::Int16 => 2,
        _ => 3,
    }
}

/// FCMOVcc's condition, as an encoding.
fn condition(m: M) -> Option<u8> {
    Some(match m {
        M::Fcmovb => 2,
        M::Fcmovnb => 3,
        M::Fcmove => 4,
        M::Fcmovne => 5,
        M::Fcmovbe => 6,
        M::Fcmovnbe => 7,
        M::Fcmovu => 10,
        M::Fcmovnu => 11,
        _ => return None,
    })
}

fn moves(i: &Instruction) -> Option<(Handler, u8)> {
    if let Some(cc) = condition(i.mnemonic()) {
        return Some((a::conditional_move, cc));
    }
    let plain = |run: Handler| Some((run, 0));
    match (i.mnemonic(), i.memory_size()) {
        (M::Fld, MemorySize::Float32) => plain(a::load_mem::<0>),
        (M::Fld, MemorySize::Float64) => plain(a::load_mem::<1>),
        (M::Fld, MemorySize::Float80) => Some((a::load_ten, 0)),
        (M::Fld, _) => plain(a::load_st),
        (M::Fild, MemorySize::Int16) => plain(a::load_mem::<2>),
        (M::Fild, MemorySize::Int32) => plain(a::load_mem::<3>),
        (M::Fild, _) => plain(a::load_i64),
        (M::Fbld, _) => Some((a::load_ten, 1)),
        (M::Fst, MemorySize::Float32) => plain(a::store_mem::<0, false>),
        (M::Fst, MemorySize::Float64) => plain(a::store_mem::<1, false>),
        (M::Fst, _) => plain(a::store_st::<false>),
        (M::Fstp, MemorySize::Float32) => plain(a::store_mem::<0, true>),
        (M::Fstp, MemorySize::Float64) => plain(a::store_mem::<1, true>),
        (M::Fstp, MemorySize::Float80) => Some((a::store_ten, 0)),
        (M::Fstp, _) => plain(a::store_st::<true>),
        (M::Fstpnce, _) => plain(a::store_st_unchecked),
        (M::Fist, MemorySize::Int16) => plain(a::store_mem::<2, false>),
        (M::Fist, _) => plain(a::store_mem::<3, false>),
        (M::Fistp, MemorySize::Int16) => plain(a::store_mem::<2, true>),
        (M::Fistp, MemorySize::Int32) => plain(a::store_mem::<3, true>),
        (M::Fistp, _) => plain(a::store_mem::<4, true>),
        (M::Fisttp, MemorySize::Int16) => plain(a::store_mem::<5, true>),
        (M::Fisttp, MemorySize::Int32) => plain(a::store_mem::<6, true>),
        (M::Fisttp, _) => plain(a::store_mem::<7, true>),
        (M::Fbstp, _) => Some((a::store_ten, 1)),
        (M::Fxch, _) => plain(a::exchange),
        (M::Ffree, _) => Some((a::free, 0)),
        (M::Ffreep, _) => Some((a::free, 1)),
        (M::Fincstp, _) => Some((a::turn, 1)),
        (M::Fdecstp, _) => Some((a::turn, 7)),
        _ => None,
    }
}

fn compares(i: &Instruction) -> Option<(Handler, u8)> {
    let mem = i.op_count() == 1 && i.op_kind(0) == OpKind::Memory;
    let run: Handler = match i.mnemonic() {
        M::Fcom | M::Ficom if mem => a::compare_mem::<false>,
        M::Fcomp | M::Ficomp if mem => a::compare_mem::<true>,
        M::Fcom => a::compare::<false, 0>,
        M::Fcomp => a::compare::<false, 1>,
        M::Fcompp => a::compare::<false, 2>,
        M::Fucom => a::compare::<true, 0>,
        M::Fucomp => a::compare::<true, 1>,
        M::Fucompp => a::compare::<true, 2>,
        M::Fcomi => a::compare_flags::<false, false>,
        M::Fcomip => a::compare_flags::<false, true>,
        M::Fucomi => a::compare_flags::<true, false>,
        M::Fucomip => a::compare_flags::<true, true>,
        M::Ftst => a::test,
        M::Fxam => a::examine,
        _ => return None,
    };
    Some((run, if mem { mem_format(i) } else { 0 }))
}

fn functions(i: &Instruction) -> Option<(Handler, u8)> {
    Some(match i.mnemonic() {
        M::Fsqrt => (a::unary, 0),
        M::Frndint => (a::unary, 1),
        M::Fscale => (a::unary, 2),
        M::Fprem => (a::unary, 3),
        M::Fprem1 => (a::unary, 4),
        M::Fxtract => (a::fxtract, 0),
        M::Fchs => (a::sign, 0),
        M::Fabs => (a::sign, 1),
        M::F2xm1 => (t::function, 0),
        M::Fsin => (t::function, 1),
        M::Fcos => (t::function, 2),
        M::Fyl2x => (t::function_of_two, 0),
        M::Fyl2xp1 => (t::function_of_two, 1),
        M::Fpatan => (t::function_of_two, 2),
        M::Fsincos => (t::function_pushing, 0),
        M::Fptan => (t::function_pushing, 1),
        M::Fld1 => (a::load_constant, 0),
        M::Fldl2t => (a::load_constant, 1),
        M::Fldl2e => (a::load_constant, 2),
        M::Fldpi => (a::load_constant, 3),
        M::Fldlg2 => (a::load_constant, 4),
        M::Fldln2 => (a::load_constant, 5),
        M::Fldz => (a::load_constant, 6),
        _ => return None,
    })
}

/// Control instructions. FSTCW and the like are WAIT and the non-waiting form, two instructions to a decoder.
fn control(i: &Instruction) -> Option<(Handler, u8)> {
    let run: Handler = match i.mnemonic() {
        M::Wait => env::wait,
        M::Fnclex => env::fnclex,
        M::Fninit => env::fninit,
        M::Fldcw => env::fldcw,
        M::Fnstcw => env::fnstcw,
        M::Fnstsw => env::fnstsw,
        M::Fnstenv => env::fnstenv,
        M::Fldenv => env::fldenv,
        M::Fnsave => env::fnsave,
        M::Frstor => env::frstor,
        M::Fnop => a::nothing,
        M::Fneni | M::Fndisi | M::Fnsetpm => env::ignored,
        _ => return None,
    };
    Some((run, 0))
}
