//! What the loop waits for, in one `poll`.

use broker_core::Conn;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sessions::Sessions;

/// Something that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Signals,
    Listener,
    Session(Conn),
    /// A peer's session, by its place in the list of peers.
    Peer(usize),
    Exit(usize),
}

#[derive(Default)]
pub(crate) struct Sources<'a> {
    names: Vec<Source>,
    fds: Vec<PollFd<'a>>,
}

impl<'a> Sources<'a> {
    pub(crate) fn add<F: AsFd>(&mut self, source: Source, fd: &'a F) {
        self.names.push(source);
        self.fds.push(PollFd::new(fd, PollFlags::IN));
    }

    pub(crate) fn add_sessions(&mut self, sessions: &'a Sessions) {
        if let Some(listener) = sessions.listener() {
            self.add(Source::Listener, listener);
        }
        for (conn, session) in sessions.sessions() {
            self.add(Source::Session(conn), session);
        }
    }

    /// What there is to look at. An interrupted wait is a short wait.
    pub(crate) fn wait(mut self, timeout: Option<Duration>) -> Vec<Source> {
        // Rounded up, so that a deadline is over when the wait is.
        let timeout = timeout.map(|timeout| timeout + Duration::from_millis(1));
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        if poll(&mut self.fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = self
            .names
            .iter()
            .zip(&self.fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        ready.map(|(source, _)| *source).collect()
    }
}
