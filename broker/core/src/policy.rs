//! How much patience there is with each kind of peer: data, so that a test or a machine file can say otherwise.

use atoll_abi::control::Role;
use core::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A worker that gave no sign of life for so long is hung, and the machine with it: long enough for a host that swaps.
const WORKER_SILENCE: Duration = seconds(20);

/// When a back end that ended is started again, and when no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The device counts as lost after so many restarts in vain: none of them answered a request or served for `window`. So a process
    /// may be killed as often as anybody likes, but one that dies of the same request again and again is not brought back for ever.
    pub max_restarts: u32,
    pub window: Duration,
    /// The first restart comes after this; each further one in vain after twice as long.
    pub first_delay: Duration,
    pub longest_delay: Duration,
}

impl RestartPolicy {
    /// How long to wait before the restart that comes after `in_vain` others; `None` to give up.
    pub fn delay(&self, in_vain: u32) -> Option<Duration> {
        if in_vain >= self.max_restarts {
            return None;
        }
        let delay = self.first_delay.saturating_mul(1 << in_vain.min(16));
        Some(delay.min(self.longest_delay))
    }
}

/// The care that one peer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Care {
    /// `None`: its death is the machine's.
    pub restart: Option<RestartPolicy>,
    /// From its start to Ready.
    pub start_within: Option<Duration>,
    /// A peer that others start has so long to come, at first and after each loss.
    pub arrive_within: Duration,
    /// Longest silence of one that serves.
    pub beat_within: Option<Duration>,
    /// Longest time in which one that has requests to answer makes no progress.
    pub progress_within: Option<Duration>,
    /// From Stop to its exit.
    pub stop_within: Duration,
}

impl Care {
    /// What the peers of a role get.
    pub fn of(role: Role) -> Self {
        let device = Self {
            restart: Some(RestartPolicy {
                max_restarts: 12,
                window: seconds(60),
                first_delay: Duration::from_millis(20),
                longest_delay: seconds(2),
            }),
            start_within: Some(seconds(60)),
            arrive_within: seconds(120),
            beat_within: Some(seconds(10)),
            progress_within: None,
            stop_within: seconds(5),
        };
        match role {
            // It reports its own end, and nobody can take its place. Its sign of life is the count on the clock page, which it moves at
            // least twice a second, also where virtual time stands still; a debugger that holds it counts as one too.
            Role::Worker => Self {
                restart: None,
                beat_within: Some(WORKER_SILENCE),
                // At its end it hashes all of RAM.
                stop_within: seconds(60),
                ..device
            },
            // A flush of a large cache to a slow disk takes its time; that is no reason to tear it in two.
            Role::Block => Self {
                progress_within: Some(seconds(120)),
                stop_within: seconds(60),
                ..device
            },
            // Whoever reads a serial line may take as long as he likes, and virtual time waits for him.
            Role::Char | Role::Net | Role::Fs | Role::Seat | Role::Cli => device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_end() {
        let policy = RestartPolicy {
            max_restarts: 4,
            window: seconds(60),
            first_delay: seconds(1),
            longest_delay: seconds(3),
        };
        let delays: Vec<_> = (0..6).map(|in_vain| policy.delay(in_vain)).collect();
        let expected = [Some(1), Some(2), Some(3), Some(3), None, None];
        assert_eq!(delays, expected.map(|n| n.map(seconds)));
    }
}
