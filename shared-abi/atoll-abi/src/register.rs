//! The register link: how the worker talks to a model in a process seat.
//!
//! Each call into the model is one slot to the seat; the effects of that call come back as slots in order, and
//! [`Kind::AccessDone`] ends them, so the worker applies all of a call or none of it. The seam's crate owns the list of
//! effects and their encoding; this page gives the slots ([`crate::slot::Kind`] 0x40 to 0x67) and the two that the wire
//! itself needs to understand.

use crate::slot::{Kind, Slot};
use crate::{VirtualTime, WireError};

/// A register access, from the worker to the seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    pub now: VirtualTime,
    /// Which of the model's regions: a BAR or a port range.
    pub region: u16,
    pub offset: u64,
    /// 1, 2, 4 or 8 bytes.
    pub size: u8,
    /// The value to write; `None` reads.
    pub write: Option<u64>,
}

impl Access {
    pub fn encode(&self) -> Slot {
        let kind = if self.write.is_some() {
            Kind::AccessWrite
        } else {
            Kind::AccessRead
        };
        Slot {
            stamp: self.now.ns(),
            words: [self.offset, self.write.unwrap_or(0), 0, 0],
            index: self.region,
            size: self.size,
            ..Slot::of(kind)
        }
    }

    pub fn decode(slot: &Slot) -> Result<Self, WireError> {
        let write = match slot.kind()? {
            Kind::AccessRead => None,
            Kind::AccessWrite => Some(slot.words[1]),
            _ => return Err(WireError::UnknownKind(slot.kind)),
        };
        if !matches!(slot.size, 1 | 2 | 4 | 8) {
            return Err(WireError::BadValue {
                field: "access size",
                value: u64::from(slot.size),
            });
        }
        Ok(Self {
            now: VirtualTime(slot.stamp),
            region: slot.index,
            offset: slot.words[0],
            size: slot.size,
            write,
        })
    }
}

/// The end of one call's effects, from the seat to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessDone {
    /// Sequence number of the call.
    pub call: u64,
    /// What a read returns; `None` if the model completes the read later.
    pub value: Option<u64>,
}

impl AccessDone {
    pub fn encode(&self) -> Slot {
        Slot {
            words: [self.call, self.value.unwrap_or(0), 0, 0],
            arg: u32::from(self.value.is_some()),
            ..Slot::of(Kind::AccessDone)
        }
    }

    pub fn decode(slot: &Slot) -> Result<Self, WireError> {
        match (slot.kind()?, slot.arg) {
            (Kind::AccessDone, 0) => Ok(Self {
                call: slot.words[0],
                value: None,
            }),
            (Kind::AccessDone, 1) => Ok(Self {
                call: slot.words[0],
                value: Some(slot.words[1]),
            }),
            (Kind::AccessDone, arg) => Err(WireError::BadValue {
                field: "access done",
                value: u64::from(arg),
            }),
            _ => Err(WireError::UnknownKind(slot.kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_survive_the_wire() {
        let read = Access {
            now: VirtualTime(5),
            region: 1,
            offset: 0x3f8,
            size: 1,
            write: None,
        };
        assert_eq!(Access::decode(&read.encode()), Ok(read));
        let write = Access {
            write: Some(u64::MAX),
            size: 8,
            ..read
        };
        assert_eq!(Access::decode(&write.encode()), Ok(write));
        assert!(
            Access::decode(&Slot {
                size: 3,
                ..read.encode()
            })
            .is_err()
        );
        for done in [
            AccessDone {
                call: 4,
                value: Some(9),
            },
            AccessDone {
                call: 5,
                value: None,
            },
        ] {
            assert_eq!(AccessDone::decode(&done.encode()), Ok(done));
        }
    }
}
