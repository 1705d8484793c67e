//! PUSHF, POPF, CLI, STI, software interrupts and HLT: what concerns EFLAGS beyond arithmetic.

use super::interrupt::Source;
use crate::cpu::{Cpu, SHADOW_STI};
use crate::eval::Eval;
use crate::exception::{Stop, Vector};
use crate::flags::{AC, IF, IOPL, OF, RF, VM};
use crate::op::{Op, RSP, Width};
use crate::semantics::stack::{peek, push_value};
use crate::state::mode;

/// #GP(0) in virtual-8086 mode with IOPL below 3.
fn check_v86(cpu: &mut Cpu) -> Result<(), Stop> {
    if cpu.state.mode & mode::V86 != 0 && cpu.state.rflags & IOPL != IOPL {
        return Err(cpu.gp(0));
    }
    Ok(())
}

/// CLI and STI are allowed at CPL <= IOPL.
fn check_iopl(cpu: &mut Cpu) -> Result<(), Stop> {
    let iopl = ((cpu.state.rflags & IOPL) >> 12) as u8;
    if cpu.state.mode & mode::PROTECTED != 0 && cpu.state.cpl() > iopl {
        return Err(cpu.gp(0));
    }
    Ok(())
}

pub(crate) fn pushf(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    check_v86(cpu)?;
    let image = cpu.state.eflags() & !(VM | RF) & op.width.mask();
    push_value(cpu, op, op.width, image)
}

pub(crate) fn popf(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    check_v86(cpu)?;
    let (image, sp) = peek(cpu, op, op.width, 0)?;
    let mut mask = cpu.writable_flags(op.width) & op.width.mask();
    if cpu.state.mode & mode::PROTECTED == 0 {
        mask |= IF | IOPL;
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
    check_iopl(cpu)?;
    cpu.state.rflags &= !IF;
    Ok(())
}

/// STI: if interrupts were off, the next instruction still runs without one. That needs care only if one waits already, or if the
/// boundary after this instruction is one where events are due: at no other can an interrupt come up.
pub(crate) fn sti(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    check_iopl(cpu)?;
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
        0 => {
            check_v86(cpu)?;
            cpu.software_interrupt(op.imm as u8, Source::Software)
        }
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
