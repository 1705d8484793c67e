//! The engine: decoded blocks for the interpreter, regions for Cranelift, and the loop that chooses between them.
//!
//! What this crate is: [`Engine`] runs a [`atoll_x86::Cpu`] to its deadline or to something only the machine can handle. It finds
//! hot code, translates it in regions (`plan`, `flow`, `emit`, `compiler`), keeps them in an arena of its own and links them.
//!
//! What it is not: it gives no instruction a meaning (`atoll-x86` does, once, for both tiers) and knows no board.
//!
//! Invariant: which tier ran never changes what is counted, filled or stamped.

// Emitted code holds the addresses of instructions, so each has a box of its own.
#![allow(clippy::vec_box)]

mod abi;
mod arena;
mod compiler;
mod effects;
mod emit;
mod engine;
mod flow;
mod links;
mod lockstep;
mod plan;
mod quick;
mod rehearsal;
mod thunks;

pub use engine::{Engine, Exit, Mode, Stats, Tier};
