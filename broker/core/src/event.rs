//! What the state machine is told, and what it asks for.

use crate::peer::PeerSetup;
use atoll_abi::control::{
    ConsoleRequest, ExitReport, Fault, Hello, LogLevel, MonitorReply, MonitorRequest,
};
use atoll_abi::exit::ExitReason;
use atoll_abi::{LinkId, PeerId, VirtualTime};
use core::time::Duration;

/// A session that belongs to no peer (yet), by the daemon's number.
pub type Conn = u64;

/// A machine, as far as its processes and its end go.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The worker first; the others have their link.
    pub peers: Vec<PeerSetup>,
    /// From the power button to the end, after SIGTERM.
    pub grace: Duration,
    /// The wall-clock limit of the run.
    pub timeout: Option<Duration>,
    /// The machine is built and held.
    pub start_stopped: bool,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A peer that the broker started introduces itself. `pid` is the one that was started.
    Hello {
        peer: PeerId,
        hello: Hello,
        pid: u32,
    },
    /// Somebody who came by himself introduces himself. `killable`: the broker holds a handle of his process.
    Knock {
        conn: Conn,
        hello: Hello,
        killable: bool,
    },
    /// It could not even be started.
    SpawnFailed {
        peer: PeerId,
        why: String,
    },
    Ready {
        peer: PeerId,
    },
    /// It is alive. `idle`: it has answered all that it was asked.
    Beat {
        peer: PeerId,
        progress: u64,
        idle: bool,
    },
    /// It says that it cannot go on.
    Fault {
        peer: PeerId,
        fault: Fault,
    },
    /// It broke the protocol, or does not read; without a reason: its session is closed, and its exit will tell more.
    Lost {
        peer: PeerId,
        why: Option<String>,
    },
    /// Its process is gone and was collected. `answered`: how many requests were ever answered on its link.
    Exited {
        peer: PeerId,
        exit: Exit,
        answered: u64,
    },
    /// The worker's last words.
    Report(ExitReport),
    Console {
        peer: PeerId,
        request: ConsoleRequest,
    },
    Monitor {
        from: Conn,
        request: MonitorRequest,
    },
    /// The worker stands at the horizon.
    AtHorizon,
    /// The machine's owner hung up.
    OwnerGone,
    /// SIGTERM.
    Terminate,
    /// Something failed that leaves no choice.
    Fatal {
        reason: ExitReason,
        detail: String,
    },
    /// Time passed.
    Tick,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It was no child, so its status is not known.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it exited with code {code}"),
            Self::Signal(signal) => write!(f, "it was killed by signal {signal}"),
            Self::Unknown => f.write_str("it is gone"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn(PeerId),
    /// Bind this session to the peer; an `Admit` follows.
    Adopt {
        conn: Conn,
        peer: PeerId,
    },
    /// Tell him to go away, and why, and close.
    Refuse {
        conn: Conn,
        reason: String,
    },
    /// Welcome it and hand over all that it needs.
    Admit(PeerId),
    Start(PeerId),
    Stop {
        peer: PeerId,
        grace: Duration,
    },
    /// Kill its process; `Exited` follows.
    Kill(PeerId),
    /// Close its session: there is no process that could be killed.
    Disconnect(PeerId),
    /// From now on only this generation may serve the link.
    SetGeneration {
        link: LinkId,
        generation: u32,
    },
    /// To the worker, if it is there.
    LinkLost {
        link: LinkId,
        generation: u32,
    },
    LinkReplaced {
        link: LinkId,
        generation: u32,
    },
    PowerButton,
    Reset,
    Clock(ClockMove),
    /// Fill in what the clock page says, and answer.
    ReplyStatus {
        to: Conn,
        running: bool,
    },
    Reply {
        to: Conn,
        reply: MonitorReply,
    },
    Log {
        level: LogLevel,
        peer: PeerId,
        text: String,
    },
    /// All is over; the last action of all.
    Finish {
        reason: ExitReason,
        detail: String,
    },
}

/// All that there is to do to virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockMove {
    /// Run up to the horizon; the pace begins anew here and now.
    Run {
        horizon: VirtualTime,
    },
    Hold,
    /// The machine ends at the next boundary.
    Stop,
}
