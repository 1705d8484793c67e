//! Ending: what stops in which order, and what has lasted too long.

use super::{Broker, ENDING, PARTING, Phase};
use crate::event::{Action, ClockMove};
use crate::peer::Life;
use atoll_abi::VirtualTime;
use atoll_abi::control::{ExitReport, LogLevel};
use atoll_abi::exit::ExitReason;
use core::time::Duration;

impl Broker {
    /// The machine ends, for this reason if it is the first.
    pub(super) fn end(&mut self, now: Duration, reason: ExitReason, detail: String) {
        if self.phase >= Phase::Stopping {
            return;
        }
        self.end.get_or_insert((reason, detail));
        self.phase = Phase::Stopping;
        self.forget_run_until(ENDING);
        self.grace_ends = None;
        self.act(Action::Clock(ClockMove::Stop));
        match self.peers[0].life {
            Life::Serving => self.stop_peer(now, 0),
            Life::Starting | Life::Attached => self.fence(now, 0),
            Life::Stopping => {}
            Life::Fencing => self.peers[0].deadline = Some(now + PARTING),
            Life::Expected | Life::Resting | Life::Gone => {
                self.peers[0].enter(Life::Gone, None);
                self.drain(now);
            }
        }
    }

    /// The worker has said all that it will say: now the back ends may go.
    pub(super) fn drain(&mut self, now: Duration) {
        if self.phase >= Phase::Draining {
            return self.finish_if_empty();
        }
        self.phase = Phase::Draining;
        self.forget_run_until(ENDING);
        self.grace_ends = None;
        for index in 1..self.peers.len() {
            match self.peers[index].life {
                Life::Serving => self.stop_peer(now, index),
                // What it was to redo is redone first, if there can be anything.
                Life::Starting | Life::Attached if !self.ran => self.fence(now, index),
                Life::Resting if !self.ran => self.peers[index].enter(Life::Gone, None),
                Life::Expected => self.peers[index].enter(Life::Gone, None),
                Life::Fencing => self.peers[index].deadline = Some(now + PARTING),
                _ => {}
            }
        }
        self.finish_if_empty();
    }

    pub(super) fn stop_peer(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        let grace = peer.setup.care.stop_within;
        peer.stopped = true;
        peer.enter(Life::Stopping, Some(now + grace));
        let peer = peer.id;
        self.act(Action::Stop { peer, grace });
    }

    pub(super) fn finish_if_empty(&mut self) {
        if self.phase != Phase::Draining || self.peers.iter().any(|peer| peer.life != Life::Gone) {
            return;
        }
        self.phase = Phase::Ended;
        // Whatever came after a refusal, the machine could not have started.
        let refusals: Vec<String> = std::mem::take(&mut self.refusals).into_values().collect();
        let (reason, detail) = match (refusals.is_empty(), self.end.take()) {
            (false, _) => (ExitReason::BadConfig, refusals.join("\n")),
            (true, Some(end)) => end,
            (true, None) => (ExitReason::Internal, "it ended for no reason".into()),
        };
        self.act(Action::Finish { reason, detail });
    }

    pub(super) fn on_report(&mut self, now: Duration, report: &ExitReport) {
        if !self.peers[0].is_here() || self.phase >= Phase::Draining {
            return;
        }
        self.end
            .get_or_insert((report.reason, report.detail.clone()));
        self.peers[0].enter(Life::Stopping, Some(now + PARTING));
        self.drain(now);
    }

    pub(super) fn terminate(&mut self, now: Duration) {
        let asked = "a signal asked for it";
        match self.phase {
            Phase::Running => {
                self.phase = Phase::PoweringOff;
                self.grace_ends = Some(now + self.grace);
                self.act(Action::PowerButton);
                if self.paused {
                    self.run_to(VirtualTime::MAX);
                }
            }
            Phase::Starting => self.end(now, ExitReason::Terminated, asked.into()),
            Phase::PoweringOff => self.end(now, ExitReason::Terminated, format!("{asked}, twice")),
            Phase::Stopping | Phase::Draining | Phase::Ended => {}
        }
    }

    /// Looks at everything that has a deadline.
    pub(super) fn tick(&mut self, now: Duration) {
        let over = |deadline: Option<Duration>| deadline.is_some_and(|deadline| now >= deadline);
        if over(self.grace_ends) {
            let grace = self.grace.as_secs();
            let detail = format!(
                "the guest did not power off within {grace} s after its power button was pressed"
            );
            self.end(now, ExitReason::Terminated, detail);
        }
        if over(self.wall_limit) {
            self.end(
                now,
                ExitReason::WallDeadline,
                "the wall-clock limit was reached".into(),
            );
        }
        for index in 0..self.peers.len() {
            self.tick_peer(now, index);
        }
        self.conclude_start(now);
    }

    pub(super) fn tick_peer(&mut self, now: Duration, index: usize) {
        let peer = &mut self.peers[index];
        if peer.life == Life::Serving {
            if let Some(why) = peer.hung(now) {
                let id = peer.id;
                self.on_lost(now, id, Some(why));
            }
            return;
        }
        if peer.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        peer.deadline = None;
        match peer.life {
            Life::Resting => self.bring_up(now, index),
            Life::Starting | Life::Attached => {
                peer.cause = Some("it was not ready in time".into());
                self.fence(now, index);
            }
            Life::Stopping => self.kill_late(now, index),
            Life::Expected => {
                peer.cause = Some("nobody started it".into());
                let detail = format!("{}: nobody started it", peer.setup.name);
                let first = !self.ran;
                self.give_up(now, index, first, detail);
            }
            Life::Fencing => self.abandon(now, index),
            Life::Serving | Life::Gone => {}
        }
    }

    /// It was told to end and did not. Whatever it left undone, a successor would not do it faster.
    pub(super) fn kill_late(&mut self, now: Duration, index: usize) {
        let (id, killable) = (self.peers[index].id, self.peers[index].killable);
        let name = self.peers[index].setup.name.clone();
        self.log(
            LogLevel::Error,
            index,
            format!("{name} did not end in time"),
        );
        if killable {
            self.peers[index].enter(Life::Fencing, Some(now + PARTING));
            self.act(Action::Kill(id));
        } else {
            self.abandon(now, index);
        }
    }

    /// The machine ends without having seen the end of this one.
    pub(super) fn abandon(&mut self, now: Duration, index: usize) {
        let peer = self.peers[index].id;
        self.log(
            LogLevel::Error,
            index,
            format!("{} cannot be ended", self.peers[index].setup.name),
        );
        self.act(Action::Disconnect(peer));
        self.bury(now, index);
    }
}
