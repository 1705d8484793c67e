//! Room for payloads: a ring allocator over `0..len` that hands out contiguous ranges.
//!
//! It is pure bookkeeping, private to the side that allocates; the bytes are elsewhere. Ranges are handed out in ring
//! order and may be freed in any order; room comes back when the oldest ones are free. The same calls give the same
//! ranges, so admission that depends on it is part of virtual history.

use atoll_abi::{ArenaRange, WireError};
use std::collections::VecDeque;

/// Every range starts on a cache line.
const ALIGN: u32 = 64;

/// Names an allocation until it is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allocation(u64);

/// Bytes that a payload takes: whole lines, and an empty one a line too, so that no two blocks start at one place.
pub(crate) fn span(len: u32) -> Option<u32> {
    len.max(1).checked_next_multiple_of(ALIGN)
}

#[derive(Clone, Debug)]
pub struct FifoArena {
    len: u32,
    /// Where the next range starts, if it fits before `len`.
    head: u32,
    /// Number of `blocks[0]`.
    first: u64,
    blocks: VecDeque<Block>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    offset: u32,
    free: bool,
}

impl FifoArena {
    pub fn new(len: u32) -> Self {
        Self {
            len,
            head: 0,
            first: 0,
            blocks: VecDeque::new(),
        }
    }

    /// Room for `len` bytes, or `None` while there is none.
    pub fn allocate(&mut self, len: u32) -> Option<(Allocation, ArenaRange)> {
        let span = span(len)?;
        let offset = self.place(span)?;
        self.blocks.push_back(Block {
            offset,
            free: false,
        });
        self.head = offset + span;
        Some((
            Allocation(self.first + self.blocks.len() as u64 - 1),
            ArenaRange { offset, len },
        ))
    }

    /// Would `allocate` succeed?
    pub fn fits(&self, len: u32) -> bool {
        span(len).is_some_and(|span| self.place(span).is_some())
    }

    /// The arena of a sender that died: `ranges` are those not yet taken, oldest first, and are numbered in that order.
    pub fn restore(
        len: u32,
        ranges: impl IntoIterator<Item = ArenaRange>,
    ) -> Result<(Self, Vec<Allocation>), WireError> {
        let mut arena = Self::new(len);
        let mut allocations = Vec::new();
        for range in ranges {
            let end = (u64::from(range.offset) + u64::from(range.len.max(1)))
                .next_multiple_of(u64::from(ALIGN));
            if end > u64::from(len) {
                return Err(WireError::BadRange {
                    offset: range.offset.into(),
                    len: range.len.into(),
                    limit: len.into(),
                });
            }
            allocations.push(Allocation(arena.blocks.len() as u64));
            arena.blocks.push_back(Block {
                offset: range.offset,
                free: false,
            });
            arena.head = end as u32;
        }
        Ok((arena, allocations))
    }

    fn place(&self, span: u32) -> Option<u32> {
        let Some(oldest) = self.blocks.front() else {
            return (span <= self.len).then_some(0);
        };
        if self.head <= oldest.offset {
            // Wrapped: free is what lies between the newest and the oldest block.
            return (span <= oldest.offset - self.head).then_some(self.head);
        }
        if span <= self.len - self.head {
            return Some(self.head);
        }
        (span <= oldest.offset).then_some(0)
    }

    /// Gives a range back. Freeing twice is a bug of the caller and does nothing.
    pub fn free(&mut self, allocation: Allocation) {
        let Some(index) = allocation.0.checked_sub(self.first) else {
            return;
        };
        let Some(block) = self.blocks.get_mut(index as usize) else {
            return;
        };
        block.free = true;
        while self.blocks.front().is_some_and(|block| block.free) {
            self.blocks.pop_front();
            self.first += 1;
        }
        if self.blocks.is_empty() {
            self.head = 0;
        }
    }

    /// Is nothing allocated?
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is allocated and freed in whatever order, live ranges lie inside and never overlap.
        #[test]
        fn live_ranges_never_overlap(steps in prop::collection::vec((any::<bool>(), 0u32..5000, any::<usize>()), 1..400)) {
            let len = 16_384;
            let mut arena = FifoArena::new(len);
            let mut live: Vec<(Allocation, ArenaRange)> = Vec::new();
            for (allocate, bytes, pick) in steps {
                if !allocate && !live.is_empty() {
                    let (allocation, _) = live.swap_remove(pick % live.len());
                    arena.free(allocation);
                } else if let Some((allocation, range)) = arena.allocate(bytes) {
                    prop_assert!(range.offset + range.len <= len);
                    for (_, other) in &live {
                        prop_assert!(range.offset + range.len.max(1) <= other.offset || other.offset + other.len.max(1) <= range.offset);
                    }
                    live.push((allocation, range));
                }
                prop_assert_eq!(arena.is_empty(), live.is_empty());
            }
        }
    }

    #[test]
    fn room_comes_back_in_order() {
        let mut arena = FifoArena::new(256);
        let ranges: Vec<_> = (0..4).map(|_| arena.allocate(64).unwrap()).collect();
        assert!(arena.allocate(1).is_none());
        arena.free(ranges[1].0);
        assert!(arena.allocate(1).is_none(), "the oldest is still there");
        arena.free(ranges[0].0);
        assert_eq!(
            arena.allocate(100).unwrap().1,
            ArenaRange {
                offset: 0,
                len: 100
            }
        );
        assert!(arena.allocate(1).is_none());
        assert!(FifoArena::new(0).allocate(0).is_none());
    }
}
