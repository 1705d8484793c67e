//! The meaning of the lifted SSE instructions, SSE to SSE4.2.
//!
//! How the fields of [`Op`] are used by these kinds (`dst` is a register unless said otherwise; `src` a register or
//! memory; vectors in memory must be aligned, scalars need not be):
//!
//! | kind | sub | sub2 | width | imm |
//! |---|---|---|---|---|
//! | MovX | bit 0: aligned | | | |
//! | MovPart | [`Part`] | | of the part | |
//! | VecBin, VecShiftReg | operation | | | |
//! | VecShiftImm | operation | | | count |
//! | VecShuffle, VecUnary | operation | | | shuffle's immediate |
//! | FpBin, FpUnary | operation | [`Fp`] | | ROUNDxx's immediate |
//! | FpCompare | predicate, [`COMI`] or [`UCOMI`] | [`Fp`] | | |
//! | FpConvert | [`FpCvt`], [`TO_INT`], [`TRUNCATE`] or [`FROM_INT`] | [`Fp`] | of the integer | |
//! | VecExtract (dst a register or memory) | | | of the lane | lane |
//! | VecInsert | 0, or [`LANE_AND_ZEROS`]: INSERTPS | | of the lane | lane, or INSERTPS's |
//! | VecMask | | | of the lanes | |
//! | VecBlend | [`BY_XMM0`] or [`BY_IMM`] | | of the lanes | lanes taken from src |
//!
//! #UD and #NM for a switched-off unit are decided at decode, as the mode word tells.

use crate::eval::{Eval, Fp, FpBin, FpCvt, FpUn, VecBin, VecShift, VecShuf, VecUn};
use crate::flags::FlagOp;
use crate::op::{Arg, Kind, Op, Width};

/// The partial moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Part {
    /// Low lane from memory, the rest zero: MOVSS, MOVSD, MOVD and MOVQ loads.
    Load,
    /// Low lane to memory: MOVSS, MOVSD, MOVD, MOVQ, MOVLPx stores.
    Store,
    /// Low lane from a general register, the rest zero: MOVD, MOVQ.
    FromGeneral,
    /// Low lane to a general register.
    ToGeneral,
    /// Low lane of src into dst, the rest of dst kept: MOVSS, MOVSD between registers.
    Merge,
    /// Low lane of src, the rest zero: MOVQ between registers.
    Zero,
    /// Memory into the low half, the high half kept: MOVLPx.
    LoadLow,
    /// Memory into the high half: MOVHPx.
    LoadHigh,
    /// The high half to memory: MOVHPx.
    StoreHigh,
    /// High half of src into the low half of dst: MOVHLPS.
    HighToLow,
    /// Low half of src into the high half of dst: MOVLHPS.
    LowToHigh,
}

/// `sub` of FpCompare: COMISx and UCOMISx.
pub const COMI: u8 = 8;
pub const UCOMI: u8 = 9;
/// `sub` of FpConvert: the scalar conversions that touch general registers.
pub const TO_INT: u8 = 16;
pub const TRUNCATE: u8 = 17;
pub const FROM_INT: u8 = 18;
/// `sub` of VecInsert: INSERTPS.
pub const LANE_AND_ZEROS: u8 = 1;
/// `sub` of VecBlend.
pub const BY_XMM0: u8 = 0;
pub const BY_IMM: u8 = 1;

/// Evaluates a lifted SSE instruction.
pub fn execute<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    match op.kind {
        Kind::MovX => mov_x(e, op, op.dst_arg, op.src_arg, op.sub & 1 != 0),
        Kind::MovPart => mov_part(e, op, part(op.sub), op.width),
        Kind::VecBin => vec_bin(e, op, vec_bin_of(op.sub), op.src_arg),
        Kind::VecShiftImm => vec_shift_imm(e, op, vec_shift_of(op.sub)),
        Kind::VecShiftReg => vec_shift_reg(e, op),
        Kind::VecShuffle => vec_shuffle(e, op, vec_shuf_of(op.sub)),
        Kind::VecUnary => vec_unary(e, op),
        Kind::FpBin => fp_bin(e, op, fp_bin_of(op.sub), fp_of(op.sub2), op.src_arg),
        Kind::FpUnary => fp_unary(e, op),
        Kind::FpCompare => fp_compare(e, op),
        Kind::FpConvert => fp_convert(e, op),
        Kind::VecExtract => vec_extract(e, op),
        Kind::VecInsert => vec_insert(e, op),
        Kind::VecMask => vec_mask(e, op, op.width),
        Kind::VecTest => vec_test(e, op),
        Kind::VecBlend => vec_blend(e, op),
        _ => unreachable!("{:?} is not a lifted SSE kind", op.kind),
    }
}

/// The source vector; `aligned` for memory.
#[inline(always)]
fn source<E: Eval>(e: &mut E, op: &Op, arg: Arg, aligned: bool) -> Result<E::X, E::Stop> {
    if arg == Arg::Mem {
        let address = e.ea(op, 16)?;
        e.load_x(address, aligned)
    } else {
        Ok(e.xmm(op.src))
    }
}

/// The source as a vector of which only the low `w` bits count: a register, or so much memory.
#[inline(always)]
fn source_low<E: Eval>(e: &mut E, op: &Op, arg: Arg, w: Width) -> Result<E::X, E::Stop> {
    if arg == Arg::Mem {
        let v = load_low(e, op, w)?;
        Ok(from_low(e, w, v))
    } else {
        Ok(e.xmm(op.src))
    }
}

#[inline(always)]
fn load_low<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<E::V, E::Stop> {
    let address = e.ea(op, w.bytes())?;
    e.load(w, address)
}

#[inline(always)]
fn from_low<E: Eval>(e: &mut E, w: Width, v: E::V) -> E::X {
    let zero = e.x_const(0, 0);
    e.x_with_lane(w, zero, 0, v)
}

/// The source of a floating-point operation: scalars may be anywhere.
#[inline(always)]
fn fp_source<E: Eval>(e: &mut E, op: &Op, fp: Fp, arg: Arg) -> Result<E::X, E::Stop> {
    match fp {
        Fp::Ss => source_low(e, op, arg, Width::D),
        Fp::Sd => source_low(e, op, arg, Width::Q),
        Fp::Ps | Fp::Pd => source(e, op, arg, true),
    }
}

/// MOVAPS, MOVUPS, MOVDQA, MOVDQU, LDDQU, MOVNTxx.
#[inline(always)]
pub fn mov_x<E: Eval>(
    e: &mut E,
    op: &Op,
    dst: Arg,
    src: Arg,
    aligned: bool,
) -> Result<(), E::Stop> {
    if dst == Arg::Mem {
        let address = e.ea(op, 16)?;
        let v = e.xmm(op.src);
        return e.store_x(address, aligned, v);
    }
    let v = source(e, op, src, aligned)?;
    e.set_xmm(op.dst, v);
    Ok(())
}

/// The partial moves.
#[inline(always)]
pub fn mov_part<E: Eval>(e: &mut E, op: &Op, part: Part, w: Width) -> Result<(), E::Stop> {
    let q = Width::Q;
    let x = match part {
        Part::Store | Part::StoreHigh => {
            let address = e.ea(op, w.bytes())?;
            let src = e.xmm(op.src);
            let v = e.x_lane(w, src, (part == Part::StoreHigh).into());
            return e.store(w, address, v);
        }
        Part::ToGeneral => {
            let src = e.xmm(op.src);
            let v = e.x_lane(w, src, 0);
            e.set_reg(w, op.dst, v);
            return Ok(());
        }
        Part::Load => {
            let v = load_low(e, op, w)?;
            from_low(e, w, v)
        }
        Part::FromGeneral => {
            let v = e.reg(w, op.src);
            from_low(e, w, v)
        }
        Part::Zero => {
            let src = e.xmm(op.src);
            let v = e.x_lane(w, src, 0);
            from_low(e, w, v)
        }
        Part::Merge => copy_lane(e, op, w, 0, 0),
        Part::HighToLow => copy_lane(e, op, q, 1, 0),
        Part::LowToHigh => copy_lane(e, op, q, 0, 1),
        Part::LoadLow | Part::LoadHigh => {
            let v = load_low(e, op, q)?;
            let dst = e.xmm(op.dst);
            e.x_with_lane(q, dst, (part == Part::LoadHigh).into(), v)
        }
    };
    e.set_xmm(op.dst, x);
    Ok(())
}

#[inline(always)]
fn copy_lane<E: Eval>(e: &mut E, op: &Op, w: Width, from: u8, to: u8) -> E::X {
    let src = e.xmm(op.src);
    let dst = e.xmm(op.dst);
    let v = e.x_lane(w, src, from);
    e.x_with_lane(w, dst, to, v)
}

/// dst = dst op src.
#[inline(always)]
pub fn vec_bin<E: Eval>(e: &mut E, op: &Op, f: VecBin, src: Arg) -> Result<(), E::Stop> {
    let b = source(e, op, src, true)?;
    let a = e.xmm(op.dst);
    let r = e.x_bin(f, a, b);
    e.set_xmm(op.dst, r);
    Ok(())
}

#[inline(always)]
fn vec_shift_imm<E: Eval>(e: &mut E, op: &Op, f: VecShift) -> Result<(), E::Stop> {
    let a = e.xmm(op.dst);
    let r = e.x_shift_imm(f, a, op.imm as u8);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// The count is the low half of the source, which is all the same a whole aligned vector in memory.
fn vec_shift_reg<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let b = source(e, op, op.src_arg, true)?;
    let count = e.x_lane(Width::Q, b, 0);
    let a = e.xmm(op.dst);
    let r = e.x_shift(vec_shift_of(op.sub), a, count);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// Two-operand shuffles read dst first; the others read src only. MOVDDUP alone reads 8 bytes of memory, unaligned.
#[inline(always)]
fn vec_shuffle<E: Eval>(e: &mut E, op: &Op, f: VecShuf) -> Result<(), E::Stop> {
    let src = match f {
        VecShuf::DupLoD => source_low(e, op, op.src_arg, Width::Q)?,
        _ => source(e, op, op.src_arg, true)?,
    };
    let a = match f {
        VecShuf::Ps | VecShuf::Pd | VecShuf::Align => e.xmm(op.dst),
        _ => src,
    };
    let r = e.x_shuf(f, a, src, op.imm as u8);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// PABSx and PHMINPOSUW read a vector; PMOVSX and PMOVZX as much memory as they need, unaligned.
fn vec_unary<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    use VecUn::*;
    let f = vec_un_of(op.sub);
    let src = match f {
        AbsB | AbsW | AbsD | MinPosUW => source(e, op, op.src_arg, true)?,
        SxBW | SxWD | SxDQ | ZxBW | ZxWD | ZxDQ => source_low(e, op, op.src_arg, Width::Q)?,
        SxBD | SxWQ | ZxBD | ZxWQ => source_low(e, op, op.src_arg, Width::D)?,
        SxBQ | ZxBQ => source_low(e, op, op.src_arg, Width::W)?,
    };
    let r = e.x_un(f, src);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// ADDxx to ADDSUBPx.
#[inline(always)]
pub fn fp_bin<E: Eval>(e: &mut E, op: &Op, f: FpBin, fp: Fp, src: Arg) -> Result<(), E::Stop> {
    let b = fp_source(e, op, fp, src)?;
    let a = e.xmm(op.dst);
    let r = e.fp_bin(f, fp, a, b)?;
    e.set_xmm(op.dst, r);
    Ok(())
}

fn fp_unary<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let fp = fp_of(op.sub2);
    let b = fp_source(e, op, fp, op.src_arg)?;
    let a = e.xmm(op.dst);
    let r = e.fp_un(fp_un_of(op.sub), fp, a, b, op.imm as u8)?;
    e.set_xmm(op.dst, r);
    Ok(())
}

/// CMPxx, and (U)COMISx, which sets ZF, PF and CF and clears the other arithmetic flags.
#[inline(always)]
fn fp_compare<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let fp = fp_of(op.sub2);
    let b = fp_source(e, op, fp, op.src_arg)?;
    let a = e.xmm(op.dst);
    if matches!(op.sub, COMI | UCOMI) {
        let bits = e.fp_comi(fp, op.sub == UCOMI, a, b)?;
        e.flags(FlagOp::Real, Width::Q, bits, bits, bits);
    } else {
        let r = e.fp_cmp(fp, a, b, op.sub)?;
        e.set_xmm(op.dst, r);
    }
    Ok(())
}

#[inline(always)]
fn fp_convert<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let r = match op.sub {
        TO_INT | TRUNCATE => {
            let fp = fp_of(op.sub2);
            let src = fp_source(e, op, fp, op.src_arg)?;
            let v = e.fp_to_int(fp, op.width, op.sub == TRUNCATE, src)?;
            e.set_reg(op.width, op.dst, v);
            return Ok(());
        }
        FROM_INT => {
            let v = if op.src_arg == Arg::Mem {
                load_low(e, op, op.width)?
            } else {
                e.reg(op.width, op.src)
            };
            let a = e.xmm(op.dst);
            e.fp_from_int(fp_of(op.sub2), op.width, a, v)?
        }
        sub => {
            let f = fp_cvt_of(sub);
            let b = match f {
                FpCvt::Ss2Sd => source_low(e, op, op.src_arg, Width::D)?,
                FpCvt::Sd2Ss | FpCvt::Ps2Pd | FpCvt::Dq2Pd => {
                    source_low(e, op, op.src_arg, Width::Q)?
                }
                _ => source(e, op, op.src_arg, true)?,
            };
            let a = e.xmm(op.dst);
            e.fp_convert(f, a, b)?
        }
    };
    e.set_xmm(op.dst, r);
    Ok(())
}

/// PEXTRx and EXTRACTPS: to memory as wide as the lane, to a register zero-extended.
fn vec_extract<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let w = op.width;
    let lane = op.imm as u8 & (16 / w.bytes() - 1) as u8;
    if op.dst_arg == Arg::Mem {
        let address = e.ea(op, w.bytes())?;
        let src = e.xmm(op.src);
        let v = e.x_lane(w, src, lane);
        return e.store(w, address, v);
    }
    let src = e.xmm(op.src);
    let v = e.x_lane(w, src, lane);
    let wide = w.max(Width::D);
    let v = if w < wide { e.zext(w, wide, v) } else { v };
    e.set_reg(wide, op.dst, v);
    Ok(())
}

/// PINSRx. A byte or word comes from the low bits of a general register.
fn vec_insert<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let w = op.width;
    if op.sub == LANE_AND_ZEROS {
        return insertps(e, op);
    }
    let v = if op.src_arg == Arg::Mem {
        load_low(e, op, w)?
    } else {
        let wide = w.max(Width::D);
        let v = e.reg(wide, op.src);
        if w < wide { e.trunc(wide, w, v) } else { v }
    };
    let lane = op.imm as u8 & (16 / w.bytes() - 1) as u8;
    let dst = e.xmm(op.dst);
    let r = e.x_with_lane(w, dst, lane, v);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// INSERTPS: the immediate has the source's lane (registers only), the destination's, and the lanes to clear.
fn insertps<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let imm = op.imm as u8;
    let v = if op.src_arg == Arg::Mem {
        load_low(e, op, Width::D)?
    } else {
        let src = e.xmm(op.src);
        e.x_lane(Width::D, src, imm >> 6)
    };
    let dst = e.xmm(op.dst);
    let r = e.x_with_lane(Width::D, dst, imm >> 4 & 3, v);
    let [lo, hi] = lane_mask(Width::D, u64::from(!imm & 15));
    let keep = e.x_const(lo, hi);
    let r = e.x_bin(VecBin::And, r, keep);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
#[inline(always)]
pub fn vec_mask<E: Eval>(e: &mut E, op: &Op, w: Width) -> Result<(), E::Stop> {
    let src = e.xmm(op.src);
    let v = e.x_mask(w, src);
    e.set_reg(Width::D, op.dst, v);
    Ok(())
}

/// PTEST: ZF and CF tell whether src & dst and src & !dst are zero.
fn vec_test<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let src = source(e, op, op.src_arg, true)?;
    let dst = e.xmm(op.dst);
    let both = e.x_bin(VecBin::And, dst, src);
    let only = e.x_bin(VecBin::AndNot, dst, src);
    let zf = flag(e, both, 6);
    let cf = flag(e, only, 0);
    let bits = e.or(Width::Q, zf, cf);
    e.flags(FlagOp::Real, Width::Q, bits, bits, bits);
    Ok(())
}

/// Bit `bit` of EFLAGS where `x` is zero.
fn flag<E: Eval>(e: &mut E, x: E::X, bit: u64) -> E::V {
    let zero = e.x_is_zero(x);
    let v = e.b_to(Width::Q, zero);
    let count = e.imm(Width::B, bit);
    e.shl(Width::Q, v, count)
}

/// (P)BLENDxx by XMM0's signs or by an immediate.
fn vec_blend<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let b = source(e, op, op.src_arg, true)?;
    let a = e.xmm(op.dst);
    let mask = if op.sub == BY_XMM0 {
        e.xmm(0)
    } else {
        let [lo, hi] = lane_mask(op.width, op.imm);
        e.x_const(lo, hi)
    };
    let r = e.x_blend(op.width, a, b, mask);
    e.set_xmm(op.dst, r);
    Ok(())
}

/// All ones in the lanes whose bit is set.
fn lane_mask(w: Width, bits: u64) -> [u64; 2] {
    let per = 64 / w.bits();
    [0, per].map(|from| {
        (0..per).fold(0, |m, i| {
            let on = bits >> (from + i) & 1 != 0;
            m | if on { w.mask() << (i * w.bits()) } else { 0 }
        })
    })
}

macro_rules! from_number {
    ($($name:ident -> $t:ident { $($v:ident)* })*) => {$(
        /// The operation that decoding put into `Op::sub` or `Op::sub2` as a number.
        #[inline(always)]
        pub const fn $name(n: u8) -> $t {
            const ALL: &[$t] = &[$($t::$v),*];
            ALL[n as usize]
        }
    )*};
}
from_number! {
    part -> Part {
        Load Store FromGeneral ToGeneral Merge Zero LoadLow LoadHigh StoreHigh HighToLow LowToHigh
    }
    fp_of -> Fp { Ss Sd Ps Pd }
    fp_bin_of -> FpBin { Add Sub Mul Div Min Max Hadd Hsub AddSub }
    fp_un_of -> FpUn { Sqrt Rcp Rsqrt Round }
    fp_cvt_of -> FpCvt { Ss2Sd Sd2Ss Ps2Pd Pd2Ps Dq2Ps Ps2Dq TPs2Dq Dq2Pd Pd2Dq TPd2Dq }
    vec_shift_of -> VecShift { SllW SllD SllQ SrlW SrlD SrlQ SraW SraD SllB SrlB }
    vec_shuf_of -> VecShuf { D Lw Hw Ps Pd Align DupLoD DupEvenS DupOddS }
    vec_un_of -> VecUn {
        AbsB AbsW AbsD SxBW SxBD SxBQ SxWD SxWQ SxDQ ZxBW ZxBD ZxBQ ZxWD ZxWQ ZxDQ MinPosUW
    }
    vec_bin_of -> VecBin {
        And Or Xor AndNot AddB AddW AddD AddQ SubB SubW SubD SubQ
        AddSatSB AddSatSW AddSatUB AddSatUW SubSatSB SubSatSW SubSatUB SubSatUW
        AvgUB AvgUW MinUB MaxUB MinSW MaxSW MinSB MaxSB MinUW MaxUW MinSD MaxSD MinUD MaxUD
        MulLoW MulHiSW MulHiUW MulLoD MulUDQ MulSDQ MaddWD MaddUBSW MulHrSW SadBW
        CmpEqB CmpEqW CmpEqD CmpEqQ CmpGtB CmpGtW CmpGtD CmpGtQ
        UnpackLoB UnpackLoW UnpackLoD UnpackLoQ UnpackHiB UnpackHiW UnpackHiD UnpackHiQ
        PackSSWB PackSSDW PackUSWB PackUSDW
        PshufB SignB SignW SignD HaddW HaddD HaddSatW HsubW HsubD HsubSatW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_the_operations() {
        assert_eq!(vec_bin_of(VecBin::HsubSatW as u8), VecBin::HsubSatW);
        assert_eq!(vec_bin_of(VecBin::CmpGtQ as u8), VecBin::CmpGtQ);
        assert_eq!(vec_bin_of(VecBin::MulHrSW as u8), VecBin::MulHrSW);
        assert_eq!(vec_un_of(VecUn::MinPosUW as u8), VecUn::MinPosUW);
        assert_eq!(vec_shuf_of(VecShuf::DupOddS as u8), VecShuf::DupOddS);
        assert_eq!(vec_shift_of(VecShift::SrlB as u8), VecShift::SrlB);
        assert_eq!(fp_cvt_of(FpCvt::TPd2Dq as u8), FpCvt::TPd2Dq);
        assert_eq!(part(Part::LowToHigh as u8), Part::LowToHigh);
    }

    #[test]
    fn immediate_blends_choose_lanes() {
        assert_eq!(lane_mask(Width::W, 0x81), [0xffff, 0xffff << 48]);
        assert_eq!(lane_mask(Width::Q, 2), [0, u64::MAX]);
    }
}
