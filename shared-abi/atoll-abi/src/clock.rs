//! The clock page: how the broker steers time without standing on the path.
//!
//! The broker writes the horizon, which the worker never passes, and the pace; the worker writes where it stands.
//! Pause, run-until, snapshot and pacing are moves of these two and nothing else, so the guest cannot see them. Only
//! the broker and the worker map this page. Each side writes lines of its own.

use crate::layout::{layout, numbered};
use crate::link::Bell;
use crate::{PAGE, VirtualTime};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64, fence};

/// `"ATLCLOCK"`, little-endian.
pub const CLOCK_MAGIC: u64 = u64::from_le_bytes(*b"ATLCLOCK");

#[derive(Debug)]
#[repr(C, align(64))]
pub struct ClockPage {
    magic: AtomicU64,
    abi_version: AtomicU32,
    policy: AtomicU32,
    horizon_ns: AtomicU64,
    run_state: AtomicU32,
    pace_turn: AtomicU32,
    wall_zero_ns: AtomicU64,
    virtual_zero_ns: AtomicU64,
    ratio_num: AtomicU32,
    ratio_den: AtomicU32,
    _pad0: [u8; 8],

    now_ns: AtomicU64,
    instructions: AtomicU64,
    worker_state: AtomicU32,
    waiting_link: AtomicU32,
    progress: AtomicU64,
    _pad1: [u8; 32],

    pub broker_bell: Bell,
    _pad2: [u8; PAGE - 192],
}

const _: () = assert!(size_of::<ClockPage>() == PAGE);
const _: () = assert!(core::mem::offset_of!(ClockPage, now_ns) == 64);
const _: () = assert!(core::mem::offset_of!(ClockPage, broker_bell) == 128);

layout!(ClockPage {
    magic: "\"ATLCLOCK\"",
    abi_version: "ABI version",
    policy: "0 exact, 1 paced",
    horizon_ns: "broker: virtual time that the worker never passes",
    run_state: "broker: 0 held, 1 running, 2 stopping",
    pace_turn: "broker: odd while the four pace fields are being written",
    wall_zero_ns: "broker: CLOCK_MONOTONIC at which the pace begins",
    virtual_zero_ns: "broker: virtual time at which the pace begins",
    ratio_num: "broker: virtual nanoseconds ...",
    ratio_den: "broker: ... per this many wall nanoseconds",
    now_ns: "worker: virtual time reached, published at events and at least every millisecond",
    instructions: "worker: instructions retired",
    worker_state: "worker: what it does, see WorkerState",
    waiting_link: "worker: the link whose reply it waits for",
    progress: "worker: grows while it lives",
    broker_bell: "futex: worker wakes the broker (horizon reached, stopped)",
});

numbered! {
    /// Which clock idle time follows.
    pub enum Policy: u32 as "policy" {
        /// Idle skips to the next event.
        Exact = 0,
        /// Idle sleeps until its wall time; virtual time is never ahead of the wall.
        Paced = 1,
    }
}

numbered! {
    /// What the broker wants of the worker.
    pub enum RunState: u32 as "run state" {
        /// Not started, or held: the worker does not run even below the horizon.
        Held = 0,
        /// Run up to the horizon.
        Running = 1,
        /// End the machine at the next boundary.
        Stopping = 2,
    }
}

numbered! {
    /// What the worker does.
    pub enum WorkerState: u32 as "worker state" {
        /// It has not begun.
        Starting = 0,
        /// Guest code runs.
        Running = 1,
        /// It stands at the horizon.
        AtHorizon = 2,
        /// The guest is idle and the wall clock has to catch up.
        Idle = 3,
        /// Virtual time stands still until a reply comes, see `waiting_link`.
        Waiting = 4,
        /// It ended.
        Stopped = 5,
    }
}

/// A straight line between wall and virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// CLOCK_MONOTONIC nanoseconds.
    pub wall_zero_ns: u64,
    pub virtual_zero: VirtualTime,
    pub num: u32,
    pub den: u32,
}

impl Pace {
    /// One virtual second a second from the given point on.
    pub fn real_time(wall_zero_ns: u64, virtual_zero: VirtualTime) -> Self {
        Self {
            wall_zero_ns,
            virtual_zero,
            num: 1,
            den: 1,
        }
    }

    /// The virtual time that the wall clock has reached.
    pub fn virtual_at(&self, wall_ns: u64) -> VirtualTime {
        self.virtual_zero
            + scale(
                wall_ns.saturating_sub(self.wall_zero_ns),
                self.num,
                self.den,
            )
    }

    /// The first wall nanosecond at which `virtual_at` is `at` or later.
    pub fn wall_at(&self, at: VirtualTime) -> u64 {
        let ns = at.since(self.virtual_zero);
        let wall = u128::from(ns) * u128::from(self.den.max(1));
        let wall = wall.div_ceil(u128::from(self.num.max(1)));
        self.wall_zero_ns
            .saturating_add(u64::try_from(wall).unwrap_or(u64::MAX))
    }
}

fn scale(ns: u64, num: u32, den: u32) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(num) / u128::from(den.max(1))).unwrap_or(u64::MAX)
}

impl ClockPage {
    /// Broker: makes a zeroed page a clock, held at time zero.
    pub fn init(&self, policy: Policy) {
        self.abi_version.store(crate::ABI_VERSION, Relaxed);
        self.policy.store(policy.number(), Relaxed);
        self.ratio_num.store(1, Relaxed);
        self.ratio_den.store(1, Relaxed);
        self.magic.store(CLOCK_MAGIC, Release);
    }

    /// Worker: is this a clock that it understands?
    pub fn check(&self) -> Result<(), crate::WireError> {
        let found = self.magic.load(Acquire);
        if found != CLOCK_MAGIC {
            return Err(crate::WireError::BadMagic {
                expected: CLOCK_MAGIC,
                found,
            });
        }
        let found = self.abi_version.load(Relaxed);
        if found != crate::ABI_VERSION {
            return Err(crate::WireError::BadVersion {
                expected: crate::ABI_VERSION,
                found,
            });
        }
        Ok(())
    }

    pub fn policy(&self) -> Policy {
        Policy::try_from(self.policy.load(Relaxed)).unwrap_or(Policy::Exact)
    }

    /// Broker: the policy; it changes only while the worker is held.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.store(policy.number(), Release);
    }

    pub fn horizon(&self) -> VirtualTime {
        VirtualTime(self.horizon_ns.load(Acquire))
    }

    /// Broker: the new horizon. Ring the worker's bell afterwards.
    pub fn set_horizon(&self, at: VirtualTime) {
        self.horizon_ns.store(at.ns(), Release);
    }

    pub fn run_state(&self) -> RunState {
        RunState::try_from(self.run_state.load(Acquire)).unwrap_or(RunState::Stopping)
    }

    /// Broker: hold, run or stop. Ring the worker's bell afterwards.
    pub fn set_run_state(&self, state: RunState) {
        self.run_state.store(state.number(), Release);
    }

    /// The pace, read as a whole (a sequence lock: retried while the broker writes).
    pub fn pace(&self) -> Pace {
        loop {
            let turn = self.pace_turn.load(Acquire);
            let pace = Pace {
                wall_zero_ns: self.wall_zero_ns.load(Relaxed),
                virtual_zero: VirtualTime(self.virtual_zero_ns.load(Relaxed)),
                num: self.ratio_num.load(Relaxed),
                den: self.ratio_den.load(Relaxed),
            };
            fence(Acquire);
            if turn & 1 == 0 && self.pace_turn.load(Relaxed) == turn {
                return pace;
            }
            core::hint::spin_loop();
        }
    }

    /// Broker only, one thread: the new pace. Ring the worker's bell afterwards.
    pub fn set_pace(&self, pace: Pace) {
        let turn = self.pace_turn.load(Relaxed);
        self.pace_turn.store(turn.wrapping_add(1), Relaxed);
        fence(Release);
        self.wall_zero_ns.store(pace.wall_zero_ns, Relaxed);
        self.virtual_zero_ns.store(pace.virtual_zero.ns(), Relaxed);
        self.ratio_num.store(pace.num, Relaxed);
        self.ratio_den.store(pace.den, Relaxed);
        self.pace_turn.store(turn.wrapping_add(2), Release);
    }

    pub fn now(&self) -> VirtualTime {
        VirtualTime(self.now_ns.load(Acquire))
    }

    pub fn instructions(&self) -> u64 {
        self.instructions.load(Relaxed)
    }

    /// Worker: where it stands.
    pub fn publish_now(&self, now: VirtualTime, instructions: u64) {
        self.instructions.store(instructions, Relaxed);
        self.now_ns.store(now.ns(), Release);
        self.progress
            .store(self.progress.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Worker: still alive though time stands still.
    pub fn beat(&self) {
        self.progress
            .store(self.progress.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub fn progress(&self) -> u64 {
        self.progress.load(Relaxed)
    }

    pub fn worker_state(&self) -> WorkerState {
        WorkerState::try_from(self.worker_state.load(Acquire)).unwrap_or(WorkerState::Stopped)
    }

    /// The link whose reply the worker waits for, while its state is `Waiting`.
    pub fn waiting_link(&self) -> crate::LinkId {
        crate::LinkId(self.waiting_link.load(Relaxed) as u16)
    }

    /// Worker: what it does now. Ring the broker's bell if the broker should know at once.
    pub fn set_worker_state(&self, state: WorkerState, waiting: Option<crate::LinkId>) {
        self.waiting_link
            .store(waiting.map_or(u32::MAX, |link| u32::from(link.0)), Relaxed);
        self.worker_state.store(state.number(), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_maps_there_and_back() {
        let pace = Pace {
            wall_zero_ns: 1000,
            virtual_zero: VirtualTime(50),
            num: 3,
            den: 7,
        };
        for at in [50, 51, 52, 53, 1_000_000_007] {
            let wall = pace.wall_at(VirtualTime(at));
            assert!(pace.virtual_at(wall) >= VirtualTime(at));
            assert!(wall == 1000 || pace.virtual_at(wall - 1) < VirtualTime(at));
        }
        assert_eq!(pace.virtual_at(0), VirtualTime(50));
        let stopped = Pace {
            num: 1,
            den: 0,
            ..pace
        };
        assert_eq!(
            stopped.virtual_at(1001),
            VirtualTime(51),
            "a zero from a broken broker is no panic"
        );
    }
}
