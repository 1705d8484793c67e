//! The control messages: what travels over the session socket between the broker and a peer.
//!
//! A frame is a little-endian u32 length, a u32 count of file descriptors, and postcard of one [`Control`]; the
//! descriptors ride along with the first byte. The order of variants and fields is the format. A session begins with `Hello` from the peer and `Welcome` or
//! `Refused` from the broker; nothing else is understood before.

use crate::config::Config;
use crate::exit::ExitReason;
use crate::link::{LinkGeometry, LinkKind};
use crate::{LinkId, PeerId, VirtualTime};
use serde::{Deserialize, Serialize};

/// Most bytes of one message; a longer one faults the peer.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The version of the trail's format, which its first line names.
pub const TRAIL_VERSION: u64 = 2;
/// Most file descriptors with one message. Linux allows 253 (SCM_MAX_FD).
pub const MAX_FDS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Peer to broker, first of all.
    Hello(Hello),
    /// Broker to peer: welcome, and who you are.
    Welcome { abi_version: u32, peer: PeerId },
    /// Broker to peer: go away, and why.
    Refused { reason: String },
    /// Broker to peer: everything that it needs.
    Attach(Attach),
    /// Peer to broker: attached, warmed up, waiting for `Start`.
    Ready,
    /// Broker to peer: begin.
    Start,
    /// Broker to peer: end in good order within the grace period; flush, restore, exit.
    Stop { grace_ns: u64 },
    /// Broker to worker: press the ACPI power button.
    PowerButton,
    /// Broker to worker: reset the machine.
    Reset,
    /// Either way: still alive. `progress` grows while work gets done.
    Heartbeat { progress: u64 },
    /// Peer to broker: I cannot go on.
    Fault(Fault),
    /// Worker to broker: the machine ended.
    ExitReport(ExitReport),
    /// Broker to worker: the server of a link is gone; keep what is in flight.
    LinkLost { link: LinkId, generation: u32 },
    /// Broker to worker: a successor serves the link, in the same segment.
    LinkReplaced { link: LinkId, generation: u32 },
    /// Peer to broker: one line for the log.
    Log(LogRecord),
    /// Seriald to broker: the user asked for this at the console.
    Console(ConsoleRequest),
    /// CLI to broker.
    Monitor(MonitorRequest),
    /// Broker to CLI.
    MonitorReply(MonitorReply),
    /// Worker to broker: the next lines of the trail (JSON lines), to be written to its file as they are.
    Trail(Vec<u8>),
    /// CLI to broker, once, after the greeting: run this machine.
    Run(RunRequest),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub abi_version: u32,
    pub role: Role,
    pub pid: u32,
    /// Version of the peer's binary, for messages.
    pub binary: String,
    /// The name by which the machine file knows this peer, when it was not started by the broker.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    Worker,
    Block,
    Char,
    Net,
    Fs,
    Seat,
    Cli,
}

/// A machine to run. Whoever asks is the machine's owner: when he hangs up, the machine ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The machine, as postcard of the machine file's own type.
    pub machine: Vec<u8>,
    /// What only the host of the command line could tell (clock, seed, policy, script), likewise.
    pub resolved: Vec<u8>,
    /// What is loaded before the first instruction: the kernel, the initrd or boot modules, firmware.
    pub segments: Vec<SegmentDesc>,
    /// `"terminal"` stays with the broker, which puts it back to what it was when all is over. Everything else goes on to the
    /// process whose line is the owner's standard input and output.
    pub files: Vec<FileDesc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub peer: PeerId,
    pub config: Config,
    pub segments: Vec<SegmentDesc>,
    /// Open files handed over, such as a terminal.
    pub files: Vec<FileDesc>,
}

/// One shared segment of an attach message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDesc {
    pub role: SegmentRole,
    /// Bytes that count; the segment itself has whole pages.
    pub len: u64,
    pub source: SegmentSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentRole {
    /// Guest RAM: worker only.
    GuestRam,
    /// [`ClockPage`](crate::clock::ClockPage): worker only.
    Clock,
    /// [`RouteTable`](crate::route::RouteTable).
    Routes,
    /// [`StatsPage`](crate::stats::StatsPage).
    Stats,
    /// [`BellPage`](crate::link::BellPage).
    Bells,
    /// A link.
    Link(LinkDesc),
    /// Bytes that the broker read for the peer: kernel, initrd, snapshot. Which one the configuration says.
    Blob(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDesc {
    pub link: LinkId,
    pub kind: LinkKind,
    pub generation: u32,
    pub geometry: LinkGeometry,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentSource {
    /// Which of the message's file descriptors.
    Fd(u8),
    /// A name under /dev/shm, for set-ups that share only that.
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDesc {
    /// What it is for: `"terminal-in"`, `"terminal-out"`, ...
    pub name: String,
    /// Which of the message's file descriptors.
    pub fd: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// For the user: what, and what to do about it.
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The configuration is wrong; a restart would fail the same way.
    Config,
    /// Somebody else holds what this peer needs (an image, a port). Fencing waits for it.
    Locked,
    /// The host failed (I/O error, out of memory); a restart may help.
    Host,
    /// The other end of a link broke the protocol.
    Protocol,
    /// A bug of the peer's own.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    pub reason: ExitReason,
    /// Detail for the user; empty if the reason says it all.
    pub detail: String,
    pub now: VirtualTime,
    pub instructions: u64,
    /// Rolling hash of registers, RAM and events at the end.
    pub final_hash: [u8; 32],
    /// The worker's own statistics, as JSON text.
    pub stats: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    pub level: LogLevel,
    /// Virtual time, where the sender knows it.
    pub at: Option<VirtualTime>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleRequest {
    /// Ctrl-A x.
    Quit,
    /// Somebody attached; `UnixServer { wait: true }` waits for this.
    Attached,
    Detached,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorRequest {
    Status,
    Peers,
    Pause,
    Resume,
    RunUntil {
        at: VirtualTime,
    },
    PowerButton,
    Reset,
    Quit,
    /// What SIGTERM asks for: press the power button, wait for the machine's grace period, then end it.
    Terminate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorReply {
    Done,
    Failed {
        reason: String,
    },
    Status(MachineStatus),
    Peers(Vec<PeerStatus>),
    /// Unasked: the machine ended.
    Ended(ExitReport),
    /// Unasked: one line of a peer's log.
    Log {
        peer: PeerId,
        record: LogRecord,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    pub running: bool,
    pub now: VirtualTime,
    pub instructions: u64,
    pub horizon: VirtualTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub peer: PeerId,
    pub role: Role,
    pub name: String,
    pub pid: u32,
    pub restarts: u32,
    /// What it waits for, such as the holder of a lock.
    pub waiting: Option<String>,
}
