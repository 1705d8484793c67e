//! What a decoder says about bytes that make no sense.

use core::fmt;

/// A malformed value from a peer. It faults the peer; it is never answered and never a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireError {
    /// A slot of a type that this ring does not carry.
    UnknownKind(u8),
    /// A field whose value is outside its range.
    BadValue { field: &'static str, value: u64 },
    /// A range that leaves its arena or is longer than the message allows.
    BadRange { offset: u64, len: u64, limit: u64 },
    /// A segment that does not start with the expected magic number.
    BadMagic { expected: u64, found: u64 },
    /// A segment or peer of another ABI version.
    BadVersion { expected: u32, found: u32 },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownKind(kind) => write!(f, "slot of unknown type {kind:#04x}"),
            Self::BadValue { field, value } => {
                write!(f, "field `{field}` holds {value:#x}, which is out of range")
            }
            Self::BadRange { offset, len, limit } => {
                write!(
                    f,
                    "range {offset:#x}+{len:#x} does not fit in {limit:#x} bytes"
                )
            }
            Self::BadMagic { expected, found } => {
                write!(f, "magic is {found:#018x} instead of {expected:#018x}")
            }
            Self::BadVersion { expected, found } => {
                write!(f, "ABI version is {found}, this binary speaks {expected}")
            }
        }
    }
}

impl core::error::Error for WireError {}
