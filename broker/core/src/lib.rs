//! The broker's decisions, without I/O.
//!
//! [`Broker`] is a state machine: events go in (a peer said Hello, a process exited, a session hung up, a deadline passed), actions come out
//! (spawn, kill, attach, move the clock, finish). [`Plan`] is what a machine file means in processes, links and interrupt routes.
//!
//! It knows no file, socket, process or clock; the daemon beside it feeds it and carries its actions out. That is what lets supervision,
//! fencing and the order of an end be tested over random sequences of events.
//!
//! Invariants:
//! * **Fencing.** A successor is started only after its predecessor has exited, or, where that cannot be seen (another container), under a
//!   new generation and with the predecessor's lock in its way.
//! * No two peers serve a link under one generation, and a generation never comes back.
//! * Once an end was asked for, it comes: every wait on the way to it has a deadline.
//! * Virtual time is moved through the clock alone, so nothing here can be seen by the guest.
#![forbid(unsafe_code)]

mod broker;
mod event;
mod peer;
mod plan;
mod policy;

pub use broker::Broker;
pub use event::{Action, ClockMove, Conn, Event, Exit, Setup};
pub use peer::{Origin, PeerSetup};
pub use plan::{LinkPlan, Plan, PlanError};
pub use policy::{Care, RestartPolicy};
