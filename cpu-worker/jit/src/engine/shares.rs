//! Where the wall time of a run goes, by looking at one stretch out of many: a clock read at each would cost more than many of them.

use std::time::Instant;

use super::Tier;

/// One stretch out of so many is timed. No divisor of the patterns in which tiers alternate.
const EVERY: u32 = 61;

/// Estimated wall time in each tier, in ns.
#[derive(Debug)]
pub(super) struct Shares {
    until_next: u32,
    pub(super) interpreter_ns: u64,
    pub(super) quick_ns: u64,
    pub(super) optimised_ns: u64,
}

impl Default for Shares {
    fn default() -> Shares {
        Shares {
            until_next: EVERY,
            interpreter_ns: 0,
            quick_ns: 0,
            optimised_ns: 0,
        }
    }
}

impl Shares {
    /// A stretch begins; its start, if it is one that is timed.
    #[inline]
    pub(super) fn begin(&mut self) -> Option<Instant> {
        self.until_next -= 1;
        if self.until_next > 0 {
            return None;
        }
        self.until_next = EVERY;
        Some(Instant::now())
    }

    /// A stretch that is timed ends. Emitted code may have gone on from one tier to the other: it counts for the one that was entered.
    #[cold]
    pub(super) fn end(&mut self, started: Instant, tier: Option<Tier>) {
        let share = match tier {
            None => &mut self.interpreter_ns,
            Some(Tier::Quick) => &mut self.quick_ns,
            Some(Tier::Optimised) => &mut self.optimised_ns,
        };
        *share += started.elapsed().as_nanos() as u64 * u64::from(EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_is_timed_and_counts_for_all() {
        let mut shares = Shares::default();
        let timed: Vec<Instant> = (0..10 * EVERY).filter_map(|_| shares.begin()).collect();
        assert_eq!(timed.len(), 10);
        shares.end(timed[0], Some(Tier::Quick));
        assert!(shares.quick_ns >= u64::from(EVERY) && shares.interpreter_ns == 0);
    }
}
