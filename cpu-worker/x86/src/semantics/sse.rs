//! The meaning of the lifted SSE instructions, SSE to SSE4.2, and of the AVX and AVX2 instructions that are the same on three
//! operands or on two halves; what AVX has beyond those is in `avx`.
//!
//! The first source is `src1`: the destination itself, or what a VEX prefix names. [`Form`] says how wide an instruction is.
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
//! | VecShuffle, VecUnary | operation, or [`PERMIL_D`] | | | shuffle's immediate |
//! | FpBin, FpUnary | operation | [`Fp`] | | ROUNDxx's immediate |
//! | FpCompare | predicate (0 to 31), [`COMI`] or [`UCOMI`] | [`Fp`] | | |
//! | FpConvert | [`FpCvt`], [`TO_INT`], [`TRUNCATE`] or [`FROM_INT`] | [`Fp`] | of the integer | |
//! | VecExtract (dst a register or memory) | | | of the lane | lane |
//! | VecInsert | 0, or [`LANE_AND_ZEROS`]: INSERTPS | | of the lane | lane, or INSERTPS's |
//! | VecMask | | | of the lanes | |
//! | VecTest | 0, or [`TEST_SIGNS`] | | of the lanes | |
//! | VecBlend | [`BY_REG`] or [`BY_IMM`] | register of the mask | of the lanes | lanes taken from src |
//!
//! #UD and #NM for a switched-off unit are decided at decode, as the mode word tells.

use super::{avx, flag_bit};
use crate::eval::{Eval, Fp, FpBin, FpCvt, FpFma, FpUn, VecBin, VecShift, VecShuf, VecUn};
use crate::flags::FlagOp;
use crate::op::{Arg, Kind, Op, OpFlags, Reg, Width};

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
pub const COMI: u8 = 32;
pub const UCOMI: u8 = 33;
/// `sub` of FpConvert: the scalar conversions that touch general registers.
pub const TO_INT: u8 = 16;
pub const TRUNCATE: u8 = 17;
pub const FROM_INT: u8 = 18;
/// `sub` of VecInsert: INSERTPS.
pub const LANE_AND_ZEROS: u8 = 1;
/// `sub` of VecBlend.
pub const BY_REG: u8 = 0;
pub const BY_IMM: u8 = 1;
/// `sub` of VecTest: VTESTPS and VTESTPD.
pub const TEST_SIGNS: u8 = 1;
/// `sub` of VecShuffle: VPERMILPD by an immediate.
pub const PERMIL_D: u8 = 16;

/// How wide an instruction is, and what becomes of the rest of its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// SSE: 128 bits, the upper half stays; vectors in memory must be aligned.
    Legacy,
    /// VEX: 128 bits, the upper half becomes zero.
    Vex,
    /// VEX: both halves.
    Wide,
}

impl Form {
    /// The form of a decoded instruction.
    #[inline(always)]
    pub const fn of(op: &Op) -> Form {
        if op.has(OpFlags::WIDE) {
            Form::Wide
        } else if op.has(OpFlags::VEX) {
            Form::Vex
        } else {
            Form::Legacy
        }
    }
}

/// Evaluates a lifted SSE or AVX instruction.
pub fn execute<E: Eval>(e: &mut E, op: &Op) -> Result<(), E::Stop> {
    let form = Form::of(op);
    match op.kind {
        Kind::MovX => mov_x(e, op, form, op.dst_arg, op.src_arg, op.sub & 1 != 0),
        Kind::MovPart => mov_part(e, op, form, part(op.sub), op.width),
        Kind::VecBin => vec_bin(e, op, form, vec_bin_of(op.sub), op.src_arg),
        Kind::VecShiftImm => vec_shift_imm(e, op, form, vec_shift_of(op.sub)),
        Kind::VecShiftReg => vec_shift_reg(e, op, form),
        Kind::VecShuffle => vec_shuffle(e, op, form),
        Kind::VecUnary => vec_unary(e, op, form),
        Kind::FpBin => fp_bin(e, op, form, fp_bin_of(op.sub), fp_of(op.sub2), op.src_arg),
        Kind::FpUnary => fp_unary(e, op, form),
        Kind::FpCompare => fp_compare(e, op, form),
        Kind::FpConvert => fp_convert(e, op, form),
        Kind::VecExtract => vec_extract(e, op),
        Kind::VecInsert => vec_insert(e, op, form),
        Kind::VecMask => vec_mask(e, op, form, op.width),
        Kind::VecTest => vec_test(e, op, form),
        Kind::VecBlend => vec_blend(e, op, form),
        Kind::VecYmm => avx::execute(e, op, form),
        Kind::FpFma => avx::fma(e, op, form),
        _ => unreachable!("{:?} is not a lifted SSE kind", op.kind),
    }
}

/// The source vector of 128 bits; in memory it is aligned unless VEX says that it need not be.
#[inline(always)]
pub(super) fn source<E: Eval>(e: &mut E, op: &Op, form: Form, arg: Arg) -> Result<E::X, E::Stop> {
    if arg == Arg::Mem {
        let address = e.ea(op, 16)?;
        e.load_x(address, form == Form::Legacy)
    } else {
        Ok(e.xmm(op.src))
    }
}

/// Both halves of the source.
#[inline(always)]
pub(super) fn source_wide<E: Eval>(e: &mut E, op: &Op, arg: Arg) -> Result<[E::X; 2], E::Stop> {
    if arg == Arg::Mem {
        let address = e.ea(op, 32)?;
        e.load_y(address, false)
    } else {
        Ok(both(e, op.src))
    }
}

/// Both halves of a register.
#[inline(always)]
pub(super) fn both<E: Eval>(e: &mut E, r: Reg) -> [E::X; 2] {
    [e.xmm(r), e.xmm_high(r)]
}

/// Writes the destination, of 128 bits.
#[inline(always)]
pub(super) fn put<E: Eval>(e: &mut E, op: &Op, form: Form, v: E::X) {
    e.set_xmm(op.dst, v);
    if form != Form::Legacy {
        let zero = e.x_const(0, 0);
        e.set_xmm_high(op.dst, zero);
    }
}

/// Writes both halves of the destination.
#[inline(always)]
pub(super) fn put_wide<E: Eval>(e: &mut E, op: &Op, [low, high]: [E::X; 2]) {
    e.set_xmm(op.dst, low);
    e.set_xmm_high(op.dst, high);
}

/// dst = f(half, src1, src) for the one half, or for each of the two.
#[inline(always)]
pub(super) fn lanes<E: Eval>(
    e: &mut E,
    op: &Op,
    form: Form,
    src: Arg,
    mut f: impl FnMut(&mut E, usize, E::X, E::X) -> Result<E::X, E::Stop>,
) -> Result<(), E::Stop> {
    if form == Form::Wide {
        let b = source_wide(e, op, src)?;
        let a = both(e, op.src1);
        let r = e.halves(|e, i| f(e, i, a[i], b[i]))?;
        put_wide(e, op, r);
    } else {
        let b = source(e, op, form, src)?;
        let a = e.xmm(op.src1);
        let r = f(e, 0, a, b)?;
        put(e, op, form, r);
    }
    Ok(())
}

/// As [`lanes`] for floating point, whose scalars may be anywhere in memory.
#[inline(always)]
fn fp_lanes<E: Eval>(
    e: &mut E,
    op: &Op,
    form: Form,
    fp: Fp,
    src: Arg,
    mut f: impl FnMut(&mut E, E::X, E::X) -> Result<E::X, E::Stop>,
) -> Result<(), E::Stop> {
    if let Some(w) = scalar_width(fp) {
        let b = source_low(e, op, src, w)?;
        let a = e.xmm(op.src1);
        let r = f(e, a, b)?;
        put(e, op, form, r);
        return Ok(());
    }
    lanes(e, op, form, src, |e, _, a, b| f(e, a, b))
}

#[inline(always)]
pub(super) const fn scalar_width(fp: Fp) -> Option<Width> {
    match fp {
        Fp::Ss => Some(Width::D),
        Fp::Sd => Some(Width::Q),
        Fp::Ps | Fp::Pd => None,
    }
}

/// The source as a vector of which only the low `w` bits count: a register, or so much memory.
#[inline(always)]
pub(super) fn source_low<E: Eval>(e: &mut E, op: &Op, arg: Arg, w: Width) -> Result<E::X, E::Stop> {
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

/// MOVAPS, MOVUPS, MOVDQA, MOVDQU, LDDQU, MOVNTxx.
#[inline(always)]
pub fn mov_x<E: Eval>(
    e: &mut E,
    op: &Op,
    form: Form,
    dst: Arg,
    src: Arg,
    aligned: bool,
) -> Result<(), E::Stop> {
    let bytes = if form == Form::Wide { 32 } else { 16 };
    if dst == Arg::Mem {
        let address = e.ea(op, bytes)?;
        if form == Form::Wide {
            let v = both(e, op.src);
            return e.store_y(address, aligned, v);
        }
        let v = e.xmm(op.src);
        return e.store_x(address, aligned, v);
    }
    match (src, form) {
        (Arg::Mem, Form::Wide) => {
            let address = e.ea(op, bytes)?;
            let v = e.load_y(address, aligned)?;
            put_wide(e, op, v);
        }
        (Arg::Mem, _) => {
            let address = e.ea(op, bytes)?;
            let v = e.load_x(address, aligned)?;
            put(e, op, form, v);
        }
        (_, Form::Wide) => {
            let v = both(e, op.src);
            put_wide(e, op, v);
        }
        _ => {
            let v = e.xmm(op.src);
            put(e, op, form, v);
        }
    }
    Ok(())
}

/// The partial moves.
#[inline(always)]
pub fn mov_part<E: Eval>(
    e: &mut E,
    op: &Op,
    form: Form,
    part: Part,
    w: Width,
) -> Result<(), E::Stop> {
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
            let a = e.xmm(op.src1);
            e.x_with_lane(q, a, (part == Part::LoadHigh).into(), v)
        }
    };
    put(e, op, form, x);
    Ok(())
}

#[inline(always)]
fn copy_lane<E: Eval>(e: &mut E, op: &Op, w: Width, from: u8, to: u8) -> E::X {
    let src = e.xmm(op.src);
    let a = e.xmm(op.src1);
    let v = e.x_lane(w, src, from);
    e.x_with_lane(w, a, to, v)
}

/// dst = src1 op src.
#[inline(always)]
pub fn vec_bin<E: Eval>(
    e: &mut E,
    op: &Op,
    form: Form,
    f: VecBin,
    src: Arg,
) -> Result<(), E::Stop> {
    lanes(e, op, form, src, |e, _, a, b| Ok(e.x_bin(f, a, b)))
}

#[inline(always)]
fn vec_shift_imm<E: Eval>(e: &mut E, op: &Op, form: Form, f: VecShift) -> Result<(), E::Stop> {
    let a = e.xmm(op.src1);
    let low = e.x_shift_imm(f, a, op.imm as u8);
    if form == Form::Wide {
        let a = e.xmm_high(op.src1);
        let high = e.x_shift_imm(f, a, op.imm as u8);
        put_wide(e, op, [low, high]);
    } else {
        put(e, op, form, low);
    }
    Ok(())
}

/// The count is the low half of the source, which is all the same a whole vector of 128 bits in memory.
fn vec_shift_reg<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let f = vec_shift_of(op.sub);
    let b = source(e, op, form, op.src_arg)?;
    let count = e.x_lane(Width::Q, b, 0);
    let a = e.xmm(op.src1);
    let low = e.x_shift(f, a, count);
    if form == Form::Wide {
        let a = e.xmm_high(op.src1);
        let high = e.x_shift(f, a, count);
        put_wide(e, op, [low, high]);
    } else {
        put(e, op, form, low);
    }
    Ok(())
}

/// Two-operand shuffles read src1 first; the others read src only. MOVDDUP of 128 bits reads 8 bytes of memory, unaligned.
#[inline(always)]
fn vec_shuffle<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let imm = op.imm as u8;
    if op.sub == PERMIL_D {
        return lanes(e, op, form, op.src_arg, |e, i, _, b| {
            Ok(e.x_shuf(VecShuf::Pd, b, b, imm >> (2 * i)))
        });
    }
    let f = vec_shuf_of(op.sub);
    if f == VecShuf::DupLoD && form != Form::Wide {
        let src = source_low(e, op, op.src_arg, Width::Q)?;
        let r = e.x_shuf(f, src, src, imm);
        put(e, op, form, r);
        return Ok(());
    }
    lanes(e, op, form, op.src_arg, |e, i, a, b| {
        let a = match f {
            VecShuf::Ps | VecShuf::Pd | VecShuf::Align => a,
            _ => b,
        };
        // SHUFPD alone has bits of its own for the upper half.
        let imm = if f == VecShuf::Pd {
            imm >> (2 * i)
        } else {
            imm
        };
        Ok(e.x_shuf(f, a, b, imm))
    })
}

/// PABSx and PHMINPOSUW read a vector; PMOVSX and PMOVZX as much memory as they need, unaligned.
fn vec_unary<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    use VecUn::*;
    let f = vec_un_of(op.sub);
    // How much of the source a half of the result needs.
    let w = match f {
        AbsB | AbsW | AbsD | MinPosUW => {
            return lanes(e, op, form, op.src_arg, |e, _, _, b| Ok(e.x_un(f, b)));
        }
        SxBW | SxWD | SxDQ | ZxBW | ZxWD | ZxDQ => Width::Q,
        SxBD | SxWQ | ZxBD | ZxWQ => Width::D,
        SxBQ | ZxBQ => Width::W,
    };
    if form == Form::Wide {
        let src = match w {
            Width::Q => source(e, op, form, op.src_arg)?,
            Width::D => source_low(e, op, op.src_arg, Width::Q)?,
            _ => source_low(e, op, op.src_arg, Width::D)?,
        };
        let rest = e.x_shift_imm(VecShift::SrlB, src, w.bytes() as u8);
        let r = [e.x_un(f, src), e.x_un(f, rest)];
        put_wide(e, op, r);
    } else {
        let src = source_low(e, op, op.src_arg, w)?;
        let r = e.x_un(f, src);
        put(e, op, form, r);
    }
    Ok(())
}

/// ADDxx to ADDSUBPx.
#[inline(always)]
pub fn fp_bin<E: Eval>(
    e: &mut E,
    op: &Op,
    form: Form,
    f: FpBin,
    fp: Fp,
    src: Arg,
) -> Result<(), E::Stop> {
    fp_lanes(e, op, form, fp, src, |e, a, b| e.fp_bin(f, fp, a, b))
}

fn fp_unary<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let (f, fp, imm) = (fp_un_of(op.sub), fp_of(op.sub2), op.imm as u8);
    fp_lanes(e, op, form, fp, op.src_arg, |e, a, b| {
        e.fp_un(f, fp, a, b, imm)
    })
}

/// CMPxx, and (U)COMISx, which sets ZF, PF and CF and clears the other arithmetic flags.
#[inline(always)]
fn fp_compare<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let fp = fp_of(op.sub2);
    if !matches!(op.sub, COMI | UCOMI) {
        return fp_lanes(e, op, form, fp, op.src_arg, |e, a, b| {
            e.fp_cmp(fp, a, b, op.sub)
        });
    }
    let w = scalar_width(fp).unwrap_or(Width::Q);
    let b = source_low(e, op, op.src_arg, w)?;
    let a = e.xmm(op.src1);
    let bits = e.fp_comi(fp, op.sub == UCOMI, a, b)?;
    e.flags(FlagOp::Real, Width::Q, bits, bits, bits);
    Ok(())
}

#[inline(always)]
fn fp_convert<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    match op.sub {
        TO_INT | TRUNCATE => {
            let fp = fp_of(op.sub2);
            let w = scalar_width(fp).unwrap_or(Width::Q);
            let src = source_low(e, op, op.src_arg, w)?;
            let v = e.fp_to_int(fp, op.width, op.sub == TRUNCATE, src)?;
            e.set_reg(op.width, op.dst, v);
        }
        FROM_INT => {
            let v = if op.src_arg == Arg::Mem {
                load_low(e, op, op.width)?
            } else {
                e.reg(op.width, op.src)
            };
            let a = e.xmm(op.src1);
            let r = e.fp_from_int(fp_of(op.sub2), op.width, a, v)?;
            put(e, op, form, r);
        }
        sub => return convert_vector(e, op, form, fp_cvt_of(sub)),
    }
    Ok(())
}

/// The conversions between vectors. Some double the width of a lane, some halve it.
#[inline(always)]
fn convert_vector<E: Eval>(e: &mut E, op: &Op, form: Form, f: FpCvt) -> Result<(), E::Stop> {
    let low = match f {
        FpCvt::Ss2Sd => Width::D,
        FpCvt::Sd2Ss | FpCvt::Ps2Pd | FpCvt::Dq2Pd => Width::Q,
        FpCvt::Pd2Ps | FpCvt::Pd2Dq | FpCvt::TPd2Dq if form == Form::Wide => {
            let b = source_wide(e, op, op.src_arg)?;
            let [x, y] = e.halves(|e, i| e.fp_convert(f, b[i], b[i]))?;
            let r = e.x_bin(VecBin::UnpackLoQ, x, y);
            put(e, op, Form::Vex, r);
            return Ok(());
        }
        _ => return lanes(e, op, form, op.src_arg, |e, _, a, b| e.fp_convert(f, a, b)),
    };
    if form == Form::Wide {
        let b = source(e, op, form, op.src_arg)?;
        let rest = e.x_shift_imm(VecShift::SrlB, b, 8);
        let b = [b, rest];
        let r = e.halves(|e, i| e.fp_convert(f, b[i], b[i]))?;
        put_wide(e, op, r);
    } else {
        let b = source_low(e, op, op.src_arg, low)?;
        let a = e.xmm(op.src1);
        let r = e.fp_convert(f, a, b)?;
        put(e, op, form, r);
    }
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
fn vec_insert<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let w = op.width;
    if op.sub == LANE_AND_ZEROS {
        return insertps(e, op, form);
    }
    let v = if op.src_arg == Arg::Mem {
        load_low(e, op, w)?
    } else {
        let wide = w.max(Width::D);
        let v = e.reg(wide, op.src);
        if w < wide { e.trunc(wide, w, v) } else { v }
    };
    let lane = op.imm as u8 & (16 / w.bytes() - 1) as u8;
    let a = e.xmm(op.src1);
    let r = e.x_with_lane(w, a, lane, v);
    put(e, op, form, r);
    Ok(())
}

/// INSERTPS: the immediate has the source's lane (registers only), the destination's, and the lanes to clear.
fn insertps<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let imm = op.imm as u8;
    let v = if op.src_arg == Arg::Mem {
        load_low(e, op, Width::D)?
    } else {
        let src = e.xmm(op.src);
        e.x_lane(Width::D, src, imm >> 6)
    };
    let a = e.xmm(op.src1);
    let r = e.x_with_lane(Width::D, a, imm >> 4 & 3, v);
    let [lo, hi] = lane_mask(Width::D, u64::from(!imm & 15));
    let keep = e.x_const(lo, hi);
    let r = e.x_bin(VecBin::And, r, keep);
    put(e, op, form, r);
    Ok(())
}

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
#[inline(always)]
pub fn vec_mask<E: Eval>(e: &mut E, op: &Op, form: Form, w: Width) -> Result<(), E::Stop> {
    let src = e.xmm(op.src);
    let v = e.x_mask(w, src);
    let v = if form == Form::Wide {
        let src = e.xmm_high(op.src);
        let high = e.x_mask(w, src);
        let count = e.imm(Width::B, (16 / w.bytes()).into());
        let high = e.shl(Width::D, high, count);
        e.or(Width::D, v, high)
    } else {
        v
    };
    e.set_reg(Width::D, op.dst, v);
    Ok(())
}

/// PTEST: ZF and CF tell whether src & src1 and src & !src1 are zero. VTESTPx (`sub`) asks that of their lanes' signs only.
fn vec_test<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let (a, b) = if form == Form::Wide {
        (both(e, op.src1), source_wide(e, op, op.src_arg)?)
    } else {
        let b = source(e, op, form, op.src_arg)?;
        let a = e.xmm(op.src1);
        // The one half twice asks the same question.
        ([a; 2], [b; 2])
    };
    let mut any = |f: VecBin| {
        let [x, y] = [0, 1].map(|i| e.x_bin(f, a[i], b[i]));
        let all = e.x_bin(VecBin::Or, x, y);
        if op.sub == TEST_SIGNS {
            let signs = e.x_mask(op.width, all);
            let zero = e.imm(Width::D, 0);
            e.eq(Width::D, signs, zero)
        } else {
            e.x_is_zero(all)
        }
    };
    let (zf, cf) = (any(VecBin::And), any(VecBin::AndNot));
    let zf = flag_bit(e, zf, 6);
    let cf = flag_bit(e, cf, 0);
    let bits = e.or(Width::Q, zf, cf);
    e.flags(FlagOp::Real, Width::Q, bits, bits, bits);
    Ok(())
}

/// (P)BLENDxx by the signs of the register `sub2` or by an immediate.
fn vec_blend<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let w = op.width;
    // Eight lanes have bits of their own in the immediate; PBLENDW's are the same in both halves.
    let per_half = if w == Width::W { 0 } else { 16 / w.bytes() };
    lanes(e, op, form, op.src_arg, |e, i, a, b| {
        let mask = match (op.sub, i) {
            (BY_IMM, _) => {
                let [lo, hi] = lane_mask(w, op.imm >> (per_half * i as u32));
                e.x_const(lo, hi)
            }
            (_, 0) => e.xmm(op.sub2),
            _ => e.xmm_high(op.sub2),
        };
        Ok(e.x_blend(w, a, b, mask))
    })
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
        SllVD SllVQ SrlVD SrlVQ SraVD PermilS PermilD
    }
    fp_fma_of -> FpFma { Add Sub NegAdd NegSub AddSub SubAdd }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_the_operations() {
        assert_eq!(vec_bin_of(VecBin::HsubSatW as u8), VecBin::HsubSatW);
        assert_eq!(vec_bin_of(VecBin::PermilD as u8), VecBin::PermilD);
        assert_eq!(fp_fma_of(FpFma::SubAdd as u8), FpFma::SubAdd);
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
