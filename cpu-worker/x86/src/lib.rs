//! The x86 architecture without a host: state, decoding, the meaning of each instruction, and the interpreter.
//!
//! Each instruction has one meaning. The lifted ones (integer, branches, moves, SSE) are written once over
//! [`eval::Eval`]; the interpreter evaluates them with integers (`impl Eval for Cpu`), the translator with Cranelift
//! values. All others (system, x87, strings, far transfers) are functions of [`Cpu`] that both engines call.
//!
//! What this crate is not: it knows no board (see [`bus::Bus`]), no page-table layout (see `atoll-mmu`) and no code
//! generation (see `atoll-jit`).
#![forbid(unsafe_code)]

pub mod bus;
pub mod cpu;
pub mod decode;
pub mod eval;
pub mod exception;
pub mod features;
pub mod flags;
mod helper;
pub mod hostile;
pub mod interp;
pub mod listing;
pub mod op;
pub mod semantics;
pub mod state;
mod string;
pub mod system;

pub use bus::Bus;
pub use cpu::Cpu;
pub use eval::Eval;
pub use exception::{Fault, Stop, Vector};
pub use op::{Kind, Op, Width};
pub use state::State;
