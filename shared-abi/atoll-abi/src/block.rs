//! The block protocol: what a disk model asks of blockd.
//!
//! Requests and replies are fields of a [`Slot`]; the link adds sequence number, stamp, payload range and room for the
//! reply. Offsets and lengths are bytes. A decoded request has offset + length below 2^63, so that nobody downstream
//! needs to think about overflow; whether it lies on the disk only the back end knows.

use crate::slot::{Kind, Slot};
use crate::{ArenaRange, WireError};
use bitflags::bitflags;

/// The longest read or write in one request; a model cuts longer ones.
pub const MAX_TRANSFER: u32 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockOp {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    GetInfo,
}

bitflags! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct BlockFlags: u32 {
        /// The write is durable before its reply (force unit access).
        const FUA = 1 << 0;
        /// Write-zeroes may give the space back.
        const UNMAP = 1 << 1;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRequest {
    pub op: BlockOp,
    pub flags: BlockFlags,
    pub offset_bytes: u64,
    pub len_bytes: u64,
}

impl BlockRequest {
    /// How many reply bytes the request needs: all room is reserved at issue.
    pub fn reply_bytes(&self) -> u32 {
        match self.op {
            BlockOp::Read => self.len_bytes as u32,
            _ => 0,
        }
    }

    /// The request as a slot. The payload of a write goes beside it, in the arena.
    pub fn encode(&self) -> Slot {
        let kind = match self.op {
            BlockOp::Read => Kind::BlockRead,
            BlockOp::Write => Kind::BlockWrite,
            BlockOp::Flush => Kind::BlockFlush,
            BlockOp::Discard => Kind::BlockDiscard,
            BlockOp::WriteZeroes => Kind::BlockWriteZeroes,
            BlockOp::GetInfo => Kind::BlockGetInfo,
        };
        Slot {
            arg: self.flags.bits(),
            words: [self.offset_bytes, self.len_bytes, 0, 0],
            ..Slot::of(kind)
        }
    }

    /// The request in a slot that a peer wrote.
    pub fn decode(slot: &Slot) -> Result<Self, WireError> {
        let op = match slot.kind()? {
            Kind::BlockRead => BlockOp::Read,
            Kind::BlockWrite => BlockOp::Write,
            Kind::BlockFlush => BlockOp::Flush,
            Kind::BlockDiscard => BlockOp::Discard,
            Kind::BlockWriteZeroes => BlockOp::WriteZeroes,
            Kind::BlockGetInfo => BlockOp::GetInfo,
            _ => return Err(WireError::UnknownKind(slot.kind)),
        };
        let flags = BlockFlags::from_bits(slot.arg).ok_or(WireError::BadValue {
            field: "block flags",
            value: u64::from(slot.arg),
        })?;
        let request = Self {
            op,
            flags,
            offset_bytes: slot.words[0],
            len_bytes: slot.words[1],
        };
        request.check(slot)?;
        Ok(request)
    }

    fn check(&self, slot: &Slot) -> Result<(), WireError> {
        let bad = WireError::BadRange {
            offset: self.offset_bytes,
            len: self.len_bytes,
            limit: 1 << 63,
        };
        let end = self.offset_bytes.checked_add(self.len_bytes).ok_or(bad)?;
        if end >= 1 << 63 {
            return Err(bad);
        }
        let transfer = WireError::BadRange {
            offset: 0,
            len: self.len_bytes.max(u64::from(slot.arena_len)),
            limit: u64::from(MAX_TRANSFER),
        };
        match self.op {
            BlockOp::Read if self.len_bytes > u64::from(MAX_TRANSFER) => Err(transfer),
            BlockOp::Read
                if self.len_bytes != u64::from(ArenaRange::from_word(slot.words[3]).len) =>
            {
                Err(WireError::BadValue {
                    field: "room of a read",
                    value: slot.words[3],
                })
            }
            BlockOp::Write if self.len_bytes > u64::from(MAX_TRANSFER) => Err(transfer),
            BlockOp::Write if self.len_bytes != u64::from(slot.arena_len) => {
                Err(WireError::BadValue {
                    field: "payload of a write",
                    value: u64::from(slot.arena_len),
                })
            }
            _ => Ok(()),
        }
    }
}

bitflags! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DiskFlags: u32 {
        /// Writes are refused.
        const READ_ONLY = 1 << 0;
        /// A write may sit in a volatile cache until a flush.
        const WRITEBACK = 1 << 1;
        /// Discard does something.
        const DISCARD = 1 << 2;
        /// Write-zeroes is faster than writing zeros.
        const WRITE_ZEROES = 1 << 3;
    }
}

/// The answer to [`BlockOp::GetInfo`]; it travels in the reply's words 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiskInfo {
    pub size_bytes: u64,
    pub block_bytes: u32,
    pub flags: DiskFlags,
}

impl DiskInfo {
    pub fn to_words(self) -> [u64; 3] {
        [
            self.size_bytes,
            u64::from(self.flags.bits()) << 32 | u64::from(self.block_bytes),
            0,
        ]
    }

    pub fn from_words(words: [u64; 3]) -> Result<Self, WireError> {
        let block_bytes = words[1] as u32;
        if !block_bytes.is_power_of_two() || !(512..=65_536).contains(&block_bytes) {
            return Err(WireError::BadValue {
                field: "block_bytes",
                value: u64::from(block_bytes),
            });
        }
        if words[0] >= 1 << 63 {
            return Err(WireError::BadValue {
                field: "size_bytes",
                value: words[0],
            });
        }
        let bits = (words[1] >> 32) as u32;
        let flags = DiskFlags::from_bits(bits).ok_or(WireError::BadValue {
            field: "disk flags",
            value: u64::from(bits),
        })?;
        Ok(Self {
            size_bytes: words[0],
            block_bytes,
            flags,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_lengths_are_refused() {
        let read = BlockRequest {
            op: BlockOp::Read,
            flags: BlockFlags::empty(),
            offset_bytes: 0,
            len_bytes: 512,
        };
        let mut slot = read.encode();
        assert!(
            BlockRequest::decode(&slot).is_err(),
            "a read without room for its reply"
        );
        slot.words[3] = ArenaRange {
            offset: 0,
            len: 512,
        }
        .to_word();
        assert_eq!(BlockRequest::decode(&slot), Ok(read));
        slot.words[0] = u64::MAX;
        assert!(BlockRequest::decode(&slot).is_err());
        let discard = BlockRequest {
            op: BlockOp::Discard,
            offset_bytes: 1 << 40,
            len_bytes: 1 << 40,
            ..read
        };
        assert_eq!(BlockRequest::decode(&discard.encode()), Ok(discard));
        assert!(
            BlockRequest::decode(&Slot {
                arg: 4,
                ..discard.encode()
            })
            .is_err()
        );
    }

    #[test]
    fn disk_info_survives_the_wire() {
        let info = DiskInfo {
            size_bytes: 1 << 41,
            block_bytes: 4096,
            flags: DiskFlags::WRITEBACK,
        };
        assert_eq!(DiskInfo::from_words(info.to_words()), Ok(info));
        assert!(DiskInfo::from_words([0, 3, 0]).is_err());
    }
}
