//! MMX: functions of `Cpu` on the significands of the x87 registers.
//!
//! An MMX register is the low 64 bits of the *physical* x87 register of that number. Every MMX instruction sets TOP to
//! zero and, but for EMMS, all tags to "in use", and a register written gets all ones in its sign and exponent (Intel SDM vol. 1,
//! 9.2 and vol. 3A, 12). The arithmetic is that of the 128-bit verbs on the low half.

use crate::Fault;
use crate::cpu::Cpu;
use crate::eval::{Eval, FpCvt, VecBin};
use crate::exception::Stop;
use crate::interp::eval_vec::{X, x_bin, x_mask, x_shift, x_un};
use crate::op::{Arg, Op, Width};
use crate::semantics::sse::{vec_bin_of, vec_shift_of, vec_un_of};
use crate::semantics::x87;
use crate::state::cr;

type Done = Result<(), Stop>;

/// #UD for an emulated unit, #NM for a switched-off one, #MF for a pending exception; before anything else.
fn ready(cpu: &mut Cpu) -> Done {
    if cpu.state.cr0 & cr::CR0_EM != 0 {
        return Err(cpu.raise(Fault::UD));
    }
    x87::ready(cpu)
}

/// The unit becomes MMX's: all registers in use, TOP zero.
fn enter(cpu: &mut Cpu) {
    cpu.state.x87.status &= !x87::TOP;
    cpu.state.x87.tags = 0xff;
}

fn mm(cpu: &Cpu, r: u8) -> u64 {
    cpu.state.x87.regs[usize::from(r & 7)][0]
}

fn set_mm(cpu: &mut Cpu, r: u8, v: u64) {
    enter(cpu);
    cpu.state.x87.regs[usize::from(r & 7)] = [v, 0xffff];
}

/// The source: an MMX register, or memory of the operand's width.
fn source(cpu: &mut Cpu, op: &Op) -> Result<u64, Stop> {
    if op.src_arg == Arg::Mem {
        let address = cpu.ea(op, op.width.bytes())?;
        cpu.load(op.width, address)
    } else {
        Ok(mm(cpu, op.src))
    }
}

/// The operations of [`VecBin`] on 64 bits. Those whose lanes cross the halves of a 128-bit vector get both operands
/// side by side.
fn bin64(f: VecBin, a: u64, b: u64) -> u64 {
    use VecBin::*;
    let beside = [a, b];
    match f {
        PackSSWB | PackSSDW | PackUSWB | HaddW | HaddD | HaddSatW | HsubW | HsubD | HsubSatW => {
            x_bin(f, beside, [0; 2])[0]
        }
        UnpackHiB => x_bin(UnpackLoB, [a, 0], [b, 0])[1],
        UnpackHiW => x_bin(UnpackLoW, [a, 0], [b, 0])[1],
        UnpackHiD => x_bin(UnpackLoD, [a, 0], [b, 0])[1],
        PshufB => x_bin(f, [a, 0], [b & 0x8787_8787_8787_8787, 0])[0],
        _ => x_bin(f, [a, 0], [b, 0])[0],
    }
}

pub fn bin(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let b = source(cpu, op)?;
    let r = bin64(vec_bin_of(op.sub), mm(cpu, op.dst), b);
    set_mm(cpu, op.dst, r);
    Ok(())
}

pub fn un(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let b = source(cpu, op)?;
    set_mm(cpu, op.dst, x_un(vec_un_of(op.sub), [b, 0])[0]);
    Ok(())
}

pub fn shift_imm(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let a = mm(cpu, op.dst);
    set_mm(
        cpu,
        op.dst,
        x_shift(vec_shift_of(op.sub), [a, 0], op.imm)[0],
    );
    Ok(())
}

pub fn shift_reg(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let count = source(cpu, op)?;
    let a = mm(cpu, op.dst);
    set_mm(cpu, op.dst, x_shift(vec_shift_of(op.sub), [a, 0], count)[0]);
    Ok(())
}

/// MOVD and MOVQ into an MMX register.
pub fn load(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let v = source(cpu, op)?;
    set_mm(cpu, op.dst, v);
    Ok(())
}

/// MOVD, MOVQ and MOVNTQ from an MMX register to memory or to another.
pub fn store(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let v = mm(cpu, op.src);
    if op.dst_arg == Arg::Mem {
        let address = cpu.ea(op, op.width.bytes())?;
        cpu.store(op.width, address, v & op.width.mask())?;
        enter(cpu);
    } else {
        set_mm(cpu, op.dst, v);
    }
    Ok(())
}

pub fn from_general(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let v = cpu.reg(op.width, op.src);
    set_mm(cpu, op.dst, v);
    Ok(())
}

pub fn to_general(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    enter(cpu);
    let v = mm(cpu, op.src) & op.width.mask();
    cpu.set_reg(op.width, op.dst, v);
    Ok(())
}

pub fn pshufw(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let v = source(cpu, op)?;
    let word = |i: u64| v >> ((op.imm >> (2 * i) & 3) * 16) & 0xffff;
    let r = (0..4).fold(0, |r, i| r | word(i) << (16 * i));
    set_mm(cpu, op.dst, r);
    Ok(())
}

pub fn palignr(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let b = source(cpu, op)?;
    let both = u128::from(mm(cpu, op.dst)) << 64 | u128::from(b);
    let r = both.checked_shr(op.imm as u32 * 8).unwrap_or(0);
    set_mm(cpu, op.dst, r as u64);
    Ok(())
}

pub fn pextrw(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    enter(cpu);
    let v = mm(cpu, op.src) >> ((op.imm & 3) * 16) & 0xffff;
    cpu.set_reg(Width::D, op.dst, v);
    Ok(())
}

pub fn pinsrw(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let v = if op.src_arg == Arg::Mem {
        let address = cpu.ea(op, 2)?;
        cpu.load(Width::W, address)?
    } else {
        cpu.reg(Width::W, op.src)
    };
    let at = (op.imm & 3) * 16;
    let r = mm(cpu, op.dst) & !(0xffff << at) | v << at;
    set_mm(cpu, op.dst, r);
    Ok(())
}

pub fn pmovmskb(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    enter(cpu);
    let v = x_mask(Width::B, [mm(cpu, op.src), 0]);
    cpu.set_reg(Width::D, op.dst, v);
    Ok(())
}

pub fn maskmovq(cpu: &mut Cpu, op: &Op) -> Done {
    ready(cpu)?;
    let (data, mask) = (mm(cpu, op.dst), mm(cpu, op.src));
    super::sse_fn::masked_store(cpu, op, &data.to_le_bytes(), &mask.to_le_bytes())?;
    enter(cpu);
    Ok(())
}

pub fn movq2dq(cpu: &mut Cpu, op: &Op) -> Done {
    sse_ready(cpu)?;
    let v = mm(cpu, op.src);
    enter(cpu);
    cpu.set_xmm(op.dst, [v, 0]);
    Ok(())
}

pub fn movdq2q(cpu: &mut Cpu, op: &Op) -> Done {
    sse_ready(cpu)?;
    let v = cpu.xmm(op.src)[0];
    set_mm(cpu, op.dst, v);
    Ok(())
}

/// An instruction on both register files needs both to be usable.
fn sse_ready(cpu: &mut Cpu) -> Done {
    if cpu.state.cr4 & cr::CR4_OSFXSR == 0 {
        return Err(cpu.raise(Fault::UD));
    }
    ready(cpu)
}

/// CVTPI2PS: two integers into the low half, the high half kept.
pub fn cvtpi2ps(cpu: &mut Cpu, op: &Op) -> Done {
    let a = cpu.xmm(op.dst);
    let [lo, _] = from_mm(cpu, op, FpCvt::Dq2Ps)?;
    cpu.set_xmm(op.dst, [lo, a[1]]);
    Ok(())
}

/// CVTPI2PD.
pub fn cvtpi2pd(cpu: &mut Cpu, op: &Op) -> Done {
    let r = from_mm(cpu, op, FpCvt::Dq2Pd)?;
    cpu.set_xmm(op.dst, r);
    Ok(())
}

/// A conversion of two integers. Only a register operand turns the unit over to MMX.
fn from_mm(cpu: &mut Cpu, op: &Op, f: FpCvt) -> Result<X, Stop> {
    sse_ready(cpu)?;
    let b = source(cpu, op)?;
    let r = cpu.fp_convert(f, [0; 2], [b, 0])?;
    if op.src_arg == Arg::Reg {
        enter(cpu);
    }
    Ok(r)
}

pub fn cvtps2pi(cpu: &mut Cpu, op: &Op) -> Done {
    to_mm(cpu, op, FpCvt::Ps2Dq)
}
pub fn cvttps2pi(cpu: &mut Cpu, op: &Op) -> Done {
    to_mm(cpu, op, FpCvt::TPs2Dq)
}
pub fn cvtpd2pi(cpu: &mut Cpu, op: &Op) -> Done {
    to_mm(cpu, op, FpCvt::Pd2Dq)
}
pub fn cvttpd2pi(cpu: &mut Cpu, op: &Op) -> Done {
    to_mm(cpu, op, FpCvt::TPd2Dq)
}

/// Two lanes of an XMM register or memory into an MMX register: 8 bytes of floats, or an aligned vector of doubles.
fn to_mm(cpu: &mut Cpu, op: &Op, f: FpCvt) -> Done {
    sse_ready(cpu)?;
    let floats = matches!(f, FpCvt::Ps2Dq | FpCvt::TPs2Dq);
    let b = match op.src_arg {
        Arg::Mem if floats => [source(cpu, op)?, 0],
        Arg::Mem => {
            let address = cpu.ea(op, 16)?;
            cpu.load_x(address, true)?
        }
        // The high floats do not take part, so they must raise nothing.
        _ if floats => [cpu.xmm(op.src)[0], 0],
        _ => cpu.xmm(op.src),
    };
    let r = cpu.fp_convert(f, [0; 2], b)?;
    set_mm(cpu, op.dst, r[0]);
    Ok(())
}

/// EMMS: all registers empty.
pub fn emms(cpu: &mut Cpu, _: &Op) -> Done {
    ready(cpu)?;
    enter(cpu);
    cpu.state.x87.tags = 0;
    Ok(())
}
