//! The processes: starting, watching, killing and collecting them.

use atoll_abi::PeerId;
use atoll_abi::control::Role;
use atoll_transport::process::{ProcessHandle, die_with_parent, inherit};
use atoll_transport::{Result, Session};
use broker_core::Exit;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the broker holds of one peer, of its current generation.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: PeerId,
    pub(crate) session: Option<Session>,
    /// Its process, unless it lives where the broker cannot see it.
    pub(crate) handle: Option<ProcessHandle>,
    is_child: bool,
}

impl Process {
    /// A process that somebody else started.
    pub(crate) fn adopted(id: PeerId, session: Session, handle: Option<ProcessHandle>) -> Self {
        Self {
            id,
            session: Some(session),
            handle,
            is_child: false,
        }
    }

    /// Starts the binary that serves `role`.
    pub(crate) fn spawn(id: PeerId, role: Role) -> Result<Self, String> {
        let path = binary(role)?;
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot start '{}': {error}", path.display());
        let (ours, theirs) = Session::pair().map_err(|error| failed(&error))?;
        let mut command = Command::new(&path);
        let fd = inherit(&mut command, vec![theirs.into_fd()])[0];
        command
            .arg("--session-fd")
            .arg(fd.to_string())
            // By itself the C library's allocator would, after one large request, keep all later ones in the heap for good (mallopt(3)).
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::null());
        if role != Role::Char {
            // Only a serial line has something to say to the user: where its pseudo-terminal is.
            command.stdout(Stdio::null());
            // Ctrl-C at the terminal goes to every process of the foreground group; the one at the console decides what it means.
            command.process_group(0);
        }
        if role == Role::Worker {
            // A back end settles what it has when it notices the hang-up. The worker has nothing to save.
            die_with_parent(&mut command);
        }
        let child = command.spawn().map_err(|error| failed(&error))?;
        let handle = ProcessHandle::open(child.id()).map_err(|error| failed(&error))?;
        Ok(Self {
            id,
            session: Some(ours),
            handle: Some(handle),
            is_child: true,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.handle.as_ref().map_or(0, ProcessHandle::pid)
    }

    /// Does a debugger hold it (proc(5), TracerPid)? Then its silence says nothing.
    pub(crate) fn is_traced(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let tracer = |text: String| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"));
            line.is_some_and(|pid| pid.trim() != "0")
        };
        status.is_ok_and(tracer)
    }

    /// Kills it. Its exit is seen later.
    pub(crate) fn kill(&self) {
        if let Some(handle) = &self.handle {
            // The only error left is a process that may not be killed, and its deadline takes care of that.
            let _ = handle.kill();
        }
    }

    /// Collects it once it is dead.
    pub(crate) fn collect(&mut self) -> Exit {
        let handle = self.handle.take();
        let status = handle
            .filter(|_| self.is_child)
            .and_then(|handle| handle.reap().ok().flatten());
        match status {
            Some(code @ 129..) => Exit::Signal(code - 128),
            Some(code) => Exit::Code(code),
            None => Exit::Unknown,
        }
    }
}

/// The binary of a role, beside the broker's own.
fn binary(role: Role) -> Result<PathBuf, String> {
    let name = match role {
        Role::Worker => "cpu-worker",
        Role::Block => "blockd",
        Role::Char => "seriald",
        Role::Net => "netd",
        Role::Fs => "p9d",
        Role::Seat | Role::Cli => return Err(format!("no binary serves as {role:?}")),
    };
    let own = std::env::current_exe()
        .map_err(|error| format!("cannot find the broker's own binary: {error}"))?;
    let path = own.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "'{}' does not exist; build it, or install all of Atoll",
            path.display()
        ))
    }
}
