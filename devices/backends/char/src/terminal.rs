//! A terminal in raw mode, and its way back.
//!
//! Ctrl-C, Ctrl-Z and Ctrl-\ become bytes for the guest. What the terminal was like is a plain value,
//! so that another process can put it back when this one dies.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::termios::{self, OptionalActions, Termios};
use std::io;

/// How a terminal was before.
#[derive(Clone, Debug)]
pub struct Saved(Termios);

impl Saved {
    /// What `terminal` is like now; nothing if it is no terminal.
    pub fn of(terminal: impl AsFd) -> Option<Self> {
        if !termios::isatty(&terminal) {
            return None;
        }
        termios::tcgetattr(&terminal).ok().map(Self)
    }

    /// Puts `terminal` back, at once: waiting for its output could last for ever.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn restore(&self, terminal: impl AsFd) -> io::Result<()> {
        Ok(termios::tcsetattr(
            &terminal,
            OptionalActions::Now,
            &self.0,
        )?)
    }
}

/// A terminal that is raw as long as this lives.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    saved: Saved,
}

impl RawTerminal {
    /// Makes a terminal raw; nothing if it is none.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn enter(terminal: impl AsFd) -> io::Result<Option<Self>> {
        let Some(saved) = Saved::of(&terminal) else {
            return Ok(None);
        };
        let own = terminal.as_fd().try_clone_to_owned()?;
        let mut raw = saved.0.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Some(Self {
            terminal: own,
            saved,
        }))
    }

    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    pub fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = self.saved.restore(&self.terminal);
    }
}
