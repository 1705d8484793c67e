//! The worker's end of a request link.
//!
//! There are two kinds of no room, and the difference is what keeps runs equal. *Full* is virtual: so many requests or
//! bytes are between their issue and their T, or the reply arena has no range; it depends on nothing but the calls made
//! here, so the model waits until some completion's T frees room and every run agrees when that is. *Stalled* is the
//! host's: the server has not settled enough yet. Then the same request is tried again at the same virtual time after
//! [`LinkClient::wait_room`]. Full leaves three quarters of ring and arena to unsettled requests, and the server settles
//! before they are full, so a stall always ends.
//!
//! Room for the reply is reserved at issue and freed by [`LinkClient::release`], which the worker calls at T.

use crate::arena::{Allocation, FifoArena};
use crate::link::{LinkMemory, Ring};
use crate::ring;
use crate::segment::Slots;
use crate::{Bytes, Doorbell, Error, Result, Waiter};
use atoll_abi::slot::{Kind, REPLY_ROOM_WORD};
use atoll_abi::{ArenaRange, Slot, Status, VirtualTime};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// In flight at most this part of ring and request arena; the rest is for what is published but not settled.
const IN_FLIGHT_PART: u32 = 4;

/// Why a request was not issued.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Virtual history says: not before a completion's T frees room.
    #[error("no room until a request in flight completes")]
    Full,
    /// The server has to settle first; virtual time stands still meanwhile.
    #[error("no room until the back end settles")]
    Stalled,
    /// It would not fit even into an empty link.
    #[error("request of {0} bytes is too long for this link")]
    TooLong(usize),
    #[error(transparent)]
    Link(#[from] Error),
}

/// A reply, copied out and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub seq: u64,
    /// Virtual time at which the request was issued.
    pub issued: VirtualTime,
    pub status: Status,
    /// Bytes of payload: at most what was reserved.
    pub len: u32,
    /// Results that travel inline (words 1 to 3 of the slot).
    pub words: [u64; 3],
}

#[derive(Debug)]
pub struct LinkClient {
    link: LinkMemory,
    requests: Slots,
    replies: Slots,
    request_bytes: Bytes,
    reply_bytes: Bytes,
    request_arena: FifoArena,
    reply_arena: FifoArena,
    server: Doorbell,
    next: u64,
    settled: u64,
    /// Payloads of requests `settled..next`.
    payloads: VecDeque<Option<Allocation>>,
    /// Requests `next - flights.len() .. next`, from the oldest that is not released.
    flights: VecDeque<Flight>,
    in_flight: u32,
    in_flight_bytes: u32,
}

#[derive(Debug)]
struct Flight {
    issued: VirtualTime,
    payload_len: u32,
    room: ArenaRange,
    allocation: Option<Allocation>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Issued,
    Answered(Reply),
    Released,
}

impl LinkClient {
    /// The client of a fresh link.
    pub fn new(link: LinkMemory) -> Result<Self> {
        if !link.kind().has_journal() {
            return Err(Error::Protocol("a register link carries no requests"));
        }
        let (request_bytes, reply_bytes) = (link.arena(Ring::Request)?, link.arena(Ring::Reply)?);
        Ok(Self {
            requests: link.slots(Ring::Request)?,
            replies: link.slots(Ring::Reply)?,
            request_arena: FifoArena::new(request_bytes.len() as u32),
            reply_arena: FifoArena::new(reply_bytes.len() as u32),
            request_bytes,
            reply_bytes,
            server: link.server_bell(),
            next: 0,
            settled: 0,
            payloads: VecDeque::new(),
            flights: VecDeque::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            link,
        })
    }

    pub fn link(&self) -> &LinkMemory {
        &self.link
    }

    /// Issues a request: `slot` with the fields of its protocol, the payload, and how many reply bytes to reserve.
    /// Returns its sequence number. Never blocks.
    pub fn submit(
        &mut self,
        issued: VirtualTime,
        slot: Slot,
        payload: &[u8],
        reply_bytes: u32,
    ) -> Result<u64, SubmitError> {
        self.admit(payload.len(), reply_bytes)?;
        let payload_len = payload.len() as u32;
        let carried = self.carry(payload)?;
        // `admit` has seen that the range fits, and nothing was allocated since.
        let reserved = (reply_bytes != 0)
            .then(|| self.reply_arena.allocate(reply_bytes))
            .flatten();
        let room = reserved.map_or(ArenaRange::default(), |(_, range)| range);
        let mut slot = Slot {
            stamp: issued.ns(),
            seq: self.next,
            ..slot
        };
        slot.set_arena(carried.map_or(ArenaRange::default(), |(_, range)| range));
        slot.words[REPLY_ROOM_WORD] = room.to_word();

        self.payloads
            .push_back(carried.map(|(allocation, _)| allocation));
        let allocation = reserved.map(|(allocation, _)| allocation);
        self.flights.push_back(Flight {
            issued,
            payload_len,
            room,
            allocation,
            state: State::Issued,
        });
        self.in_flight += 1;
        self.in_flight_bytes += payload_len;
        ring::publish(&self.requests, self.next, slot);
        self.next += 1;
        self.link
            .header()
            .requested
            .position
            .store(self.next, Ordering::Release);
        self.server.ring();
        Ok(slot.seq)
    }

    /// Virtual admission. Changes nothing, so that a request that then stalls is admitted the same way again.
    fn admit(&self, payload: usize, reply: u32) -> Result<(), SubmitError> {
        let most_bytes = self.request_bytes.len() / IN_FLIGHT_PART as usize;
        if payload > most_bytes || reply as usize > self.reply_bytes.len() {
            return Err(SubmitError::TooLong(payload.max(reply as usize)));
        }
        let full = self.in_flight >= self.link.geometry().slots / IN_FLIGHT_PART
            || self.in_flight_bytes as usize + payload > most_bytes
            || (reply != 0 && !self.reply_arena.fits(reply));
        if full { Err(SubmitError::Full) } else { Ok(()) }
    }

    /// The host's side of admission: a free slot and room for the payload, which is copied there.
    fn carry(&mut self, payload: &[u8]) -> Result<Option<(Allocation, ArenaRange)>, SubmitError> {
        let len = payload.len() as u32;
        if !self.has_room(len) {
            self.collect_settled()?;
            if !self.has_room(len) {
                return Err(SubmitError::Stalled);
            }
        }
        if len == 0 {
            return Ok(None);
        }
        let Some((allocation, range)) = self.request_arena.allocate(len) else {
            return Err(SubmitError::Stalled);
        };
        self.request_bytes.write(range.offset as usize, payload)?;
        Ok(Some((allocation, range)))
    }

    fn has_room(&self, payload: u32) -> bool {
        self.next - self.settled < u64::from(self.link.geometry().slots)
            && (payload == 0 || self.request_arena.fits(payload))
    }

    /// Takes note of what the server settled: their slots and payloads are free. Replies not yet looked at are copied
    /// out first, because the slot that comes next in their place will have its reply there too.
    fn collect_settled(&mut self) -> Result<()> {
        let settled = self.link.header().settled.position.load(Ordering::Acquire);
        if settled < self.settled || settled > self.next {
            return Err(Error::Protocol("server settled what was not issued"));
        }
        while self.settled < settled {
            if self
                .flight(self.settled)
                .is_some_and(|flight| matches!(flight.state, State::Issued))
                && self.poll(self.settled)?.is_none()
            {
                return Err(Error::Protocol("server settled what it had not published"));
            }
            if let Some(Some(allocation)) = self.payloads.pop_front() {
                self.request_arena.free(allocation);
            }
            self.settled += 1;
        }
        Ok(())
    }

    fn first_flight(&self) -> u64 {
        self.next - self.flights.len() as u64
    }

    fn flight(&self, seq: u64) -> Option<&Flight> {
        self.flights
            .get(usize::try_from(seq.checked_sub(self.first_flight())?).ok()?)
    }

    /// Has the reply been published? For `ready` of a [`Waiter`].
    pub fn is_answered(&self, seq: u64) -> bool {
        match self.flight(seq).map(|flight| flight.state) {
            Some(State::Issued) => ring::is_published(&self.replies, seq),
            Some(State::Answered(_)) => true,
            Some(State::Released) | None => false,
        }
    }

    /// The reply to a request in flight, if it was published. Replies come in any order.
    pub fn poll(&mut self, seq: u64) -> Result<Option<Reply>> {
        let Some(flight) = self.flight(seq) else {
            return Ok(None);
        };
        match flight.state {
            State::Answered(reply) => return Ok(Some(reply)),
            State::Released => return Ok(None),
            State::Issued => {}
        }
        let Some(slot) = ring::take(&self.replies, seq) else {
            return Ok(None);
        };
        let reply = check_reply(seq, flight, &slot)?;
        let index = (seq - self.first_flight()) as usize;
        self.flights[index].state = State::Answered(reply);
        Ok(Some(reply))
    }

    /// The oldest request whose reply is there and was not released yet.
    pub fn poll_any(&mut self) -> Result<Option<Reply>> {
        let first = self.first_flight();
        match (first..self.next).find(|&seq| self.is_answered(seq)) {
            Some(seq) => self.poll(seq),
            None => Ok(None),
        }
    }

    /// Waits for a reply: virtual time stands still. `None` if the deadline came first.
    pub fn wait_reply(
        &mut self,
        waiter: &mut Waiter,
        seq: u64,
        deadline: Option<Instant>,
    ) -> Result<Option<Reply>> {
        waiter.wait(deadline, || self.is_answered(seq));
        self.poll(seq)
    }

    /// Waits until a stalled request may be tried again. `false` if the deadline came first.
    pub fn wait_room(&mut self, waiter: &mut Waiter, deadline: Option<Instant>) -> bool {
        let (settled, header) = (self.settled, self.link.header());
        waiter.wait(deadline, || {
            header.settled.position.load(Ordering::Acquire) != settled
        })
    }

    /// Copies `to.len()` bytes of an answered request's reply out, from `offset` on.
    pub fn read_reply(&self, seq: u64, offset: u32, to: &mut [u8]) -> Result<()> {
        let Some(Flight {
            state: State::Answered(reply),
            room,
            ..
        }) = self.flight(seq)
        else {
            return Err(Error::Protocol("no such reply"));
        };
        if u64::from(offset) + to.len() as u64 > u64::from(reply.len) {
            let (offset, len, limit) = (offset.into(), to.len() as u64, reply.len.into());
            return Err(Error::OutOfRange { offset, len, limit });
        }
        self.reply_bytes
            .read(room.offset as usize + offset as usize, to)
    }

    /// The whole payload of an answered request's reply.
    pub fn reply_payload(&self, seq: u64) -> Result<Vec<u8>> {
        let Some(Flight {
            state: State::Answered(reply),
            ..
        }) = self.flight(seq)
        else {
            return Err(Error::Protocol("no such reply"));
        };
        let mut payload = vec![0; reply.len as usize];
        self.read_reply(seq, 0, &mut payload)?;
        Ok(payload)
    }

    /// The completion was applied at its T: the request's share of the link is free again.
    pub fn release(&mut self, seq: u64) -> Result<()> {
        let first = self.first_flight();
        let flight = seq
            .checked_sub(first)
            .and_then(|index| self.flights.get_mut(index as usize));
        let Some(flight) = flight.filter(|flight| matches!(flight.state, State::Answered(_)))
        else {
            return Err(Error::Protocol("released a request without a reply"));
        };
        flight.state = State::Released;
        self.in_flight -= 1;
        self.in_flight_bytes -= flight.payload_len;
        if let Some(allocation) = flight.allocation.take() {
            self.reply_arena.free(allocation);
        }
        while self
            .flights
            .front()
            .is_some_and(|flight| matches!(flight.state, State::Released))
        {
            self.flights.pop_front();
        }
        Ok(())
    }

    /// Requests between issue and release.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// A successor serves the link. Nothing changes for the client: what was published stays published, and the
    /// successor answers the rest from the journal.
    pub fn replaced(&self) {
        self.server.ring();
    }
}

/// A reply must name its request, and stay within the room that was reserved for it.
fn check_reply(seq: u64, flight: &Flight, slot: &Slot) -> Result<Reply> {
    if slot.kind()? != Kind::Reply {
        return Err(Error::Protocol("a reply slot holds something else"));
    }
    if slot.seq != seq {
        return Err(Error::Protocol("a reply names another request"));
    }
    if slot.arena_len > flight.room.len
        || (slot.arena_len != 0 && slot.arena_offset != flight.room.offset)
    {
        return Err(Error::Protocol("a reply leaves the room reserved for it"));
    }
    let status = Status::try_from(slot.arg)?;
    let words = [slot.words[1], slot.words[2], slot.words[3]];
    Ok(Reply {
        seq,
        issued: flight.issued,
        status,
        len: slot.arena_len,
        words,
    })
}
