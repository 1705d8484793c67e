//! The host CPU as a witness: runs single instructions from stated machine states in a child process.
//!
//! What this crate is: a [`Machine`] (registers and a small memory) and the bytes of one instruction go in, the machine
//! after it and the exception it raised come out. It is the only part of the instruction tests that needs `unsafe`.
//!
//! How it works: no trampoline is written in assembly. The child lets the kernel load and save the machine: the handler
//! of one signal writes the next case's registers into its own signal frame, with TF set and RIP at the instruction, and
//! returns. `rt_sigreturn` loads everything at once (general registers, flags, x87, XMM, upper YMM halves, MXCSR), the CPU
//! executes one instruction, and the debug trap (or the instruction's own exception) enters the handler again with the
//! whole state saved in a frame on the alternate stack. So every register is free for the case, RSP included, branches may
//! go anywhere, and faults are as exact as the kernel reports them. Code of 32 or 16 bits is a matter of the selectors in the
//! frame: the kernel returns to whatever code and stack segment of user mode they name ([`segments`]). The other four segment registers
//! are the handler's to load and save.
//!
//! What it is not: it knows no instruction and judges nothing.
//!
//! Invariants:
//! - Parent and child share one memfd of [`Slot`]s and take turns by one byte over a pipe in each direction; the one
//!   whose turn it is not does not touch the slots.
//! - A child that dies is a result ([`Event::LOST`]) of the case that it was running, and is replaced.

mod child;
pub mod layout;
mod machine;
pub mod segments;
mod shared;
mod signal;
mod witness;

pub use child::serve;
pub use machine::{Event, Fx, Machine, Slot};
pub use witness::Witness;
