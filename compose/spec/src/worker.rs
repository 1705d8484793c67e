//! What of a machine the worker is told, as postcard bytes in the broker's first message to it.
//!
//! It holds no path, and no file name but those that a guest is told of its boot modules. The kernel and its modules follow as sealed segments
//! on the same session; a drive or a serial port is a device at a place, joined to a link by the
//! place's index. [`GuestMachine`] is all that the guest can see: its bytes are hashed into the head
//! of a trail. [`RunOptions`] changes how the run is made and watched, never what the guest does.
//!
//! Invariant: `places` is in the order of the machine file, which breaks ties between events of
//! equal time and class.

use crate::machine::{Cpu, DebugItem, Engine, Machine, Policy};
use serde::{Deserialize, Serialize};

/// The first thing that a worker reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerMachine {
    pub guest: GuestMachine,
    pub run: RunOptions,
    /// The firmware, if it starts in one.
    pub bios: Option<Blob>,
    pub kernel: Option<Blob>,
    /// The files that go with it, in the order of [`GuestMachine::modules`]; their numbers follow the kernel's.
    pub modules: Vec<Blob>,
}

/// A file that the broker read for the worker: the segment of this number, and how much of it is the
/// file (a segment is as long as its last page).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub index: u16,
    pub len: u64,
}

/// Everything that the guest can see: equal values, equal inputs, equal run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMachine {
    /// The version of the machine's constants: charges, latencies, TLB geometry.
    pub version: u32,
    pub memory_bytes: u64,
    pub cpu: Cpu,
    /// Whether it starts at the reset vector, in firmware.
    pub bios: bool,
    /// The kernel command line, without a final NUL.
    pub append: String,
    /// Name and arguments of each initial RAM disk or boot module.
    pub modules: Vec<String>,
    pub places: Vec<Place>,
    /// Seconds since 1970 UTC at virtual time zero.
    pub rtc_epoch: i64,
    /// An instruction takes 2^shift ns and nothing else is charged; absent: 1 ns and charges.
    pub icount_shift: Option<u8>,
    pub seed: u64,
    /// What is typed inside the machine, in order.
    pub script: Vec<ScriptStep>,
}

/// One device; its position in `GuestMachine::places` is its place and the index of its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// For messages and statistics.
    pub id: String,
    pub kind: PlaceKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlaceKind {
    /// A 16550A; `index` 0 is COM1. Its link is a char link.
    Serial { index: u8 },
    /// A virtio-blk function on PCI bus 0. Its link is a block link; the capacity comes with it.
    VirtioBlk {
        pci_slot: u8,
        serial: String,
        readonly: bool,
        write_cache: bool,
        discard: bool,
    },
}

/// Once `expect` has gone out of the serial port since the previous step, `send` goes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptStep {
    /// The serial port that is read and written: 0 is COM1.
    pub port: u8,
    /// Empty: matches at once.
    pub expect: Vec<u8>,
    pub send: Vec<u8>,
    /// Virtual time between the last matched byte and the first byte sent.
    pub delay_ns: u64,
}

/// How the run is made and watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOptions {
    pub name: String,
    pub engine: Engine,
    pub policy: Policy,
    /// A guest reset ends the run.
    pub no_reboot: bool,
    /// Whether the broker expects a trail.
    pub trail: bool,
    pub hash_every_ns: u64,
    /// Whether statistics are wanted at the end.
    pub stats: bool,
    pub vtime_limit_ns: Option<u64>,
    pub debug: Vec<DebugItem>,
}

/// What only the host can tell at the start of a run. The command line hands it to the broker beside the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub rtc_epoch: i64,
    pub seed: u64,
    pub policy: Policy,
    pub script: Vec<ScriptStep>,
    pub bios: Option<Blob>,
    pub kernel: Option<Blob>,
    pub modules: Vec<(Blob, String)>,
}

impl Resolved {
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always encodes")
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

impl WorkerMachine {
    /// The constants that this build of the machine has.
    pub const VERSION: u32 = 1;

    pub fn new(machine: &Machine, resolved: Resolved) -> Self {
        let (modules, names) = resolved.modules.into_iter().unzip();
        let guest = GuestMachine {
            version: Self::VERSION,
            memory_bytes: machine.memory_bytes,
            cpu: machine.cpu.clone(),
            bios: resolved.bios.is_some(),
            append: machine.boot.append.clone(),
            modules: names,
            places: places(machine),
            rtc_epoch: resolved.rtc_epoch,
            icount_shift: machine.icount_shift,
            seed: resolved.seed,
            script: resolved.script,
        };
        let run = RunOptions {
            name: machine.name.clone(),
            engine: machine.engine,
            policy: resolved.policy,
            no_reboot: machine.no_reboot,
            trail: machine.trail.is_some(),
            hash_every_ns: nanoseconds(machine.hash_every),
            stats: machine.stats.is_some(),
            vtime_limit_ns: machine.vtime_limit.map(nanoseconds),
            debug: machine.debug.items.clone(),
        };
        Self {
            guest,
            run,
            bios: resolved.bios,
            kernel: resolved.kernel,
            modules,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always encodes")
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

impl GuestMachine {
    /// The bytes that a trail's head hashes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always encodes")
    }
}

/// Whether firmware can have so many bytes: whole blocks of 64 KiB, as the blocks of flash memory are, and no more than the end of
/// the address space below 4 GiB has room for.
pub fn is_bios_size(bytes: u64) -> bool {
    (1..=256).contains(&(bytes >> 16)) && bytes.is_multiple_of(1 << 16)
}

fn places(machine: &Machine) -> Vec<Place> {
    let serials = machine.serials.iter().map(|serial| Place {
        id: format!("serial{}", serial.index),
        kind: PlaceKind::Serial {
            index: serial.index,
        },
    });
    let drives = machine.drives.iter().map(|drive| Place {
        id: drive.id.clone(),
        kind: PlaceKind::VirtioBlk {
            pci_slot: drive.front.pci_slot,
            serial: drive.front.serial.clone(),
            readonly: drive.image.readonly,
            write_cache: drive.image.cache.write_cache(),
            discard: drive.image.discard,
        },
    });
    serials.chain(drives).collect()
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
