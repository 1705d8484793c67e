//! Real guests in real machines: one run of `atoll`, as a test sees it.
//!
//! The tests start the `atoll` that was built beside them (or `$ATOLL_BIN`) as a user would, and look only
//! at what a user can see: the console, the exit code, the files it wrote, the process list. Guests
//! come from xtask, which makes them on first use.
//!
//! Nothing here sleeps: a test waits for text on the console or for the end of the process.
#![forbid(unsafe_code)]

mod engines;
pub mod image;
mod process;
mod run;
mod terminal;

pub use engines::{agreed, compared};
pub use process::{Process, descendants, open_files};
pub use run::{Boot, Outcome, Running, program};
pub use terminal::Terminal;

use std::path::PathBuf;

use xtask::guest::{self, Guest, Options};

/// A guest by its name for `cargo xtask guest`; made if it is not there.
pub fn guest(name: &str) -> Guest {
    try_guest(name).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Likewise, where the host may lack what is needed to make it.
///
/// # Errors
/// What it lacks.
pub fn try_guest(name: &str) -> anyhow::Result<Guest> {
    let options = Options {
        alpine_tarball: alpine_tarball(),
        ..Options::default()
    };
    guest::prepare(name, &options)
}

/// Alpine's mini root file system, which is no Debian package: where the environment says.
pub fn alpine_tarball() -> Option<PathBuf> {
    let path = std::env::var_os("ATOLL_ALPINE_TARBALL")?;
    (!path.is_empty()).then(|| path.into())
}
