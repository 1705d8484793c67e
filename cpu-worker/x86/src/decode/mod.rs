//! From bytes to [`Op`], once per decoded block.
//!
//! iced-x86 reads the encoding; this module turns what it found into the operand forms, the effective-address recipe and
//! the handler that the engines use, and decides what is #UD on this CPU model (features) and in this mode (the mode
//! word). It knows no addresses: everything relative stays relative, so that one decoded block serves each virtual
//! address at which its physical bytes appear.
//!
//! One file a group: `integer` (lifted), `system` (functions of `Cpu`), `string`, `sse`, `vex`, `x87`.

mod integer;
mod mmx;
mod sse;
mod string;
mod system;
mod vex;
mod x87;

use iced_x86::{
    Decoder, DecoderError, DecoderOptions, Instruction, InstructionInfoFactory, MemorySize,
    Mnemonic, OpKind, Register,
};

use crate::cpu::Cpu;
use crate::exception::{Fault, Stop};
use crate::features::Features;
use crate::op::{AH, AddrSize, Arg, Kind, Op, OpFlags, RIP, Reg, Seg, Width, ZERO};
use crate::state::mode;

/// What decoding depends on besides the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ctx {
    /// The mode word, see [`crate::state::mode`].
    pub mode: u32,
    pub features: Features,
}

impl Ctx {
    /// Whether all of `features` are there.
    pub fn has(&self, features: Features) -> bool {
        self.features.contains(features)
    }
    /// Whether any of these bits of the mode word is set.
    pub fn is(&self, bits: u32) -> bool {
        self.mode & bits != 0
    }
    /// The operand size of near transfers and of the stack without prefixes, and of addresses: 16, 32 or 64.
    pub fn bitness(&self) -> u32 {
        if self.is(mode::LONG) {
            64
        } else if self.is(mode::CODE32) {
            32
        } else {
            16
        }
    }
}

/// Decodes the first instruction of `bytes`. None if it is longer than `bytes` (give it up to 15).
pub fn decode(bytes: &[u8], mode: u32, features: Features) -> Option<Op> {
    let c = Ctx { mode, features };
    let mut decoder = Decoder::with_ip(c.bitness(), bytes, 0, options(&c));
    let mut i = Instruction::default();
    decoder.decode_out(&mut i);
    if i.is_invalid() {
        if decoder.last_error() == DecoderError::NoMoreBytes && bytes.len() < 15 {
            return None;
        }
        // An instruction of more than 15 bytes is #GP(0), not #UD (SDM vol. 2A, 2.3.11).
        let too_long =
            decoder.last_error() == DecoderError::NoMoreBytes || is_too_long(&i, &c, bytes);
        let handler = if too_long { raise_gp } else { raise_ud };
        return Some(Op {
            run: handler,
            kind: Kind::Invalid,
            len: i.len().clamp(1, 15) as u8,
            flags: OpFlags::ENDS_BLOCK,
            ..Op::EMPTY
        });
    }
    let op = if vex::is_vex(&i) {
        vex::decode(&i, &c)
    } else {
        legacy(&i, &c, bytes)
    };
    Some(op.unwrap_or_else(|| invalid(&i, &c)))
}

/// The instruction, which has no VEX prefix.
fn legacy(i: &Instruction, c: &Ctx, bytes: &[u8]) -> Option<Op> {
    integer::decode(i, c)
        .or_else(|| string::decode(i, c))
        .or_else(|| sse::decode(i, c))
        .or_else(|| x87::decode(i, c, bytes))
        .or_else(|| system::decode(i, c))
}

/// Whether what is invalid is so for its length: iced reads on to the limit then. One of just 15 bytes may also be a LOCK that is not
/// allowed, which decodes without that check.
fn is_too_long(i: &Instruction, c: &Ctx, bytes: &[u8]) -> bool {
    let options = options(c) | DecoderOptions::NO_INVALID_CHECK;
    i.len() >= 15
        && Decoder::with_ip(c.bitness(), bytes, 0, options)
            .decode()
            .is_invalid()
}

fn options(c: &Ctx) -> u32 {
    let mut o = DecoderOptions::NO_WBNOINVD;
    if !c.has(Features::BMI1) {
        o |= DecoderOptions::NO_MPFX_0FBC;
    }
    if !c.has(Features::LZCNT) {
        o |= DecoderOptions::NO_MPFX_0FBD;
    }
    if !c.has(Features::LAHF_LM) {
        o |= DecoderOptions::NO_LAHF_SAHF_64;
    }
    o
}

fn raise_ud(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    Err(cpu.raise(Fault::UD))
}

fn raise_gp(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    Err(cpu.raise(Fault::GP0))
}

/// The instruction that raises #UD.
pub(crate) fn invalid(i: &Instruction, c: &Ctx) -> Op {
    let mut op = template(i, c);
    op.kind = Kind::Invalid;
    op.flags |= OpFlags::ENDS_BLOCK;
    op.run = raise_ud;
    op
}

/// An instruction that is a function of `Cpu`: everything that is common is filled in, operands are not.
pub(crate) fn function(i: &Instruction, c: &Ctx, kind: Kind, run: crate::op::Handler) -> Op {
    let mut op = template(i, c);
    op.kind = kind;
    op.run = run;
    if kind == Kind::System {
        op.flags |= OpFlags::ENDS_BLOCK;
    }
    op
}

/// The part of an [`Op`] that does not depend on the kind: length, prefixes, memory operand, modes.
pub(crate) fn template(i: &Instruction, c: &Ctx) -> Op {
    let mut op = Op {
        len: i.len() as u8,
        addr: match c.bitness() {
            64 => AddrSize::A64,
            32 => AddrSize::A32,
            _ => AddrSize::A16,
        },
        ..Op::EMPTY
    };
    op.flags.set(OpFlags::LOCK, i.has_lock_prefix());
    op.flags
        .set(OpFlags::REP, i.has_rep_prefix() || i.has_repe_prefix());
    op.flags.set(OpFlags::REPNE, i.has_repne_prefix());
    op.flags.set(OpFlags::LONG, c.is(mode::LONG));
    op.flags
        .set(OpFlags::STACK_WIDE, c.is(mode::LONG | mode::STACK32));
    if !c.is(mode::FLAT) || c.is(mode::ALIGN) {
        op.flags |= OpFlags::SEG_CHECK;
        if !c.is(mode::FLAT) {
            op.flags |= OpFlags::SEG_BASE;
        }
    }
    if i.op_kinds().any(|k| k == OpKind::Memory) {
        memory_operand(i, c, &mut op);
    }
    op
}

/// Fills in base, index, displacement, address size and segment.
fn memory_operand(i: &Instruction, c: &Ctx, op: &mut Op) {
    let base = i.memory_base();
    let index = i.memory_index();
    op.scale = i.memory_index_scale().trailing_zeros() as u8;
    op.disp = i.memory_displacement64() as i64;
    op.addr = match (base, index) {
        (Register::RIP, _) | (Register::None, Register::None) if c.is(mode::LONG) => {
            match i.memory_displ_size() {
                4 if base == Register::None => AddrSize::A32,
                _ => AddrSize::A64,
            }
        }
        (Register::None, Register::None) => match i.memory_displ_size() {
            2 => AddrSize::A16,
            _ => AddrSize::A32,
        },
        (Register::EIP, _) => AddrSize::A32,
        // A vector of indices says nothing of the addresses.
        (Register::None, r) if r.is_vector_register() => match i.memory_displ_size() {
            8 => AddrSize::A64,
            _ => AddrSize::A32,
        },
        (Register::None, r) | (r, _) => match r.size() {
            2 => AddrSize::A16,
            4 => AddrSize::A32,
            _ => AddrSize::A64,
        },
    };
    if matches!(base, Register::RIP | Register::EIP) {
        // iced gives the target for an instruction at address 0, this wants the distance from the next one.
        op.base = RIP;
        op.disp = op.disp.wrapping_sub(i.len() as i64);
        if base == Register::EIP {
            op.disp = op.disp as i32 as i64;
        }
    } else {
        op.base = address_register(base);
        op.index = address_register(index);
        match op.addr {
            AddrSize::A16 => op.disp = op.disp as i16 as i64,
            AddrSize::A32 => op.disp = op.disp as i32 as i64,
            AddrSize::A64 => {}
        }
    }
    if op.addr != AddrSize::A64 {
        op.flags |= OpFlags::ADDR_CUT;
    }
    op.seg = segment(i.memory_segment());
    if c.is(mode::LONG) && !matches!(op.seg, Seg::Fs | Seg::Gs) {
        // CS, DS, ES and SS overrides are ignored; what is left of the segment is which fault a bad address gives.
        op.seg = match op.base {
            4 | 5 => Seg::Ss,
            _ => Seg::Ds,
        };
    }
    apply_segment(c, op);
    if op.has(OpFlags::SEG_CHECK) {
        op.flags.set(OpFlags::WRITES, is_written(i));
    }
}

/// Whether the memory operand is written. ARPL, which may leave it alone, looks for itself.
fn is_written(i: &Instruction) -> bool {
    use iced_x86::OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    let Some(n) = i.op_kinds().position(|k| k == OpKind::Memory) else {
        return false;
    };
    let access = InstructionInfoFactory::new().info(i).op_access(n as u32);
    let writes = matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite);
    writes && i.mnemonic() != Mnemonic::Arpl
}

/// Says for `op.seg` whether a base is to be added and limits are to be checked.
pub(crate) fn apply_segment(c: &Ctx, op: &mut Op) {
    if matches!(op.seg, Seg::Fs | Seg::Gs) {
        op.flags |= OpFlags::SEG_BASE;
    }
    // Flat says nothing of FS and GS, nor that CS may be written.
    if matches!(op.seg, Seg::Fs | Seg::Gs | Seg::Cs) && !c.is(mode::LONG) {
        op.flags |= OpFlags::SEG_CHECK;
    }
    // However flat it is, code cannot be written.
    if op.seg == Seg::Cs && !c.is(mode::LONG) {
        op.flags |= OpFlags::SEG_BASE | OpFlags::SEG_CHECK;
    }
}

fn address_register(r: Register) -> Reg {
    if r == Register::None {
        ZERO
    } else {
        r.number() as Reg
    }
}

/// A segment register by its iced name.
pub(crate) fn segment(r: Register) -> Seg {
    match r {
        Register::ES => Seg::Es,
        Register::CS => Seg::Cs,
        Register::SS => Seg::Ss,
        Register::FS => Seg::Fs,
        Register::GS => Seg::Gs,
        _ => Seg::Ds,
    }
}

/// A general register's number, AH to BH being 32 to 35.
pub(crate) fn general(r: Register) -> Reg {
    if r.is_gpr8() {
        let n = r as u8 - Register::AL as u8;
        return match n {
            0..=3 => n,
            4..=7 => n - 4 + AH,
            _ => n - 4,
        };
    }
    r.number() as Reg
}

/// A width by its bytes.
pub(crate) fn width_of_bytes(bytes: usize) -> Width {
    match bytes {
        1 => Width::B,
        2 => Width::W,
        4 => Width::D,
        _ => Width::Q,
    }
}

/// The width of operand `n`, which is a register or memory.
pub(crate) fn operand_width(i: &Instruction, n: u32) -> Width {
    match i.op_kind(n) {
        OpKind::Register => width_of_bytes(i.op_register(n).size()),
        _ if i.memory_size() == MemorySize::Unknown => Width::D,
        _ => width_of_bytes(i.memory_size().size()),
    }
}

/// The default operand size of instructions whose size comes from the code segment (and the 66h prefix, which iced has seen).
pub(crate) fn code_width(c: &Ctx) -> Width {
    match c.bitness() {
        64 => Width::Q,
        32 => Width::D,
        _ => Width::W,
    }
}

/// Where operand `n` is; an immediate goes into `op.imm`, cut to the operand's width.
pub(crate) fn operand(i: &Instruction, n: u32, op: &mut Op) -> (Arg, Reg) {
    match i.op_kind(n) {
        OpKind::Register => {
            let r = i.op_register(n);
            let number = if r.is_gpr() {
                general(r)
            } else {
                r.number() as Reg
            };
            (Arg::Reg, number)
        }
        OpKind::Memory => (Arg::Mem, 0),
        _ => {
            op.imm = i.immediate(n) & op.width.mask();
            (Arg::Imm, 0)
        }
    }
}

/// Sets the destination from operand `n`.
pub(crate) fn set_dst(i: &Instruction, n: u32, op: &mut Op) {
    (op.dst_arg, op.dst) = operand(i, n, op);
}

/// Sets the source from operand `n`.
pub(crate) fn set_src(i: &Instruction, n: u32, op: &mut Op) {
    (op.src_arg, op.src) = operand(i, n, op);
}
