//! Guest RAM, the guest-visible TLB, the page walk and the map of translated code.
//!
//! What this crate is: memory as one vCPU sees it. [`Ram`] is guest-physical memory with one mark per 64-byte line that
//! holds decoded or translated code. [`Mmu`] adds translation: a TLB of fixed geometry that emitted code reads inline, the
//! page walk behind it (Intel SDM vol. 3A, chapter 4), and the accesses that the interpreter makes.
//!
//! What it is not: it knows no instruction and no device. An access that is not RAM stops with [`MemStop::Device`] and the
//! caller asks its bus.
//!
//! Invariants:
//! - The TLB is guest-visible state. `Mmu::translate` alone fills and evicts, `flush` alone drops; a hit changes nothing;
//!   what the host wants to know (code marks, the undo log, written pages) only sets slow-path bits in a tag.
//! - A store always completes, marked line or not; the mark is reported through [`Ram::code_written`].
//! - An access over two pages translates both, in address order, before it writes either.

mod access;
mod flush;
mod mmu;
mod paging;
mod ram;
mod shadow;
mod span;
mod tlb;
mod undo;
mod written;

pub use access::{Loc, MemStop};
pub use mmu::{Intent, Mmu, Privilege, Touched};
pub use paging::{PHYS_BITS, PagingRegs};
pub use ram::{CodeWrite, Ram, RamBuilder};
pub use shadow::{SHADOW_BLOCK, Shown};
pub use span::Span;
pub use tlb::{CODE_ENTRIES, DATA_ENTRIES, TlbEntry, slow};
pub use undo::Changes;

/// The page size that translation works in.
pub const PAGE: u64 = 4096;
/// The offset bits of an address.
pub const OFFSET: u64 = PAGE - 1;
