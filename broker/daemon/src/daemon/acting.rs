//! Doing what the state machine says.

use std::io::Write;

use atoll_abi::control::{Control, ExitReport, LogLevel, LogRecord, MonitorReply};
use atoll_abi::exit::ExitReason;
use atoll_abi::{ABI_VERSION, PeerId};
use broker_core::{Action, Conn, Event};

use super::Daemon;
use crate::attach;
use crate::peers::Process;
use crate::sessions::is_hang_up;
use crate::sources::Source;

/// The index of the worker among the peers.
const WORKER: u16 = 1;

impl Daemon {
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.core.next_action() {
            self.act(action);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(peer) => self.spawn(peer),
            Action::Adopt { conn, peer } => self.adopt(conn, peer),
            Action::Refuse { conn, reason } => drop(self.sessions.refuse(conn, &reason)),
            Action::Admit(peer) => self.admit(peer),
            Action::Start(peer) => {
                self.send(peer, &Control::Start);
                if peer.index == WORKER {
                    self.memory.forget_files();
                }
            }
            Action::Stop { peer, grace } => {
                let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
                self.send(peer, &Control::Stop { grace_ns });
            }
            Action::Kill(peer) => self.with(peer, |process| process.kill()),
            Action::Disconnect(peer) => self.with(peer, |process| {
                process.session = None;
                process.handle = None;
            }),
            Action::SetGeneration { link, generation } => {
                if let Some(link) = self.memory.link(link) {
                    link.set_generation(generation);
                }
            }
            Action::LinkLost { link, generation } => {
                self.tell_worker(&Control::LinkLost { link, generation })
            }
            Action::LinkReplaced { link, generation } => {
                self.tell_worker(&Control::LinkReplaced { link, generation })
            }
            Action::PowerButton => self.tell_worker(&Control::PowerButton),
            Action::Reset => self.tell_worker(&Control::Reset),
            Action::Clock(to) => self.memory.move_clock(to),
            Action::ReplyStatus { to, running } => {
                let status = self.memory.status(running);
                self.sessions
                    .tell(to, &Control::MonitorReply(MonitorReply::Status(status)));
            }
            Action::Reply { to, reply } => self.sessions.tell(to, &Control::MonitorReply(reply)),
            Action::Log { level, peer, text } => {
                let at = self.memory.now();
                self.pass_on(peer, LogRecord { level, at, text });
            }
            Action::Finish { reason, detail } => self.finish(reason, detail),
        }
    }

    /// The process of a peer, unless a successor has taken its place.
    pub(super) fn with(&mut self, peer: PeerId, act: impl FnOnce(&mut Process)) {
        let slot = usize::from(peer.index)
            .checked_sub(1)
            .and_then(|index| self.peers.get_mut(index));
        if let Some(Some(process)) = slot
            && process.id == peer
        {
            act(process);
        }
    }

    pub(super) fn spawn(&mut self, peer: PeerId) {
        let index = usize::from(peer.index) - 1;
        match Process::spawn(peer, self.roles[index]) {
            Ok(process) => self.peers[index] = Some(process),
            Err(why) => self.tell(Event::SpawnFailed { peer, why }),
        }
    }

    pub(super) fn adopt(&mut self, conn: Conn, peer: PeerId) {
        let handle = self.handle_of(conn);
        if let Some(session) = self.sessions.take(conn) {
            let index = usize::from(peer.index) - 1;
            self.peers[index] = Some(Process::adopted(peer, session, handle));
            self.unfinished.push(Source::Peer(index));
        }
    }

    /// Welcome, and everything that it needs.
    pub(super) fn admit(&mut self, peer: PeerId) {
        let index = usize::from(peer.index) - 1;
        let Some(Some(process)) = self.peers.get(index) else {
            return;
        };
        let Some(session) = &process.session else {
            return;
        };
        let welcome = session.send(&Control::Welcome {
            abi_version: ABI_VERSION,
            peer,
        });
        let sent = welcome.and_then(|()| match index.checked_sub(1) {
            None => attach::send_worker(session, peer, &self.plan, &self.memory),
            Some(place) => attach::send_server(session, peer, place, &self.plan, &self.memory),
        });
        if let Err(error) = sent {
            self.tell(Event::Lost {
                peer,
                why: Some(error.to_string()),
            });
        }
    }

    pub(super) fn send(&mut self, peer: PeerId, control: &Control) {
        let mut failed = None;
        self.with(peer, |process| {
            let sent = process
                .session
                .as_ref()
                .map(|session| session.send(control));
            failed = sent.and_then(Result::err);
        });
        // One that has hung up may have said why before.
        if let Some(error) = failed.filter(|error| !is_hang_up(error)) {
            self.tell(Event::Lost {
                peer,
                why: Some(error.to_string()),
            });
        }
    }

    pub(super) fn tell_worker(&mut self, control: &Control) {
        if let Some(worker) = self.peers[0].as_ref().map(|worker| worker.id) {
            self.send(worker, control);
        }
    }

    /// A line of the log goes to the owner, or where this process's own errors go.
    pub(super) fn pass_on(&mut self, peer: PeerId, record: LogRecord) {
        let Some(owner) = self.owner else {
            if record.level <= LogLevel::Warn {
                eprintln!("broker: peer {peer}: {}", record.text);
            }
            return;
        };
        if self.unheard > 0 {
            let text = format!(
                "{} lines of the log were lost: nobody read them",
                self.unheard
            );
            let lost = LogRecord {
                level: LogLevel::Warn,
                at: record.at,
                text,
            };
            let lost = Control::MonitorReply(MonitorReply::Log {
                peer: PeerId::BROKER,
                record: lost,
            });
            if self.sessions.mention(owner, &lost) {
                self.unheard = 0;
            }
        }
        let said = self.sessions.mention(
            owner,
            &Control::MonitorReply(MonitorReply::Log { peer, record }),
        );
        self.unheard += u64::from(!said);
    }

    pub(super) fn write_trail(&mut self, bytes: &[u8]) {
        let Some(trail) = &mut self.trail else { return };
        if let Err(error) = trail.write_all(bytes) {
            // A trail with a hole is worth nothing, so it ends here, and whoever wanted it is told.
            self.trail = None;
            let detail = format!("cannot write the trail: {error}");
            self.tell(Event::Fatal {
                reason: ExitReason::Internal,
                detail,
            });
        }
    }

    pub(super) fn finish(&mut self, reason: ExitReason, detail: String) {
        let report = self.report.take().unwrap_or_else(|| self.memory.obituary());
        let report = ExitReport {
            reason,
            detail,
            ..report
        };
        if self.owner.is_none()
            && let Some(terminal) = &self.terminal
        {
            terminal.restore();
        }
        self.sessions.tell_all_ended(&MonitorReply::Ended(report));
        self.finished = Some(reason);
    }
}
