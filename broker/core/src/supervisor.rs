//! The life of a machine and of its processes.
//!
//! A machine is *building* until all of its processes are ready, then it *runs*, then it is *ending*:
//! first the worker, which alone knows the final state, then the back ends, which make durable what
//! was published. A back end that dies while the machine is building or running is fenced and
//! replaced; virtual time stands still meanwhile, because its replies do not come.
//!
//! Invariants:
//! - A process is started only when its predecessor's death was reported ([`Event::Dead`]).
//! - After [`Action::Finish`] nothing else comes, and no process is alive.
//! - Every wait has a deadline.

use crate::peer::{Peer, PeerPlan, Stage};
use crate::{Ns, SECOND};
use atoll_abi::control::{ConsoleRequest, FaultKind, Role};
use atoll_abi::exit::ExitReason;

/// How long the worker may take to come to its next boundary and report.
const WORKER_STOP: Ns = 10 * SECOND;
/// How long a back end may take to make its data durable.
const BACK_END_STOP: Ns = 60 * SECOND;

/// What is to be supervised.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The worker is one of them.
    pub peers: Vec<PeerPlan>,
    /// Wall time after which the run ends.
    pub timeout_ns: Option<Ns>,
    /// How long the guest may take to power off after its button was pressed.
    pub grace_ns: Ns,
    /// The machine is built, and held until [`Event::Resume`].
    pub start_held: bool,
}

/// What happened. `peer` is the position in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Tick,
    Ready {
        peer: usize,
        generation: u32,
    },
    Heartbeat {
        peer: usize,
        generation: u32,
    },
    Fault {
        peer: usize,
        generation: u32,
        kind: FaultKind,
        what: String,
    },
    /// Its session ended, or it could not be started; it may still be alive.
    Lost {
        peer: usize,
        generation: u32,
    },
    /// It is certain that it is dead.
    Dead {
        peer: usize,
        generation: u32,
    },
    /// The worker said how the machine ended.
    Reported {
        reason: ExitReason,
    },
    Console {
        peer: usize,
        request: ConsoleRequest,
    },
    /// SIGTERM, or the power button of a monitor.
    PowerButton,
    /// End the run now.
    Stop {
        reason: ExitReason,
    },
    Resume,
    Pause,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this process; for the second generation on, give its link that generation first.
    Spawn {
        peer: usize,
        generation: u32,
    },
    /// Tell a process to begin to serve.
    Start {
        peer: usize,
    },
    /// Kill it, and report its death.
    Kill {
        peer: usize,
    },
    /// Ask it to end in good order.
    Stop {
        peer: usize,
    },
    /// Tell the worker that a link has no server now.
    LinkLost {
        peer: usize,
        generation: u32,
    },
    /// Tell the worker that it has one again.
    LinkReplaced {
        peer: usize,
        generation: u32,
    },
    /// Let virtual time go on, or hold it.
    Run,
    Hold,
    /// End the guest at its next boundary.
    EndRun,
    PressPowerButton,
    /// Say this to the user.
    Say(String),
    /// All is over.
    Finish(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub reason: ExitReason,
    /// For the user; empty if the reason says it all.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Building,
    Running,
    /// The worker is to end.
    EndingRun,
    /// The back ends are to end.
    EndingBackEnds,
    Finished,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Supervisor {
    peers: Vec<Peer>,
    phase: Phase,
    held: bool,
    outcome: Option<Outcome>,
    timeout_at: Option<Ns>,
    grace_ns: Ns,
    /// The power button was pressed, and the guest has until then.
    power_off_by: Option<Ns>,
    actions: Vec<Action>,
}

impl Supervisor {
    pub fn new(plan: Plan, now: Ns) -> Self {
        Self {
            peers: plan.peers.into_iter().map(Peer::new).collect(),
            phase: Phase::Building,
            held: plan.start_held,
            outcome: None,
            timeout_at: plan.timeout_ns.map(|timeout| now.saturating_add(timeout)),
            grace_ns: plan.grace_ns,
            power_off_by: None,
            actions: Vec::new(),
        }
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Ns> {
        let peers = self.peers.iter().filter_map(Peer::deadline);
        let running = matches!(self.phase, Phase::Building | Phase::Running);
        let own = [self.timeout_at, self.power_off_by].into_iter().flatten();
        peers.chain(own.filter(|_| running)).min()
    }

    /// Restarts of a process so far.
    pub fn restarts(&self, peer: usize) -> u32 {
        self.peers.get(peer).map_or(0, |peer| peer.restarts)
    }

    /// Whether virtual time is meant to go on.
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running && !self.held
    }

    /// Takes an event and says what follows from it.
    pub fn handle(&mut self, now: Ns, event: Event) -> Vec<Action> {
        if self.phase != Phase::Finished {
            self.take(now, event);
            self.check_deadlines(now);
            self.advance(now);
        }
        std::mem::take(&mut self.actions)
    }

    fn take(&mut self, now: Ns, event: Event) {
        match event {
            Event::Tick => {}
            Event::Ready { peer, generation } => self.on_ready(now, peer, generation),
            Event::Heartbeat { peer, generation } => {
                if let Some(peer) = self.current(peer, generation) {
                    peer.heard_at = now;
                }
            }
            Event::Fault {
                peer,
                generation,
                kind,
                what,
            } => {
                if let Some(peer) = self.current(peer, generation) {
                    peer.fault = Some((kind, what));
                }
            }
            Event::Lost { peer, generation } => self.on_lost(peer, generation),
            Event::Dead { peer, generation } => self.on_dead(now, peer, generation),
            Event::Reported { reason } => {
                self.end_with(reason, String::new());
                self.phase = self.phase.max_ending();
            }
            Event::Console { peer, request } => self.on_console(peer, request),
            Event::PowerButton => self.on_power_button(now),
            Event::Stop { reason } => self.end_run(reason, String::new()),
            Event::Resume => self.hold(false),
            Event::Pause => self.hold(true),
        }
    }

    /// The process, if this is its generation now. What an older one says is too late.
    fn current(&mut self, peer: usize, generation: u32) -> Option<&mut Peer> {
        self.peers
            .get_mut(peer)
            .filter(|peer| peer.generation == generation)
    }

    fn on_ready(&mut self, now: Ns, index: usize, generation: u32) {
        let Some(peer) = self.current(index, generation) else {
            return;
        };
        if !matches!(peer.stage, Stage::Starting { .. }) {
            return;
        }
        peer.heard_at = now;
        peer.serving_since = now;
        peer.was_ready = true;
        if peer.plan.role == Role::Worker {
            peer.stage = Stage::Ready;
            return;
        }
        peer.stage = Stage::Serving;
        let replaced = generation > 0;
        self.actions.push(Action::Start { peer: index });
        if replaced {
            self.actions.push(Action::LinkReplaced {
                peer: index,
                generation,
            });
        }
    }

    fn on_lost(&mut self, index: usize, generation: u32) {
        let Some(peer) = self.current(index, generation) else {
            return;
        };
        // A process that was asked to end hangs up on its way out.
        let expected = matches!(peer.stage, Stage::Stopping { .. } | Stage::Fencing);
        if peer.is_alive() && !expected {
            self.fence(index);
        }
    }

    /// Kills a process: nothing may follow it before its death is certain.
    fn fence(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        peer.stage = Stage::Fencing;
        let (generation, role) = (peer.generation, peer.plan.role);
        self.actions.push(Action::Kill { peer: index });
        if role != Role::Worker && self.phase == Phase::Running {
            self.actions.push(Action::LinkLost {
                peer: index,
                generation,
            });
        }
    }

    fn on_dead(&mut self, now: Ns, index: usize, generation: u32) {
        let phase = self.phase;
        let Some(peer) = self.current(index, generation) else {
            return;
        };
        if !peer.is_alive() {
            return;
        }
        let died_serving = peer.stage == Stage::Serving;
        peer.stage = Stage::Gone;
        let worker = peer.plan.role == Role::Worker;
        if worker {
            if matches!(phase, Phase::Building | Phase::Running) {
                let (reason, detail) = Self::blame(&self.peers[index], ExitReason::WorkerLost);
                self.end_with(reason, detail);
            }
            self.phase = self.phase.max_ending();
            return;
        }
        if died_serving && phase == Phase::Running {
            self.actions.push(Action::LinkLost {
                peer: index,
                generation,
            });
        }
        if matches!(phase, Phase::Building | Phase::Running | Phase::EndingRun) {
            self.replace(now, index);
        }
    }

    /// A back end is dead: starts its successor after a pause, or gives up.
    fn replace(&mut self, now: Ns, index: usize) {
        let peer = &mut self.peers[index];
        // The image or the address is wrong, and will be tomorrow. Only a first start can know that:
        // later, what was right before is worth another try.
        let hopeless = matches!(peer.fault, Some((FaultKind::Config | FaultKind::Locked, _)));
        if hopeless && !peer.was_ready {
            let (reason, detail) = Self::blame(peer, ExitReason::BadConfig);
            return self.end_run(reason, detail);
        }
        let policy = peer.plan.restart;
        if peer.was_ready && now.saturating_sub(peer.serving_since) >= policy.proven_ns {
            peer.restarts_in_row = 0;
        }
        if peer.restarts_in_row >= policy.most {
            let (reason, detail) = Self::blame(peer, ExitReason::DeviceLost);
            return self.end_run(reason, detail);
        }
        peer.stage = Stage::Paused {
            until: now.saturating_add(policy.pause_ns(peer.restarts_in_row)),
        };
        peer.restarts_in_row += 1;
        peer.restarts += 1;
        peer.generation = peer.generation.wrapping_add(1);
        let cause = peer
            .fault
            .take()
            .map_or(String::new(), |(_, what)| format!(" ({what})"));
        let text = format!("{} died{cause}; starting its successor", peer.plan.name);
        self.actions.push(Action::Say(text));
    }

    /// What to tell the user about a process that is given up.
    fn blame(peer: &Peer, otherwise: ExitReason) -> (ExitReason, String) {
        let name = &peer.plan.name;
        match &peer.fault {
            Some((FaultKind::Config | FaultKind::Locked, what)) if !peer.was_ready => {
                (ExitReason::BadConfig, what.clone())
            }
            Some((_, what)) => (otherwise, format!("{name}: {what}")),
            None => (otherwise, format!("{name} died")),
        }
    }

    fn on_console(&mut self, index: usize, request: ConsoleRequest) {
        match request {
            ConsoleRequest::Quit => self.end_run(ExitReason::Quit, String::new()),
            ConsoleRequest::Attached | ConsoleRequest::Detached => {
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.attached |= request == ConsoleRequest::Attached;
                }
            }
        }
    }

    fn on_power_button(&mut self, now: Ns) {
        match self.phase {
            // Whoever asks twice does not want to wait.
            Phase::Running if self.power_off_by.is_none() && !self.held => {
                self.power_off_by = Some(now.saturating_add(self.grace_ns));
                self.actions.push(Action::PressPowerButton);
            }
            _ => self.end_run(ExitReason::Terminated, String::new()),
        }
    }

    fn hold(&mut self, held: bool) {
        if self.held != held && self.phase == Phase::Running {
            self.actions
                .push(if held { Action::Hold } else { Action::Run });
        }
        self.held = held;
    }

    fn end_with(&mut self, reason: ExitReason, detail: String) {
        self.outcome.get_or_insert(Outcome { reason, detail });
    }

    /// Begins the end. The worker's deadline is set when it is asked.
    fn end_run(&mut self, reason: ExitReason, detail: String) {
        self.end_with(reason, detail);
        if matches!(self.phase, Phase::Building | Phase::Running) {
            self.phase = Phase::EndingRun;
        }
    }

    fn check_deadlines(&mut self, now: Ns) {
        if matches!(self.phase, Phase::Building | Phase::Running) {
            if self.power_off_by.is_some_and(|by| now >= by) {
                let detail = "the guest did not power off within its grace period";
                self.end_run(ExitReason::Terminated, detail.to_owned());
            }
            if self.timeout_at.is_some_and(|at| now >= at) {
                self.end_run(ExitReason::WallDeadline, String::new());
            }
        }
        for index in 0..self.peers.len() {
            if self.peers[index]
                .deadline()
                .is_some_and(|deadline| now >= deadline)
            {
                self.on_deadline(now, index);
            }
        }
    }

    fn on_deadline(&mut self, now: Ns, index: usize) {
        let peer = &mut self.peers[index];
        let why = match peer.stage {
            Stage::Paused { .. } => {
                if matches!(
                    self.phase,
                    Phase::Building | Phase::Running | Phase::EndingRun
                ) {
                    peer.stage = Stage::Starting {
                        deadline: now + peer.plan.watch.ready_ns,
                    };
                    peer.fault = None;
                    let generation = peer.generation;
                    self.actions.push(Action::Spawn {
                        peer: index,
                        generation,
                    });
                } else {
                    peer.stage = Stage::Gone;
                }
                return;
            }
            Stage::Starting { .. } => "did not get ready in time",
            Stage::Serving => "does not answer",
            Stage::Stopping { .. } => "did not end in time",
            Stage::Ready | Stage::Fencing | Stage::Gone => return,
        };
        peer.fault
            .get_or_insert((FaultKind::Internal, why.to_owned()));
        self.fence(index);
    }

    /// Goes on to the next phase when this one has done its work.
    fn advance(&mut self, now: Ns) {
        if self.phase == Phase::Building && self.is_built() {
            self.phase = Phase::Running;
            let worker = self.worker();
            if let Some(worker) = worker {
                self.peers[worker].stage = Stage::Serving;
                self.peers[worker].heard_at = now;
                self.actions.push(Action::Start { peer: worker });
            }
            if !self.held {
                self.actions.push(Action::Run);
            }
        }
        if self.phase == Phase::EndingRun {
            self.ask_worker_to_end(now);
        }
        if self.phase == Phase::EndingBackEnds {
            self.ask_back_ends_to_end(now);
            if self.peers.iter().all(|peer| peer.stage == Stage::Gone) {
                self.phase = Phase::Finished;
                let lost = Outcome {
                    reason: ExitReason::Internal,
                    detail: String::new(),
                };
                let outcome = self.outcome.clone().unwrap_or(lost);
                self.actions.push(Action::Finish(outcome));
            }
        }
    }

    fn is_built(&self) -> bool {
        self.peers.iter().all(|peer| {
            let ready = matches!(peer.stage, Stage::Ready | Stage::Serving);
            ready && (peer.attached || !peer.plan.wait_attached)
        })
    }

    fn worker(&self) -> Option<usize> {
        self.peers
            .iter()
            .position(|peer| peer.plan.role == Role::Worker)
    }

    fn ask_worker_to_end(&mut self, now: Ns) {
        let Some(worker) = self
            .worker()
            .filter(|&worker| self.peers[worker].stage != Stage::Gone)
        else {
            self.phase = Phase::EndingBackEnds;
            return;
        };
        match self.peers[worker].stage {
            Stage::Serving => {
                self.peers[worker].stage = Stage::Stopping {
                    deadline: now + WORKER_STOP,
                };
                self.actions.push(Action::EndRun);
            }
            // It has run nothing: there is no state to report.
            Stage::Starting { .. } | Stage::Ready => self.fence(worker),
            Stage::Paused { .. } => {
                self.peers[worker].stage = Stage::Gone;
                self.phase = Phase::EndingBackEnds;
            }
            Stage::Fencing | Stage::Stopping { .. } | Stage::Gone => {}
        }
    }

    fn ask_back_ends_to_end(&mut self, now: Ns) {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            match peer.stage {
                Stage::Paused { .. } => peer.stage = Stage::Gone,
                Stage::Starting { .. } | Stage::Ready | Stage::Serving => {
                    let patience = if peer.plan.role == Role::Worker {
                        WORKER_STOP
                    } else {
                        BACK_END_STOP
                    };
                    peer.stage = Stage::Stopping {
                        deadline: now + patience,
                    };
                    self.actions.push(Action::Stop { peer: index });
                }
                Stage::Stopping { .. } | Stage::Fencing | Stage::Gone => {}
            }
        }
    }
}

impl Phase {
    /// The worker has nothing more to say.
    fn max_ending(self) -> Self {
        match self {
            Self::Finished => Self::Finished,
            _ => Self::EndingBackEnds,
        }
    }
}
