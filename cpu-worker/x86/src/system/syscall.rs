//! SYSCALL, SYSRET, SYSENTER, SYSEXIT and SWAPGS.

use crate::cpu::{Cpu, SHADOW_STEP};
use crate::exception::{Fault, Stop};
use crate::flags::{IF, RF, TF, VM};
use crate::interp::signed_48;
use crate::op::{Op, R11, RCX, RDX, RSP, Seg, Width};
use crate::state::{Segment, attr, cr, mode};
use crate::system::cpuid::Vendor;

const CODE_64: u16 = attr::P | attr::S | attr::L | attr::G | 0xb;
const CODE_32: u16 = attr::P | attr::S | attr::DB | attr::G | 0xb;
const DATA: u16 = attr::P | attr::S | attr::DB | attr::G | 3;

fn flat(selector: u16, rights: u16, dpl: u16) -> Segment {
    Segment {
        base: 0,
        limit: u32::MAX,
        attr: rights | dpl << attr::DPL_SHIFT,
        selector,
    }
}

fn set_flat(cpu: &mut Cpu, cs: u16, ss: u16, code: u16, dpl: u16) {
    cpu.state.seg[Seg::Cs as usize] = flat(cs, code, dpl);
    cpu.state.seg[Seg::Ss as usize] = flat(ss, DATA, dpl);
}

/// Whether SYSCALL and SYSRET are followed by a single-step trap is decided by TF as they leave it, so that a kernel that masks TF is not
/// stepped into, and the program finds its trap behind its SYSCALL. No manual says so, but kernels count on it: Linux never goes back by
/// SYSRET with TF set, because the trap would come before the program's next instruction.
fn settle_step(cpu: &mut Cpu) {
    cpu.no_step += 1;
    if cpu.state.rflags & TF != 0 {
        cpu.begin_shadow(SHADOW_STEP);
    }
}

/// SYSCALL. Outside 64-bit mode it is #UD on Intel's processors; on AMD's it goes to CSTAR from compatibility mode, and to the
/// 32-bit target in STAR where long mode is off (AMD64 Architecture Programmer's Manual vol. 3, SYSCALL).
pub(crate) fn syscall(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    let intel = cpu.model.vendor == Vendor::Intel;
    let s = &mut cpu.state;
    let (long, lma) = (s.mode & mode::LONG != 0, s.mode & mode::LMA != 0);
    if s.efer & cr::EFER_SCE == 0 || s.mode & mode::PROTECTED == 0 || intel && !long {
        return Err(cpu.raise(Fault::UD));
    }
    let base = (s.star >> 32) as u16;
    s.gpr[RCX as usize] = s.rip();
    if lma {
        s.gpr[R11 as usize] = s.eflags() & !RF;
        s.set_rip(if long { s.lstar } else { s.cstar });
        let flags = s.eflags() & !s.sfmask & !RF;
        s.set_eflags(flags);
    } else {
        s.set_rip(s.star & 0xffff_ffff);
        let flags = s.eflags() & !(IF | VM | RF);
        s.set_eflags(flags);
    }
    let code = if lma { CODE_64 } else { CODE_32 };
    set_flat(cpu, base & !3, (base & !3) + 8, code, 0);
    cpu.update_mode();
    settle_step(cpu);
    Ok(())
}

/// SYSRET to 64-bit (width Q) or 32-bit code; for who has it where, see [`syscall`].
pub(crate) fn sysret(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let intel = cpu.model.vendor == Vendor::Intel;
    let mode = cpu.state.mode;
    let here = mode & mode::LONG != 0 || !intel && mode & mode::PROTECTED != 0;
    if cpu.state.efer & cr::EFER_SCE == 0 || !here {
        return Err(cpu.raise(Fault::UD));
    }
    let target = cpu.state.gpr[RCX as usize];
    if cpu.state.cpl() != 0 || op.width == Width::Q && signed_48(target) != target {
        return Err(cpu.gp(0));
    }
    let s = &mut cpu.state;
    let flags = if mode & mode::LONG != 0 {
        s.gpr[R11 as usize] & !(RF | VM)
    } else {
        s.eflags() | IF
    };
    let base = (s.star >> 48) as u16;
    s.set_eflags(flags);
    if op.width == Width::Q {
        s.set_rip(target);
        set_flat(cpu, (base + 16) | 3, (base + 8) | 3, CODE_64, 3);
    } else {
        s.set_rip(target & 0xffff_ffff);
        set_flat(cpu, base | 3, (base + 8) | 3, CODE_32, 3);
    }
    cpu.update_mode();
    settle_step(cpu);
    if flags & IF != 0 {
        cpu.interrupts_unmasked();
    }
    Ok(())
}

/// SYSENTER. AMD's processors have it outside long mode only.
pub(crate) fn sysenter(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    let s = &mut cpu.state;
    let cs = s.sysenter_cs as u16;
    let lma = s.mode & mode::LMA != 0;
    if lma && cpu.model.vendor == Vendor::Amd {
        return Err(cpu.raise(Fault::UD));
    }
    if s.mode & mode::PROTECTED == 0 || cs & 0xfffc == 0 {
        return Err(cpu.gp(0));
    }
    s.rflags &= !(VM | IF | RF);
    s.gpr[RSP as usize] = s.sysenter_esp;
    s.set_rip(s.sysenter_eip);
    if !lma {
        s.gpr[RSP as usize] &= 0xffff_ffff;
        s.set_rip(s.sysenter_eip & 0xffff_ffff);
    }
    let code = if lma { CODE_64 } else { CODE_32 };
    set_flat(cpu, cs & !3, (cs & !3) + 8, code, 0);
    cpu.update_mode();
    Ok(())
}

/// SYSEXIT to 64-bit (width Q) or 32-bit code. AMD's processors, which have it outside long mode only, look at the privilege first.
pub(crate) fn sysexit(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let cs = cpu.state.sysenter_cs as u16;
    if cpu.state.mode & mode::LMA != 0 && cpu.model.vendor == Vendor::Amd {
        return Err(cpu.raise(Fault::UD));
    }
    if cpu.state.mode & mode::PROTECTED == 0 || cs & 0xfffc == 0 {
        return Err(cpu.gp(0));
    }
    let (rip, rsp) = (cpu.state.gpr[RDX as usize], cpu.state.gpr[RCX as usize]);
    if op.width == Width::Q {
        if signed_48(rip) != rip || signed_48(rsp) != rsp {
            return Err(cpu.gp(0));
        }
        cpu.state.set_rip(rip);
        cpu.state.gpr[RSP as usize] = rsp;
        set_flat(cpu, (cs + 32) | 3, (cs + 40) | 3, CODE_64, 3);
    } else {
        cpu.state.set_rip(rip & 0xffff_ffff);
        cpu.state.gpr[RSP as usize] = rsp & 0xffff_ffff;
        set_flat(cpu, (cs + 16) | 3, (cs + 24) | 3, CODE_32, 3);
    }
    cpu.update_mode();
    Ok(())
}

pub(crate) fn swapgs(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    if cpu.state.mode & mode::LONG == 0 {
        return Err(cpu.raise(Fault::UD));
    }
    cpu.require_cpl0()?;
    let s = &mut cpu.state;
    std::mem::swap(&mut s.kernel_gs_base, &mut s.seg[Seg::Gs as usize].base);
    Ok(())
}
