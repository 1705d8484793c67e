//! The accesses of the interpreter and the helper behind emitted code's inline lookup.

use crate::mmu::{Found, Intent, Mmu, Privilege};
use crate::tlb::{DATA_ENTRIES, Tlb, slow};
use crate::{OFFSET, PAGE};

/// Why a memory access did not complete. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemStop {
    /// #PF with this linear address and error code.
    PageFault { va: u64, code: u32 },
    /// The linear address is not canonical, or beyond the limit of flat segments: #GP(0), or #SS(0) through the stack segment.
    NonCanonical,
    /// Permitted, but not RAM (for a store: ROM too), and within one page: ask the bus.
    Device { pa: u64 },
    /// Permitted, over two pages, not both of them RAM: `first` bytes at `pa`, the rest at `pa2`, byte by byte through
    /// [`Mmu::load_physical`] and [`Mmu::store_physical_uint`], or the bus where those refuse.
    Split { pa: u64, pa2: u64, first: u32 },
}

/// A place that was checked for writing and can no longer fault.
#[derive(Clone, Copy, Debug)]
pub struct Loc {
    /// Host address, or 0 where the slow way is needed.
    host: usize,
    pa: u64,
    /// Where the second page's part lies; only if `first` is less than the access.
    pa2: u64,
    first: u32,
    device: bool,
}

impl Loc {
    /// RAM without marks at this host address.
    #[inline(always)]
    fn plain(host: usize, bytes: u32) -> Loc {
        Loc {
            host,
            pa: 0,
            pa2: 0,
            first: bytes,
            device: false,
        }
    }

    /// Whether it is plain RAM without code marks, so that writing it has no consequences to look for.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.host != 0
    }

    /// Where the access is not to RAM, or only in part: the pieces as (physical address, bytes). The second may be empty.
    #[inline]
    pub fn device(&self, bytes: u32) -> Option<[(u64, u32); 2]> {
        let first = self.first.min(bytes);
        self.device
            .then_some([(self.pa, first), (self.pa2, bytes - first)])
    }
}

#[inline(always)]
fn page_of_last(va: u64, bytes: u32) -> u64 {
    va.wrapping_add(u64::from(bytes) - 1) & !OFFSET
}

/// Reads 1, 2, 4 or 8 bytes.
///
/// # Safety
/// `host` is valid for reads of `bytes` bytes.
#[inline(always)]
unsafe fn read_host(host: usize, bytes: u32) -> u64 {
    // SAFETY: by contract.
    unsafe {
        match bytes {
            1 => (host as *const u8).read() as u64,
            2 => (host as *const u16).read_unaligned() as u64,
            4 => (host as *const u32).read_unaligned() as u64,
            _ => (host as *const u64).read_unaligned(),
        }
    }
}

/// Writes 1, 2, 4 or 8 bytes.
///
/// # Safety
/// `host` is valid for writes of `bytes` bytes.
#[inline(always)]
unsafe fn write_host(host: usize, bytes: u32, value: u64) {
    // SAFETY: by contract.
    unsafe {
        match bytes {
            1 => (host as *mut u8).write(value as u8),
            2 => (host as *mut u16).write_unaligned(value as u16),
            4 => (host as *mut u32).write_unaligned(value as u32),
            _ => (host as *mut u64).write_unaligned(value),
        }
    }
}

fn value_of(buffer: &[u8; 16]) -> u64 {
    u64::from_le_bytes(*buffer.first_chunk().expect("sixteen bytes"))
}

impl Mmu {
    /// The host address of `bytes` bytes at `va` when the current set permits it without a slow bit, else 0.
    #[inline(always)]
    fn fast(&self, va: u64, bytes: u32, write: bool) -> usize {
        // SAFETY: `data` points at DATA_ENTRIES entries (`choose_sets`).
        let e = unsafe { &*self.data.add((va / PAGE) as usize & (DATA_ENTRIES - 1)) };
        let tag = if write { e.write } else { e.read };
        if page_of_last(va, bytes) == tag {
            e.host.wrapping_add(va) as usize
        } else {
            0
        }
    }

    /// Loads 1, 2, 4 or 8 bytes, zero-extended.
    ///
    /// # Errors
    /// See [`MemStop`].
    #[inline(always)]
    pub fn load(&mut self, va: u64, bytes: u32) -> Result<u64, MemStop> {
        match self.try_load(va, bytes) {
            Some(v) => Ok(v),
            None => self.load_as(self.kind, va, bytes),
        }
    }

    /// Loads 1, 2, 4 or 8 bytes if that needs no walk, which may set accessed bits, and meets no device.
    #[inline(always)]
    pub fn try_load(&mut self, va: u64, bytes: u32) -> Option<u64> {
        let host = self.fast(va, bytes, false);
        // SAFETY: a tag without slow bits names a page of RAM, and all bytes lie in it.
        (host != 0).then(|| unsafe { read_host(host, bytes) })
    }

    /// Stores 1, 2, 4 or 8 bytes.
    ///
    /// # Errors
    /// See [`MemStop`].
    #[inline(always)]
    pub fn store(&mut self, va: u64, bytes: u32, value: u64) -> Result<(), MemStop> {
        let host = self.fast(va, bytes, true);
        if host != 0 {
            // SAFETY: a write tag without slow bits names a writable page of RAM, and all bytes lie in it.
            unsafe { write_host(host, bytes, value) };
            return Ok(());
        }
        self.store_as(self.kind, va, bytes, value)
    }

    /// Stores 1, 2, 4 or 8 bytes if that needs no walk and meets no mark and no device; false: nothing was done.
    #[inline(always)]
    pub fn try_store(&mut self, va: u64, bytes: u32, value: u64) -> bool {
        let host = self.fast(va, bytes, true);
        if host != 0 {
            // SAFETY: as in `store`.
            unsafe { write_host(host, bytes, value) };
        }
        host != 0
    }

    /// Stores 16 bytes likewise.
    #[inline(always)]
    pub fn try_store128(&mut self, va: u64, value: [u64; 2]) -> bool {
        let host = self.fast(va, 16, true);
        if host != 0 {
            // SAFETY: as in `store`.
            unsafe {
                write_host(host, 8, value[0]);
                write_host(host + 8, 8, value[1]);
            }
        }
        host != 0
    }

    /// Loads 16 bytes, the low half first.
    ///
    /// # Errors
    /// See [`MemStop`].
    #[inline(always)]
    pub fn load128(&mut self, va: u64) -> Result<[u64; 2], MemStop> {
        let host = self.fast(va, 16, false);
        if host != 0 {
            // SAFETY: as in `load`.
            return Ok(unsafe { [read_host(host, 8), read_host(host + 8, 8)] });
        }
        self.load128_slow(va)
    }

    /// Stores 16 bytes.
    ///
    /// # Errors
    /// See [`MemStop`].
    #[inline(always)]
    pub fn store128(&mut self, va: u64, value: [u64; 2]) -> Result<(), MemStop> {
        let host = self.fast(va, 16, true);
        if host != 0 {
            // SAFETY: as in `store`.
            unsafe {
                write_host(host, 8, value[0]);
                write_host(host + 8, 8, value[1]);
            }
            return Ok(());
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&value[0].to_le_bytes());
        bytes[8..].copy_from_slice(&value[1].to_le_bytes());
        self.store_slow(self.kind, va, &bytes)
    }

    #[cold]
    fn load128_slow(&mut self, va: u64) -> Result<[u64; 2], MemStop> {
        let b = self.load_slow(self.kind, va, 16)?;
        let high = u64::from_le_bytes(*b.last_chunk().expect("sixteen bytes"));
        Ok([value_of(&b), high])
    }

    /// [`Mmu::load`] as somebody else: [`Mmu::implicit`] for descriptor tables and interrupt frames.
    ///
    /// # Errors
    /// See [`MemStop`].
    #[cold]
    pub fn load_as(&mut self, kind: Privilege, va: u64, bytes: u32) -> Result<u64, MemStop> {
        self.load_slow(kind, va, bytes).map(|b| value_of(&b))
    }

    /// [`Mmu::store`] as somebody else.
    ///
    /// # Errors
    /// See [`MemStop`].
    #[cold]
    pub fn store_as(
        &mut self,
        kind: Privilege,
        va: u64,
        bytes: u32,
        value: u64,
    ) -> Result<(), MemStop> {
        let host = self.log_hit(kind, va, bytes);
        if host != 0 {
            // SAFETY: as in `store`.
            unsafe { write_host(host, bytes, value) };
            return Ok(());
        }
        self.store_slow(kind, va, &value.to_le_bytes()[..bytes as usize])
    }

    /// The host address of `bytes` (1, 2, 4 or 8) to be stored to where the log's is the only slow bit, else 0: lockstep sends every store the
    /// slow way, so this keeps it short.
    #[inline]
    fn log_hit(&mut self, kind: Privilege, va: u64, bytes: u32) -> usize {
        if !self.logging || self.watching || bytes > 8 {
            return 0;
        }
        let slot = Tlb::<DATA_ENTRIES>::slot(Mmu::data_set(self.slot, kind), va);
        let e = self.data_tlb.get(slot);
        if page_of_last(va, bytes) | slow::LOG != e.write {
            return 0;
        }
        let host = e.host.wrapping_add(va) as usize;
        // SAFETY: without another slow bit the tag names a writable page of RAM, and all bytes lie in it.
        let old = unsafe { read_host(host, bytes) };
        let pa = e.physical() | (va & OFFSET);
        self.undo.store_over(pa, bytes, old);
        host
    }

    /// Translates all of an access: the first page, how many bytes lie in it, and the second page if there is one. All that may be
    /// wrong is found before anything is marked accessed or dirty.
    fn translate_all(
        &mut self,
        kind: Privilege,
        va: u64,
        bytes: u32,
        write: bool,
    ) -> Result<(Found, u32, Option<Found>), MemStop> {
        self.touch(va, bytes, write);
        let first = ((PAGE - (va & OFFSET)) as u32).min(bytes);
        if first == bytes {
            let a = self.translate(kind, va, write)?;
            return Ok((a, first, None));
        }
        self.check(kind, va, bytes, write)?;
        let a = self.translate(kind, va, write)?;
        let b = self.translate(kind, self.next_page(va), write)?;
        Ok((a, first, Some(b)))
    }

    /// Whether an access of less than a page is permitted, devices included: leaves no trace.
    ///
    /// # Errors
    /// [`MemStop::PageFault`] or [`MemStop::NonCanonical`] only.
    pub fn check(&self, kind: Privilege, va: u64, bytes: u32, write: bool) -> Result<(), MemStop> {
        let over_two_pages = (va & OFFSET) + u64::from(bytes) > PAGE;
        if over_two_pages && self.ends_behind(va) {
            return Err(MemStop::NonCanonical);
        }
        self.check_page(kind, va, write)?;
        if over_two_pages {
            self.check_page(kind, self.next_page(va), write)?;
        }
        Ok(())
    }

    /// Whether the page of `va` is the last that an access may lie in: no canonical address follows, or no address within the limit of
    /// flat segments of 32 bits.
    pub fn ends_behind(&self, va: u64) -> bool {
        let next = self.next_page(va);
        !self.is_canonical(next) || next == 0 && self.regs.flat && !self.regs.long
    }

    /// As [`Mmu::translate_all`], refusing what is not RAM.
    fn translate_ram(
        &mut self,
        kind: Privilege,
        va: u64,
        bytes: u32,
        write: bool,
    ) -> Result<(Found, u32, Found), MemStop> {
        match self.translate_all(kind, va, bytes, write)? {
            (a, first, None) if a.host != 0 => Ok((a, first, a)),
            (a, first, Some(b)) if a.host != 0 && b.host != 0 => Ok((a, first, b)),
            (a, _, None) => Err(MemStop::Device { pa: a.pa }),
            (a, first, Some(b)) => Err(MemStop::Split {
                pa: a.pa,
                pa2: b.pa,
                first,
            }),
        }
    }

    #[cold]
    fn load_slow(&mut self, kind: Privilege, va: u64, bytes: u32) -> Result<[u8; 16], MemStop> {
        let (a, first, b) = self.translate_ram(kind, va, bytes, false)?;
        let mut buffer = [0; 16];
        let (low, high) = buffer[..bytes as usize].split_at_mut(first as usize);
        self.ram.read(a.pa, low);
        self.ram.read(b.pa, high);
        Ok(buffer)
    }

    #[cold]
    fn store_slow(&mut self, kind: Privilege, va: u64, bytes: &[u8]) -> Result<(), MemStop> {
        let (a, first, b) = self.translate_ram(kind, va, bytes.len() as u32, true)?;
        let (low, high) = bytes.split_at(first as usize);
        self.store_physical(a.pa, low);
        if !high.is_empty() {
            self.store_physical(b.pa, high);
        }
        self.forget_mark(kind, va);
        Ok(())
    }

    /// Checks a place for writing, for a read-modify-write or a store that must not fault later.
    ///
    /// # Errors
    /// [`MemStop::PageFault`] or [`MemStop::NonCanonical`] only; devices are places too (see [`Loc::device`]).
    #[inline(always)]
    pub fn prepare_write(&mut self, va: u64, bytes: u32) -> Result<Loc, MemStop> {
        let host = self.fast(va, bytes, true);
        if host != 0 {
            return Ok(Loc::plain(host, bytes));
        }
        self.prepare_write_as(self.kind, va, bytes)
    }

    /// [`Mmu::prepare_write`] as somebody else.
    ///
    /// # Errors
    /// As there.
    #[cold]
    pub fn prepare_write_as(
        &mut self,
        kind: Privilege,
        va: u64,
        bytes: u32,
    ) -> Result<Loc, MemStop> {
        let host = self.log_hit(kind, va, bytes);
        if host != 0 {
            return Ok(Loc::plain(host, bytes));
        }
        let (a, first, b) = self.translate_all(kind, va, bytes, true)?;
        Ok(Loc {
            host: 0,
            pa: a.pa,
            pa2: b.map_or(0, |b| b.pa),
            first,
            device: a.host == 0 || b.is_some_and(|b| b.host == 0),
        })
    }

    /// Reads a prepared place in RAM.
    #[inline(always)]
    pub fn read_loc(&mut self, loc: &Loc, bytes: u32) -> u64 {
        if loc.host != 0 {
            // SAFETY: `prepare_write` found it in the TLB, and RAM never moves; the caller passes the bytes it prepared.
            return unsafe { read_host(loc.host, bytes.min(loc.first)) };
        }
        self.read_loc_slow(loc, bytes)
    }

    #[cold]
    fn read_loc_slow(&mut self, loc: &Loc, bytes: u32) -> u64 {
        let mut buffer = [0; 8];
        let (low, high) = buffer[..bytes as usize].split_at_mut(loc.first.min(bytes) as usize);
        self.ram.read(loc.pa, low);
        self.ram.read(loc.pa2, high);
        u64::from_le_bytes(buffer)
    }

    /// Writes a prepared place in RAM.
    #[inline(always)]
    pub fn write_loc(&mut self, loc: &Loc, bytes: u32, value: u64) {
        if loc.host != 0 {
            // SAFETY: as in `read_loc`.
            unsafe { write_host(loc.host, bytes.min(loc.first), value) };
            return;
        }
        self.write_loc_slow(loc, bytes, value);
    }

    #[cold]
    fn write_loc_slow(&mut self, loc: &Loc, bytes: u32, value: u64) {
        let buffer = value.to_le_bytes();
        let (low, high) = buffer[..bytes as usize].split_at(loc.first.min(bytes) as usize);
        self.store_physical(loc.pa, low);
        if !high.is_empty() {
            self.store_physical(loc.pa2, high);
        }
    }

    /// Loads 1, 2, 4 or 8 bytes by physical address, within a page; None if it is not RAM.
    pub fn load_physical(&self, pa: u64, bytes: u32) -> Option<u64> {
        self.ram.read_uint(pa, bytes)
    }

    /// Stores 1, 2, 4 or 8 bytes by physical address, within a page; false if it is not writable RAM.
    pub fn store_physical_uint(&mut self, pa: u64, bytes: u32, value: u64) -> bool {
        self.store_physical(pa, &value.to_le_bytes()[..bytes as usize])
    }

    /// Copies code bytes from `pa` to the end of its page or of the buffer; how many.
    pub fn code_bytes(&self, pa: u64, buffer: &mut [u8]) -> usize {
        let n = buffer.len().min((PAGE - (pa & OFFSET)) as usize);
        if self.ram.read(pa, &mut buffer[..n]) {
            n
        } else {
            0
        }
    }

    /// What emitted code does when its inline lookup fails: the host address to use for this one access, or 0 if the instruction must be left
    /// to the interpreter (a fault, a device, two pages, a line with code). A fill made here is the one that the interpreter would
    /// make, so doing the instruction again changes nothing; with the log on it is taken back, so that the log holds only what
    /// completed instructions did.
    #[cold]
    pub fn host_for(&mut self, va: u64, bytes: u32, intent: Intent) -> usize {
        if intent == Intent::Write {
            let host = self.log_hit(self.kind, va, bytes);
            if host != 0 {
                return host;
            }
        }
        let mark = self.mark();
        let host = self.find_host(va, bytes, intent == Intent::Write);
        if host == 0 && self.logging {
            self.roll_back_to(mark);
        }
        host
    }

    fn find_host(&mut self, va: u64, bytes: u32, write: bool) -> usize {
        if (va & OFFSET) + u64::from(bytes) > PAGE {
            return 0;
        }
        let Ok(found) = self.translate(self.kind, va, write) else {
            return 0;
        };
        if !write || found.host == 0 {
            return found.host;
        }
        if self.ram.has_code(found.pa, u64::from(bytes)) {
            return 0;
        }
        self.ram.note_write(found.pa, u64::from(bytes));
        if self.logging {
            self.undo.store(&self.ram, found.pa, bytes as usize);
        }
        self.forget_mark(self.kind, va);
        found.host
    }
}
