//! One peer: its life, its generations, and what is known of how it fares.

use crate::policy::Care;
use atoll_abi::control::{Fault, Hello, PeerStatus, Role};
use atoll_abi::{ABI_VERSION, LinkId, PeerId};
use core::time::Duration;

/// Who starts a peer's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The broker.
    Spawned,
    /// Somebody else; it comes to the broker's socket and says its name.
    External,
}

/// A peer, as the machine file has it.
#[derive(Clone, Debug)]
pub struct PeerSetup {
    pub role: Role,
    pub name: String,
    pub origin: Origin,
    pub care: Care,
    /// The link that it serves; the worker serves none.
    pub link: Option<LinkId>,
    /// The machine starts only when somebody is attached to its console.
    pub awaits_console: bool,
}

/// Where a peer is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Somebody else has to start it.
    Expected,
    /// The next start is due at the peer's deadline.
    Resting,
    /// Started, has not said Hello.
    Starting,
    /// Has everything, is not Ready.
    Attached,
    Serving,
    /// Told to end.
    Stopping,
    /// Killed; the exit is waited for.
    Fencing,
    /// Never again.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) setup: PeerSetup,
    pub(crate) id: PeerId,
    pub(crate) life: Life,
    /// When the present state has lasted too long, or is over.
    pub(crate) deadline: Option<Duration>,
    pub(crate) pid: u32,
    /// An external peer's process can be killed.
    pub(crate) killable: bool,
    /// It was told to end, so nobody succeeds it.
    pub(crate) stopped: bool,
    /// Its console was attached to.
    pub(crate) attached: bool,
    /// Why it is about to end, if it said so.
    pub(crate) fault: Option<Fault>,
    /// Why it is lost, if it said nothing.
    pub(crate) cause: Option<String>,
    /// What `atoll ps` shows.
    pub(crate) waiting: Option<String>,
    last_beat: Duration,
    last_progress: Duration,
    progress: u64,
    restarts: u32,
    /// Requests answered on its link, when it was lost and when its predecessor was.
    pub(crate) answered: u64,
    answered_before: u64,
    serves_since: Option<Duration>,
    /// Restarts that nothing came of.
    in_vain: u32,
}

impl Peer {
    pub(crate) fn new(setup: PeerSetup, index: u16) -> Self {
        Self {
            setup,
            id: PeerId::new(index, 0),
            life: Life::Gone,
            deadline: None,
            pid: 0,
            killable: true,
            stopped: false,
            attached: false,
            fault: None,
            cause: None,
            waiting: None,
            last_beat: Duration::ZERO,
            last_progress: Duration::ZERO,
            progress: 0,
            restarts: 0,
            answered: 0,
            answered_before: 0,
            serves_since: None,
            in_vain: 0,
        }
    }

    /// Is there somebody who can be told something?
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.life, Life::Attached | Life::Serving | Life::Stopping)
    }

    /// Is there a process?
    pub(crate) fn has_process(&self) -> bool {
        self.is_here() || matches!(self.life, Life::Starting | Life::Fencing)
    }

    pub(crate) fn enter(&mut self, life: Life, deadline: Option<Duration>) {
        self.life = life;
        self.deadline = deadline;
    }

    pub(crate) fn serve(&mut self, now: Duration) {
        self.enter(Life::Serving, None);
        self.serves_since = Some(now);
        self.waiting = None;
        self.last_beat = now;
        self.last_progress = now;
    }

    pub(crate) fn beat(&mut self, now: Duration, progress: u64, idle: bool) {
        self.last_beat = now;
        if idle || progress != self.progress {
            self.progress = progress;
            self.last_progress = now;
        }
    }

    /// The broker itself did not run for a while: nobody else's silence counts.
    pub(crate) fn forgive(&mut self, now: Duration) {
        self.last_beat = now;
        self.last_progress = now;
    }

    /// When something is due if nothing else happens.
    pub(crate) fn due(&self) -> Option<Duration> {
        if self.life != Life::Serving {
            return self.deadline;
        }
        let care = &self.setup.care;
        let beat = care.beat_within.map(|within| self.last_beat + within);
        let progress = care
            .progress_within
            .map(|within| self.last_progress + within);
        beat.into_iter().chain(progress).min()
    }

    /// Why a serving peer counts as hung.
    pub(crate) fn hung(&self, now: Duration) -> Option<String> {
        let care = &self.setup.care;
        let over = |since: Duration, within: Option<Duration>| {
            within.is_some_and(|within| now >= since + within)
        };
        if over(self.last_beat, care.beat_within) {
            return Some(format!(
                "no heartbeat for {} s",
                (now - self.last_beat).as_secs()
            ));
        }
        let stuck = (now - self.last_progress).as_secs();
        over(self.last_progress, care.progress_within)
            .then(|| format!("no progress for {stuck} s although requests wait"))
    }

    /// Counts a restart; how long to wait before it, or `None` when there were too many in vain. `last`: the machine is ending, and only
    /// what was published is still to be settled.
    pub(crate) fn count_restart(&mut self, now: Duration, last: bool) -> Option<Duration> {
        let policy = self.setup.care.restart?;
        let served = self
            .serves_since
            .take()
            .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let was_of_use = self.answered != self.answered_before || served >= policy.window;
        self.answered_before = self.answered;
        if was_of_use && !last {
            self.in_vain = 0;
        }
        let delay = policy.delay(self.in_vain)?;
        self.in_vain += 1;
        Some(delay)
    }

    /// The next generation: nothing of the last one counts any more.
    pub(crate) fn succeed(&mut self) {
        self.id = self.id.successor();
        self.restarts += 1;
        self.pid = 0;
        self.killable = true;
        self.fault = None;
        self.cause = None;
    }

    /// What is wrong with a peer that introduces itself as this one.
    pub(crate) fn objection(&self, hello: &Hello) -> Option<String> {
        if hello.abi_version != ABI_VERSION {
            let theirs = hello.abi_version;
            return Some(format!(
                "'{}' speaks version {theirs} of the wire, this broker speaks {ABI_VERSION}; install both from one build",
                hello.binary
            ));
        }
        if hello.role != self.setup.role {
            return Some(format!(
                "{} is served by a {:?}, not by a {:?}",
                self.setup.name, self.setup.role, hello.role
            ));
        }
        None
    }

    pub(crate) fn status(&self) -> PeerStatus {
        PeerStatus {
            peer: self.id,
            role: self.setup.role,
            name: self.setup.name.clone(),
            pid: self.pid,
            restarts: self.restarts,
            waiting: self.waiting.clone(),
        }
    }

    /// What the user is told of its loss.
    pub(crate) fn why(&self) -> String {
        let fault = self.fault.as_ref().map(|fault| fault.what.clone());
        fault
            .or_else(|| self.cause.clone())
            .unwrap_or_else(|| "it hung up".into())
    }
}
