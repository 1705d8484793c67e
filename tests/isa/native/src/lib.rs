//! Runs single instructions on the host CPU, in a child process.
//!
//! The child loads a case's registers, runs its instruction and takes the state after it without a line of assembly: the
//! kernel does both. Each case ends in a signal (the instruction is followed by INT3; or it faults), the handler reads the
//! whole state from the signal frame, writes the next case's into it and returns, which starts that one. A case costs
//! one signal, about two microseconds.
//!
//! What this crate is not: it makes no cases and judges no outcome; see `isa-tests`.
//!
//! Layout of the addresses that cases may use, the same in every process:
//! - [`CODE`]: a page of INT3, with the instruction at [`ENTRY`]; cases can read and execute it.
//! - [`DATA`]: two pages to read and write, then one that is read-only. Nothing is mapped on either side.

mod child;
mod memory;

use std::io;

pub use memory::{Arena, CODE, DATA, DATA_BYTES, ENTRY, WRITABLE_BYTES};

/// x87 and SSE state, in the layout of FXSAVE's 64-bit form.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fx {
    pub control: u16,
    pub status: u16,
    /// One bit a physical register: in use.
    pub tags: u8,
    pub reserved: u8,
    pub opcode: u16,
    pub ip: u64,
    pub dp: u64,
    pub mxcsr: u32,
    pub mxcsr_mask: u32,
    /// ST(0) to ST(7).
    pub st: [[u64; 2]; 8],
    pub xmm: [[u64; 2]; 16],
}

/// The registers that a case starts from and ends with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// In the encoding's order: RAX, RCX, RDX, RBX, RSP ...
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub fx: Fx,
}

/// One instruction with the state that it starts from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub code: [u8; 16],
    pub len: u8,
    /// Words to put into the data pages first: address and value.
    pub patches: [(u64, u64); 2],
    pub patch_count: u8,
    pub before: Registers,
}

/// No fault: the instruction completed.
pub const COMPLETED: u8 = 3;

/// What an instruction did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The vector of the exception; [`COMPLETED`] (INT3's) if there was none.
    pub vector: u8,
    pub error: u32,
    /// The address of a page fault.
    pub cr2: u64,
    pub after: Registers,
    /// A digest of the writable data pages.
    pub memory: u64,
}

/// Why a case has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It killed the child, by this signal.
    Killed(i32),
}

/// A digest of memory; the comparing side uses the same.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0x9e37_79b9_7f4a_7c15, |h, c| {
        let mut word = [0; 8];
        word.copy_from_slice(c);
        (h ^ u64::from_le_bytes(word))
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(29)
    })
}

/// Runs all cases, each on fresh data pages; a case that kills the child is reported as lost.
pub fn run(arena: &mut Arena, cases: &[Case]) -> io::Result<Vec<Result<Outcome, Lost>>> {
    let mut outcomes = Vec::with_capacity(cases.len());
    while outcomes.len() < cases.len() {
        let from = outcomes.len();
        let n = (cases.len() - from).min(memory::BATCH);
        arena.put_cases(&cases[from..from + n]);
        let end = child::run_batch(arena)?;
        let finished = arena.finished();
        outcomes.extend((0..finished).map(|i| Ok(arena.outcome(i))));
        if finished < n {
            outcomes.push(Err(end));
        }
    }
    Ok(outcomes)
}
