//! A decoded instruction, as both engines read it.
//!
//! [`Op`] is the product of decoding once: the kind, the operand forms, the effective-address recipe and the handler
//! that the interpreter calls. It holds no virtual address: relative targets stay relative, RIP-relative operands name
//! [`RIP`] as their base register.

use crate::cpu::Cpu;
use crate::exception::Stop;

/// An operand width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    B = 0,
    /// 16 bits.
    W = 1,
    /// 32 bits.
    D = 2,
    /// 64 bits.
    Q = 3,
}

impl Width {
    /// The width in bytes: 1, 2, 4 or 8.
    #[inline(always)]
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }
    /// The width in bits: 8, 16, 32 or 64.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }
    /// All ones in this width.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
    /// The top bit of this width.
    #[inline(always)]
    pub const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
}

/// A general register's number: 0 to 15 in the encoding's order (RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 ...), or,
/// with [`Width::B`] only, [`AH`] to [`BH`].
pub type Reg = u8;
/// The register that always reads zero: an absent base or index.
pub const ZERO: Reg = 16;
/// The instruction pointer, as a base of an effective address. Reads as the address of the *next* instruction.
pub const RIP: Reg = 17;
/// The high byte of RAX; AH + 1 to AH + 3 are CH, DH and BH.
pub const AH: Reg = 32;
/// The high byte of RBX.
pub const BH: Reg = 35;
pub const RAX: Reg = 0;
pub const RCX: Reg = 1;
pub const RDX: Reg = 2;
pub const RBX: Reg = 3;
pub const RSP: Reg = 4;
pub const RBP: Reg = 5;
pub const RSI: Reg = 6;
pub const RDI: Reg = 7;
pub const R11: Reg = 11;

/// Segment registers in the encoding's order; LDTR and TR follow, as the state keeps them in one array.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Seg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
    Ldtr = 6,
    Tr = 7,
}

/// Where an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Arg {
    /// No such operand.
    None,
    /// The general register in `Op::dst` or `Op::src` (also segment, control, XMM, MMX or x87 registers, as the kind says).
    Reg,
    /// Memory at the effective address.
    Mem,
    /// `Op::imm`, already sign- or zero-extended to the operand's width as the instruction says.
    Imm,
}

/// How the instruction's stack and near transfers are sized, and what its addresses are cut to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum AddrSize {
    A16 = 1,
    A32 = 2,
    A64 = 3,
}

bitflags::bitflags! {
    /// Prefixes and properties that the meaning needs.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct OpFlags: u16 {
        const LOCK = 1;
        const REP = 2;
        const REPNE = 4;
        /// The segment base must be added (FS or GS in 64-bit mode; any segment whose base may be non-zero elsewhere).
        const SEG_BASE = 8;
        /// The instruction ends a block: a branch, or one after which mode, mapping or interruptibility may differ.
        const ENDS_BLOCK = 16;
        /// Decoded for 64-bit mode.
        const LONG = 32;
        /// Stack pointer width is 32 or 64 (set) against 16 bits (clear).
        const STACK_WIDE = 64;
        /// The slow way to every memory operand: the segment's limit and rights must be checked (not flat), or alignment. Such an
        /// instruction is left to the interpreter.
        const SEG_CHECK = 128;
        /// The effective address is cut to 16 or 32 bits, see `Op::addr`.
        const ADDR_CUT = 256;
        /// VEX-encoded with vector registers: three operands, any alignment, and the part of the destination above what is written
        /// becomes zero.
        const VEX = 512;
        /// 256 bits wide.
        const WIDE = 1024;
        /// The memory operand is written; told only with [`OpFlags::SEG_CHECK`].
        const WRITES = 2048;
        /// Goes on somewhere else, perhaps in another mode, and does nothing beside that: SYSCALL, SYSRET, SYSENTER, SYSEXIT, IRET.
        const TRANSFERS = 4096;
    }
}

/// The interpreter's function for an instruction. RIP already points past the instruction.
pub type Handler = fn(&mut Cpu, &Op) -> Result<(), Stop>;

/// One decoded instruction. 48 bytes; read-only after decoding.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Op {
    /// Interpreter entry, resolved for the operand forms at decode.
    pub run: Handler,
    /// Immediate, relative branch displacement (sign-extended) or selector:offset.
    pub imm: u64,
    /// Displacement of the effective address, sign-extended (a full 64-bit address for MOV moffs).
    pub disp: i64,
    /// What it does; see [`Kind`].
    pub kind: Kind,
    pub flags: OpFlags,
    /// Operand width.
    pub width: Width,
    /// Width of the source where it differs (MOVZX, MOVSX, CVT...), or a sub-operation (x87, SSE predicate).
    pub width2: Width,
    /// Encoded length in bytes, 1 to 15.
    pub len: u8,
    pub dst_arg: Arg,
    pub dst: Reg,
    pub src_arg: Arg,
    pub src: Reg,
    /// The first source: `dst` itself, or with VEX the register that the prefix names.
    pub src1: Reg,
    /// Effective address: base + (index << scale) + disp; [`ZERO`] where absent.
    pub base: Reg,
    pub index: Reg,
    pub scale: u8,
    pub addr: AddrSize,
    pub seg: Seg,
    /// Kind-specific small operand: condition code, shift kind, vector operation, x87 register, second immediate.
    pub sub: u8,
    /// Second kind-specific operand (a third register operand, ENTER's level, EXTRQ-like immediates).
    pub sub2: u8,
}

impl Op {
    /// No operation of no length: what decoding starts from.
    pub const EMPTY: Op = Op {
        run: |_, _| Ok(()),
        imm: 0,
        disp: 0,
        kind: Kind::Nop,
        flags: OpFlags::empty(),
        width: Width::D,
        width2: Width::D,
        len: 0,
        dst_arg: Arg::None,
        dst: 0,
        src_arg: Arg::None,
        src: 0,
        src1: 0,
        base: ZERO,
        index: ZERO,
        scale: 0,
        addr: AddrSize::A64,
        seg: Seg::Ds,
        sub: 0,
        sub2: 0,
    };

    /// Whether any of these flags is set.
    #[inline(always)]
    pub const fn has(&self, flags: OpFlags) -> bool {
        self.flags.intersects(flags)
    }

    /// The width of the stack pointer.
    #[inline(always)]
    pub const fn stack_width(&self) -> Width {
        if self.has(OpFlags::LONG) {
            Width::Q
        } else if self.has(OpFlags::STACK_WIDE) {
            Width::D
        } else {
            Width::W
        }
    }
}

/// Condition codes in the encoding's order (Intel SDM vol. 1, appendix B).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Cond {
    O = 0,
    No = 1,
    B = 2,
    Ae = 3,
    E = 4,
    Ne = 5,
    Be = 6,
    A = 7,
    S = 8,
    Ns = 9,
    P = 10,
    Np = 11,
    L = 12,
    Ge = 13,
    Le = 14,
    G = 15,
}

impl Cond {
    /// The condition with this 4-bit encoding.
    pub const fn from_bits(bits: u8) -> Cond {
        use Cond::*;
        const ALL: [Cond; 16] = [O, No, B, Ae, E, Ne, Be, A, S, Ns, P, Np, L, Ge, Le, G];
        ALL[(bits & 15) as usize]
    }
}

/// What an instruction does. Lifted kinds (see [`Kind::is_lifted`]) are evaluated by `semantics::execute` in both
/// engines; all others only through [`Op::run`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
pub enum Kind {
    // --- lifted: integer ---
    Nop,
    Mov,
    /// dst.width = zero-extended src.width2.
    Movzx,
    /// dst.width = sign-extended src.width2 (MOVSX, MOVSXD, CBW/CWDE/CDQE).
    Movsx,
    Lea,
    Xchg,
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
    Inc,
    Dec,
    Neg,
    Not,
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
    Shld,
    Shrd,
    Bt,
    Bts,
    Btr,
    Btc,
    Bsf,
    Bsr,
    Tzcnt,
    Lzcnt,
    Popcnt,
    /// ANDN to SHRX; sub = `semantics::bmi::Bmi`.
    Bmi,
    Bswap,
    /// MOVBE.
    Movbe,
    Xadd,
    Cmpxchg,
    /// One-operand MUL/IMUL: RDX:RAX = RAX * src.
    Mul,
    Imul1,
    /// Two- and three-operand IMUL: dst = src * (dst or imm).
    Imul2,
    Imul3,
    /// DIV and IDIV of RDX:RAX.
    Div,
    Idiv,
    /// CWD, CDQ, CQO.
    Cwd,
    Cmovcc,
    Setcc,
    Push,
    Pop,
    Leave,
    Lahf,
    Sahf,
    Clc,
    Stc,
    Cmc,
    Cld,
    Std,
    // --- lifted: near transfers; block ends ---
    Jcc,
    Jmp,
    JmpInd,
    Call,
    CallInd,
    Ret,
    /// JRCXZ and LOOPcc are told apart by `sub`: 0 LOOPNE, 1 LOOPE, 2 LOOP, 3 JrCXZ.
    Loop,
    // --- lifted: SSE (sub = vector operation, see `eval::VecBin` and friends) ---
    /// 16-byte move; sub bit 0: alignment checked.
    MovX,
    /// MOVD/MOVQ/MOVSS/MOVSD/MOVHPS... partial moves; sub = `semantics::sse::Part`.
    MovPart,
    VecBin,
    VecShiftImm,
    VecShiftReg,
    VecShuffle,
    VecUnary,
    FpBin,
    FpUnary,
    FpCompare,
    FpConvert,
    VecExtract,
    VecInsert,
    VecMask,
    VecTest,
    VecBlend,
    /// Moves within and between 256-bit registers, broadcasts; sub = `semantics::avx::Ymm`.
    VecYmm,
    /// Fused multiply-add.
    FpFma,
    // --- functions of Cpu, the same in both engines ---
    /// A string instruction, with or without REP.
    String,
    /// x87, told apart by the handler.
    X87,
    /// MMX.
    Mmx,
    /// SSE and state instructions that stay functions (LDMXCSR, FXSAVE, XSAVE, AES, PCLMUL, string compare, ...).
    SseHelper,
    /// Other instructions that stay functions and after which code can go on unless `attention` says otherwise: CMPXCHG8B/16B, BOUND,
    /// ENTER, PUSHA, BCD, XLAT, CRC32, RDRAND, CLI, STI, POPF, SWAPGS, port I/O, MSRs ...
    Helper,
    /// Reads virtual time or a counter (RDTSC, RDTSCP, RDPMC).
    Time,
    /// May change mode or mapping: MOV CR/DR, far transfers, IRET, SYSCALL, HLT, descriptor tables, loads of SS, INT n, INVLPG, CPUID,
    /// WBINVD ... Always executed by the interpreter; ends a region.
    System,
    /// #UD.
    Invalid,
}

impl Kind {
    /// Whether the meaning is written over `Eval`.
    pub const fn is_lifted(self) -> bool {
        (self as u16) < Kind::String as u16
    }
}
