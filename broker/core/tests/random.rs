//! Random histories of a machine: whatever happens to its processes, in whatever order, the promises hold.

use atoll_abi::control::{
    ConsoleRequest, ExitReport, Fault, FaultKind, Hello, MonitorRequest, Role,
};
use atoll_abi::exit::ExitReason;
use atoll_abi::{ABI_VERSION, LinkId, PeerId, VirtualTime};
use broker_core::{Action, Broker, Care, ClockMove, Event, Exit, Origin, PeerSetup, Setup};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NAMES: [&str; 4] = ["worker", "serial0", "vda", "vdb"];

/// What may happen, to the peer at a place where it concerns one.
#[derive(Clone, Debug)]
enum Step {
    /// It takes its next step towards serving.
    Advance(usize),
    Beat(usize),
    Exits(usize, i32),
    HangsUp(usize),
    Faults(usize, FaultKind),
    /// The kernel gets round to a kill.
    KillLands(usize),
    /// A message of a generation that is over.
    Stale(usize),
    /// Somebody comes by himself.
    Knock(usize, bool),
    Report,
    Quit,
    Terminate,
    Owner,
    Pause,
    Resume,
    RunUntil,
    Horizon,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..NAMES.len();
    let kind = prop_oneof![
        Just(FaultKind::Config),
        Just(FaultKind::Locked),
        Just(FaultKind::Host),
        Just(FaultKind::Protocol),
        Just(FaultKind::Internal),
    ];
    prop_oneof![
        20 => peer.clone().prop_map(Step::Advance),
        4 => peer.clone().prop_map(Step::Beat),
        3 => (peer.clone(), -1..3).prop_map(|(peer, code)| Step::Exits(peer, code)),
        3 => peer.clone().prop_map(Step::HangsUp),
        2 => (peer.clone(), kind).prop_map(|(peer, kind)| Step::Faults(peer, kind)),
        8 => peer.clone().prop_map(Step::KillLands),
        3 => peer.clone().prop_map(Step::Stale),
        4 => (peer, any::<bool>()).prop_map(|(peer, killable)| Step::Knock(peer, killable)),
        1 => Just(Step::Report),
        1 => Just(Step::Terminate),
        1 => prop_oneof![Just(Step::Quit), Just(Step::Owner)],
        3 => prop_oneof![Just(Step::Pause), Just(Step::Resume), Just(Step::RunUntil), Just(Step::Horizon)],
        10 => (1u64..4000).prop_map(Step::Pass),
    ]
}

/// A process as the world sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Started,
    SaidHello,
    SaidReady,
}

/// The processes that are there, and what was ever asked.
struct World {
    core: Broker,
    now: Duration,
    external: bool,
    alive: BTreeMap<PeerId, Stage>,
    killed: BTreeSet<PeerId>,
    /// Cut off without a way to see them die.
    unseen: BTreeSet<PeerId>,
    killable: BTreeMap<u16, bool>,
    started: BTreeSet<PeerId>,
    generations: BTreeMap<LinkId, u32>,
    clock_stopped: bool,
    answered: u64,
    finished: Option<ExitReason>,
}

impl World {
    fn new(external: bool) -> Self {
        let roles = [Role::Worker, Role::Char, Role::Block, Role::Block];
        let peer = |(index, role): (usize, Role)| PeerSetup {
            role,
            name: NAMES[index].into(),
            origin: if external && index == 2 {
                Origin::External
            } else {
                Origin::Spawned
            },
            care: Care::of(role),
            link: index.checked_sub(1).map(|link| LinkId(link as u16)),
            awaits_console: index == 1 && external,
        };
        let setup = Setup {
            peers: roles.into_iter().enumerate().map(peer).collect(),
            grace: Duration::from_secs(30),
            timeout: Some(Duration::from_secs(3600)),
            start_stopped: false,
        };
        let mut world = Self {
            core: Broker::new(setup),
            now: Duration::from_secs(1000),
            external,
            alive: BTreeMap::new(),
            killed: BTreeSet::new(),
            unseen: BTreeSet::new(),
            killable: BTreeMap::new(),
            started: BTreeSet::new(),
            generations: BTreeMap::new(),
            clock_stopped: false,
            answered: 0,
            finished: None,
        };
        world.core.begin(world.now);
        world.check();
        world
    }

    fn tell(&mut self, event: Event) {
        self.core.handle(self.now, event);
        self.check();
    }

    /// Follows the actions and holds them against the promises.
    fn check(&mut self) {
        while let Some(action) = self.core.next_action() {
            assert_eq!(self.finished, None, "{action:?} after the end");
            match action {
                Action::Spawn(peer) => self.is_born(peer),
                Action::Adopt { peer, .. } => self.is_born(peer),
                Action::Admit(peer) => {
                    assert!(self.alive.contains_key(&peer), "{peer} is not there")
                }
                Action::Start(peer) => {
                    assert!(self.alive.contains_key(&peer), "{peer} is not there");
                    assert!(self.started.insert(peer), "{peer} serves twice");
                }
                Action::Kill(peer) => {
                    assert!(self.alive.contains_key(&peer), "{peer} is dead already");
                    self.killed.insert(peer);
                }
                Action::Disconnect(peer) => {
                    self.alive.remove(&peer);
                    self.unseen.insert(peer);
                }
                Action::SetGeneration { link, generation } => {
                    let before = self.generations.insert(link, generation);
                    assert!(
                        before < Some(generation),
                        "{link} goes back to {generation}"
                    );
                    let of_link = |peer: &&PeerId| peer.index == link.0 + 2;
                    assert!(
                        !self.alive.keys().any(|peer| of_link(&peer)),
                        "{link} changes hands under a live server"
                    );
                }
                Action::Clock(ClockMove::Stop) => self.clock_stopped = true,
                Action::Clock(_) => {
                    assert!(!self.clock_stopped, "the clock goes on after the stop")
                }
                Action::Finish { reason, .. } => {
                    self.finished = Some(reason);
                    assert!(
                        self.alive.keys().all(|peer| self.killed.contains(peer)),
                        "left behind: {:?}",
                        self.alive
                    );
                }
                _ => {}
            }
        }
    }

    fn is_born(&mut self, peer: PeerId) {
        let before = self.alive.keys().find(|other| other.index == peer.index);
        assert_eq!(
            before, None,
            "{peer} is started before its predecessor is dead"
        );
        assert!(!self.unseen.contains(&peer));
        self.alive.insert(peer, Stage::Started);
    }

    fn at(&self, place: usize) -> Option<PeerId> {
        self.alive
            .keys()
            .copied()
            .find(|peer| usize::from(peer.index) == place + 1)
    }

    fn dies(&mut self, peer: PeerId, exit: Exit) {
        self.alive.remove(&peer);
        self.killed.remove(&peer);
        self.tell(Event::Exited {
            peer,
            exit,
            answered: self.answered,
        });
    }

    fn hello(&self, place: usize, pid: u32) -> Hello {
        let roles = [Role::Worker, Role::Char, Role::Block, Role::Block];
        Hello {
            abi_version: ABI_VERSION,
            role: roles[place],
            pid,
            binary: "test".into(),
            name: NAMES[place].into(),
        }
    }

    fn advance(&mut self, place: usize) {
        let Some(peer) = self.at(place).filter(|peer| !self.killed.contains(peer)) else {
            return;
        };
        let adopted = self.external && place == 2;
        match self.alive[&peer] {
            Stage::Started if !adopted => {
                self.alive.insert(peer, Stage::SaidHello);
                let hello = self.hello(place, 7);
                self.tell(Event::Hello {
                    peer,
                    hello,
                    pid: 7,
                });
            }
            Stage::Started | Stage::SaidHello => {
                self.alive.insert(peer, Stage::SaidReady);
                self.tell(Event::Ready { peer });
            }
            Stage::SaidReady if place == 1 => self.tell(Event::Console {
                peer,
                request: ConsoleRequest::Attached,
            }),
            Stage::SaidReady => self.tell(Event::Beat {
                peer,
                progress: 1,
                idle: true,
            }),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Advance(place) => self.advance(place),
            Step::Knock(place, killable) => {
                self.killable.insert(place as u16 + 1, killable);
                let hello = self.hello(place, 9);
                self.tell(Event::Knock {
                    conn: 5,
                    hello,
                    killable,
                });
            }
            Step::Stale(place) => {
                let peer = PeerId::new(place as u16 + 1, 99);
                self.tell(Event::Ready { peer });
                self.tell(Event::Exited {
                    peer,
                    exit: Exit::Unknown,
                    answered: 0,
                });
            }
            Step::Report => self.tell(Event::Report(report())),
            Step::Quit => self.tell(Event::Monitor {
                from: 1,
                request: MonitorRequest::Quit,
            }),
            Step::Terminate => self.tell(Event::Terminate),
            Step::Owner => self.tell(Event::OwnerGone),
            Step::Pause => self.tell(Event::Monitor {
                from: 1,
                request: MonitorRequest::Pause,
            }),
            Step::Resume => self.tell(Event::Monitor {
                from: 1,
                request: MonitorRequest::Resume,
            }),
            Step::RunUntil => {
                let at = VirtualTime(5);
                self.tell(Event::Monitor {
                    from: 1,
                    request: MonitorRequest::RunUntil { at },
                });
            }
            Step::Horizon => self.tell(Event::AtHorizon),
            Step::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                self.tell(Event::Tick);
            }
            Step::Beat(place)
            | Step::Exits(place, _)
            | Step::HangsUp(place)
            | Step::Faults(place, _)
            | Step::KillLands(place) => {
                if let Some(peer) = self.at(place) {
                    self.happens_to(peer, step);
                }
            }
        }
    }

    fn happens_to(&mut self, peer: PeerId, step: Step) {
        match step {
            Step::Beat(_) => self.tell(Event::Beat {
                peer,
                progress: 3,
                idle: false,
            }),
            Step::Exits(_, code) => self.dies(
                peer,
                if code < 0 {
                    Exit::Signal(11)
                } else {
                    Exit::Code(code)
                },
            ),
            Step::HangsUp(_) => self.tell(Event::Lost { peer, why: None }),
            Step::Faults(_, kind) => {
                let fault = Fault {
                    kind,
                    what: "a test".into(),
                };
                self.tell(Event::Fault { peer, fault });
            }
            Step::KillLands(_) if self.killed.contains(&peer) => self.dies(peer, Exit::Signal(9)),
            _ => {}
        }
    }

    /// Goes on until the end, which has to come. `kills_land`: the kernel does what it is asked.
    fn run_out(&mut self, kills_land: bool) {
        self.tell(Event::OwnerGone);
        for _ in 0..1000 {
            if self.finished.is_some() {
                return;
            }
            if kills_land {
                let killed: Vec<_> = self.killed.iter().copied().collect();
                killed
                    .into_iter()
                    .for_each(|peer| self.dies(peer, Exit::Signal(9)));
            }
            if self.finished.is_some() {
                return;
            }
            let deadline = self
                .core
                .next_deadline()
                .unwrap_or_else(|| panic!("nothing is waited for: {:?}", self.core));
            self.now = self.now.max(deadline);
            self.tell(Event::Tick);
        }
        panic!("the end does not come: {:?}", self.core);
    }
}

fn report() -> ExitReport {
    ExitReport {
        reason: ExitReason::PowerOff,
        detail: String::new(),
        now: VirtualTime(1),
        instructions: 1,
        final_hash: [0; 32],
        stats: String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Fences, generations and the end hold, whoever dies when.
    #[test]
    fn promises_hold(steps in prop::collection::vec(step(), 0..120), external: bool, kills_land: bool) {
        let mut world = World::new(external);
        for step in steps {
            world.step(step);
        }
        world.run_out(kills_land);
    }
}

/// Everybody takes his steps, undisturbed.
fn started() -> World {
    let mut world = World::new(false);
    for place in [0, 1, 2, 3, 0, 1, 2, 3] {
        world.advance(place);
    }
    world
}

#[test]
fn a_machine_that_powers_off_says_so() {
    let mut world = started();
    world.tell(Event::Report(report()));
    for place in 0..NAMES.len() {
        let peer = world.at(place).unwrap();
        world.dies(peer, Exit::Code(0));
    }
    assert_eq!(world.finished, Some(ExitReason::PowerOff));
}

#[test]
fn a_killed_disk_is_replaced_after_its_exit_and_not_before() {
    let mut world = started();
    let first = world.at(2).unwrap();
    world.tell(Event::Lost {
        peer: first,
        why: None,
    });
    world.step(Step::Pass(3000));
    assert_eq!(world.at(2), Some(first), "the kill has not landed yet");
    world.step(Step::KillLands(2));
    world.step(Step::Pass(3000));
    assert_eq!(world.at(2), Some(first.successor()));
    world.advance(2);
    world.advance(2);
    assert!(world.started.contains(&first.successor()));
    assert_eq!(world.generations[&LinkId(1)], 1);
}

#[test]
fn a_disk_that_dies_again_and_again_is_lost() {
    let mut world = started();
    for _ in 0..20 {
        let Some(peer) = world.at(2) else { break };
        world.dies(peer, Exit::Signal(9));
        world.step(Step::Pass(2500));
    }
    world.run_out(true);
    assert_eq!(world.finished, Some(ExitReason::DeviceLost));
}

#[test]
fn a_disk_may_be_killed_as_often_as_anybody_likes() {
    let mut world = started();
    for _ in 0..100 {
        let peer = world.at(2).expect("it comes back");
        world.answered += 1;
        world.dies(peer, Exit::Signal(9));
        world.step(Step::Pass(100));
        world.advance(2);
        world.advance(2);
    }
    assert_eq!(world.finished, None);
}

#[test]
fn a_locked_image_refuses_the_machine_at_first_and_is_waited_for_later() {
    let locked = || Fault {
        kind: FaultKind::Locked,
        what: "held by process 5".into(),
    };
    let mut world = World::new(false);
    world.advance(2);
    let peer = world.at(2).unwrap();
    world.tell(Event::Fault {
        peer,
        fault: locked(),
    });
    world.step(Step::KillLands(2));
    world.run_out(true);
    assert_eq!(world.finished, Some(ExitReason::BadConfig));

    let mut world = started();
    let peer = world.at(2).unwrap();
    world.dies(peer, Exit::Signal(9));
    for _ in 0..100 {
        world.step(Step::Pass(2000));
        let peer = world.at(2).expect("it is tried again");
        world.tell(Event::Fault {
            peer,
            fault: locked(),
        });
        world.step(Step::KillLands(2));
    }
    assert_eq!(
        world.finished, None,
        "virtual time stands still, and nothing else happens"
    );
}

#[test]
fn a_disk_killed_at_the_end_is_brought_back_to_settle() {
    let mut world = started();
    let peer = world.at(2).unwrap();
    world.dies(peer, Exit::Signal(9));
    world.tell(Event::Report(report()));
    world.step(Step::Pass(100));
    world.advance(2);
    world.advance(2);
    assert!(world.started.contains(&peer.successor()));
    for place in 0..NAMES.len() {
        let peer = world.at(place).unwrap();
        world.dies(peer, Exit::Code(0));
    }
    assert_eq!(world.finished, Some(ExitReason::PowerOff));
}

#[test]
fn a_worker_that_dies_takes_the_machine_with_it() {
    let mut world = started();
    let worker = world.at(0).unwrap();
    world.dies(worker, Exit::Signal(9));
    for place in 1..NAMES.len() {
        let peer = world.at(place).unwrap();
        world.dies(peer, Exit::Code(0));
    }
    assert_eq!(world.finished, Some(ExitReason::WorkerLost));
}

#[test]
fn sigterm_presses_the_button_and_ends_what_does_not_listen() {
    let mut world = started();
    world.core.handle(world.now, Event::Terminate);
    assert_eq!(world.core.next_action(), Some(Action::PowerButton));
    let grace = world.core.next_deadline().unwrap();
    assert!(grace <= world.now + Duration::from_secs(30));
    for _ in 0..35 {
        for place in 1..NAMES.len() {
            let peer = world.at(place).unwrap();
            world.tell(Event::Beat {
                peer,
                progress: 0,
                idle: true,
            });
        }
        world.step(Step::Pass(1000));
    }
    world.run_out(true);
    assert_eq!(world.finished, Some(ExitReason::Terminated));
}

#[test]
fn a_silent_disk_is_fenced_but_not_when_the_broker_itself_stood_still() {
    let mut world = started();
    world.step(Step::Pass(360_000));
    assert!(
        world.killed.is_empty(),
        "the broker was stopped, so it heard nobody"
    );
    for _ in 0..12 {
        let console = world.at(1).unwrap();
        world.tell(Event::Beat {
            peer: console,
            progress: 0,
            idle: true,
        });
        world.step(Step::Pass(1000));
    }
    assert_eq!(world.killed.len(), 2, "both disks were silent");
}

#[test]
fn a_silent_worker_is_fenced_and_ends_the_machine() {
    let mut world = started();
    let worker = world.at(0).unwrap();
    for _ in 0..25 {
        for place in 1..NAMES.len() {
            let peer = world.at(place).unwrap();
            world.tell(Event::Beat {
                peer,
                progress: 0,
                idle: true,
            });
        }
        world.step(Step::Pass(1000));
    }
    let killed: Vec<_> = world.killed.iter().copied().collect();
    assert_eq!(killed, [worker], "nobody else was silent");
    world.step(Step::KillLands(0));
    world.run_out(true);
    assert_eq!(world.finished, Some(ExitReason::WorkerLost));
}

#[test]
fn another_version_of_the_wire_is_refused() {
    let mut world = World::new(false);
    let peer = world.at(2).unwrap();
    let hello = Hello {
        abi_version: ABI_VERSION + 1,
        ..world.hello(2, 7)
    };
    world.tell(Event::Hello {
        peer,
        hello,
        pid: 7,
    });
    world.step(Step::KillLands(2));
    world.run_out(true);
    assert_eq!(world.finished, Some(ExitReason::BadConfig));
}

#[test]
fn a_stranger_in_a_child_s_session_is_refused() {
    let mut world = World::new(false);
    let peer = world.at(2).unwrap();
    let hello = world.hello(2, 8);
    world.tell(Event::Hello {
        peer,
        hello,
        pid: 7,
    });
    assert!(world.killed.contains(&peer));
}
