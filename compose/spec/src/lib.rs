//! What a machine is: the machine file, QEMU's flags, and what of them the worker is told.
//!
//! Both spellings, a TOML file and a command line, go through one table of settings into one
//! [`Draft`]; [`Draft::finish`] checks the whole and gives a [`Machine`], or every problem at once.
//! [`WorkerMachine`] is the part that crosses to the worker: it holds no path, because the worker
//! holds no file.
//!
//! Not here: reading any file, and looking at the host. The caller hands over texts and asks
//! `finish`; whether a kernel exists or the host has the memory is the command line's preflight.
#![forbid(unsafe_code)]

mod chardev;
pub mod cpu;
mod draft;
mod drive;
mod file;
mod flags;
pub mod hostile;
pub mod machine;
mod options;
mod problem;
mod script;
mod settings;
mod units;
pub mod worker;

pub use cpu::CpuModel;
pub use draft::Draft;
pub use flags::{choices, flags_help};
pub use machine::*;
pub use problem::{Origin, Problem, Problems};
pub use script::parse_script;
pub use worker::*;
