//! The process: handshake with the broker, construction of the machine, the run, the exit report.

use anyhow::{Context, bail};
use atoll_abi::block::DiskFlags;
use atoll_abi::config::{Config, WorkerConfig};
use atoll_abi::control::{
    Attach, Control, ExitReport, Fault, FaultKind, Hello, LogLevel, LogRecord, Role, SegmentRole,
};
use atoll_abi::exit::ExitReason;
use atoll_abi::{ABI_VERSION, VirtualTime};
use atoll_jit::{Engine, Mode};
use atoll_machine::{map, pc};
use atoll_mmu::{Mmu, Ram, RamBuilder};
use atoll_transport::attach::Incoming;
use atoll_transport::{GuestRam, LinkClient, Session, SessionSender, process};
use atoll_x86::Cpu;
use atoll_x86::features::Features;
use atoll_x86::system::Model;
use machine_spec::{Blob, DebugItem, GuestMachine, PlaceKind, WorkerMachine};

use crate::boot::{self, Files, FilesChanged, Images};
use crate::control::Wire;
use crate::debug::DebugLog;
use crate::links::{Links, SharedLinks};
use crate::outside::Broker;
use crate::stats;
use crate::trail::Trail;
use crate::vcpu::{Machine, Options, Stopped, board};

/// Everything from the arguments to the exit report.
///
/// # Errors
/// When the broker cannot be reached, refuses, or breaks the protocol. A machine that ends, however it ends, is no error.
pub fn main(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut session = connect(arguments)?;
    let (attach, fds) = handshake(&mut session)?;
    let Config::Worker(config) = attach.config.clone() else {
        bail!("the broker attached this worker as another kind of peer");
    };
    let sender = session.sender()?;
    match Worker::build(&config, &attach, fds, session) {
        Ok(worker) => worker.run(&sender),
        Err(error) => {
            let fault = Fault {
                kind: FaultKind::Config,
                what: format!("{error:#}"),
            };
            sender.send(&Control::Fault(fault))?;
            Err(error)
        }
    }
}

fn connect(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Session> {
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--session-fd"), Some(fd)) => {
            let fd = fd
                .parse()
                .with_context(|| format!("--session-fd {fd} is not a number"))?;
            Ok(Session::from_fd(process::take_inherited(fd)?))
        }
        (Some("--socket"), Some(path)) => {
            Session::connect(path.as_ref()).with_context(|| format!("no broker listens at {path}"))
        }
        _ => bail!(
            "usage: cpu-worker --session-fd N | --socket PATH (the broker starts it; see `atoll run`)"
        ),
    }
}

fn handshake(session: &mut Session) -> anyhow::Result<(Attach, Vec<std::os::fd::OwnedFd>)> {
    session.send(&Control::Hello(Hello {
        abi_version: ABI_VERSION,
        role: Role::Worker,
        pid: std::process::id(),
        binary: env!("CARGO_PKG_VERSION").into(),
        name: "worker".into(),
    }))?;
    loop {
        let Some(message) = session.recv(None)? else {
            continue;
        };
        match message.control {
            Control::Welcome { .. } => {}
            Control::Attach(attach) => return Ok((attach, message.fds)),
            Control::Refused { reason } => bail!("the broker refused this worker: {reason}"),
            other => bail!("the broker sent {other:?} before the attach message"),
        }
    }
}

/// A worker that is ready to run.
struct Worker {
    machine: Machine,
    links: SharedLinks,
    head: String,
    wants_trail: bool,
    debug: Vec<DebugItem>,
}

impl Worker {
    fn build(
        config: &WorkerConfig,
        attach: &Attach,
        fds: Vec<std::os::fd::OwnedFd>,
        receiving: Session,
    ) -> anyhow::Result<Worker> {
        let spec = WorkerMachine::from_bytes(&config.machine)
            .context("the machine description is malformed")?;
        if spec.guest.version != WorkerMachine::VERSION {
            bail!(
                "the machine is of version {}, this worker builds version {}",
                spec.guest.version,
                WorkerMachine::VERSION
            );
        }
        let mut incoming = Incoming::new(attach, fds);
        let memory = incoming.guest_ram()?;
        let bell = incoming.worker_bell()?;
        let clock = incoming.page(SegmentRole::Clock)?;
        let links = incoming.links(Some(&bell))?;
        let ids = links.iter().map(|(desc, _)| desc.link).collect();
        let clients = links
            .into_iter()
            .map(|(_, memory)| LinkClient::new(memory))
            .collect::<Result<Vec<_>, _>>()?;
        let wire = Wire::new(clock, &bell, ids, receiving);
        let links = SharedLinks::new(Links::new(clients, wire)?);

        let mut image = |blob: &Blob, what: &str| {
            let found = incoming.blob(blob.index);
            found.with_context(|| format!("the {what} is missing"))
        };
        let bios = spec.bios.as_ref().map(|blob| image(blob, "firmware"));
        let bios = bios.transpose()?.map(|bytes| boot::copy(&bytes));
        let bios = bios.transpose()?.unwrap_or_default();
        if spec.guest.bios && !machine_spec::is_bios_size(bios.len() as u64) {
            bail!("firmware cannot have {} bytes", bios.len());
        }
        let kernel = spec.kernel.as_ref().map(|blob| image(blob, "kernel"));
        let modules = spec.modules.iter().map(|blob| image(blob, "module"));
        let modules = modules.collect::<Result<Vec<_>, _>>()?;
        if modules.len() != spec.guest.modules.len() {
            bail!("there are not as many modules as names for them");
        }
        let (files, images) = Files::new(kernel.transpose()?, modules)?;
        let head = Trail::head(&spec.guest.to_bytes(), &bios, &images);
        let ram = guest_ram(&spec.guest, &memory, &bios)?;
        let machine = build_machine(&spec, ram, &memory, files, &images, &links)?;
        Ok(Worker {
            machine,
            links,
            head,
            wants_trail: spec.run.trail,
            debug: spec.run.debug,
        })
    }

    fn run(mut self, session: &SessionSender) -> anyhow::Result<()> {
        session.send(&Control::Ready)?;
        let trail = session.clone();
        let mut record: Box<dyn FnMut(&str)> = match self.wants_trail {
            // A broker that is gone is noticed by the reading thread; a record that cannot be sent is lost with it.
            true => {
                Box::new(move |line| drop(trail.send(&Control::Trail(line.as_bytes().to_vec()))))
            }
            false => Box::new(|_| {}),
        };
        record(&self.head);
        if !self.debug.is_empty() {
            let debug = session.clone();
            let sink = Box::new(move |text| {
                drop(debug.send(&Control::Log(LogRecord {
                    level: LogLevel::Debug,
                    at: None,
                    text,
                })));
            });
            let log = DebugLog::new(&self.debug, &mut self.machine.cpu, sink);
            self.machine.log_to(log);
        }
        let mut outside = Broker::new(self.links.clone(), record);
        let stopped = self.machine.run(&mut outside);
        let now_ns = self.machine.now_ns();
        self.links.lock().drain(now_ns);
        let report = self.report(stopped);
        if self.links.lock().wire().hung_up() {
            bail!("the broker is gone");
        }
        session.send(&Control::ExitReport(report))?;
        Ok(())
    }

    fn report(&mut self, stopped: Stopped) -> ExitReport {
        let (reason, detail) = match stopped {
            Stopped::PowerOff => (ExitReason::PowerOff, String::new()),
            Stopped::Reset => (
                ExitReason::Reset,
                "the guest reset the machine, and -no-reboot was given".into(),
            ),
            Stopped::TripleFault => (ExitReason::TripleFault, self.triple_fault()),
            Stopped::DeviceLost(place) => (
                ExitReason::DeviceLost,
                format!("the back end of place {place} is gone"),
            ),
            Stopped::VirtualDeadline => (ExitReason::VirtualDeadline, String::new()),
            Stopped::Halted => (
                ExitReason::Halted,
                "the guest waits with interrupts off and nothing can wake it".into(),
            ),
            Stopped::FilesChanged => (
                ExitReason::Internal,
                "the kernel that the broker keeps for a reset is not the one that was booted"
                    .into(),
            ),
            Stopped::Asked => (ExitReason::Terminated, String::new()),
        };
        // A guest that ends by itself in the middle of a script did not do what it was asked.
        let unmet = board(&mut self.machine.cpu).unmet_script();
        let (reason, detail) = match (reason, unmet) {
            (ExitReason::PowerOff | ExitReason::Halted, Some(text)) => {
                let waited = format!("the script waited for \"{text}\" when the machine ended");
                (ExitReason::ScriptFailed, waited)
            }
            (reason, _) => (reason, detail),
        };
        let links = self.links.clone();
        let final_hash = self.machine.final_hash(&mut || links.lock().wire().beat());
        let stats = stats::json(&mut self.machine, &self.links);
        ExitReport {
            reason,
            detail,
            now: VirtualTime(self.machine.now_ns()),
            instructions: self.machine.instructions(),
            final_hash,
            stats,
        }
    }

    fn triple_fault(&self) -> String {
        let state = &self.machine.cpu.state;
        format!(
            "at RIP {:#x}, CR2 {:#x}, CR3 {:#x}",
            state.rip(),
            state.cr2,
            state.cr3
        )
    }
}

fn build_machine(
    spec: &WorkerMachine,
    ram: Ram,
    memory: &GuestRam,
    files: Files,
    images: &Images,
    links: &SharedLinks,
) -> anyhow::Result<Machine> {
    let guest = &spec.guest;
    let mut disks = Vec::new();
    for (place, spec) in guest.places.iter().enumerate() {
        disks.push(match spec.kind {
            PlaceKind::VirtioBlk { .. } => Some(disk(links, place as u16)?),
            PlaceKind::Serial { .. } => None,
        });
    }
    let fw_cfg = images.fw_cfg(guest)?;
    let board = pc::build(guest, ram.clone(), fw_cfg, Box::new(links.clone()), &disks);
    let mut cpu = Cpu::new(cpu_model(guest)?, Mmu::new(ram), Box::new(board));
    let clock = &mut cpu.state.clock;
    clock.shift = u32::from(guest.icount_shift.unwrap_or(0));
    clock.charges = u32::from(guest.icount_shift.is_none());
    boot::boot(&mut cpu, images, guest)?;
    let plan = guest.clone();
    // Where a reset ends the run, nobody needs them again, and they are as large as half of what the worker has beside RAM.
    let files = (!spec.run.no_reboot).then_some(files);
    let reboot = Box::new(move |cpu: &mut Cpu| {
        if plan.bios {
            return Ok(());
        }
        let images = files.as_ref().ok_or(FilesChanged)?.read()?;
        boot::boot(cpu, &images, &plan).expect("the same images were booted before");
        Ok(())
    });
    let memory = memory.clone();
    let touched = Box::new(move || touched(&memory));
    let options = Options {
        no_reboot: spec.run.no_reboot,
        vtime_limit_ns: spec.run.vtime_limit_ns,
        hash_every_ns: spec
            .run
            .trail
            .then_some(spec.run.hash_every_ns)
            .filter(|every| *every > 0),
    };
    Ok(Machine::new(
        cpu,
        Engine::new(engine_mode(spec.run.engine)),
        reboot,
        touched,
        options,
    ))
}

/// Guest RAM at its guest-physical places, and the firmware's ROM: it ends at 4 GiB, and its end is seen below 1 MiB too (QEMU's
/// `isa-bios`), where the host bridge shows ROM.
fn guest_ram(guest: &GuestMachine, memory: &GuestRam, bios: &[u8]) -> anyhow::Result<Ram> {
    if memory.len() as u64 != guest.memory_bytes {
        bail!(
            "the RAM segment has {} bytes, the machine {}",
            memory.len(),
            guest.memory_bytes
        );
    }
    let (low, high) = map::split_ram(guest.memory_bytes);
    let mut builder = RamBuilder::new();
    builder.shared(0, memory, 0, low);
    if high > 0 {
        builder.shared(map::HIGH_RAM, memory, low, high);
    }
    let rom = (!bios.is_empty()).then(|| {
        builder.rom(map::HIGH_RAM - bios.len() as u64, bios);
        let below = map::BIOS_BELOW_1M.min(bios.len() as u64);
        map::HIGH_RAM - below..map::HIGH_RAM
    });
    let shadow = map::SHADOW.end - map::SHADOW.start;
    builder.shadow(map::SHADOW.start, shadow, rom);
    Ok(builder.build())
}

/// The ranges of guest-physical memory that were ever touched, as (address, length).
fn touched(memory: &GuestRam) -> Vec<(u64, u64)> {
    let (low, _) = map::split_ram(memory.len() as u64);
    let place = |(offset, len): (u64, u64)| {
        let below = low.saturating_sub(offset).min(len);
        let first = (below > 0).then_some((offset, below));
        let rest = (len > below).then(|| (map::HIGH_RAM + (offset + below - low), len - below));
        [first, rest].into_iter().flatten()
    };
    memory.data_ranges().into_iter().flat_map(place).collect()
}

/// Asks the back end of the disk at `place` what it has.
fn disk(links: &SharedLinks, place: u16) -> anyhow::Result<pc::Disk> {
    let info = links.lock().disk_info(place);
    let info =
        info.with_context(|| format!("the back end of the disk at place {place} did not answer"))?;
    Ok(pc::Disk {
        size_bytes: info.size_bytes,
        block_bytes: info.block_bytes,
        read_only: info.flags.contains(DiskFlags::READ_ONLY),
        discard: info.flags.contains(DiskFlags::DISCARD),
    })
}

/// The CPU that the guest sees.
fn cpu_model(guest: &GuestMachine) -> anyhow::Result<Model> {
    let name = guest.cpu.model.name();
    let mut model =
        Model::named(name).with_context(|| format!("there is no CPU model named {name}"))?;
    for feature in &guest.cpu.features {
        let Some(bit) = Features::named(&feature.name) else {
            bail!("the CPU has no feature named {}", feature.name);
        };
        model.features.set(bit, feature.on);
    }
    for (i, word) in model.seed.iter_mut().enumerate() {
        *word = word.wrapping_add(guest.seed.wrapping_mul(2 * i as u64 + 1));
    }
    Ok(model)
}

fn engine_mode(engine: machine_spec::Engine) -> Mode {
    match engine {
        machine_spec::Engine::Interp => Mode::Interp,
        machine_spec::Engine::Jit => Mode::Jit,
        machine_spec::Engine::Lockstep => Mode::Lockstep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_x86::system::models;
    use machine_spec::cpu::{CpuModel, FEATURES};

    /// A user's names and the engine's are two lists in two crates that do not know each other.
    #[test]
    fn the_names_that_users_write_are_the_engines() {
        assert_eq!(CpuModel::ALL.map(CpuModel::name).as_slice(), models::NAMES);
        let mut named = Features::empty();
        for feature in FEATURES {
            let bit = Features::named(feature.name);
            assert_eq!(bit.is_some(), feature.offered, "{}", feature.name);
            named |= bit.unwrap_or_default();
        }
        assert_eq!(Features::IMPLEMENTED.difference(named), Features::empty());
    }
}
