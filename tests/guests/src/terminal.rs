//! A pseudo-terminal with the test at its other end, as a terminal emulator would be.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// See the module's documentation.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// Held open, or its modes would be forgotten with its last user.
    slave: OwnedFd,
}

impl Terminal {
    /// A terminal that nobody uses yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("there are pseudo-terminals");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let name = name.into_string().expect("names of terminals are ASCII");
        let slave = File::options().read(true).write(true).open(name);
        Self {
            master: master.into(),
            slave: slave.expect("it is unlocked").into(),
        }
    }

    /// Whether programs get each key as it is typed.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("it is a terminal");
        !modes.local_modes.contains(LocalModes::ICANON)
    }

    /// Presses keys.
    pub fn press(&self, keys: &[u8]) {
        (&self.master)
            .write_all(keys)
            .expect("a terminal takes a few keys");
    }

    /// For a program that runs on it.
    pub(crate) fn stdio(&self) -> Stdio {
        let slave = self.slave.as_fd().try_clone_to_owned();
        slave.expect("there is room for a descriptor").into()
    }

    /// For reading what programs show.
    pub(crate) fn screen(&self) -> File {
        self.master
            .try_clone()
            .expect("there is room for a descriptor")
    }
}
