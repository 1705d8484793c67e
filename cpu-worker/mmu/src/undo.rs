//! The undo log: what lockstep takes back before the second engine runs the same instructions.
//!
//! With logging on, every write tag carries a slow bit, so that each store and each fill passes by here. The log costs the guest
//! nothing it can see.

use crate::mmu::Mmu;
use crate::ram::Ram;
use crate::tlb::{INVALID, TlbEntry, slow};

#[derive(Clone, Copy, Debug)]
enum Record {
    Store {
        pa: u64,
        at: usize,
        len: usize,
    },
    Tlb {
        code: bool,
        slot: usize,
        old: TlbEntry,
    },
}

/// Old contents of what was stored and filled, in order.
#[derive(Debug, Default)]
pub struct Undo {
    records: Vec<Record>,
    bytes: Vec<u8>,
}

/// A word of the state that stores and fills change: its place, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    pub place: Place,
    pub value: u64,
}

/// Where a [`Stored`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The aligned 8 bytes at this physical address.
    Memory(u64),
    /// A word of an entry of the data TLB.
    Data(usize, u8),
    /// A word of an entry of the code TLB.
    Code(usize, u8),
}

impl Undo {
    pub(crate) fn store(&mut self, ram: &Ram, pa: u64, len: usize) {
        let at = self.bytes.len();
        self.bytes.resize(at + len, 0);
        ram.read(pa, &mut self.bytes[at..]);
        self.records.push(Record::Store { pa, at, len });
    }

    pub(crate) fn tlb(&mut self, code: bool, slot: usize, old: TlbEntry) {
        self.records.push(Record::Tlb { code, slot, old });
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
    }

    /// Whether nothing was stored or filled.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All places that were stored to or filled, sorted, each once.
    pub fn places(&self) -> Vec<Place> {
        let mut all = Vec::new();
        for r in &self.records {
            match *r {
                Record::Store { pa, len, .. } => {
                    all.extend(
                        (pa >> 3..=(pa + len as u64 - 1) >> 3).map(|w| Place::Memory(w << 3)),
                    );
                }
                Record::Tlb {
                    code: false, slot, ..
                } => {
                    all.extend((0..3).map(|w| Place::Data(slot, w)));
                }
                Record::Tlb { slot, .. } => all.extend((0..3).map(|w| Place::Code(slot, w))),
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Mmu {
    /// Turns the log on or off.
    pub fn set_logging(&mut self, on: bool) {
        self.logging = on;
        self.undo.clear();
        self.data_tlb.for_each(|e| {
            if on {
                e.write |= slow::LOG;
            } else {
                e.write &= !slow::LOG;
            }
        });
    }

    /// The log so far; a new one begins.
    pub fn take_undo(&mut self) -> Undo {
        std::mem::take(&mut self.undo)
    }

    /// Gives a log's memory back for use again.
    pub fn recycle_undo(&mut self, mut log: Undo) {
        log.clear();
        self.undo = log;
    }

    /// Takes back all that the log records, newest first.
    pub fn roll_back(&mut self, log: &Undo) {
        for r in log.records.iter().rev() {
            self.take_back(*r, &log.bytes);
        }
    }

    /// Takes back, and forgets, all but the first `mark` records of the present log.
    pub(crate) fn roll_back_to(&mut self, mark: usize) {
        let mut log = std::mem::take(&mut self.undo);
        for r in log.records.drain(mark..).rev() {
            self.take_back(r, &log.bytes);
        }
        self.undo = log;
    }

    fn take_back(&mut self, r: Record, bytes: &[u8]) {
        match r {
            Record::Store { pa, at, len } => {
                self.ram.write(pa, &bytes[at..at + len]);
            }
            Record::Tlb { code, slot, old } => self.restore(code, slot, old),
        }
    }

    /// Puts an entry back. Its code bit may be stale: the page may have been marked since, so it is set where in doubt.
    fn restore(&mut self, code: bool, slot: usize, old: TlbEntry) {
        if code {
            self.code_tlb.put(slot, old);
            return;
        }
        let mut e = old;
        let marked = |p: u64| {
            self.ram
                .page(p)
                .is_some_and(|p| self.ram.page_marks(p.index) != 0)
        };
        if e.write & INVALID == 0 && marked(e.physical()) {
            e.write |= slow::CODE;
        }
        self.data_tlb.put(slot, e);
    }

    /// What is at a place now.
    pub fn value_at(&self, place: Place) -> u64 {
        let word = |e: &TlbEntry, w: u8| match w {
            0 => e.read & !slow::ALL,
            1 => e.write & !slow::ALL,
            _ => e.page,
        };
        match place {
            Place::Memory(pa) => self.ram.read_uint(pa, 8).unwrap_or(0),
            Place::Data(slot, w) if slot < self.data_tlb.len() => word(self.data_tlb.get(slot), w),
            Place::Code(slot, w) if slot < self.code_tlb.len() => word(self.code_tlb.get(slot), w),
            _ => 0,
        }
    }

    /// The places of the log with what they hold now.
    pub fn stored(&self, log: &Undo) -> Vec<Stored> {
        let value = |place| Stored {
            place,
            value: self.value_at(place),
        };
        log.places().into_iter().map(value).collect()
    }
}
