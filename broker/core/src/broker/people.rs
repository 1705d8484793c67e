//! People: requests of consoles and monitors.

use super::{Broker, Phase};
use crate::event::{Action, Conn};
use crate::peer::Peer;
use atoll_abi::control::{ConsoleRequest, MonitorReply, MonitorRequest};
use atoll_abi::exit::ExitReason;
use atoll_abi::{PeerId, VirtualTime};
use core::time::Duration;

impl Broker {
    pub(super) fn on_console(&mut self, now: Duration, id: PeerId, request: ConsoleRequest) {
        let Some(index) = self.current(id) else {
            return;
        };
        match request {
            ConsoleRequest::Quit => self.end(now, ExitReason::Quit, String::new()),
            ConsoleRequest::Attached => {
                self.peers[index].attached = true;
                self.try_run();
            }
            // The machine was held for the first one only.
            ConsoleRequest::Detached => {}
        }
    }

    pub(super) fn on_monitor(&mut self, now: Duration, to: Conn, request: MonitorRequest) {
        let runs = matches!(self.phase, Phase::Running | Phase::PoweringOff);
        let reply = match request {
            MonitorRequest::Status => {
                let running = runs && !self.paused;
                return self.act(Action::ReplyStatus { to, running });
            }
            MonitorRequest::Peers => {
                MonitorReply::Peers(self.peers.iter().map(Peer::status).collect())
            }
            MonitorRequest::Quit => {
                self.end(now, ExitReason::Quit, String::new());
                MonitorReply::Done
            }
            MonitorRequest::Terminate => {
                self.terminate(now);
                MonitorReply::Done
            }
            // A machine that is not started yet can still be told how to start.
            MonitorRequest::Pause | MonitorRequest::Resume if self.phase == Phase::Starting => {
                self.paused = request == MonitorRequest::Pause;
                MonitorReply::Done
            }
            _ if !runs => MonitorReply::Failed {
                reason: format!("the machine is {}", self.phase_name()),
            },
            MonitorRequest::Pause => {
                self.hold();
                MonitorReply::Done
            }
            MonitorRequest::Resume => {
                self.run_to(VirtualTime::MAX);
                MonitorReply::Done
            }
            MonitorRequest::RunUntil { at } => {
                self.run_to(at);
                self.run_until = Some(to);
                return;
            }
            MonitorRequest::PowerButton => {
                self.act(Action::PowerButton);
                MonitorReply::Done
            }
            MonitorRequest::Reset => {
                self.act(Action::Reset);
                MonitorReply::Done
            }
        };
        self.act(Action::Reply { to, reply });
    }

    pub(super) fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Starting => "not started yet",
            Phase::Running => "running",
            Phase::PoweringOff => "powering off",
            Phase::Stopping | Phase::Draining | Phase::Ended => "ending",
        }
    }

    pub(super) fn on_horizon(&mut self) {
        if let Some(to) = self.run_until.take() {
            self.hold();
            self.act(Action::Reply {
                to,
                reply: MonitorReply::Done,
            });
        }
    }
}
