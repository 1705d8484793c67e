//! The char protocol: a serial line's bytes between the worker and seriald.
//!
//! Output is a request: bytes numbered from a running count, answered when they are taken. An attached but slow reader
//! answers late, and so virtual time stops and no byte is lost; a restarted seriald knows from the numbers which bytes
//! its predecessor delivered. Input is outside input: it travels in the link's input ring at the worker's pace, a full
//! ring holds the reader back, and its numbers show that nothing was lost or doubled across a restart.

use crate::WireError;
use crate::slot::{Kind, Slot};
use bitflags::bitflags;

/// The longest output in one request.
pub const MAX_OUTPUT: u32 = 4096;
/// The longest input in one slot: it travels inline, in words 1 to 3.
pub const MAX_INPUT: usize = 24;

/// From the worker to seriald.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CharRequest {
    /// The payload's bytes; `number` counts those that went before. The reply's `words[1]` is the count after.
    Output { number: u64 },
    /// Modem lines as the guest set them.
    SetLine { lines: LineFlags },
}

bitflags! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LineFlags: u32 {
        /// Data terminal ready.
        const DTR = 1 << 0;
        /// Request to send.
        const RTS = 1 << 1;
        /// The guest holds the line in break.
        const BREAK = 1 << 2;
    }
}

impl CharRequest {
    pub fn encode(&self) -> Slot {
        match *self {
            Self::Output { number } => Slot {
                words: [number, 0, 0, 0],
                ..Slot::of(Kind::CharOutput)
            },
            Self::SetLine { lines } => Slot {
                arg: lines.bits(),
                ..Slot::of(Kind::CharSetLine)
            },
        }
    }

    pub fn decode(slot: &Slot) -> Result<Self, WireError> {
        match slot.kind()? {
            Kind::CharOutput if slot.arena_len == 0 || slot.arena_len > MAX_OUTPUT => {
                Err(WireError::BadValue {
                    field: "output length",
                    value: u64::from(slot.arena_len),
                })
            }
            Kind::CharOutput => Ok(Self::Output {
                number: slot.words[0],
            }),
            Kind::CharSetLine => LineFlags::from_bits(slot.arg)
                .map(|lines| Self::SetLine { lines })
                .ok_or(WireError::BadValue {
                    field: "line flags",
                    value: u64::from(slot.arg),
                }),
            _ => Err(WireError::UnknownKind(slot.kind)),
        }
    }
}

/// From seriald to the worker, unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CharInput {
    /// Bytes typed; `number` counts those that went before.
    Bytes {
        number: u64,
        len: u8,
        bytes: [u8; MAX_INPUT],
    },
    /// Somebody attached.
    Opened,
    /// Nobody is attached any more.
    Closed,
    /// A break condition on the line.
    Break,
    /// The terminal's size.
    Resized { columns: u16, rows: u16 },
}

impl CharInput {
    /// The first bytes of `input`, as many as one slot takes.
    pub fn bytes(number: u64, input: &[u8]) -> Self {
        let len = input.len().min(MAX_INPUT);
        let mut bytes = [0; MAX_INPUT];
        bytes[..len].copy_from_slice(&input[..len]);
        Self::Bytes {
            number,
            len: len as u8,
            bytes,
        }
    }

    /// The bytes carried, empty for an event.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes { len, bytes, .. } => &bytes[..usize::from(*len).min(MAX_INPUT)],
            _ => &[],
        }
    }

    pub fn encode(&self) -> Slot {
        match *self {
            Self::Bytes { number, len, bytes } => {
                let word =
                    |i: usize| u64::from_le_bytes(core::array::from_fn(|k| bytes[8 * i + k]));
                Slot {
                    words: [number, word(0), word(1), word(2)],
                    size: len,
                    ..Slot::of(Kind::CharInput)
                }
            }
            Self::Opened => Slot::of(Kind::CharOpened),
            Self::Closed => Slot::of(Kind::CharClosed),
            Self::Break => Slot::of(Kind::CharBreak),
            Self::Resized { columns, rows } => Slot {
                words: [u64::from(columns), u64::from(rows), 0, 0],
                ..Slot::of(Kind::CharResized)
            },
        }
    }

    pub fn decode(slot: &Slot) -> Result<Self, WireError> {
        let short = |field, value: u64| {
            u16::try_from(value).map_err(|_| WireError::BadValue { field, value })
        };
        match slot.kind()? {
            Kind::CharInput if slot.size == 0 || usize::from(slot.size) > MAX_INPUT => {
                Err(WireError::BadValue {
                    field: "input length",
                    value: u64::from(slot.size),
                })
            }
            Kind::CharInput => {
                let bytes = core::array::from_fn(|i| slot.words[1 + i / 8].to_le_bytes()[i % 8]);
                Ok(Self::Bytes {
                    number: slot.words[0],
                    len: slot.size,
                    bytes,
                })
            }
            Kind::CharOpened => Ok(Self::Opened),
            Kind::CharClosed => Ok(Self::Closed),
            Kind::CharBreak => Ok(Self::Break),
            Kind::CharResized => Ok(Self::Resized {
                columns: short("columns", slot.words[0])?,
                rows: short("rows", slot.words[1])?,
            }),
            _ => Err(WireError::UnknownKind(slot.kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_travels_inline() {
        let input = CharInput::bytes(7, b"the quick brown fox jumps over");
        assert_eq!(input.as_bytes(), b"the quick brown fox jump");
        assert_eq!(CharInput::decode(&input.encode()), Ok(input));
        assert!(
            CharInput::decode(&Slot {
                size: 25,
                ..input.encode()
            })
            .is_err()
        );
        for event in [
            CharInput::Opened,
            CharInput::Closed,
            CharInput::Break,
            CharInput::Resized {
                columns: 80,
                rows: 25,
            },
        ] {
            assert_eq!(CharInput::decode(&event.encode()), Ok(event));
        }
    }

    #[test]
    fn output_is_bounded() {
        let output = CharRequest::Output { number: 3 };
        assert!(
            CharRequest::decode(&output.encode()).is_err(),
            "output without bytes"
        );
        assert_eq!(
            CharRequest::decode(&Slot {
                arena_len: 5,
                ..output.encode()
            }),
            Ok(output)
        );
        assert!(
            CharRequest::decode(&Slot {
                arena_len: MAX_OUTPUT + 1,
                ..output.encode()
            })
            .is_err()
        );
    }
}
