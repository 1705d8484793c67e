//! The loop: wait for something to happen, tell the state machine, do what it says.

mod acting;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_abi::control::{Control, ExitReport, Hello, MonitorReply, Role, RunRequest};
use atoll_abi::exit::ExitReason;
use atoll_transport::process::{self, ProcessHandle};
use atoll_transport::{LinkMemory, Session, monotonic_ns};
use broker_core::{Broker, Conn, Event, Plan};
use nix::sys::signalfd::SignalFd;
use std::os::fd::OwnedFd;

use crate::args::Args;
use crate::debug::DebugLog;
use crate::listen;
use crate::memory::Memory;
use crate::messages::{Heard, judge};
use crate::peers::Process;
use crate::request::Request;
use crate::sessions::{Sessions, Visit, is_hang_up};
use crate::signals;
use crate::sources::{Source, Sources};
use crate::terminal::Terminal;

/// Messages of one peer that are taken at a time, so that one which floods does not silence the others.
const AT_A_TIME: usize = 64;
/// Messages that a dead peer may have left behind.
const LEFT_BEHIND: usize = 100_000;
/// Between two looks at the worker's count of signs of life. Shorter than the silence after which the state machine believes that the
/// broker itself had stopped.
const WORKER_LOOK: Duration = Duration::from_secs(2);
/// Between two looks at the clock while somebody waits for the worker to reach a horizon.
const HORIZON_LOOK: Duration = Duration::from_millis(10);

/// The whole of the broker's life. The error is for whoever reads stderr: there is nobody else to tell.
pub(crate) fn run(args: &Args) -> Result<ExitReason, String> {
    let signals = signals::take()?;
    let listener = args.listen.as_deref().map(listen::bind).transpose()?;
    let mut sessions = Sessions::new(listener);
    let inherited = args
        .session_fd
        .map(process::take_inherited)
        .transpose()
        .map_err(|error| error.to_string())?;
    let inherited = inherited.map(|fd| sessions.add(Session::from_fd(fd)));
    let mut parked = Vec::new();
    let Some((owner, request, fds)) = await_owner(&mut sessions, inherited, &signals, &mut parked)
    else {
        return Ok(ExitReason::Quit);
    };
    let daemon = Daemon::new(args, request, fds, sessions, owner, signals);
    match daemon {
        Ok(mut daemon) => {
            parked
                .into_iter()
                .for_each(|(conn, hello)| daemon.knock(conn, hello));
            Ok(daemon.run())
        }
        Err((sessions, detail)) => {
            let report = ExitReport {
                reason: ExitReason::BadConfig,
                detail,
                ..no_report()
            };
            sessions.tell_all_ended(&MonitorReply::Ended(report));
            Ok(ExitReason::BadConfig)
        }
    }
}

fn no_report() -> ExitReport {
    ExitReport {
        reason: ExitReason::Internal,
        detail: String::new(),
        now: atoll_abi::VirtualTime::ZERO,
        instructions: 0,
        final_hash: [0; 32],
        stats: String::new(),
    }
}

/// Waits for a machine to run. `None`: nobody will bring one any more.
fn await_owner(
    sessions: &mut Sessions,
    inherited: Option<Conn>,
    signals: &SignalFd,
    parked: &mut Vec<(Conn, Hello)>,
) -> Option<(Conn, RunRequest, Vec<OwnedFd>)> {
    loop {
        let mut sources = Sources::default();
        sources.add(Source::Signals, signals);
        sources.add_sessions(sessions);
        let timeout = sessions
            .deadline()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        for source in sources.wait(timeout) {
            match source {
                Source::Signals if signals::was_terminated(signals) => return None,
                Source::Listener => sessions.accept(),
                Source::Session(conn) => {
                    while let Some(visit) = sessions.receive(conn) {
                        match visit {
                            Visit::Run { conn, request, fds } => return Some((conn, request, fds)),
                            Visit::Knock { conn, hello } => parked.push((conn, hello)),
                            Visit::Monitor { conn, .. } => {
                                let reason = "there is no machine yet".into();
                                sessions.tell(
                                    conn,
                                    &Control::MonitorReply(MonitorReply::Failed { reason }),
                                );
                            }
                            Visit::Left { conn } if Some(conn) == inherited => return None,
                            Visit::Left { .. } | Visit::Greeted => {}
                        }
                    }
                }
                _ => {}
            }
        }
        sessions.tidy();
    }
}

struct Daemon {
    core: Broker,
    plan: Plan,
    memory: Memory,
    /// By index of the peer, less one: the worker first, then the server of each link.
    peers: Vec<Option<Process>>,
    roles: Vec<Role>,
    /// The worker's count of signs of life when it was last looked at.
    worker_progress: u64,
    sessions: Sessions,
    owner: Option<Conn>,
    signals: SignalFd,
    trail: Option<File>,
    debug: DebugLog,
    report: Option<ExitReport>,
    terminal: Option<Terminal>,
    /// Log lines that the owner was not ready to take.
    unheard: u64,
    finished: Option<ExitReason>,
    /// Sessions on which more was received than was taken: no `poll` shows that.
    unfinished: Vec<Source>,
}

fn now() -> Duration {
    Duration::from_nanos(monotonic_ns())
}

impl Daemon {
    fn new(
        args: &Args,
        request: RunRequest,
        fds: Vec<OwnedFd>,
        sessions: Sessions,
        owner: Conn,
        signals: SignalFd,
    ) -> Result<Self, (Sessions, String)> {
        let prepared = Request::open(request, fds).and_then(|mut request| {
            let terminal = request.terminal.take().and_then(Terminal::note);
            let plan = Plan::new(&request.machine, request.resolved.clone())
                .map_err(|error| error.to_string())?;
            let setup = plan.setup(&request.machine, |name| args.is_external(name));
            let trail = request.machine.trail.as_deref().map(create).transpose()?;
            let debug = DebugLog::open(&request.machine.debug, terminal.is_some())?;
            let memory = Memory::create(&plan, request)?;
            Ok((terminal, plan, setup, (trail, debug), memory))
        });
        let (terminal, plan, setup, (trail, debug), memory) = match prepared {
            Ok(prepared) => prepared,
            Err(detail) => return Err((sessions, detail)),
        };
        let roles: Vec<Role> = setup.peers.iter().map(|peer| peer.role).collect();
        let mut daemon = Self {
            core: Broker::new(setup),
            peers: roles.iter().map(|_| None).collect(),
            roles,
            worker_progress: 0,
            plan,
            memory,
            sessions,
            owner: Some(owner),
            signals,
            trail,
            debug,
            report: None,
            terminal,
            unheard: 0,
            finished: None,
            unfinished: Vec::new(),
        };
        // The owner may have said more already than that he wants a machine.
        let conns = daemon
            .sessions
            .sessions()
            .map(|(conn, _)| Source::Session(conn));
        daemon.unfinished = conns.collect();
        daemon.core.begin(now());
        Ok(daemon)
    }

    fn run(&mut self) -> ExitReason {
        loop {
            self.carry_out();
            if let Some(reason) = self.finished {
                return reason;
            }
            for source in self.wait() {
                self.look_at(source);
                self.carry_out();
            }
            self.sessions.tidy();
            self.look_at_worker();
            if self.core.awaits_horizon() && self.memory.at_horizon() {
                self.tell(Event::AtHorizon);
            }
            self.tell(Event::Tick);
        }
    }

    fn tell(&mut self, event: Event) {
        self.core.handle(now(), event);
    }

    fn wait(&mut self) -> Vec<Source> {
        let mut ready = std::mem::take(&mut self.unfinished);
        let mut sources = Sources::default();
        sources.add(Source::Signals, &self.signals);
        sources.add_sessions(&self.sessions);
        for (index, peer) in self.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            if let Some(session) = &peer.session {
                sources.add(Source::Peer(index), session);
            }
            if let Some(handle) = &peer.handle {
                sources.add(Source::Exit(index), handle);
            }
        }
        let core = self
            .core
            .next_deadline()
            .map(|deadline| deadline.saturating_sub(now()));
        let strangers = self
            .sessions
            .deadline()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let horizon = self.core.awaits_horizon().then_some(HORIZON_LOOK);
        let unfinished = (!ready.is_empty()).then_some(Duration::ZERO);
        let worker = self.peers[0].as_ref().map(|_| WORKER_LOOK);
        let timeout = [core, strangers, horizon, unfinished, worker]
            .into_iter()
            .flatten()
            .min();
        ready.extend(sources.wait(timeout));
        ready
    }

    fn look_at(&mut self, source: Source) {
        match source {
            Source::Signals if signals::was_terminated(&self.signals) => {
                self.tell(Event::Terminate)
            }
            Source::Signals => {}
            Source::Listener => self.sessions.accept(),
            Source::Session(conn) => self.visit(conn),
            Source::Peer(index) => self.listen_to(index, AT_A_TIME),
            Source::Exit(index) => self.collect(index),
        }
    }
}

/// Listening.
impl Daemon {
    fn visit(&mut self, conn: Conn) {
        for _ in 0..AT_A_TIME {
            let Some(visit) = self.sessions.receive(conn) else {
                return;
            };
            match visit {
                Visit::Knock { conn, hello } => self.knock(conn, hello),
                Visit::Run { conn, .. } => {
                    let left = self
                        .sessions
                        .refuse(conn, "this broker runs a machine already");
                    self.left(&left);
                }
                Visit::Monitor { conn, request } => self.tell(Event::Monitor {
                    from: conn,
                    request,
                }),
                Visit::Greeted => {}
                left @ Visit::Left { .. } => self.left(&left),
            }
        }
        self.unfinished.push(Source::Session(conn));
    }

    fn left(&mut self, visit: &Visit) {
        if let Visit::Left { conn } = visit
            && self.owner == Some(*conn)
        {
            self.owner = None;
            self.tell(Event::OwnerGone);
        }
    }

    fn knock(&mut self, conn: Conn, hello: Hello) {
        let killable = self.handle_of(conn).is_some();
        self.tell(Event::Knock {
            conn,
            hello,
            killable,
        });
    }

    /// The process at the other end, if it is one that can be seen from here.
    fn handle_of(&self, conn: Conn) -> Option<ProcessHandle> {
        let pid = self.sessions.get(conn)?.peer_pid().ok()?;
        ProcessHandle::open(pid).ok()
    }

    /// Takes up to `most` messages of a peer.
    fn listen_to(&mut self, index: usize, most: usize) {
        for _ in 0..most {
            let Some(peer) = &mut self.peers[index] else {
                return;
            };
            let (id, pid) = (peer.id, peer.pid());
            let Some(session) = &mut peer.session else {
                return;
            };
            let message = match session.try_recv() {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => {
                    peer.session = None;
                    let why = (!is_hang_up(&error)).then(|| error.to_string());
                    return self.tell(Event::Lost { peer: id, why });
                }
            };
            let idle = self.is_idle(index);
            match judge(id, self.roles[index], pid, idle, message.control) {
                Ok(Heard::Event(event)) => self.heard(event),
                Ok(Heard::Log(record)) => self.pass_on(id, record),
                Ok(Heard::Trail(bytes)) => self.write_trail(&bytes),
                Ok(Heard::Debug(text)) => self.debug.write(&text),
                Err(why) => self.tell(Event::Lost {
                    peer: id,
                    why: Some(why),
                }),
            }
        }
        self.unfinished.push(Source::Peer(index));
    }

    /// The worker says nothing to show that it is alive: it moves a count on the clock page, which costs it no system call.
    fn look_at_worker(&mut self) {
        let Some(worker) = &self.peers[0] else { return };
        let progress = self.memory.progress();
        if progress != self.worker_progress || worker.is_traced() {
            self.worker_progress = progress;
            let peer = worker.id;
            self.tell(Event::Beat {
                peer,
                progress,
                idle: true,
            });
        }
    }

    fn heard(&mut self, event: Event) {
        if let Event::Report(report) = &event {
            self.report.get_or_insert_with(|| report.clone());
        }
        self.tell(event);
    }

    /// Has the server behind a link answered everything? The worker counts as idle: nobody waits for it.
    fn is_idle(&self, index: usize) -> bool {
        self.link_of(index).is_none_or(|link| {
            let (requested, replied, _) = link.counts();
            replied >= requested
        })
    }

    fn link_of(&self, index: usize) -> Option<&LinkMemory> {
        index
            .checked_sub(1)
            .and_then(|place| self.memory.links.get(place))
    }

    /// A process is dead. What it said before counts.
    fn collect(&mut self, index: usize) {
        // In the same round a successor may have taken the place of the one that was seen dead.
        let is_dead = |peer: &Process| {
            peer.handle
                .as_ref()
                .is_some_and(|handle| handle.wait_dead(Some(Instant::now())).unwrap_or(true))
        };
        if !self.peers[index].as_ref().is_some_and(is_dead) {
            return;
        }
        self.listen_to(index, LEFT_BEHIND);
        let Some(peer) = &mut self.peers[index] else {
            return;
        };
        let (id, exit) = (peer.id, peer.collect());
        let answered = self.link_of(index).map_or(0, |link| link.counts().1);
        self.tell(Event::Exited {
            peer: id,
            exit,
            answered,
        });
    }
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path)
        .map_err(|error| format!("cannot write the trail to '{}': {error}", path.display()))
}
