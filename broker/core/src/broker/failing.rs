//! Failing and coming back: fencing, restarts, and giving up.

use super::{Broker, LOCK_RETRY, PARTING, Phase};
use crate::event::{Action, Exit};
use crate::peer::{Life, Origin, Peer};
use atoll_abi::PeerId;
use atoll_abi::control::{Fault, FaultKind, LogLevel, Role};
use atoll_abi::exit::ExitReason;
use core::time::Duration;

impl Broker {
    pub(super) fn on_spawn_failed(&mut self, now: Duration, id: PeerId, why: String) {
        let Some(index) = self.current(id) else {
            return;
        };
        let kind = if self.ran {
            FaultKind::Host
        } else {
            FaultKind::Config
        };
        self.peers[index].fault = Some(Fault { kind, what: why });
        self.gone(now, index);
    }

    pub(super) fn on_fault(&mut self, now: Duration, id: PeerId, fault: Fault) {
        let Some(index) = self.current(id) else {
            return;
        };
        self.peers[index].fault.get_or_insert(fault);
        self.fence(now, index);
    }

    pub(super) fn on_lost(&mut self, now: Duration, id: PeerId, why: Option<String>) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if peer.life == Life::Stopping && peer.killable {
            // It closes what it has and is about to exit, as it was told to.
            return;
        }
        peer.cause = peer.cause.take().or(why);
        self.fence(now, index);
    }

    /// Makes sure that it is dead. What follows, follows its exit.
    pub(super) fn fence(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        if !peer.has_process() || peer.life == Life::Fencing {
            return;
        }
        let (id, link, served) = (peer.id, peer.setup.link, peer.is_here());
        let killable = peer.killable;
        // Nothing replaces a process that lives; only an end does not wait for one that even a kill does not end.
        let deadline = (self.phase >= Phase::Stopping).then_some(now + PARTING);
        peer.enter(Life::Fencing, deadline);
        peer.waiting = Some("its predecessor to be dead".into());
        if let (true, Some(link)) = (served, link) {
            let generation = id.generation;
            self.act(Action::LinkLost { link, generation });
        }
        if killable {
            self.act(Action::Kill(id));
        } else {
            // Nobody here can kill it or see it die. Its lock is what its successor has to get past.
            self.act(Action::Disconnect(id));
            self.gone(now, index);
        }
    }

    pub(super) fn on_exited(&mut self, now: Duration, id: PeerId, exit: Exit, answered: u64) {
        let Some(index) = self.current(id) else {
            return;
        };
        let peer = &mut self.peers[index];
        if !peer.has_process() {
            return;
        }
        let (life, link) = (peer.life, peer.setup.link);
        peer.cause.get_or_insert(exit.to_string());
        peer.answered = answered;
        if let (Life::Attached | Life::Serving, Some(link)) = (life, link) {
            let generation = id.generation;
            self.act(Action::LinkLost { link, generation });
        }
        if life == Life::Stopping {
            self.bury(now, index);
        } else {
            self.gone(now, index);
        }
    }

    /// A process is gone that nobody had told to go.
    pub(super) fn gone(&mut self, now: Duration, index: usize) {
        self.peers[index].enter(Life::Gone, None);
        let (role, why) = (self.peers[index].setup.role, self.peers[index].why());
        if role == Role::Worker {
            return self.worker_gone(now, why);
        }
        match self.phase {
            Phase::Starting | Phase::Running | Phase::PoweringOff => self.replace(now, index),
            // Whatever it published is in the link, and a successor makes it durable.
            Phase::Stopping | Phase::Draining if self.ran && !self.peers[index].stopped => {
                self.replace(now, index)
            }
            _ => self.bury(now, index),
        }
    }

    pub(super) fn worker_gone(&mut self, now: Duration, why: String) {
        let kind = self.peers[0].fault.as_ref().map(|fault| fault.kind);
        let reason = match kind {
            Some(FaultKind::Config) if !self.ran => ExitReason::BadConfig,
            Some(FaultKind::Internal) => ExitReason::Internal,
            _ => ExitReason::WorkerLost,
        };
        // An end that was asked for keeps its reason.
        self.end.get_or_insert((reason, why));
        self.drain(now);
    }

    /// Starts the successor of a back end whose process is gone, at the right time, or gives up.
    pub(super) fn replace(&mut self, now: Duration, index: usize) {
        let kind = self.peers[index].fault.as_ref().map(|fault| fault.kind);
        let first = self.phase == Phase::Starting && self.peers[index].id.generation == 0;
        let delay = match kind {
            Some(FaultKind::Config) => None,
            Some(FaultKind::Locked | FaultKind::Host) if first => None,
            // Whoever holds the lock may be its predecessor in another container: until he lets go, virtual time stands still.
            Some(FaultKind::Locked) if self.phase < Phase::Stopping => Some(LOCK_RETRY),
            _ => self.peers[index].count_restart(now, self.phase >= Phase::Stopping),
        };
        let why = self.peers[index].why();
        let name = self.peers[index].setup.name.clone();
        let Some(delay) = delay else {
            return self.give_up(now, index, first, format!("{name}: {why}"));
        };
        self.log(
            LogLevel::Warn,
            index,
            format!("{name} is lost ({why}); starting it anew"),
        );
        let peer = &mut self.peers[index];
        peer.succeed();
        if peer.setup.origin == Origin::External {
            return self.bring_up(now, index);
        }
        peer.waiting = Some(why);
        peer.enter(Life::Resting, Some(now + delay));
    }

    pub(super) fn give_up(&mut self, now: Duration, index: usize, first: bool, detail: String) {
        let config = self.peers[index]
            .fault
            .as_ref()
            .is_some_and(|fault| fault.kind == FaultKind::Config);
        if first || (config && !self.ran) {
            self.refusals.insert(index, detail);
        } else {
            self.log(LogLevel::Error, index, detail.clone());
            self.end(now, ExitReason::DeviceLost, detail);
        }
        self.bury(now, index);
    }

    /// Ends a machine that cannot start as soon as everybody has said whether he can serve, so that all that is wrong is told at once.
    pub(super) fn conclude_start(&mut self, now: Duration) {
        let undecided = |peer: &Peer| {
            matches!(peer.life, Life::Starting | Life::Attached | Life::Fencing)
                && peer.setup.role != Role::Worker
        };
        if self.phase == Phase::Starting
            && !self.refusals.is_empty()
            && !self.peers.iter().any(undecided)
        {
            self.end(now, ExitReason::BadConfig, String::new());
        }
    }

    /// It is gone for good.
    pub(super) fn bury(&mut self, now: Duration, index: usize) {
        self.peers[index].enter(Life::Gone, None);
        if index == 0 && self.phase == Phase::Stopping {
            self.drain(now);
        }
        self.finish_if_empty();
    }
}
