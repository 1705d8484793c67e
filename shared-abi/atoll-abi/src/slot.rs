//! The 64-byte slot: the only thing that travels in a ring.
//!
//! The last byte says what the slot is (low seven bits) and who owns it (bit 7). Bit 7 is the *phase* of the lap in
//! which the slot was written: the producer of position `p` in a ring of `n` slots publishes with phase
//! [`phase`]`(p, n)`, and the slot belongs to the consumer exactly while that bit matches its own position. Zeroed
//! memory is therefore an empty ring, the consumer never writes a slot, and after a crash the byte alone says whether
//! position `p` was published. The ring code sets and strips the bit; encoders and decoders never see it.
//!
//! Word 7 (bytes 56..64) is stored last, with release order, so a slot that is seen is seen whole.

use crate::WireError;
use crate::layout::{layout, numbered};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 64;
/// Words of a slot, the unit in which it is copied.
pub const SLOT_WORDS: usize = 8;
/// Owner bit in the last byte.
pub const PHASE_BIT: u8 = 0x80;
/// The same bit in word 7.
pub const PHASE_WORD_BIT: u64 = (PHASE_BIT as u64) << 56;

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Slot {
    pub stamp: u64,
    pub seq: u64,
    pub arena_offset: u32,
    pub arena_len: u32,
    pub words: [u64; 4],
    pub arg: u32,
    pub index: u16,
    pub size: u8,
    pub kind: u8,
}

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);
const _: () = assert!(core::mem::offset_of!(Slot, kind) == SLOT_BYTES - 1);

layout!(Slot {
    stamp: "virtual time of issue, ns",
    seq: "number of the message on its ring, from 0, without gaps",
    arena_offset: "payload: first byte in the arena of this direction",
    arena_len: "payload: bytes; 0 if there is none",
    words: "four words whose meaning the type gives",
    arg: "flags or status",
    index: "region, queue, line or timer number",
    size: "access size in bytes",
    kind: "bit 7: owner (phase of the lap); bits 0-6: type",
});

impl Slot {
    /// A slot of the given type, everything else zero.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind: kind.number(),
            ..Self::default()
        }
    }

    pub fn kind(&self) -> Result<Kind, WireError> {
        Kind::try_from(self.kind & !PHASE_BIT).map_err(|_| WireError::UnknownKind(self.kind))
    }

    /// The payload's place in the arena of this direction; not yet checked against the arena's length.
    pub fn arena(&self) -> ArenaRange {
        ArenaRange {
            offset: self.arena_offset,
            len: self.arena_len,
        }
    }

    pub fn set_arena(&mut self, range: ArenaRange) {
        self.arena_offset = range.offset;
        self.arena_len = range.len;
    }

    pub fn to_words(self) -> [u64; SLOT_WORDS] {
        zerocopy::transmute!(self)
    }

    pub fn from_words(words: [u64; SLOT_WORDS]) -> Self {
        zerocopy::transmute!(words)
    }
}

/// The owner bit for position `position` of a ring of `slots` slots (a power of two): set in the first lap.
pub const fn phase(position: u64, slots: u64) -> bool {
    (position / slots) & 1 == 0
}

/// A range of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ArenaRange {
    pub offset: u32,
    pub len: u32,
}

impl ArenaRange {
    /// One word: length above, offset below. Requests carry the room reserved for their reply so, in `words[3]`.
    pub const fn to_word(self) -> u64 {
        (self.len as u64) << 32 | self.offset as u64
    }

    pub const fn from_word(word: u64) -> Self {
        Self {
            offset: word as u32,
            len: (word >> 32) as u32,
        }
    }

    /// The range, if it lies inside an arena of `limit` bytes.
    pub fn check(self, limit: u64) -> Result<Self, WireError> {
        let (offset, len) = (u64::from(self.offset), u64::from(self.len));
        if offset + len > limit {
            return Err(WireError::BadRange { offset, len, limit });
        }
        Ok(self)
    }
}

/// The word of a request that holds the room reserved for its reply.
pub const REPLY_ROOM_WORD: usize = 3;

numbered! {
    /// What a slot is. 0 is never published, so that a slot of zeros is no message.
    pub enum Kind: u8 as "kind" {
        /// Reply on a request link: `arg` is the status, `words[0]` the server's generation.
        Reply = 0x01,
        /// Read `words[1]` bytes at `words[0]` of the disk into the reply.
        BlockRead = 0x10,
        /// Write the payload at byte `words[0]` of the disk.
        BlockWrite = 0x11,
        /// Make every published write durable.
        BlockFlush = 0x12,
        /// Forget `words[1]` bytes at `words[0]`.
        BlockDiscard = 0x13,
        /// Make `words[1]` bytes at `words[0]` read as zeros.
        BlockWriteZeroes = 0x14,
        /// Ask for the disk's size and features.
        BlockGetInfo = 0x15,
        /// Bytes that the guest sent; `words[0]` numbers the first.
        CharOutput = 0x20,
        /// The guest's modem lines or line parameters changed.
        CharSetLine = 0x21,
        /// Input: bytes for the guest; `words[0]` numbers the first.
        CharInput = 0x28,
        /// Input: somebody attached to the other end.
        CharOpened = 0x29,
        /// Input: the other end went away.
        CharClosed = 0x2a,
        /// Input: a break condition.
        CharBreak = 0x2b,
        /// Input: the window's size changed; `words[0]` columns, `words[1]` rows.
        CharResized = 0x2c,
        /// To the seat: read `size` bytes at `words[0]` of region `index`.
        AccessRead = 0x40,
        /// To the seat: write `words[1]`, `size` bytes, at `words[0]` of region `index`.
        AccessWrite = 0x41,
        /// To the seat: timer `index` fired.
        TimerFired = 0x42,
        /// To the seat: the bytes of DMA read `words[0]`.
        DmaReadDone = 0x43,
        /// To the seat: back-end request `words[0]` is complete at its T.
        Completion = 0x44,
        /// To the seat: outside input of its back end.
        Input = 0x45,
        /// To the seat: reset to power-on state.
        Reset = 0x46,
        /// To the worker: the access is done; `words[1]` is the value read. Ends the effects of one call.
        AccessDone = 0x50,
        /// To the worker: set line `index` to level `arg`.
        SetLine = 0x51,
        /// To the worker: MSI to address `words[0]` with data `arg`, by route `index`.
        Msi = 0x52,
        /// To the worker: write the payload to guest address `words[0]`.
        DmaWrite = 0x53,
        /// To the worker: read `words[1]` bytes at guest address `words[0]`; tag `words[2]`.
        DmaRead = 0x54,
        /// To the worker: submit a request to the model's back end.
        Submit = 0x55,
        /// To the worker: timer `index` fires at virtual time `words[0]`.
        SetTimer = 0x56,
        /// To the worker: timer `index` is off.
        CancelTimer = 0x57,
        /// To the worker: read `words[0]` of region `index`, held back earlier, completes with `words[1]`.
        CompleteRead = 0x58,
        /// To the worker: a log record of the model.
        ModelLog = 0x59,
        /// Free for the encoder of the seat's crate.
        Seat0 = 0x60,
        /// Free for the encoder of the seat's crate.
        Seat1 = 0x61,
        /// Free for the encoder of the seat's crate.
        Seat2 = 0x62,
        /// Free for the encoder of the seat's crate.
        Seat3 = 0x63,
        /// Free for the encoder of the seat's crate.
        Seat4 = 0x64,
        /// Free for the encoder of the seat's crate.
        Seat5 = 0x65,
        /// Free for the encoder of the seat's crate.
        Seat6 = 0x66,
        /// Free for the encoder of the seat's crate.
        Seat7 = 0x67,
    }
}

numbered! {
    /// How a request ended.
    pub enum Status: u32 as "status" {
        /// Done.
        Ok = 0,
        /// The host's device or file failed (EIO).
        Io = 1,
        /// The host has no space left (ENOSPC).
        NoSpace = 2,
        /// The back end does not do this.
        Unsupported = 3,
        /// The medium may not be written.
        ReadOnly = 4,
        /// Beyond the end of the medium.
        OutOfRange = 5,
        /// A field of the request makes no sense.
        Invalid = 6,
        /// No such thing (ENOENT).
        NotFound = 7,
        /// Not permitted (EACCES, EPERM).
        Denied = 8,
        /// The other end is gone for good.
        Closed = 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_bytes_of_the_slot() {
        let slot = Slot {
            stamp: 0x0102_0304_0506_0708,
            seq: 9,
            arena_offset: 0xaabb_ccdd,
            arena_len: 0x1122_3344,
            words: [1, 2, 3, 4],
            arg: 0x5566_7788,
            index: 0x99aa,
            size: 8,
            kind: Kind::AccessWrite.number(),
        };
        let words = slot.to_words();
        assert_eq!(words[2], 0x1122_3344_aabb_ccdd);
        assert_eq!(words[7], 0x4108_99aa_5566_7788);
        assert_eq!(Slot::from_words(words), slot);
        assert_eq!(slot.as_bytes()[63], 0x41);
    }

    #[test]
    fn phase_alternates_by_lap_and_zeroed_memory_is_unpublished() {
        assert!(phase(0, 4) && phase(3, 4) && !phase(4, 4) && !phase(7, 4) && phase(8, 4));
        assert!(Slot::default().kind().is_err());
    }

    #[test]
    fn ranges_are_checked_without_overflow() {
        let range = ArenaRange {
            offset: u32::MAX,
            len: u32::MAX,
        };
        assert!(range.check(1 << 32).is_err());
        assert_eq!(ArenaRange::from_word(range.to_word()), range);
        assert!(
            ArenaRange {
                offset: 64,
                len: 64
            }
            .check(128)
            .is_ok()
        );
    }
}
