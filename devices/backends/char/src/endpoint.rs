//! The host's ends of a serial line, none of which ever blocks.
//!
//! Invariant: every descriptor that [`Endpoint::interest`] names stays open while somebody polls it,
//! because the poller holds a reference of its own.

use crate::escape::{Escape, Key};
use crate::terminal::RawTerminal;
use atoll_abi::console::{ConsoleFrame, MAX_FRAME, MAX_TEXT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::pty::OpenptFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a pseudo-terminal that nobody has open is looked at: the kernel tells nobody.
const PTY_LOOK: Duration = Duration::from_millis(200);
/// A terminal that polls writable may have room for little; a pipe has room for PIPE_BUF.
const TERMINAL_CHUNK: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub struct Endpoint(Kind);

#[derive(Debug)]
enum Kind {
    Null,
    File {
        file: File,
        base: u64,
    },
    Console {
        socket: Arc<OwnedFd>,
        open: bool,
    },
    Terminal(Terminal),
    Pty {
        master: Arc<OwnedFd>,
        attached: bool,
    },
    Unix {
        listener: Arc<OwnedFd>,
        client: Option<Arc<OwnedFd>>,
    },
}

/// This process's own standard input and output.
#[derive(Debug)]
struct Terminal {
    input: Arc<OwnedFd>,
    output: Arc<OwnedFd>,
    _raw: Option<RawTerminal>,
    is_terminal: bool,
    escape: Escape,
    keys: Vec<Key>,
    reading: bool,
}

/// What to poll for, and how long at most.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    pub(crate) fds: Vec<(Arc<OwnedFd>, PollFlags)>,
    pub(crate) timeout: Option<Duration>,
}

impl Endpoint {
    /// Takes everything and gives nothing.
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// A file: byte `n` of the run is at `base + n`, so that writing it again changes nothing. The
    /// first of a line's servers names no `base`; its successors name the one that it returned.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn file(path: &Path, append: bool, base: Option<u64>) -> io::Result<(Self, u64)> {
        let fresh = base.is_none() && !append;
        let mut options = File::options();
        options.write(true).create(true).truncate(fresh).mode(0o644);
        let file = options.open(path)?;
        let base = match base {
            Some(base) => base,
            None => file.metadata()?.len(),
        };
        Ok((Self(Kind::File { file, base }), base))
    }

    /// A console of Atoll's own: one end of [`crate::socket_pair`].
    pub fn console(socket: OwnedFd) -> Self {
        Self(Kind::Console {
            socket: Arc::new(socket),
            open: true,
        })
    }

    /// The given input and output; a terminal becomes raw until the endpoint is dropped.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn terminal(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let raw = RawTerminal::enter(&input)?;
        let is_terminal = rustix::termios::isatty(&output);
        Ok(Self(Kind::Terminal(Terminal {
            input: Arc::new(input),
            output: Arc::new(output),
            _raw: raw,
            is_terminal,
            escape: Escape::default(),
            keys: Vec::new(),
            reading: true,
        })))
    }

    /// A pseudo-terminal whose master this is.
    pub fn pty(master: OwnedFd) -> Self {
        Self(Kind::Pty {
            master: Arc::new(master),
            attached: false,
        })
    }

    /// A listening Unix socket, made by [`listen`].
    pub fn unix(listener: OwnedFd) -> Self {
        Self(Kind::Unix {
            listener: Arc::new(listener),
            client: None,
        })
    }

    /// Whether somebody takes what is written.
    pub fn is_attached(&self) -> bool {
        match &self.0 {
            Kind::Null | Kind::File { .. } | Kind::Terminal(_) => true,
            Kind::Console { open, .. } => *open,
            Kind::Pty { attached, .. } => *attached,
            Kind::Unix { client, .. } => client.is_some(),
        }
    }

    /// Writes bytes of which the first has `number`: how many were taken, or nothing if there is no
    /// room now. An endpoint whose reader went away becomes unattached.
    pub(crate) fn write(&mut self, number: u64, bytes: &[u8]) -> io::Result<Option<usize>> {
        let result = match &mut self.0 {
            Kind::Null => Ok(bytes.len()),
            Kind::File { file, base } => {
                file.write_all_at(bytes, *base + number)?;
                Ok(bytes.len())
            }
            Kind::Console { socket, .. } => {
                let text = &bytes[..bytes.len().min(MAX_TEXT)];
                let packet = ConsoleFrame::Output { number, text }.encode();
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&**socket, &packet, flags).map(|_| text.len())
            }
            Kind::Terminal(terminal) => terminal.write(bytes),
            Kind::Pty { master, .. } => rustix::io::write(&**master, bytes),
            Kind::Unix {
                client: Some(client),
                ..
            } => rustix::net::send(&**client, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::Unix { client: None, .. } => Err(Errno::AGAIN),
        };
        match result {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            // A pseudo-terminal answers EIO when its other side was closed.
            Err(Errno::PIPE | Errno::CONNRESET | Errno::IO) if self.detach() => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The reader is gone; `false` where there will never be another.
    fn detach(&mut self) -> bool {
        match &mut self.0 {
            Kind::Console { open, .. } => *open = false,
            Kind::Pty { attached, .. } => *attached = false,
            Kind::Unix { client, .. } => *client = None,
            Kind::Null | Kind::File { .. } | Kind::Terminal(_) => return false,
        }
        true
    }

    /// What to poll for: input if there is room for it, and room if there is output.
    pub(crate) fn interest(&self, reading: bool, writing: bool) -> Interest {
        let mut interest = Interest::default();
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, reading);
        events.set(PollFlags::OUT, writing);
        match &self.0 {
            Kind::Null | Kind::File { .. } | Kind::Console { open: false, .. } => {}
            // Polled for nothing, a closed connection would still end every wait at once.
            Kind::Console { .. }
            | Kind::Pty { attached: true, .. }
            | Kind::Unix {
                client: Some(_), ..
            } if events.is_empty() => {}
            Kind::Console { socket, .. } => interest.fds.push((Arc::clone(socket), events)),
            Kind::Terminal(terminal) => {
                if reading && terminal.reading {
                    interest
                        .fds
                        .push((Arc::clone(&terminal.input), PollFlags::IN));
                }
                if writing {
                    interest
                        .fds
                        .push((Arc::clone(&terminal.output), PollFlags::OUT));
                }
            }
            Kind::Pty {
                attached: false, ..
            } => interest.timeout = Some(PTY_LOOK),
            Kind::Pty { master, .. } => interest.fds.push((Arc::clone(master), events)),
            Kind::Unix {
                client: Some(client),
                ..
            } => {
                interest.fds.push((Arc::clone(client), events));
            }
            Kind::Unix {
                listener,
                client: None,
            } => {
                interest.fds.push((Arc::clone(listener), PollFlags::IN));
            }
        }
        interest
    }

    /// Looks whether somebody came or went.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Pty { master, attached } => {
                let mut fds = [PollFd::new(&**master, PollFlags::empty())];
                poll(
                    &mut fds,
                    Some(&Timespec {
                        tv_sec: 0,
                        tv_nsec: 0,
                    }),
                )?;
                *attached = !fds[0].revents().contains(PollFlags::HUP);
            }
            Kind::Unix {
                listener,
                client: client @ None,
            } => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                match rustix::net::accept_with(&**listener, flags) {
                    Ok(accepted) => *client = Some(Arc::new(accepted)),
                    Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Input that is there now. `known` counts the bytes that the guest was given since the run
    /// began, by predecessors too. Call [`Self::taken`] once the guest has them.
    pub(crate) fn read(&mut self, known: u64) -> io::Result<Vec<u8>> {
        let mut buffer = [0; MAX_FRAME];
        let result = match &mut self.0 {
            Kind::Null | Kind::File { .. } | Kind::Console { open: false, .. } => {
                return Ok(vec![]);
            }
            Kind::Console { socket, .. } => {
                let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
                match rustix::net::recv(&**socket, &mut buffer[..], flags) {
                    Ok((length, _)) if length != 0 => {
                        return Ok(self.unknown(&buffer[..length.min(MAX_FRAME)], known));
                    }
                    other => other.map(|(length, _)| length),
                }
            }
            Kind::Terminal(terminal) => return terminal.read(),
            Kind::Pty {
                attached: false, ..
            }
            | Kind::Unix { client: None, .. } => return Ok(vec![]),
            Kind::Pty { master, .. } => rustix::io::read(&**master, &mut buffer[..256]),
            Kind::Unix {
                client: Some(client),
                ..
            } => rustix::io::read(&**client, &mut buffer[..256]),
        };
        match result {
            Ok(0) | Err(Errno::CONNRESET | Errno::IO) => {
                self.detach();
                Ok(Vec::new())
            }
            Ok(length) => Ok(buffer[..length].to_vec()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Of a console's packet, what the guest was not given. A packet of which nothing is left, or
    /// that makes no sense, is removed here.
    fn unknown(&mut self, packet: &[u8], known: u64) -> Vec<u8> {
        if let Ok(ConsoleFrame::Input { number, text }) = ConsoleFrame::decode(packet) {
            let skip = usize::try_from(known.saturating_sub(number)).unwrap_or(usize::MAX);
            if let Some(new) = text.get(skip..).filter(|new| !new.is_empty()) {
                return new.to_vec();
            }
        }
        self.taken();
        Vec::new()
    }

    /// The guest has what was read.
    pub(crate) fn taken(&mut self) {
        if let Kind::Console { socket, .. } = &self.0 {
            let mut nothing = [0; 1];
            let _ = rustix::net::recv(&**socket, &mut nothing[..], RecvFlags::DONTWAIT);
        }
    }

    /// What the user asked for with an escape key.
    pub(crate) fn take_keys(&mut self) -> Vec<Key> {
        match &mut self.0 {
            Kind::Terminal(terminal) => std::mem::take(&mut terminal.keys),
            _ => Vec::new(),
        }
    }
}

impl Terminal {
    /// Polls before it writes: standard output is shared, so it is not made non-blocking.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut fds = [PollFd::new(&*self.output, PollFlags::OUT)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )?;
        if fds[0].revents().is_empty() {
            return Err(Errno::AGAIN);
        }
        let most = if self.is_terminal {
            TERMINAL_CHUNK
        } else {
            4096
        };
        rustix::io::write(&*self.output, &bytes[..bytes.len().min(most)])
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut fds = [PollFd::new(&*self.input, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )?;
        if fds[0].revents().is_empty() || !self.reading {
            return Ok(Vec::new());
        }
        let mut buffer = [0; 256];
        let length = match rustix::io::read(&*self.input, &mut buffer[..]) {
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Vec::new()),
            // The terminal is gone, which is the end of its input.
            Err(_) => 0,
        };
        self.reading = length != 0;
        let mut text = Vec::new();
        self.keys
            .extend(self.escape.filter(&buffer[..length], &mut text));
        Ok(text)
    }
}

/// Listens on a Unix socket for one client at a time. A path that a dead process left is taken over;
/// one on which somebody listens is not.
///
/// # Errors
/// When the path cannot be used.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// A new raw pseudo-terminal: its master, and the path of its other side.
///
/// # Errors
/// When the host has none left.
pub fn open_pty() -> io::Result<(OwnedFd, String)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let name = name
        .into_string()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut settings = rustix::termios::tcgetattr(&master)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&master, rustix::termios::OptionalActions::Now, &settings)?;
    // The kernel says that the other side is closed only after it was open once.
    drop(
        File::options()
            .read(true)
            .write(true)
            .custom_flags(NOCTTY)
            .open(&name)?,
    );
    rustix::io::ioctl_fionbio(master.as_fd(), true)?;
    Ok((master, name))
}

/// O_NOCTTY of Linux, for std's open.
const NOCTTY: i32 = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
