//! The state machine: the machine's phases, and what each event means in them.
//!
//! ```text
//! Starting --all serve--> Running --power button--> PoweringOff
//!     |                      |                          |
//!     +----------------------+------- end asked for ----+--> Stopping --worker gone--> Draining --all gone--> Ended
//! ```

use crate::event::{Action, ClockMove, Conn, Event, Exit, Setup};
use crate::peer::{Life, Origin, Peer};
use atoll_abi::control::{
    ConsoleRequest, ExitReport, Fault, FaultKind, Hello, LogLevel, MonitorReply, MonitorRequest,
    Role,
};
use atoll_abi::exit::ExitReason;
use atoll_abi::{PeerId, VirtualTime};
use core::time::Duration;
use std::collections::VecDeque;

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

/// Coming.
impl Broker {
    /// Starts the current generation of a peer, or waits for it to come.
    fn bring_up(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        let (id, link, care) = (peer.id, peer.setup.link, peer.setup.care);
        match peer.setup.origin {
            Origin::Spawned => {
                peer.enter(Life::Starting, care.start_within.map(|within| now + within));
                self.renew_link(link, id);
                self.act(Action::Spawn(id));
            }
            Origin::External => {
                peer.enter(Life::Expected, Some(now + care.arrive_within));
                peer.waiting = Some("somebody to start it".into());
                self.renew_link(link, id);
            }
        }
    }

    fn renew_link(&mut self, link: Option<atoll_abi::LinkId>, id: PeerId) {
        if let (Some(link), 1..) = (link, id.generation) {
            let generation = id.generation;
            self.act(Action::SetGeneration { link, generation });
        }
    }

    fn on_hello(&mut self, now: Duration, id: PeerId, hello: &Hello, pid: u32) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if peer.life != Life::Starting {
            return self.on_lost(now, id, Some("it introduced itself twice".into()));
        }
        let stranger = (hello.pid != pid)
            .then(|| format!("process {pid} says that it is process {}", hello.pid));
        if let Some(what) = peer.objection(hello).or(stranger) {
            return self.on_fault(
                now,
                id,
                Fault {
                    kind: FaultKind::Config,
                    what,
                },
            );
        }
        peer.pid = pid;
        peer.life = Life::Attached;
        self.act(Action::Admit(id));
    }

    fn on_knock(&mut self, now: Duration, conn: Conn, hello: &Hello, killable: bool) {
        match self.welcome(hello) {
            Ok(index) => {
                let peer = &mut self.peers[index];
                peer.pid = hello.pid;
                peer.killable = killable;
                peer.waiting = None;
                let start = peer.setup.care.start_within;
                peer.enter(Life::Attached, start.map(|within| now + within));
                let peer = peer.id;
                self.act(Action::Adopt { conn, peer });
                self.act(Action::Admit(peer));
            }
            Err(reason) => self.act(Action::Refuse { conn, reason }),
        }
    }

    /// Whose place a newcomer may take.
    fn welcome(&self, hello: &Hello) -> Result<usize, String> {
        if self.phase >= Phase::Stopping {
            return Err(ENDING.into());
        }
        let named = self
            .peers
            .iter()
            .position(|peer| peer.setup.name == hello.name);
        let Some(index) = named else {
            let names: Vec<_> = self
                .peers
                .iter()
                .map(|peer| peer.setup.name.as_str())
                .collect();
            return Err(format!(
                "this machine has no '{}'; it has {}",
                hello.name,
                names.join(", ")
            ));
        };
        let peer = &self.peers[index];
        if let Some(objection) = peer.objection(hello) {
            return Err(objection);
        }
        match (peer.setup.origin, peer.life) {
            (Origin::Spawned, _) => Err(format!("the broker starts {} itself", hello.name)),
            (Origin::External, Life::Expected) => Ok(index),
            (Origin::External, Life::Fencing) => {
                Err(format!("the predecessor of {} is not dead yet", hello.name))
            }
            (Origin::External, _) => Err(format!(
                "{} is served by process {} already",
                hello.name, peer.pid
            )),
        }
    }

    fn on_ready(&mut self, now: Duration, id: PeerId) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if peer.life != Life::Attached {
            return self.on_lost(
                now,
                id,
                Some("it said that it is ready when nobody had asked".into()),
            );
        }
        peer.serve(now);
        let link = peer.setup.link;
        self.act(Action::Start(id));
        if let (Some(link), generation @ 1..) = (link, id.generation) {
            self.act(Action::LinkReplaced { link, generation });
            let name = self.peers[index].setup.name.clone();
            self.log(LogLevel::Warn, index, format!("{name} serves again"));
        }
        match self.phase {
            Phase::Draining => self.stop_peer(now, index),
            _ => self.try_run(),
        }
    }

    /// Everybody is there, so the guest may run.
    fn try_run(&mut self) {
        let ready = |peer: &Peer| {
            peer.life == Life::Serving && (peer.attached || !peer.setup.awaits_console)
        };
        if self.phase != Phase::Starting || !self.peers.iter().all(ready) {
            return;
        }
        self.phase = Phase::Running;
        self.ran = true;
        if !self.paused {
            self.run_to(VirtualTime::MAX);
        }
    }

    fn hold(&mut self) {
        self.forget_run_until(MOVED);
        self.paused = true;
        self.act(Action::Clock(ClockMove::Hold));
    }

    fn forget_run_until(&mut self, reason: &str) {
        if let Some(to) = self.run_until.take() {
            let reason = reason.to_owned();
            self.act(Action::Reply {
                to,
                reply: MonitorReply::Failed { reason },
            });
        }
    }

    fn run_to(&mut self, horizon: VirtualTime) {
        self.forget_run_until(MOVED);
        self.paused = false;
        self.act(Action::Clock(ClockMove::Run { horizon }));
    }
}

/// Failing and coming back.
impl Broker {
    fn on_spawn_failed(&mut self, now: Duration, id: PeerId, why: String) {
        let Some(index) = self.current(id) else {
            return;
        };
        let kind = if self.ran {
            FaultKind::Host
        } else {
            FaultKind::Config
        };
        self.peers[index].fault = Some(Fault { kind, what: why });
        self.gone(now, index);
    }

    fn on_fault(&mut self, now: Duration, id: PeerId, fault: Fault) {
        let Some(index) = self.current(id) else {
            return;
        };
        self.peers[index].fault.get_or_insert(fault);
        self.fence(now, index);
    }

    fn on_lost(&mut self, now: Duration, id: PeerId, why: Option<String>) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if peer.life == Life::Stopping && peer.killable {
            // It closes what it has and is about to exit, as it was told to.
            return;
        }
        peer.cause = peer.cause.take().or(why);
        self.fence(now, index);
    }

    /// Makes sure that it is dead. What follows, follows its exit.
    fn fence(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        if !peer.has_process() || peer.life == Life::Fencing {
            return;
        }
        let (id, link, served) = (peer.id, peer.setup.link, peer.is_here());
        let killable = peer.killable;
        // Nothing replaces a process that lives; only an end does not wait for one that even a kill does not end.
        let deadline = (self.phase >= Phase::Stopping).then_some(now + PARTING);
        peer.enter(Life::Fencing, deadline);
        peer.waiting = Some("its predecessor to be dead".into());
        if let (true, Some(link)) = (served, link) {
            let generation = id.generation;
            self.act(Action::LinkLost { link, generation });
        }
        if killable {
            self.act(Action::Kill(id));
        } else {
            // Nobody here can kill it or see it die. Its lock is what its successor has to get past.
            self.act(Action::Disconnect(id));
            self.gone(now, index);
        }
    }

    fn on_exited(&mut self, now: Duration, id: PeerId, exit: Exit, answered: u64) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if !peer.has_process() {
            return;
        }
        let (life, link) = (peer.life, peer.setup.link);
        peer.cause.get_or_insert(exit.to_string());
        peer.answered = answered;
        if let (Life::Attached | Life::Serving, Some(link)) = (life, link) {
            let generation = id.generation;
            self.act(Action::LinkLost { link, generation });
        }
        if life == Life::Stopping {
            self.bury(now, index);
        } else {
            self.gone(now, index);
        }
    }

    /// A process is gone that nobody had told to go.
    fn gone(&mut self, now: Duration, index: usize) {
        self.peers[index].enter(Life::Gone, None);
        let (role, why) = (self.peers[index].setup.role, self.peers[index].why());
        if role == Role::Worker {
            return self.worker_gone(now, why);
        }
        match self.phase {
            Phase::Starting | Phase::Running | Phase::PoweringOff => self.replace(now, index),
            // Whatever it published is in the link, and a successor makes it durable.
            Phase::Stopping | Phase::Draining if self.ran && !self.peers[index].stopped => {
                self.replace(now, index)
            }
            _ => self.bury(now, index),
        }
    }

    fn worker_gone(&mut self, now: Duration, why: String) {
        let kind = self.peers[0].fault.as_ref().map(|fault| fault.kind);
        let reason = match kind {
            Some(FaultKind::Config) if !self.ran => ExitReason::BadConfig,
            Some(FaultKind::Internal) => ExitReason::Internal,
            _ => ExitReason::WorkerLost,
        };
        // An end that was asked for keeps its reason.
        self.end.get_or_insert((reason, why));
        self.drain(now);
    }

    /// Starts the successor of a back end whose process is gone, at the right time, or gives up.
    fn replace(&mut self, now: Duration, index: usize) {
        let kind = self.peers[index].fault.as_ref().map(|fault| fault.kind);
        let first = self.phase == Phase::Starting && self.peers[index].id.generation == 0;
        let delay = match kind {
            Some(FaultKind::Config) => None,
            Some(FaultKind::Locked | FaultKind::Host) if first => None,
            // Whoever holds the lock may be its predecessor in another container: until he lets go, virtual time stands still.
            Some(FaultKind::Locked) if self.phase < Phase::Stopping => Some(LOCK_RETRY),
            _ => self.peers[index].count_restart(now, self.phase >= Phase::Stopping),
        };
        let why = self.peers[index].why();
        let name = self.peers[index].setup.name.clone();
        let Some(delay) = delay else {
            return self.give_up(now, index, first, format!("{name}: {why}"));
        };
        self.log(
            LogLevel::Warn,
            index,
            format!("{name} is lost ({why}); starting it anew"),
        );
        let peer = &mut self.peers[index];
        peer.succeed();
        if peer.setup.origin == Origin::External {
            return self.bring_up(now, index);
        }
        peer.waiting = Some(why);
        peer.enter(Life::Resting, Some(now + delay));
    }

    fn give_up(&mut self, now: Duration, index: usize, first: bool, detail: String) {
        let config = self.peers[index]
            .fault
            .as_ref()
            .is_some_and(|fault| fault.kind == FaultKind::Config);
        let reason = if first || (config && !self.ran) {
            ExitReason::BadConfig
        } else {
            ExitReason::DeviceLost
        };
        self.log(LogLevel::Error, index, detail.clone());
        self.end(now, reason, detail);
        self.bury(now, index);
    }

    /// It is gone for good.
    fn bury(&mut self, now: Duration, index: usize) {
        self.peers[index].enter(Life::Gone, None);
        if index == 0 && self.phase == Phase::Stopping {
            self.drain(now);
        }
        self.finish_if_empty();
    }
}

/// Ending.
impl Broker {
    /// The machine ends, for this reason if it is the first.
    fn end(&mut self, now: Duration, reason: ExitReason, detail: String) {
        if self.phase >= Phase::Stopping {
            return;
        }
        self.end.get_or_insert((reason, detail));
        self.phase = Phase::Stopping;
        self.forget_run_until(ENDING);
        self.grace_ends = None;
        self.act(Action::Clock(ClockMove::Stop));
        match self.peers[0].life {
            Life::Serving => self.stop_peer(now, 0),
            Life::Starting | Life::Attached => self.fence(now, 0),
            Life::Stopping => {}
            Life::Fencing => self.peers[0].deadline = Some(now + PARTING),
            Life::Expected | Life::Resting | Life::Gone => {
                self.peers[0].enter(Life::Gone, None);
                self.drain(now);
            }
        }
    }

    /// The worker has said all that it will say: now the back ends may go.
    fn drain(&mut self, now: Duration) {
        if self.phase >= Phase::Draining {
            return self.finish_if_empty();
        }
        self.phase = Phase::Draining;
        self.forget_run_until(ENDING);
        self.grace_ends = None;
        for index in 1..self.peers.len() {
            match self.peers[index].life {
                Life::Serving => self.stop_peer(now, index),
                // What it was to redo is redone first, if there can be anything.
                Life::Starting | Life::Attached if !self.ran => self.fence(now, index),
                Life::Resting if !self.ran => self.peers[index].enter(Life::Gone, None),
                Life::Expected => self.peers[index].enter(Life::Gone, None),
                Life::Fencing => self.peers[index].deadline = Some(now + PARTING),
                _ => {}
            }
        }
        self.finish_if_empty();
    }

    fn stop_peer(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        let grace = peer.setup.care.stop_within;
        peer.stopped = true;
        peer.enter(Life::Stopping, Some(now + grace));
        let peer = peer.id;
        self.act(Action::Stop { peer, grace });
    }

    fn finish_if_empty(&mut self) {
        if self.phase != Phase::Draining || self.peers.iter().any(|peer| peer.life != Life::Gone) {
            return;
        }
        self.phase = Phase::Ended;
        let (reason, detail) = self
            .end
            .take()
            .unwrap_or((ExitReason::Internal, "it ended for no reason".into()));
        self.act(Action::Finish { reason, detail });
    }

    fn on_report(&mut self, now: Duration, report: &ExitReport) {
        if !self.peers[0].is_here() || self.phase >= Phase::Draining {
            return;
        }
        self.end
            .get_or_insert((report.reason, report.detail.clone()));
        self.peers[0].enter(Life::Stopping, Some(now + PARTING));
        self.drain(now);
    }

    fn terminate(&mut self, now: Duration) {
        let asked = "a signal asked for it";
        match self.phase {
            Phase::Running => {
                self.phase = Phase::PoweringOff;
                self.grace_ends = Some(now + self.grace);
                self.act(Action::PowerButton);
                if self.paused {
                    self.run_to(VirtualTime::MAX);
                }
            }
            Phase::Starting => self.end(now, ExitReason::Terminated, asked.into()),
            Phase::PoweringOff => self.end(now, ExitReason::Terminated, format!("{asked}, twice")),
            Phase::Stopping | Phase::Draining | Phase::Ended => {}
        }
    }

    /// Looks at everything that has a deadline.
    fn tick(&mut self, now: Duration) {
        let over = |deadline: Option<Duration>| deadline.is_some_and(|deadline| now >= deadline);
        if over(self.grace_ends) {
            let grace = self.grace.as_secs();
            let detail = format!(
                "the guest did not power off within {grace} s after its power button was pressed"
            );
            self.end(now, ExitReason::Terminated, detail);
        }
        if over(self.wall_limit) {
            self.end(
                now,
                ExitReason::WallDeadline,
                "the wall-clock limit was reached".into(),
            );
        }
        for index in 0..self.peers.len() {
            self.tick_peer(now, index);
        }
    }

    fn tick_peer(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        if peer.life == Life::Serving {
            if let Some(why) = peer.hung(now) {
                let id = peer.id;
                self.on_lost(now, id, Some(why));
            }
            return;
        }
        if peer.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        peer.deadline = None;
        match peer.life {
            Life::Resting => self.bring_up(now, index),
            Life::Starting | Life::Attached => {
                peer.cause = Some("it was not ready in time".into());
                self.fence(now, index);
            }
            Life::Stopping => self.kill_late(now, index),
            Life::Expected => {
                peer.cause = Some("nobody started it".into());
                let detail = format!("{}: nobody started it", peer.setup.name);
                let first = !self.ran;
                self.give_up(now, index, first, detail);
            }
            Life::Fencing => self.abandon(now, index),
            Life::Serving | Life::Gone => {}
        }
    }

    /// It was told to end and did not. Whatever it left undone, a successor would not do it faster.
    fn kill_late(&mut self, now: Duration, index: usize) {
        let (id, killable) = (self.peers[index].id, self.peers[index].killable);
        let name = self.peers[index].setup.name.clone();
        self.log(
            LogLevel::Error,
            index,
            format!("{name} did not end in time"),
        );
        if killable {
            self.peers[index].enter(Life::Fencing, Some(now + PARTING));
            self.act(Action::Kill(id));
        } else {
            self.abandon(now, index);
        }
    }

    /// The machine ends without having seen the end of this one.
    fn abandon(&mut self, now: Duration, index: usize) {
        let peer = self.peers[index].id;
        self.log(
            LogLevel::Error,
            index,
            format!("{} cannot be ended", self.peers[index].setup.name),
        );
        self.act(Action::Disconnect(peer));
        self.bury(now, index);
    }
}

/// People.
impl Broker {
    fn on_console(&mut self, now: Duration, id: PeerId, request: ConsoleRequest) {
        let Some(index) = self.current(id) else {
            return;
        };
        match request {
            ConsoleRequest::Quit => self.end(now, ExitReason::Quit, String::new()),
            ConsoleRequest::Attached => {
                self.peers[index].attached = true;
                self.try_run();
            }
            // The machine was held for the first one only.
            ConsoleRequest::Detached => {}
        }
    }

    fn on_monitor(&mut self, now: Duration, to: Conn, request: MonitorRequest) {
        let runs = matches!(self.phase, Phase::Running | Phase::PoweringOff);
        let reply = match request {
            MonitorRequest::Status => {
                let running = runs && !self.paused;
                return self.act(Action::ReplyStatus { to, running });
            }
            MonitorRequest::Peers => {
                MonitorReply::Peers(self.peers.iter().map(Peer::status).collect())
            }
            MonitorRequest::Quit => {
                self.end(now, ExitReason::Quit, String::new());
                MonitorReply::Done
            }
            MonitorRequest::Terminate => {
                self.terminate(now);
                MonitorReply::Done
            }
            // A machine that is not started yet can still be told how to start.
            MonitorRequest::Pause | MonitorRequest::Resume if self.phase == Phase::Starting => {
                self.paused = request == MonitorRequest::Pause;
                MonitorReply::Done
            }
            _ if !runs => MonitorReply::Failed {
                reason: format!("the machine is {}", self.phase_name()),
            },
            MonitorRequest::Pause => {
                self.hold();
                MonitorReply::Done
            }
            MonitorRequest::Resume => {
                self.run_to(VirtualTime::MAX);
                MonitorReply::Done
            }
            MonitorRequest::RunUntil { at } => {
                self.run_to(at);
                self.run_until = Some(to);
                return;
            }
            MonitorRequest::PowerButton => {
                self.act(Action::PowerButton);
                MonitorReply::Done
            }
            MonitorRequest::Reset => {
                self.act(Action::Reset);
                MonitorReply::Done
            }
        };
        self.act(Action::Reply { to, reply });
    }

    fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Starting => "not started yet",
            Phase::Running => "running",
            Phase::PoweringOff => "powering off",
            Phase::Stopping | Phase::Draining | Phase::Ended => "ending",
        }
    }

    fn on_horizon(&mut self) {
        if let Some(to) = self.run_until.take() {
            self.hold();
            self.act(Action::Reply {
                to,
                reply: MonitorReply::Done,
            });
        }
    }
}
