//! IRET in every mode, and the reading of far frames that RETF shares (SDM vol. 2A, IRET).

use super::descriptor::selector_code;
use super::flags::Interruptibility;
use super::segments::null_segment;
use super::task::{Why, v86_segment};
use crate::bus::attention;
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop, Vector};
use crate::flags::{self, AC, ARITH, DF, ID, IF, IOPL, NT, RF, TF, VIF, VIP, VM};
use crate::op::{Op, OpFlags, RSP, Seg, Width};
use crate::state::{Segment, attr, mode};

/// Reads successive values off the stack without moving the stack pointer.
pub(crate) struct Popper {
    sp: u64,
}

impl Popper {
    pub(crate) fn new(cpu: &mut Cpu, op: &Op) -> Popper {
        Popper {
            sp: cpu.reg(op.stack_width(), RSP),
        }
    }
    /// The next values. The last is read first, so that a frame of which a part cannot be reached faults where AMD's processors do.
    pub(crate) fn pop<const N: usize>(&mut self, cpu: &mut Cpu, op: &Op) -> Result<[u64; N], Stop> {
        let bytes = u64::from(op.width.bytes());
        let mut values = [0; N];
        for (n, value) in values.iter_mut().enumerate().rev() {
            let sp = self.sp.wrapping_add(n as u64 * bytes) & op.stack_width().mask();
            let at = cpu.stack_ea(op, sp, op.width.bytes(), false)?;
            *value = cpu.load(op.width, at)?;
        }
        self.skip(op, N as u64 * bytes);
        Ok(values)
    }
    pub(crate) fn skip(&mut self, op: &Op, bytes: u64) {
        self.sp = self.sp.wrapping_add(bytes) & op.stack_width().mask();
    }
    pub(crate) fn commit(&self, cpu: &mut Cpu, op: &Op) {
        cpu.set_reg(op.stack_width(), RSP, self.sp);
    }
}

/// Where a return to another privilege level goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outer {
    pub(crate) ss: Segment,
    pub(crate) sp: u64,
}

impl Cpu {
    /// Replaces the flags in `mask` by those of `new`.
    pub(crate) fn replace_flags(&mut self, new: u64, mask: u64) {
        let all = self.state.eflags() & !mask | new & mask;
        self.state.set_eflags(all);
    }

    /// The flags that POPF and IRET may change at this privilege with this operand size (SDM vol. 2B, POPF).
    pub(crate) fn writable_flags(&self, w: Width) -> u64 {
        let cpl = self.state.cpl();
        let iopl = (self.state.rflags & IOPL) >> 12;
        let mut mask = ARITH | TF | DF | NT;
        if w != Width::W {
            mask |= AC | ID | RF;
        }
        if cpl == 0 {
            mask |= IOPL;
        }
        if cpl as u64 <= iopl {
            mask |= IF;
        }
        mask
    }

    /// The new CS of a far return, checked against the privilege in its selector.
    pub(crate) fn fetch_return_segment(&mut self, selector: u16) -> Result<Segment, Stop> {
        if selector & 0xfffc == 0 {
            return Err(self.gp(0));
        }
        let d = self.read_descriptor(selector, Vector::GeneralProtection)?;
        let rpl = selector as u8 & 3;
        let privilege_fits = if d.is_conforming() {
            d.dpl() <= rpl
        } else {
            d.dpl() == rpl
        };
        if !d.is_code() || rpl < self.state.cpl() || !privilege_fits {
            return Err(self.gp(selector_code(selector)));
        }
        self.check_code_mode(selector, d)?;
        if !d.present() {
            return Err(self.not_present(selector));
        }
        self.mark_accessed(selector, d)?;
        Ok(d.segment(selector))
    }

    /// Where a far return goes besides `cs`, if it popped a stack pointer and a selector: to the privilege level that CS has.
    pub(crate) fn fetch_outer(
        &mut self,
        cs: &Segment,
        popped: Option<[u64; 2]>,
    ) -> Result<Option<Outer>, Stop> {
        let Some([sp, selector]) = popped else {
            return Ok(None);
        };
        let ss = self.fetch_return_stack(selector as u16, cs)?;
        Ok(Some(Outer { ss, sp }))
    }

    /// The new SS of a return to code `cs`.
    fn fetch_return_stack(&mut self, selector: u16, cs: &Segment) -> Result<Segment, Stop> {
        let cpl = cs.selector as u8 & 3;
        let to_long = self.state.mode & mode::LMA != 0 && cs.attr & attr::L != 0;
        if selector & 0xfffc == 0 && to_long && cpl != 3 {
            let mut s = null_segment(selector);
            s.attr = (cpl as u16) << attr::DPL_SHIFT;
            return Ok(s);
        }
        if selector & 0xfffc == 0 {
            return Err(self.gp(0));
        }
        let d = self.read_descriptor(selector, Vector::GeneralProtection)?;
        if selector as u8 & 3 != cpl || !d.is_writable_data() || d.dpl() != cpl {
            return Err(self.gp(selector_code(selector)));
        }
        if !d.present() {
            return Err(self.raise(Fault::with_code(Vector::Stack, selector_code(selector))));
        }
        self.mark_accessed(selector, d)?;
        Ok(d.segment(selector))
    }

    /// #GP(0) for a return address outside the new code segment.
    pub(crate) fn check_return_target(&mut self, cs: &Segment, rip: u64) -> Result<(), Stop> {
        let long = self.state.mode & mode::LMA != 0 && cs.attr & attr::L != 0;
        let good = if long {
            crate::interp::signed_48(rip) == rip
        } else {
            rip <= cs.limit as u64
        };
        if good { Ok(()) } else { Err(self.gp(0)) }
    }

    /// After a return to an outer level: data segments that it may not use become null.
    pub(crate) fn drop_inner_segments(&mut self, cpl: u8) {
        for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs] {
            let a = self.state.segment(seg).attr;
            let conforming = a & 0xc == 0xc;
            let dpl = (a >> attr::DPL_SHIFT) as u8 & 3;
            if a & attr::P != 0 && !conforming && dpl < cpl {
                self.state.seg[seg as usize] = null_segment(0);
            }
        }
    }
}

/// IRET, IRETD, IRETQ. It unblocks NMIs even if it faults (SDM vol. 3A, 6.7.1), but then only when the fault is delivered: until then
/// nothing has happened.
pub(crate) fn iret(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let done = iret_by_mode(cpu, op);
    if done.is_err() {
        cpu.fault.ends_nmi = true;
    }
    done
}

fn iret_by_mode(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    if cpu.state.mode & mode::PROTECTED == 0 {
        return iret_real(cpu, op);
    }
    if cpu.state.mode & mode::V86 != 0 {
        return iret_real(cpu, op);
    }
    if cpu.state.rflags & NT != 0 {
        if cpu.state.mode & mode::LMA != 0 {
            return Err(cpu.gp(0));
        }
        let tr = cpu.state.segment(Seg::Tr).base;
        let link = cpu.read_system(tr, 2)? as u16;
        cpu.switch_task(link, Why::Return, 0)?;
        finish(cpu);
        return Ok(());
    }
    iret_protected(cpu, op)
}

/// IRET of real and virtual-8086 mode, where VIF may stand for IF.
fn iret_real(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let whose = cpu.v86_interruptibility(op.width);
    if whose == Interruptibility::Denied {
        return Err(cpu.gp(0));
    }
    let mut stack = Popper::new(cpu, op);
    let [rip, cs, flags] = stack.pop(cpu, op)?;
    let s = cpu.fetch_segment(Seg::Cs, cs as u16)?;
    if rip > s.limit as u64 {
        return Err(cpu.gp(0));
    }
    let mut mask = ARITH | TF | IF | DF | NT;
    if whose == Interruptibility::Virtual {
        cpu.check_virtual_flags(flags)?;
        cpu.set_virtual_if(flags);
        mask &= !IF;
    }
    stack.commit(cpu, op);
    cpu.set_segment(Seg::Cs, s);
    cpu.state.set_rip(rip);
    if op.width != Width::W {
        mask |= RF | AC | ID;
    }
    if cpu.state.mode & mode::V86 == 0 {
        mask |= IOPL;
    }
    cpu.replace_flags(flags, mask);
    finish(cpu);
    Ok(())
}

fn iret_protected(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let mut stack = Popper::new(cpu, op);
    let [rip, selector, new_flags] = stack.pop(cpu, op)?;
    let selector = selector as u16;
    let cpl = cpu.state.cpl();
    let long = op.has(OpFlags::LONG);
    let lma = cpu.state.mode & mode::LMA != 0;
    if new_flags & VM != 0 && cpl == 0 && op.width == Width::D && !lma {
        return return_to_v86(cpu, op, stack, rip, selector, new_flags);
    }
    let new_cpl = selector as u8 & 3;
    let outer = match long || new_cpl != cpl {
        true => Some(stack.pop(cpu, op)?),
        false => None,
    };
    let cs = cpu.fetch_return_segment(selector)?;
    cpu.check_return_target(&cs, rip)?;
    let outer = cpu.fetch_outer(&cs, outer)?;
    let mask = cpu.writable_flags(op.width)
        | if cpl == 0 && op.width != Width::W {
            VIF | VIP
        } else {
            0
        };
    match outer {
        None => stack.commit(cpu, op),
        Some(o) => set_outer_stack(cpu, &cs, o),
    }
    cpu.set_segment(Seg::Cs, cs);
    cpu.state.set_rip(rip);
    if new_cpl > cpl {
        cpu.drop_inner_segments(new_cpl);
    }
    cpu.replace_flags(new_flags, mask);
    finish(cpu);
    Ok(())
}

/// Loads SS:(R)SP of an outer level; a 16-bit stack keeps the upper half of ESP.
pub(crate) fn set_outer_stack(cpu: &mut Cpu, cs: &Segment, outer: Outer) {
    let lma = cpu.state.mode & mode::LMA != 0;
    let to_long = lma && cs.attr & attr::L != 0;
    let w = if to_long {
        Width::Q
    } else if outer.ss.attr & attr::DB != 0 {
        Width::D
    } else {
        Width::W
    };
    cpu.set_segment(Seg::Ss, outer.ss);
    cpu.set_reg(w, RSP, outer.sp & w.mask());
}

fn return_to_v86(
    cpu: &mut Cpu,
    op: &Op,
    mut stack: Popper,
    rip: u64,
    cs: u16,
    new_flags: u64,
) -> Result<(), Stop> {
    let [sp, selectors @ ..]: [u64; 6] = stack.pop(cpu, op)?;
    cpu.state.set_eflags(new_flags);
    for (seg, s) in [Seg::Ss, Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs]
        .into_iter()
        .zip(selectors)
    {
        cpu.set_segment(seg, v86_segment(s as u16));
    }
    cpu.set_segment(Seg::Cs, v86_segment(cs));
    cpu.state.set_rip(rip & 0xffff);
    cpu.state.gpr[RSP as usize] = sp;
    finish(cpu);
    Ok(())
}

fn finish(cpu: &mut Cpu) {
    cpu.end_nmi();
    cpu.update_mode();
    cpu.interrupts_unmasked();
    if cpu.state.rflags & flags::RF != 0 {
        cpu.state.clock.attention |= attention::DEBUG;
    }
}
