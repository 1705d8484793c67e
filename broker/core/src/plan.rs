//! What a machine means in processes, links and interrupt routes.
//!
//! Each place of the machine file gets one link and one process behind it. The order of places is the order of links, which is what the
//! worker goes by.

use crate::event::Setup;
use crate::peer::{Origin, PeerSetup};
use crate::policy::Care;
use atoll_abi::config::{
    BlockConfig, CacheMode, CharConfig, CharKind, Config, ImageFormat, WorkerConfig, WorkerLink,
};
use atoll_abi::control::Role;
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::route::{ROUTES, Route, RouteKind};
use atoll_abi::{LinkId, PeerId, VirtualTime, clock};
use machine_spec::{
    CharBackend, Drive, Image, Machine, Place, PlaceKind, Policy, Resolved, WorkerMachine,
};

/// The worker's index among the peers; 0 is the broker.
const WORKER: PeerId = PeerId::new(1, 0);
/// The name by which a worker that somebody else starts introduces itself.
const WORKER_NAME: &str = "worker";

/// A machine that cannot be cut into processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError(pub String);

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One link, and what the process behind it is told.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    pub id: LinkId,
    pub kind: LinkKind,
    pub geometry: LinkGeometry,
    /// The place's id in the machine file.
    pub name: String,
    pub config: Config,
    /// It gets the files that the machine's owner handed over for his own standard input and output.
    pub wants_console: bool,
}

/// A machine, cut into processes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub worker: WorkerMachine,
    pub policy: clock::Policy,
    /// By place. The peer behind `links[i]` is `peers[i + 1]` of the setup.
    pub links: Vec<LinkPlan>,
    pub routes: Vec<Route>,
}

impl Plan {
    /// The plan of a machine.
    pub fn new(machine: &Machine, resolved: Resolved) -> Result<Self, PlanError> {
        let policy = match resolved.policy {
            Policy::Exact => clock::Policy::Exact,
            Policy::Paced => clock::Policy::Paced,
        };
        let worker = WorkerMachine::new(machine, resolved);
        let places = &worker.guest.places;
        let links = (0..)
            .zip(places)
            .map(|(id, place)| link(machine, place, LinkId(id)))
            .collect::<Result<Vec<_>, _>>()?;
        let routes = routes(places)?;
        Ok(Self {
            worker,
            policy,
            links,
            routes,
        })
    }

    /// The peers, for the state machine. `is_external` says of a name whether somebody else starts it.
    pub fn setup(&self, machine: &Machine, is_external: impl Fn(&str) -> bool) -> Setup {
        let peer = |role, name: &str, link, wait| PeerSetup {
            role,
            name: name.to_owned(),
            origin: if is_external(name) {
                Origin::External
            } else {
                Origin::Spawned
            },
            care: care(role, wait),
            link,
            awaits_console: wait,
        };
        let worker = peer(Role::Worker, WORKER_NAME, None, false);
        let servers = self
            .links
            .iter()
            .map(|link| peer(link.role(), &link.name, Some(link.id), link.waits()));
        Setup {
            peers: std::iter::once(worker).chain(servers).collect(),
            grace: machine.grace,
            timeout: machine.timeout,
            start_stopped: machine.start_stopped,
        }
    }

    /// What the worker is told.
    pub fn worker_config(&self) -> WorkerConfig {
        let link = |link: &LinkPlan| WorkerLink {
            link: link.id,
            kind: link.kind,
            name: link.name.clone(),
            generation: 0,
        };
        WorkerConfig {
            machine: self.worker.to_bytes(),
            links: self.links.iter().map(link).collect(),
            policy: self.policy,
            start: VirtualTime::ZERO,
        }
    }
}

impl LinkPlan {
    fn role(&self) -> Role {
        match self.config {
            Config::Block(_) => Role::Block,
            Config::Char(_) => Role::Char,
            Config::Seat(_) | Config::Worker(_) => Role::Seat,
        }
    }

    fn waits(&self) -> bool {
        matches!(
            &self.config,
            Config::Char(CharConfig {
                kind: CharKind::UnixServer { wait: true, .. },
                ..
            })
        )
    }
}

/// A process that waits for somebody to connect may wait for ever.
fn care(role: Role, wait: bool) -> Care {
    let care = Care::of(role);
    Care {
        start_within: care.start_within.filter(|_| !wait),
        ..care
    }
}

fn link(machine: &Machine, place: &Place, id: LinkId) -> Result<LinkPlan, PlanError> {
    let (kind, config) = match &place.kind {
        PlaceKind::Serial { index } => (
            LinkKind::Char,
            Config::Char(char_config(machine, *index, &place.id)?),
        ),
        PlaceKind::VirtioBlk { .. } => (
            LinkKind::Block,
            Config::Block(block_config(machine, &place.id)?),
        ),
    };
    let wants_console = matches!(
        &config,
        Config::Char(CharConfig {
            kind: CharKind::Stdio { .. },
            ..
        })
    );
    Ok(LinkPlan {
        id,
        kind,
        geometry: LinkGeometry::default_for(kind),
        name: place.id.clone(),
        config,
        wants_console,
    })
}

fn char_config(machine: &Machine, index: u8, label: &str) -> Result<CharConfig, PlanError> {
    let serial = machine.serials.iter().find(|serial| serial.index == index);
    let chardev = serial.and_then(|serial| {
        machine
            .chardevs
            .iter()
            .find(|chardev| chardev.id == serial.chardev)
    });
    let chardev = chardev.ok_or_else(|| PlanError(format!("{label} has no character device")))?;
    let kind = match &chardev.backend {
        CharBackend::Stdio => CharKind::Stdio {
            signal_to_guest: true,
        },
        CharBackend::Pty => CharKind::Pty,
        CharBackend::Unix { path, wait } => CharKind::UnixServer {
            path: text(path)?,
            wait: *wait,
        },
        CharBackend::File { path, append } => CharKind::File {
            path: text(path)?,
            append: *append,
        },
        CharBackend::Null => CharKind::Null,
    };
    Ok(CharConfig {
        kind,
        label: label.to_owned(),
    })
}

fn block_config(machine: &Machine, id: &str) -> Result<BlockConfig, PlanError> {
    let drive = machine.drives.iter().find(|drive| drive.id == id);
    let Drive { image, .. } =
        drive.ok_or_else(|| PlanError(format!("there is no drive '{id}'")))?;
    Ok(BlockConfig {
        path: text(&image.path)?,
        format: match image.format {
            machine_spec::ImageFormat::Raw => ImageFormat::Raw,
            machine_spec::ImageFormat::Qcow2 => ImageFormat::Qcow2,
        },
        read_only: image.readonly,
        cache: cache(image),
        snapshot: image.snapshot,
        discard: image.discard,
        detect_zeroes: false,
        backing_allowed: image
            .backing
            .iter()
            .map(|path| text(path))
            .collect::<Result<_, _>>()?,
        lock: true,
        label: id.to_owned(),
    })
}

fn cache(image: &Image) -> CacheMode {
    match image.cache {
        machine_spec::CacheMode::Writeback => CacheMode::Writeback,
        machine_spec::CacheMode::Writethrough => CacheMode::Writethrough,
        machine_spec::CacheMode::None => CacheMode::None,
        machine_spec::CacheMode::Directsync => CacheMode::Directsync,
        machine_spec::CacheMode::Unsafe => CacheMode::Unsafe,
    }
}

/// The wire has paths as text.
fn text(path: &std::path::Path) -> Result<String, PlanError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| PlanError(format!("the path '{}' is not UTF-8", path.display())))
}

/// Vectors of a virtio-blk function: one for its configuration, one for its queue.
const BLOCK_VECTORS: u16 = 2;

/// Who may raise what. All models sit in the worker, so it owns every row.
fn routes(places: &[Place]) -> Result<Vec<Route>, PlanError> {
    let row = |device, kind, source, input| Route {
        kind,
        device,
        source,
        input,
        owner: WORKER,
    };
    let mut routes = Vec::new();
    for (device, place) in (0..).zip(places) {
        match &place.kind {
            PlaceKind::Serial { index } => {
                // COM1 and COM3 share ISA interrupt 4, COM2 and COM4 interrupt 3, as on every PC.
                routes.push(row(
                    device,
                    RouteKind::Edge,
                    0,
                    if index % 2 == 0 { 4 } else { 3 },
                ));
            }
            PlaceKind::VirtioBlk { pci_slot, .. } => {
                routes.push(row(device, RouteKind::Level, 0, pci_input(*pci_slot)));
                routes.extend(
                    (0..BLOCK_VECTORS).map(|vector| row(device, RouteKind::Msi, vector, 0)),
                );
            }
        }
    }
    if routes.len() > ROUTES {
        return Err(PlanError(format!(
            "{} interrupt routes are more than a machine has ({ROUTES})",
            routes.len()
        )));
    }
    Ok(routes)
}

/// The I/O APIC input of INTA of a device on PCI bus 0, in machine version 1.
fn pci_input(slot: u8) -> u32 {
    16 + u32::from(slot & 7)
}
