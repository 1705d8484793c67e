//! Delivery of exceptions, interrupts and software interrupts through the IDT (SDM vol. 3A, chapter 6).
//!
//! A fault during delivery becomes what table 6-5 says: a double fault after two contributory ones or a page fault and
//! another, shutdown after a fault in delivering a double fault, else the new fault alone.

use atoll_mmu::Privilege;

use super::descriptor::{Descriptor, kind, selector_code};
use super::segments::null_segment;
use crate::bus::{attention, rehearsal};
use crate::cpu::{Cpu, DR7_GD, Delivery};
use crate::exception::{Fault, Stop, Vector};
use crate::flags::{IF, IOPL, NT, RF, TF, VIF, VM};
use crate::interp::signed_48;
use crate::op::{RSP, Seg};
use crate::state::{Segment, attr, cr, mode};

/// Where an interrupt comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// An exception that is a fault: the saved RF is set.
    Fault,
    /// A debug trap: RF as it is.
    Trap,
    /// An interrupt line, or NMI.
    External,
    /// INT n, INT3, INTO: the gate's DPL counts.
    Software,
    /// INT1: as a software interrupt, without the check of DPL.
    Icebp,
}

impl Source {
    /// The EXT bit of error codes for faults met on the way (SDM vol. 3A, 6.13).
    fn ext(self) -> u32 {
        !matches!(self, Source::Software) as u32
    }

    fn name(self) -> &'static str {
        match self {
            Source::Fault | Source::Trap => "exception",
            Source::External => "interrupt",
            Source::Software | Source::Icebp => "instruction",
        }
    }
}

/// What is delivered.
#[derive(Clone, Copy, Debug)]
struct Event {
    vector: u8,
    code: Option<u32>,
    source: Source,
}

fn is_contributory(v: Vector) -> bool {
    matches!(
        v,
        Vector::Divide
            | Vector::InvalidTss
            | Vector::NotPresent
            | Vector::Stack
            | Vector::GeneralProtection
    )
}

impl Cpu {
    /// Delivers the fault in [`Cpu::fault`]; the state is as before the instruction.
    ///
    /// # Errors
    /// [`Stop::Shutdown`]: a triple fault.
    pub fn deliver_fault(&mut self) -> Result<(), Stop> {
        if self.fault.ends_nmi {
            self.end_nmi();
        }
        self.deliver_exception(self.fault, Source::Fault)
    }

    /// Delivers a maskable interrupt.
    ///
    /// # Errors
    /// As [`Cpu::deliver_fault`].
    pub fn deliver_interrupt(&mut self, vector: u8) -> Result<(), Stop> {
        let event = Event {
            vector,
            code: None,
            source: Source::External,
        };
        self.deliver_or_fault(event)
    }

    /// Delivers an NMI.
    pub(crate) fn deliver_nmi(&mut self) -> Result<(), Stop> {
        self.deliver_interrupt(Vector::Nmi as u8)
    }

    /// Delivers a debug trap, as single-stepping and data breakpoints end in.
    pub(crate) fn deliver_debug_trap(&mut self) -> Result<(), Stop> {
        self.deliver_exception(Fault::new(Vector::Debug), Source::Trap)
    }

    /// INT n and its relatives, RIP being past the instruction. A fault in it is the instruction's.
    pub(crate) fn software_interrupt(&mut self, vector: u8, source: Source) -> Result<(), Stop> {
        self.enter(Event {
            vector,
            code: None,
            source,
        })
    }

    fn deliver_or_fault(&mut self, event: Event) -> Result<(), Stop> {
        match self.enter(event) {
            Err(Stop::Fault) => self.deliver_exception(self.fault, Source::Fault),
            other => other,
        }
    }

    fn deliver_exception(&mut self, fault: Fault, source: Source) -> Result<(), Stop> {
        let (mut fault, mut source) = (fault, source);
        self.note_page_fault(fault);
        loop {
            let event = Event {
                vector: fault.vector as u8,
                code: fault.code.filter(|_| !self.real_address_mode()),
                source,
            };
            match self.enter(event) {
                Err(Stop::Fault) => {}
                other => return other,
            }
            let second = self.fault;
            self.note_page_fault(second);
            let doubles = is_contributory(second.vector)
                && (is_contributory(fault.vector) || fault.vector == Vector::Page)
                || second.vector == Vector::Page && fault.vector == Vector::Page;
            fault = if fault.vector == Vector::DoubleFault {
                return Err(Stop::Shutdown);
            } else if doubles {
                Fault::with_code(Vector::DoubleFault, 0)
            } else {
                second
            };
            source = Source::Fault;
        }
    }

    /// CR2 follows each page fault that is met, also one that becomes a double fault or a shutdown (SDM vol. 3A, 6.15,
    /// interrupt 14).
    fn note_page_fault(&mut self, fault: Fault) {
        if fault.vector == Vector::Page {
            self.state.cr2 = fault.cr2;
        }
    }

    fn real_address_mode(&self) -> bool {
        self.state.mode & mode::PROTECTED == 0
    }

    /// Goes through the gate: either everything happened or nothing but accessed bits.
    fn enter(&mut self, event: Event) -> Result<(), Stop> {
        let from = (self.state.segment(Seg::Cs).selector, self.state.rip());
        let done = if self.real_address_mode() {
            self.enter_real(event)
        } else if self.state.mode & mode::LMA != 0 {
            self.enter_long(event)
        } else {
            self.enter_protected(event)
        };
        if done.is_ok() {
            self.state.shadow = 0;
            self.state.halted = 0;
            self.state.monitor = 0;
            self.state.between = 0;
            self.no_step += 1;
            // The handler of a debug exception may use the debug registers.
            let exception = matches!(event.source, Source::Fault | Source::Trap | Source::Icebp);
            if exception && event.vector == Vector::Debug as u8 {
                self.state.dr[7] &= !DR7_GD;
            }
            self.update_mode();
            self.show(event, from);
        }
        done
    }

    fn show(&mut self, event: Event, from: (u16, u64)) {
        // What is only rehearsed is delivered again.
        if let Some(watch) = &mut self.watch
            && self.state.clock.rehearsal == rehearsal::NONE
        {
            let delivery = Delivery {
                vector: event.vector,
                code: event.code,
                origin: event.source.name(),
                from,
            };
            watch(&self.state, &delivery);
        }
    }

    /// The fault for what is wrong with the gate itself.
    fn gate_fault(&mut self, event: Event, vector: Vector) -> Stop {
        let code = (event.vector as u32) << 3 | 2 | event.source.ext();
        self.raise(Fault::with_code(vector, code))
    }

    /// RFLAGS as it is saved: with RF for a fault, and for what comes between two iterations of a string instruction (SDM vol. 3B,
    /// 18.3.1.1).
    fn saved_flags(&self, event: Event) -> u64 {
        let flags = self.state.eflags();
        if event.source == Source::Fault || self.state.is_between() {
            flags | RF
        } else {
            flags
        }
    }

    fn enter_real(&mut self, event: Event) -> Result<(), Stop> {
        let at = event.vector as u64 * 4;
        if at + 3 > self.state.idtr.limit as u64 {
            return Err(self.gate_fault(event, Vector::GeneralProtection));
        }
        let vector = self.read_system(self.state.idtr.base.wrapping_add(at), 4)?;
        self.push_paragraph_frame(self.state.eflags())?;
        self.state.rflags &= !(IF | TF | RF | crate::flags::AC);
        self.jump_to_paragraph(vector);
        Ok(())
    }

    /// INT n in virtual-8086 mode: to the program's own handler where CR4.VME is set and the task's redirection bitmap has a
    /// zero, else through the IDT if IOPL is 3, else #GP(0) (SDM vol. 3B, 21.3.3, table 21-2).
    pub(crate) fn v86_interrupt(&mut self, vector: u8) -> Result<(), Stop> {
        let trusted = self.state.rflags & IOPL == IOPL;
        if self.state.cr4 & cr::CR4_VME != 0 && !self.is_kept_interrupt(vector)? {
            return self.redirect_interrupt(vector, trusted);
        }
        if !trusted {
            return Err(self.gp(0));
        }
        self.software_interrupt(vector, Source::Software)
    }

    /// The vector's bit in the software interrupt redirection bitmap: the 32 bytes before the I/O permission bitmap.
    fn is_kept_interrupt(&mut self, vector: u8) -> Result<bool, Stop> {
        let tr = *self.state.segment(Seg::Tr);
        if tr.attr & 8 == 0 || tr.limit < 0x67 {
            return Err(self.gp(0));
        }
        let ports = self.read_system(tr.base.wrapping_add(0x66), 2)?;
        let at = (ports + (vector / 8) as u64).wrapping_sub(32);
        if at > tr.limit as u64 {
            return Err(self.gp(0));
        }
        let bits = self.read_system(tr.base.wrapping_add(at), 1)?;
        Ok(bits >> (vector % 8) & 1 != 0)
    }

    /// Enters the virtual-8086 program's handler, whose address stands at linear address 4 * vector.
    fn redirect_interrupt(&mut self, vector: u8, trusted: bool) -> Result<(), Stop> {
        let target = self.read_memory(vector as u64 * 4, 4)?;
        let (flags, cleared) = if trusted {
            (self.state.eflags(), IF)
        } else {
            (self.virtual_flags_image(), VIF)
        };
        self.push_paragraph_frame(flags)?;
        self.state.rflags &= !(cleared | TF | RF);
        self.jump_to_paragraph(target);
        self.no_step += 1;
        self.update_mode();
        Ok(())
    }

    /// CS:IP from the four bytes of a vector.
    fn jump_to_paragraph(&mut self, vector: u64) {
        let selector = (vector >> 16) as u16;
        let cs = &mut self.state.seg[Seg::Cs as usize];
        cs.selector = selector;
        cs.base = (selector as u64) << 4;
        self.state.set_rip(vector & 0xffff);
    }

    /// Pushes FLAGS, CS and IP, 16 bits each. The stack pointer moves only when all are written.
    fn push_paragraph_frame(&mut self, flags: u64) -> Result<(), Stop> {
        let frame = [
            flags,
            self.state.segment(Seg::Cs).selector as u64,
            self.state.rip(),
        ];
        let wide = self.state.segment(Seg::Ss).attr & attr::DB != 0;
        let mask = if wide { 0xffff_ffff } else { 0xffff };
        let mut sp = self.state.gpr[RSP as usize];
        for v in frame {
            sp = sp & !mask | (sp.wrapping_sub(2) & mask);
            let at = self.linear(Seg::Ss, sp & mask, 2, true)?;
            self.write_memory(at, 2, v & 0xffff)?;
        }
        self.state.gpr[RSP as usize] = sp;
        Ok(())
    }

    /// The checks on the target of an interrupt gate (not a task gate); gives the code descriptor.
    fn gate_target(&mut self, event: Event, selector: u16) -> Result<Descriptor, Stop> {
        let ext = event.source.ext();
        if selector & 0xfffc == 0 {
            return Err(self.gp(ext));
        }
        let Some(d) = self.try_descriptor(selector)? else {
            return Err(self.gp(selector_code(selector) | ext));
        };
        if !d.is_code() || d.dpl() > self.state.cpl() {
            return Err(self.gp(selector_code(selector) | ext));
        }
        if !d.present() {
            let code = selector_code(selector) | ext;
            return Err(self.raise(Fault::with_code(Vector::NotPresent, code)));
        }
        Ok(d)
    }

    fn enter_long(&mut self, event: Event) -> Result<(), Stop> {
        let offset = event.vector as u64 * 16;
        if offset + 15 > self.state.idtr.limit as u64 {
            return Err(self.gate_fault(event, Vector::GeneralProtection));
        }
        let at = self.state.idtr.base.wrapping_add(offset);
        let low = self.read_system(at, 8)?;
        let high = self.read_system(at.wrapping_add(8), 8)?;
        let gate = Descriptor(low);
        let interrupt = match gate.attr() & (attr::TYPE | attr::S) {
            kind::INTERRUPT32 => true,
            kind::TRAP32 => false,
            _ => return Err(self.gate_fault(event, Vector::GeneralProtection)),
        };
        if event.source == Source::Software && gate.dpl() < self.state.cpl() {
            return Err(self.gate_fault(event, Vector::GeneralProtection));
        }
        if !gate.present() {
            return Err(self.gate_fault(event, Vector::NotPresent));
        }
        let (selector, low_offset) = gate.gate();
        let target = low_offset as u64 | high << 32;
        let d = self.gate_target(event, selector)?;
        if !d.is_long() || d.attr() & attr::DB != 0 {
            return Err(self.gp(selector_code(selector) | event.source.ext()));
        }
        let old_cpl = self.state.cpl();
        let cpl = if d.is_conforming() { old_cpl } else { d.dpl() };
        let ist = (low >> 32) & 7;
        let stack = match (ist, cpl < old_cpl) {
            (0, false) => self.state.gpr[RSP as usize],
            (0, true) => self.long_stack(4 + 8 * cpl as u64, event)?,
            (n, _) => self.long_stack(0x24 + 8 * (n - 1), event)?,
        } & !15;
        let frame = [
            event.code.map(|c| c as u64),
            Some(self.state.rip()),
            Some(self.state.segment(Seg::Cs).selector as u64),
            Some(self.saved_flags(event)),
            Some(self.state.gpr[RSP as usize]),
            Some(self.state.segment(Seg::Ss).selector as u64),
        ];
        let sp = self.push_frame(stack, &frame, cpl, event)?;
        if signed_48(target) != target {
            return Err(self.gp(event.source.ext()));
        }
        self.mark_accessed(selector, d)?;
        self.state.gpr[RSP as usize] = sp;
        if cpl != old_cpl {
            let mut ss = null_segment(cpl as u16);
            ss.attr = (cpl as u16) << attr::DPL_SHIFT;
            self.set_segment(Seg::Ss, ss);
        }
        self.set_segment(Seg::Cs, d.segment(selector & !3 | cpl as u16));
        self.state.set_rip(target);
        self.clear_flags_for_gate(interrupt);
        Ok(())
    }

    fn clear_flags_for_gate(&mut self, interrupt: bool) {
        self.state.rflags &= !(TF | NT | RF | VM);
        if interrupt {
            self.state.rflags &= !IF;
        }
    }

    /// A stack pointer from the 64-bit TSS.
    pub(crate) fn long_stack(&mut self, offset: u64, ext: impl Into<Ext>) -> Result<u64, Stop> {
        let ext = ext.into().0;
        let tr = *self.state.segment(Seg::Tr);
        if offset + 7 > tr.limit as u64 {
            let code = selector_code(tr.selector) | ext;
            return Err(self.raise(Fault::with_code(Vector::InvalidTss, code)));
        }
        let sp = self.read_system(tr.base.wrapping_add(offset), 8)?;
        if signed_48(sp) != sp {
            return Err(self.raise(Fault::with_code(Vector::Stack, ext)));
        }
        Ok(sp)
    }

    /// As whom the stack of privilege level `cpl` is written. Frames are not among the structures whose accesses are implicit, so what is
    /// pushed below CPL 3 heeds EFLAGS.AC (SDM vol. 3A, 4.6.1); what is pushed on the way there from CPL 3 does not.
    pub(crate) fn stack_access(&self, cpl: u8) -> Privilege {
        if cpl == 3 {
            Privilege::User
        } else if self.state.cpl() == 3 {
            self.mmu.implicit()
        } else {
            self.mmu.privilege()
        }
    }

    /// Writes a 64-bit frame, the last value at the highest address, and gives the new stack pointer.
    pub(crate) fn push_frame(
        &mut self,
        stack: u64,
        frame: &[Option<u64>],
        cpl: u8,
        ext: impl Into<Ext>,
    ) -> Result<u64, Stop> {
        let ext = ext.into().0;
        let access = self.stack_access(cpl);
        let mut sp = stack;
        for v in frame.iter().rev().flatten() {
            sp = sp.wrapping_sub(8);
            let done = self.write_memory_as(access, sp, 8, *v);
            if done.is_err() && self.fault.non_canonical {
                return Err(self.raise(Fault::with_code(Vector::Stack, ext)));
            }
            done?;
        }
        Ok(sp)
    }

    fn enter_protected(&mut self, event: Event) -> Result<(), Stop> {
        let offset = event.vector as u64 * 8;
        if offset + 7 > self.state.idtr.limit as u64 {
            return Err(self.gate_fault(event, Vector::GeneralProtection));
        }
        let gate = Descriptor(self.read_system(self.state.idtr.base.wrapping_add(offset), 8)?);
        let gate_type = gate.attr() & (attr::TYPE | attr::S);
        let known = [
            kind::TASK,
            kind::INTERRUPT16,
            kind::TRAP16,
            kind::INTERRUPT32,
            kind::TRAP32,
        ];
        if !known.contains(&gate_type) {
            return Err(self.gate_fault(event, Vector::GeneralProtection));
        }
        if event.source == Source::Software && gate.dpl() < self.state.cpl() {
            return Err(self.gate_fault(event, Vector::GeneralProtection));
        }
        if !gate.present() {
            return Err(self.gate_fault(event, Vector::NotPresent));
        }
        let (selector, target) = gate.gate();
        if gate_type == kind::TASK {
            return self.enter_task(event, selector);
        }
        let d = self.gate_target(event, selector)?;
        let v86 = self.state.mode & mode::V86 != 0;
        let old_cpl = self.state.cpl();
        let cpl = if d.is_conforming() { old_cpl } else { d.dpl() };
        if v86 && cpl != 0 {
            return Err(self.gp(selector_code(selector) | event.source.ext()));
        }
        let wide = gate_type & 8 != 0;
        let flags = self.saved_flags(event);
        let old = self.state.clone_stack();
        let (ss, sp) = if cpl < old_cpl {
            self.task_stack(cpl, event.source.ext())?
        } else {
            (old.0, old.1)
        };
        let mut frame: Vec<u64> = Vec::with_capacity(11);
        if v86 {
            for seg in [Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es] {
                frame.push(self.state.segment(seg).selector as u64);
            }
        }
        if cpl < old_cpl {
            frame.extend([old.0.selector as u64, old.1]);
        }
        let cs = self.state.segment(Seg::Cs).selector as u64;
        frame.extend([flags, cs, self.state.rip()]);
        frame.extend(event.code.map(u64::from));
        let sp = self.push_values(ss, sp, if wide { 4 } else { 2 }, &frame, cpl, event)?;
        if target > d.limit() {
            return Err(self.gp(event.source.ext()));
        }
        self.mark_accessed(selector, d)?;
        if v86 {
            for seg in [Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es] {
                self.set_segment(seg, null_segment(0));
            }
        }
        self.set_segment(Seg::Ss, ss);
        self.state.gpr[RSP as usize] = sp;
        self.set_segment(Seg::Cs, d.segment(selector & !3 | cpl as u16));
        self.state.set_rip(target as u64);
        self.clear_flags_for_gate(gate_type & 1 == 0);
        Ok(())
    }

    /// Pushes values, the first at the highest address, on a stack that is not yet in SS. Gives the new stack pointer register.
    pub(crate) fn push_values(
        &mut self,
        ss: Segment,
        sp: u64,
        bytes: u32,
        values: &[u64],
        cpl: u8,
        ext: impl Into<Ext>,
    ) -> Result<u64, Stop> {
        let ext = ext.into().0;
        let access = self.stack_access(cpl);
        let mask = if ss.attr & attr::DB != 0 {
            0xffff_ffff
        } else {
            0xffff
        };
        let value_mask = u64::MAX >> (64 - 8 * bytes);
        let mut sp = sp;
        for v in values {
            sp = sp & !mask | (sp.wrapping_sub(bytes as u64) & mask);
            let at = sp & mask;
            if !crate::cpu::within(ss.attr, ss.limit, at, bytes) {
                let code = selector_code(ss.selector) | ext;
                let code = if ss.selector == self.state.segment(Seg::Ss).selector {
                    ext
                } else {
                    code
                };
                return Err(self.raise(Fault::with_code(Vector::Stack, code)));
            }
            let at = ss.base.wrapping_add(at) & 0xffff_ffff;
            self.write_memory_as(access, at, bytes, v & value_mask)?;
        }
        Ok(sp)
    }

    /// A task gate: switches tasks and pushes the error code on the new stack.
    fn enter_task(&mut self, event: Event, selector: u16) -> Result<(), Stop> {
        self.switch_task(selector, super::task::Why::Interrupt, event.source.ext())?;
        if let Some(code) = event.code {
            let (ss, sp) = self.state.clone_stack();
            let wide = self.state.segment(Seg::Tr).attr & 8 != 0;
            let bytes = if wide { 4 } else { 2 };
            let cpl = self.state.cpl();
            let sp = self.push_values(ss, sp, bytes, &[code as u64], cpl, event)?;
            self.state.gpr[RSP as usize] = sp;
        }
        self.state.clock.attention |= attention::MODE;
        Ok(())
    }
}

/// The EXT bit of an error code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ext(pub(crate) u32);

impl From<Event> for Ext {
    fn from(event: Event) -> Ext {
        Ext(event.source.ext())
    }
}

impl crate::state::State {
    /// SS and the stack pointer register.
    pub(crate) fn clone_stack(&self) -> (Segment, u64) {
        (*self.segment(Seg::Ss), self.gpr[RSP as usize])
    }
}
