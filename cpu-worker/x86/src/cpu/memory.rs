//! Memory as instructions see it: effective addresses with segmentation, and accesses that may reach devices.

use atoll_mmu::{Loc, MemStop, PAGE, Privilege};

use crate::bus::attention;
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop, Vector};
use crate::op::{AddrSize, Op, OpFlags, Seg};
use crate::state::{attr, mode};

impl Cpu {
    /// Base plus scaled index plus displacement, not yet cut to the address size.
    #[inline(always)]
    pub(crate) fn offset(&self, op: &Op) -> u64 {
        let g = &self.state.gpr;
        g[(op.base & 31) as usize]
            .wrapping_add(g[(op.index & 31) as usize] << (op.scale & 3))
            .wrapping_add(op.disp as u64)
    }

    /// The linear address of an operand whose segment has a base or limits, or whose address size is not 64 bits.
    pub(crate) fn segmented(&mut self, op: &Op, offset: u64, bytes: u32) -> Result<u64, Stop> {
        let offset = cut(op.addr, offset);
        if !op.has(OpFlags::SEG_BASE | OpFlags::SEG_CHECK) {
            return Ok(offset);
        }
        if op.has(OpFlags::SEG_CHECK) {
            return self.linear(op.seg, offset, bytes, op.has(OpFlags::WRITES));
        }
        Ok(offset.wrapping_add(self.state.segment(op.seg).base))
    }

    /// The linear address of a byte of a cache line: as of an operand, but that it may be in execute-only code (SDM vol. 2A, CLFLUSH).
    pub(crate) fn line_address(&mut self, op: &Op) -> Result<u64, Stop> {
        const KIND: u16 = attr::P | attr::S | 8 | 2;
        let s = *self.state.segment(op.seg);
        let execute_only = s.attr & KIND == attr::P | attr::S | 8;
        if !op.has(OpFlags::SEG_CHECK) || !execute_only {
            return self.ea(op, 1);
        }
        let offset = cut(op.addr, self.offset(op));
        if !within(s.attr, s.limit, offset, 1) {
            return Err(self.gp(0));
        }
        Ok(offset.wrapping_add(s.base) & 0xffff_ffff)
    }

    /// The linear address of a lane of a vector in memory, `distance` bytes from where the operand is: as an operand of its own, but
    /// that vectors are not checked for alignment.
    pub(crate) fn lane_address(&mut self, op: &Op, distance: u64, bytes: u32) -> Result<u64, Stop> {
        let offset = cut(op.addr, self.offset(op).wrapping_add(distance));
        self.unaligned(op.seg, offset, bytes, op.has(OpFlags::WRITES))
    }

    /// The linear address of `bytes` at `offset` in a segment: checks rights, limit and alignment.
    pub fn linear(&mut self, seg: Seg, offset: u64, bytes: u32, write: bool) -> Result<u64, Stop> {
        let address = self.unaligned(seg, offset, bytes, write)?;
        if self.state.mode & mode::ALIGN != 0 {
            self.check_alignment(address, bytes)?;
        }
        Ok(address)
    }

    /// The same without a check of alignment.
    fn unaligned(&mut self, seg: Seg, offset: u64, bytes: u32, write: bool) -> Result<u64, Stop> {
        let s = *self.state.segment(seg);
        let long = self.state.mode & mode::LONG != 0;
        let address = if long {
            let based = matches!(seg, Seg::Fs | Seg::Gs | Seg::Ldtr | Seg::Tr);
            offset.wrapping_add(if based { s.base } else { 0 })
        } else {
            if !segment_permits(s.attr, write) || !within(s.attr, s.limit, offset, bytes) {
                let vector = match seg {
                    Seg::Ss => Vector::Stack,
                    _ => Vector::GeneralProtection,
                };
                return Err(self.raise(Fault::with_code(vector, 0)));
            }
            offset.wrapping_add(s.base) & 0xffff_ffff
        };
        Ok(address)
    }

    /// #AC for an address that is not a multiple of what this size asks for. One that is not canonical is the access's to refuse, and
    /// that comes first.
    #[cold]
    fn check_alignment(&mut self, address: u64, bytes: u32) -> Result<(), Stop> {
        let canonical = |at: u64| ((at << 16) as i64 >> 16) as u64 == at;
        let last = address.wrapping_add(bytes as u64 - 1);
        if address & (alignment(bytes) - 1) != 0 && canonical(address) && canonical(last) {
            return Err(self.raise(Fault::with_code(Vector::Alignment, 0)));
        }
        Ok(())
    }

    /// Reads 1, 2, 4 or 8 bytes at a linear address.
    #[inline(always)]
    pub fn read_memory(&mut self, va: u64, bytes: u32) -> Result<u64, Stop> {
        if let Some(v) = self.mmu.try_load(va, bytes) {
            return Ok(v);
        }
        let kind = self.mmu.privilege();
        self.read_memory_as(kind, va, bytes)
    }

    /// Writes 1, 2, 4 or 8 bytes at a linear address.
    #[inline(always)]
    pub fn write_memory(&mut self, va: u64, bytes: u32, value: u64) -> Result<(), Stop> {
        if self.mmu.try_store(va, bytes, value) {
            return Ok(());
        }
        let kind = self.mmu.privilege();
        self.write_memory_as(kind, va, bytes, value)
    }

    /// Reads as `kind`: descriptor tables, task state, interrupt frames. An accessed bit may fall into code.
    #[cold]
    pub fn read_memory_as(&mut self, kind: Privilege, va: u64, bytes: u32) -> Result<u64, Stop> {
        let read = self.mmu.load_as(kind, va, bytes);
        self.note_code_writes();
        match read {
            Ok(v) => Ok(v),
            Err(stop) => self.read_device(bytes, stop),
        }
    }

    /// Writes as `kind`.
    #[cold]
    pub fn write_memory_as(
        &mut self,
        kind: Privilege,
        va: u64,
        bytes: u32,
        value: u64,
    ) -> Result<(), Stop> {
        let done = self.mmu.store_as(kind, va, bytes, value);
        self.note_code_writes();
        match done {
            Ok(()) => Ok(()),
            Err(stop) => self.write_device(bytes, value, stop),
        }
    }

    /// Tells the run loop if a store hit decoded or translated code.
    #[inline]
    pub(crate) fn note_code_writes(&mut self) {
        if self.mmu.ram().code_written() {
            self.state.clock.attention |= attention::CODE;
        }
    }

    /// Completes a read that is not one of RAM.
    #[cold]
    fn read_device(&mut self, bytes: u32, stop: MemStop) -> Result<u64, Stop> {
        let value = match stop {
            MemStop::Device { pa } => self.bus.mmio_read(&mut self.state.clock, pa, bytes),
            MemStop::Split { pa, pa2, first } => {
                self.read_pieces([(pa, first), (pa2, bytes - first)])
            }
            other => return Err(self.memory_fault(other)),
        };
        // A device may have answered by DMA into code.
        self.note_code_writes();
        Ok(value)
    }

    #[cold]
    fn write_device(&mut self, bytes: u32, value: u64, stop: MemStop) -> Result<(), Stop> {
        match stop {
            MemStop::Device { pa } => {
                self.bus.mmio_write(&mut self.state.clock, pa, bytes, value);
                // The device may have answered by DMA.
                self.note_code_writes();
            }
            MemStop::Split { pa, pa2, first } => {
                self.write_pieces([(pa, first), (pa2, bytes - first)], value);
            }
            other => return Err(self.memory_fault(other)),
        }
        self.note_code_writes();
        Ok(())
    }

    /// Reads physical bytes that may be RAM or a device, one at a time.
    fn read_pieces(&mut self, pieces: [(u64, u32); 2]) -> u64 {
        let mut value = 0;
        let mut shift = 0;
        for (pa, n) in pieces {
            for at in pa..pa + n as u64 {
                let byte = match self.mmu.load_physical(at, 1) {
                    Some(byte) => byte,
                    None => self.bus.mmio_read(&mut self.state.clock, at, 1),
                };
                value |= (byte & 0xff) << shift;
                shift += 8;
            }
        }
        value
    }

    fn write_pieces(&mut self, pieces: [(u64, u32); 2], mut value: u64) {
        for (pa, n) in pieces {
            for at in pa..pa + n as u64 {
                if !self.mmu.store_physical_uint(at, 1, value & 0xff) {
                    self.bus
                        .mmio_write(&mut self.state.clock, at, 1, value & 0xff);
                }
                value >>= 8;
            }
        }
        self.note_code_writes();
    }

    /// The slow start of a read-modify-write: faults, devices, lines with code, two pages.
    #[cold]
    pub(crate) fn begin_rmw(
        &mut self,
        bytes: u32,
        place: Result<Loc, MemStop>,
    ) -> Result<(u64, Loc), Stop> {
        self.note_code_writes();
        let loc = place.map_err(|stop| self.memory_fault(stop))?;
        let value = match loc.device(bytes) {
            None => self.mmu.read_loc(&loc, bytes),
            Some([(pa, n), (_, 0)]) if n == bytes && self.is_device(pa) => {
                self.bus.mmio_read(&mut self.state.clock, pa, bytes)
            }
            Some(pieces) => self.read_pieces(pieces),
        };
        Ok((value, loc))
    }

    /// Its end.
    #[cold]
    pub(crate) fn end_rmw(&mut self, bytes: u32, loc: &Loc, value: u64) {
        match loc.device(bytes) {
            None => self.mmu.write_loc(loc, bytes, value),
            Some([(pa, n), (_, 0)]) if n == bytes && self.is_device(pa) => {
                self.bus.mmio_write(&mut self.state.clock, pa, bytes, value);
            }
            Some(pieces) => self.write_pieces(pieces, value),
        }
        self.note_code_writes();
    }

    fn is_device(&self, pa: u64) -> bool {
        self.mmu.load_physical(pa, 1).is_none()
    }

    /// Makes sure that what is stored in pieces, less than a page in all, can be stored. What is not written in the end is neither marked
    /// dirty nor met by a breakpoint.
    #[cold]
    pub(crate) fn check_store(&mut self, va: u64, bytes: u32) -> Result<(), Stop> {
        let kind = self.mmu.privilege();
        self.mmu
            .check(kind, va, bytes, true)
            .map_err(|stop| self.memory_fault(stop))
    }

    /// #GP or #SS for an access that is made in pieces and runs out of the addresses that there are: before any of them is made.
    #[inline(always)]
    pub(crate) fn check_end(&mut self, va: u64, bytes: u64) -> Result<(), Stop> {
        let over_two_pages = va & (PAGE - 1) > PAGE - bytes;
        if over_two_pages && self.mmu.ends_behind(va) {
            return Err(self.memory_fault(MemStop::NonCanonical));
        }
        Ok(())
    }

    /// A 16-byte read that the MMU did not complete: two reads of 8 bytes where a device is concerned.
    #[cold]
    pub(crate) fn read_memory_128(&mut self, va: u64, stop: MemStop) -> Result<[u64; 2], Stop> {
        match stop {
            MemStop::Device { .. } | MemStop::Split { .. } => Ok([
                self.read_memory(va, 8)?,
                self.read_memory(va.wrapping_add(8), 8)?,
            ]),
            other => Err(self.memory_fault(other)),
        }
    }

    #[cold]
    pub(crate) fn write_memory_128(&mut self, va: u64, value: [u64; 2]) -> Result<(), Stop> {
        let done = self.mmu.store128(va, value);
        self.note_code_writes();
        match done {
            Ok(()) => Ok(()),
            Err(MemStop::Device { .. } | MemStop::Split { .. }) => {
                self.write_memory(va, 8, value[0])?;
                self.write_memory(va.wrapping_add(8), 8, value[1])
            }
            Err(other) => Err(self.memory_fault(other)),
        }
    }
}

/// An offset cut to the address size.
#[inline(always)]
pub(crate) fn cut(size: AddrSize, offset: u64) -> u64 {
    match size {
        AddrSize::A16 => offset & 0xffff,
        AddrSize::A32 => offset & 0xffff_ffff,
        AddrSize::A64 => offset,
    }
}

/// The alignment that an operand of this size is checked for (SDM vol. 3A, table 6-7): 80-bit values as 64-bit ones, x87
/// environments and states as their first field; vectors are not.
fn alignment(bytes: u32) -> u64 {
    match bytes {
        2 | 4 | 8 => bytes as u64,
        10 => 8,
        14 | 94 => 2,
        28 | 108 => 4,
        _ => 1,
    }
}

/// Whether a segment with these rights may be read, or written.
fn segment_permits(a: u16, write: bool) -> bool {
    let usable = a & attr::P != 0 && a & attr::S != 0;
    let code = a & 8 != 0;
    let second = a & 2 != 0;
    usable
        && if write {
            !code && second
        } else {
            !code || second
        }
}

/// Whether `bytes` at `offset` lie within the limit (SDM vol. 3A, 5.3), expand-down segments included.
pub(crate) fn within(a: u16, limit: u32, offset: u64, bytes: u32) -> bool {
    let last = offset + (bytes.max(1) - 1) as u64;
    let expand_down = a & 8 == 0 && a & 4 != 0;
    if expand_down {
        let top = if a & attr::DB != 0 { u32::MAX } else { 0xffff };
        offset > limit as u64 && last <= top as u64
    } else {
        last <= limit as u64
    }
}
