//! A ring of 64-byte slots, as far as memory order goes.
//!
//! Position `p` lives in slot `p % slots`. Its producer stores words 0 to 6 relaxed and word 7, which ends in type and
//! owner bit, with release; its consumer loads word 7 with acquire and sees the rest if the owner bit is that of `p`'s
//! lap ([`atoll_abi::slot::phase`]). The consumer never writes a slot, so a message costs one cache miss. In a plain
//! queue the consumer then moves a cursor, which is what gives the producer room; on a request link settlement does.

use crate::sync::{AtomicU64, Ordering};
use atoll_abi::Slot;
use atoll_abi::slot::{PHASE_BIT, PHASE_WORD_BIT, SLOT_WORDS, phase};

/// The words of one slot.
pub(crate) type SlotWords = [AtomicU64; SLOT_WORDS];

/// Where the slots of a ring are.
pub(crate) trait RingSlots {
    /// A power of two.
    fn slots(&self) -> u64;
    /// Slot `index`, which is below `slots()`.
    fn slot(&self, index: u64) -> &SlotWords;
}

const LAST: usize = SLOT_WORDS - 1;

/// Publishes `slot` at `position`. The caller owns that position.
pub(crate) fn publish(ring: &impl RingSlots, position: u64, mut slot: Slot) {
    slot.kind &= !PHASE_BIT;
    if phase(position, ring.slots()) {
        slot.kind |= PHASE_BIT;
    }
    let (to, from) = (ring.slot(position % ring.slots()), slot.to_words());
    for (to, from) in to[..LAST].iter().zip(from) {
        to.store(from, Ordering::Relaxed);
    }
    to[LAST].store(from[LAST], Ordering::Release);
}

/// Is there a message at `position`?
pub(crate) fn is_published(ring: &impl RingSlots, position: u64) -> bool {
    let last = ring.slot(position % ring.slots())[LAST].load(Ordering::Acquire);
    is_of_lap(ring, position, last)
}

/// The message at `position`, copied out with its owner bit stripped, or `None` if there is none yet.
pub(crate) fn take(ring: &impl RingSlots, position: u64) -> Option<Slot> {
    let from = ring.slot(position % ring.slots());
    let last = from[LAST].load(Ordering::Acquire);
    if !is_of_lap(ring, position, last) {
        return None;
    }
    let mut words = [last & !PHASE_WORD_BIT; SLOT_WORDS];
    for (to, from) in words[..LAST].iter_mut().zip(from) {
        *to = from.load(Ordering::Relaxed);
    }
    Some(Slot::from_words(words))
}

/// A slot of type 0 is no message: fresh memory stays empty in every lap.
fn is_of_lap(ring: &impl RingSlots, position: u64, last_word: u64) -> bool {
    let kind = (last_word >> 56) as u8;
    let owned = kind & PHASE_BIT != 0;
    owned == phase(position, ring.slots()) && kind & !PHASE_BIT != 0
}
