//! Waking another process, and sleeping until woken.
//!
//! A [`Doorbell`] is what others ring; a [`Waiter`] is the one place where its owner sleeps. It spins first, because a
//! reply that is on its way takes 0.1 us when both sides spin and 40 to 100 us through the kernel. How long it spins
//! follows how long it had to wait lately: waits that spinning could have bridged raise the budget to twice their
//! length, longer ones halve it (so it shrinks when cores are scarce), and on a machine with one core it never spins.

use crate::sleep::{self, Sleeping};
use crate::sync::Ordering;
use crate::{Result, Segment, View};
use atoll_abi::link::Bell;
use rustix::thread::futex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest sleep before looking again although nobody rang: bounds what a peer can do that holds back its ring.
const NAP: Duration = Duration::from_millis(250);
/// Bounds of the spin budget.
const SPIN_MIN: u32 = 2_000;
const SPIN_MAX: u32 = 50_000;

impl Sleeping for Bell {
    fn load(&self, order: Ordering) -> u32 {
        self.sleeping.load(order)
    }

    fn store(&self, value: u32, order: Ordering) {
        self.sleeping.store(value, order);
    }

    fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.sleeping.swap(value, order)
    }

    fn futex_wait(&self, timeout: Option<Duration>) {
        // Not FUTEX_PRIVATE: the waker is another process. All ways to return early are alike to the caller, who loops.
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let _ = futex::wait(&self.sleeping, futex::Flags::empty(), 1, timeout.as_ref());
    }

    fn futex_wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        let _ = futex::wake(&self.sleeping, futex::Flags::empty(), 1);
    }
}

/// Rings somebody's bell. Cheap to clone; any thread or process may ring.
#[derive(Clone, Debug)]
pub struct Doorbell {
    bell: View<Bell>,
}

impl Doorbell {
    pub fn new(bell: View<Bell>) -> Self {
        Self { bell }
    }

    /// A bell of this process alone, for tests and threads.
    pub fn private() -> Result<Self> {
        let segment: Arc<Segment> = Segment::create("atoll-bell", atoll_abi::PAGE)?;
        Ok(Self {
            bell: segment.view(0)?,
        })
    }

    /// Call after publishing what the owner waits for. A burst costs one wake, and nothing if the owner is awake.
    pub fn ring(&self) {
        sleep::ring(&*self.bell);
    }

    /// The owner's side. One thread only: a second sleeper on one bell would be woken by nobody.
    pub fn waiter(&self) -> Waiter {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Waiter {
            bell: self.bell.clone(),
            spin_ns: SPIN_MIN,
            may_spin: cores > 1,
        }
    }

    /// How often the owner was woken through the kernel.
    pub fn wakes(&self) -> u32 {
        self.bell.wakes.load(Ordering::Relaxed)
    }
}

/// Sleeps on a bell.
#[derive(Debug)]
pub struct Waiter {
    bell: View<Bell>,
    spin_ns: u32,
    may_spin: bool,
}

impl Waiter {
    /// Waits until `ready` or the deadline; returns the last `ready`. `ready` must cover all reasons to go on, and each
    /// must ring this bell after it has become true.
    pub fn wait(&mut self, deadline: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        let start = Instant::now();
        let came = self.spin(start, deadline, &mut ready) || self.sleep(deadline, &mut ready);
        self.learn(start.elapsed());
        came
    }

    /// Had spinning been the right thing? Up to `SPIN_MAX` it would have been, with twice the time that it took as
    /// margin; a longer wait says that the next one is better slept through.
    fn learn(&mut self, took: Duration) {
        let took = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        self.spin_ns = match took {
            0..=SPIN_MAX => self.spin_ns.max(2 * took).min(SPIN_MAX),
            _ => (self.spin_ns / 2).max(SPIN_MIN),
        };
    }

    fn spin(
        &self,
        start: Instant,
        deadline: Option<Instant>,
        ready: &mut impl FnMut() -> bool,
    ) -> bool {
        let budget = Duration::from_nanos(u64::from(self.spin_ns));
        let end = deadline.map_or(start + budget, |deadline| deadline.min(start + budget));
        while self.may_spin && Instant::now() < end {
            for _ in 0..16 {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        false
    }

    fn sleep(&self, deadline: Option<Instant>, ready: &mut impl FnMut() -> bool) -> bool {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return ready();
            }
            let nap = left.map_or(NAP, |left| left.min(NAP));
            sleep::sleep_unless(&*self.bell, &mut *ready, Some(nap));
            if ready() {
                return true;
            }
        }
    }

    /// The bell that wakes this waiter.
    pub fn doorbell(&self) -> Doorbell {
        Doorbell {
            bell: self.bell.clone(),
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the wall clock of the pace, the same in all processes of a host.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::*};

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let bells = [Doorbell::private().unwrap(), Doorbell::private().unwrap()];
        let turns = Arc::new(AtomicU64::new(0));
        const ROUNDS: u64 = 2_000;
        let player = |me: u64| {
            let (mut waiter, other, turns) = (
                bells[me as usize].waiter(),
                bells[1 - me as usize].clone(),
                turns.clone(),
            );
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    assert!(waiter.wait(None, || turns.load(Acquire) == 2 * round + me));
                    turns.fetch_add(1, Release);
                    other.ring();
                }
            })
        };
        let players = [player(0), player(1)];
        players
            .into_iter()
            .for_each(|player| player.join().unwrap());
        assert_eq!(turns.load(Acquire), 2 * ROUNDS);
    }

    #[test]
    fn a_deadline_ends_the_wait_and_an_awake_owner_costs_no_wake() {
        let bell = Doorbell::private().unwrap();
        let mut waiter = bell.waiter();
        assert!(!waiter.wait(Some(Instant::now() + Duration::from_millis(1)), || false));
        (0..1000).for_each(|_| bell.ring());
        assert_eq!(bell.wakes(), 0);
    }
}
