//! Sleeping and waking without a lost wake-up.
//!
//! Two variables, two sides: the sleeper stores *sleeping* and then looks for work; the waker stores work and then
//! looks for *sleeping*. A sequentially consistent fence between the two steps of each side makes it impossible that
//! both miss (the store-buffering pattern, and the reason why release and acquire are not enough). The waker who turns
//! 1 into 0 wakes; all others of a burst find 0 and go on.

use crate::sync::{Ordering, fence};
use core::time::Duration;

/// A futex word that holds 1 while its owner sleeps or is about to.
pub(crate) trait Sleeping {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    fn swap(&self, value: u32, order: Ordering) -> u32;
    /// Sleeps while the word holds 1, until woken or for the given time. May return early.
    fn futex_wait(&self, timeout: Option<Duration>);
    fn futex_wake(&self);
}

/// The waker's half, called after publishing. Returns whether it had to wake.
pub(crate) fn ring(bell: &impl Sleeping) -> bool {
    fence(Ordering::SeqCst);
    if bell.load(Ordering::Relaxed) == 0 || bell.swap(0, Ordering::AcqRel) == 0 {
        return false;
    }
    bell.futex_wake();
    true
}

/// The sleeper's half: sleeps once unless `ready`. May return early, so callers loop.
pub(crate) fn sleep_unless(
    bell: &impl Sleeping,
    ready: impl FnOnce() -> bool,
    timeout: Option<Duration>,
) {
    bell.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if !ready() {
        bell.futex_wait(timeout);
    }
    bell.store(0, Ordering::Relaxed);
}
