//! What of the host has to outlive one server: it is opened here once, and each server gets a duplicate.
//!
//! The overlay of a snapshot holds what the guest wrote; a pseudo-terminal and a listening socket are known by their names to people who
//! should not notice that a process behind them was replaced.

use atoll_abi::config::{BlockConfig, CharConfig, CharKind, Config};
use broker_core::LinkPlan;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::listen::make_way;

/// The host's ends of one place, until the machine is over.
#[derive(Debug, Default)]
pub(crate) struct HostEnds {
    /// For each server in turn, under the name by which it knows it.
    pub(crate) file: Option<(&'static str, OwnedFd)>,
    socket: Option<PathBuf>,
}

impl HostEnds {
    /// Opens what the server of `link` and its successors will need. The error is for the user.
    pub(crate) fn open(link: &LinkPlan) -> Result<Self, String> {
        let name = &link.name;
        let failed = |what: &str, error: io::Error| format!("{name}: cannot open {what}: {error}");
        match &link.config {
            Config::Block(BlockConfig { snapshot: true, .. }) => {
                let file = tempfile::tempfile().map_err(|error| failed("an overlay", error))?;
                Ok(Self {
                    file: Some(("overlay", file.into())),
                    socket: None,
                })
            }
            Config::Char(CharConfig {
                kind: CharKind::Pty,
                ..
            }) => {
                let (master, path) =
                    pseudo_terminal().map_err(|error| failed("a pseudo-terminal", error))?;
                // These are QEMU's words, which scripts look for.
                println!("char device redirected to {path} (label {name})");
                Ok(Self {
                    file: Some(("pty", master)),
                    socket: None,
                })
            }
            Config::Char(CharConfig {
                kind: CharKind::UnixServer { path, .. },
                ..
            }) => {
                make_way(Path::new(path)).map_err(|why| format!("{name}: {why}"))?;
                let listener = UnixListener::bind(path)
                    .map_err(|error| failed(&format!("'{path}'"), error))?;
                listener
                    .set_nonblocking(true)
                    .map_err(|error| failed(&format!("'{path}'"), error))?;
                Ok(Self {
                    file: Some(("listener", listener.into())),
                    socket: Some(path.into()),
                })
            }
            _ => Ok(Self::default()),
        }
    }
}

impl Drop for HostEnds {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// A raw pseudo-terminal: its master, and the path of its other side.
fn pseudo_terminal() -> io::Result<(OwnedFd, String)> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let path = rustix::pty::ptsname(&master, Vec::new())?;
    let path = path
        .into_string()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut settings = tcgetattr(&master)?;
    settings.make_raw();
    tcsetattr(&master, OptionalActions::Now, &settings)?;
    // The kernel reports the other side as closed only after it was open once.
    drop(rustix::fs::open(
        &path,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, path))
}
