//! The one implementation of the wire: segments, rings, doorbells, sessions, process handles.
//!
//! It *is* the home of `unsafe` outside the engine: whatever maps memory, sleeps on a futex or passes a descriptor is
//! here, behind safe types that bound everything a peer can say. It is *not* policy: who is started, restarted or
//! fenced, and when time moves, others decide.
//!
//! - [`Segment`]: shared memory, a sealed memfd or a named object. [`View`] reads a page of atomics in it, [`Bytes`]
//!   copies byte ranges in and out, [`GuestRam`] is the guest's memory.
//! - [`LinkClient`] and [`LinkServer`]: the two ends of a request link, with journal and settlement.
//! - [`QueueSender`] and [`QueueReceiver`]: plain queues for register links and outside input.
//! - [`Doorbell`] and [`Waiter`]: sleep and wake without a lost wake-up; a burst costs one wake.
//! - [`Session`] and [`Listener`]: control messages with file descriptors over a Unix socket.
//! - [`process`]: pidfds and the inheritance of descriptors.
//!
//! Invariants:
//! - No Rust reference to plain bytes of shared memory is ever formed; a peer may write them at any time. Atomics are
//!   referenced, bytes are copied by raw pointer.
//! - What a peer wrote is copied out, then checked, then used. A malformed slot or message is an [`Error`], not a panic.
//! - Every loop over a peer's data is bounded by the geometry that was checked at attach.

mod arena;
#[cfg(not(loom))]
pub mod attach;
#[cfg(not(loom))]
mod client;
#[cfg(not(loom))]
mod doorbell;
mod error;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod hostile;
#[cfg(not(loom))]
mod link;
#[cfg(all(loom, test))]
mod loom_models;
#[cfg(not(loom))]
pub mod process;
#[cfg(not(loom))]
mod queue;
#[cfg(not(loom))]
mod ram;
mod ring;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod server;
#[cfg(not(loom))]
mod session;
mod sleep;
mod sync;

pub use arena::FifoArena;
pub use error::Error;

#[cfg(not(loom))]
pub use self::{
    client::{LinkClient, Reply, SubmitError},
    doorbell::{Doorbell, Waiter, monotonic_ns},
    link::LinkMemory,
    queue::{QueueReceiver, QueueSender},
    ram::GuestRam,
    segment::{Bytes, Segment, SharedPage, View},
    server::{LinkServer, Request},
    session::{Listener, Message, Session, SessionSender},
};

/// What everything here returns.
pub type Result<T, E = Error> = core::result::Result<T, E>;
