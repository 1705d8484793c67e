//! The segments of an attach message: described by the broker, opened by the peer.

use crate::{Bytes, Doorbell, Error, GuestRam, LinkMemory, Result, Segment, SharedPage, View};
use atoll_abi::control::{Attach, LinkDesc, MAX_FDS, SegmentDesc, SegmentRole, SegmentSource};
use atoll_abi::link::BellPage;
use atoll_abi::{LinkId, PAGE};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Collects what an attach message hands over. Send the message with [`Self::fds`].
#[derive(Debug, Default)]
pub struct Outgoing<'a> {
    pub segments: Vec<SegmentDesc>,
    pub fds: Vec<BorrowedFd<'a>>,
}

impl<'a> Outgoing<'a> {
    /// Adds a segment under its role.
    pub fn segment(&mut self, role: SegmentRole, segment: &'a Segment) -> Result<()> {
        let source = match (segment.fd(), segment.name()) {
            (Some(fd), _) => SegmentSource::Fd(self.fd(fd)?),
            (None, Some(name)) => SegmentSource::Named(name.to_owned()),
            (None, None) => return Err(Error::Protocol("segment cannot be handed over")),
        };
        self.segments.push(SegmentDesc {
            role,
            len: segment.len() as u64,
            source,
        });
        Ok(())
    }

    /// Adds bytes that lie at the start of `segment` (see [`Segment::from_bytes`]).
    pub fn blob(&mut self, which: u16, bytes: usize, segment: &'a Segment) -> Result<()> {
        if bytes > segment.len() {
            return Err(Error::Protocol("blob is longer than its segment"));
        }
        self.segment(SegmentRole::Blob(which), segment)?;
        if let Some(desc) = self.segments.last_mut() {
            desc.len = bytes as u64;
        }
        Ok(())
    }

    /// Adds a link.
    pub fn link(&mut self, id: LinkId, link: &'a LinkMemory) -> Result<()> {
        let (kind, geometry) = (link.kind(), *link.geometry());
        let desc = LinkDesc {
            link: id,
            kind,
            generation: link.generation(),
            geometry,
        };
        self.segment(SegmentRole::Link(desc), link.segment())
    }

    /// Adds a descriptor and returns its index, for [`FileDesc`](atoll_abi::control::FileDesc).
    pub fn fd(&mut self, fd: BorrowedFd<'a>) -> Result<u8> {
        if self.fds.len() == MAX_FDS {
            return Err(Error::Protocol("too many file descriptors"));
        }
        self.fds.push(fd);
        Ok(self.fds.len() as u8 - 1)
    }
}

/// What came with an attach message, by role.
#[derive(Debug)]
pub struct Incoming {
    segments: Vec<SegmentDesc>,
    fds: Vec<Option<OwnedFd>>,
}

impl Incoming {
    pub fn new(attach: &Attach, fds: Vec<OwnedFd>) -> Self {
        Self {
            segments: attach.segments.clone(),
            fds: fds.into_iter().map(Some).collect(),
        }
    }

    /// Takes a descriptor that the message names; each can be taken once.
    pub fn fd(&mut self, index: u8) -> Result<OwnedFd> {
        let fd = self.fds.get_mut(usize::from(index)).and_then(Option::take);
        fd.ok_or(Error::Protocol(
            "attach message names a file descriptor that did not come",
        ))
    }

    fn desc(&self, role: impl Fn(&SegmentRole) -> bool) -> Result<SegmentDesc> {
        let desc = self.segments.iter().find(|desc| role(&desc.role));
        desc.cloned()
            .ok_or(Error::Protocol("attach message lacks a segment"))
    }

    fn open(&mut self, desc: &SegmentDesc) -> Result<Arc<Segment>> {
        let len = segment_len(desc)?;
        match &desc.source {
            SegmentSource::Fd(index) => Segment::from_fd(self.fd(*index)?, len),
            SegmentSource::Named(name) => Segment::open_named(name, len),
        }
    }

    /// The segment with this role.
    pub fn segment(&mut self, role: SegmentRole) -> Result<Arc<Segment>> {
        let desc = self.desc(|found| *found == role)?;
        self.open(&desc)
    }

    /// A page of atomics: clock, routes, statistics, bells.
    pub fn page<T: SharedPage>(&mut self, role: SegmentRole) -> Result<View<T>> {
        self.segment(role)?.view(0)
    }

    /// Guest RAM.
    pub fn guest_ram(&mut self) -> Result<GuestRam> {
        let desc = self.desc(|role| *role == SegmentRole::GuestRam)?;
        let len = segment_len(&desc)?;
        match &desc.source {
            SegmentSource::Fd(index) => GuestRam::from_fd(self.fd(*index)?, len),
            SegmentSource::Named(name) => GuestRam::of(Segment::open_named(name, len)?),
        }
    }

    /// The bytes that the broker read for this peer under the number `which`.
    pub fn blob(&mut self, which: u16) -> Result<Bytes> {
        let desc = self.desc(|role| *role == SegmentRole::Blob(which))?;
        self.open(&desc)?.bytes(0, desc.len as usize)
    }

    /// The bell on which the worker sleeps.
    pub fn worker_bell(&mut self) -> Result<Doorbell> {
        let page: View<BellPage> = self.page(SegmentRole::Bells)?;
        Ok(Doorbell::new(page.map(|page| &page.worker)))
    }

    /// All links, in the order of the message. With `bell` both ends use the worker's one bell.
    pub fn links(&mut self, bell: Option<&Doorbell>) -> Result<Vec<(LinkDesc, LinkMemory)>> {
        let mut links = Vec::new();
        for desc in self.segments.clone() {
            let SegmentRole::Link(link) = desc.role else {
                continue;
            };
            let memory = LinkMemory::open(self.open(&desc)?)?;
            if memory.kind() != link.kind {
                return Err(Error::Protocol("link is of another kind than announced"));
            }
            let memory = match bell {
                Some(bell) => memory.with_client_bell(bell.clone()),
                None => memory,
            };
            links.push((link, memory));
        }
        Ok(links)
    }
}

/// A segment has whole pages; a description may say fewer bytes, of a blob for example.
fn segment_len(desc: &SegmentDesc) -> Result<usize> {
    let len = usize::try_from(desc.len)
        .ok()
        .and_then(|len| len.checked_next_multiple_of(PAGE));
    len.ok_or(Error::Protocol("segment is too long"))
}
