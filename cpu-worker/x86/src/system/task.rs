//! The task-state segment: stacks of inner privilege levels, and hardware task switches (SDM vol. 3A, chapter 7).

use super::descriptor::{Descriptor, kind, selector_code};
use super::segments::null_segment;
use crate::cpu::Cpu;
use crate::exception::{Fault, Stop, Vector};
use crate::flags::{NT, VM};
use crate::op::Seg;
use crate::state::{Segment, attr, cr};

/// What switches tasks; decides the busy bit, NT and the back link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    Jump,
    Call,
    Interrupt,
    Return,
}

/// L0 to L3 of DR7.
const DR7_LOCAL: u64 = 0x55;

/// The order of the general registers in both TSS formats is the encoding's.
const SEGMENTS: [Seg; 6] = [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs];

impl Cpu {
    /// SS and stack pointer for privilege level `cpl` from the current 16- or 32-bit TSS.
    pub(crate) fn task_stack(&mut self, cpl: u8, ext: u32) -> Result<(Segment, u64), Stop> {
        let tr = *self.state.segment(Seg::Tr);
        let wide = tr.attr & 8 != 0;
        let (at, bytes) = if wide {
            (4 + 8 * cpl as u64, 4)
        } else {
            (2 + 4 * cpl as u64, 2)
        };
        if at + bytes as u64 + 1 > tr.limit as u64 {
            let code = selector_code(tr.selector) | ext;
            return Err(self.raise(Fault::with_code(Vector::InvalidTss, code)));
        }
        let sp = self.read_system(tr.base + at, bytes)?;
        let selector = self.read_system(tr.base + at + bytes as u64, 2)? as u16;
        let ss = self.fetch_stack_segment(selector, cpl, Vector::InvalidTss)?;
        Ok((ss, sp))
    }

    /// Switches to the task whose TSS `selector` names. RIP is past the instruction that switches, or at the one interrupted.
    pub(crate) fn switch_task(&mut self, selector: u16, why: Why, ext: u32) -> Result<(), Stop> {
        let bad = if why == Why::Return {
            Vector::InvalidTss
        } else {
            Vector::GeneralProtection
        };
        let code = selector_code(selector) | ext;
        let found = if selector & 4 != 0 {
            None
        } else {
            self.try_descriptor(selector)?
        };
        let Some(d) = found else {
            return Err(self.raise(Fault::with_code(bad, code)));
        };
        let wanted = if why == Why::Return {
            [kind::TSS16_BUSY, kind::TSS32_BUSY]
        } else {
            [kind::TSS16, kind::TSS32]
        };
        if d.is_segment() || !wanted.contains(&d.system_type()) {
            return Err(self.raise(Fault::with_code(bad, code)));
        }
        if !d.present() {
            return Err(self.raise(Fault::with_code(Vector::NotPresent, code)));
        }
        let wide = d.system_type() & 8 != 0;
        if d.limit() < if wide { 0x67 } else { 0x2b } {
            return Err(self.raise(Fault::with_code(Vector::InvalidTss, code)));
        }
        let new = self.read_task(d, wide)?;
        self.leave_task(why)?;
        self.enter_new_task(selector, d, why, new)
    }

    /// All fields of a TSS: CR3, EIP, EFLAGS, general registers, segments, LDT.
    fn read_task(&mut self, d: Descriptor, wide: bool) -> Result<Task, Stop> {
        let base = d.base() as u64;
        let mut t = Task {
            wide,
            ..Task::default()
        };
        if wide {
            t.cr3 = self.read_system(base + 0x1c, 4)?;
            t.ip = self.read_system(base + 0x20, 4)?;
            t.flags = self.read_system(base + 0x24, 4)?;
            for n in 0..8 {
                t.general[n] = self.read_system(base + 0x28 + 4 * n as u64, 4)?;
            }
            for n in 0..6 {
                t.selectors[n] = self.read_system(base + 0x48 + 4 * n as u64, 2)? as u16;
            }
            t.ldt = self.read_system(base + 0x60, 2)? as u16;
            t.trap = self.read_system(base + 0x64, 2)? & 1 != 0;
        } else {
            t.ip = self.read_system(base + 0x0e, 2)?;
            t.flags = self.read_system(base + 0x10, 2)?;
            for n in 0..8 {
                let v = self.read_system(base + 0x12 + 2 * n as u64, 2)?;
                t.general[n] = v | 0xffff_0000;
            }
            for n in 0..4 {
                t.selectors[n] = self.read_system(base + 0x22 + 2 * n as u64, 2)? as u16;
            }
            t.ldt = self.read_system(base + 0x2a, 2)? as u16;
        }
        Ok(t)
    }

    /// Saves the state in the current TSS and clears its busy bit where the new task does not return to it.
    fn leave_task(&mut self, why: Why) -> Result<(), Stop> {
        let tr = *self.state.segment(Seg::Tr);
        let base = tr.base;
        let mut flags = self.state.eflags();
        if why == Why::Return {
            flags &= !NT;
        }
        let ip = self.state.rip();
        let wide = tr.attr & 8 != 0;
        let (first, step, segments) = if wide {
            (0x28, 4, 0x48)
        } else {
            (0x12, 2, 0x22)
        };
        if wide {
            self.write_system(base + 0x20, 4, ip & 0xffff_ffff)?;
            self.write_system(base + 0x24, 4, flags & 0xffff_ffff)?;
        } else {
            self.write_system(base + 0x0e, 2, ip & 0xffff)?;
            self.write_system(base + 0x10, 2, flags & 0xffff)?;
        }
        for n in 0..8 {
            let v = self.state.gpr[n] & (u64::MAX >> (64 - 8 * step));
            self.write_system(base + first + step * n as u64, step as u32, v)?;
        }
        for (n, &seg) in SEGMENTS.iter().enumerate().take(if wide { 6 } else { 4 }) {
            let v = self.state.segment(seg).selector as u64;
            self.write_system(base + segments + step * n as u64, 2, v)?;
        }
        if matches!(why, Why::Jump | Why::Return)
            && let Some(old) = self.try_descriptor(tr.selector)?
        {
            self.rewrite_type(tr.selector, old, 0, 2)?;
        }
        Ok(())
    }

    /// Loads the new task. From here on faults belong to it.
    fn enter_new_task(
        &mut self,
        selector: u16,
        d: Descriptor,
        why: Why,
        new: Task,
    ) -> Result<(), Stop> {
        let old = self.state.segment(Seg::Tr).selector;
        let nested = matches!(why, Why::Call | Why::Interrupt);
        if nested {
            self.write_system(d.base() as u64, 2, old as u64)?;
        }
        if why != Why::Return {
            self.rewrite_type(selector, d, 2, 0)?;
        }
        let mut tr = d.segment(selector);
        tr.attr |= 2;
        self.state.seg[Seg::Tr as usize] = tr;
        self.state.cr0 |= cr::CR0_TS;
        // Breakpoints that are enabled for the old task alone.
        self.state.dr[7] &= !DR7_LOCAL;
        if new.wide && self.state.cr0 & cr::CR0_PG != 0 {
            self.state.cr3 = new.cr3;
            self.mmu.load_cr3(new.cr3, false);
        }
        let flags = if nested { new.flags | NT } else { new.flags };
        self.state.set_eflags(flags);
        self.state.gpr[..8].copy_from_slice(&new.general);
        self.state.set_rip(new.ip);
        // The selectors are in place before their descriptors are looked at, so that a fault in the new task finds them there.
        for (n, &seg) in SEGMENTS.iter().enumerate() {
            self.state.seg[seg as usize] = null_segment(new.selectors[n]);
        }
        self.state.seg[Seg::Ldtr as usize] = null_segment(new.ldt);
        match self.load_task_segments(new) {
            // The switch itself is done: the handler returns into the new task, not to what switched.
            Err(Stop::Fault) => self.deliver_fault(),
            other => other,
        }
    }

    fn load_task_segments(&mut self, new: Task) -> Result<(), Stop> {
        let paging = self.state.cr0 & cr::CR0_PG != 0;
        self.state.pdpte = self.pdptes(new.wide && paging, self.state.cr4, self.state.cr3)?;
        if new.flags & VM != 0 {
            self.update_mode();
            for (n, &seg) in SEGMENTS.iter().enumerate() {
                self.state.seg[seg as usize] = v86_segment(new.selectors[n]);
            }
            self.update_mode();
            return Ok(());
        }
        let cpl = new.selectors[Seg::Cs as usize] as u8 & 3;
        self.state.seg[Seg::Ss as usize].attr = (cpl as u16) << attr::DPL_SHIFT;
        self.update_mode();
        if new.ldt & 0xfffc != 0 {
            let d = match new.ldt & 4 {
                0 => self.read_descriptor(new.ldt, Vector::InvalidTss)?,
                _ => Descriptor(0),
            };
            if d.is_segment() || d.system_type() != kind::LDT || !d.present() {
                let fault = Fault::with_code(Vector::InvalidTss, selector_code(new.ldt));
                return Err(self.raise(fault));
            }
            self.state.seg[Seg::Ldtr as usize] = d.segment(new.ldt);
        }
        // The stack before the code, in table 8-1's order, so that the code segment's fault finds one.
        let ss = new.selectors[Seg::Ss as usize];
        let ss = self.fetch_stack_segment(ss, cpl, Vector::InvalidTss)?;
        self.state.seg[Seg::Ss as usize] = ss;
        let cs = new.selectors[Seg::Cs as usize];
        let d = self.read_descriptor(cs, Vector::InvalidTss)?;
        let privileged = if d.is_conforming() {
            d.dpl() <= cpl
        } else {
            d.dpl() == cpl
        };
        if cs & 0xfffc == 0 || !d.is_code() || !privileged {
            return Err(self.raise(Fault::with_code(Vector::InvalidTss, selector_code(cs))));
        }
        if !d.present() {
            return Err(self.not_present(cs));
        }
        self.mark_accessed(cs, d)?;
        self.state.seg[Seg::Cs as usize] = d.segment(cs);
        for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs] {
            let s = self.fetch_data_segment(new.selectors[seg as usize], Vector::InvalidTss)?;
            self.state.seg[seg as usize] = s;
        }
        self.update_mode();
        if new.ip > self.state.segment(Seg::Cs).limit as u64 {
            return Err(self.gp(0));
        }
        if new.trap {
            self.state.dr[6] |= 1 << 15;
            return self.deliver_debug_trap();
        }
        Ok(())
    }
}

/// The contents of a TSS.
#[derive(Clone, Copy, Debug, Default)]
struct Task {
    wide: bool,
    cr3: u64,
    ip: u64,
    flags: u64,
    general: [u64; 8],
    selectors: [u16; 6],
    ldt: u16,
    trap: bool,
}

/// A segment as virtual-8086 mode has it.
pub(crate) fn v86_segment(selector: u16) -> Segment {
    Segment {
        base: (selector as u64) << 4,
        limit: 0xffff,
        attr: attr::P | attr::S | 3 << attr::DPL_SHIFT | 3,
        selector,
    }
}
