//! The broker's decisions, without I/O: events and the time go in, actions come out.
//!
//! - [`Supervisor`]: who is started, restarted, fenced and stopped, and when the machine runs.
//! - [`RestartPolicy`]: that as data.
//! - [`routes`]: which interrupts may be raised, by whom, and where they go.
//!
//! Not here: processes, sockets, segments and clocks. Times are nanoseconds of a clock that never
//! goes back; whoever drives this calls [`Supervisor::handle`] with [`Event::Tick`] at
//! [`Supervisor::next_deadline`].
#![forbid(unsafe_code)]

mod peer;
pub mod routes;
mod supervisor;

pub use peer::{PeerPlan, RestartPolicy, Watch};
pub use supervisor::{Action, Event, Outcome, Plan, Supervisor};

/// Nanoseconds of a monotonic clock.
pub type Ns = u64;

pub(crate) const MS: Ns = 1_000_000;
pub(crate) const SECOND: Ns = 1_000 * MS;
