//! The evaluator: the verbs in which the lifted instructions are written.
//!
//! Rules for everybody who writes a meaning:
//! - guest values ([`Eval::V`], [`Eval::X`], [`Eval::B`]) are opaque: no Rust `if` on one, only [`Eval::select`] and
//!   [`Eval::raise_if`]. Fields of the `Op` are constants; Rust may branch on them.
//! - read, check and fault first; commit (set_reg, set_xmm, flags, store_back, transfers) last.
//! - `Width` arguments are constants of the instruction, so a monomorphised interpreter handler folds them.
//! - a `V` of width w is zero-extended in the interpreter and of the matching integer type in the translator; use
//!   `zext`, `sext` and `trunc` to change width.

pub use atoll_hostfp::{Fp, FpBin, FpCvt, FpFma, FpUn};

use crate::exception::Vector;
use crate::flags::FlagOp;
use crate::op::{Cond, Op, Reg, Seg, Width};

/// Lane-wise operations on two 128-bit vectors. The letter is the lane width: B, W, D, Q.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[rustfmt::skip]
pub enum VecBin {
    And, Or, Xor, /// !a & b
    AndNot,
    AddB, AddW, AddD, AddQ, SubB, SubW, SubD, SubQ,
    AddSatSB, AddSatSW, AddSatUB, AddSatUW, SubSatSB, SubSatSW, SubSatUB, SubSatUW,
    AvgUB, AvgUW, MinUB, MaxUB, MinSW, MaxSW, MinSB, MaxSB, MinUW, MaxUW, MinSD, MaxSD, MinUD, MaxUD,
    MulLoW, MulHiSW, MulHiUW, MulLoD, /// PMULUDQ
    MulUDQ, /// PMULDQ
    MulSDQ, /// PMADDWD
    MaddWD, /// PMADDUBSW
    MaddUBSW, /// PMULHRSW
    MulHrSW, /// PSADBW
    SadBW,
    CmpEqB, CmpEqW, CmpEqD, CmpEqQ, CmpGtB, CmpGtW, CmpGtD, CmpGtQ,
    UnpackLoB, UnpackLoW, UnpackLoD, UnpackLoQ, UnpackHiB, UnpackHiW, UnpackHiD, UnpackHiQ,
    PackSSWB, PackSSDW, PackUSWB, PackUSDW,
    PshufB, SignB, SignW, SignD, HaddW, HaddD, HaddSatW, HsubW, HsubD, HsubSatW,
    /// VPSLLVD and its relatives: each lane of a by its own lane of b
    SllVD, SllVQ, SrlVD, SrlVQ, SraVD, /// VPERMILPS by a vector: lanes of a chosen by b
    PermilS, /// VPERMILPD
    PermilD,
}

/// Lane-wise operations on one vector (PABSx, PMOVSX/ZX: source lanes from the low end).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[rustfmt::skip]
pub enum VecUn {
    AbsB, AbsW, AbsD,
    SxBW, SxBD, SxBQ, SxWD, SxWQ, SxDQ, ZxBW, ZxBD, ZxBQ, ZxWD, ZxWQ, ZxDQ,
    /// PHMINPOSUW
    MinPosUW,
}

/// Shifts of whole lanes by one count (counts at or above the lane width give 0, or the sign for Sra).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecShift {
    SllW,
    SllD,
    SllQ,
    SrlW,
    SrlD,
    SrlQ,
    SraW,
    SraD,
    /// PSLLDQ: whole vector by bytes
    SllB,
    /// PSRLDQ
    SrlB,
}

/// Shuffles by an immediate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecShuf {
    /// PSHUFD
    D,
    /// PSHUFLW
    Lw,
    /// PSHUFHW
    Hw,
    /// SHUFPS (dst, src)
    Ps,
    /// SHUFPD (dst, src)
    Pd,
    /// PALIGNR (dst, src)
    Align,
    /// MOVDDUP
    DupLoD,
    /// MOVSLDUP
    DupEvenS,
    /// MOVSHDUP
    DupOddS,
}

/// The verbs.
pub trait Eval {
    /// An integer of a stated width.
    type V: Copy;
    /// 128 bits.
    type X: Copy;
    /// A truth value.
    type B: Copy;
    /// A place in memory that has been checked for writing and can no longer fault.
    type Loc: Copy;
    /// Why evaluation of this instruction ends early.
    type Stop;

    // Constants and registers.
    fn imm(&mut self, w: Width, value: u64) -> Self::V;
    fn reg(&mut self, w: Width, r: Reg) -> Self::V;
    /// Writes a register as the architecture does: 32-bit writes clear the upper half (in every mode: it is unreachable outside
    /// 64-bit mode), 8- and 16-bit writes keep the rest.
    fn set_reg(&mut self, w: Width, r: Reg, v: Self::V);
    fn xmm(&mut self, r: Reg) -> Self::X;
    fn set_xmm(&mut self, r: Reg, v: Self::X);
    /// The upper half of a 256-bit register.
    fn xmm_high(&mut self, r: Reg) -> Self::X;
    fn set_xmm_high(&mut self, r: Reg, v: Self::X);
    /// The base of a segment, 64 bits.
    fn seg_base(&mut self, seg: Seg) -> Self::V;
    /// The address of the next instruction, as RIP (64 bits; EIP and IP zero-extended).
    fn next_rip(&mut self, op: &Op) -> Self::V;
    /// EFLAGS.DF and the like: ORs and ANDs constants into the non-arithmetic flags (CLD, STD only).
    fn set_df(&mut self, on: bool);

    // Integers.
    fn add(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn sub(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn and(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn or(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn xor(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    fn mul(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::V;
    /// Upper half of the unsigned (signed) product.
    fn mul_hi(&mut self, w: Width, signed: bool, a: Self::V, b: Self::V) -> Self::V;
    /// Quotient and remainder of (hi:lo) / d; #DE if d is zero or the quotient does not fit.
    fn div_rem(
        &mut self,
        w: Width,
        signed: bool,
        hi: Self::V,
        lo: Self::V,
        d: Self::V,
    ) -> Result<(Self::V, Self::V), Self::Stop>;
    fn not(&mut self, w: Width, a: Self::V) -> Self::V;
    /// Shifts and rotates. The count is of width B and below the width in bits.
    fn shl(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn shr(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn sar(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn rotl(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    fn rotr(&mut self, w: Width, a: Self::V, count: Self::V) -> Self::V;
    /// Leading and trailing zeros; the width in bits for zero.
    fn clz(&mut self, w: Width, a: Self::V) -> Self::V;
    fn ctz(&mut self, w: Width, a: Self::V) -> Self::V;
    fn popcnt(&mut self, w: Width, a: Self::V) -> Self::V;
    fn bswap(&mut self, w: Width, a: Self::V) -> Self::V;
    fn zext(&mut self, from: Width, to: Width, a: Self::V) -> Self::V;
    fn sext(&mut self, from: Width, to: Width, a: Self::V) -> Self::V;
    fn trunc(&mut self, from: Width, to: Width, a: Self::V) -> Self::V;

    // Truth.
    fn eq(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::B;
    fn ult(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::B;
    fn slt(&mut self, w: Width, a: Self::V, b: Self::V) -> Self::B;
    fn b_not(&mut self, a: Self::B) -> Self::B;
    fn b_and(&mut self, a: Self::B, b: Self::B) -> Self::B;
    fn b_or(&mut self, a: Self::B, b: Self::B) -> Self::B;
    /// 1 or 0.
    fn b_to(&mut self, w: Width, a: Self::B) -> Self::V;
    fn select(&mut self, w: Width, c: Self::B, a: Self::V, b: Self::V) -> Self::V;

    // Flags.
    /// The arithmetic flags become those of `op` (see [`FlagOp`]); a, b and result have width w, but for `Real` (Q) and packed
    /// bits in `a` (always width Q).
    fn flags(&mut self, op: FlagOp, w: Width, a: Self::V, b: Self::V, result: Self::V);
    /// As [`Eval::flags`] where `c` holds; otherwise the flags stay (shifts by a variable count).
    fn flags_if(
        &mut self,
        c: Self::B,
        op: FlagOp,
        w: Width,
        a: Self::V,
        b: Self::V,
        result: Self::V,
    );
    fn cond(&mut self, cond: Cond) -> Self::B;
    /// The arithmetic flags as EFLAGS bits, width Q.
    fn flag_bits(&mut self) -> Self::V;

    // Memory. Addresses are linear and of width Q; `ea` applies address size and segment base.
    /// The effective address of the memory operand, segment base included; checks limit and rights where the op says so.
    fn ea(&mut self, op: &Op, bytes: u32) -> Result<Self::V, Self::Stop>;
    /// The linear address of `bytes` at stack offset `sp` (width Q, already cut to the stack's width): adds the base of SS, and
    /// checks its limit and rights where the op says so.
    fn stack_ea(
        &mut self,
        op: &Op,
        sp: Self::V,
        bytes: u32,
        write: bool,
    ) -> Result<Self::V, Self::Stop>;
    fn load(&mut self, w: Width, address: Self::V) -> Result<Self::V, Self::Stop>;
    fn store(&mut self, w: Width, address: Self::V, value: Self::V) -> Result<(), Self::Stop>;
    /// Reads for a read-modify-write: the place is checked for writing first.
    fn load_rmw(&mut self, w: Width, address: Self::V) -> Result<(Self::V, Self::Loc), Self::Stop>;
    /// Completes a read-modify-write; cannot fault.
    fn store_rmw(&mut self, w: Width, loc: Self::Loc, value: Self::V);
    /// 16 bytes; `aligned` raises #GP(0) when the address is not a multiple of 16.
    fn load_x(&mut self, address: Self::V, aligned: bool) -> Result<Self::X, Self::Stop>;
    fn store_x(
        &mut self,
        address: Self::V,
        aligned: bool,
        value: Self::X,
    ) -> Result<(), Self::Stop>;
    /// 32 bytes, the low half first; `aligned` raises #GP(0) when the address is not a multiple of 32.
    fn load_y(&mut self, address: Self::V, aligned: bool) -> Result<[Self::X; 2], Self::Stop>;
    /// Writes both halves or none.
    fn store_y(
        &mut self,
        address: Self::V,
        aligned: bool,
        value: [Self::X; 2],
    ) -> Result<(), Self::Stop>;

    // Faults and transfers.
    fn raise_if(&mut self, c: Self::B, vector: Vector) -> Result<(), Self::Stop>;
    /// The last verb of a conditional relative branch; `rel` is relative to the next instruction. The target is cut to the operand size
    /// that near transfers have in this mode.
    fn branch(&mut self, op: &Op, c: Self::B, rel: u64);
    /// An unconditional relative jump (JMP, and CALL after its push).
    fn jump_rel(&mut self, op: &Op, rel: u64);
    /// #GP(0) if `target` (width Q, already cut to the operand size) is not canonical or beyond the limit of CS. Before any commit.
    fn check_target(&mut self, op: &Op, target: Self::V) -> Result<(), Self::Stop>;
    /// The last verb of RET and of JMP and CALL through a register or memory: jumps to a checked target.
    fn jump_to(&mut self, op: &Op, target: Self::V);

    // Vectors.
    fn x_const(&mut self, lo: u64, hi: u64) -> Self::X;
    fn x_bin(&mut self, op: VecBin, a: Self::X, b: Self::X) -> Self::X;
    fn x_un(&mut self, op: VecUn, a: Self::X) -> Self::X;
    /// Count of width Q; any value.
    fn x_shift(&mut self, op: VecShift, a: Self::X, count: Self::V) -> Self::X;
    fn x_shift_imm(&mut self, op: VecShift, a: Self::X, count: u8) -> Self::X;
    fn x_shuf(&mut self, op: VecShuf, a: Self::X, b: Self::X, imm: u8) -> Self::X;
    /// Lane `i` of width w; and the vector with it replaced.
    fn x_lane(&mut self, w: Width, a: Self::X, i: u8) -> Self::V;
    fn x_with_lane(&mut self, w: Width, a: Self::X, i: u8, v: Self::V) -> Self::X;
    /// Sign bits of the lanes of width w, width D (PMOVMSKB, MOVMSKPS, MOVMSKPD).
    fn x_mask(&mut self, w: Width, a: Self::X) -> Self::V;
    fn x_is_zero(&mut self, a: Self::X) -> Self::B;
    /// Lane-wise: where the sign bit of `mask`'s lane (width w) is set, b, else a.
    fn x_blend(&mut self, w: Width, a: Self::X, b: Self::X, mask: Self::X) -> Self::X;

    /// Both halves of a 256-bit operation. The floating-point exceptions of the two count as one instruction's: an unmasked one that
    /// is found before computing hides what either half raises after it.
    fn halves(
        &mut self,
        f: impl FnMut(&mut Self, usize) -> Result<Self::X, Self::Stop>,
    ) -> Result<[Self::X; 2], Self::Stop>;

    // Floating point, exact: results, NaNs, and the flags of MXCSR. An unmasked exception stops with #XM before anything is committed.
    fn fp_bin(&mut self, op: FpBin, fp: Fp, a: Self::X, b: Self::X) -> Result<Self::X, Self::Stop>;
    /// `a` gives the lanes that a scalar operation keeps; `imm` is ROUNDxx's.
    fn fp_un(
        &mut self,
        op: FpUn,
        fp: Fp,
        a: Self::X,
        b: Self::X,
        imm: u8,
    ) -> Result<Self::X, Self::Stop>;
    /// x * y + z, rounded once; scalar operations keep the rest of `keep`.
    fn fp_fma(
        &mut self,
        op: FpFma,
        fp: Fp,
        operands: [Self::X; 3],
        keep: Self::X,
    ) -> Result<Self::X, Self::Stop>;
    /// CMPxx with predicate 0 to 31: all-ones or zero lanes.
    fn fp_cmp(
        &mut self,
        fp: Fp,
        a: Self::X,
        b: Self::X,
        predicate: u8,
    ) -> Result<Self::X, Self::Stop>;
    /// UCOMISx (quiet) and COMISx: ZF, PF and CF as EFLAGS bits, width Q.
    fn fp_comi(
        &mut self,
        fp: Fp,
        quiet: bool,
        a: Self::X,
        b: Self::X,
    ) -> Result<Self::V, Self::Stop>;
    /// CVT(T)SS2SI and CVT(T)SD2SI to an integer of width w.
    fn fp_to_int(
        &mut self,
        fp: Fp,
        w: Width,
        truncate: bool,
        a: Self::X,
    ) -> Result<Self::V, Self::Stop>;
    /// CVTSI2SS and CVTSI2SD from an integer of width w into the low lane of `a`.
    fn fp_from_int(
        &mut self,
        fp: Fp,
        w: Width,
        a: Self::X,
        v: Self::V,
    ) -> Result<Self::X, Self::Stop>;
    /// The other conversions between vectors.
    fn fp_convert(&mut self, op: FpCvt, a: Self::X, b: Self::X) -> Result<Self::X, Self::Stop>;
}
