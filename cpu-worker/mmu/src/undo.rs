//! The undo log: what lockstep takes back before the second engine runs the same instructions, and compares afterwards.
//!
//! With logging on, every write tag carries a slow bit, so that each store and each fill passes by here. The log costs the guest
//! nothing it can see. A stretch that was [taken off](Mmu::take_changes) the log knows what its places held before and what they
//! held after it, so that it can be undone, and compared with another over the same instructions.

use std::collections::BTreeMap;

use crate::mmu::Mmu;
use crate::ram::Ram;
use crate::tlb::{INVALID, TlbEntry, slow};

/// A change: its place. What was there before is in the log's words, see [`Record::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Store { pa: u64, len: u32 },
    Data(u32),
    Code(u32),
}

impl Record {
    /// How many words its contents are kept in: bytes are filled up with zeros.
    fn words(self) -> usize {
        match self {
            Record::Store { len, .. } => (len as usize).div_ceil(8),
            Record::Data(_) | Record::Code(_) => 4,
        }
    }
}

/// What was stored and filled, in order, with what was there before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Undo {
    records: Vec<Record>,
    old: Vec<u64>,
}

impl Undo {
    pub(crate) fn store(&mut self, ram: &Ram, pa: u64, len: usize) {
        debug_assert!(len != 0, "a store of nothing");
        push_bytes(&mut self.old, ram, pa, len);
        let len = len as u32;
        self.records.push(Record::Store { pa, len });
    }

    /// A store of 1, 2, 4 or 8 bytes to where this value is.
    pub(crate) fn store_over(&mut self, pa: u64, len: u32, old: u64) {
        self.old.push(old);
        self.records.push(Record::Store { pa, len });
    }

    pub(crate) fn tlb(&mut self, code: bool, slot: usize, old: TlbEntry) {
        self.old.extend([old.read, old.write, old.host, old.page]);
        let slot = slot as u32;
        self.records.push(if code {
            Record::Code(slot)
        } else {
            Record::Data(slot)
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn clear(&mut self) {
        self.records.clear();
        self.old.clear();
    }
}

/// Appends `len` bytes of RAM as words.
fn push_bytes(words: &mut Vec<u64>, ram: &Ram, pa: u64, len: usize) {
    if len <= 8 {
        let mut buffer = [0; 8];
        ram.read(pa, &mut buffer[..len]);
        words.push(u64::from_le_bytes(buffer));
        return;
    }
    let mut at = 0;
    while at < len {
        let mut buffer = [0; 8];
        let n = (len - at).min(8);
        ram.read(pa + at as u64, &mut buffer[..n]);
        words.push(u64::from_le_bytes(buffer));
        at += n;
    }
}

/// What a stretch of guest code did to memory and TLB. Equal ones did the same in the same order; what is not equal may still have the
/// same [effect](Changes::difference).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    log: Undo,
    /// What the places held when the stretch had ended, as [`Undo::old`] has what they held before.
    new: Vec<u64>,
}

/// Where a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The byte at this physical address.
    Byte(u64),
    /// A word of an entry of the data TLB.
    Data(u32, usize),
    /// A word of an entry of the code TLB.
    Code(u32, usize),
}

/// Before and after.
type Effect = BTreeMap<Place, (u64, u64)>;

impl Changes {
    /// How many stores and fills there were.
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// Whether nothing was stored or filled.
    pub fn is_empty(&self) -> bool {
        self.log.len() == 0
    }

    /// What became of each place.
    fn effect(&self) -> Effect {
        let mut effect = Effect::new();
        let mut at = 0;
        for &r in &self.log.records {
            let (old, new) = (&self.log.old[at..], &self.new[at..]);
            at += r.words();
            let mut note = |place, old, new| effect.entry(place).or_insert((old, new)).1 = new;
            match r {
                Record::Store { pa, len } => (0..len as usize).for_each(|i| {
                    let byte = |words: &[u64]| words[i / 8] >> (8 * (i % 8)) & 0xff;
                    note(Place::Byte(pa + i as u64), byte(old), byte(new));
                }),
                Record::Data(slot) => {
                    (0..3).for_each(|w| note(Place::Data(slot, w), visible(old, w), new[w]));
                }
                Record::Code(slot) => {
                    (0..3).for_each(|w| note(Place::Code(slot, w), visible(old, w), new[w]));
                }
            }
        }
        effect.retain(|_, (old, new)| old != new);
        effect
    }

    /// Where the effect of this stretch differs from that of the other, a line each; None if nowhere. A stretch that had `begun`
    /// one more instruction may have set accessed and dirty bits for it, and filled TLB entries.
    pub fn difference(&self, other: &Changes, begun: bool) -> Option<String> {
        use std::fmt::Write;
        if self == other {
            return None;
        }
        let (a, b) = (self.effect(), other.effect());
        let mut text = String::new();
        for (place, (old, new)) in &a {
            let fills = match place {
                Place::Byte(_) => old & !ACCESSED_DIRTY == new & !ACCESSED_DIRTY && old & !new == 0,
                Place::Data(..) | Place::Code(..) => true,
            };
            let other = b.get(place).map_or(*old, |e| e.1);
            if *new != other && !(begun && fills) {
                let _ = writeln!(text, "  {place:x?}: {new:#x} against {other:#x}");
            }
        }
        for (place, (old, new)) in b.iter().filter(|(place, _)| !a.contains_key(place)) {
            let _ = writeln!(text, "  {place:x?}: {old:#x} against {new:#x}");
        }
        (!text.is_empty()).then_some(text)
    }
}

/// In the low byte of a page-table entry.
const ACCESSED_DIRTY: u64 = 0x60;

/// A word of a TLB entry without what only the host put there: slow bits, and the host address.
fn visible(entry: &[u64], word: usize) -> u64 {
    match word {
        0 | 1 => entry[word] & !slow::ALL,
        _ => entry[3],
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

    /// Forgets what is in the log.
    pub fn forget_changes(&mut self) {
        self.undo.clear();
    }

    /// Takes off the log what is in it, into `changes`, whose memory goes on as the log's.
    pub fn take_changes(&mut self, changes: &mut Changes) {
        std::mem::swap(&mut self.undo, &mut changes.log);
        self.undo.clear();
        changes.new.clear();
        for &r in &changes.log.records {
            let mut entry = |e: &TlbEntry| {
                let words = [e.read, e.write, e.host, e.page];
                let seen = [0, 1, 2].map(|w| visible(&words, w));
                changes.new.extend(seen.into_iter().chain([0]));
            };
            match r {
                Record::Store { pa, len } => {
                    push_bytes(&mut changes.new, &self.ram, pa, len as usize);
                }
                Record::Data(slot) => entry(self.data_tlb.get(slot as usize)),
                Record::Code(slot) => entry(self.code_tlb.get(slot as usize)),
            }
        }
    }

    /// Undoes what a stretch did, if nothing was stored or filled since.
    pub fn roll_back(&mut self, changes: &Changes) {
        self.take_back(&changes.log, 0);
    }

    /// How many changes are in the log.
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Undoes, and forgets, all but the first `mark` changes of the log.
    pub fn roll_back_to(&mut self, mark: usize) {
        let mut log = std::mem::take(&mut self.undo);
        let kept = self.take_back(&log, mark);
        log.records.truncate(mark);
        log.old.truncate(kept);
        self.undo = log;
    }

    /// Undoes all but the first `mark` records, newest first; how many words those have.
    fn take_back(&mut self, log: &Undo, mark: usize) -> usize {
        let mut end = log.old.len();
        for &r in log.records[mark..].iter().rev() {
            let at = end - r.words();
            let old = &log.old[at..end];
            end = at;
            match r {
                Record::Store { pa, len } => self.put_bytes(pa, len as usize, old),
                Record::Data(slot) => self.restore(slot as usize, entry_of(old)),
                Record::Code(slot) => {
                    self.code_tlb.put(slot as usize, entry_of(old));
                }
            }
        }
        end
    }

    fn put_bytes(&mut self, pa: u64, len: usize, words: &[u64]) {
        let mut at = 0;
        for w in words {
            let n = (len - at).min(8);
            self.ram.write(pa + at as u64, &w.to_le_bytes()[..n]);
            at += n;
        }
    }

    /// Puts an entry of the data TLB back. Its code bit may be stale: the page may have been marked since, so it is set where in doubt.
    fn restore(&mut self, slot: usize, old: TlbEntry) {
        let mut e = old;
        let marked = |p: u64| {
            self.ram
                .page(p)
                .is_some_and(|p| self.ram.page_marks(p.index) != 0)
        };
        if e.write & INVALID == 0 && marked(e.physical()) {
            e.write |= slow::WATCHED;
        }
        self.data_tlb.put(slot, e);
    }
}

fn entry_of(words: &[u64]) -> TlbEntry {
    TlbEntry {
        read: words[0],
        write: words[1],
        host: words[2],
        page: words[3],
    }
}
