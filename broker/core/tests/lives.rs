//! The supervisor in a world that kills, hangs and starts processes as it likes.

use atoll_abi::control::{FaultKind, Role};
use atoll_abi::exit::ExitReason;
use broker_core::*;
use proptest::prelude::*;

const MS: Ns = 1_000_000;

fn peer(name: &str, role: Role) -> PeerPlan {
    let restart = if role == Role::Worker {
        RestartPolicy::NEVER
    } else {
        RestartPolicy::BACK_END
    };
    PeerPlan {
        name: name.into(),
        role,
        restart,
        watch: Watch::DEFAULT,
        wait_attached: false,
    }
}

fn plan() -> Plan {
    let peers = vec![
        peer("worker", Role::Worker),
        peer("serial0", Role::Char),
        peer("disk0", Role::Block),
    ];
    Plan {
        peers,
        timeout_ns: None,
        grace_ns: 1_000 * MS,
        start_held: false,
    }
}

/// What the supervisor's actions did to the processes.
#[derive(Debug, Default)]
struct World {
    alive: [Option<u32>; 3],
    next_generation: [u32; 3],
    running: bool,
    finished: Option<Outcome>,
    said: Vec<String>,
    done: Vec<Action>,
}

impl World {
    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(self.finished.is_none(), "{action:?} after the end");
            match &action {
                Action::Spawn { peer, generation } => {
                    assert_eq!(self.alive[*peer], None, "two processes in one place");
                    assert_eq!(*generation, self.next_generation[*peer]);
                    self.next_generation[*peer] += 1;
                    self.alive[*peer] = Some(*generation);
                }
                Action::Run => self.running = true,
                Action::Hold => self.running = false,
                Action::Finish(outcome) => {
                    assert_eq!(self.alive, [None; 3], "finished with processes alive");
                    self.finished = Some(outcome.clone());
                }
                Action::Say(text) => self.said.push(text.clone()),
                _ => {}
            }
            self.done.push(action);
        }
    }

    fn did(&mut self, action: &Action) -> bool {
        self.done.iter().any(|done| done == action)
    }
}

struct Test {
    supervisor: Supervisor,
    world: World,
    now: Ns,
}

impl Test {
    fn new(plan: Plan) -> Self {
        let mut test = Self {
            supervisor: Supervisor::new(plan, 0),
            world: World::default(),
            now: 0,
        };
        test.event(Event::Tick);
        test
    }

    fn event(&mut self, event: Event) {
        if let Event::Dead { peer, generation } = event
            && self.world.alive[peer] == Some(generation)
        {
            self.world.alive[peer] = None;
        }
        let actions = self.supervisor.handle(self.now, event);
        self.world.apply(actions);
    }

    fn running() -> Self {
        let mut test = Self::new(plan());
        (0..3).for_each(|peer| {
            test.event(Event::Ready {
                peer,
                generation: 0,
            })
        });
        assert!(test.world.running);
        test
    }

    /// Lets every process that is to die or to end do so, and time pass, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.world.finished.is_some() {
                return;
            }
            for peer in 0..3 {
                let Some(generation) = self.world.alive[peer] else {
                    continue;
                };
                let asked = [Action::Kill { peer }, Action::Stop { peer }]
                    .iter()
                    .any(|a| self.world.did(a));
                if asked || (peer == 0 && self.world.did(&Action::EndRun)) {
                    self.event(Event::Dead { peer, generation });
                }
            }
            if let Some(deadline) = self.supervisor.next_deadline() {
                self.now = self.now.max(deadline);
            }
            self.event(Event::Tick);
        }
        panic!(
            "the machine does not come to its end: {:?}",
            self.supervisor
        );
    }
}

#[test]
fn a_run_from_start_to_power_off() {
    let mut test = Test::running();
    assert!(test.world.did(&Action::Start { peer: 0 }));
    test.event(Event::Reported {
        reason: ExitReason::PowerOff,
    });
    assert!(test.world.did(&Action::Stop { peer: 1 }) && test.world.did(&Action::Stop { peer: 2 }));
    test.settle();
    assert_eq!(test.world.finished.unwrap().reason, ExitReason::PowerOff);
}

#[test]
fn a_back_end_that_dies_gets_a_successor_once_it_is_certainly_dead() {
    let mut test = Test::running();
    test.event(Event::Lost {
        peer: 2,
        generation: 0,
    });
    assert!(test.world.did(&Action::Kill { peer: 2 }));
    assert!(test.world.did(&Action::LinkLost {
        peer: 2,
        generation: 0
    }));
    assert!(!test.world.did(&Action::Spawn {
        peer: 2,
        generation: 1
    }));
    test.event(Event::Dead {
        peer: 2,
        generation: 0,
    });
    assert!(test.world.did(&Action::Spawn {
        peer: 2,
        generation: 1
    }));
    test.event(Event::Ready {
        peer: 2,
        generation: 1,
    });
    assert!(test.world.did(&Action::LinkReplaced {
        peer: 2,
        generation: 1
    }));
    assert!(test.world.running && test.supervisor.is_running());
}

#[test]
fn a_silent_back_end_is_killed() {
    let mut test = Test::running();
    test.now = 14_000 * MS;
    (0..2).for_each(|peer| {
        test.event(Event::Heartbeat {
            peer,
            generation: 0,
        })
    });
    test.now = 15_000 * MS;
    test.event(Event::Tick);
    assert!(
        test.world.did(&Action::Kill { peer: 2 }) && !test.world.did(&Action::Kill { peer: 1 })
    );
}

#[test]
fn endings() {
    let fault = |kind| Event::Fault {
        peer: 2,
        generation: 0,
        kind,
        what: "because".into(),
    };
    let dead = |peer| Event::Dead {
        peer,
        generation: 0,
    };
    type Events = Vec<Event>;
    let cases: [(&str, Events, ExitReason, &str); 6] = [
        (
            "worker dies",
            vec![dead(0)],
            ExitReason::WorkerLost,
            "worker died",
        ),
        (
            "quit",
            vec![Event::Console {
                peer: 1,
                request: atoll_abi::control::ConsoleRequest::Quit,
            }],
            ExitReason::Quit,
            "",
        ),
        (
            "button twice",
            vec![Event::PowerButton, Event::PowerButton],
            ExitReason::Terminated,
            "",
        ),
        (
            "stop",
            vec![Event::Stop {
                reason: ExitReason::BrokerLost,
            }],
            ExitReason::BrokerLost,
            "",
        ),
        (
            "button, no answer",
            vec![Event::PowerButton],
            ExitReason::Terminated,
            "the guest did not power off within its grace period",
        ),
        (
            "button, power off",
            vec![
                Event::PowerButton,
                Event::Reported {
                    reason: ExitReason::PowerOff,
                },
            ],
            ExitReason::PowerOff,
            "",
        ),
    ];
    for (name, events, reason, detail) in cases {
        let mut test = Test::running();
        events.into_iter().for_each(|event| test.event(event));
        test.settle();
        let outcome = test.world.finished.unwrap();
        assert_eq!(
            (outcome.reason, outcome.detail.as_str()),
            (reason, detail),
            "{name}"
        );
    }
    let mut test = Test::new(plan());
    test.event(fault(FaultKind::Locked));
    test.event(dead(2));
    test.settle();
    let expected = Outcome {
        reason: ExitReason::BadConfig,
        detail: "because".into(),
    };
    assert_eq!(test.world.finished, Some(expected));
}

#[test]
fn a_back_end_that_dies_again_and_again_is_given_up() {
    let mut test = Test::running();
    for generation in 0.. {
        test.event(Event::Dead {
            peer: 1,
            generation,
        });
        let Some(next) = test.supervisor.next_deadline() else {
            break;
        };
        test.now = test.now.max(next.min(test.now + 3_000 * MS));
        test.event(Event::Heartbeat {
            peer: 0,
            generation: 0,
        });
        test.event(Event::Heartbeat {
            peer: 2,
            generation: 0,
        });
        test.event(Event::Tick);
        if test.world.alive[1].is_none() {
            assert_eq!(generation, 8);
            break;
        }
        test.event(Event::Ready {
            peer: 1,
            generation: generation + 1,
        });
    }
    test.settle();
    assert_eq!(test.world.finished.unwrap().reason, ExitReason::DeviceLost);
}

#[test]
fn a_timeout_and_a_held_start() {
    let mut test = Test::new(Plan {
        timeout_ns: Some(50 * MS),
        start_held: true,
        ..plan()
    });
    (0..3).for_each(|peer| {
        test.event(Event::Ready {
            peer,
            generation: 0,
        })
    });
    assert!(!test.world.running);
    test.event(Event::Resume);
    assert!(test.world.running);
    test.now = 50 * MS;
    test.event(Event::Tick);
    test.settle();
    assert_eq!(
        test.world.finished.unwrap().reason,
        ExitReason::WallDeadline
    );
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 0usize..3;
    let generation = 0u32..4;
    prop_oneof![
        3 => Just(Event::Tick),
        6 => (peer.clone(), generation.clone()).prop_map(|(peer, generation)| Event::Ready { peer, generation }),
        2 => (peer.clone(), generation.clone()).prop_map(|(peer, generation)| Event::Heartbeat { peer, generation }),
        2 => (peer.clone(), generation.clone()).prop_map(|(peer, generation)| Event::Lost { peer, generation }),
        1 => (peer.clone(), generation).prop_map(|(peer, generation)| Event::Fault { peer, generation, kind: FaultKind::Host, what: "x".into() }),
        1 => Just(Event::PowerButton),
        1 => Just(Event::Pause),
        1 => Just(Event::Resume),
    ]
}

proptest! {
    /// Whatever happens: one process in a place, none left at the end, and an end there is.
    #[test]
    fn every_history_ends_clean(events in proptest::collection::vec((event(), 0u64..3_000, any::<bool>()), 0..60)) {
        let mut test = Test::new(plan());
        for (event, pause, dies) in events {
            test.now += pause * MS;
            let target = match &event {
                Event::Lost { peer, generation } | Event::Ready { peer, generation } => Some((*peer, *generation)),
                _ => None,
            };
            test.event(event);
            if let Some((peer, generation)) = target.filter(|_| dies)
                && test.world.alive[peer] == Some(generation)
            {
                test.event(Event::Dead { peer, generation });
            }
        }
        test.event(Event::Stop { reason: ExitReason::Quit });
        test.settle();
    }
}
