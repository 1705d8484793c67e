//! The TLB: sets of entries in two ways, of which emitted code reads the first inline.
//!
//! The second way holds what a fill of the first pushed out, so that two busy pages that share an index cost a swap, not a walk
//! each time. Both ways are the guest's state: a hit in the first changes nothing, a hit in the second swaps.
//!
//! A tag is the virtual page where the access is permitted, else [`INVALID`]. The inline test compares the page of the
//! access's *last* byte with the tag found by the page of its first, so an access over two pages fails it, and so does any
//! tag with one of the [`slow`] bits.

use std::ptr::NonNull;

use crate::{OFFSET, PAGE};

/// Entries in each way of a set for data accesses.
pub const DATA_ENTRIES: usize = 2048;
/// Entries in each way of a set for instruction fetches.
pub const CODE_ENTRIES: usize = 512;
/// Ways of a set.
pub(crate) const WAYS: usize = 2;

/// A tag that no address matches, slow bits ignored or not.
pub(crate) const INVALID: u64 = 0x800;

/// Bits in a tag that send an access the slow way although it is permitted.
pub mod slow {
    /// The page has lines with code, or its next store is to be noted (write tags).
    pub const WATCHED: u64 = 1;
    /// Stores are logged for lockstep (write tags).
    pub const LOG: u64 = 2;
    /// The page is not RAM, or it is ROM (write tags).
    pub const DEVICE: u64 = 4;
    /// All of them.
    pub const ALL: u64 = WATCHED | LOG | DEVICE;
}

/// Attribute bits in [`TlbEntry::page`].
pub(crate) mod attr {
    pub(crate) const GLOBAL: u64 = 1;
    /// A fragment of a page of 2 or 4 MiB.
    pub(crate) const LARGE: u64 = 2;
    /// A fragment of a page of 1 GiB.
    pub(crate) const HUGE: u64 = 4;
    /// Set with `LARGE` where the page has 4 MiB.
    pub(crate) const FOUR_MIB: u64 = 8;
}

/// One translation. `repr(C)`: emitted code reads `read`, `write` and `host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TlbEntry {
    /// Tag for loads; in a code set, for fetches.
    pub read: u64,
    /// Tag for stores. Valid only once the dirty bit is set.
    pub write: u64,
    /// Host address = virtual address + this (wrapping). Meaningless for devices.
    pub host: u64,
    /// The physical page, and attribute bits below it.
    pub page: u64,
}

const _: () = assert!(size_of::<TlbEntry>() == 32);

impl TlbEntry {
    pub(crate) const EMPTY: TlbEntry = TlbEntry {
        read: INVALID,
        write: INVALID,
        host: 0,
        page: 0,
    };

    /// The physical address of the page.
    #[inline(always)]
    pub fn physical(&self) -> u64 {
        self.page & !OFFSET
    }

    /// The virtual page, whichever tag is valid.
    pub(crate) fn virtual_page(&self) -> u64 {
        let tag = if self.read & INVALID == 0 {
            self.read
        } else {
            self.write
        };
        tag & !OFFSET
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read & self.write & INVALID != 0
    }

    /// The size of the page that this is a fragment of.
    fn page_size(&self) -> u64 {
        match self.page & (attr::LARGE | attr::HUGE | attr::FOUR_MIB) {
            0 => PAGE,
            attr::LARGE => 2 << 20,
            attr::HUGE => 1 << 30,
            _ => 4 << 20,
        }
    }

    /// Whether the page that this is a fragment of holds `va`.
    fn covers(&self, va: u64) -> bool {
        (self.virtual_page() ^ va) & !(self.page_size() - 1) == 0
    }
}

/// Which entries a flush spares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// Everything goes.
    All,
    /// Global entries stay.
    NotGlobal,
    /// Only global entries go.
    OnlyGlobal,
}

impl Scope {
    fn takes(self, e: &TlbEntry) -> bool {
        match self {
            Scope::All => true,
            Scope::NotGlobal => e.page & attr::GLOBAL == 0,
            Scope::OnlyGlobal => e.page & attr::GLOBAL != 0,
        }
    }
}

/// A number of sets of [`WAYS`] times `N` entries each: the first way, then the second.
#[derive(Debug)]
pub(crate) struct Tlb<const N: usize> {
    /// Owned. Kept as a pointer because emitted code and the inline lookup read it through pointers of their own.
    entries: NonNull<[TlbEntry]>,
    /// One bit per entry that may hold something, so that a flush costs what was filled.
    used: Box<[u64]>,
    /// Per set, which 1 GiB pieces of the address space (hashed to 64) may hold fragments of large pages.
    large: Box<[u64]>,
}

impl<const N: usize> Tlb<N> {
    /// Entries of a set.
    const SET: usize = N * WAYS;
    const WORDS: usize = Self::SET / 64;

    pub(crate) fn new(sets: usize) -> Self {
        Tlb {
            entries: NonNull::from(Box::leak(
                vec![TlbEntry::EMPTY; Self::SET * sets].into_boxed_slice(),
            )),
            used: vec![0; Self::WORDS * sets].into(),
            large: vec![0; sets].into(),
        }
    }

    /// The first entry of a set, for emitted code and the inline lookup.
    pub(crate) fn base(&mut self, set: usize) -> *mut TlbEntry {
        assert!(set < self.large.len());
        // SAFETY: the set lies inside the allocation.
        unsafe {
            self.entries
                .cast::<TlbEntry>()
                .as_ptr()
                .add(set * Self::SET)
        }
    }

    #[inline(always)]
    fn all(&self) -> &[TlbEntry] {
        // SAFETY: we own the allocation; emitted code only reads it, and not while this borrow lives.
        unsafe { self.entries.as_ref() }
    }

    #[inline(always)]
    fn all_mut(&mut self) -> &mut [TlbEntry] {
        // SAFETY: as in `all`; the borrow of `self` is unique.
        unsafe { self.entries.as_mut() }
    }

    /// Where the entry for `va` lies in the first way.
    #[inline(always)]
    pub(crate) fn slot(set: usize, va: u64) -> usize {
        set * Self::SET + ((va / PAGE) as usize & (N - 1))
    }

    /// The entry of the second way behind one of the first.
    pub(crate) fn behind(slot: usize) -> usize {
        slot + N
    }

    #[inline(always)]
    pub(crate) fn get(&self, slot: usize) -> &TlbEntry {
        &self.all()[slot]
    }

    /// Replaces an entry and gives the old one.
    pub(crate) fn put(&mut self, slot: usize, e: TlbEntry) -> TlbEntry {
        self.used[slot / 64] |= 1 << (slot % 64);
        if e.page & (attr::LARGE | attr::HUGE) != 0 {
            self.large[slot / Self::SET] |= large_bit(e.virtual_page());
        }
        std::mem::replace(&mut self.all_mut()[slot], e)
    }

    /// Changes slow-path bits of an entry; no part of the guest's state.
    pub(crate) fn get_mut(&mut self, slot: usize) -> &mut TlbEntry {
        &mut self.all_mut()[slot]
    }

    /// Calls `f` for each entry of a set that may hold something; drops it if `f` says so.
    fn retain(&mut self, set: usize, mut keep: impl FnMut(&mut TlbEntry) -> bool) {
        for word in set * Self::WORDS..(set + 1) * Self::WORDS {
            let mut bits = self.used[word];
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                bits ^= bit;
                let e = &mut self.all_mut()[word * 64 + bit.trailing_zeros() as usize];
                if e.is_empty() || !keep(e) {
                    *e = TlbEntry::EMPTY;
                    self.used[word] ^= bit;
                }
            }
        }
    }

    /// Drops the entries of a set that are in scope.
    pub(crate) fn flush(&mut self, set: usize, scope: Scope) {
        self.retain(set, |e| !scope.takes(e));
        if scope == Scope::All {
            self.large[set] = 0;
        }
    }

    /// Drops what translates `va`: its own entry, and every fragment of a large page that holds it.
    pub(crate) fn flush_page(&mut self, set: usize, va: u64, scope: Scope) {
        let first = Self::slot(set, va);
        for slot in [first, Self::behind(first)] {
            let e = &mut self.all_mut()[slot];
            if !e.is_empty() && e.covers(va) && scope.takes(e) {
                *e = TlbEntry::EMPTY;
            }
        }
        if self.large[set] & large_bit(va) != 0 {
            self.retain(set, |e| !(e.covers(va) && scope.takes(e)));
        }
    }

    /// Calls `f` for every entry of every set.
    pub(crate) fn for_each(&mut self, mut f: impl FnMut(&mut TlbEntry)) {
        for set in 0..self.large.len() {
            self.retain(set, |e| {
                f(e);
                true
            });
        }
    }

    /// All entries, slow bits removed: what the guest could observe.
    pub(crate) fn visible(&self) -> impl Iterator<Item = [u64; 3]> + '_ {
        self.all()
            .iter()
            .map(|e| [e.read & !slow::ALL, e.write & !slow::ALL, e.page])
    }
}

impl<const N: usize> Drop for Tlb<N> {
    fn drop(&mut self) {
        // SAFETY: the allocation came from a leaked box and is freed once, here.
        drop(unsafe { Box::from_raw(self.entries.as_ptr()) });
    }
}

fn large_bit(va: u64) -> u64 {
    let piece = va >> 30;
    1 << ((piece ^ (piece >> 6) ^ (piece >> 12)) & 63)
}
