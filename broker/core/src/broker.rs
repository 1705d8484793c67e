//! The state machine: the machine's phases, and what each event means in them.
//!
//! ```text
//! Starting --all serve--> Running --power button--> PoweringOff
//!     |                      |                          |
//!     +----------------------+------- end asked for ----+--> Stopping --worker gone--> Draining --all gone--> Ended
//! ```

mod coming;
mod ending;
mod failing;
mod people;

use crate::event::{Action, Conn, Event, Setup};
use crate::peer::Peer;
use atoll_abi::PeerId;
use atoll_abi::control::LogLevel;
use atoll_abi::exit::ExitReason;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// A peer that was told to go may take so long.
const PARTING: Duration = Duration::from_secs(10);
/// How long to wait between two looks at a lock that somebody else holds.
const LOCK_RETRY: Duration = Duration::from_secs(1);
/// If nothing at all came for so long although peers beat their hearts, it was the broker that stood still.
const ABSENCE: Duration = Duration::from_secs(3);

/// Why a horizon is not waited for any more.
const MOVED: &str = "another request moved the horizon";
const ENDING: &str = "the machine is ending";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Starting,
    Running,
    PoweringOff,
    Stopping,
    Draining,
    Ended,
}

/// See the crate's documentation. The daemon calls [`Broker::begin`] once, [`Broker::handle`] for each event, and carries out
/// what [`Broker::next_action`] gives; times are wall time since any fixed point.
#[derive(Debug)]
pub struct Broker {
    peers: Vec<Peer>,
    grace: Duration,
    timeout: Option<Duration>,
    /// The user wants virtual time to stand still.
    paused: bool,
    phase: Phase,
    /// Did the guest ever run? Before, a problem is one of the configuration.
    ran: bool,
    wall_limit: Option<Duration>,
    grace_ends: Option<Duration>,
    run_until: Option<Conn>,
    end: Option<(ExitReason, String)>,
    /// Why back ends, by their places, cannot serve at all, while others may still find that they cannot either.
    refusals: BTreeMap<usize, String>,
    last_event: Duration,
    actions: VecDeque<Action>,
}

impl Broker {
    /// A machine whose processes are not started yet. The first peer is the worker.
    pub fn new(setup: Setup) -> Self {
        let peers = (1..)
            .zip(setup.peers)
            .map(|(index, peer)| Peer::new(peer, index))
            .collect();
        Self {
            peers,
            grace: setup.grace,
            timeout: setup.timeout,
            paused: setup.start_stopped,
            phase: Phase::Starting,
            ran: false,
            wall_limit: None,
            grace_ends: None,
            run_until: None,
            end: None,
            refusals: BTreeMap::new(),
            last_event: Duration::ZERO,
            actions: VecDeque::new(),
        }
    }

    /// Starts everything.
    pub fn begin(&mut self, now: Duration) {
        self.last_event = now;
        self.wall_limit = self.timeout.map(|timeout| now + timeout);
        for index in 0..self.peers.len() {
            self.bring_up(now, index);
        }
    }

    /// What is to be done next, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to send a `Tick` if nothing else happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        let peers = self.peers.iter().filter_map(Peer::due);
        let limit = self.wall_limit.filter(|_| self.phase < Phase::Stopping);
        peers.chain(limit).chain(self.grace_ends).min()
    }

    /// Does somebody wait for the worker to reach the horizon?
    pub fn awaits_horizon(&self) -> bool {
        self.run_until.is_some()
    }

    pub fn handle(&mut self, now: Duration, event: Event) {
        if self.phase == Phase::Ended {
            return;
        }
        if now > self.last_event + ABSENCE {
            self.peers.iter_mut().for_each(|peer| peer.forgive(now));
        }
        self.last_event = now;
        match event {
            Event::Hello { peer, hello, pid } => self.on_hello(now, peer, &hello, pid),
            Event::Knock {
                conn,
                hello,
                killable,
            } => self.on_knock(now, conn, &hello, killable),
            Event::SpawnFailed { peer, why } => self.on_spawn_failed(now, peer, why),
            Event::Ready { peer } => self.on_ready(now, peer),
            Event::Beat {
                peer,
                progress,
                idle,
            } => {
                if let Some(index) = self.current(peer) {
                    self.peers[index].beat(now, progress, idle);
                }
            }
            Event::Fault { peer, fault } => self.on_fault(now, peer, fault),
            Event::Lost { peer, why } => self.on_lost(now, peer, why),
            Event::Exited {
                peer,
                exit,
                answered,
            } => self.on_exited(now, peer, exit, answered),
            Event::Report(report) => self.on_report(now, &report),
            Event::Console { peer, request } => self.on_console(now, peer, request),
            Event::Monitor { from, request } => self.on_monitor(now, from, request),
            Event::AtHorizon => self.on_horizon(),
            Event::OwnerGone => self.end(now, ExitReason::Quit, "the command line is gone".into()),
            Event::Terminate => self.terminate(now),
            Event::Fatal { reason, detail } => self.end(now, reason, detail),
            Event::Tick => {}
        }
        self.tick(now);
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn log(&mut self, level: LogLevel, index: usize, text: String) {
        let peer = self.peers[index].id;
        self.act(Action::Log { level, peer, text });
    }

    /// The peer's place, unless it is of a generation that is over.
    fn current(&self, id: PeerId) -> Option<usize> {
        let index = usize::from(id.index).checked_sub(1)?;
        (self.peers.get(index)?.id == id).then_some(index)
    }
}
