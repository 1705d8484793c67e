//! Floating-point instructions of the host, executed under the guest's control words.
//!
//! SSE and x87 arithmetic of the guest is done by the host's own instruction of the same name, so results, NaN payloads
//! and sticky flags are the architecture's. What differs between CPUs (the x87 transcendentals, RCPPS and RSQRTPS) is
//! computed here in integers and IEEE doubles, equal on every host.
//!
//! What this crate is not: it knows no guest state and no faults. It reports which flags an operation raises; whether an
//! unmasked one becomes #XM or #MF, and what is then committed, is its caller's business.
//!
//! Invariants that all stubs keep:
//! - while Rust runs, the host's MXCSR and x87 control word hold the ABI's defaults (all exceptions masked). A stub that
//!   loads others restores them before it returns; no guest control word can ever trap on the host.
//! - the host's sticky exception flags are nobody's: a stub may leave them set (the Rust reference, "Rules for inline
//!   assembly", lets `asm!` do so) and reads them so that stale ones never reach the guest.
//! - the host's x87 stack is empty between stubs, but for those that work on the guest's own unit (see [`live`]): the emitted code that
//!   calls them loads it, and has it taken back before Rust runs.
//!
//! The host must have SSE4.1 (x86-64-v2).
//!
//! Sources: Intel SDM vol. 1 chapters 8, 10 and 11, vol. 2 for each instruction; AMD APM vol. 1 chapter 6.

pub mod approx;
pub mod fma;
pub mod half;
pub mod live;
pub mod ops;
mod predicates;
mod quick80;
pub mod raw;
pub mod rebias;
mod scalar;
pub mod sse;
pub mod strings;
pub mod transcendental;
mod unbounded;
mod wide;
pub mod x87;

pub use ops::{Fp, FpBin, FpCvt, FpFma, FpUn, Int};

/// 128 bits: the low half first.
pub type X = [u64; 2];
