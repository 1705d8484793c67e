//! Coming: peers that start, introduce themselves and get ready.

use super::{Broker, ENDING, MOVED, Phase};
use crate::event::{Action, ClockMove, Conn};
use crate::peer::{Life, Origin, Peer};
use atoll_abi::control::{Fault, FaultKind, Hello, LogLevel, MonitorReply};
use atoll_abi::{PeerId, VirtualTime};
use core::time::Duration;

impl Broker {
    /// Starts the current generation of a peer, or waits for it to come.
    pub(super) fn bring_up(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        let (id, link, care) = (peer.id, peer.setup.link, peer.setup.care);
        match peer.setup.origin {
            Origin::Spawned => {
                peer.enter(Life::Starting, care.start_within.map(|within| now + within));
                self.renew_link(link, id);
                self.act(Action::Spawn(id));
            }
            Origin::External => {
                peer.enter(Life::Expected, Some(now + care.arrive_within));
                peer.waiting = Some("somebody to start it".into());
                self.renew_link(link, id);
            }
        }
    }

    pub(super) fn renew_link(&mut self, link: Option<atoll_abi::LinkId>, id: PeerId) {
        if let (Some(link), 1..) = (link, id.generation) {
            let generation = id.generation;
            self.act(Action::SetGeneration { link, generation });
        }
    }

    pub(super) fn on_hello(&mut self, now: Duration, id: PeerId, hello: &Hello, pid: u32) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if peer.life != Life::Starting {
            return self.on_lost(now, id, Some("it introduced itself twice".into()));
        }
        let stranger = (hello.pid != pid)
            .then(|| format!("process {pid} says that it is process {}", hello.pid));
        if let Some(what) = peer.objection(hello).or(stranger) {
            return self.on_fault(
                now,
                id,
                Fault {
                    kind: FaultKind::Config,
                    what,
                },
            );
        }
        peer.pid = pid;
        peer.life = Life::Attached;
        self.act(Action::Admit(id));
    }

    pub(super) fn on_knock(&mut self, now: Duration, conn: Conn, hello: &Hello, killable: bool) {
        match self.welcome(hello) {
            Ok(index) => {
                let peer = &mut self.peers[index];
                peer.pid = hello.pid;
                peer.killable = killable;
                peer.waiting = None;
                let start = peer.setup.care.start_within;
                peer.enter(Life::Attached, start.map(|within| now + within));
                let peer = peer.id;
                self.act(Action::Adopt { conn, peer });
                self.act(Action::Admit(peer));
            }
            Err(reason) => self.act(Action::Refuse { conn, reason }),
        }
    }

    /// Whose place a newcomer may take.
    pub(super) fn welcome(&self, hello: &Hello) -> Result<usize, String> {
        if self.phase >= Phase::Stopping {
            return Err(ENDING.into());
        }
        let named = self
            .peers
            .iter()
            .position(|peer| peer.setup.name == hello.name);
        let Some(index) = named else {
            let names: Vec<_> = self
                .peers
                .iter()
                .map(|peer| peer.setup.name.as_str())
                .collect();
            return Err(format!(
                "this machine has no '{}'; it has {}",
                hello.name,
                names.join(", ")
            ));
        };
        let peer = &self.peers[index];
        if let Some(objection) = peer.objection(hello) {
            return Err(objection);
        }
        match (peer.setup.origin, peer.life) {
            (Origin::Spawned, _) => Err(format!("the broker starts {} itself", hello.name)),
            (Origin::External, Life::Expected) => Ok(index),
            (Origin::External, Life::Fencing) => {
                Err(format!("the predecessor of {} is not dead yet", hello.name))
            }
            (Origin::External, _) => Err(format!(
                "{} is served by process {} already",
                hello.name, peer.pid
            )),
        }
    }

    pub(super) fn on_ready(&mut self, now: Duration, id: PeerId) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if peer.life != Life::Attached {
            return self.on_lost(
                now,
                id,
                Some("it said that it is ready when nobody had asked".into()),
            );
        }
        peer.serve(now);
        let link = peer.setup.link;
        self.act(Action::Start(id));
        if let (Some(link), generation @ 1..) = (link, id.generation) {
            self.act(Action::LinkReplaced { link, generation });
            let name = self.peers[index].setup.name.clone();
            self.log(LogLevel::Warn, index, format!("{name} serves again"));
        }
        match self.phase {
            Phase::Draining => self.stop_peer(now, index),
            _ => self.try_run(),
        }
    }

    /// Everybody is there, so the guest may run.
    pub(super) fn try_run(&mut self) {
        let ready = |peer: &Peer| {
            peer.life == Life::Serving && (peer.attached || !peer.setup.awaits_console)
        };
        if self.phase != Phase::Starting || !self.peers.iter().all(ready) {
            return;
        }
        self.phase = Phase::Running;
        self.ran = true;
        if !self.paused {
            self.run_to(VirtualTime::MAX);
        }
    }

    pub(super) fn hold(&mut self) {
        self.forget_run_until(MOVED);
        self.paused = true;
        self.act(Action::Clock(ClockMove::Hold));
    }

    pub(super) fn forget_run_until(&mut self, reason: &str) {
        if let Some(to) = self.run_until.take() {
            let reason = reason.to_owned();
            self.act(Action::Reply {
                to,
                reply: MonitorReply::Failed { reason },
            });
        }
    }

    pub(super) fn run_to(&mut self, horizon: VirtualTime) {
        self.forget_run_until(MOVED);
        self.paused = false;
        self.act(Action::Clock(ClockMove::Run { horizon }));
    }
}
