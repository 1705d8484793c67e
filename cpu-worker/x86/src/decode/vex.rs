//! Decoding of VEX: the instructions of SSE to SSE4.2 and AES on three operands and on 256 bits, what AVX, AVX2, FMA and F16C
//! add to them, and BMI.
//!
//! A VEX instruction that SSE has too is decoded by `sse`, under the name it has there ([`base_name`]); this module fills in
//! what the prefix adds ([`extend`]) and decodes the rest. iced refuses the encodings that are #UD in every mode (LOCK, 66, F2, F3
//! or REX before VEX, a wrong VEX.L or VEX.vvvv, gathers into their own index).

use std::sync::LazyLock;

use iced_x86::{CpuidFeature, EncodingKind, Instruction, Mnemonic as M, OpKind, Register};

use super::{Ctx, function, general, operand_width, set_dst, set_src, sse, template};
use crate::eval::{Fp, FpFma, VecBin as B, VecShuf};
use crate::features::Features;
use crate::interp::sse_run;
use crate::op::{Handler, Kind, Op, OpFlags, Reg, Width, ZERO};
use crate::semantics::avx::{Order, Ymm};
use crate::semantics::bmi::Bmi;
use crate::semantics::sse::{BY_IMM, PERMIL_D, TEST_SIGNS};
use crate::semantics::{avx_fn, deposit};
use crate::state::mode;

/// Whether the instruction is VEX-encoded.
pub(super) fn is_vex(i: &Instruction) -> bool {
    i.code().encoding() == EncodingKind::VEX
}

/// The name that a VEX instruction has without VEX, if SSE has it: VADDPS is ADDPS. Other instructions keep theirs.
pub(super) fn base_name(i: &Instruction) -> M {
    static NAMES: LazyLock<Vec<M>> = LazyLock::new(|| {
        let all: std::collections::HashMap<String, M> =
            M::values().map(|m| (format!("{m:?}"), m)).collect();
        let base = |m: M| {
            let name = format!("{m:?}");
            let rest = name.strip_prefix('V')?;
            let (first, tail) = rest.split_at_checked(1)?;
            all.get(&(first.to_uppercase() + tail)).copied()
        };
        M::values().map(|m| base(m).unwrap_or(m)).collect()
    });
    let m = i.mnemonic();
    if is_vex(i) { NAMES[m as usize] } else { m }
}

/// The instruction, which [`is_vex`].
pub(super) fn decode(i: &Instruction, c: &Ctx) -> Option<Op> {
    // Real and virtual-8086 mode have LES and LDS there, and those with a register are no instructions.
    if !c.is(mode::PROTECTED) || c.is(mode::V86) || !available(i, c) {
        return None;
    }
    if let Some(op) = bmi(i, c) {
        return Some(op);
    }
    if !c.is(mode::AVX) {
        return None;
    }
    let op = beyond_sse(i, c).or_else(|| sse::vector(i, c))?;
    if c.is(mode::TASK_SWITCHED) {
        let mut op = function(i, c, Kind::SseHelper, avx_fn::switched_off);
        op.flags |= OpFlags::ENDS_BLOCK;
        return Some(op);
    }
    Some(op)
}

/// Whether the CPU model has all that the instruction belongs to. What is not named here, no model has.
fn available(i: &Instruction, c: &Ctx) -> bool {
    i.cpuid_features().iter().all(|f| {
        let feature = match f {
            CpuidFeature::AVX => Features::AVX,
            CpuidFeature::AVX2 => Features::AVX2,
            CpuidFeature::FMA => Features::FMA,
            CpuidFeature::F16C => Features::F16C,
            CpuidFeature::BMI1 => Features::BMI1,
            CpuidFeature::BMI2 => Features::BMI2,
            CpuidFeature::AES => Features::AES,
            CpuidFeature::PCLMULQDQ => Features::PCLMULQDQ,
            _ => return false,
        };
        c.has(feature)
    })
}

/// What VEX adds to an operation of two operands: the width, and the first source.
pub(super) fn extend(i: &Instruction, op: &mut Op) {
    op.src1 = op.dst;
    if !is_vex(i) {
        return;
    }
    op.flags |= OpFlags::VEX;
    let wide = |n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_ymm();
    op.flags.set(
        OpFlags::WIDE,
        (0..i.op_count()).any(wide) || i.memory_size().size() == 32,
    );
    let place = |n: u32| matches!(i.op_kind(n), OpKind::Register | OpKind::Memory);
    match (0..i.op_count()).filter(|&n| place(n)).count() {
        // A shift by an immediate has one source, which is what is shifted.
        2 if matches!(op.kind, Kind::VecShiftImm) => op.src1 = register(i, 1),
        3 | 4 => {
            op.src1 = register(i, 1);
            set_src(i, 2, op);
            if i.op_count() == 4 && i.op_kind(3) == OpKind::Register {
                op.sub2 = register(i, 3);
            }
        }
        _ => {}
    }
}

fn register(i: &Instruction, n: u32) -> Reg {
    let r = i.op_register(n);
    if r.is_gpr() {
        general(r)
    } else {
        r.number() as Reg
    }
}

/// The general-purpose instructions.
fn bmi(i: &Instruction, c: &Ctx) -> Option<Op> {
    let kind = match i.mnemonic() {
        M::Andn => Bmi::Andn,
        M::Bextr => Bmi::Bextr,
        M::Blsi => Bmi::Blsi,
        M::Blsmsk => Bmi::Blsmsk,
        M::Blsr => Bmi::Blsr,
        M::Bzhi => Bmi::Bzhi,
        M::Mulx => Bmi::Mulx,
        M::Rorx => Bmi::Rorx,
        M::Sarx => Bmi::Sarx,
        M::Shlx => Bmi::Shlx,
        M::Shrx => Bmi::Shrx,
        M::Pdep | M::Pext => return Some(pdep_or_pext(i, c)),
        _ => return None,
    };
    let mut op = template(i, c);
    op.kind = Kind::Bmi;
    op.sub = kind as u8;
    op.width = operand_width(i, 0);
    set_dst(i, 0, &mut op);
    match kind {
        Bmi::Andn | Bmi::Mulx => {
            op.src1 = register(i, 1);
            set_src(i, 2, &mut op);
        }
        Bmi::Bextr | Bmi::Bzhi | Bmi::Sarx | Bmi::Shlx | Bmi::Shrx => {
            set_src(i, 1, &mut op);
            op.src1 = register(i, 2);
        }
        _ => set_src(i, 1, &mut op),
    }
    if kind == Bmi::Rorx {
        op.imm = i.immediate8().into();
    }
    op.run = |cpu, op| crate::semantics::execute(cpu, op);
    Some(op)
}

/// PDEP and PEXT.
fn pdep_or_pext(i: &Instruction, c: &Ctx) -> Op {
    let run: Handler = if i.mnemonic() == M::Pdep {
        deposit::pdep
    } else {
        deposit::pext
    };
    let mut op = function(i, c, Kind::SseHelper, run);
    op.width = operand_width(i, 0);
    set_dst(i, 0, &mut op);
    op.src1 = register(i, 1);
    set_src(i, 2, &mut op);
    op
}

/// The vector instructions that SSE does not have.
fn beyond_sse(i: &Instruction, c: &Ctx) -> Option<Op> {
    if let Some(op) = fma(i, c) {
        return Some(op);
    }
    let lifted = |kind, sub, w| {
        let mut op = sse::lifted(i, c, kind, sub);
        op.width = w;
        op.run = sse_run::handler(&op);
        Some(op)
    };
    let ymm = |f: Ymm, w| lifted(Kind::VecYmm, f as u8, w);
    let bin = |f: B| lifted(Kind::VecBin, f as u8, Width::D);
    let by_imm = i.op_count() == 3 && i.op_kind(2) == OpKind::Immediate8;
    use Width::{B as Byte, D, Q, W};
    match i.mnemonic() {
        M::Vbroadcastss | M::Vpbroadcastd => ymm(Ymm::Broadcast, D),
        M::Vbroadcastsd | M::Vpbroadcastq => ymm(Ymm::Broadcast, Q),
        M::Vpbroadcastb => ymm(Ymm::Broadcast, Byte),
        M::Vpbroadcastw => ymm(Ymm::Broadcast, W),
        M::Vbroadcastf128 | M::Vbroadcasti128 => ymm(Ymm::BroadcastHalf, Q),
        M::Vinsertf128 | M::Vinserti128 => ymm(Ymm::InsertHalf, Q),
        M::Vextractf128 | M::Vextracti128 => ymm(Ymm::ExtractHalf, Q),
        M::Vperm2f128 | M::Vperm2i128 => ymm(Ymm::PermuteHalves, Q),
        M::Vpermq | M::Vpermpd => ymm(Ymm::PermuteQ, Q),
        M::Vzeroupper => ymm(Ymm::ZeroUpper, Q),
        M::Vzeroall => ymm(Ymm::ZeroAll, Q),
        M::Vpermilps if by_imm => lifted(Kind::VecShuffle, VecShuf::D as u8, D),
        M::Vpermilpd if by_imm => lifted(Kind::VecShuffle, PERMIL_D, Q),
        M::Vpermilps => bin(B::PermilS),
        M::Vpermilpd => bin(B::PermilD),
        M::Vpsllvd => bin(B::SllVD),
        M::Vpsllvq => bin(B::SllVQ),
        M::Vpsrlvd => bin(B::SrlVD),
        M::Vpsrlvq => bin(B::SrlVQ),
        M::Vpsravd => bin(B::SraVD),
        M::Vpblendd => lifted(Kind::VecBlend, BY_IMM, D),
        M::Vtestps => lifted(Kind::VecTest, TEST_SIGNS, D),
        M::Vtestpd => lifted(Kind::VecTest, TEST_SIGNS, Q),
        _ => functions(i, c),
    }
}

fn functions(i: &Instruction, c: &Ctx) -> Option<Op> {
    let store = i.op_kind(0) == OpKind::Memory;
    let masked: Handler = if store {
        avx_fn::masked_store
    } else {
        avx_fn::masked_load
    };
    let (run, w): (Handler, Width) = match i.mnemonic() {
        M::Vpermd | M::Vpermps => (avx_fn::permute_d, Width::D),
        M::Vmaskmovps | M::Vpmaskmovd => (masked, Width::D),
        M::Vmaskmovpd | M::Vpmaskmovq => (masked, Width::Q),
        M::Vcvtph2ps => (avx_fn::half_to_single, Width::D),
        M::Vcvtps2ph => (avx_fn::single_to_half, Width::D),
        _ => return gather(i, c),
    };
    let mut op = function(i, c, Kind::SseHelper, run);
    set_dst(i, 0, &mut op);
    set_src(i, 1, &mut op);
    extend(i, &mut op);
    op.width = w;
    if i.mnemonic() == M::Vcvtps2ph {
        op.imm = i.immediate8().into();
    }
    Some(op)
}

fn gather(i: &Instruction, c: &Ctx) -> Option<Op> {
    let (element, index) = match i.mnemonic() {
        M::Vpgatherdd | M::Vgatherdps => (Width::D, Width::D),
        M::Vpgatherdq | M::Vgatherdpd => (Width::Q, Width::D),
        M::Vpgatherqd | M::Vgatherqps => (Width::D, Width::Q),
        M::Vpgatherqq | M::Vgatherqpd => (Width::Q, Width::Q),
        _ => return None,
    };
    let (dst, mask) = (i.op0_register(), i.op2_register());
    let vector: Register = i.memory_index();
    let numbers = [dst, mask, vector].map(|r| r.number());
    if numbers[0] == numbers[1] || numbers[0] == numbers[2] || numbers[1] == numbers[2] {
        return None;
    }
    let mut op = function(i, c, Kind::SseHelper, avx_fn::gather);
    set_dst(i, 0, &mut op);
    extend(i, &mut op);
    op.src1 = mask.number() as Reg;
    op.src = vector.number() as Reg;
    op.src_arg = crate::op::Arg::Mem;
    // The address of each element is made of what is left of the operand, and its index.
    op.index = ZERO;
    op.flags.set(OpFlags::WIDE, dst.is_ymm() || vector.is_ymm());
    op.width = element;
    op.width2 = index;
    Some(op)
}

/// VFMADD132PS to VFNMSUB231SD, by their names: operation, order, lanes.
fn fma(i: &Instruction, c: &Ctx) -> Option<Op> {
    if !i.cpuid_features().contains(&CpuidFeature::FMA) {
        return None;
    }
    let name = format!("{:?}", i.mnemonic());
    let rest = name.strip_prefix("Vf")?;
    let digits = rest.find(|ch: char| ch.is_ascii_digit())?;
    let (operation, rest) = rest.split_at(digits);
    let (order, lanes) = rest.split_at_checked(3)?;
    let f = match operation {
        "madd" => FpFma::Add,
        "msub" => FpFma::Sub,
        "nmadd" => FpFma::NegAdd,
        "nmsub" => FpFma::NegSub,
        "maddsub" => FpFma::AddSub,
        "msubadd" => FpFma::SubAdd,
        _ => return None,
    };
    let order = match order {
        "132" => Order::O132,
        "213" => Order::O213,
        _ => Order::O231,
    };
    let fp = match lanes {
        "ss" => Fp::Ss,
        "sd" => Fp::Sd,
        "ps" => Fp::Ps,
        _ => Fp::Pd,
    };
    let mut op = sse::lifted(i, c, Kind::FpFma, f as u8);
    op.sub2 = fp as u8 | (order as u8) << 2;
    op.run = sse_run::handler(&op);
    Some(op)
}
