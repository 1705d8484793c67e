//! Processes by pidfd, and descriptors that a child inherits.
//!
//! A pidfd names one process for ever, so a kill can never hit a stranger that got the number of a dead peer; fencing
//! rests on that. Inheritance goes by number: the child is told, by argument or environment, which descriptors are its
//! own, and takes each once.

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A process, for watching and for killing.
#[derive(Debug)]
pub struct ProcessHandle {
    pidfd: OwnedFd,
    pid: u32,
}

impl ProcessHandle {
    /// The process with this number now. For a child not yet waited for, that is certainly the child.
    pub fn open(pid: u32) -> Result<Self> {
        let raw = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Error::Protocol("no such process number"))?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
            .map_err(Error::os("pidfd_open"))?;
        Ok(Self { pidfd, pid })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it at once. A process that is gone already is no error.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Asks it to end.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::os("pidfd_send_signal")(errno)),
        }
    }

    /// Waits until it is dead; `false` if the deadline came first. Works for any process, child or not.
    pub fn wait_dead(&self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.unwrap_or(Duration::from_secs(3600)).try_into().ok();
            match rustix::event::poll(
                &mut [PollFd::new(&self.pidfd, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(Error::os("poll")(errno)),
            }
        }
    }

    /// Collects a dead child, so that no zombie stays. `None` while it lives; an exit code, or 128 + signal.
    pub fn reap(&self) -> Result<Option<i32>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                Ok(Some(status.exit_status().or(signal).unwrap_or(-1)))
            }
            Err(errno) => Err(Error::os("waitid")(errno)),
        }
    }
}

impl AsFd for ProcessHandle {
    /// Readable once the process is dead.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Lets the child of `command` inherit descriptors, under the numbers that they have here: pass those on by argument.
/// Only this child inherits them; here they stay close-on-exec.
pub fn inherit(command: &mut Command, fds: Vec<OwnedFd>) -> Vec<RawFd> {
    let numbers = fds.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: between fork and exec the closure calls fcntl and nothing else: no allocation, no lock. It owns the
    // descriptors, so the numbers are still theirs.
    unsafe {
        command.pre_exec(move || {
            for fd in &fds {
                rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        });
    }
    numbers
}

/// Lets the child of `command` be killed when the *thread* that starts it ends. For children that must not outlive a
/// broker that was killed; the starting thread has to live as long as the broker does.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(
                Signal::KILL,
            ))?)
        });
    }
}

static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes a descriptor that this process inherited. Each can be taken once, and not the three standard ones.
pub fn take_inherited(fd: RawFd) -> Result<OwnedFd> {
    let refused = || Error::Protocol("not an inherited file descriptor");
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if fd < 3 || taken.contains(&fd) {
        return Err(refused());
    }
    // SAFETY: the descriptor is only asked about; a number that is not open gives EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = rustix::io::fcntl_getfd(borrowed).map_err(|_| refused())?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(refused());
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| refused())?;
    taken.insert(fd);
    // SAFETY: it is open, came through exec (everything that this process opens is close-on-exec), and is taken here
    // for the first and only time, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::Stdio;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    #[expect(
        clippy::zombie_processes,
        reason = "the handle reaps it, which is what is tested"
    )]
    fn a_child_is_killed_awaited_and_reaped() {
        let mut command = Command::new("cat");
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let handle = ProcessHandle::open(child.id()).unwrap();
        assert_eq!(handle.reap().unwrap(), None);
        assert!(!handle.wait_dead(Some(Instant::now())).unwrap());
        handle.kill().unwrap();
        assert!(handle.wait_dead(soon()).unwrap());
        assert_eq!(handle.reap().unwrap(), Some(128 + 9));
        assert!(handle.reap().is_err(), "there is no zombie left");
        handle.kill().unwrap();
    }

    #[test]
    fn only_the_named_child_inherits() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        let fds = inherit(&mut command, vec![writer.into()]);
        let mut child = command
            .arg("-c")
            .arg(format!("echo inherited >&{}", fds[0]))
            .spawn()
            .unwrap();
        drop(command);
        assert!(child.wait().unwrap().success());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inherited\n");
    }

    #[test]
    fn a_descriptor_is_taken_once_and_only_if_it_was_inherited() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(writer);
        assert!(
            take_inherited(number).is_err(),
            "opened here, so close-on-exec"
        );
        assert!(take_inherited(1).is_err());
        assert!(take_inherited(9999).is_err());
        // SAFETY: the number came from `into_raw_fd` above and was not taken.
        let mut writer = unsafe { std::fs::File::from_raw_fd(number) };
        writer.write_all(b"x").unwrap();
        reader.read_exact(&mut [0]).unwrap();
    }
}
