//! Segment and system descriptors: reading them from the GDT and LDT, and what their bits mean (SDM vol. 3A, 3.4.5).

use crate::cpu::Cpu;
use crate::exception::{Fault, Stop, Vector};
use crate::op::Seg;
use crate::state::{Segment, attr, mode};

/// The eight bytes of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor(pub(crate) u64);

/// System descriptor types.
pub(crate) mod kind {
    pub(crate) const TSS16: u16 = 1;
    pub(crate) const LDT: u16 = 2;
    pub(crate) const TSS16_BUSY: u16 = 3;
    pub(crate) const CALL16: u16 = 4;
    pub(crate) const TASK: u16 = 5;
    pub(crate) const INTERRUPT16: u16 = 6;
    pub(crate) const TRAP16: u16 = 7;
    pub(crate) const TSS32: u16 = 9;
    pub(crate) const TSS32_BUSY: u16 = 11;
    pub(crate) const CALL32: u16 = 12;
    pub(crate) const INTERRUPT32: u16 = 14;
    pub(crate) const TRAP32: u16 = 15;
}

impl Descriptor {
    pub(crate) fn base(self) -> u32 {
        ((self.0 >> 16) as u32 & 0xff_ffff) | ((self.0 >> 32) as u32 & 0xff00_0000)
    }
    /// Type, S, DPL, P, AVL, L, D/B and G as [`Segment::attr`] has them.
    pub(crate) fn attr(self) -> u16 {
        (self.0 >> 40) as u16 & 0xf0ff
    }
    /// The limit in bytes.
    pub(crate) fn limit(self) -> u32 {
        let raw = (self.0 as u32 & 0xffff) | ((self.0 >> 32) as u32 & 0xf_0000);
        if self.attr() & attr::G != 0 {
            raw << 12 | 0xfff
        } else {
            raw
        }
    }
    pub(crate) fn dpl(self) -> u8 {
        (self.attr() >> attr::DPL_SHIFT) as u8 & 3
    }
    pub(crate) fn present(self) -> bool {
        self.attr() & attr::P != 0
    }
    /// A code or data segment, not a system descriptor.
    pub(crate) fn is_segment(self) -> bool {
        self.attr() & attr::S != 0
    }
    pub(crate) fn is_code(self) -> bool {
        self.is_segment() && self.0 >> 43 & 1 != 0
    }
    pub(crate) fn is_conforming(self) -> bool {
        self.0 >> 42 & 1 != 0
    }
    /// Bit 1 of the type: writable data, readable code.
    pub(crate) fn bit_1(self) -> bool {
        self.0 >> 41 & 1 != 0
    }
    pub(crate) fn is_writable_data(self) -> bool {
        self.is_segment() && !self.is_code() && self.bit_1()
    }
    pub(crate) fn is_long(self) -> bool {
        self.attr() & attr::L != 0
    }
    /// The type of a system descriptor.
    pub(crate) fn system_type(self) -> u16 {
        self.attr() & attr::TYPE
    }
    /// The selector and offset of a gate; the offset's upper half only for 32-bit gates.
    pub(crate) fn gate(self) -> (u16, u32) {
        let wide = self.system_type() & 8 != 0;
        let high = if wide {
            (self.0 >> 32) as u32 & 0xffff_0000
        } else {
            0
        };
        ((self.0 >> 16) as u16, self.0 as u32 & 0xffff | high)
    }
    /// As the hidden part of a segment register.
    pub(crate) fn segment(self, selector: u16) -> Segment {
        Segment {
            base: self.base() as u64,
            limit: self.limit(),
            attr: self.attr(),
            selector,
        }
    }
}

/// An error code that names a selector.
pub(crate) fn selector_code(selector: u16) -> u32 {
    selector as u32 & 0xfffc
}

impl Cpu {
    /// The address of a descriptor, or None beyond its table.
    fn descriptor_address(&self, selector: u16, bytes: u32) -> Option<u64> {
        let offset = selector as u64 & 0xfff8;
        let (base, limit) = if selector & 4 == 0 {
            (self.state.gdtr.base, self.state.gdtr.limit as u64)
        } else {
            let ldt = self.state.segment(Seg::Ldtr);
            if ldt.attr & attr::P == 0 {
                return None;
            }
            (ldt.base, ldt.limit as u64)
        };
        (offset + bytes as u64 - 1 <= limit).then(|| self.wrap_linear(base.wrapping_add(offset)))
    }

    /// A linear address, cut to 32 bits outside long mode.
    pub(crate) fn wrap_linear(&self, address: u64) -> u64 {
        if self.state.mode & mode::LMA != 0 {
            address
        } else {
            address & 0xffff_ffff
        }
    }

    /// Reads system memory (tables, frames) as an implicit supervisor access.
    pub(crate) fn read_system(&mut self, address: u64, bytes: u32) -> Result<u64, Stop> {
        let kind = self.mmu.implicit();
        let address = self.wrap_linear(address);
        self.read_memory_as(kind, address, bytes)
    }

    /// Writes likewise.
    pub(crate) fn write_system(&mut self, address: u64, bytes: u32, v: u64) -> Result<(), Stop> {
        let kind = self.mmu.implicit();
        let address = self.wrap_linear(address);
        self.write_memory_as(kind, address, bytes, v)
    }

    /// Reads a descriptor; beyond its table is `vector` with the selector.
    pub(crate) fn read_descriptor(
        &mut self,
        selector: u16,
        vector: Vector,
    ) -> Result<Descriptor, Stop> {
        match self.try_descriptor(selector)? {
            Some(d) => Ok(d),
            None => Err(self.raise(Fault::with_code(vector, selector_code(selector)))),
        }
    }

    /// Reads a descriptor; None beyond its table.
    pub(crate) fn try_descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Stop> {
        match self.descriptor_address(selector, 8) {
            None => Ok(None),
            Some(at) => Ok(Some(Descriptor(self.read_system(at, 8)?))),
        }
    }

    /// The upper half of a 16-byte system descriptor in long mode; beyond the table is #GP(selector).
    pub(crate) fn read_descriptor_high(&mut self, selector: u16) -> Result<u64, Stop> {
        match self.descriptor_address(selector, 16) {
            None => Err(self.gp(selector_code(selector))),
            Some(at) => self.read_system(at.wrapping_add(8), 8),
        }
    }

    /// Sets the accessed bit of a code or data descriptor that lacks it, as every load of a segment register does.
    pub(crate) fn mark_accessed(&mut self, selector: u16, d: Descriptor) -> Result<(), Stop> {
        if d.is_segment() && d.0 >> 40 & 1 == 0 {
            self.rewrite_type(selector, d, 1, 0)?;
        }
        Ok(())
    }

    /// Sets and clears bits of a descriptor's type byte in memory.
    pub(crate) fn rewrite_type(
        &mut self,
        selector: u16,
        d: Descriptor,
        set: u8,
        clear: u8,
    ) -> Result<(), Stop> {
        let Some(at) = self.descriptor_address(selector, 8) else {
            return Ok(());
        };
        let byte = (d.0 >> 40) as u8;
        self.write_system(at.wrapping_add(5), 1, ((byte | set) & !clear) as u64)
    }

    /// #NP with the selector.
    pub(crate) fn not_present(&mut self, selector: u16) -> Stop {
        self.raise(Fault::with_code(
            Vector::NotPresent,
            selector_code(selector),
        ))
    }
}
