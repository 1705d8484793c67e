//! The parent's side: starts the child, gives it turns, and replaces it when a case kills it.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::machine::{Event, Slot};
use crate::shared::{SLOTS, Shared};

/// A child process that executes cases on the host CPU.
#[derive(Debug)]
pub struct Witness {
    program: PathBuf,
    argument: String,
    shared: Shared,
    fd: OwnedFd,
    process: Process,
}

#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
    answers: ChildStdout,
}

impl Process {
    fn start(program: &Path, argument: &str, fd: &OwnedFd) -> io::Result<Process> {
        let mut child = Command::new(program)
            .arg(argument)
            .arg(fd.as_raw_fd().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().expect("stdin is a pipe");
        let answers = child.stdout.take().expect("stdout is a pipe");
        Ok(Process {
            child,
            orders,
            answers,
        })
    }

    /// One turn: the cases from `from` to below `to`. False if the child died.
    fn turn(&mut self, from: usize, to: usize) -> io::Result<bool> {
        let order = [from as u16, to as u16].map(u16::to_le_bytes).concat();
        if let Err(e) = self.orders.write_all(&order) {
            return if e.kind() == io::ErrorKind::BrokenPipe {
                Ok(false)
            } else {
                Err(e)
            };
        }
        let mut answer = [0];
        Ok(self.answers.read(&mut answer)? == 1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that is gone already is what this is to bring about; it is reaped either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Witness {
    /// Starts `program ARGUMENT FD`, whose main is to call [`crate::serve`] with that descriptor.
    pub fn start(program: &Path, argument: &str) -> io::Result<Witness> {
        let (shared, fd) = Shared::create()?;
        let process = Process::start(program, argument, &fd)?;
        Ok(Witness {
            program: program.to_owned(),
            argument: argument.to_owned(),
            shared,
            fd,
            process,
        })
    }

    /// How many cases fit into a turn.
    pub const fn capacity() -> usize {
        SLOTS
    }

    /// The slots, to fill and to read between turns.
    pub fn slots(&mut self) -> &mut [Slot] {
        self.shared.slots()
    }

    /// Runs the first `count` slots.
    ///
    /// # Errors
    /// If no child can be started, or one dies before its first case.
    pub fn run(&mut self, count: usize) -> io::Result<()> {
        for slot in &mut self.shared.slots()[..count] {
            slot.event = Event::default();
        }
        let mut from = 0;
        while from < count && !self.process.turn(from, count)? {
            let Some(culprit) = self.shared.running(count) else {
                return Err(io::Error::other("the witness died outside of any case"));
            };
            self.shared.slots()[culprit].event.state = Event::LOST;
            from = culprit + 1;
            self.process = Process::start(&self.program, &self.argument, &self.fd)?;
        }
        Ok(())
    }
}
