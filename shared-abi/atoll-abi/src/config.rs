//! What each role is told at attach.
//!
//! The machine description travels as an opaque blob: its type belongs to the machine file's crate, and the wire does
//! not need to understand it.

use crate::clock::Policy;
use crate::link::LinkKind;
use crate::{LinkId, VirtualTime};
use serde::{Deserialize, Serialize};

/// The configuration of one peer, by its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Config {
    Worker(WorkerConfig),
    Block(BlockConfig),
    Char(CharConfig),
    /// A process seat: the model's name and its own options.
    Seat(SeatConfig),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// The machine, as postcard of the machine file's own type.
    pub machine: Vec<u8>,
    /// The links, in the order of the machine file.
    pub links: Vec<WorkerLink>,
    pub policy: Policy,
    /// Where to begin; zero unless a snapshot is restored.
    pub start: VirtualTime,
}

/// One link as the worker sees it. Its segment is the one with role [`SegmentRole::Link`](crate::control::SegmentRole).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLink {
    pub link: LinkId,
    pub kind: LinkKind,
    /// The id by which the machine file names the back end.
    pub name: String,
    /// Generation of the server that serves it now.
    pub generation: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// The image, as a path of blockd's own file system.
    pub path: String,
    pub format: ImageFormat,
    pub read_only: bool,
    pub cache: CacheMode,
    /// Writes go to a temporary overlay and are forgotten at the end.
    pub snapshot: bool,
    /// Does discard reach the image?
    pub discard: bool,
    /// Does writing zeros turn into write-zeroes?
    pub detect_zeroes: bool,
    /// Backing files that the image may name; any other is refused.
    pub backing_allowed: Vec<String>,
    /// Is the image locked against other users?
    pub lock: bool,
    /// The id by which the machine file names the disk, for messages.
    pub label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageFormat {
    /// By the image's own header; a raw image may then not be written at its first sector.
    Probe,
    Raw,
    Qcow2,
}

/// QEMU's cache modes, of which each is three switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheMode {
    #[default]
    Writeback,
    Writethrough,
    None,
    Directsync,
    Unsafe,
}

impl CacheMode {
    /// May a published write be lost by a power failure until the guest flushes?
    pub const fn writeback(self) -> bool {
        matches!(self, Self::Writeback | Self::None | Self::Unsafe)
    }

    /// Is the host's page cache bypassed?
    pub const fn direct(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }

    /// Is a flush answered without making anything durable?
    pub const fn no_flush(self) -> bool {
        matches!(self, Self::Unsafe)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CharConfig {
    pub kind: CharKind,
    /// The id by which the machine file names the line, for messages.
    pub label: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CharKind {
    /// The terminal that was handed over in the attach message's files, or the process's own.
    Stdio {
        /// Ctrl-C is the guest's, not a signal.
        signal_to_guest: bool,
    },
    Pty,
    UnixServer {
        path: String,
        /// Hold the machine until somebody connects.
        wait: bool,
    },
    File {
        path: String,
        append: bool,
    },
    Null,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatConfig {
    /// The model's name.
    pub model: String,
    /// Its options, in the encoding of the seam's crate.
    pub options: Vec<u8>,
}
