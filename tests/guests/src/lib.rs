//! Real guests in real machines: one run of `atoll`, as a test sees it.
//!
//! The tests start the `atoll` that was built beside them (or `$ATOLL_BIN`) as a user would, and look only
//! at what a user can see: the console, the exit code, the files it wrote, the process list. Guests
//! come from xtask, which makes them on first use.
//!
//! Nothing here sleeps: a test waits for text on the console or for the end of the process.
#![forbid(unsafe_code)]

pub mod image;
mod process;
mod run;

pub use process::{Process, descendants, open_files};
pub use run::{Boot, Outcome, Running};

use xtask::guest::{self, Guest, Options};

/// A guest by its name for `cargo xtask guest`; made if it is not there.
pub fn guest(name: &str) -> Guest {
    guest::prepare(name, &Options::default()).unwrap_or_else(|error| panic!("{error:#}"))
}
