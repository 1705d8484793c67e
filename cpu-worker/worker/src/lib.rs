//! The CPU worker: the run loop around engine and board, and the process around the run loop.
//!
//! A library as well as a program, so that tests can run a whole machine in one process.
#![forbid(unsafe_code)]

pub mod boot;
pub mod control;
pub mod debug;
pub mod links;
pub mod outside;
pub mod process;
pub mod ram_hash;
pub mod stats;
pub mod trail;
pub mod vcpu;

pub use vcpu::{Inputs, Machine, Options, Outside, Stopped};
