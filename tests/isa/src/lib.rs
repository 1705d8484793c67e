//! Instruction truth: generated instructions and states, run by Atoll's engines and by the CPU that this runs on.
//!
//! What this crate is: a generator of cases (`forms`, `generate`, `values`), two ways to run them (`guest` for our engines,
//! the `isa-native` crate for the host), a comparison that knows what the manuals leave undefined (`undefined`, `compare`),
//! and a report of what was covered (`report`). A case is a function of (seed, number), so each can be run again alone.
//!
//! Beside it stands a second witness: `qemu` follows a whole guest in QEMU, instruction by instruction.
//!
//! What it is not: it holds no expectation of its own. The host CPU is the witness; where it may not be one, the form is in
//! the table of `exclude` with the reason.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod compare;
pub mod coverage;
pub mod elsewhere;
pub mod exclude;
pub mod features;
pub mod forms;
pub mod generate;
pub mod guest;
pub mod qemu;
pub mod report;
pub mod rng;
pub mod undefined;
pub mod values;

pub use campaign::{Campaign, Engine};
pub use forms::Bits;
pub use report::Report;
