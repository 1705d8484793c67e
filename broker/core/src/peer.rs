//! One process of the machine: its plan, and where it is in its life.
//!
//! A place outlives its processes: when one dies, its successor has the next generation. Invariant: a
//! generation begins only after its predecessor is known to be dead.

use crate::{MS, Ns, SECOND};
use atoll_abi::control::{FaultKind, Role};

/// When a process that died is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts in a row without a stretch of `proven_ns` between them, after which it is given up.
    pub most: u32,
    /// How long before the second try; each further one waits twice as long.
    pub first_pause_ns: Ns,
    pub longest_pause_ns: Ns,
    /// A process that served so long has shown that it can: its restarts count anew.
    pub proven_ns: Ns,
}

impl RestartPolicy {
    /// A back end: its successor is wanted at once, because virtual time stands still without it.
    pub const BACK_END: Self = Self {
        most: 8,
        first_pause_ns: 20 * MS,
        longest_pause_ns: 2 * SECOND,
        proven_ns: 10 * SECOND,
    };
    /// The worker holds the machine's state: it has no successor.
    pub const NEVER: Self = Self {
        most: 0,
        first_pause_ns: 0,
        longest_pause_ns: 0,
        proven_ns: SECOND,
    };

    /// How long to wait before restart number `number`, counted from 0.
    pub fn pause_ns(&self, number: u32) -> Ns {
        if number == 0 {
            return 0;
        }
        let doubled = self
            .first_pause_ns
            .checked_shl(number - 1)
            .unwrap_or(Ns::MAX);
        doubled.clamp(self.first_pause_ns, self.longest_pause_ns)
    }
}

/// How a process that neither works nor dies is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// From its start to `Ready`.
    pub ready_ns: Ns,
    /// Between two heartbeats.
    pub heartbeat_ns: Ns,
}

impl Watch {
    pub const DEFAULT: Self = Self {
        ready_ns: 60 * SECOND,
        heartbeat_ns: 15 * SECOND,
    };
}

/// One process as the machine file wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlan {
    pub name: String,
    pub role: Role,
    pub restart: RestartPolicy,
    pub watch: Watch,
    /// The machine does not begin before somebody attached to it.
    pub wait_attached: bool,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not running; it starts at this time.
    Paused {
        until: Ns,
    },
    /// Started; it has to be ready by then.
    Starting {
        deadline: Ns,
    },
    Ready,
    Serving,
    /// Killed, and not known to be dead.
    Fencing,
    /// Asked to end by then.
    Stopping {
        deadline: Ns,
    },
    /// Dead, and it stays so.
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) plan: PeerPlan,
    pub(crate) generation: u32,
    pub(crate) stage: Stage,
    /// Restarts since it last proved itself.
    pub(crate) restarts_in_row: u32,
    pub(crate) restarts: u32,
    pub(crate) serving_since: Ns,
    pub(crate) heard_at: Ns,
    /// Why it said that it cannot go on.
    pub(crate) fault: Option<(FaultKind, String)>,
    pub(crate) was_ready: bool,
    pub(crate) attached: bool,
}

impl Peer {
    pub(crate) fn new(plan: PeerPlan) -> Self {
        Self {
            plan,
            generation: 0,
            stage: Stage::Paused { until: 0 },
            restarts_in_row: 0,
            restarts: 0,
            serving_since: 0,
            heard_at: 0,
            fault: None,
            was_ready: false,
            attached: false,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.stage, Stage::Paused { .. } | Stage::Gone)
    }

    /// When something about this process has to be looked at.
    pub(crate) fn deadline(&self) -> Option<Ns> {
        match self.stage {
            Stage::Paused { until } => Some(until),
            Stage::Starting { deadline } | Stage::Stopping { deadline } => Some(deadline),
            Stage::Serving => Some(self.heard_at + self.plan.watch.heartbeat_ns),
            Stage::Ready | Stage::Fencing | Stage::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RestartPolicy::BACK_END;
        let pauses: Vec<Ns> = (0..10).map(|number| policy.pause_ns(number) / MS).collect();
        assert_eq!(pauses, [0, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        assert_eq!(policy.pause_ns(200), policy.longest_pause_ns);
    }
}
