//! Guest-physical RAM: regions of host memory, and one code mark per 64-byte line.
//!
//! A host bridge may show something else than the RAM at an address ([`Shadow`]); what it shows is what every access meets, by the CPU
//! or by DMA. Code marks belong to the address, whatever is shown there.
//!
//! [`Ram`] is a handle: the vCPU's MMU and the board's DMA hold clones of it. All clones are used by the thread that runs
//! the vCPU; the atomics and the lock only make that provable, they are never contended.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use atoll_transport::GuestRam;

use crate::shadow::{Shadow, Shown};
use crate::{OFFSET, PAGE};

/// A store that touched lines with code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeWrite {
    pub address: u64,
    pub len: u64,
}

/// A contiguous piece of guest-physical memory.
#[derive(Clone, Copy, Debug)]
struct Region {
    base: u64,
    len: u64,
    host: usize,
    rom: bool,
    /// Index of the region's first page in the array of marks.
    first_page: usize,
}

/// Host memory that the RAM owns itself.
#[derive(Debug)]
struct Owned {
    host: usize,
    layout: Layout,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `host` came from `alloc_zeroed` with this layout in `RamBuilder::anonymous`, and is freed once, here.
        unsafe { dealloc(self.host as *mut u8, self.layout) }
    }
}

#[derive(Debug)]
struct Shared {
    regions: Vec<Region>,
    /// Per page, one bit per 64-byte line that holds decoded or translated code.
    marks: Box<[AtomicU64]>,
    /// One bit per page that was stored to otherwise than through a write tag, for [`crate::Mmu::take_written`].
    stored: Box<[AtomicU64]>,
    shadow: Option<Shadow>,
    /// What is shown somewhere changed: translations that are kept are stale.
    remapped: AtomicBool,
    hit: AtomicBool,
    writes: Mutex<Vec<CodeWrite>>,
    _owned: Vec<Owned>,
    _segments: Vec<GuestRam>,
}

/// Where a guest-physical page lies on the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPage {
    pub(crate) host: usize,
    pub(crate) rom: bool,
    /// Index for the map of marks.
    pub(crate) index: usize,
}

/// Guest-physical RAM.
#[derive(Clone, Debug)]
pub struct Ram(Arc<Shared>);

/// Collects the regions of a [`Ram`].
#[derive(Debug, Default)]
pub struct RamBuilder {
    regions: Vec<Region>,
    owned: Vec<Owned>,
    segments: Vec<GuestRam>,
    shadow: Option<Shadow>,
    pages: usize,
}

impl RamBuilder {
    /// A machine without memory.
    pub fn new() -> RamBuilder {
        RamBuilder::default()
    }

    /// Adds `len` bytes of host memory at `host` as guest-physical `base`; stores to a `rom` region go to the bus.
    ///
    /// # Safety
    /// `host` must be valid for reads and writes of `len` bytes for as long as any clone of the [`Ram`] lives, and nobody
    /// in this process may hold Rust references into it. Other processes may read it.
    ///
    /// # Panics
    /// If base or length is not a multiple of the page size, or the region overlaps another.
    pub unsafe fn map(&mut self, base: u64, host: *mut u8, len: u64, rom: bool) -> &mut Self {
        assert!(
            (base | len) & OFFSET == 0,
            "regions are made of whole pages"
        );
        let end = base.checked_add(len).expect("region wraps");
        let apart = |r: &Region| end <= r.base || r.base + r.len <= base;
        assert!(self.regions.iter().all(apart), "regions overlap");
        self.regions.push(Region {
            base,
            len,
            host: host as usize,
            rom,
            first_page: self.pages,
        });
        self.pages += (len / PAGE) as usize;
        self
    }

    /// Adds `len` zeroed bytes that the RAM owns.
    pub fn anonymous(&mut self, base: u64, len: u64, rom: bool) -> &mut Self {
        let layout =
            Layout::from_size_align(len as usize, PAGE as usize).expect("region too large");
        assert!(len != 0, "an empty region");
        // SAFETY: the layout is not empty.
        let host = unsafe { alloc_zeroed(layout) };
        if host.is_null() {
            handle_alloc_error(layout);
        }
        self.owned.push(Owned {
            host: host as usize,
            layout,
        });
        // SAFETY: `Owned` keeps the allocation until the last clone is gone, and nobody else knows its address.
        unsafe { self.map(base, host, len, rom) }
    }

    /// Adds `len` bytes of a guest-RAM segment, from `offset` on, as guest-physical `base`.
    ///
    /// # Panics
    /// If the range leaves the segment, or as [`RamBuilder::map`] does.
    pub fn shared(&mut self, base: u64, memory: &GuestRam, offset: u64, len: u64) -> &mut Self {
        let inside = offset
            .checked_add(len)
            .is_some_and(|end| end <= memory.len() as u64);
        assert!(inside, "a region leaves its segment");
        self.segments.push(memory.clone());
        // SAFETY: the range lies in the segment's mapping, which `Shared` keeps alive through its clone of the handle;
        // `GuestRam` forms no references into it.
        unsafe { self.map(base, memory.as_ptr().add(offset as usize), len, false) }
    }

    /// Adds read-only memory with this content as guest-physical `base`.
    ///
    /// # Panics
    /// As [`RamBuilder::map`] does, or if there is no content.
    pub fn rom(&mut self, base: u64, bytes: &[u8]) -> &mut Self {
        self.anonymous(base, bytes.len() as u64, true);
        let owned = self.owned.last().expect("it was just added");
        // SAFETY: the allocation has `bytes.len()` bytes, and nobody knows of it yet.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), owned.host as *mut u8, bytes.len());
        }
        self
    }

    /// Lets [`Ram::show`] choose what is seen of the addresses from `base` on, which are RAM, in blocks of [`crate::SHADOW_BLOCK`].
    /// `rom` is where the ROM lies that is shown for the last of them. At first it is all RAM.
    ///
    /// # Panics
    /// If these are no whole blocks, or the ROM is none or longer.
    pub fn shadow(&mut self, base: u64, len: u64, rom: Option<std::ops::Range<u64>>) -> &mut Self {
        let rom = rom.map(|range| {
            let holds = |r: &&Region| range.start >= r.base && range.end <= r.base + r.len;
            let region = self.regions.iter().find(holds).expect("a ROM is memory");
            let host = region.host + (range.start - region.base) as usize;
            (host, range.end - range.start)
        });
        self.shadow = Some(Shadow::new(base, len, rom));
        self
    }

    /// The finished RAM.
    pub fn build(&mut self) -> Ram {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Ram(Arc::new(Shared {
            regions: std::mem::take(&mut self.regions),
            marks: zeros(self.pages),
            stored: zeros(self.pages.div_ceil(64)),
            shadow: self.shadow.take(),
            remapped: AtomicBool::new(false),
            hit: AtomicBool::new(false),
            writes: Mutex::new(Vec::new()),
            _owned: std::mem::take(&mut self.owned),
            _segments: std::mem::take(&mut self.segments),
        }))
    }
}

impl Ram {
    /// `len` bytes of zeroed RAM at address 0.
    pub fn anonymous(len: u64) -> Ram {
        RamBuilder::new().anonymous(0, len, false).build()
    }

    fn region(&self, pa: u64) -> Option<&Region> {
        self.0
            .regions
            .iter()
            .find(|r| pa.wrapping_sub(r.base) < r.len)
    }

    /// The page that holds `pa`, as it is shown, if that is memory.
    pub(crate) fn page(&self, pa: u64) -> Option<HostPage> {
        let r = self.region(pa)?;
        let offset = (pa - r.base) & !OFFSET;
        let ram = HostPage {
            host: r.host + offset as usize,
            rom: r.rom,
            index: r.first_page + (offset / PAGE) as usize,
        };
        match self.shown(pa) {
            Shown::Ram => Some(ram),
            Shown::ReadOnly => Some(HostPage { rom: true, ..ram }),
            Shown::Rom => {
                let host = self.0.shadow.as_ref()?.rom(pa & !OFFSET)?;
                Some(HostPage {
                    host,
                    rom: true,
                    ..ram
                })
            }
            Shown::Nothing => None,
        }
    }

    fn shown(&self, pa: u64) -> Shown {
        match &self.0.shadow {
            Some(shadow) => shadow.at(pa),
            None => Shown::Ram,
        }
    }

    /// The map index of the page that holds `pa`, whatever is shown there.
    fn index(&self, pa: u64) -> Option<usize> {
        self.region(pa)
            .map(|r| r.first_page + ((pa - r.base) / PAGE) as usize)
    }

    /// Shows something else from `pa` on, for the block that it lies in. Code that was found there is reported as overwritten, and
    /// [`crate::Mmu::follow_remaps`] has to be called before the next access of the CPU. Nothing happens where nothing can be chosen.
    pub fn show(&self, pa: u64, what: Shown) {
        let Some(block) = self.0.shadow.as_ref().and_then(|s| s.set(pa, what)) else {
            return;
        };
        self.0.remapped.store(true, Relaxed);
        let len = block.end - block.start;
        if self.has_code(block.start, len) {
            self.report_code(block.start, len);
        }
    }

    /// Whether something was shown anew since the last call.
    pub(crate) fn take_remapped(&self) -> bool {
        self.0.remapped.load(Relaxed) && self.0.remapped.swap(false, Relaxed)
    }

    /// How many pages the RAM has.
    pub(crate) fn pages(&self) -> usize {
        self.0.marks.len()
    }

    /// The regions as (base, length, ROM), in the order in which they were added.
    pub fn regions(&self) -> impl Iterator<Item = (u64, u64, bool)> + '_ {
        self.0.regions.iter().map(|r| (r.base, r.len, r.rom))
    }

    /// The host address of `len` bytes that lie in one region, none of them in the shadow.
    fn host(&self, pa: u64, len: u64) -> Option<(usize, bool)> {
        let r = self.region(pa)?;
        let offset = pa - r.base;
        let plain = match &self.0.shadow {
            Some(shadow) => !shadow.touches(pa, len),
            None => true,
        };
        (plain && len <= r.len - offset).then_some((r.host + offset as usize, r.rom))
    }

    /// Calls `f` with the host address, the length and the place of each piece of `len` bytes at `pa`. False, with `f` not called, if
    /// not all of it is memory, or (for a write) RAM.
    fn pieces(
        &self,
        pa: u64,
        len: usize,
        write: bool,
        mut f: impl FnMut(usize, usize, usize),
    ) -> bool {
        if let Some((host, rom)) = self.host(pa, len as u64) {
            if !(write && rom) {
                f(host, len, 0);
            }
            return !(write && rom);
        }
        let Some(end) = pa.checked_add(len as u64) else {
            return false;
        };
        let permitted = |at| self.page(at).is_some_and(|p| !(write && p.rom));
        let first = pa & !OFFSET;
        if !(first..end).step_by(PAGE as usize).all(permitted) {
            return false;
        }
        let mut at = pa;
        while at < end {
            let n = (PAGE - (at & OFFSET)).min(end - at) as usize;
            let page = self.page(at).expect("every page was looked at");
            f(page.host + (at & OFFSET) as usize, n, (at - pa) as usize);
            at += n as u64;
        }
        true
    }

    /// Copies memory out. False, with nothing copied, if not all of it is memory.
    pub fn read(&self, pa: u64, bytes: &mut [u8]) -> bool {
        self.pieces(pa, bytes.len(), false, |host, n, at| {
            let to = bytes[at..at + n].as_mut_ptr();
            // SAFETY: `host` is valid for `n` bytes (RamBuilder::map), and no Rust reference overlaps guest memory.
            unsafe { std::ptr::copy_nonoverlapping(host as *const u8, to, n) };
        })
    }

    /// Copies into RAM and reports code that it overwrites: DMA and the loader. False, with nothing written, if not all of it is
    /// RAM that can be written now.
    pub fn write(&self, pa: u64, bytes: &[u8]) -> bool {
        let written = self.pieces(pa, bytes.len(), true, |host, n, at| {
            let from = bytes[at..at + n].as_ptr();
            // SAFETY: as in `read`.
            unsafe { std::ptr::copy_nonoverlapping(from, host as *mut u8, n) };
        });
        if written {
            self.note_write(pa, bytes.len() as u64);
        }
        written
    }

    /// Copies a page of a region out, whatever is shown in its place: for those who hash what RAM holds. False if there is none.
    pub fn read_behind(&self, pa: u64, page: &mut [u8; PAGE as usize]) -> bool {
        let Some(r) = self.region(pa) else {
            return false;
        };
        let host = r.host + ((pa - r.base) & !OFFSET) as usize;
        // SAFETY: regions are made of whole pages, and as in `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(host as *const u8, page.as_mut_ptr(), PAGE as usize);
        }
        true
    }

    /// A little-endian value of 1, 2, 4 or 8 bytes.
    pub fn read_uint(&self, pa: u64, bytes: u32) -> Option<u64> {
        let mut buffer = [0; 8];
        self.read(pa, &mut buffer[..bytes as usize])
            .then(|| u64::from_le_bytes(buffer))
    }

    /// Writes a little-endian value of 1, 2, 4 or 8 bytes.
    pub fn write_uint(&self, pa: u64, bytes: u32, value: u64) -> bool {
        self.write(pa, &value.to_le_bytes()[..bytes as usize])
    }

    // --- code marks ---

    /// The lines of a page that `len` bytes at `pa` touch, as bits; the bytes lie in one page.
    fn lines(pa: u64, len: u64) -> u64 {
        let first = (pa & OFFSET) >> 6;
        let last = ((pa & OFFSET) + len.max(1) - 1).min(OFFSET) >> 6;
        (u64::MAX >> (63 - (last - first))) << first
    }

    /// Calls `f` with the map index and the lines of each page that the bytes touch.
    fn each_page(&self, pa: u64, len: u64, mut f: impl FnMut(usize, u64)) {
        let end = pa + len;
        let mut at = pa;
        while at < end {
            let n = (PAGE - (at & OFFSET)).min(end - at);
            if let Some(page) = self.index(at) {
                f(page, Ram::lines(at, n));
            }
            at += n;
        }
    }

    /// Marks the lines of `len` bytes as code. Only [`crate::Mmu::mark_code`] calls it, which also tells the TLB.
    pub(crate) fn set_marks(&self, pa: u64, len: u64) {
        self.each_page(pa, len, |page, lines| {
            let mark = &self.0.marks[page];
            mark.store(mark.load(Relaxed) | lines, Relaxed);
        });
    }

    /// Removes the marks of all lines that the bytes touch.
    pub fn unmark_code(&self, pa: u64, len: u64) {
        self.each_page(pa, len, |page, lines| {
            let mark = &self.0.marks[page];
            mark.store(mark.load(Relaxed) & !lines, Relaxed);
        });
    }

    /// The marked lines of the page with this map index.
    pub(crate) fn page_marks(&self, index: usize) -> u64 {
        self.0.marks[index].load(Relaxed)
    }

    /// Whether any of the bytes lies in a marked line.
    pub fn has_code(&self, pa: u64, len: u64) -> bool {
        let mut any = false;
        self.each_page(pa, len, |page, lines| {
            any |= self.page_marks(page) & lines != 0;
        });
        any
    }

    /// Notes a write that went through no write tag, and reports it if it touched marked lines.
    pub(crate) fn note_write(&self, pa: u64, len: u64) {
        let mut code = false;
        self.each_page(pa, len, |page, lines| {
            self.note_stored(page);
            code |= self.page_marks(page) & lines != 0;
        });
        if code {
            self.report_code(pa, len);
        }
    }

    fn report_code(&self, address: u64, len: u64) {
        self.0.hit.store(true, Relaxed);
        let mut writes = self
            .0
            .writes
            .lock()
            .expect("no panic happens under this lock");
        writes.push(CodeWrite { address, len });
    }

    /// Notes that the page with this map index was written.
    pub(crate) fn note_stored(&self, index: usize) {
        let word = &self.0.stored[index / 64];
        word.store(word.load(Relaxed) | 1 << (index % 64), Relaxed);
    }

    /// Takes the bits of 64 pages that were noted as written.
    pub(crate) fn take_stored(&self, word: usize) -> u64 {
        self.0.stored[word].swap(0, Relaxed)
    }

    /// Where the page with this map index lies.
    pub(crate) fn address_of(&self, index: usize) -> Option<u64> {
        let holds = |r: &&Region| index.wrapping_sub(r.first_page) < (r.len / PAGE) as usize;
        let region = self.0.regions.iter().find(holds)?;
        Some(region.base + (index - region.first_page) as u64 * PAGE)
    }

    /// Whether a store touched marked lines since [`Ram::take_code_writes`].
    #[inline(always)]
    pub fn code_written(&self) -> bool {
        self.0.hit.load(Relaxed)
    }

    /// Takes the list of stores that touched marked lines.
    pub fn take_code_writes(&self) -> Vec<CodeWrite> {
        self.0.hit.store(false, Relaxed);
        std::mem::take(
            &mut *self
                .0
                .writes
                .lock()
                .expect("no panic happens under this lock"),
        )
    }
}
