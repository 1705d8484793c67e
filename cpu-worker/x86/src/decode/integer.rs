//! Decoding of the lifted integer instructions.

use iced_x86::{Code, Instruction, Mnemonic as M, OpKind};

use super::{Ctx, code_width, general, operand_width, set_dst, set_src, template, width_of_bytes};
use crate::features::Features;
use crate::helper;
use crate::interp::handler;
use crate::op::{Arg, Kind, Op, OpFlags, RSP, Seg, Width};

/// The instruction, if it is a lifted integer one.
pub(crate) fn decode(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = two_operands(i, c)
        .or_else(|| one_operand(i, c))
        .or_else(|| shifts(i, c))
        .or_else(|| moves(i, c))
        .or_else(|| conditional(i, c))
        .or_else(|| multiply(i, c))
        .or_else(|| transfers(i, c))
        .or_else(|| stack(i, c))
        .or_else(|| implied(i, c))?;
    op.run = handler(&op);
    reach_in_segment(&mut op);
    Some(op)
}

/// A bit number in a register leads away from the operand, and where it leads to is what a limit is checked for.
fn reach_in_segment(op: &mut Op) {
    let n = helper::BIT_TESTS.iter().position(|kind| *kind == op.kind);
    if let Some(n) = n
        && op.dst_arg == Arg::Mem
        && op.src_arg == Arg::Reg
        && op.has(OpFlags::SEG_CHECK)
    {
        op.kind = Kind::Helper;
        op.sub = n as u8;
        op.run = helper::bit_in_segment;
    }
}

fn gated(c: &Ctx, feature: Features) -> Option<()> {
    c.has(feature).then_some(())
}

/// dst OP= src, both of one width.
fn two_operands(i: &Instruction, c: &Ctx) -> Option<Op> {
    let kind = match i.mnemonic() {
        M::Add => Kind::Add,
        M::Or => Kind::Or,
        M::Adc => Kind::Adc,
        M::Sbb => Kind::Sbb,
        M::And => Kind::And,
        M::Sub => Kind::Sub,
        M::Xor => Kind::Xor,
        M::Cmp => Kind::Cmp,
        M::Test => Kind::Test,
        M::Xchg => Kind::Xchg,
        M::Xadd => Kind::Xadd,
        M::Cmpxchg => Kind::Cmpxchg,
        M::Bt => Kind::Bt,
        M::Bts => Kind::Bts,
        M::Btr => Kind::Btr,
        M::Btc => Kind::Btc,
        M::Bsf => Kind::Bsf,
        M::Bsr => Kind::Bsr,
        M::Tzcnt => Kind::Tzcnt,
        M::Lzcnt => Kind::Lzcnt,
        M::Popcnt => {
            gated(c, Features::POPCNT)?;
            Kind::Popcnt
        }
        M::Movbe => {
            gated(c, Features::MOVBE)?;
            Kind::Movbe
        }
        _ => return None,
    };
    let mut op = template(i, c);
    op.kind = kind;
    op.width = operand_width(i, 0);
    set_dst(i, 0, &mut op);
    set_src(i, 1, &mut op);
    // TEST and XCHG are symmetric; memory is always the destination.
    if op.src_arg == Arg::Mem && matches!(kind, Kind::Test | Kind::Xchg) {
        std::mem::swap(&mut op.dst_arg, &mut op.src_arg);
        std::mem::swap(&mut op.dst, &mut op.src);
    }
    Some(op)
}

fn one_operand(i: &Instruction, c: &Ctx) -> Option<Op> {
    let kind = match i.mnemonic() {
        M::Inc => Kind::Inc,
        M::Dec => Kind::Dec,
        M::Neg => Kind::Neg,
        M::Not => Kind::Not,
        M::Bswap => Kind::Bswap,
        _ => return None,
    };
    let mut op = template(i, c);
    op.kind = kind;
    op.width = operand_width(i, 0);
    set_dst(i, 0, &mut op);
    Some(op)
}

/// Shifts and rotates. The count is an immediate (already cut to 5 or 6 bits) or, with `src_arg` Reg, CL.
fn shifts(i: &Instruction, c: &Ctx) -> Option<Op> {
    let kind = match i.mnemonic() {
        M::Rol => Kind::Rol,
        M::Ror => Kind::Ror,
        M::Rcl => Kind::Rcl,
        M::Rcr => Kind::Rcr,
        M::Shl | M::Sal => Kind::Shl,
        M::Shr => Kind::Shr,
        M::Sar => Kind::Sar,
        M::Shld => Kind::Shld,
        M::Shrd => Kind::Shrd,
        _ => return None,
    };
    let mut op = template(i, c);
    op.kind = kind;
    op.width = operand_width(i, 0);
    set_dst(i, 0, &mut op);
    let mut count = 1;
    if matches!(kind, Kind::Shld | Kind::Shrd) {
        op.sub2 = general(i.op_register(1));
        count = 2;
    }
    set_src(i, count, &mut op);
    op.imm &= if op.width == Width::Q { 63 } else { 31 };
    Some(op)
}

fn moves(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = template(i, c);
    match i.mnemonic() {
        M::Mov => {
            let special = |n| i.op_kind(n) == OpKind::Register && !i.op_register(n).is_gpr();
            if special(0) || special(1) {
                return None;
            }
            op.kind = Kind::Mov;
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
        }
        M::Movnti => {
            gated(c, Features::SSE2)?;
            op.kind = Kind::Mov;
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
        }
        M::Movzx | M::Movsx | M::Movsxd => {
            op.kind = if i.mnemonic() == M::Movzx {
                Kind::Movzx
            } else {
                Kind::Movsx
            };
            op.width = operand_width(i, 0);
            op.width2 = operand_width(i, 1);
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
        }
        M::Cbw | M::Cwde | M::Cdqe => {
            op.kind = Kind::Movsx;
            (op.width, op.width2) = match i.mnemonic() {
                M::Cbw => (Width::W, Width::B),
                M::Cwde => (Width::D, Width::W),
                _ => (Width::Q, Width::D),
            };
            op.dst_arg = Arg::Reg;
            op.src_arg = Arg::Reg;
        }
        M::Cwd | M::Cdq | M::Cqo => {
            op.kind = Kind::Cwd;
            op.width = match i.mnemonic() {
                M::Cwd => Width::W,
                M::Cdq => Width::D,
                _ => Width::Q,
            };
        }
        M::Lea => {
            op.kind = Kind::Lea;
            op.width = operand_width(i, 0);
            set_dst(i, 0, &mut op);
            op.src_arg = Arg::Mem;
            op.seg = Seg::Ds;
            op.flags -= OpFlags::SEG_BASE | OpFlags::SEG_CHECK;
        }
        _ => return None,
    }
    Some(op)
}

/// Jcc, SETcc, CMOVcc; `sub` is the condition.
fn conditional(i: &Instruction, c: &Ctx) -> Option<Op> {
    let condition = |m: M, all: [M; 16]| all.iter().position(|&x| x == m);
    let m = i.mnemonic();
    if let Some(n) = condition(
        m,
        [
            M::Jo,
            M::Jno,
            M::Jb,
            M::Jae,
            M::Je,
            M::Jne,
            M::Jbe,
            M::Ja,
            M::Js,
            M::Jns,
            M::Jp,
            M::Jnp,
            M::Jl,
            M::Jge,
            M::Jle,
            M::Jg,
        ],
    ) {
        let mut op = relative(i, c, Kind::Jcc);
        op.sub = n as u8;
        return Some(op);
    }
    let set = [
        M::Seto,
        M::Setno,
        M::Setb,
        M::Setae,
        M::Sete,
        M::Setne,
        M::Setbe,
        M::Seta,
        M::Sets,
        M::Setns,
        M::Setp,
        M::Setnp,
        M::Setl,
        M::Setge,
        M::Setle,
        M::Setg,
    ];
    let cmov = [
        M::Cmovo,
        M::Cmovno,
        M::Cmovb,
        M::Cmovae,
        M::Cmove,
        M::Cmovne,
        M::Cmovbe,
        M::Cmova,
        M::Cmovs,
        M::Cmovns,
        M::Cmovp,
        M::Cmovnp,
        M::Cmovl,
        M::Cmovge,
        M::Cmovle,
        M::Cmovg,
    ];
    let mut op = template(i, c);
    if let Some(n) = condition(m, set) {
        op.kind = Kind::Setcc;
        op.width = Width::B;
        op.sub = n as u8;
        set_dst(i, 0, &mut op);
    } else {
        let n = condition(m, cmov)?;
        gated(c, Features::CMOV)?;
        op.kind = Kind::Cmovcc;
        op.sub = n as u8;
        op.width = operand_width(i, 0);
        set_dst(i, 0, &mut op);
        set_src(i, 1, &mut op);
    }
    Some(op)
}

fn multiply(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = template(i, c);
    op.kind = match (i.mnemonic(), i.op_count()) {
        (M::Mul, _) => Kind::Mul,
        (M::Imul, 1) => Kind::Imul1,
        (M::Imul, 2) => Kind::Imul2,
        (M::Imul, _) => Kind::Imul3,
        (M::Div, _) => Kind::Div,
        (M::Idiv, _) => Kind::Idiv,
        _ => return None,
    };
    op.width = operand_width(i, 0);
    match op.kind {
        Kind::Imul2 => {
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
        }
        Kind::Imul3 => {
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
            op.imm = i.immediate(2) & op.width.mask();
        }
        _ => set_src(i, 0, &mut op),
    }
    Some(op)
}

/// A relative near transfer: `imm` is the distance from the next instruction, `width` the operand size.
fn relative(i: &Instruction, c: &Ctx, kind: Kind) -> Op {
    let mut op = template(i, c);
    op.kind = kind;
    op.flags |= OpFlags::ENDS_BLOCK;
    let target = i.near_branch_target();
    let distance = target.wrapping_sub(i.len() as u64);
    (op.width, op.imm) = match i.op0_kind() {
        OpKind::NearBranch16 => (Width::W, distance as i16 as u64),
        OpKind::NearBranch32 => (Width::D, distance as i32 as u64),
        _ => (Width::Q, distance),
    };
    op
}

fn transfers(i: &Instruction, c: &Ctx) -> Option<Op> {
    let near = matches!(
        i.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    let far = matches!(
        i.code(),
        Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
            | Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
            | Code::Jmp_ptr1616
            | Code::Jmp_ptr1632
            | Code::Call_ptr1616
            | Code::Call_ptr1632
    );
    if far {
        return None;
    }
    match i.mnemonic() {
        M::Jmp if near => Some(relative(i, c, Kind::Jmp)),
        M::Call if near => Some(Op {
            seg: Seg::Ss,
            ..relative(i, c, Kind::Call)
        }),
        M::Jmp | M::Call => {
            let mut op = template(i, c);
            op.kind = if i.mnemonic() == M::Jmp {
                Kind::JmpInd
            } else {
                Kind::CallInd
            };
            op.width = operand_width(i, 0);
            op.flags |= OpFlags::ENDS_BLOCK;
            set_src(i, 0, &mut op);
            if op.src_arg != Arg::Mem {
                op.seg = Seg::Ss;
            }
            Some(op)
        }
        M::Ret => {
            let mut op = template(i, c);
            op.kind = Kind::Ret;
            op.width = stack_operand(i, c);
            op.flags |= OpFlags::ENDS_BLOCK;
            if i.op_count() > 0 {
                op.imm = i.immediate(0) & 0xffff;
            }
            op.seg = Seg::Ss;
            Some(op)
        }
        M::Loopne | M::Loope | M::Loop | M::Jcxz | M::Jecxz | M::Jrcxz => {
            let mut op = relative(i, c, Kind::Loop);
            op.sub = match i.mnemonic() {
                M::Loopne => 0,
                M::Loope => 1,
                M::Loop => 2,
                _ => 3,
            };
            op.addr = counter_size(i);
            Some(op)
        }
        _ => None,
    }
}

/// Which of CX, ECX and RCX a LOOP or JrCXZ counts in.
fn counter_size(i: &Instruction) -> crate::op::AddrSize {
    use crate::op::AddrSize::*;
    match i.code() {
        Code::Jcxz_rel8_16 | Code::Jcxz_rel8_32 => A16,
        Code::Jecxz_rel8_16 | Code::Jecxz_rel8_32 | Code::Jecxz_rel8_64 => A32,
        Code::Jrcxz_rel8_16 | Code::Jrcxz_rel8_64 => A64,
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_32_CX => A16,
        Code::Loop_rel8_16_ECX
        | Code::Loop_rel8_32_ECX
        | Code::Loop_rel8_64_ECX
        | Code::Loope_rel8_16_ECX
        | Code::Loope_rel8_32_ECX
        | Code::Loope_rel8_64_ECX
        | Code::Loopne_rel8_16_ECX
        | Code::Loopne_rel8_32_ECX
        | Code::Loopne_rel8_64_ECX => A32,
        _ => A64,
    }
}

/// The bytes that a PUSH, POP, CALL or RET moves, from what it adds to the stack pointer.
fn stack_operand(i: &Instruction, c: &Ctx) -> Width {
    match i.mnemonic() {
        M::Ret => match i.code() {
            Code::Retnw | Code::Retnw_imm16 => Width::W,
            Code::Retnd | Code::Retnd_imm16 => Width::D,
            _ => Width::Q,
        },
        _ => match i.stack_pointer_increment().unsigned_abs() {
            0 => code_width(c),
            n => width_of_bytes(n as usize),
        },
    }
}

fn stack(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = template(i, c);
    let segment_register =
        i.op_count() > 0 && i.op0_kind() == OpKind::Register && !i.op0_register().is_gpr();
    match i.mnemonic() {
        M::Push if !segment_register => {
            op.kind = Kind::Push;
            op.width = stack_operand(i, c);
            set_src(i, 0, &mut op);
        }
        M::Pop if !segment_register => {
            op.kind = Kind::Pop;
            op.width = stack_operand(i, c);
            set_dst(i, 0, &mut op);
            if op.dst_arg == Arg::Mem && op.base == RSP {
                // The address is computed after the stack pointer was incremented (SDM, POP).
                op.disp += op.width.bytes() as i64;
            }
        }
        M::Leave => {
            op.kind = Kind::Leave;
            op.width = match i.code() {
                Code::Leavew => Width::W,
                Code::Leaved => Width::D,
                _ => Width::Q,
            };
        }
        _ => return None,
    }
    // A fault of the stack access itself is #SS; where there is a memory operand too, its segment stays.
    if op.src_arg != Arg::Mem && op.dst_arg != Arg::Mem {
        op.seg = Seg::Ss;
    }
    Some(op)
}

/// Instructions without operands.
fn implied(i: &Instruction, c: &Ctx) -> Option<Op> {
    let kind = match i.mnemonic() {
        M::Nop | M::Endbr32 | M::Endbr64 | M::Reservednop => Kind::Nop,
        M::Prefetchnta | M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 => Kind::Nop,
        // Whatever has long mode has it (AMD APM vol. 3, PREFETCHW), and Linux counts on that with AMD's processors.
        M::Prefetch | M::Prefetchw | M::Prefetchwt1 => {
            gated(c, Features::PREFETCHW).or_else(|| gated(c, Features::LM))?;
            Kind::Nop
        }
        M::Cldemote | M::Prefetchit0 | M::Prefetchit1 => Kind::Nop,
        M::Lfence | M::Mfence => {
            gated(c, Features::SSE2)?;
            Kind::Nop
        }
        M::Sfence => {
            gated(c, Features::SSE)?;
            Kind::Nop
        }
        M::Lahf => Kind::Lahf,
        M::Sahf => Kind::Sahf,
        M::Clc => Kind::Clc,
        M::Stc => Kind::Stc,
        M::Cmc => Kind::Cmc,
        M::Cld => Kind::Cld,
        M::Std => Kind::Std,
        // Without their features these run as wide or one-byte no-operations.
        M::Rdsspd | M::Rdsspq => Kind::Nop,
        _ => return None,
    };
    let mut op = template(i, c);
    op.kind = kind;
    Some(op)
}
