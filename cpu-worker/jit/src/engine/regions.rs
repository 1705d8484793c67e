//! Installed regions: their code, their links, the table of indirect targets, and what drops them.

use std::collections::BTreeMap;

use atoll_x86::interp::BlockCache;
use rustc_hash::FxHashMap;

use super::{PAGE, Rank};
use crate::abi::{NO_TARGET, TARGETS, Target, target_key, target_slot};
use crate::arena::{Arena, Piece};
use crate::compiler::Compiled;
use crate::links::Link;

/// Memory for code, touched only where used, which bounds what a machine takes beside its RAM. When it is full a part of the code goes, the
/// oldest first, and what of it is still hot comes back soon.
pub(crate) const ARENA: usize = 26 << 20;
/// The same for lockstep, which keeps several regions of each head.
pub(crate) const LARGE_ARENA: usize = 256 << 20;

/// A way into a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    region: u32,
    pub(crate) number: u32,
}

impl Entry {
    /// As the tag of the block at the entry. No region has 256 entries.
    fn tag(self) -> u32 {
        (self.region << 8 | self.number) + 1
    }

    fn from_tag(tag: u32) -> Entry {
        Entry {
            region: (tag - 1) >> 8,
            number: (tag - 1) & 255,
        }
    }
}

/// A region that can be entered.
#[derive(Debug)]
struct Region {
    piece: Piece,
    address: usize,
    /// Physical address of each entry, by number.
    entries: Box<[u64]>,
    mode: u32,
    /// Physical bytes that it was made from.
    code: Vec<(u64, u64)>,
    links: Box<[Link]>,
    /// Links of other regions (or its own) that lead here, by address.
    incoming: Vec<usize>,
    /// Slots of the target table that lead here.
    targets: Vec<usize>,
    /// Its entries give way to higher ones.
    rank: Rank,
    /// How many were installed before it.
    age: u64,
    _calls: Vec<Box<atoll_x86::Op>>,
    _counters: Box<[u32]>,
}

/// All regions.
#[derive(Debug)]
pub(crate) struct Regions {
    arena: Arena,
    slots: Vec<Option<Region>>,
    free: Vec<u32>,
    /// Entries by physical address and mode.
    entries: FxHashMap<(u64, u32), Entry>,
    by_page: FxHashMap<u64, Vec<u32>>,
    table: Box<[Target]>,
    /// Which region the links at each address belong to, so that a stale address is never patched.
    owners: BTreeMap<usize, u32>,
    installed: u64,
}

const EMPTY: Target = Target {
    key: NO_TARGET,
    code: 0,
    entry: 0,
    reserved: 0,
};

impl Regions {
    /// No regions yet, and room for this many bytes of code.
    ///
    /// # Errors
    /// The system's, if there is no memory for code.
    pub(crate) fn new(bytes: usize) -> rustix::io::Result<Regions> {
        Ok(Regions {
            arena: Arena::new(bytes)?,
            slots: Vec::new(),
            free: Vec::new(),
            entries: FxHashMap::default(),
            by_page: FxHashMap::default(),
            table: vec![EMPTY; TARGETS].into(),
            owners: BTreeMap::new(),
            installed: 0,
        })
    }

    /// The address of the target table, for emitted code.
    pub(crate) fn table(&self) -> usize {
        self.table.as_ptr() as usize
    }

    pub(crate) fn code_bytes(&self) -> usize {
        self.arena.used()
    }

    pub(crate) fn installed(&self) -> u64 {
        self.installed
    }

    /// The entry at a place.
    pub(crate) fn entry(&self, physical: u64, mode: u32) -> Option<Entry> {
        self.entries.get(&(physical, mode)).copied()
    }

    /// The entry that a tag means, if it is still the one of this place.
    pub(crate) fn tagged(&self, tag: u32, physical: u64, mode: u32) -> Option<Entry> {
        let entry = Entry::from_tag(tag);
        let r = self.region(entry.region)?;
        let here = r.mode == mode && r.entries.get(entry.number as usize) == Some(&physical);
        here.then_some(entry)
    }

    fn region(&self, id: u32) -> Option<&Region> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// The rank of an entry's region.
    pub(crate) fn rank(&self, entry: Entry) -> Option<Rank> {
        self.region(entry.region).map(|r| r.rank)
    }

    /// Where a region's code is.
    pub(crate) fn address(&self, entry: Entry) -> Option<usize> {
        self.region(entry.region).map(|r| r.address)
    }

    /// Installs a region, if need be in place of older ones, and tags the blocks at which it is entered now. One that is larger than the arena is
    /// given up.
    pub(crate) fn install(&mut self, c: Compiled, rank: Rank, blocks: &mut BlockCache) {
        let piece = loop {
            match self.arena.install(&c.code) {
                Some(piece) => break piece,
                None if self.arena.used() == 0 => return,
                None => self.evict(blocks),
            }
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let physical =
            |at: i64| c.plan.pages[&at.div_euclid(PAGE as i64)] + at.rem_euclid(PAGE as i64) as u64;
        let region = Region {
            piece,
            address: self.arena.address(piece),
            entries: c.entries.iter().map(|&at| physical(at)).collect(),
            mode: c.plan.mode,
            code: c.plan.code(),
            links: c.links,
            incoming: Vec::new(),
            targets: Vec::new(),
            rank,
            age: self.installed,
            _calls: c.calls,
            _counters: c.counters,
        };
        if !region.links.is_empty() {
            self.owners.insert(region.links.as_ptr() as usize, id);
        }
        let mut pages: Vec<u64> = region.code.iter().map(|&(at, _)| at / PAGE).collect();
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            self.by_page.entry(page).or_default().push(id);
        }
        let mut older = Vec::new();
        for (number, &at) in region.entries.iter().enumerate() {
            let entry = Entry {
                region: id,
                number: number as u32,
            };
            // The head always becomes this region's; other places keep the region that they have, unless this one's code is better.
            let place = (at, region.mode);
            let old = self.entries.get(&place).copied();
            let worse = |e: Entry| self.rank(e).is_none_or(|r| r < rank);
            if number == 0 || old.is_none_or(worse) {
                self.entries.insert(place, entry);
                blocks.set_tag(at, region.mode, entry.tag());
                if let Some(old) = old {
                    self.supersede(old);
                    older.push(old.region);
                }
            }
        }
        self.slots[id as usize] = Some(region);
        self.installed += 1;
        for id in older {
            self.remove_if_left(id);
        }
    }

    /// Drops a region that can no longer be entered.
    fn remove_if_left(&mut self, id: u32) {
        let Some(r) = self.region(id) else {
            return;
        };
        let mut entries = r.entries.iter().map(|&at| self.entry(at, r.mode));
        if !entries.any(|e| e.is_some_and(|e| e.region == id)) {
            self.remove(id);
        }
    }

    /// Leads what led to an entry to nowhere, so that it finds its successor.
    fn supersede(&mut self, old: Entry) {
        let Some(region) = self.slots[old.region as usize].as_mut() else {
            return;
        };
        let code = region.address;
        let incoming = std::mem::take(&mut region.incoming);
        for slot in &region.targets {
            let t = &mut self.table[*slot];
            if t.code == code && t.entry == u64::from(old.number) {
                *t = EMPTY;
            }
        }
        self.unlink(&incoming, |l| {
            l.code == code && l.entry == u64::from(old.number)
        });
        if let Some(region) = self.slots[old.region as usize].as_mut() {
            region.incoming = incoming;
        }
    }

    /// Patches the link at this address (as emitted code left it in `Mmu::answer`) to lead to an entry.
    pub(crate) fn link(&mut self, link: usize, entry: Entry) {
        let Some(code) = self.address(entry) else {
            return;
        };
        let Some(l) = self.link_at(link) else {
            return;
        };
        l.entry = u64::from(entry.number);
        l.code = code;
        if let Some(r) = self.slots[entry.region as usize].as_mut() {
            r.incoming.push(link);
        }
    }

    /// The link at this address, if there is one still.
    fn link_at(&mut self, address: usize) -> Option<&mut Link> {
        let (&first, &owner) = self.owners.range(..=address).next_back()?;
        let region = self.slots[owner as usize].as_mut()?;
        region.links.get_mut((address - first) / size_of::<Link>())
    }

    /// Makes an entry the target of indirect branches to `rip`.
    pub(crate) fn target(&mut self, rip: u64, mode: u32, entry: Entry) {
        let Some(code) = self.address(entry) else {
            return;
        };
        let slot = target_slot(rip);
        self.table[slot] = Target {
            key: target_key(rip, mode),
            code,
            entry: u64::from(entry.number),
            reserved: 0,
        };
        // Two places that share a slot take it from each other again and again.
        if let Some(r) = self.slots[entry.region as usize].as_mut()
            && !r.targets.contains(&slot)
        {
            r.targets.push(slot);
        }
    }

    /// Drops the regions that touch lines of the `len` bytes at `address`, which lie in one page; how many.
    pub(crate) fn invalidate(&mut self, address: u64, len: u64, blocks: &mut BlockCache) -> usize {
        let Some(list) = self.by_page.get(&(address / PAGE)) else {
            return 0;
        };
        let touched = |r: &Region| {
            r.code
                .iter()
                .any(|&(at, n)| lines_meet(at, n, address, len))
        };
        let hit: Vec<u32> = list
            .iter()
            .copied()
            .filter(|&id| self.region(id).is_some_and(touched))
            .collect();
        for &id in &hit {
            self.drop_region(id, blocks);
        }
        hit.len()
    }

    /// Drops a region whose places have to prove themselves anew.
    fn drop_region(&mut self, id: u32, blocks: &mut BlockCache) {
        for (at, mode) in self.remove(id) {
            blocks.set_tag(at, mode, 0);
            blocks.set_heat(at, mode, 0);
        }
    }

    /// Drops a region; gives the places that are no entries any more.
    fn remove(&mut self, id: u32) -> Vec<(u64, u32)> {
        let Some(region) = self.slots[id as usize].take() else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        self.owners.remove(&(region.links.as_ptr() as usize));
        self.unlink(&region.incoming, |l| l.code == region.address);
        for &slot in &region.targets {
            if self.table[slot].code == region.address {
                self.table[slot] = EMPTY;
            }
        }
        for &at in &region.entries {
            let place = (at, region.mode);
            if self.entries.get(&place).is_some_and(|e| e.region == id) {
                self.entries.remove(&place);
                gone.push(place);
            }
        }
        for &(at, _) in &region.code {
            if let Some(list) = self.by_page.get_mut(&(at / PAGE)) {
                list.retain(|&r| r != id);
            }
        }
        self.arena.free(region.piece);
        self.free.push(id);
        gone
    }

    /// Leads those of the links to nowhere again that lead where they should not.
    fn unlink(&mut self, links: &[usize], wrong: impl Fn(&Link) -> bool) {
        for &at in links {
            if let Some(l) = self.link_at(at).filter(|l| wrong(l)) {
                *l = Link::unlinked();
            }
        }
    }

    /// Makes room: drops the oldest regions, a quarter of all code.
    fn evict(&mut self, blocks: &mut BlockCache) {
        let mut by_age: Vec<(u64, u32)> = (0..)
            .zip(&self.slots)
            .filter_map(|(id, slot)| Some((slot.as_ref()?.age, id)))
            .collect();
        by_age.sort_unstable();
        let enough = self.arena.used() / 4 * 3;
        for (_, id) in by_age {
            if self.arena.used() <= enough {
                break;
            }
            self.drop_region(id, blocks);
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        for id in 0..self.slots.len() as u32 {
            self.remove(id);
        }
    }
}

/// Whether two ranges touch a common 64-byte line.
pub(crate) fn lines_meet(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    let (a0, a1) = (a >> 6, (a + a_len.max(1) - 1) >> 6);
    let (b0, b1) = (b >> 6, (b + b_len.max(1) - 1) >> 6);
    a0 <= b1 && b0 <= a1
}
