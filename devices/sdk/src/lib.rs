//! What every device process has in common, so that a new one is its back end and a `main` of one line.
//!
//! What it is: the life of a device process. [`run`] reads the arguments, shakes hands with the
//! broker, maps what the broker hands over, lets the device open what it needs, gives up all rights
//! beyond that ([`sandbox`]), reports itself ready and lets the device serve; a thread of its own
//! answers the broker, beats the heart and notices when it is time to end ([`Control`]).
//! [`serve_requests`] is the loop of a process behind a request link, with redo, settlement and end.
//!
//! What it is not: it knows no device, opens no file of the user's, and never touches guest RAM,
//! which no device process maps.
//!
//! Invariants:
//! * The broker hears why a process cannot go on ([`Fault`]) before the process ends; where there is
//!   no broker to tell, the user reads it on stderr.
//! * A process whose broker died, or whose generation is over, publishes nothing any more; it makes
//!   durable what it published before, and ends.
//!
//! Exit status: 0 the end came in good order; 2 the configuration cannot be served; 3 what it needs
//! is held by somebody else; 1 anything else.
#![forbid(unsafe_code)]

mod args;
mod attach;
mod control;
mod run;
pub mod sandbox;
mod serve;

pub use args::{Args, Broker, Command, parse};
pub use atoll_abi::control::{Fault, FaultKind, LogLevel, Role};
pub use attach::{Attachment, fault, transport_fault};
pub use control::{Control, Ending};
pub use run::{Device, run};
pub use serve::{Answer, RequestServer, Served, serve_requests};

/// The version that a process reports.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
