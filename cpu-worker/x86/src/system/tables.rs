//! Descriptor-table registers, and the instructions that look at descriptors (SDM vol. 3A, 2.4, 5.10).

use super::descriptor::{Descriptor, kind, selector_code};
use super::segments::null_segment;
use crate::cpu::{Cpu, cut};
use crate::eval::Eval;
use crate::exception::{Fault, Stop, Vector};
use crate::flags::{FlagOp, ZF};
use crate::interp::signed_48;
use crate::op::{Arg, Op, OpFlags, Seg, Width};
use crate::state::{TableReg, cr, mode};

/// The linear address of a memory operand without any check: INVLPG.
pub(crate) fn plain_address(cpu: &mut Cpu, op: &Op) -> u64 {
    let offset = crate::cpu::cut(op.addr, cpu.offset(op));
    let base = if op.has(OpFlags::SEG_BASE) {
        cpu.state.segment(op.seg).base
    } else {
        0
    };
    let address = offset.wrapping_add(base);
    if op.has(OpFlags::LONG) {
        address
    } else {
        address & 0xffff_ffff
    }
}

fn base_width(op: &Op) -> Width {
    if op.has(OpFlags::LONG) {
        Width::Q
    } else {
        Width::D
    }
}

impl Cpu {
    /// #GP(0) for SGDT, SIDT, SLDT, STR and SMSW in user mode with CR4.UMIP.
    pub(crate) fn check_umip(&mut self) -> Result<(), Stop> {
        if self.state.cr4 & cr::CR4_UMIP != 0 && self.state.cpl() != 0 {
            return Err(self.gp(0));
        }
        Ok(())
    }

    /// #UD in real and virtual-8086 mode.
    fn require_protected(&mut self) -> Result<(), Stop> {
        if self.real_segments() {
            return Err(self.raise(Fault::UD));
        }
        Ok(())
    }
}

/// A 16-bit source operand.
fn selector_operand(cpu: &mut Cpu, op: &Op) -> Result<u16, Stop> {
    let v = match op.src_arg {
        Arg::Reg => cpu.reg(Width::W, op.src),
        _ => {
            let at = cpu.ea(op, 2)?;
            cpu.load(Width::W, at)?
        }
    };
    Ok(v as u16)
}

/// Stores a selector: 16 bits to memory, zero-extended to a register.
fn store_selector(cpu: &mut Cpu, op: &Op, selector: u16) -> Result<(), Stop> {
    if op.dst_arg == Arg::Reg {
        cpu.set_reg(op.width, op.dst, selector as u64);
        return Ok(());
    }
    let at = cpu.ea(op, 2)?;
    cpu.store(Width::W, at, selector as u64)
}

/// SGDT and SIDT (`sub` 1).
pub(crate) fn store_table(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.check_umip()?;
    let t = if op.sub == 0 {
        cpu.state.gdtr
    } else {
        cpu.state.idtr
    };
    let w = base_width(op);
    let at = cpu.ea(op, 2 + w.bytes())?;
    cpu.check_store(at, 2 + w.bytes())?;
    cpu.store(Width::W, at, t.limit as u64)?;
    cpu.store(w, at.wrapping_add(2), t.base & w.mask())
}

/// LGDT and LIDT (`sub` 1). With 16-bit operands the base has 24 bits.
pub(crate) fn load_table(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let w = base_width(op);
    let at = cpu.ea(op, 2 + w.bytes())?;
    let limit = cpu.load(Width::W, at)? as u16;
    let mut base = cpu.load(w, at.wrapping_add(2))?;
    if op.width == Width::W {
        base &= 0xff_ffff;
    }
    if w == Width::Q && signed_48(base) != base {
        return Err(cpu.gp(0));
    }
    let t = TableReg { base, limit };
    if op.sub == 0 {
        cpu.state.gdtr = t;
    } else {
        cpu.state.idtr = t;
    }
    Ok(())
}

pub(crate) fn sldt(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    cpu.check_umip()?;
    store_selector(cpu, op, cpu.state.segment(Seg::Ldtr).selector)
}

pub(crate) fn str(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    cpu.check_umip()?;
    store_selector(cpu, op, cpu.state.segment(Seg::Tr).selector)
}

/// The segment that a system descriptor describes, 64-bit base included in long mode.
fn system_segment(
    cpu: &mut Cpu,
    selector: u16,
    d: Descriptor,
) -> Result<crate::state::Segment, Stop> {
    let mut s = d.segment(selector);
    if cpu.state.mode & mode::LMA != 0 {
        let high = cpu.read_descriptor_high(selector)?;
        s.base |= high << 32;
        if high >> 40 & 0x1f != 0 || signed_48(s.base) != s.base {
            return Err(cpu.gp(selector_code(selector)));
        }
    }
    Ok(s)
}

pub(crate) fn lldt(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    cpu.require_cpl0()?;
    let selector = selector_operand(cpu, op)?;
    if selector & 0xfffc == 0 {
        cpu.set_segment(Seg::Ldtr, null_segment(selector));
        return Ok(());
    }
    if selector & 4 != 0 {
        return Err(cpu.gp(selector_code(selector)));
    }
    let d = cpu.read_descriptor(selector, Vector::GeneralProtection)?;
    if d.is_segment() || d.system_type() != kind::LDT {
        return Err(cpu.gp(selector_code(selector)));
    }
    if !d.present() {
        return Err(cpu.not_present(selector));
    }
    let s = system_segment(cpu, selector, d)?;
    cpu.set_segment(Seg::Ldtr, s);
    Ok(())
}

pub(crate) fn ltr(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    cpu.require_cpl0()?;
    let selector = selector_operand(cpu, op)?;
    if selector & 0xfffc == 0 || selector & 4 != 0 {
        return Err(cpu.gp(selector_code(selector)));
    }
    let d = cpu.read_descriptor(selector, Vector::GeneralProtection)?;
    let lma = cpu.state.mode & mode::LMA != 0;
    let right = match d.system_type() {
        kind::TSS32 => true,
        kind::TSS16 => !lma,
        _ => false,
    };
    if d.is_segment() || !right {
        return Err(cpu.gp(selector_code(selector)));
    }
    if !d.present() {
        return Err(cpu.not_present(selector));
    }
    let mut s = system_segment(cpu, selector, d)?;
    cpu.rewrite_type(selector, d, 2, 0)?;
    s.attr |= 2;
    cpu.set_segment(Seg::Tr, s);
    Ok(())
}

fn set_zf(cpu: &mut Cpu, on: bool) {
    let bits = cpu.flag_bits() & !ZF | if on { ZF } else { 0 };
    cpu.flags(FlagOp::Real, Width::Q, bits, bits, bits);
}

/// The descriptor that VERR, VERW, LAR and LSL look at, if privilege allows; conforming code is open to all.
fn visible_descriptor(cpu: &mut Cpu, selector: u16) -> Result<Option<Descriptor>, Stop> {
    if selector & 0xfffc == 0 {
        return Ok(None);
    }
    let Some(d) = cpu.try_descriptor(selector)? else {
        return Ok(None);
    };
    let open = d.is_code() && d.is_conforming();
    let allowed = open || d.dpl() >= cpu.state.cpl() && d.dpl() >= selector as u8 & 3;
    Ok(allowed.then_some(d))
}

/// VERR and VERW (`sub` 1).
pub(crate) fn verify(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    let selector = selector_operand(cpu, op)?;
    let d = visible_descriptor(cpu, selector)?;
    let good = d.is_some_and(|d| {
        d.is_segment()
            && if op.sub == 0 {
                !d.is_code() || d.bit_1()
            } else {
                d.is_writable_data()
            }
    });
    set_zf(cpu, good);
    Ok(())
}

/// LAR and LSL (`sub` 1).
pub(crate) fn load_rights(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    let selector = selector_operand(cpu, op)?;
    let lma = cpu.state.mode & mode::LMA != 0;
    let limit = op.sub == 1;
    let valid = |d: &Descriptor| {
        d.is_segment()
            || match d.system_type() {
                kind::TSS16 | kind::TSS16_BUSY => !lma,
                kind::LDT | kind::TSS32 | kind::TSS32_BUSY => true,
                kind::CALL16 | kind::TASK => !limit && !lma,
                kind::CALL32 => !limit,
                _ => false,
            }
    };
    let d = visible_descriptor(cpu, selector)?.filter(valid);
    if let Some(d) = d {
        let v = if limit {
            d.limit() as u64
        } else {
            (d.0 >> 32) & 0xff_ff00
        };
        cpu.set_reg(op.width, op.dst, v & op.width.mask());
    }
    set_zf(cpu, d.is_some());
    Ok(())
}

/// ARPL: raises the destination's RPL to the source's.
pub(crate) fn arpl(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_protected()?;
    let rpl = cpu.reg(Width::W, op.src) & 3;
    let raise = |v: u64| (v & 3 < rpl).then_some(v & !3 | rpl);
    let raised = if op.dst_arg == Arg::Mem {
        // A selector that stays is not written.
        let at = cpu.ea(op, 2)?;
        let new = raise(cpu.load(Width::W, at)?);
        if let Some(v) = new {
            let offset = cut(op.addr, cpu.offset(op));
            let at = cpu.linear(op.seg, offset, 2, true)?;
            cpu.store(Width::W, at, v)?;
        }
        new
    } else {
        let new = raise(cpu.reg(Width::W, op.dst));
        if let Some(v) = new {
            cpu.set_reg(Width::W, op.dst, v);
        }
        new
    };
    set_zf(cpu, raised.is_some());
    Ok(())
}
