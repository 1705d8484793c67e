//! Sessions that belong to no process of the machine: the owner, monitors, and newcomers who have not said who they are.

use atoll_abi::control::{Control, Hello, MonitorReply, MonitorRequest, Role, RunRequest};
use atoll_abi::{ABI_VERSION, PeerId};
use atoll_transport::{Error, Listener, Message, Session};
use broker_core::Conn;
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Most sessions at a time; further ones wait in the socket's backlog.
const MOST: usize = 64;
/// How long a newcomer may take to say Hello.
const MANNERS: Duration = Duration::from_secs(10);

/// What came of a session.
#[derive(Debug)]
pub(crate) enum Visit {
    /// Somebody wants to be a process of the machine.
    Knock {
        conn: Conn,
        hello: Hello,
    },
    Run {
        conn: Conn,
        request: RunRequest,
        fds: Vec<OwnedFd>,
    },
    Monitor {
        conn: Conn,
        request: MonitorRequest,
    },
    /// A command line was welcomed.
    Greeted,
    /// The session is closed, by whichever side.
    Left {
        conn: Conn,
    },
}

#[derive(Debug)]
struct Guest {
    session: Session,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Stranger {
        since: Instant,
    },
    /// He said Hello, and the machine has to decide.
    Waiting,
    Cli,
}

/// All such sessions, and the socket to which new ones come.
#[derive(Debug)]
pub(crate) struct Sessions {
    listener: Option<Listener>,
    guests: BTreeMap<Conn, Guest>,
    next: Conn,
}

impl Sessions {
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self {
            listener,
            guests: BTreeMap::new(),
            next: 1,
        }
    }

    pub(crate) fn add(&mut self, session: Session) -> Conn {
        let conn = self.next;
        self.next += 1;
        self.guests.insert(
            conn,
            Guest {
                session,
                standing: Standing::Stranger {
                    since: Instant::now(),
                },
            },
        );
        conn
    }

    /// The socket, while there is room for another session.
    pub(crate) fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref().filter(|_| self.guests.len() < MOST)
    }

    /// The sessions that somebody may say something on.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = (Conn, &Session)> {
        let talks = |guest: &Guest| guest.standing != Standing::Waiting;
        self.guests
            .iter()
            .filter(move |(_, guest)| talks(guest))
            .map(|(conn, guest)| (*conn, &guest.session))
    }

    pub(crate) fn accept(&mut self) {
        // Somebody who knocked and ran away is nobody's concern.
        while let Some(Ok(Some(session))) = self.listener().map(Listener::try_accept) {
            self.add(session);
        }
    }

    /// When a stranger will have been silent for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let since = |guest: &Guest| match guest.standing {
            Standing::Stranger { since } => Some(since + MANNERS),
            Standing::Waiting | Standing::Cli => None,
        };
        self.guests.values().filter_map(since).min()
    }

    /// Shows the silent ones out.
    pub(crate) fn tidy(&mut self) {
        let now = Instant::now();
        self.guests.retain(|_, guest| !matches!(guest.standing, Standing::Stranger { since } if now >= since + MANNERS));
    }

    /// Takes the next message of a session; `None` if there is no other. A session has to be asked until then: what was received and not
    /// taken shows in no `poll`.
    pub(crate) fn receive(&mut self, conn: Conn) -> Option<Visit> {
        let guest = self.guests.get_mut(&conn)?;
        let message = match guest.session.try_recv() {
            Ok(message) => message?,
            Err(error) => return Some(self.refuse(conn, &error.to_string())),
        };
        match (guest.standing, message) {
            (
                Standing::Stranger { .. },
                Message {
                    control: Control::Hello(hello),
                    ..
                },
            ) => self.greet(conn, hello),
            (
                Standing::Cli,
                Message {
                    control: Control::Run(request),
                    fds,
                },
            ) => Some(Visit::Run { conn, request, fds }),
            (
                Standing::Cli,
                Message {
                    control: Control::Monitor(request),
                    ..
                },
            ) => Some(Visit::Monitor { conn, request }),
            (_, message) => {
                let name = crate::messages::name(&message.control);
                Some(self.refuse(conn, &format!("{name} is out of place here")))
            }
        }
    }

    fn greet(&mut self, conn: Conn, hello: Hello) -> Option<Visit> {
        let guest = self.guests.get_mut(&conn)?;
        if hello.role != Role::Cli {
            guest.standing = Standing::Waiting;
            return Some(Visit::Knock { conn, hello });
        }
        if hello.abi_version != ABI_VERSION {
            let theirs = hello.abi_version;
            let reason = format!(
                "you speak version {theirs} of the wire, this broker speaks {ABI_VERSION}; install both from one build"
            );
            return Some(self.refuse(conn, &reason));
        }
        guest.standing = Standing::Cli;
        let peer = PeerId::new(u16::MAX, conn as u32);
        self.tell(
            conn,
            &Control::Welcome {
                abi_version: ABI_VERSION,
                peer,
            },
        );
        Some(Visit::Greeted)
    }

    /// Says why, and closes.
    pub(crate) fn refuse(&mut self, conn: Conn, reason: &str) -> Visit {
        self.tell(
            conn,
            &Control::Refused {
                reason: reason.to_owned(),
            },
        );
        self.guests.remove(&conn);
        Visit::Left { conn }
    }

    /// Takes a session out, to be a process's.
    pub(crate) fn take(&mut self, conn: Conn) -> Option<Session> {
        self.guests.remove(&conn).map(|guest| guest.session)
    }

    pub(crate) fn get(&self, conn: Conn) -> Option<&Session> {
        self.guests.get(&conn).map(|guest| &guest.session)
    }

    /// Says something that matters. That somebody is gone is noticed when he is listened to.
    pub(crate) fn tell(&self, conn: Conn, control: &Control) {
        if let Some(guest) = self.guests.get(&conn) {
            let _ = guest.session.send(control);
        }
    }

    /// Says something only if he listens: a stopped terminal must not stop the machine's supervision. `false` if he does not.
    pub(crate) fn mention(&self, conn: Conn, control: &Control) -> bool {
        let Some(guest) = self.guests.get(&conn) else {
            return false;
        };
        let mut fds = [PollFd::new(&guest.session, PollFlags::OUT)];
        let listens =
            poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready == 1);
        listens && guest.session.send(control).is_ok()
    }

    /// Tells every command line that it is over.
    pub(crate) fn tell_all_ended(&self, ended: &MonitorReply) {
        for (conn, guest) in &self.guests {
            if guest.standing == Standing::Cli {
                self.tell(*conn, &Control::MonitorReply(ended.clone()));
            }
        }
    }
}

/// Did the other side just close?
pub(crate) fn is_hang_up(error: &Error) -> bool {
    matches!(error, Error::HangUp)
}
