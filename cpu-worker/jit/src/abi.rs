//! What emitted code, thunks and engine agree on: offsets from the pinned register, helper slots, reasons to leave.
//!
//! A region is a function of Cranelift's `tail` convention: `fn(budget, rip, entry, link) -> Leave`. The pinned register
//! (R15) holds `&Cpu`. Guest state is in memory between regions; within one it is in SSA values.

use std::mem::offset_of;

use atoll_mmu::Mmu;
use atoll_x86::bus::Clock;
use atoll_x86::flags::LazyFlags;
use atoll_x86::state::{Segment, State, X87};
use atoll_x86::{Cpu, op::RIP};

const fn state(offset: usize) -> i32 {
    (offset_of!(Cpu, state) + offset) as i32
}
const fn mmu(offset: usize) -> i32 {
    (offset_of!(Cpu, mmu) + offset) as i32
}
const FLAGS: usize = offset_of!(State, flags);
const CLOCK: usize = offset_of!(State, clock);

/// The general register `r`.
pub(crate) const fn gpr(r: u8) -> i32 {
    state(offset_of!(State, gpr) + 8 * r as usize)
}
/// The vector register `r`.
pub(crate) const fn xmm(r: u8) -> i32 {
    state(offset_of!(State, xmm) + 16 * r as usize)
}
/// The upper half of the vector register `r`.
pub(crate) const fn ymm_high(r: u8) -> i32 {
    state(offset_of!(State, ymm_high) + 16 * r as usize)
}
/// The base of the segment register `s`.
pub(crate) const fn seg_base(s: u8) -> i32 {
    let segment = offset_of!(State, seg) + size_of::<Segment>() * s as usize;
    state(segment + offset_of!(Segment, base))
}
pub(crate) const RIP_AT: i32 = gpr(RIP);
pub(crate) const FLAG_OP: i32 = state(FLAGS + offset_of!(LazyFlags, op));
pub(crate) const FLAG_WIDTH: i32 = state(FLAGS + offset_of!(LazyFlags, width));
pub(crate) const FLAG_A: i32 = state(FLAGS + offset_of!(LazyFlags, a));
pub(crate) const FLAG_B: i32 = state(FLAGS + offset_of!(LazyFlags, b));
pub(crate) const FLAG_RESULT: i32 = state(FLAGS + offset_of!(LazyFlags, result));
pub(crate) const MODE: i32 = state(offset_of!(State, mode));
pub(crate) const RFLAGS: i32 = state(offset_of!(State, rflags));
pub(crate) const BUDGET: i32 = state(CLOCK + offset_of!(Clock, budget));
pub(crate) const MXCSR: i32 = state(offset_of!(State, mxcsr));
const X87_AT: usize = offset_of!(State, x87);
pub(crate) const X87_CONTROL: i32 = state(X87_AT + offset_of!(X87, control));
pub(crate) const X87_IP: i32 = state(X87_AT + offset_of!(X87, ip));
pub(crate) const X87_DP: i32 = state(X87_AT + offset_of!(X87, dp));
pub(crate) const DATA_SET: i32 = mmu(offset_of!(Mmu, data));
pub(crate) const CODE_SET: i32 = mmu(offset_of!(Mmu, code));
pub(crate) const ANSWER: i32 = mmu(offset_of!(Mmu, answer));
pub(crate) const ASKED_VA: i32 = mmu(offset_of!(Mmu, asked));
pub(crate) const ASKED_WHAT: i32 = ASKED_VA + 8;

/// Slots of [`Mmu::helpers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Helper {
    /// `preserve_all fn()`, asked: va and bytes | intent << 8, answer: host address or 0. It has no arguments in registers, which would
    /// have to be free where it may be called, that is, everywhere.
    Memory = 0,
    /// `preserve_all fn()`, answer: the arithmetic flags of the state as EFLAGS bits.
    FlagBits = 1,
    /// `system_v fn(&Op) -> `[`Ran`]: an instruction that is a function of `Cpu`.
    RunOp = 2,
    /// The table of indirect targets.
    Table = 3,
    /// Not an address: 1 while the host's x87 unit holds the guest's, which it never does while Rust runs.
    X87Loaded = 4,
    /// `preserve_all fn()`: loads the guest's x87 unit into the host's.
    LoadX87 = 5,
    /// The first of the x87 stubs, see [`atoll_hostfp::live::stubs`].
    X87Stubs = 6,
}

/// Where a helper's address is.
pub(crate) const fn helper(h: Helper) -> i32 {
    mmu(offset_of!(Mmu, helpers) + 8 * h as usize)
}

/// What the helper `RunOp` gives back.
pub(crate) mod ran {
    /// Done; go on.
    pub(crate) const ON: i64 = 0;
    /// Done; leave after it.
    pub(crate) const LEAVE: i64 = 1;
    /// Not done: nothing but what the instruction keeps at a fault was changed. The interpreter does it again.
    pub(crate) const AGAIN: i64 = 2;
}

/// Why emitted code returned. The state is at an instruction boundary, RIP and budget included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Leave {
    /// The instruction at RIP is the interpreter's: a fault, a device, or a kind that is not compiled.
    Interpret = 0,
    /// The budget is shorter than the longest path to the next test.
    Budget = 1,
    /// The code TLB did not name the page that the region was made from.
    Stale = 2,
    /// No region is linked here; `Mmu::answer` is the link, or 0 after an indirect branch.
    Link = 3,
    /// A helper asks for attention.
    Attention = 4,
    /// As [`Leave::Interpret`], for an instruction that has already left its sticky flags in MXCSR: it is done before anything else.
    Float = 5,
    /// The quick code at RIP was entered so often that better code would pay.
    Warm = 6,
}

impl Leave {
    /// How many there are.
    pub(crate) const COUNT: usize = 7;

    pub(crate) fn from_raw(raw: i32) -> Leave {
        match raw {
            0 => Leave::Interpret,
            1 => Leave::Budget,
            2 => Leave::Stale,
            3 => Leave::Link,
            4 => Leave::Attention,
            5 => Leave::Float,
            _ => Leave::Warm,
        }
    }
}

/// An entry of the table of indirect targets.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Target {
    /// See [`target_key`]; [`NO_TARGET`] where empty.
    pub(crate) key: u64,
    pub(crate) code: usize,
    pub(crate) entry: u64,
    pub(crate) reserved: u64,
}

/// Entries of the table of indirect targets.
pub(crate) const TARGETS: usize = 4096;
/// No canonical address gives this key: a mode word with these bits would be in long mode and in virtual-8086 mode.
pub(crate) const NO_TARGET: u64 = 0x5555_5555_5555_5555;

/// What a target is found by: canonical addresses repeat bit 47, so that the mode word fits above it.
pub(crate) fn target_key(rip: u64, mode: u32) -> u64 {
    rip ^ (u64::from(mode) << 48)
}
/// Where in the table a target lies. Emitted code computes the same.
pub(crate) fn target_slot(rip: u64) -> usize {
    (rip ^ (rip >> 10)) as usize & (TARGETS - 1)
}
