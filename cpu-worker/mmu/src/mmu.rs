//! [`Mmu`]: the current sets, the fill, and the code marks.

use crate::access::MemStop;
use crate::paging::{PagingRegs, Walk, Want, walk};
use crate::ram::Ram;
use crate::tlb::{CODE_ENTRIES, DATA_ENTRIES, INVALID, Tlb, TlbEntry, slow};
use crate::undo::Undo;
use crate::{OFFSET, PAGE};

/// How many PCIDs have sets of their own at a time.
pub(crate) const SLOTS: usize = 8;
const DATA_KINDS: usize = 3;
const CODE_KINDS: usize = 2;
/// The data set that stays empty.
const NEVER: usize = SLOTS * DATA_KINDS;

/// As whom memory is accessed. Each has a TLB set of its own, since the tags hold the permission itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum Privilege {
    /// CPL 3.
    User = 0,
    /// CPL 0 to 2, user pages included.
    #[default]
    Supervisor = 1,
    /// CPL 0 to 2, user pages out of bounds (CR4.SMAP in force).
    Smap = 2,
}

/// What emitted code wants of [`Mmu::host_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Intent {
    Read = 0,
    Write = 1,
}

/// The PCID that a slot of sets belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) pcid: u16,
    pub(crate) valid: bool,
    /// The value of the counter of CR3 loads when it was last chosen.
    pub(crate) used: u64,
}

/// Where one page of an access lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) pa: u64,
    /// Host address of the byte, or 0 for what is not RAM (for a store: ROM too).
    pub(crate) host: usize,
}

/// Memory management of one vCPU. `repr(C)`: emitted code reads the two pointers at its head.
#[derive(Debug)]
#[repr(C)]
pub struct Mmu {
    /// The current data set: its first way has [`DATA_ENTRIES`] entries.
    pub data: *mut TlbEntry,
    /// The current code set: its first way has [`CODE_ENTRIES`] entries.
    pub code: *mut TlbEntry,
    /// For emitted code: what a helper that preserves every register gives back.
    pub answer: u64,
    /// For emitted code: the access that it asks a helper for, its address and what it is.
    pub asked: [u64; 2],
    /// For emitted code: the addresses of its helpers, so that it holds none itself.
    pub helpers: [usize; 8],
    pub(crate) kind: Privilege,
    pub(crate) slot: usize,
    pub(crate) regs: PagingRegs,
    pub(crate) slots: [Slot; SLOTS],
    /// Counts CR3 loads, for the choice of the slot to reuse.
    pub(crate) loads: u64,
    pub(crate) data_tlb: Tlb<DATA_ENTRIES>,
    pub(crate) code_tlb: Tlb<CODE_ENTRIES>,
    pub(crate) ram: Ram,
    /// One bit per page of RAM that a write tag without [`slow::WATCHED`] may name, so that marking a page seldom searches.
    pub(crate) writable: Box<[u64]>,
    /// Whether somebody wants to know which pages are written: a new write tag is watched until its first store.
    pub(crate) tracking: bool,
    pub(crate) logging: bool,
    pub(crate) undo: Undo,
    pub(crate) watching: bool,
    /// What was accessed while watching.
    touched: Vec<Touched>,
}

/// A data access that was tried, as breakpoints see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    pub va: u64,
    pub bytes: u32,
    pub write: bool,
}

// SAFETY: the two pointers lead into allocations that the value owns; nothing else does.
unsafe impl Send for Mmu {}

impl Mmu {
    /// An MMU with paging off and an empty TLB.
    pub fn new(ram: Ram) -> Mmu {
        let words = ram.pages().div_ceil(64);
        let mut mmu = Mmu {
            data: std::ptr::null_mut(),
            code: std::ptr::null_mut(),
            answer: 0,
            asked: [0; 2],
            helpers: [0; 8],
            kind: Privilege::Supervisor,
            slot: 0,
            regs: PagingRegs::default(),
            slots: [Slot::default(); SLOTS],
            loads: 0,
            data_tlb: Tlb::new(SLOTS * DATA_KINDS + 1),
            code_tlb: Tlb::new(SLOTS * CODE_KINDS),
            ram,
            writable: vec![0; words].into(),
            tracking: false,
            logging: false,
            undo: Undo::default(),
            watching: false,
            touched: Vec::new(),
        };
        mmu.slots[0].valid = true;
        mmu.choose_sets();
        mmu
    }

    /// The RAM; clone it for DMA.
    #[inline(always)]
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// As whom explicit accesses are made now.
    pub fn privilege(&self) -> Privilege {
        self.kind
    }

    /// As whom implicit accesses (descriptor tables, TSS, interrupt frames) are made: a supervisor, under SMAP whatever
    /// EFLAGS.AC says (SDM vol. 3A, 4.6.1).
    pub fn implicit(&self) -> Privilege {
        if self.regs.smap() {
            Privilege::Smap
        } else {
            Privilege::Supervisor
        }
    }

    /// Notes every data access from now on, or no more: for the guest's own breakpoints. The lookup without a walk is out of use
    /// meanwhile; what the TLB holds does not change by it.
    pub fn set_watching(&mut self, on: bool) {
        if on != self.watching {
            self.watching = on;
            self.touched.clear();
            self.choose_sets();
        }
    }

    /// The accesses noted since the last call.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn touch(&mut self, va: u64, bytes: u32, write: bool) {
        if self.watching {
            self.touched.push(Touched { va, bytes, write });
        }
    }

    pub(crate) fn data_set(slot: usize, kind: Privilege) -> usize {
        slot * DATA_KINDS + kind as usize
    }

    pub(crate) fn code_set(slot: usize, user: bool) -> usize {
        slot * CODE_KINDS + usize::from(user)
    }

    /// Points at the sets that belong to the current PCID and privilege; while watching, at data entries that never hit.
    pub(crate) fn choose_sets(&mut self) {
        let set = if self.watching {
            NEVER
        } else {
            Mmu::data_set(self.slot, self.kind)
        };
        self.data = self.data_tlb.base(set);
        let user = self.kind == Privilege::User;
        self.code = self.code_tlb.base(Mmu::code_set(self.slot, user));
    }

    /// The address where the page after that of `va` begins.
    pub(crate) fn next_page(&self, va: u64) -> u64 {
        let next = (va | OFFSET).wrapping_add(1);
        if self.regs.long {
            next
        } else {
            next & 0xffff_ffff
        }
    }

    /// Translates one page of a data access: the one place that fills and evicts data entries. A hit in the first way changes nothing.
    pub(crate) fn translate(
        &mut self,
        kind: Privilege,
        va: u64,
        write: bool,
    ) -> Result<Found, MemStop> {
        let slot = Tlb::<DATA_ENTRIES>::slot(Mmu::data_set(self.slot, kind), va);
        if !self.data_permits(slot, va, write) {
            self.recall(false, slot, va);
            if !self.data_permits(slot, va, write) {
                self.fill_data(slot, kind, va, write)?;
            }
        }
        let e = self.data_tlb.get(slot);
        let tag = if write { e.write } else { e.read };
        Ok(Found {
            pa: e.physical() | (va & OFFSET),
            host: if tag & slow::DEVICE != 0 {
                0
            } else {
                e.host.wrapping_add(va) as usize
            },
        })
    }

    /// Whether [`Mmu::translate`] would permit this: leaves no trace.
    pub(crate) fn check_page(&self, kind: Privilege, va: u64, write: bool) -> Result<(), MemStop> {
        let slot = Tlb::<DATA_ENTRIES>::slot(Mmu::data_set(self.slot, kind), va);
        if self.data_permits(slot, va, write) || self.data_permits(behind(false, slot), va, write) {
            return Ok(());
        }
        self.walk(va, Want::data(kind, write)).map(|_| ())
    }

    fn data_permits(&self, slot: usize, va: u64, write: bool) -> bool {
        let e = self.data_tlb.get(slot);
        let tag = if write { e.write } else { e.read };
        tag & !slow::ALL == va & !OFFSET
    }

    /// Swaps an entry of the first way with the one behind it, if that is the page's.
    fn recall(&mut self, code: bool, slot: usize, va: u64) {
        let behind = behind(code, slot);
        let (first, second) = (self.entry(code, slot), self.entry(code, behind));
        if !second.is_empty() && second.virtual_page() == va & !OFFSET {
            self.put(code, slot, second);
            self.put(code, behind, first);
        }
    }

    fn entry(&self, code: bool, slot: usize) -> TlbEntry {
        if code {
            *self.code_tlb.get(slot)
        } else {
            *self.data_tlb.get(slot)
        }
    }

    /// Replaces an entry, logged.
    fn put(&mut self, code: bool, slot: usize, e: TlbEntry) {
        let old = if code {
            self.code_tlb.put(slot, e)
        } else {
            self.data_tlb.put(slot, e)
        };
        if self.logging {
            self.undo.tlb(code, slot, old);
        }
    }

    /// Fills an entry of the first way. What it held of another page goes to the second.
    fn fill_entry(&mut self, code: bool, slot: usize, e: TlbEntry) {
        let old = self.entry(code, slot);
        if !old.is_empty() && old.virtual_page() != e.virtual_page() {
            self.put(code, behind(code, slot), old);
        }
        self.put(code, slot, e);
    }

    fn fill_data(
        &mut self,
        slot: usize,
        kind: Privilege,
        va: u64,
        write: bool,
    ) -> Result<(), MemStop> {
        let (page, attr, writable) = self.walk_and_commit(va, Want::data(kind, write))?;
        let tag = va & !OFFSET;
        let mut e = TlbEntry {
            read: tag,
            write: if writable { tag } else { INVALID },
            host: 0,
            page: page | attr,
        };
        match self.ram.page(page) {
            None => {
                e.read |= slow::DEVICE;
                e.write |= slow::DEVICE;
            }
            Some(host) => {
                e.host = (host.host as u64).wrapping_sub(tag);
                if host.rom {
                    e.write |= slow::DEVICE;
                } else if self.tracking || self.ram.page_marks(host.index) != 0 {
                    e.write |= slow::WATCHED;
                } else if writable {
                    self.writable[host.index / 64] |= 1 << (host.index % 64);
                }
            }
        }
        if self.logging {
            e.write |= slow::LOG;
        }
        self.fill_entry(false, slot, e);
        Ok(())
    }

    /// Whether the paging mode can translate the address: with four levels, bits 47 to 63 are equal.
    pub(crate) fn is_canonical(&self, va: u64) -> bool {
        !self.regs.four_level() || ((va << 16) as i64 >> 16) as u64 == va
    }

    fn walk(&self, va: u64, want: Want) -> Result<Walk, MemStop> {
        if !self.is_canonical(va) {
            return Err(MemStop::NonCanonical);
        }
        walk(&self.ram, &self.regs, va, want).map_err(|code| MemStop::PageFault { va, code })
    }

    /// Walks, and sets accessed and dirty bits: (page, attributes, writable without another walk).
    fn walk_and_commit(&mut self, va: u64, want: Want) -> Result<(u64, u64, bool), MemStop> {
        let w = self.walk(va, want)?;
        for u in w.used.iter().filter(|u| u.old != u.new) {
            self.store_physical(u.address, &u.new.to_le_bytes()[..u.bytes as usize]);
        }
        Ok((w.page, w.attr, w.write))
    }

    /// Stores to RAM by physical address, logged and checked against code. False where it is not writable RAM.
    pub(crate) fn store_physical(&mut self, pa: u64, bytes: &[u8]) -> bool {
        if self.ram.page(pa).is_none_or(|p| p.rom) {
            return false;
        }
        if self.logging {
            self.undo.store(&self.ram, pa, bytes.len());
        }
        self.ram.write(pa, bytes)
    }

    /// Translates an instruction fetch and gives the physical address: the one place that fills and evicts code entries.
    ///
    /// # Errors
    /// As a data read; what is not RAM gives [`MemStop::Device`].
    #[inline(always)]
    pub fn fetch(&mut self, va: u64) -> Result<u64, MemStop> {
        match self.peek_fetch(va) {
            Some(pa) => Ok(pa),
            None => self.fetch_slow(va),
        }
    }

    /// Where `va` is fetched from, if the first way of the code TLB knows: changes nothing.
    #[inline(always)]
    pub fn peek_fetch(&self, va: u64) -> Option<u64> {
        // SAFETY: `code` points at CODE_ENTRIES entries (`choose_sets`).
        let e = unsafe { &*self.code.add((va / PAGE) as usize & (CODE_ENTRIES - 1)) };
        (va & !OFFSET == e.read).then(|| e.physical() | (va & OFFSET))
    }

    #[cold]
    fn fetch_slow(&mut self, va: u64) -> Result<u64, MemStop> {
        let user = self.kind == Privilege::User;
        let slot = Tlb::<CODE_ENTRIES>::slot(Mmu::code_set(self.slot, user), va);
        let tag = va & !OFFSET;
        if self.code_tlb.get(slot).read & !slow::ALL != tag {
            self.recall(true, slot, va);
        }
        if self.code_tlb.get(slot).read & !slow::ALL != tag {
            let want = Want {
                write: false,
                fetch: true,
                user,
                smap: false,
            };
            let (page, attr, _) = self.walk_and_commit(va, want)?;
            let host = self.ram.page(page);
            let e = TlbEntry {
                read: tag | if host.is_none() { slow::DEVICE } else { 0 },
                write: INVALID,
                host: host.map_or(0, |h| (h.host as u64).wrapping_sub(tag)),
                page: page | attr,
            };
            self.fill_entry(true, slot, e);
        }
        let e = self.code_tlb.get(slot);
        let pa = e.physical() | (va & OFFSET);
        if e.read & slow::DEVICE != 0 {
            return Err(MemStop::Device { pa });
        }
        Ok(pa)
    }

    /// Drops all translations if something else is shown somewhere ([`Ram::show`]) since the last call; whether it is.
    pub fn follow_remaps(&mut self) -> bool {
        let remapped = self.ram.take_remapped();
        if remapped {
            self.flush_all();
        }
        remapped
    }

    /// Marks the lines of `len` bytes at `pa` as code: stores to them are reported through [`Ram::code_written`].
    pub fn mark_code(&mut self, pa: u64, len: u64) {
        let mut at = pa;
        while at < pa + len {
            let n = (PAGE - (at & OFFSET)).min(pa + len - at);
            self.mark_page(at, n);
            at += n;
        }
    }

    fn mark_page(&mut self, pa: u64, len: u64) {
        let Some(page) = self.ram.page(pa) else {
            return;
        };
        self.ram.set_marks(pa, len);
        let (word, bit) = (page.index / 64, 1 << (page.index % 64));
        if self.writable[word] & bit == 0 {
            return;
        }
        self.writable[word] &= !bit;
        self.ram.note_stored(page.index);
        self.data_tlb.for_each(|e| {
            if e.physical() == pa & !OFFSET && e.write & INVALID == 0 {
                e.write |= slow::WATCHED;
            }
        });
    }

    /// After a slow store: a page without marks need not be watched any more.
    pub(crate) fn forget_mark(&mut self, kind: Privilege, va: u64) {
        let slot = Tlb::<DATA_ENTRIES>::slot(Mmu::data_set(self.slot, kind), va);
        let e = *self.data_tlb.get(slot);
        if e.write & slow::WATCHED == 0 {
            return;
        }
        if let Some(page) = self.ram.page(e.physical())
            && self.ram.page_marks(page.index) == 0
        {
            self.writable[page.index / 64] |= 1 << (page.index % 64);
            self.data_tlb.get_mut(slot).write &= !slow::WATCHED;
        }
    }
}

/// The entry of the second way behind one of the first.
fn behind(code: bool, slot: usize) -> usize {
    if code {
        Tlb::<CODE_ENTRIES>::behind(slot)
    } else {
        Tlb::<DATA_ENTRIES>::behind(slot)
    }
}
