//! Decoding of the instructions with an MMX register: MMX itself, its SSE and SSSE3 additions, and the conversions and
//! moves between MMX and XMM registers. All are functions of `Cpu`, as MMX registers are the x87's.

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::{Ctx, apply_segment, function, operand_width, segment, set_dst, set_src};
use crate::eval::{VecBin as B, VecShift, VecUn};
use crate::op::{AddrSize, Handler, Kind, Op, OpFlags, RDI, Seg, Width};
use crate::semantics::mmx;
use crate::state::mode;

/// Whether an operand is an MMX register, or memory in the place of one (or it is EMMS).
pub(super) fn is_mmx(i: &Instruction) -> bool {
    let register = |n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm();
    let m = i.mnemonic();
    matches!(m, M::Emms | M::Cvtpi2ps | M::Cvtpi2pd) || (0..i.op_count()).any(register)
}

/// The instruction, which [`is_mmx`].
pub(super) fn decode(i: &Instruction, c: &Ctx) -> Option<Op> {
    let m = i.mnemonic();
    let (run, sub): (Handler, u8) = if let Some(f) = vec_bin(m) {
        (mmx::bin, f as u8)
    } else if let Some(f) = vec_shift(m) {
        let by_imm = i.op_kind(1) == OpKind::Immediate8;
        (
            if by_imm {
                mmx::shift_imm
            } else {
                mmx::shift_reg
            },
            f as u8,
        )
    } else {
        other(i)?
    };
    let mut op = function(i, c, Kind::Mmx, run);
    op.sub = sub;
    op.width = Width::Q;
    if m == M::Maskmovq {
        (op.dst, op.src) = (
            i.op1_register().number() as u8,
            i.op2_register().number() as u8,
        );
        di_operand(i, c, &mut op);
        return Some(op);
    }
    if i.op_count() > 0 {
        op.width = match m {
            M::Movd => Width::D,
            M::Pinsrw => Width::W,
            // Only half of the source is read from memory.
            M::Punpcklbw | M::Punpcklwd | M::Punpckldq => operand_width(i, 1).min(Width::Q),
            _ => Width::Q,
        };
        set_dst(i, 0, &mut op);
        set_src(i, 1, &mut op);
        if i.op_kinds().any(|k| k == OpKind::Immediate8) {
            op.imm = i.immediate8().into();
        }
    }
    Some(op)
}

/// Neither lane-wise with two operands nor a shift.
fn other(i: &Instruction) -> Option<(Handler, u8)> {
    let to_mm = i.op_count() > 0 && i.op_kind(0) == OpKind::Register && i.op0_register().is_mm();
    let general = |n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_gpr();
    Some(match i.mnemonic() {
        M::Emms => (mmx::emms, 0),
        M::Movd | M::Movq if to_mm && general(1) => (mmx::from_general, 0),
        M::Movd | M::Movq if to_mm => (mmx::load, 0),
        M::Movd | M::Movq if general(0) => (mmx::to_general, 0),
        M::Movd | M::Movq | M::Movntq => (mmx::store, 0),
        M::Pabsb => (mmx::un, VecUn::AbsB as u8),
        M::Pabsw => (mmx::un, VecUn::AbsW as u8),
        M::Pabsd => (mmx::un, VecUn::AbsD as u8),
        M::Pshufw => (mmx::pshufw, 0),
        M::Palignr => (mmx::palignr, 0),
        M::Pextrw => (mmx::pextrw, 0),
        M::Pinsrw => (mmx::pinsrw, 0),
        M::Pmovmskb => (mmx::pmovmskb, 0),
        M::Maskmovq => (mmx::maskmovq, 0),
        M::Movq2dq => (mmx::movq2dq, 0),
        M::Movdq2q => (mmx::movdq2q, 0),
        M::Cvtpi2ps => (mmx::cvtpi2ps, 0),
        M::Cvtpi2pd => (mmx::cvtpi2pd, 0),
        M::Cvtps2pi => (mmx::cvtps2pi, 0),
        M::Cvttps2pi => (mmx::cvttps2pi, 0),
        M::Cvtpd2pi => (mmx::cvtpd2pi, 0),
        M::Cvttpd2pi => (mmx::cvttpd2pi, 0),
        _ => return None,
    })
}

/// The memory operand DS:(R|E)DI of MASKMOVQ and MASKMOVDQU.
pub(super) fn di_operand(i: &Instruction, c: &Ctx, op: &mut Op) {
    op.base = RDI;
    op.addr = match i.op_kind(0) {
        OpKind::MemorySegDI => AddrSize::A16,
        OpKind::MemorySegEDI => AddrSize::A32,
        _ => AddrSize::A64,
    };
    if op.addr != AddrSize::A64 {
        op.flags |= OpFlags::ADDR_CUT;
    }
    op.seg = segment(i.memory_segment());
    if c.is(mode::LONG) && !matches!(op.seg, Seg::Fs | Seg::Gs) {
        op.seg = Seg::Ds;
    }
    apply_segment(c, op);
    op.flags |= OpFlags::WRITES;
}

/// The two-operand vector operations that both register files have.
pub(super) fn vec_bin(m: M) -> Option<B> {
    Some(match m {
        M::Pand => B::And,
        M::Por => B::Or,
        M::Pxor => B::Xor,
        M::Pandn => B::AndNot,
        M::Paddb => B::AddB,
        M::Paddw => B::AddW,
        M::Paddd => B::AddD,
        M::Paddq => B::AddQ,
        M::Psubb => B::SubB,
        M::Psubw => B::SubW,
        M::Psubd => B::SubD,
        M::Psubq => B::SubQ,
        M::Paddsb => B::AddSatSB,
        M::Paddsw => B::AddSatSW,
        M::Paddusb => B::AddSatUB,
        M::Paddusw => B::AddSatUW,
        M::Psubsb => B::SubSatSB,
        M::Psubsw => B::SubSatSW,
        M::Psubusb => B::SubSatUB,
        M::Psubusw => B::SubSatUW,
        M::Pavgb => B::AvgUB,
        M::Pavgw => B::AvgUW,
        M::Pminub => B::MinUB,
        M::Pmaxub => B::MaxUB,
        M::Pminsw => B::MinSW,
        M::Pmaxsw => B::MaxSW,
        M::Pmullw => B::MulLoW,
        M::Pmulhw => B::MulHiSW,
        M::Pmulhuw => B::MulHiUW,
        M::Pmuludq => B::MulUDQ,
        M::Pmaddwd => B::MaddWD,
        M::Pmaddubsw => B::MaddUBSW,
        M::Pmulhrsw => B::MulHrSW,
        M::Psadbw => B::SadBW,
        M::Pcmpeqb => B::CmpEqB,
        M::Pcmpeqw => B::CmpEqW,
        M::Pcmpeqd => B::CmpEqD,
        M::Pcmpgtb => B::CmpGtB,
        M::Pcmpgtw => B::CmpGtW,
        M::Pcmpgtd => B::CmpGtD,
        M::Punpcklbw => B::UnpackLoB,
        M::Punpcklwd => B::UnpackLoW,
        M::Punpckldq => B::UnpackLoD,
        M::Punpckhbw => B::UnpackHiB,
        M::Punpckhwd => B::UnpackHiW,
        M::Punpckhdq => B::UnpackHiD,
        M::Packsswb => B::PackSSWB,
        M::Packssdw => B::PackSSDW,
        M::Packuswb => B::PackUSWB,
        M::Pshufb => B::PshufB,
        M::Psignb => B::SignB,
        M::Psignw => B::SignW,
        M::Psignd => B::SignD,
        M::Phaddw => B::HaddW,
        M::Phaddd => B::HaddD,
        M::Phaddsw => B::HaddSatW,
        M::Phsubw => B::HsubW,
        M::Phsubd => B::HsubD,
        M::Phsubsw => B::HsubSatW,
        _ => return None,
    })
}

/// The shifts that both register files have.
pub(super) fn vec_shift(m: M) -> Option<VecShift> {
    Some(match m {
        M::Psllw => VecShift::SllW,
        M::Pslld => VecShift::SllD,
        M::Psllq => VecShift::SllQ,
        M::Psrlw => VecShift::SrlW,
        M::Psrld => VecShift::SrlD,
        M::Psrlq => VecShift::SrlQ,
        M::Psraw => VecShift::SraW,
        M::Psrad => VecShift::SraD,
        _ => return None,
    })
}
