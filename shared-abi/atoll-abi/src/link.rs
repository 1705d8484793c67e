//! A link segment: the memory between the worker and one process.
//!
//! It belongs to the broker and outlives the process at either end. In order: the header, the request ring, the reply
//! ring, the input ring, then the request, reply and input arenas, each starting on a page.
//!
//! On a **request link** message `seq` has its fixed place, slot `seq % slots`, in both the request ring and the reply
//! ring. A request stays in its slot until it is *settled*, so the request ring is the journal: everything from
//! `settled` on that carries its lap's phase was issued, and of those the ones whose reply slot carries it too were
//! published. That one byte in the reply slot is the commit word; a crash on either side of storing it leaves a state
//! that the successor reads off without guessing. Replies come in any order.
//!
//! On a **register link** both rings are plain queues (single producer, single consumer), and there is no journal.
//!
//! The input ring (server to client) is a plain queue on both.

use crate::layout::{layout, numbered};
use crate::slot::SLOT_BYTES;
use crate::{ABI_VERSION, LINE, PAGE, WireError};
use core::sync::atomic::{AtomicU32, AtomicU64};
use serde::{Deserialize, Serialize};

/// `"ATLLINK1"`, little-endian.
pub const LINK_MAGIC: u64 = u64::from_le_bytes(*b"ATLLINK1");
/// Words that a server keeps across its own death.
pub const NOTES: usize = 16;

/// A futex doorbell on a line of its own: 1 while its owner sleeps or is about to.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Bell {
    pub sleeping: AtomicU32,
    pub wakes: AtomicU32,
    _pad: [u8; LINE - 8],
}

const _: () = assert!(size_of::<Bell>() == LINE);

layout!(Bell {
    sleeping: "futex word: 1 while the owner sleeps or is about to; who finds 1 stores 0 and wakes",
    wakes: "how often the owner was woken (statistics)",
});

/// A position that only one side writes, on a line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cursor {
    pub position: AtomicU64,
    _pad: [u8; LINE - 8],
}

const _: () = assert!(size_of::<Cursor>() == LINE);

layout!(Cursor {
    position: "messages so far; never decreases"
});

/// The first page of a link segment.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct LinkHeader {
    pub magic: AtomicU64,
    pub abi_version: AtomicU32,
    pub kind: AtomicU32,
    pub generation: AtomicU32,
    pub slots: AtomicU32,
    pub input_slots: AtomicU32,
    pub request_arena: AtomicU32,
    pub reply_arena: AtomicU32,
    pub input_arena: AtomicU32,
    _pad0: [u8; 24],

    pub client_bell: Bell,
    pub server_bell: Bell,
    pub requested: Cursor,
    pub request_taken: Cursor,
    pub replied: Cursor,
    pub reply_taken: Cursor,
    pub input_sent: Cursor,
    pub input_taken: Cursor,
    pub settled: Cursor,
    pub progress: Cursor,
    pub notes: [AtomicU64; NOTES],
    _pad1: [u8; PAGE - 64 - 10 * LINE - 8 * NOTES],
}

const _: () = assert!(size_of::<LinkHeader>() == PAGE);
const _: () = assert!(core::mem::offset_of!(LinkHeader, client_bell) == LINE);

layout!(LinkHeader {
    magic: "\"ATLLINK1\", stored last by the broker",
    abi_version: "ABI version",
    kind: "see LinkKind",
    generation: "broker: generation of the server that may serve; a server of another is dead",
    slots: "slots of the request ring and of the reply ring, a power of two",
    input_slots: "slots of the input ring, a power of two or 0",
    request_arena: "bytes, a multiple of the page",
    reply_arena: "bytes, a multiple of the page",
    input_arena: "bytes, a multiple of the page",
    client_bell: "the client sleeps here unless it has a bell for all its links",
    server_bell: "the server sleeps here",
    requested: "client: requests published",
    request_taken: "server: requests taken (register link)",
    replied: "server: replies published (on a request link a count only)",
    reply_taken: "client: replies taken (register link)",
    input_sent: "server: input published",
    input_taken: "client: input taken",
    settled: "server: every request below is settled and its slot and payload are free",
    progress: "server: grows while it lives",
    notes: "server: words that its successor finds",
});

numbered! {
    /// What a link carries.
    pub enum LinkKind: u32 as "link kind" {
        /// Block requests.
        Block = 1,
        /// Char requests, char input.
        Char = 2,
        /// Frames.
        Net = 3,
        /// 9P messages.
        Fs = 4,
        /// Register accesses and effects of a process seat.
        Register = 5,
    }
}

impl LinkKind {
    /// Does slot `seq % slots` belong to message `seq` in both rings until it is settled?
    pub const fn has_journal(self) -> bool {
        !matches!(self, Self::Register)
    }
}

/// The sizes of a link. They are the broker's choice and part of the machine's version: admission depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkGeometry {
    pub slots: u32,
    pub input_slots: u32,
    pub request_arena: u32,
    pub reply_arena: u32,
    pub input_arena: u32,
}

/// Most slots in one ring.
pub const MAX_SLOTS: u32 = 1 << 16;
/// Most bytes in one arena.
pub const MAX_ARENA: u32 = 1 << 30;

impl LinkGeometry {
    /// What a link of this kind gets unless the machine file says otherwise.
    pub const fn default_for(kind: LinkKind) -> Self {
        match kind {
            LinkKind::Block => Self {
                slots: 1024,
                input_slots: 0,
                request_arena: 8 << 20,
                reply_arena: 16 << 20,
                input_arena: 0,
            },
            LinkKind::Char => Self {
                slots: 256,
                input_slots: 256,
                request_arena: 256 << 10,
                reply_arena: 0,
                input_arena: 0,
            },
            LinkKind::Net | LinkKind::Fs => Self {
                slots: 1024,
                input_slots: 256,
                request_arena: 16 << 20,
                reply_arena: 16 << 20,
                input_arena: 4 << 20,
            },
            LinkKind::Register => Self {
                slots: 1024,
                input_slots: 0,
                request_arena: 4 << 20,
                reply_arena: 4 << 20,
                input_arena: 0,
            },
        }
    }

    /// Are all sizes in range?
    pub fn check(&self) -> Result<(), WireError> {
        let ring = |field, slots: u32, least: u32| {
            if slots >= least && slots <= MAX_SLOTS && (slots == 0 || slots.is_power_of_two()) {
                return Ok(());
            }
            Err(WireError::BadValue {
                field,
                value: u64::from(slots),
            })
        };
        let arena = |field, bytes: u32| {
            if bytes <= MAX_ARENA && (bytes as usize).is_multiple_of(PAGE) {
                return Ok(());
            }
            Err(WireError::BadValue {
                field,
                value: u64::from(bytes),
            })
        };
        ring("slots", self.slots, 4)?;
        ring("input_slots", self.input_slots, 0)?;
        arena("request_arena", self.request_arena)?;
        arena("reply_arena", self.reply_arena)?;
        arena("input_arena", self.input_arena)
    }

    /// Where everything lies. Call `check` first.
    pub const fn offsets(&self) -> LinkOffsets {
        let request_ring = PAGE;
        let reply_ring = page_after(request_ring, self.slots as usize * SLOT_BYTES);
        let input_ring = page_after(reply_ring, self.slots as usize * SLOT_BYTES);
        let request_arena = page_after(input_ring, self.input_slots as usize * SLOT_BYTES);
        let reply_arena = page_after(request_arena, self.request_arena as usize);
        let input_arena = page_after(reply_arena, self.reply_arena as usize);
        let len = page_after(input_arena, self.input_arena as usize);
        LinkOffsets {
            request_ring,
            reply_ring,
            input_ring,
            request_arena,
            reply_arena,
            input_arena,
            len,
        }
    }
}

const fn page_after(start: usize, bytes: usize) -> usize {
    (start + bytes).next_multiple_of(PAGE)
}

/// Byte offsets inside a link segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOffsets {
    pub request_ring: usize,
    pub reply_ring: usize,
    pub input_ring: usize,
    pub request_arena: usize,
    pub reply_arena: usize,
    pub input_arena: usize,
    /// Of the whole segment.
    pub len: usize,
}

impl LinkHeader {
    /// Broker: makes zeroed memory a link of the first generation.
    pub fn init(&self, kind: LinkKind, geometry: &LinkGeometry, generation: u32) {
        use core::sync::atomic::Ordering::{Relaxed, Release};
        self.abi_version.store(ABI_VERSION, Relaxed);
        self.kind.store(kind.number(), Relaxed);
        self.generation.store(generation, Relaxed);
        self.slots.store(geometry.slots, Relaxed);
        self.input_slots.store(geometry.input_slots, Relaxed);
        self.request_arena.store(geometry.request_arena, Relaxed);
        self.reply_arena.store(geometry.reply_arena, Relaxed);
        self.input_arena.store(geometry.input_arena, Relaxed);
        self.magic.store(LINK_MAGIC, Release);
    }

    /// Either side: the kind and sizes, copied out once and checked against the segment's length.
    pub fn read(&self, segment_len: usize) -> Result<(LinkKind, LinkGeometry), WireError> {
        use core::sync::atomic::Ordering::{Acquire, Relaxed};
        let found = self.magic.load(Acquire);
        if found != LINK_MAGIC {
            return Err(WireError::BadMagic {
                expected: LINK_MAGIC,
                found,
            });
        }
        let found = self.abi_version.load(Relaxed);
        if found != ABI_VERSION {
            return Err(WireError::BadVersion {
                expected: ABI_VERSION,
                found,
            });
        }
        let geometry = LinkGeometry {
            slots: self.slots.load(Relaxed),
            input_slots: self.input_slots.load(Relaxed),
            request_arena: self.request_arena.load(Relaxed),
            reply_arena: self.reply_arena.load(Relaxed),
            input_arena: self.input_arena.load(Relaxed),
        };
        geometry.check()?;
        let len = geometry.offsets().len;
        if len > segment_len {
            return Err(WireError::BadRange {
                offset: 0,
                len: len as u64,
                limit: segment_len as u64,
            });
        }
        Ok((LinkKind::try_from(self.kind.load(Relaxed))?, geometry))
    }
}

/// `"ATLBELLS"`: a page that all peers map, so that every link wakes the worker in the one place where it sleeps.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct BellPage {
    pub worker: Bell,
    _pad: [u8; PAGE - LINE],
}

const _: () = assert!(size_of::<BellPage>() == PAGE);

layout!(BellPage {
    worker: "futex: replies, input, horizon and run state wake the worker here"
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_do_not_overlap_and_start_on_pages() {
        for &kind in LinkKind::ALL {
            let geometry = LinkGeometry::default_for(kind);
            geometry.check().unwrap();
            let o = geometry.offsets();
            let starts = [
                PAGE,
                o.request_ring,
                o.reply_ring,
                o.input_ring,
                o.request_arena,
                o.reply_arena,
                o.input_arena,
                o.len,
            ];
            assert!(starts.is_sorted() && starts.iter().all(|s| s % PAGE == 0));
        }
    }

    #[test]
    fn hostile_geometry_is_refused() {
        let good = LinkGeometry::default_for(LinkKind::Char);
        for bad in [
            LinkGeometry { slots: 3, ..good },
            LinkGeometry { slots: 0, ..good },
            LinkGeometry {
                slots: 1 << 31,
                ..good
            },
            LinkGeometry {
                request_arena: u32::MAX,
                ..good
            },
            LinkGeometry {
                input_arena: 17,
                ..good
            },
        ] {
            assert!(bad.check().is_err());
        }
    }
}
