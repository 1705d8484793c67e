//! The instructions that are functions of `Cpu`, and the events that change what runs: interrupts, task state, modes.
//!
//! Both engines call these through `Op::run`. Every function checks and faults before it commits, as the lifted meanings
//! do; whoever changes an input of the mode word calls `Cpu::update_mode`.

pub(crate) mod control;
pub(crate) mod cpuid;
pub(crate) mod descriptor;
pub(crate) mod far;
pub(crate) mod flags;
pub(crate) mod interrupt;
pub(crate) mod iret;
pub mod models;
pub(crate) mod monitor;
pub(crate) mod msr;
pub(crate) mod port;
pub(crate) mod segments;
pub(crate) mod syscall;
pub(crate) mod tables;
pub(crate) mod task;

pub use cpuid::{Model, Vendor};
