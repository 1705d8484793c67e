//! A link segment, opened: rings, arenas, cursors and bells of one link, with sizes that were checked once.

use crate::segment::Slots;
use crate::{Bytes, Doorbell, Error, Result, Segment, View};
use atoll_abi::link::{Cursor, LinkGeometry, LinkHeader, LinkKind, LinkOffsets, NOTES};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The memory of a link, as each of the three that map it sees it: broker, client (the worker), server.
#[derive(Clone, Debug)]
pub struct LinkMemory {
    segment: Arc<Segment>,
    header: View<LinkHeader>,
    kind: LinkKind,
    geometry: LinkGeometry,
    offsets: LinkOffsets,
    client_bell: Doorbell,
}

/// Positions stay below this, whatever a peer writes into a cursor; a message each nanosecond takes 146 years to get there.
const POSITION_LIMIT: u64 = 1 << 62;

/// Reads a cursor that this side will count on from.
pub(crate) fn read_position(cursor: &Cursor) -> Result<u64> {
    let position = cursor.position.load(Ordering::Acquire);
    if position < POSITION_LIMIT {
        Ok(position)
    } else {
        Err(Error::Protocol("cursor is out of range"))
    }
}

/// Which of the three rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Request,
    Reply,
    Input,
}

impl LinkMemory {
    /// Broker: a new link in a segment of its own.
    pub fn create(
        name: &str,
        kind: LinkKind,
        geometry: &LinkGeometry,
        generation: u32,
    ) -> Result<Self> {
        geometry.check()?;
        let segment = Segment::create(name, geometry.offsets().len)?;
        Self::create_in(segment, kind, geometry, generation)
    }

    /// Broker: a new link in a zeroed segment, such as a named one.
    pub fn create_in(
        segment: Arc<Segment>,
        kind: LinkKind,
        geometry: &LinkGeometry,
        generation: u32,
    ) -> Result<Self> {
        geometry.check()?;
        segment
            .view::<LinkHeader>(0)?
            .init(kind, geometry, generation);
        Self::open(segment)
    }

    /// Either end: a link that the broker handed over. The sizes are read once, here; later changes of the header by
    /// a hostile peer have no effect.
    pub fn open(segment: Arc<Segment>) -> Result<Self> {
        let header: View<LinkHeader> = segment.view(0)?;
        let (kind, geometry) = header.read(segment.len())?;
        let client_bell = Doorbell::new(header.map(|header| &header.client_bell));
        let offsets = geometry.offsets();
        Ok(Self {
            segment,
            header,
            kind,
            geometry,
            offsets,
            client_bell,
        })
    }

    /// Both ends: the client sleeps on this bell, not on the link's own. A client of many links has one for all.
    #[must_use]
    pub fn with_client_bell(mut self, bell: Doorbell) -> Self {
        self.client_bell = bell;
        self
    }

    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub fn kind(&self) -> LinkKind {
        self.kind
    }

    pub fn geometry(&self) -> &LinkGeometry {
        &self.geometry
    }

    /// The generation of the server that may serve.
    pub fn generation(&self) -> u32 {
        self.header.generation.load(Ordering::Acquire)
    }

    /// Broker: from now on only a server of this generation may serve. Its predecessor is dead already: generations
    /// guard the rings, fencing guards the disk.
    pub fn set_generation(&self, generation: u32) {
        self.header.generation.store(generation, Ordering::Release);
        self.server_bell().ring();
    }

    /// The server's progress, for the heartbeat.
    pub fn progress(&self) -> u64 {
        self.header.progress.position.load(Ordering::Relaxed)
    }

    /// Server: still alive.
    pub fn beat(&self) {
        let progress = &self.header.progress.position;
        progress.store(
            progress.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Requests published, replies published, requests settled: for statistics.
    pub fn counts(&self) -> (u64, u64, u64) {
        let count = |cursor: &Cursor| cursor.position.load(Ordering::Relaxed);
        (
            count(&self.header.requested),
            count(&self.header.replied),
            count(&self.header.settled),
        )
    }

    /// A word that the server keeps for its successor. `index` is below [`NOTES`].
    pub fn note(&self, index: usize) -> u64 {
        self.header.notes[index % NOTES].load(Ordering::Acquire)
    }

    /// Server: sets a note.
    pub fn set_note(&self, index: usize, value: u64) {
        self.header.notes[index % NOTES].store(value, Ordering::Release);
    }

    /// Wakes the client.
    pub fn client_bell(&self) -> Doorbell {
        self.client_bell.clone()
    }

    /// Wakes the server.
    pub fn server_bell(&self) -> Doorbell {
        Doorbell::new(self.header.map(|header| &header.server_bell))
    }

    pub(crate) fn header(&self) -> &LinkHeader {
        &self.header
    }

    pub(crate) fn slots(&self, ring: Ring) -> Result<Slots> {
        let (offset, count) = match ring {
            Ring::Request => (self.offsets.request_ring, self.geometry.slots),
            Ring::Reply => (self.offsets.reply_ring, self.geometry.slots),
            Ring::Input => (self.offsets.input_ring, self.geometry.input_slots),
        };
        Slots::new(&self.segment, offset, count as usize)
    }

    pub(crate) fn arena(&self, ring: Ring) -> Result<Bytes> {
        let (offset, len) = match ring {
            Ring::Request => (self.offsets.request_arena, self.geometry.request_arena),
            Ring::Reply => (self.offsets.reply_arena, self.geometry.reply_arena),
            Ring::Input => (self.offsets.input_arena, self.geometry.input_arena),
        };
        self.segment.bytes(offset, len as usize)
    }

    /// The cursors of a ring used as a plain queue: sent, taken.
    pub(crate) fn cursors(&self, ring: Ring) -> (View<Cursor>, View<Cursor>) {
        let header = &self.header;
        match ring {
            Ring::Request => (
                header.map(|h| &h.requested),
                header.map(|h| &h.request_taken),
            ),
            Ring::Reply => (header.map(|h| &h.replied), header.map(|h| &h.reply_taken)),
            Ring::Input => (
                header.map(|h| &h.input_sent),
                header.map(|h| &h.input_taken),
            ),
        }
    }
}
