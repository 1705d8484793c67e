//! PUSHF, POPF, CLI, STI, software interrupts and HLT: what concerns EFLAGS beyond arithmetic.

use super::interrupt::Source;
use crate::cpu::{Cpu, SHADOW_STI};
use crate::eval::Eval;
use crate::exception::{Stop, Vector};
use crate::flags::{AC, IF, IOPL, OF, RF, TF, VIF, VIP, VM};
use crate::op::{Op, RSP, Width};
use crate::semantics::stack::{peek, push_value};
use crate::state::{cr, mode};

/// Who decides about the interrupt flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruptibility {
    /// The program: it reads and writes IF itself.
    Own,
    /// VIF stands for IF (virtual-8086 mode with CR4.VME, CPL 3 with CR4.PVI).
    Virtual,
    /// Neither: #GP(0).
    Denied,
}

impl Cpu {
    /// Whose the interrupt flag is in virtual-8086 mode, for the instructions that move all of FLAGS with operands of width `w`. With
    /// VME only the 16-bit forms go on (SDM vol. 3B, 21.3.3; table 21-2).
    pub(crate) fn v86_interruptibility(&self, w: Width) -> Interruptibility {
        let s = &self.state;
        if s.mode & mode::V86 == 0 || s.rflags & IOPL == IOPL {
            Interruptibility::Own
        } else if s.cr4 & cr::CR4_VME != 0 && w == Width::W {
            Interruptibility::Virtual
        } else {
            Interruptibility::Denied
        }
    }

    /// FLAGS as a virtual-8086 program sees them where VIF stands for IF: it believes that it has IOPL 3.
    pub(crate) fn virtual_flags_image(&self) -> u64 {
        let flags = self.state.eflags();
        let on = if flags & VIF != 0 { IF } else { 0 };
        (flags & !IF | IOPL | on) & 0xffff
    }

    /// #GP(0) for a FLAGS image that may not be loaded where VIF stands for IF: one that sets TF, or turns interrupts on while one waits.
    pub(crate) fn check_virtual_flags(&mut self, image: u64) -> Result<(), Stop> {
        if image & TF != 0 || image & IF != 0 && self.state.rflags & VIP != 0 {
            return Err(self.gp(0));
        }
        Ok(())
    }

    /// VIF takes the value that IF has in `image`.
    pub(crate) fn set_virtual_if(&mut self, image: u64) {
        let on = if image & IF != 0 { VIF } else { 0 };
        self.state.rflags = self.state.rflags & !VIF | on;
    }
}

/// Whose interrupt flag CLI and STI change (SDM vol. 2A, CLI; vol. 2B, STI).
fn interruptibility(cpu: &Cpu) -> Interruptibility {
    let s = &cpu.state;
    let iopl = ((s.rflags & IOPL) >> 12) as u8;
    let extension = if s.mode & mode::V86 != 0 {
        cr::CR4_VME
    } else {
        cr::CR4_PVI
    };
    if s.mode & mode::PROTECTED == 0 || s.cpl() <= iopl {
        Interruptibility::Own
    } else if s.cpl() == 3 && s.cr4 & extension != 0 {
        Interruptibility::Virtual
    } else {
        Interruptibility::Denied
    }
}

pub(crate) fn pushf(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let mut image = cpu.state.eflags() & !(VM | RF) & op.width.mask();
    match cpu.v86_interruptibility(op.width) {
        Interruptibility::Own => {}
        Interruptibility::Virtual => image = cpu.virtual_flags_image(),
        Interruptibility::Denied => return Err(cpu.gp(0)),
    }
    push_value(cpu, op, op.width, image)
}

pub(crate) fn popf(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let whose = cpu.v86_interruptibility(op.width);
    if whose == Interruptibility::Denied {
        return Err(cpu.gp(0));
    }
    let (image, sp) = peek(cpu, op, op.width, 0)?;
    let mut mask = cpu.writable_flags(op.width) & op.width.mask();
    if cpu.state.mode & mode::PROTECTED == 0 {
        mask |= IF | IOPL;
    }
    if whose == Interruptibility::Virtual {
        cpu.check_virtual_flags(image)?;
        cpu.set_virtual_if(image);
    }
    cpu.set_reg(op.stack_width(), RSP, sp);
    let before = cpu.state.rflags;
    cpu.replace_flags(image & !RF, mask);
    let changed = before ^ cpu.state.rflags;
    if changed & (AC | crate::flags::TF | RF) != 0 {
        cpu.update_mode_within();
    }
    if changed & IF != 0 {
        cpu.interrupts_unmasked();
    }
    Ok(())
}

pub(crate) fn cli(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    match interruptibility(cpu) {
        Interruptibility::Own => cpu.state.rflags &= !IF,
        Interruptibility::Virtual => cpu.state.rflags &= !VIF,
        Interruptibility::Denied => return Err(cpu.gp(0)),
    }
    Ok(())
}

/// STI: if interrupts were off, the next instruction still runs without one. That needs care only if one waits already, or if the
/// boundary after this instruction is one where events are due: at no other can an interrupt come up.
pub(crate) fn sti(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    match interruptibility(cpu) {
        Interruptibility::Own => {}
        Interruptibility::Virtual if cpu.state.rflags & VIP == 0 => {
            cpu.state.rflags |= VIF;
            return Ok(());
        }
        Interruptibility::Virtual | Interruptibility::Denied => return Err(cpu.gp(0)),
    }
    let s = &mut cpu.state;
    if s.rflags & IF == 0 {
        s.rflags |= IF;
        if s.clock.budget <= 0 || cpu.bus.interrupt_pending(&mut s.clock) {
            cpu.begin_shadow(SHADOW_STI);
        }
    }
    Ok(())
}

/// CLAC and STAC.
pub(crate) fn set_ac(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    if cpu.state.cpl() != 0 {
        return Err(cpu.raise(crate::exception::Fault::UD));
    }
    if op.sub != 0 {
        cpu.state.rflags |= AC;
    } else {
        cpu.state.rflags &= !AC;
    }
    cpu.update_mode_within();
    Ok(())
}

/// INT n (vector in `imm`), INT3, INTO and INT1 (told apart by `sub`).
pub(crate) fn int(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    match op.sub {
        0 if cpu.state.mode & mode::V86 != 0 => cpu.v86_interrupt(op.imm as u8),
        0 => cpu.software_interrupt(op.imm as u8, Source::Software),
        3 => cpu.software_interrupt(Vector::Breakpoint as u8, Source::Software),
        4 if cpu.state.flags.bits() & OF == 0 => Ok(()),
        4 => cpu.software_interrupt(Vector::Overflow as u8, Source::Software),
        _ => cpu.software_interrupt(Vector::Debug as u8, Source::Icebp),
    }
}

/// HLT. A waiting interrupt ends it at once, by the run loop.
pub(crate) fn hlt(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    cpu.state.halted = 1;
    cpu.state.shadow = 0;
    cpu.interrupts_unmasked();
    Err(Stop::Halt)
}

impl Cpu {
    /// #GP(0) unless CPL is 0.
    pub(crate) fn require_cpl0(&mut self) -> Result<(), Stop> {
        if self.state.cpl() != 0 {
            return Err(self.gp(0));
        }
        Ok(())
    }
}

/// FS, GS bases: RDFSBASE and its relatives; `sub` bit 0 GS, bit 1 write.
pub(crate) fn fs_gs_base(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    if cpu.state.cr4 & crate::state::cr::CR4_FSGSBASE == 0 {
        return Err(cpu.raise(crate::exception::Fault::UD));
    }
    let seg = if op.sub & 1 != 0 {
        crate::op::Seg::Gs
    } else {
        crate::op::Seg::Fs
    };
    if op.sub & 2 == 0 {
        let base = cpu.state.segment(seg).base & op.width.mask();
        cpu.set_reg(op.width, op.dst, base);
        return Ok(());
    }
    let base = cpu.reg(op.width, op.dst);
    if op.width == Width::Q && crate::interp::signed_48(base) != base {
        return Err(cpu.gp(0));
    }
    cpu.state.seg[seg as usize].base = base;
    Ok(())
}
