//! The handshake, and what the broker hands over in it.
//!
//! Hello, Welcome, Attach: see `atoll_abi::control`. Everything in the attach message is checked
//! here once; afterwards the process holds mapped links and open files, and no descriptor numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_abi::config::Config;
use atoll_abi::control::{
    Attach, Control, Fault, FaultKind, Hello, LinkDesc, Role, SegmentDesc, SegmentRole,
    SegmentSource,
};
use atoll_abi::link::{BellPage, LinkKind};
use atoll_abi::stats::StatsPage;
use atoll_abi::{ABI_VERSION, PeerId};
use atoll_transport::{
    Doorbell, Error, LinkMemory, LinkServer, Message, Segment, Session, View, process,
};

use crate::args::Broker;
use crate::serve::Served;

/// How long the broker may take for a step of the handshake. It may be starting a dozen others.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fault in this process's words.
pub fn fault(kind: FaultKind, what: impl fmt::Display) -> Fault {
    Fault {
        kind,
        what: what.to_string(),
    }
}

/// What kind of failure a transport error is.
pub fn transport_fault(error: &Error) -> Fault {
    let kind = match error {
        Error::Wire(_) | Error::Protocol(_) | Error::Message(_) | Error::OutOfRange { .. } => {
            FaultKind::Protocol
        }
        _ => FaultKind::Host,
    };
    fault(kind, error)
}

/// What the broker handed over.
#[derive(Debug)]
pub struct Attachment {
    /// Who this process is.
    pub peer: PeerId,
    /// What it is to do.
    pub config: Config,
    /// The machine's statistics, if it may write them.
    pub stats: Option<View<StatsPage>>,
    links: Vec<(LinkDesc, LinkMemory)>,
    files: BTreeMap<String, OwnedFd>,
}

impl Attachment {
    /// The link of this kind.
    pub fn link(&self, kind: LinkKind) -> Result<(LinkDesc, LinkMemory), Fault> {
        self.links
            .iter()
            .find(|(desc, _)| desc.kind == kind)
            .map(|(desc, link)| (*desc, link.clone()))
            .ok_or_else(|| {
                fault(
                    FaultKind::Protocol,
                    format!("the broker handed over no {kind:?} link"),
                )
            })
    }

    /// The serving end of the request link of this kind.
    pub fn serve(&self, kind: LinkKind) -> Result<Served, Fault> {
        let (desc, link) = self.link(kind)?;
        let (server, redo) =
            LinkServer::attach(link, desc.generation).map_err(|error| transport_fault(&error))?;
        Ok(Served { server, redo })
    }

    /// Takes a file that came along. Each can be taken once.
    pub fn take_file(&mut self, name: &str) -> Option<OwnedFd> {
        self.files.remove(name)
    }
}

/// Why there is no session to report a fault on.
pub(crate) type NoBroker = String;

/// Reaches the broker.
pub(crate) fn connect(broker: &Broker) -> Result<Session, NoBroker> {
    match broker {
        Broker::Inherited(fd) => process::take_inherited(*fd)
            .map(Session::from_fd)
            .map_err(|error| format!("descriptor {fd} is no session: {error}")),
        Broker::Socket { socket, .. } => Session::connect(socket)
            .map_err(|error| format!("cannot reach the broker at '{}': {error}", socket.display())),
    }
}

/// Says who this is and takes what there is to serve.
pub(crate) fn shake_hands(
    session: &mut Session,
    role: Role,
    binary: &str,
    broker: &Broker,
) -> Result<Attachment, NoBroker> {
    let name = match broker {
        Broker::Inherited(_) => String::new(),
        Broker::Socket { name, .. } => name.clone(),
    };
    let hello = Hello {
        abi_version: ABI_VERSION,
        role,
        pid: std::process::id(),
        binary: format!("{binary} {}", crate::VERSION),
        name,
    };
    session
        .send(&Control::Hello(hello))
        .map_err(|error| lost(&error))?;
    match next(session)?.control {
        Control::Welcome {
            abi_version: ABI_VERSION,
            ..
        } => {}
        Control::Welcome { abi_version, .. } => {
            return Err(format!(
                "the broker speaks version {abi_version} of the wire, this {binary} speaks {ABI_VERSION}; \
                 install both from one build"
            ));
        }
        Control::Refused { reason } => {
            return Err(format!("the broker refused this process: {reason}"));
        }
        _ => return Err("the broker did not answer the greeting".into()),
    }
    let message = next(session)?;
    match message.control {
        Control::Attach(attach) => unpack(attach, message.fds),
        Control::Stop { .. } => Err("the machine ended before this process was attached".into()),
        _ => Err("the broker did not say what to serve".into()),
    }
}

fn lost(error: &Error) -> NoBroker {
    format!("the broker is gone: {error}")
}

fn next(session: &mut Session) -> Result<Message, NoBroker> {
    let deadline = Instant::now() + PATIENCE;
    session
        .recv(Some(deadline))
        .map_err(|error| lost(&error))?
        .ok_or_else(|| format!("the broker said nothing for {} s", PATIENCE.as_secs()))
}

fn unpack(attach: Attach, fds: Vec<OwnedFd>) -> Result<Attachment, NoBroker> {
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let mut take = |index: u8| {
        fds.get_mut(usize::from(index))
            .and_then(Option::take)
            .ok_or_else(|| format!("the broker's attach message lacks descriptor {index}"))
    };
    let mut segments = Vec::new();
    for desc in &attach.segments {
        segments.push((desc.role, open_segment(desc, &mut take)?));
    }
    let mut files = BTreeMap::new();
    for file in attach.files {
        files.insert(file.name, take(file.fd)?);
    }
    let bad = |error: Error| format!("the broker handed over a bad segment: {error}");
    let mut attachment = Attachment {
        peer: attach.peer,
        config: attach.config,
        stats: None,
        links: Vec::new(),
        files,
    };
    let mut bell = None;
    for (role, segment) in &segments {
        match role {
            SegmentRole::Stats => attachment.stats = Some(segment.view(0).map_err(bad)?),
            SegmentRole::Bells => {
                let page: View<BellPage> = segment.view(0).map_err(bad)?;
                bell = Some(Doorbell::new(page.map(|page| &page.worker)));
            }
            _ => {}
        }
    }
    for (role, segment) in segments {
        if let SegmentRole::Link(desc) = role {
            let mut link = LinkMemory::open(segment).map_err(bad)?;
            if let Some(bell) = &bell {
                link = link.with_client_bell(bell.clone());
            }
            attachment.links.push((desc, link));
        }
    }
    Ok(attachment)
}

fn open_segment(
    desc: &SegmentDesc,
    take: &mut impl FnMut(u8) -> Result<OwnedFd, String>,
) -> Result<Arc<Segment>, NoBroker> {
    let length =
        usize::try_from(desc.len).map_err(|_| "a segment is longer than memory".to_owned())?;
    let opened = match &desc.source {
        SegmentSource::Fd(index) => Segment::from_fd(take(*index)?, length),
        SegmentSource::Named(name) => Segment::open_named(name, length),
    };
    opened.map_err(|error| format!("cannot map the {:?} segment: {error}", desc.role))
}
