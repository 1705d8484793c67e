//! A machine while it is being described: whatever was said so far, from either spelling.
//!
//! Nothing is refused for being said twice: the later of two equal settings wins, so that flags
//! override the machine file, and lists grow. [`Draft::finish`] resolves names, fills in what was
//! not said and checks the whole.

use crate::chardev::SerialRequest;
use crate::cpu::CpuModel;
use crate::drive::{self, DriveRequest, Node};
use crate::machine::{
    Boot, CharBackend, Chardev, Cpu, Debug, Drive, Engine, FrontEnd, Machine, PolicyChoice,
    RtcBase, Seed, Serial,
};
use crate::problem::{Origin, Problems};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// What QEMU gives a PC that does not say: 128 MiB are too few for today's distributions.
const DEFAULT_MEMORY: u64 = 512 << 20;
const MEMORY_RANGE: std::ops::RangeInclusive<u64> = 16 << 20..=512 << 30;
/// The first device number for disks: 0 is the host bridge, 1 the chipset.
const FIRST_FREE_SLOT: u8 = 2;
/// VIRTIO_BLK_ID_BYTES (virtio 1.2, section 5.2.6).
const SERIAL_BYTES: usize = 20;
const COM_PORTS: u8 = 4;

/// A device in front of a drive, in the order in which it was written.
#[derive(Clone, Debug)]
pub(crate) enum FrontRequest {
    /// The drive's own, by its position among the drives.
    OfDrive(usize),
    Device(DeviceRequest),
}

/// What one `-device virtio-blk-pci` asks for.
#[derive(Clone, Debug)]
pub(crate) struct DeviceRequest {
    pub(crate) origin: Origin,
    pub(crate) id: Option<String>,
    pub(crate) drive: String,
    pub(crate) serial: Option<String>,
    pub(crate) pci_slot: Option<u8>,
    pub(crate) write_cache: Option<bool>,
    pub(crate) discard: Option<bool>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Draft {
    pub(crate) problems: Problems,
    /// Relative paths begin here: the machine file's folder while it is read.
    pub(crate) base: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) memory: Option<(Origin, u64)>,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) boot: Boot,
    pub(crate) append: Option<(Origin, String)>,
    pub(crate) drives: Vec<DriveRequest>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) fronts: Vec<FrontRequest>,
    pub(crate) chardevs: Vec<(Origin, Chardev)>,
    pub(crate) serials: Vec<(Origin, SerialRequest)>,
    pub(crate) no_defaults: bool,
    pub(crate) rtc: Option<RtcBase>,
    pub(crate) icount_shift: Option<u8>,
    /// What `-icount sleep=` implies, unless a policy is named.
    pub(crate) icount_policy: Option<PolicyChoice>,
    pub(crate) seed: Option<Seed>,
    pub(crate) policy: Option<PolicyChoice>,
    pub(crate) engine: Option<Engine>,
    pub(crate) no_reboot: bool,
    pub(crate) snapshot: bool,
    pub(crate) start_stopped: bool,
    pub(crate) debug: Debug,
    pub(crate) timeout: Option<Duration>,
    pub(crate) vtime_limit: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) script: Option<PathBuf>,
    pub(crate) stats: Option<PathBuf>,
    pub(crate) trail: Option<PathBuf>,
    pub(crate) hash_every: Option<(Origin, Duration)>,
}

impl Draft {
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine, or every problem that was found in it.
    ///
    /// # Errors
    /// All problems of the settings read so far and of the machine as a whole.
    pub fn finish(self) -> Result<Machine, Problems> {
        let (machine, problems) = self.describe();
        if problems.is_empty() {
            Ok(machine)
        } else {
            Err(problems)
        }
    }

    /// The machine as far as it was understood, with every problem: what is understood can still be looked at for more.
    pub fn describe(mut self) -> (Machine, Problems) {
        self.check_boot();
        let memory_bytes = self.checked_memory();
        let drives = self.resolve_drives();
        let (chardevs, serials) = self.resolve_serials();
        let default_cpu = Cpu {
            model: CpuModel::Atoll,
            features: Vec::new(),
        };
        let policy = self.policy.or(self.icount_policy);
        let hash_every = self.checked_hash_every();
        let machine = Machine {
            name: self.name.unwrap_or_else(|| "atoll".to_owned()),
            memory_bytes,
            cpu: self.cpu.unwrap_or(default_cpu),
            boot: self.boot,
            drives,
            chardevs,
            serials,
            rtc: self.rtc.unwrap_or(RtcBase::DEFAULT),
            icount_shift: self.icount_shift,
            seed: self.seed.unwrap_or(Seed::Fixed(0)),
            policy: policy.unwrap_or(PolicyChoice::Auto),
            engine: self.engine.unwrap_or_default(),
            no_reboot: self.no_reboot,
            start_stopped: self.start_stopped,
            debug: self.debug,
            timeout: self.timeout,
            vtime_limit: self.vtime_limit,
            grace: self.grace.unwrap_or(Duration::from_secs(10)),
            script: self.script,
            stats: self.stats,
            trail: self.trail,
            hash_every,
        };
        (machine, self.problems)
    }

    fn check_boot(&mut self) {
        let append = self.append.take();
        if self.boot.kernel.is_none() && self.boot.bios.is_none() {
            let message = "nothing to boot: name a kernel with -kernel FILE, or firmware with \
                           -bios FILE";
            self.problems.add(&Origin::Whole, message);
        }
        if let Some((origin, text)) = append {
            if text.contains('\0') {
                self.problems
                    .add(&origin, "the kernel command line holds a NUL");
            }
            self.boot.append = text;
        }
    }

    fn checked_hash_every(&mut self) -> Duration {
        let Some((origin, every)) = self.hash_every.take() else {
            return Duration::from_millis(100);
        };
        if self.trail.is_none() {
            let message = "hashes are written to a trail, and there is none; add --trail FILE";
            self.problems.add(&origin, message);
        }
        every
    }

    fn checked_memory(&mut self) -> u64 {
        let Some((origin, bytes)) = self.memory.take() else {
            return DEFAULT_MEMORY;
        };
        if !MEMORY_RANGE.contains(&bytes) {
            self.problems
                .add(&origin, "the memory must be between 16M and 512G");
            return DEFAULT_MEMORY;
        }
        if bytes % 4096 != 0 {
            self.problems
                .add(&origin, "the memory must be a multiple of 4K");
        }
        bytes
    }

    fn resolve_drives(&mut self) -> Vec<Drive> {
        let fronts = std::mem::take(&mut self.fronts);
        let mut used_drives = BTreeSet::new();
        let mut drives = Vec::new();
        for front in fronts {
            match front {
                FrontRequest::OfDrive(index) => {
                    used_drives.insert(index);
                    drives.push(self.own_device(index, drives.len()));
                }
                FrontRequest::Device(device) => {
                    let drive = self.named_device(&device, &mut used_drives, drives.len());
                    drives.extend(drive);
                }
            }
        }
        for (index, request) in self.drives.iter().enumerate() {
            if !used_drives.contains(&index) {
                let message = "no device uses this drive; add if=virtio or a -device that names it";
                self.problems.add(&request.origin, message);
            }
        }
        self.place_in_slots(drives)
    }

    fn own_device(&mut self, index: usize, count: usize) -> (Origin, Drive, Option<u8>) {
        let request = self.drives[index].clone();
        let id = request.id.unwrap_or_else(|| format!("disk{count}"));
        let mut image = request.image;
        image.snapshot |= self.snapshot;
        let serial = request.serial.unwrap_or_default();
        let front = FrontEnd {
            id: id.clone(),
            serial,
            pci_slot: 0,
        };
        (request.origin, Drive { id, image, front }, request.pci_slot)
    }

    fn named_device(
        &mut self,
        device: &DeviceRequest,
        used_drives: &mut BTreeSet<usize>,
        count: usize,
    ) -> Option<(Origin, Drive, Option<u8>)> {
        let named = |request: &DriveRequest| request.id.as_deref() == Some(&*device.drive);
        let found = self.drives.iter().position(named);
        let mut image = if let Some(index) = found {
            if !used_drives.insert(index) {
                let message = format!("drive \"{}\" already has a device", device.drive);
                self.problems.add(&device.origin, message);
            }
            self.drives[index].image.clone()
        } else if self.nodes.iter().any(|node| node.name == device.drive) {
            let write_cache = device.write_cache.unwrap_or(true);
            drive::image_of_node(&self.nodes, &device.drive, write_cache, &mut self.problems)?
        } else {
            let ids = self.drives.iter().filter_map(|drive| drive.id.as_deref());
            let nodes = self.nodes.iter().map(|node| node.name.as_str());
            let known: Vec<&str> = ids.chain(nodes).collect();
            self.problems
                .unknown(&device.origin, "drive", &device.drive, known);
            return None;
        };
        image.snapshot |= self.snapshot;
        image.discard = device.discard.unwrap_or(image.discard);
        let own_serial = found.and_then(|index| self.drives[index].serial.clone());
        let serial = device.serial.clone().or(own_serial).unwrap_or_default();
        let id = device.id.clone().unwrap_or_else(|| format!("disk{count}"));
        let front = FrontEnd {
            id,
            serial,
            pci_slot: 0,
        };
        let slot = device
            .pci_slot
            .or(found.and_then(|index| self.drives[index].pci_slot));
        Some((
            device.origin.clone(),
            Drive {
                id: device.drive.clone(),
                image,
                front,
            },
            slot,
        ))
    }

    /// Gives every device its number: the one that it asks for, else the next that is free.
    fn place_in_slots(&mut self, drives: Vec<(Origin, Drive, Option<u8>)>) -> Vec<Drive> {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (origin, drive, slot) in &drives {
            if !ids.insert(drive.id.clone()) {
                self.problems
                    .add(origin, format!("the id \"{}\" is used twice", drive.id));
            }
            if drive.front.serial.len() > SERIAL_BYTES {
                self.problems
                    .add(origin, "the serial number has more than 20 bytes");
            }
            if let Some(slot) = slot
                && (*slot < FIRST_FREE_SLOT || !taken.insert(*slot))
            {
                self.problems
                    .add(origin, format!("addr: PCI device {slot:#x} is taken"));
            }
        }
        let mut placed = Vec::new();
        for (origin, mut drive, slot) in drives {
            let free = (FIRST_FREE_SLOT..32).find(|free| !taken.contains(free));
            let Some(slot) = slot.or(free) else {
                self.problems.add(&origin, "no PCI device number is free");
                break;
            };
            taken.insert(slot);
            drive.front.pci_slot = slot;
            placed.push(drive);
        }
        placed
    }

    fn resolve_serials(&mut self) -> (Vec<Chardev>, Vec<Serial>) {
        let mut chardevs = Vec::new();
        let mut seen = BTreeSet::new();
        for (origin, chardev) in std::mem::take(&mut self.chardevs) {
            if !seen.insert(chardev.id.clone()) {
                self.problems
                    .add(&origin, format!("the id \"{}\" is used twice", chardev.id));
            }
            chardevs.push(chardev);
        }
        let mut requests = std::mem::take(&mut self.serials);
        if requests.is_empty() && !self.no_defaults {
            requests.push((Origin::Whole, SerialRequest::Own(CharBackend::Stdio)));
        }
        let mut serials = Vec::new();
        let mut users = BTreeSet::new();
        for (index, (origin, request)) in (0u8..).zip(requests) {
            if index >= COM_PORTS {
                self.problems.add(&origin, "a PC has four serial ports");
                break;
            }
            let id = match request {
                SerialRequest::Absent => continue,
                SerialRequest::Named(id) => id,
                SerialRequest::Own(backend) => {
                    let id = format!("serial{index}");
                    chardevs.push(Chardev {
                        id: id.clone(),
                        backend,
                    });
                    id
                }
            };
            if !chardevs.iter().any(|chardev| chardev.id == id) {
                let known: Vec<&str> = chardevs.iter().map(|c| c.id.as_str()).collect();
                self.problems.unknown(&origin, "chardev", &id, known);
                continue;
            }
            if !users.insert(id.clone()) {
                self.problems.add(
                    &origin,
                    format!("chardev \"{id}\" already has a serial port"),
                );
            }
            serials.push(Serial { index, chardev: id });
        }
        let stdio = chardevs
            .iter()
            .filter(|c| c.backend == CharBackend::Stdio)
            .count();
        if stdio > 1 {
            self.problems
                .add(&Origin::Whole, "only one character device can have stdio");
        }
        (chardevs, serials)
    }
}
