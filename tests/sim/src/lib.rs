//! A whole machine in one process: the real CPU, engine, board and models, with back ends and a world outside of a few lines.
//!
//! Tests use it where processes would only be in the way: determinism, faults by seed, engines against each other. It is not
//! how Atoll runs; `tests/guests` tests that.
#![forbid(unsafe_code)]

pub mod hostile;

use std::sync::{Arc, Mutex};

use atoll_jit::{Engine, Mode, Tier};
use atoll_machine::{Backends, Lost, pc};
use atoll_mmu::{Mmu, Ram};
use atoll_x86::Cpu;
use atoll_x86::system::Model;
use cpu_worker::boot::{self, Images};
use cpu_worker::ram_hash::RamHash;
use cpu_worker::{Inputs, Machine, Options, Outside, Stopped};
use device_core::{BlockRequest, Request, Status};
use machine_spec::{CpuModel, GuestMachine, Place, PlaceKind, ScriptStep};

/// What a machine is made of.
#[derive(Debug)]
pub struct Config {
    pub memory_bytes: u64,
    pub cpu: CpuModel,
    pub kernel: Vec<u8>,
    pub initrd: Vec<u8>,
    pub append: String,
    /// The contents of a virtio disk, if there is one.
    pub disk: Option<Vec<u8>>,
    pub script: Vec<ScriptStep>,
    pub engine: Mode,
    /// Translate in line what was started so often, by one tier, instead of behind the guest's back: for programs that are too
    /// short to become hot.
    pub inline: Option<(u32, Tier)>,
    pub vtime_limit_ns: Option<u64>,
    /// How often the trail has a point.
    pub hash_every_ns: Option<u64>,
    /// Called with what the guest prints.
    pub echo: Option<fn(&[u8])>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            memory_bytes: 256 << 20,
            cpu: CpuModel::Atoll,
            kernel: Vec::new(),
            initrd: Vec::new(),
            append: String::new(),
            disk: None,
            script: Vec::new(),
            engine: Mode::Interp,
            inline: None,
            vtime_limit_ns: None,
            hash_every_ns: None,
            echo: None,
        }
    }
}

/// What became of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub stopped: Stopped,
    pub instructions: u64,
    pub now_ns: u64,
    pub hash: [u8; 32],
    pub trail: Vec<String>,
    pub console: Vec<u8>,
    pub disk: Vec<u8>,
    /// The models that panicked.
    pub faulted: Vec<String>,
}

/// Back ends in memory. A request takes effect when it is issued; its reply waits for its T.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Store>>);

#[derive(Debug, Default)]
struct Store {
    console: Vec<u8>,
    disk: Vec<u8>,
    replies: std::collections::BTreeMap<u64, (Status, Vec<u8>)>,
    next: u64,
    echo: Option<fn(&[u8])>,
}

impl Store {
    fn range(&self, sector: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(sector).ok()?.checked_mul(512)?;
        let end = start.checked_add(len)?;
        (end <= self.disk.len()).then_some(start..end)
    }

    fn serve(&mut self, request: &BlockRequest<&[u8]>) -> (Status, Vec<u8>) {
        let done = match *request {
            BlockRequest::Read { sector, len } => match self.range(sector, len as usize) {
                Some(range) => return (Status::Ok, self.disk[range].to_vec()),
                None => None,
            },
            BlockRequest::Write { sector, data, .. } => self
                .range(sector, data.len())
                .map(|range| self.disk[range].copy_from_slice(data)),
            BlockRequest::WriteZeroes {
                sector, sectors, ..
            } => self
                .range(sector, sectors as usize * 512)
                .map(|range| self.disk[range].fill(0)),
            BlockRequest::Flush | BlockRequest::Discard { .. } => Some(()),
        };
        let status = if done.is_some() {
            Status::Ok
        } else {
            Status::Io
        };
        (status, Vec::new())
    }
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.0
            .lock()
            .expect("one thread, which does not panic under the lock")
    }
}

impl Backends for Memory {
    fn submit(&mut self, _place: u16, _issued_ns: u64, request: &Request<&[u8]>) -> u64 {
        let mut store = self.lock();
        let reply = match request {
            Request::Block(block) => store.serve(block),
            Request::CharOut(_) | Request::Frame(_) => (Status::Unsupported, Vec::new()),
        };
        let ticket = store.next;
        store.next += 1;
        store.replies.insert(ticket, reply);
        ticket
    }

    fn post(&mut self, _place: u16, _issued_ns: u64, request: &Request<&[u8]>) {
        if let Request::CharOut(bytes) = request {
            let mut store = self.lock();
            store.console.extend_from_slice(bytes);
            if let Some(echo) = store.echo {
                echo(bytes);
            }
        }
    }

    fn reply(&mut self, place: u16, ticket: u64, data: &mut Vec<u8>) -> Result<Status, Lost> {
        let (status, bytes) = self.lock().replies.remove(&ticket).ok_or(Lost { place })?;
        *data = bytes;
        Ok(status)
    }
}

/// A closed machine's world: nothing comes in, idle time is skipped, the trail is kept.
#[derive(Debug, Default)]
struct Closed {
    trail: Vec<String>,
}

impl Outside for Closed {
    fn poll(&mut self, _now_ns: u64, _room: &dyn Fn(u16) -> usize) -> Inputs {
        Inputs::default()
    }
    fn horizon(&mut self, _now_ns: u64) -> u64 {
        u64::MAX
    }
    fn idle(&mut self, now_ns: u64, next_ns: Option<u64>) -> u64 {
        // With nothing due at all, time goes on in steps until the limit of the run ends it.
        next_ns.unwrap_or(now_ns + 1_000_000_000)
    }
    fn publish(&mut self, _now_ns: u64, _instructions: u64) {}
    fn record(&mut self, line: &str) {
        self.trail.push(line.to_owned());
    }
}

/// Builds the machine and runs it to its end.
///
/// # Panics
/// If the kernel cannot be booted: tests bring good ones.
pub fn run(config: Config) -> Outcome {
    run_with_stats(config).0
}

/// As [`run`], and gives the engine's figures as well.
pub fn run_with_stats(config: Config) -> (Outcome, atoll_jit::Stats) {
    let (mut machine, memory) = build(config);
    let mut outside = Closed::default();
    let stopped = machine.run(&mut outside);
    let hash = machine.final_hash(&mut || ());
    let stats = machine.engine.stats();
    let seats = cpu_worker::vcpu::board(&mut machine.cpu).seats();
    let faulted = seats
        .iter()
        .filter(|seat| seat.faulted)
        .map(|seat| seat.id.clone())
        .collect();
    let store = memory.lock();
    let outcome = Outcome {
        stopped,
        instructions: machine.instructions(),
        now_ns: machine.now_ns(),
        hash,
        trail: outside.trail,
        console: store.console.clone(),
        disk: store.disk.clone(),
        faulted,
    };
    (outcome, stats)
}

/// What RAM hashes to at the end of a run: as the trail keeps it, by the pages that were written, and all of it looked at.
pub fn ram_hashes(config: Config) -> (String, String) {
    let everything = (0, config.memory_bytes);
    let (mut machine, _memory) = build(config);
    machine.run(&mut Closed::default());
    let point: serde_json::Value =
        serde_json::from_str(&machine.trail_record()).expect("a trail is lines of JSON");
    let kept = point["ram"].as_str().expect("a point has a hash of RAM");
    let whole = RamHash::of(machine.cpu.mmu.ram(), &[everything], &mut || ()).finish();
    let hex = whole.iter().map(|byte| format!("{byte:02x}")).collect();
    (kept.to_owned(), hex)
}

/// The machine at its first instruction, for who drives it alone.
///
/// # Panics
/// As [`run`].
pub fn machine(config: Config) -> Machine {
    build(config).0
}

fn build(config: Config) -> (Machine, Memory) {
    let guest = guest(&config);
    let memory = Memory::default();
    let mut disks = vec![None];
    if let Some(disk) = config.disk {
        disks.push(Some(pc::Disk {
            size_bytes: disk.len() as u64,
            block_bytes: 512,
            read_only: false,
            discard: true,
        }));
        memory.lock().disk = disk;
    }
    memory.lock().echo = config.echo;
    let ram = Ram::anonymous(config.memory_bytes);
    let board = pc::build(&guest, ram.clone(), None, Box::new(memory.clone()), &disks);
    let model = Model::named(guest.cpu.model.name()).expect("every name is a model");
    let mut cpu = Cpu::new(model, Mmu::new(ram), Box::new(board));
    cpu.state.clock.charges = 1;
    let images = Images {
        kernel: config.kernel,
        modules: guest
            .modules
            .iter()
            .map(|_| config.initrd.clone())
            .collect(),
    };
    boot::boot(&mut cpu, &images, &guest).unwrap_or_else(|error| panic!("{error}"));
    let reboot = Box::new(move |cpu: &mut Cpu| {
        boot::boot(cpu, &images, &guest).expect("the same images were booted before");
        Ok(())
    });
    let bytes = config.memory_bytes;
    let options = Options {
        no_reboot: true,
        vtime_limit_ns: config.vtime_limit_ns,
        hash_every_ns: config.hash_every_ns,
    };
    let machine = Machine::new(
        cpu,
        match config.inline {
            Some((threshold, tier)) => Engine::inline(threshold, tier),
            None => Engine::new(config.engine),
        },
        reboot,
        Box::new(move || vec![(0, bytes)]),
        options,
    );
    (machine, memory)
}

fn guest(config: &Config) -> GuestMachine {
    let mut places = vec![Place {
        id: "serial0".into(),
        kind: PlaceKind::Serial { index: 0 },
    }];
    if config.disk.is_some() {
        places.push(Place {
            id: "disk0".into(),
            kind: PlaceKind::VirtioBlk {
                pci_slot: 3,
                serial: "sim".into(),
                readonly: false,
                write_cache: true,
                discard: true,
            },
        });
    }
    GuestMachine {
        version: 1,
        memory_bytes: config.memory_bytes,
        cpu: machine_spec::Cpu {
            model: config.cpu,
            features: Vec::new(),
        },
        bios: false,
        append: config.append.clone(),
        modules: if config.initrd.is_empty() {
            Vec::new()
        } else {
            vec!["initrd".into()]
        },
        places,
        rtc_epoch: 1_700_000_000,
        icount_shift: None,
        seed: 1,
        script: config.script.clone(),
    }
}
