//! Every byte that crosses a process, and nothing else.
//!
//! This crate is the wire of the machine: identities, virtual time, the shared pages, ring slots, the block and char
//! protocols, the register link of a process seat, and the control messages. It *is* types, their encodings and the
//! checks that a decoded value is sound. It is *not* I/O: no mapping, no futex, no socket, no file. `atoll-transport`
//! moves these bytes; models and back ends see the decoded types only.
//!
//! Invariants:
//! - Shared memory holds fixed `repr(C)` little-endian layouts whose sizes are asserted at compile time; a ring slot is
//!   64 bytes with type and owner in its last byte.
//! - Control messages are postcard enums. Field and variant order *is* the format, so both are frozen by golden bytes
//!   and a change raises [`ABI_VERSION`].
//! - A decoder never panics. What a peer wrote is copied out first, then validated, then used.
//! - `ABI.md` is rendered from these types by [`doc::render`]; a test fails when it is stale.
#![forbid(unsafe_code)]

pub mod block;
pub mod char;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod doc;
pub mod error;
pub mod exit;
pub mod ids;
pub mod layout;
pub mod link;
pub mod register;
pub mod route;
pub mod slot;
pub mod stats;
pub mod time;

pub use error::WireError;
pub use ids::{LineId, LinkId, PeerId};
pub use slot::{ArenaRange, Slot, Status};
pub use time::VirtualTime;

/// Version of everything in this crate. Peers of different versions refuse each other at `Hello`.
pub const ABI_VERSION: u32 = 1;

/// Bytes of a page: the unit of every shared segment.
pub const PAGE: usize = 4096;

/// Bytes of a cache line: what two processes write is never on the same one.
pub const LINE: usize = 64;

const _: () = assert!(
    cfg!(target_endian = "little"),
    "the wire is little-endian and so must the host be"
);
