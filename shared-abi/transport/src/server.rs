//! The device process's end of a request link.
//!
//! A request is *taken*, then its reply is *published* (payload first, the slot's last word as the commit), then it is
//! *settled*: nothing that makes its data reachable is held in this process alone. Until then slot and payload stay in
//! the segment, so a successor finds every request that it may have to repeat. What it does with them is in its
//! constructor: redo the published and unsettled ones in order, then answer the rest, which [`LinkServer::next_request`]
//! delivers first.
//!
//! The rules for a back end: requests take effect in issue order wherever they overlap, a write starts only after every
//! earlier overlapping read was published, and it settles whenever [`LinkServer::must_settle`] says so.

use crate::arena;
use crate::link::{LinkMemory, Ring, read_position};
use crate::ring;
use crate::segment::Slots;
use crate::{Bytes, Doorbell, Error, QueueSender, Result, Waiter};
use atoll_abi::slot::{Kind, REPLY_ROOM_WORD};
use atoll_abi::{ArenaRange, Slot, Status, VirtualTime};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A request as the client wrote it: number, ranges and type were checked, the fields of its protocol were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub seq: u64,
    pub issued: VirtualTime,
    /// For the protocol's decoder.
    pub slot: Slot,
    payload: ArenaRange,
    room: ArenaRange,
}

impl Request {
    /// Bytes that came with it.
    pub fn payload_len(&self) -> u32 {
        self.payload.len
    }

    /// Bytes that the reply may carry.
    pub fn reply_room(&self) -> u32 {
        self.room.len
    }
}

#[derive(Debug)]
pub struct LinkServer {
    link: LinkMemory,
    requests: Slots,
    replies: Slots,
    request_bytes: Bytes,
    reply_bytes: Bytes,
    generation: u32,
    client: Doorbell,
    waiter: Waiter,
    /// Requests of the predecessor that it had not answered.
    inherited: VecDeque<Request>,
    taken: u64,
    settled: u64,
    /// Requests `settled..taken`.
    journal: VecDeque<Entry>,
    journal_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    published: bool,
    /// Bytes of the request arena that it holds.
    span: u32,
}

impl LinkServer {
    /// Begins to serve, as the first server or as a successor. Returns also the requests to redo, in order: published
    /// but not settled. Redo them before the first [`Self::next_request`].
    pub fn attach(link: LinkMemory, generation: u32) -> Result<(Self, Vec<Request>)> {
        if !link.kind().has_journal() {
            return Err(Error::Protocol("a register link carries no requests"));
        }
        let settled = read_position(&link.header().settled)?;
        let mut server = Self {
            requests: link.slots(Ring::Request)?,
            replies: link.slots(Ring::Reply)?,
            request_bytes: link.arena(Ring::Request)?,
            reply_bytes: link.arena(Ring::Reply)?,
            generation,
            client: link.client_bell(),
            waiter: link.server_bell().waiter(),
            inherited: VecDeque::new(),
            taken: settled,
            settled,
            journal: VecDeque::new(),
            journal_bytes: 0,
            link,
        };
        server.check_generation()?;
        let redo = server.read_journal()?;
        Ok((server, redo))
    }

    /// Everything issued and not settled is in the request ring, in order; what carries its lap's phase in the reply
    /// ring as well was published.
    fn read_journal(&mut self) -> Result<Vec<Request>> {
        let mut redo = Vec::new();
        let slots = u64::from(self.link.geometry().slots);
        for seq in self.settled..self.settled + slots {
            let Some(slot) = ring::take(&self.requests, seq) else {
                break;
            };
            let request = self.check_request(seq, slot)?;
            let published = ring::is_published(&self.replies, seq);
            if published {
                redo.push(request);
            } else {
                self.inherited.push_back(request);
            }
            self.enter(&request, published);
        }
        Ok(redo)
    }

    fn enter(&mut self, request: &Request, published: bool) {
        let carried = (request.payload.len != 0).then_some(request.payload.len);
        let span = carried.and_then(arena::span).unwrap_or(0);
        self.journal.push_back(Entry { published, span });
        self.journal_bytes += u64::from(span);
        self.taken = request.seq + 1;
    }

    fn check_generation(&self) -> Result<()> {
        if self.link.generation() == self.generation {
            Ok(())
        } else {
            Err(Error::Dead)
        }
    }

    fn check_request(&self, seq: u64, slot: Slot) -> Result<Request> {
        if slot.seq != seq {
            return Err(Error::Protocol("request number is not the next"));
        }
        slot.kind()?;
        let payload = slot.arena().check(self.request_bytes.len() as u64)?;
        let room = ArenaRange::from_word(slot.words[REPLY_ROOM_WORD])
            .check(self.reply_bytes.len() as u64)?;
        Ok(Request {
            seq,
            issued: VirtualTime(slot.stamp),
            slot,
            payload,
            room,
        })
    }

    pub fn link(&self) -> &LinkMemory {
        &self.link
    }

    /// The queue of outside input to the worker.
    pub fn input_sender(&self) -> Result<QueueSender> {
        QueueSender::input(&self.link)
    }

    /// Takes the next request, in issue order; first those that the predecessor left.
    pub fn next_request(&mut self) -> Result<Option<Request>> {
        self.check_generation()?;
        if let Some(request) = self.inherited.pop_front() {
            return Ok(Some(request));
        }
        let Some(slot) = ring::take(&self.requests, self.taken) else {
            return Ok(None);
        };
        let request = self.check_request(self.taken, slot)?;
        self.enter(&request, false);
        Ok(Some(request))
    }

    /// Waits for the next request. `None` at the deadline, or when `interrupted` turns true: whoever makes it so rings
    /// [`LinkMemory::server_bell`] afterwards.
    pub fn wait_request(
        &mut self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
    ) -> Result<Option<Request>> {
        if let Some(request) = self.next_request()? {
            return Ok(Some(request));
        }
        let (requests, taken, link, generation) =
            (&self.requests, self.taken, &self.link, self.generation);
        self.waiter.wait(deadline, || {
            ring::is_published(requests, taken) || interrupted() || link.generation() != generation
        });
        self.next_request()
    }

    /// Copies a part of the request's payload out.
    pub fn read_payload(&self, request: &Request, offset: u32, to: &mut [u8]) -> Result<()> {
        if u64::from(offset) + to.len() as u64 > u64::from(request.payload.len) {
            let (offset, len, limit) = (offset.into(), to.len() as u64, request.payload.len.into());
            return Err(Error::OutOfRange { offset, len, limit });
        }
        self.request_bytes
            .read(request.payload.offset as usize + offset as usize, to)
    }

    /// The request's whole payload.
    pub fn payload(&self, request: &Request) -> Result<Vec<u8>> {
        let mut payload = vec![0; request.payload.len as usize];
        self.read_payload(request, 0, &mut payload)?;
        Ok(payload)
    }

    /// Publishes the reply: from here on it counts. `words` travel inline, `payload` goes to the reserved room.
    pub fn publish(
        &mut self,
        request: &Request,
        status: Status,
        words: [u64; 3],
        payload: &[u8],
    ) -> Result<()> {
        self.check_generation()?;
        if payload.len() as u64 > u64::from(request.room.len) {
            let (len, limit) = (payload.len() as u64, request.room.len.into());
            return Err(Error::OutOfRange {
                offset: 0,
                len,
                limit,
            });
        }
        let index = request
            .seq
            .checked_sub(self.settled)
            .map(|index| index as usize);
        let entry = index
            .and_then(|index| self.journal.get_mut(index))
            .filter(|entry| !entry.published);
        let Some(entry) = entry else {
            return Err(Error::Protocol("published a request twice"));
        };
        entry.published = true;
        self.reply_bytes
            .write(request.room.offset as usize, payload)?;
        let range = ArenaRange {
            offset: request.room.offset,
            len: payload.len() as u32,
        };
        let mut slot = Slot {
            stamp: request.issued.ns(),
            seq: request.seq,
            words: [u64::from(self.generation), words[0], words[1], words[2]],
            arg: status.number(),
            ..Slot::of(Kind::Reply)
        };
        slot.set_arena(range);
        ring::publish(&self.replies, request.seq, slot);
        self.link
            .header()
            .replied
            .position
            .fetch_add(1, Ordering::Relaxed);
        self.link.beat();
        self.client.ring();
        Ok(())
    }

    /// The first request that is not published: everything below may be settled.
    pub fn published_below(&self) -> u64 {
        let published = self
            .journal
            .iter()
            .take_while(|entry| entry.published)
            .count();
        self.settled + published as u64
    }

    /// Requests below `up_to` leave the journal. The back end has made sure that their data is reachable without this
    /// process.
    pub fn settle(&mut self, up_to: u64) -> Result<()> {
        self.check_generation()?;
        if up_to > self.published_below() {
            return Err(Error::Protocol("settled a request before publishing it"));
        }
        if up_to <= self.settled {
            return Ok(());
        }
        for entry in self.journal.drain(..(up_to - self.settled) as usize) {
            self.journal_bytes -= u64::from(entry.span);
        }
        self.settled = up_to;
        self.link
            .header()
            .settled
            .position
            .store(up_to, Ordering::Release);
        self.client.ring();
        Ok(())
    }

    /// Settles everything that may be.
    pub fn settle_published(&mut self) -> Result<()> {
        self.settle(self.published_below())
    }

    /// Requests taken and not settled.
    pub fn unsettled(&self) -> u64 {
        self.taken - self.settled
    }

    /// Is the journal half full, in slots or bytes? Less than half of the arena in use leaves a free range of a quarter
    /// wherever the ring stands, and no payload is longer than that; so a server that settles whenever this is true
    /// never leaves a client stalled.
    pub fn must_settle(&self) -> bool {
        2 * self.unsettled() >= u64::from(self.link.geometry().slots)
            || (self.journal_bytes != 0
                && 2 * self.journal_bytes >= self.request_bytes.len() as u64)
    }
}
