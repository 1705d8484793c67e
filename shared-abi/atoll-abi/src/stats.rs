//! The statistics page: counters that the worker adds to and anybody may read while it runs.

use crate::PAGE;
use crate::layout::{layout, numbered};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// Counters in the page.
pub const COUNTERS: usize = PAGE / 8;
/// First counter of the per-link block: `LINK_FIRST + 4 * link` requests, then bytes out, bytes in, nanoseconds waited.
pub const LINK_FIRST: usize = 128;
/// Links that have counters of their own.
pub const LINKS: usize = (COUNTERS - LINK_FIRST) / 4;

#[derive(Debug)]
#[repr(C, align(64))]
pub struct StatsPage {
    counters: [AtomicU64; COUNTERS],
}

const _: () = assert!(size_of::<StatsPage>() == PAGE);

layout!(StatsPage {
    counters: "512 counters, see Counter; from 128 on four for each link"
});

numbered! {
    /// What a counter counts.
    pub enum Counter: u16 as "counter" {
        /// Instructions retired.
        Instructions = 0,
        /// Of those, in compiled regions.
        InstructionsCompiled = 1,
        /// Of those, in the interpreter.
        InstructionsInterpreted = 2,
        /// Of those, in the first tier.
        InstructionsFirstTier = 3,
        /// Virtual nanoseconds.
        VirtualNs = 4,
        /// Virtual nanoseconds skipped while idle.
        IdleNs = 5,
        /// Wall nanoseconds since the start.
        WallNs = 6,
        /// Wall nanoseconds in compiled regions.
        WallCompiledNs = 7,
        /// Wall nanoseconds in the interpreter.
        WallInterpretedNs = 8,
        /// Wall nanoseconds in which virtual time stood still for a reply.
        WallWaitingNs = 9,
        /// Wall nanoseconds asleep while the guest was idle.
        WallIdleNs = 10,
        /// Regions compiled.
        Regions = 11,
        /// Guest instructions in them.
        RegionInstructions = 12,
        /// Bytes of code emitted.
        RegionBytes = 13,
        /// Nanoseconds spent compiling, on all threads.
        CompileNs = 14,
        /// Regions dropped because their code was written.
        RegionsDropped = 15,
        /// Exits from compiled code to the run loop.
        RegionExits = 16,
        /// Software TLB misses.
        TlbMisses = 17,
        /// Interrupts delivered.
        Interrupts = 18,
        /// Exceptions delivered.
        Exceptions = 19,
        /// Port accesses.
        PortAccesses = 20,
        /// MMIO accesses.
        MmioAccesses = 21,
        /// Events taken off the wheel.
        Events = 22,
        /// Outside inputs stamped.
        Inputs = 23,
        /// Bytes of guest RAM touched.
        RamTouched = 24,
    }
}

impl StatsPage {
    pub fn add(&self, counter: Counter, n: u64) {
        self.at(usize::from(counter.number())).fetch_add(n, Relaxed);
    }

    pub fn set(&self, counter: Counter, value: u64) {
        self.at(usize::from(counter.number())).store(value, Relaxed);
    }

    pub fn get(&self, counter: Counter) -> u64 {
        self.at(usize::from(counter.number())).load(Relaxed)
    }

    /// One of the four counters of a link: 0 requests, 1 bytes out, 2 bytes in, 3 nanoseconds waited.
    pub fn link(&self, link: crate::LinkId, which: usize) -> Option<&AtomicU64> {
        let link = usize::from(link.0);
        (link < LINKS && which < 4).then(|| self.at(LINK_FIRST + 4 * link + which))
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        &self.counters[index]
    }
}
