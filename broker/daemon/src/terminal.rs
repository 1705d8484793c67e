//! The owner's terminal, as it was before anybody made it raw.
//!
//! The owner puts it back himself. If he died, the broker does, after the last process that could write to it is gone.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub(crate) struct Terminal {
    fd: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// Notes what it is like; nothing if it is no terminal.
    pub(crate) fn note(fd: OwnedFd) -> Option<Self> {
        let before = tcgetattr(&fd).ok()?;
        Some(Self { fd, before })
    }

    /// Puts it back. SIGTTOU is blocked in this process, so that a terminal which has passed on to a shell does not stop it.
    pub(crate) fn restore(&self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.before);
    }
}
