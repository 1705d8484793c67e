//! The memory of a machine: every segment, and the moves of its clock.
//!
//! The broker creates all of it before it starts anybody, and keeps it until the end: queues, sequence numbers and journals survive
//! every device process.

use atoll_abi::clock::{ClockPage, Pace, Policy, RunState, WorkerState};
use atoll_abi::control::{ExitReport, MachineStatus};
use atoll_abi::exit::ExitReason;
use atoll_abi::link::BellPage;
use atoll_abi::route::RouteTable;
use atoll_abi::stats::StatsPage;
use atoll_abi::{LinkId, VirtualTime};
use atoll_transport::{Doorbell, GuestRam, LinkMemory, Segment, View, monotonic_ns};
use broker_core::{ClockMove, Plan};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::ends::HostEnds;
use crate::request::Request;

/// No instruction takes so long: a boundary is nearer to the horizon than this.
const BOUNDARY_NS: u64 = 1_000_000;

pub(crate) struct Memory {
    pub(crate) ram: GuestRam,
    pub(crate) clock: View<ClockPage>,
    pub(crate) routes: View<RouteTable>,
    pub(crate) stats: View<StatsPage>,
    pub(crate) bells: View<BellPage>,
    /// By place.
    pub(crate) links: Vec<LinkMemory>,
    /// By place: what of the host outlives one server.
    pub(crate) ends: Vec<HostEnds>,
    pub(crate) blobs: Vec<(u16, usize, Arc<Segment>)>,
    pub(crate) console: Vec<(String, OwnedFd)>,
}

impl Memory {
    /// Everything, before anybody is there to see it.
    pub(crate) fn create(plan: &Plan, request: Request) -> Result<Self, String> {
        let segment = |error| format!("cannot create a segment: {error}");
        let bytes = usize::try_from(plan.worker.guest.memory_bytes)
            .map_err(|_| "the machine's RAM is too large".to_owned())?;
        let ram = GuestRam::create(bytes)
            .map_err(|error| format!("cannot create {} MiB of RAM: {error}", bytes >> 20))?;
        let clock: View<ClockPage> = View::create("atoll-clock").map_err(segment)?;
        clock.init(plan.policy);
        let routes: View<RouteTable> = View::create("atoll-routes").map_err(segment)?;
        routes.init(&plan.routes);
        let mut links = Vec::new();
        let mut ends = Vec::new();
        for link in &plan.links {
            let name = format!("atoll-{}", link.id);
            links.push(LinkMemory::create(&name, link.kind, &link.geometry, 0).map_err(segment)?);
            ends.push(HostEnds::open(link)?);
        }
        Ok(Self {
            ram,
            clock,
            routes,
            stats: View::create("atoll-stats").map_err(segment)?,
            bells: View::create("atoll-bells").map_err(segment)?,
            links,
            ends,
            blobs: request.blobs,
            console: request.console,
        })
    }

    /// Lets go of kernel and modules. The worker has read them, keeps what it needs for a reset, and has no successor.
    pub(crate) fn forget_files(&mut self) {
        self.blobs = Vec::new();
    }

    pub(crate) fn link(&self, id: LinkId) -> Option<&LinkMemory> {
        self.links.get(usize::from(id.0))
    }

    /// Moves horizon, pace or run state, and wakes the worker to see it.
    pub(crate) fn move_clock(&self, to: ClockMove) {
        match to {
            ClockMove::Run { horizon } => {
                if self.clock.policy() == Policy::Paced {
                    self.clock
                        .set_pace(Pace::real_time(monotonic_ns(), self.clock.now()));
                }
                self.clock.set_horizon(horizon);
                self.clock.set_run_state(RunState::Running);
            }
            ClockMove::Hold => self.clock.set_run_state(RunState::Held),
            ClockMove::Stop => self.clock.set_run_state(RunState::Stopping),
        }
        Doorbell::new(self.bells.map(|page| &page.worker)).ring();
    }

    /// Has the worker come as far as it may? It stops at the last boundary before the horizon, and what it says of itself may still be
    /// of an earlier one.
    pub(crate) fn at_horizon(&self) -> bool {
        let (now, horizon) = (self.clock.now(), self.clock.horizon());
        let stands = self.clock.worker_state() == WorkerState::AtHorizon;
        now >= horizon || (stands && now + BOUNDARY_NS >= horizon)
    }

    /// How often the worker showed that it is alive.
    pub(crate) fn progress(&self) -> u64 {
        self.clock.progress()
    }

    pub(crate) fn status(&self, running: bool) -> MachineStatus {
        MachineStatus {
            running,
            now: self.clock.now(),
            instructions: self.clock.instructions(),
            horizon: if running {
                self.clock.horizon()
            } else {
                self.clock.now()
            },
        }
    }

    /// The last words of a worker that said none.
    pub(crate) fn obituary(&self) -> ExitReport {
        ExitReport {
            reason: ExitReason::WorkerLost,
            detail: String::new(),
            now: self.clock.now(),
            instructions: self.clock.instructions(),
            final_hash: [0; 32],
            stats: String::new(),
        }
    }

    /// The guest's virtual time, for the log; none before it runs.
    pub(crate) fn now(&self) -> Option<VirtualTime> {
        Some(self.clock.now()).filter(|now| *now > VirtualTime::ZERO)
    }
}
