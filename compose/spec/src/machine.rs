//! The machine as it was asked for: plain data, complete, and consistent once `Draft::finish` made it.
//!
//! Invariants: identifiers are unique within their kind; every serial port names an existing chardev;
//! every PCI slot is used once; the lists are in the order of the machine file, which is the order of
//! device places.

use crate::cpu::CpuModel;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole machine: what the guest sees, what serves it on the host, and how it is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub memory_bytes: u64,
    pub cpu: Cpu,
    /// What is loaded into RAM before the first instruction.
    pub boot: Boot,
    pub drives: Vec<Drive>,
    pub chardevs: Vec<Chardev>,
    /// COM1 to COM4: the chardev of each port that exists, by index.
    pub serials: Vec<Serial>,
    pub rtc: RtcBase,
    /// `-icount shift=N`: an instruction takes 2^N ns and nothing else is charged.
    pub icount_shift: Option<u8>,
    pub seed: Seed,
    pub policy: PolicyChoice,
    pub engine: Engine,
    /// A guest reset ends the run instead of restarting the machine in place.
    pub no_reboot: bool,
    /// `-S`: the machine is built, but no instruction runs until it is told to go on.
    pub start_stopped: bool,
    pub debug: Debug,
    /// Ends the run after so much wall time.
    pub timeout: Option<Duration>,
    /// Ends the run at this virtual time.
    pub vtime_limit: Option<Duration>,
    /// How long a guest has to power off by itself after SIGTERM pressed its power button.
    pub grace: Duration,
    pub script: Option<PathBuf>,
    pub stats: Option<PathBuf>,
    pub trail: Option<PathBuf>,
    /// The virtual time between two hashes of a trail.
    pub hash_every: Duration,
}

/// The virtual CPU: a model and what is switched on or off in it, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    pub model: CpuModel,
    /// Names as the table of [`crate::cpu`] has them; the later of two equal names wins.
    pub features: Vec<CpuFeature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuFeature {
    pub name: String,
    pub on: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Firmware that the machine starts in, at the reset vector; none if a kernel is entered directly.
    pub bios: Option<PathBuf>,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<Initrd>,
    pub append: String,
}

/// The value of `-initrd`: one file, or for kernels that take several `file arg...,file arg...` (a comma within a name is
/// written twice).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initrd {
    /// Where relative paths begin.
    pub base: PathBuf,
    pub text: String,
}

/// One file of an [`Initrd`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    pub path: PathBuf,
    /// What the guest is told of it: its name without the folder, and its arguments.
    pub text: String,
}

impl Initrd {
    /// More files than any kernel takes, and as many as one message to the worker has room for.
    pub const MAX_FILES: usize = 40;

    /// The files. A file that is named like the whole text, with its blanks and commas, is meant as a whole.
    pub fn files(&self, exists: impl Fn(&Path) -> bool) -> Vec<BootFile> {
        let whole = self.base.join(&self.text);
        if exists(&whole) {
            return vec![boot_file(whole, "")];
        }
        let parts = crate::options::split_commas(&self.text);
        let file = |part: &String| {
            let (name, arguments) = part.trim().split_once(' ').unwrap_or((part.trim(), ""));
            boot_file(self.base.join(name), arguments.trim())
        };
        parts.iter().map(file).collect()
    }
}

fn boot_file(path: PathBuf, arguments: &str) -> BootFile {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = format!("{name} {arguments}").trim_end().to_owned();
    BootFile { path, text }
}

/// A disk: the image on the host and the device in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    pub id: String,
    pub image: Image,
    pub front: FrontEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub path: PathBuf,
    pub format: ImageFormat,
    /// Whether the format was said, or follows from the name of the file: then the caller looks at
    /// the first bytes and refuses when they contradict it.
    pub format_named: bool,
    pub cache: CacheMode,
    pub readonly: bool,
    /// Writes go to a temporary layer that disappears with the process.
    pub snapshot: bool,
    /// Whether the guest's discards reach the image.
    pub discard: bool,
    /// The only files that may be opened as backing files.
    pub backing: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageFormat {
    Raw,
    Qcow2,
}

impl ImageFormat {
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// QEMU's five cache modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheMode {
    #[default]
    Writeback,
    Writethrough,
    None,
    Directsync,
    Unsafe,
}

impl CacheMode {
    pub const ALL: [Self; 5] = [
        Self::Writeback,
        Self::Writethrough,
        Self::None,
        Self::Directsync,
        Self::Unsafe,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Writeback => "writeback",
            Self::Writethrough => "writethrough",
            Self::None => "none",
            Self::Directsync => "directsync",
            Self::Unsafe => "unsafe",
        }
    }

    /// The guest is told of a volatile write cache and must flush.
    pub fn write_cache(self) -> bool {
        !matches!(self, Self::Writethrough | Self::Directsync)
    }

    /// The host's page cache is passed by.
    pub fn direct(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }

    /// The mode with these three properties, as QEMU's `cache.*` and `write-cache` options say them.
    pub fn from_properties(write_cache: bool, direct: bool, no_flush: bool) -> Option<Self> {
        match (write_cache, direct, no_flush) {
            (true, false, false) => Some(Self::Writeback),
            (true, true, false) => Some(Self::None),
            (false, false, false) => Some(Self::Writethrough),
            (false, true, false) => Some(Self::Directsync),
            (true, false, true) => Some(Self::Unsafe),
            _ => None,
        }
    }
}

/// The device through which the guest sees a drive: a virtio-blk PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontEnd {
    pub id: String,
    /// What VIRTIO_BLK_T_GET_ID answers; at most 20 bytes.
    pub serial: String,
    /// The device number on PCI bus 0.
    pub pci_slot: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chardev {
    pub id: String,
    pub backend: CharBackend,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CharBackend {
    /// The terminal (or pipe) that `atoll run` was started on.
    Stdio,
    Pty,
    /// A listening Unix socket. With `wait`, nothing runs until the first client is there.
    Unix {
        path: PathBuf,
        wait: bool,
    },
    /// Output is written to a file; there is no input.
    File {
        path: PathBuf,
        append: bool,
    },
    Null,
}

impl CharBackend {
    /// Whether somebody may type at it: then the run has outside input.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Stdio | Self::Pty | Self::Unix { .. })
    }
}

/// A 16550A at one of the four ISA positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    /// 0 is COM1 (0x3f8, IRQ 4), as Linux's ttyS0.
    pub index: u8,
    pub chardev: String,
}

/// What the guest's clock shows at virtual time zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RtcBase {
    /// Seconds since 1970 UTC.
    Epoch(i64),
    /// The host's time when the run starts, in UTC. Read once; it is an input of the run.
    HostUtc,
    /// The host's local time when the run starts.
    HostLocal,
}

impl RtcBase {
    /// 2026-01-01 00:00:00 UTC. A fixed start, because the same command twice is to give the same run.
    pub const DEFAULT: Self = Self::Epoch(1_767_225_600);
}

/// Where the guest's random numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seed {
    Fixed(u64),
    /// Drawn once from the host, and named in the trail.
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyChoice {
    /// `paced` as soon as something live is attached, `exact` otherwise.
    Auto,
    Exact,
    Paced,
}

/// How virtual time and the wall clock go together; both count exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Idle time is skipped.
    Exact,
    /// Idle time is slept; virtual time is never ahead of the wall clock.
    Paced,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    Interp,
    #[default]
    Jit,
    Lockstep,
}

impl Engine {
    pub const ALL: [Self; 3] = [Self::Interp, Self::Jit, Self::Lockstep];

    pub fn name(self) -> &'static str {
        match self {
            Self::Interp => "interp",
            Self::Jit => "jit",
            Self::Lockstep => "lockstep",
        }
    }
}

/// `-d` and `-D`: what the worker logs for a developer, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debug {
    pub items: Vec<DebugItem>,
    /// Standard error if absent.
    pub file: Option<PathBuf>,
}

/// What `-d` logs. With one of the first three the machine is run instruction by instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DebugItem {
    InAsm,
    Exec,
    Cpu,
    Int,
    Io,
    GuestErrors,
    Unimp,
    CpuReset,
}

impl DebugItem {
    pub const ALL: [Self; 8] = [
        Self::InAsm,
        Self::Exec,
        Self::Cpu,
        Self::Int,
        Self::Io,
        Self::GuestErrors,
        Self::Unimp,
        Self::CpuReset,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::InAsm => "in_asm",
            Self::Exec => "exec",
            Self::Cpu => "cpu",
            Self::Int => "int",
            Self::Io => "io",
            Self::GuestErrors => "guest_errors",
            Self::Unimp => "unimp",
            Self::CpuReset => "cpu_reset",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::InAsm => "each instruction's text when it is first executed (one by one: slow)",
            Self::Exec => "the address of each instruction executed (one by one: slow)",
            Self::Cpu => "the registers before each instruction (one by one: slow)",
            Self::Int => "interrupts and exceptions as they are delivered",
            Self::Io => "port and memory-mapped accesses",
            Self::GuestErrors => "accesses to memory where there is nothing",
            Self::Unimp => "accesses to ports where there is nothing",
            Self::CpuReset => "resets of the machine",
        }
    }
}

impl Machine {
    /// The machine as the command line hands it to the broker.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }

    /// The policy of the run. `stdio_is_live` says whether anybody can type at the standard input;
    /// with `/dev/null` there, nobody can.
    pub fn policy(&self, stdio_is_live: bool) -> Policy {
        let live = |backend: &CharBackend| {
            backend.is_live() && (stdio_is_live || *backend != CharBackend::Stdio)
        };
        match self.policy {
            PolicyChoice::Exact => Policy::Exact,
            PolicyChoice::Paced => Policy::Paced,
            PolicyChoice::Auto if self.serials.iter().any(|s| live(self.backend_of(s))) => {
                Policy::Paced
            }
            PolicyChoice::Auto => Policy::Exact,
        }
    }

    /// The chardev behind a serial port.
    pub fn backend_of(&self, serial: &Serial) -> &CharBackend {
        let found = self.chardevs.iter().find(|c| c.id == serial.chardev);
        &found
            .expect("finish() checked that every serial port names a chardev")
            .backend
    }
}
