//! Loads of segment registers: MOV, POP, LDS and friends, and the parts that far transfers share.
//!
//! `shadow` is set by loads of SS: the next instruction runs before any interrupt (SDM vol. 3A, 6.8.3).

use super::descriptor::{Descriptor, selector_code};
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop, Vector};
use crate::op::{Arg, Op, RSP, Seg, Width};
use crate::semantics::stack::peek;
use crate::state::{Segment, attr, mode};

/// A segment register by its number in the encoding.
pub(crate) fn by_number(n: u8) -> Seg {
    [
        Seg::Es,
        Seg::Cs,
        Seg::Ss,
        Seg::Ds,
        Seg::Fs,
        Seg::Gs,
        Seg::Ds,
        Seg::Ds,
    ][(n & 7) as usize]
}

/// What a null selector leaves in a segment register: unusable.
pub(crate) fn null_segment(selector: u16) -> Segment {
    Segment {
        selector,
        ..Segment::default()
    }
}

impl Cpu {
    /// Whether selectors mean paragraphs: real and virtual-8086 mode.
    pub(crate) fn real_segments(&self) -> bool {
        self.state.mode & mode::PROTECTED == 0 || self.state.mode & mode::V86 != 0
    }

    /// What a selector load gives, all checks done and the accessed bit set, for any register but CS.
    pub(crate) fn fetch_segment(&mut self, seg: Seg, selector: u16) -> Result<Segment, Stop> {
        if self.real_segments() {
            return Ok(self.real_segment(seg, selector));
        }
        if seg == Seg::Ss {
            return self.fetch_stack_segment(selector, self.state.cpl(), Vector::GeneralProtection);
        }
        self.fetch_data_segment(selector, Vector::GeneralProtection)
    }

    /// A segment for DS, ES, FS or GS in protected mode; `vector` is #GP for loads and #TS for those of a new task.
    pub(crate) fn fetch_data_segment(
        &mut self,
        selector: u16,
        vector: Vector,
    ) -> Result<Segment, Stop> {
        if selector & 0xfffc == 0 {
            return Ok(null_segment(selector));
        }
        let d = self.read_descriptor(selector, vector)?;
        let rpl = selector as u8 & 3;
        let readable = d.is_segment() && (!d.is_code() || d.bit_1());
        let free = d.is_code() && d.is_conforming();
        if !readable || !free && (rpl > d.dpl() || self.state.cpl() > d.dpl()) {
            return Err(self.raise(Fault::with_code(vector, selector_code(selector))));
        }
        if !d.present() {
            return Err(self.not_present(selector));
        }
        self.mark_accessed(selector, d)?;
        Ok(d.segment(selector))
    }

    /// A paragraph segment. In real mode limit and rights stay as they were (so that "unreal" mode works); virtual-8086 mode
    /// sets them.
    fn real_segment(&self, seg: Seg, selector: u16) -> Segment {
        let mut s = *self.state.segment(seg);
        s.selector = selector;
        s.base = (selector as u64) << 4;
        if self.state.mode & mode::V86 != 0 {
            s.limit = 0xffff;
            s.attr = attr::P | attr::S | 3 << attr::DPL_SHIFT | 3;
        } else if seg == Seg::Cs {
            s.attr = attr::P | attr::S | s.attr & attr::DB | 3;
        }
        s
    }

    /// A stack segment for privilege level `cpl`; `vector` is #GP for loads and #TS for stacks from a TSS.
    pub(crate) fn fetch_stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        vector: Vector,
    ) -> Result<Segment, Stop> {
        if selector & 0xfffc == 0 {
            // 64-bit code below CPL 3 may run with a null SS.
            let long = self.state.mode & mode::LONG != 0;
            if long && cpl != 3 && selector as u8 & 3 == cpl {
                let mut s = null_segment(selector);
                s.attr = (cpl as u16) << attr::DPL_SHIFT;
                return Ok(s);
            }
            return Err(self.raise(Fault::with_code(vector, 0)));
        }
        let d = self.read_descriptor(selector, vector)?;
        if selector as u8 & 3 != cpl || !d.is_writable_data() || d.dpl() != cpl {
            return Err(self.raise(Fault::with_code(vector, selector_code(selector))));
        }
        if !d.present() {
            return Err(self.raise(Fault::with_code(Vector::Stack, selector_code(selector))));
        }
        self.mark_accessed(selector, d)?;
        Ok(d.segment(selector))
    }

    /// Puts a loaded segment in place. A null selector clears the base too, as Intel's processors do.
    pub(crate) fn set_segment(&mut self, seg: Seg, s: Segment) {
        self.state.seg[seg as usize] = s;
    }

    /// The checks on a code descriptor for a direct far transfer at unchanged privilege: gives the new CS.
    pub(crate) fn fetch_code_segment(
        &mut self,
        selector: u16,
        d: Descriptor,
    ) -> Result<Segment, Stop> {
        let cpl = self.state.cpl();
        let rpl = selector as u8 & 3;
        let allowed = if d.is_conforming() {
            d.dpl() <= cpl
        } else {
            rpl <= cpl && d.dpl() == cpl
        };
        if !d.is_code() || !allowed {
            return Err(self.gp(selector_code(selector)));
        }
        self.check_code_mode(selector, d)?;
        if !d.present() {
            return Err(self.not_present(selector));
        }
        self.mark_accessed(selector, d)?;
        Ok(d.segment(selector & !3 | cpl as u16))
    }

    /// #GP for a code segment that is both 64-bit and 32-bit, in long mode.
    pub(crate) fn check_code_mode(&mut self, selector: u16, d: Descriptor) -> Result<(), Stop> {
        let lma = self.state.mode & mode::LMA != 0;
        if lma && d.is_long() && d.attr() & attr::DB != 0 {
            return Err(self.gp(selector_code(selector)));
        }
        Ok(())
    }

    /// Recomputes the mode if the load of `seg` can have changed it.
    fn after_segment_load(&mut self, seg: Seg) {
        if self.state.mode & mode::LONG == 0 || seg == Seg::Ss {
            self.update_mode();
        }
    }

    /// After MOV SS and POP SS, not LSS, interrupts and debug traps wait for the next instruction (SDM vol. 3A, 6.8.3).
    fn after_stack_segment(&mut self, seg: Seg) {
        if seg == Seg::Ss {
            self.begin_shadow(crate::cpu::SHADOW_SS);
        }
    }
}

/// MOV Sreg, r/m16. `dst` is the segment register.
pub(crate) fn mov_to_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let selector = match op.src_arg {
        Arg::Reg => cpu.reg(Width::W, op.src),
        _ => {
            let at = cpu.ea(op, 2)?;
            cpu.load(Width::W, at)?
        }
    };
    let seg = by_number(op.dst);
    let s = cpu.fetch_segment(seg, selector as u16)?;
    cpu.set_segment(seg, s);
    cpu.after_segment_load(seg);
    cpu.after_stack_segment(seg);
    Ok(())
}

/// MOV r/m, Sreg: 16 bits to memory, zero-extended to a register. `src` is the segment register.
pub(crate) fn mov_from_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let selector = cpu.state.segment(by_number(op.src)).selector as u64;
    if op.dst_arg == Arg::Reg {
        cpu.set_reg(op.width, op.dst, selector);
        return Ok(());
    }
    let at = cpu.ea(op, 2)?;
    cpu.store(Width::W, at, selector)
}

/// PUSH Sreg. With 32-bit operands only the low half is written, as all current processors do.
pub(crate) fn push_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let selector = cpu.state.segment(by_number(op.src)).selector as u64;
    let s = op.stack_width();
    let sp = cpu.reg(s, RSP);
    let sp = cpu.sub(s, sp, op.width.bytes() as u64);
    let bytes = if op.width == Width::Q { 8 } else { 2 };
    let at = cpu.stack_ea(op, sp, op.width.bytes(), true)?;
    cpu.write_memory(at, bytes, selector)?;
    cpu.set_reg(s, RSP, sp);
    Ok(())
}

/// POP Sreg.
pub(crate) fn pop_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let (v, sp) = peek(cpu, op, op.width, 0)?;
    let seg = by_number(op.dst);
    let s = cpu.fetch_segment(seg, v as u16)?;
    cpu.set_reg(op.stack_width(), RSP, sp);
    cpu.set_segment(seg, s);
    cpu.after_segment_load(seg);
    cpu.after_stack_segment(seg);
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS: `sub` is the segment register. Offset and selector are two accesses, of which the first has to be aligned
/// (SDM vol. 3A, table 6-7).
pub(crate) fn load_far_pointer(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let at = cpu.ea(op, op.width.bytes())?;
    let offset = cpu.load(op.width, at)?;
    let at = cpu.lane_address(op, op.width.bytes().into(), 2)?;
    let selector = cpu.load(Width::W, at)?;
    let seg = by_number(op.sub);
    let s = cpu.fetch_segment(seg, selector as u16)?;
    cpu.set_segment(seg, s);
    cpu.set_reg(op.width, op.dst, offset);
    cpu.after_segment_load(seg);
    Ok(())
}
