//! Decoding of SSE to SSE4.2, AES, PCLMULQDQ, SHA and state saving; with VEX too, for what is the same then but for the operands. The forms on MMX registers are in `mmx`; prefetches, fences,
//! MOVNTI and CLFLUSH are among the integer and system instructions.
//!
//! iced names the instruction; this module says which lifted kind it is, or which function of `Cpu`, and whether this CPU
//! model has it and the system has switched it on.

use iced_x86::{CpuidFeature, Instruction, Mnemonic as M, OpKind};

use super::vex::{base_name, extend, is_vex};
use super::{Ctx, function, mmx, operand_width, set_dst, set_src, template};
use crate::eval::{Fp, FpBin, FpCvt, FpUn, VecBin as B, VecShift, VecShuf, VecUn};
use crate::features::Features;
use crate::interp::sse_run;
use crate::op::{Kind, Op, OpFlags, Width};
use crate::semantics::sse::{
    BY_IMM, BY_REG, COMI, FROM_INT, LANE_AND_ZEROS, Part, TO_INT, TRUNCATE, UCOMI,
};
use crate::semantics::{crypto, sha, sse_fn, sse_string, sse4a, xsave};
use crate::state::mode;

/// The instruction, if it belongs to these families.
pub(crate) fn decode(i: &Instruction, c: &Ctx) -> Option<Op> {
    let op = if mmx::is_mmx(i) {
        mmx::decode(i, c)?
    } else {
        match hint(i, c) {
            Some(op) => return available(i, c).then_some(op),
            None => vector(i, c)?,
        }
    };
    if !available(i, c) {
        return None;
    }
    // MMX and the state instructions find out for themselves: not all that FPU_OFF stands for concerns them.
    let concerned = op.kind.is_lifted() || op.kind == Kind::SseHelper && !saves_state(i);
    if c.is(mode::FPU_OFF) && concerned {
        let mut op = function(i, c, Kind::SseHelper, sse_fn::switched_off);
        op.flags |= OpFlags::ENDS_BLOCK;
        return Some(op);
    }
    Some(op)
}

fn saves_state(i: &Instruction) -> bool {
    matches!(
        i.cpuid_features(),
        [
            CpuidFeature::FXSR
                | CpuidFeature::XSAVE
                | CpuidFeature::XSAVEC
                | CpuidFeature::XSAVEOPT,
            ..
        ]
    )
}

/// Whether the CPU model has all that the instruction belongs to.
fn available(i: &Instruction, c: &Ctx) -> bool {
    i.cpuid_features().iter().all(|f| {
        c.has(match f {
            CpuidFeature::MMX => Features::MMX,
            CpuidFeature::SSE => Features::SSE,
            CpuidFeature::SSE2 => Features::SSE2,
            CpuidFeature::SSE3 => Features::SSE3,
            CpuidFeature::SSSE3 => Features::SSSE3,
            CpuidFeature::SSE4_1 => Features::SSE4_1,
            CpuidFeature::SSE4_2 => Features::SSE4_2,
            CpuidFeature::AES => Features::AES,
            CpuidFeature::PCLMULQDQ => Features::PCLMULQDQ,
            CpuidFeature::SHA => Features::SHA,
            CpuidFeature::FXSR => Features::FXSR,
            CpuidFeature::SSE4A => Features::SSE4A,
            CpuidFeature::XSAVE => Features::XSAVE,
            CpuidFeature::XSAVEC => Features::XSAVEC,
            CpuidFeature::XSAVEOPT => Features::XSAVEOPT,
            CpuidFeature::CLFSH => Features::CLFLUSH,
            CpuidFeature::CLFLUSHOPT => Features::CLFLUSHOPT,
            CpuidFeature::CLWB => Features::CLWB,
            _ => Features::empty(),
        })
    })
}

/// Instructions that work whatever CR0 says.
fn hint(i: &Instruction, c: &Ctx) -> Option<Op> {
    Some(match i.mnemonic() {
        M::Pause => function(i, c, Kind::Helper, sse_fn::pause),
        M::Xgetbv => function(i, c, Kind::Helper, xsave::xgetbv),
        M::Xsetbv => {
            let avx = if c.has(Features::AVX) {
                xsave::COMPONENT_AVX
            } else {
                0
            };
            let mut op = function(i, c, Kind::System, xsave::xsetbv);
            op.imm = xsave::COMPONENT_X87 | xsave::COMPONENT_SSE | avx;
            op
        }
        _ => return None,
    })
}

pub(super) fn vector(i: &Instruction, c: &Ctx) -> Option<Op> {
    let mut op = moves(i, c)
        .or_else(|| integer(i, c))
        .or_else(|| lanes(i, c))
        .or_else(|| floating(i, c))
        .or_else(|| conversion(i, c))
        .or_else(|| helper(i, c))?;
    if op.kind.is_lifted() {
        op.run = sse_run::handler(&op);
    }
    Some(op)
}

/// A lifted operation `op0 = f(op0, op1)` with an immediate, if there is one.
pub(super) fn lifted(i: &Instruction, c: &Ctx, kind: Kind, sub: u8) -> Op {
    let mut op = template(i, c);
    op.kind = kind;
    op.sub = sub;
    if i.op_count() > 0 {
        set_dst(i, 0, &mut op);
    }
    if i.op_count() > 1 && i.op_kind(1) != OpKind::Immediate8 {
        set_src(i, 1, &mut op);
    }
    extend(i, &mut op);
    if i.op_kinds().any(|k| k == OpKind::Immediate8) {
        op.imm = i.immediate8().into();
    }
    op
}

fn is_mem(i: &Instruction, n: u32) -> bool {
    i.op_kind(n) == OpKind::Memory
}

/// Whole and partial moves.
fn moves(i: &Instruction, c: &Ctx) -> Option<Op> {
    let whole = |aligned: u8| Some(lifted(i, c, Kind::MovX, aligned));
    let part = |p: Part, w: Width| {
        let mut op = lifted(i, c, Kind::MovPart, p as u8);
        op.width = w;
        Some(op)
    };
    let (store, load) = (is_mem(i, 0), i.op_count() > 1 && is_mem(i, 1));
    let scalar = |w, between| match (store, load) {
        (true, _) => part(Part::Store, w),
        (_, true) => part(Part::Load, w),
        _ => part(between, w),
    };
    match base_name(i) {
        M::Movaps | M::Movapd | M::Movdqa | M::Movntps | M::Movntpd | M::Movntdq | M::Movntdqa => {
            whole(1)
        }
        M::Movntss => part(Part::Store, Width::D),
        M::Movntsd => part(Part::Store, Width::Q),
        M::Movups | M::Movupd | M::Movdqu | M::Lddqu => whole(0),
        M::Movss => scalar(Width::D, Part::Merge),
        // The string instruction of that name has no vector register.
        M::Movsd if uses_xmm(i) => scalar(Width::Q, Part::Merge),
        M::Movd | M::Movq if uses_xmm(i) => general_or_scalar(i, &part),
        M::Movlps | M::Movlpd if store => part(Part::Store, Width::Q),
        M::Movlps | M::Movlpd => part(Part::LoadLow, Width::Q),
        M::Movhps | M::Movhpd if store => part(Part::StoreHigh, Width::Q),
        M::Movhps | M::Movhpd => part(Part::LoadHigh, Width::Q),
        M::Movhlps => part(Part::HighToLow, Width::Q),
        M::Movlhps => part(Part::LowToHigh, Width::Q),
        _ => None,
    }
}

/// MOVD and MOVQ: between vector and general registers or memory, or (MOVQ) within vector registers.
fn general_or_scalar(i: &Instruction, part: &dyn Fn(Part, Width) -> Option<Op>) -> Option<Op> {
    let w = if base_name(i) == M::Movd {
        Width::D
    } else {
        Width::Q
    };
    match (i.op_kind(0), i.op_kind(1)) {
        (OpKind::Memory, _) => part(Part::Store, w),
        (_, OpKind::Memory) => part(Part::Load, w),
        _ if i.op0_register().is_gpr() => part(Part::ToGeneral, w),
        _ if i.op1_register().is_gpr() => part(Part::FromGeneral, w),
        _ => part(Part::Zero, w),
    }
}

fn uses_xmm(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_xmm())
}

/// Integer vectors: `dst = f(dst, src)`, shifts.
fn integer(i: &Instruction, c: &Ctx) -> Option<Op> {
    if let Some(f) = mmx::vec_bin(base_name(i)).or_else(|| vec_bin(base_name(i))) {
        return Some(lifted(i, c, Kind::VecBin, f as u8));
    }
    let shift = match base_name(i) {
        M::Pslldq => VecShift::SllB,
        M::Psrldq => VecShift::SrlB,
        m => mmx::vec_shift(m)?,
    };
    let kind = if i.op_kinds().any(|k| k == OpKind::Immediate8) {
        Kind::VecShiftImm
    } else {
        Kind::VecShiftReg
    };
    Some(lifted(i, c, kind, shift as u8))
}

/// The two-operand vector operations that MMX registers do not have.
fn vec_bin(m: M) -> Option<B> {
    Some(match m {
        M::Andps | M::Andpd => B::And,
        M::Orps | M::Orpd => B::Or,
        M::Xorps | M::Xorpd => B::Xor,
        M::Andnps | M::Andnpd => B::AndNot,
        M::Unpcklps => B::UnpackLoD,
        M::Unpckhps => B::UnpackHiD,
        M::Unpcklpd | M::Punpcklqdq => B::UnpackLoQ,
        M::Unpckhpd | M::Punpckhqdq => B::UnpackHiQ,
        M::Pminsb => B::MinSB,
        M::Pmaxsb => B::MaxSB,
        M::Pminuw => B::MinUW,
        M::Pmaxuw => B::MaxUW,
        M::Pminsd => B::MinSD,
        M::Pmaxsd => B::MaxSD,
        M::Pminud => B::MinUD,
        M::Pmaxud => B::MaxUD,
        M::Pmulld => B::MulLoD,
        M::Pmuldq => B::MulSDQ,
        M::Pcmpeqq => B::CmpEqQ,
        M::Pcmpgtq => B::CmpGtQ,
        M::Packusdw => B::PackUSDW,
        _ => return None,
    })
}

/// Shuffles, blends, lane moves, masks and tests.
fn lanes(i: &Instruction, c: &Ctx) -> Option<Op> {
    let shuffle = |f: VecShuf| Some(lifted(i, c, Kind::VecShuffle, f as u8));
    let unary = |f: VecUn| Some(lifted(i, c, Kind::VecUnary, f as u8));
    let wide = |kind, sub, w| {
        let mut op = lifted(i, c, kind, sub);
        op.width = w;
        Some(op)
    };
    let extract = |w| wide(Kind::VecExtract, 0, w);
    let insert = |w| wide(Kind::VecInsert, 0, w);
    let blend = |sub, w| wide(Kind::VecBlend, sub, w);
    match base_name(i) {
        M::Pshufd => shuffle(VecShuf::D),
        M::Pshuflw => shuffle(VecShuf::Lw),
        M::Pshufhw => shuffle(VecShuf::Hw),
        M::Shufps => shuffle(VecShuf::Ps),
        M::Shufpd => shuffle(VecShuf::Pd),
        M::Palignr => shuffle(VecShuf::Align),
        M::Movddup => shuffle(VecShuf::DupLoD),
        M::Movsldup => shuffle(VecShuf::DupEvenS),
        M::Movshdup => shuffle(VecShuf::DupOddS),
        M::Pmovsxbw => unary(VecUn::SxBW),
        M::Pmovsxbd => unary(VecUn::SxBD),
        M::Pmovsxbq => unary(VecUn::SxBQ),
        M::Pmovsxwd => unary(VecUn::SxWD),
        M::Pmovsxwq => unary(VecUn::SxWQ),
        M::Pmovsxdq => unary(VecUn::SxDQ),
        M::Pmovzxbw => unary(VecUn::ZxBW),
        M::Pmovzxbd => unary(VecUn::ZxBD),
        M::Pmovzxbq => unary(VecUn::ZxBQ),
        M::Pmovzxwd => unary(VecUn::ZxWD),
        M::Pmovzxwq => unary(VecUn::ZxWQ),
        M::Pmovzxdq => unary(VecUn::ZxDQ),
        M::Phminposuw => unary(VecUn::MinPosUW),
        M::Pabsb => unary(VecUn::AbsB),
        M::Pabsw => unary(VecUn::AbsW),
        M::Pabsd => unary(VecUn::AbsD),
        M::Pextrb => extract(Width::B),
        M::Pextrw => extract(Width::W),
        M::Pextrd | M::Extractps => extract(Width::D),
        M::Pextrq => extract(Width::Q),
        M::Pinsrb => insert(Width::B),
        M::Pinsrw => insert(Width::W),
        M::Pinsrd => insert(Width::D),
        M::Pinsrq => insert(Width::Q),
        M::Insertps => wide(Kind::VecInsert, LANE_AND_ZEROS, Width::D),
        M::Pmovmskb => wide(Kind::VecMask, 0, Width::B),
        M::Movmskps => wide(Kind::VecMask, 0, Width::D),
        M::Movmskpd => wide(Kind::VecMask, 0, Width::Q),
        M::Ptest => Some(lifted(i, c, Kind::VecTest, 0)),
        M::Pblendvb => blend(BY_REG, Width::B),
        M::Blendvps => blend(BY_REG, Width::D),
        M::Blendvpd => blend(BY_REG, Width::Q),
        M::Pblendw => blend(BY_IMM, Width::W),
        M::Blendps => blend(BY_IMM, Width::D),
        M::Blendpd => blend(BY_IMM, Width::Q),
        _ => None,
    }
}

/// Arithmetic and comparisons.
fn floating(i: &Instruction, c: &Ctx) -> Option<Op> {
    use Fp::{Pd, Ps, Sd, Ss};
    let make = |kind, sub, fp: Fp| {
        let mut op = lifted(i, c, kind, sub);
        op.sub2 = fp as u8;
        Some(op)
    };
    let bin = |f: FpBin, fp| make(Kind::FpBin, f as u8, fp);
    let un = |f: FpUn, fp| make(Kind::FpUnary, f as u8, fp);
    let predicates = if is_vex(i) { 31 } else { 7 };
    let cmp = |fp| make(Kind::FpCompare, i.immediate8() & predicates, fp);
    let comi = |sub, fp| make(Kind::FpCompare, sub, fp);
    macro_rules! arithmetic {
        ($($ss:ident $sd:ident $ps:ident $pd:ident $f:expr;)*) => {
            match base_name(i) {
                $(M::$ss => return $f(Ss), M::$sd => return $f(Sd), M::$ps => return $f(Ps), M::$pd => return $f(Pd),)*
                _ => {}
            }
        };
    }
    arithmetic! {
        Addss Addsd Addps Addpd (|fp| bin(FpBin::Add, fp));
        Subss Subsd Subps Subpd (|fp| bin(FpBin::Sub, fp));
        Mulss Mulsd Mulps Mulpd (|fp| bin(FpBin::Mul, fp));
        Divss Divsd Divps Divpd (|fp| bin(FpBin::Div, fp));
        Minss Minsd Minps Minpd (|fp| bin(FpBin::Min, fp));
        Maxss Maxsd Maxps Maxpd (|fp| bin(FpBin::Max, fp));
        Sqrtss Sqrtsd Sqrtps Sqrtpd (|fp| un(FpUn::Sqrt, fp));
        Roundss Roundsd Roundps Roundpd (|fp| un(FpUn::Round, fp));
    }
    match base_name(i) {
        M::Haddps => bin(FpBin::Hadd, Ps),
        M::Haddpd => bin(FpBin::Hadd, Pd),
        M::Hsubps => bin(FpBin::Hsub, Ps),
        M::Hsubpd => bin(FpBin::Hsub, Pd),
        M::Addsubps => bin(FpBin::AddSub, Ps),
        M::Addsubpd => bin(FpBin::AddSub, Pd),
        M::Rcpss => un(FpUn::Rcp, Ss),
        M::Rcpps => un(FpUn::Rcp, Ps),
        M::Rsqrtss => un(FpUn::Rsqrt, Ss),
        M::Rsqrtps => un(FpUn::Rsqrt, Ps),
        M::Comiss => comi(COMI, Ss),
        M::Comisd => comi(COMI, Sd),
        M::Ucomiss => comi(UCOMI, Ss),
        M::Ucomisd => comi(UCOMI, Sd),
        M::Cmpss => cmp(Ss),
        // CMPSD of the string instructions has no vector register.
        M::Cmpsd if uses_xmm(i) => cmp(Sd),
        M::Cmpps => cmp(Ps),
        M::Cmppd => cmp(Pd),
        _ => None,
    }
}

/// Conversions without MMX registers.
fn conversion(i: &Instruction, c: &Ctx) -> Option<Op> {
    let vector = |f: FpCvt| Some(lifted(i, c, Kind::FpConvert, f as u8));
    let scalar = |sub, fp: Fp, general: u32| {
        let mut op = lifted(i, c, Kind::FpConvert, sub);
        op.sub2 = fp as u8;
        op.width = operand_width(i, general);
        Some(op)
    };
    match base_name(i) {
        M::Cvtss2sd => vector(FpCvt::Ss2Sd),
        M::Cvtsd2ss => vector(FpCvt::Sd2Ss),
        M::Cvtps2pd => vector(FpCvt::Ps2Pd),
        M::Cvtpd2ps => vector(FpCvt::Pd2Ps),
        M::Cvtdq2ps => vector(FpCvt::Dq2Ps),
        M::Cvtps2dq => vector(FpCvt::Ps2Dq),
        M::Cvttps2dq => vector(FpCvt::TPs2Dq),
        M::Cvtdq2pd => vector(FpCvt::Dq2Pd),
        M::Cvtpd2dq => vector(FpCvt::Pd2Dq),
        M::Cvttpd2dq => vector(FpCvt::TPd2Dq),
        M::Cvtss2si => scalar(TO_INT, Fp::Ss, 0),
        M::Cvtsd2si => scalar(TO_INT, Fp::Sd, 0),
        M::Cvttss2si => scalar(TRUNCATE, Fp::Ss, 0),
        M::Cvttsd2si => scalar(TRUNCATE, Fp::Sd, 0),
        M::Cvtsi2ss => scalar(FROM_INT, Fp::Ss, i.op_count() - 1),
        M::Cvtsi2sd => scalar(FROM_INT, Fp::Sd, i.op_count() - 1),
        _ => None,
    }
}

/// Instructions that stay functions of `Cpu`.
fn helper(i: &Instruction, c: &Ctx) -> Option<Op> {
    let run: crate::op::Handler = match base_name(i) {
        M::Ldmxcsr => sse_fn::ldmxcsr,
        M::Stmxcsr => sse_fn::stmxcsr,
        M::Maskmovdqu => sse_fn::maskmovdqu,
        M::Mpsadbw => sse_fn::mpsadbw,
        M::Dpps => sse_fn::dpps,
        M::Dppd => sse_fn::dppd,
        M::Pcmpestri | M::Pcmpestri64 => sse_string::pcmpestri,
        M::Pcmpestrm | M::Pcmpestrm64 => sse_string::pcmpestrm,
        M::Pcmpistri => sse_string::pcmpistri,
        M::Pcmpistrm => sse_string::pcmpistrm,
        M::Aesenc => crypto::aesenc,
        M::Aesenclast => crypto::aesenclast,
        M::Aesdec => crypto::aesdec,
        M::Aesdeclast => crypto::aesdeclast,
        M::Aesimc => crypto::aesimc,
        M::Aeskeygenassist => crypto::aeskeygenassist,
        M::Pclmulqdq => crypto::pclmulqdq,
        M::Sha1rnds4 => sha::sha1rnds4,
        M::Sha1nexte => sha::sha1nexte,
        M::Sha1msg1 => sha::sha1msg1,
        M::Sha1msg2 => sha::sha1msg2,
        M::Sha256rnds2 => sha::sha256rnds2,
        M::Sha256msg1 => sha::sha256msg1,
        M::Sha256msg2 => sha::sha256msg2,
        M::Extrq => sse4a::extrq,
        M::Insertq => sse4a::insertq,
        M::Fxsave | M::Fxsave64 => xsave::fxsave,
        M::Fxrstor | M::Fxrstor64 => xsave::fxrstor,
        M::Xsave | M::Xsave64 => xsave::xsave,
        M::Xsaveopt | M::Xsaveopt64 => xsave::xsaveopt,
        M::Xsavec | M::Xsavec64 => xsave::xsavec,
        M::Xrstor | M::Xrstor64 => xsave::xrstor,
        _ => return None,
    };
    let mut op = function(i, c, Kind::SseHelper, run);
    // They may change MXCSR's control bits, which are part of the mode word.
    if matches!(
        base_name(i),
        M::Ldmxcsr | M::Fxrstor | M::Fxrstor64 | M::Xrstor | M::Xrstor64
    ) {
        op.flags |= OpFlags::ENDS_BLOCK;
    }
    match base_name(i) {
        M::Maskmovdqu => {
            (op.dst, op.src) = (
                i.op1_register().number() as u8,
                i.op2_register().number() as u8,
            );
            mmx::di_operand(i, c, &mut op);
        }
        M::Extrq | M::Insertq => {
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
            // Two immediates: the length, and the index.
            if i.op_count() > 2 || i.op_kind(1) != OpKind::Register {
                op.sub = 1;
                op.imm = u64::from(i.immediate8()) | u64::from(i.immediate8_2nd()) << 8;
            }
        }
        _ if i.op_count() > 1 && i.op_kind(0) == OpKind::Register => {
            set_dst(i, 0, &mut op);
            set_src(i, 1, &mut op);
            extend(i, &mut op);
            op.imm = i.immediate8().into();
        }
        _ => {}
    }
    // REX.W widens FXSAVE's pointers and the lengths of PCMPESTRx.
    op.width = match base_name(i) {
        M::Fxsave64 | M::Fxrstor64 | M::Xsave64 | M::Xsaveopt64 | M::Xsavec64 | M::Xrstor64 => {
            Width::Q
        }
        _ if is_wide(i) => Width::Q,
        _ => Width::D,
    };
    Some(op)
}

/// Whether REX.W was there, for the instructions that iced tells apart by nothing else than their code.
fn is_wide(i: &Instruction) -> bool {
    use iced_x86::Code as C;
    matches!(
        i.code(),
        C::Pcmpestri64_xmm_xmmm128_imm8
            | C::Pcmpestrm64_xmm_xmmm128_imm8
            | C::VEX_Vpcmpestri64_xmm_xmmm128_imm8
            | C::VEX_Vpcmpestrm64_xmm_xmmm128_imm8
    )
}
