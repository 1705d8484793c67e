//! The local APIC's timer: one-shot, periodic and TSC-deadline (Intel SDM volume 3, 11.5.4).
//!
//! A running count is never decremented: it is the count loaded at some time, less the ticks since. Invariant: `running` holds
//! exactly while an expiry lies ahead.

use serde::{Deserialize, Serialize};

/// The clock that the divider divides: constant, and one tick a nanosecond.
pub const TIMER_HZ: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    #[default]
    OneShot,
    Periodic,
    TscDeadline,
}

impl Mode {
    /// From the timer's LVT entry; the reserved encoding counts once.
    pub(super) fn from_lvt(lvt: u32) -> Mode {
        match lvt >> 17 & 3 {
            1 => Mode::Periodic,
            2 => Mode::TscDeadline,
            _ => Mode::OneShot,
        }
    }
}

/// A countdown under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// The count was `count` at `since_ns`; `count` is not zero.
    count: u32,
    since_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timer {
    mode: Mode,
    initial: u32,
    divide: u32,
    running: Option<Running>,
    /// What the guest wrote, and the time that it means.
    deadline: Option<(u64, u64)>,
}

impl Timer {
    pub(super) fn initial_count(&self) -> u32 {
        self.initial
    }

    pub(super) fn divide_configuration(&self) -> u32 {
        self.divide
    }

    /// Nanoseconds a tick: bits 0, 1 and 3 encode 2, 4, 8 ... 128, and then 1.
    fn tick_ns(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        1 << ((code + 1) & 7)
    }

    pub(super) fn current_count(&self, now_ns: u64) -> u32 {
        let Some(running) = self.running else {
            return 0;
        };
        let ticks = now_ns.saturating_sub(running.since_ns) / self.tick_ns();
        let count = u64::from(running.count);
        if ticks < count {
            (count - ticks) as u32
        } else if self.mode == Mode::Periodic {
            // The expiry is due at this very boundary, or has just been: the count is already reloaded.
            let period = u64::from(self.initial.max(1));
            (period - (ticks - count) % period) as u32
        } else {
            0
        }
    }

    pub(super) fn set_initial_count(&mut self, count: u32, mode: Mode, now_ns: u64) {
        self.mode = mode;
        self.initial = count;
        self.running = (count != 0).then_some(Running {
            count,
            since_ns: now_ns,
        });
    }

    pub(super) fn set_divide_configuration(&mut self, value: u32, now_ns: u64) {
        let count = self.current_count(now_ns);
        self.divide = value & 0xB;
        if self.running.is_some() {
            self.running = (count != 0).then_some(Running {
                count,
                since_ns: now_ns,
            });
        }
    }

    /// The LVT entry was written. Going to or from TSC-deadline mode disarms the timer; between the other two the count goes on.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        if mode == Mode::TscDeadline || self.mode == Mode::TscDeadline {
            self.running = None;
            self.deadline = None;
            if mode == Mode::TscDeadline {
                self.initial = 0;
            }
        }
        self.mode = mode;
    }

    pub(super) fn tsc_deadline(&self) -> u64 {
        self.deadline.map_or(0, |(tsc, _)| tsc)
    }

    pub(super) fn set_tsc_deadline(&mut self, tsc: u64, at_ns: u64) {
        self.deadline = (tsc != 0).then_some((tsc, at_ns));
    }

    pub(super) fn next_expiry_ns(&self) -> Option<u64> {
        if let Some((_, at_ns)) = self.deadline {
            return Some(at_ns);
        }
        let running = self.running?;
        Some(
            running
                .since_ns
                .saturating_add(u64::from(running.count) * self.tick_ns()),
        )
    }

    /// Takes an expiry that is due, and arms the next one of a periodic count. False if none is.
    pub(super) fn expire(&mut self, now_ns: u64) -> bool {
        if self.next_expiry_ns().is_none_or(|at| at > now_ns) {
            return false;
        }
        if self.deadline.take().is_some() {
            return true;
        }
        self.running = match self.mode {
            // Periods that passed unseen coalesce: IRR holds one request of a vector.
            Mode::Periodic if self.initial != 0 => {
                let period_ns = u64::from(self.initial) * self.tick_ns();
                let first = self.next_expiry_ns().unwrap_or(now_ns);
                let since_ns = now_ns - (now_ns - first) % period_ns;
                Some(Running {
                    count: self.initial,
                    since_ns,
                })
            }
            _ => None,
        };
        true
    }
}
