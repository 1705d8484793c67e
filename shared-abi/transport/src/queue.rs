//! Plain queues: one sender, one receiver, messages in order, payloads in the ring's arena.
//!
//! Register links use one in each direction, and every link has one for outside input. A full queue holds the sender
//! back. All state is in the segment, so that the successor of a sender or receiver that died goes on where it stopped:
//! a message is sent once its slot is published and taken once the cursor moved.

use crate::arena::{Allocation, FifoArena};
use crate::link::{LinkMemory, Ring, read_position};
use crate::ring;
use crate::segment::Slots;
use crate::{Bytes, Doorbell, Error, Result, View};
use atoll_abi::Slot;
use atoll_abi::link::Cursor;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// The sending end.
#[derive(Debug)]
pub struct QueueSender {
    slots: Slots,
    sent: View<Cursor>,
    taken: View<Cursor>,
    bytes: Bytes,
    arena: FifoArena,
    /// Payloads not yet known to be taken, with the position of their message.
    payloads: VecDeque<(u64, Allocation)>,
    next: u64,
    seen_taken: u64,
    receiver: Doorbell,
}

impl QueueSender {
    /// Client of a register link: calls to the seat.
    pub fn to_server(link: &LinkMemory) -> Result<Self> {
        Self::open(link, Ring::Request, link.server_bell())
    }

    /// Server of a register link: effects to the worker.
    pub fn to_client(link: &LinkMemory) -> Result<Self> {
        Self::open(link, Ring::Reply, link.client_bell())
    }

    /// Server of any link: outside input to the worker.
    pub fn input(link: &LinkMemory) -> Result<Self> {
        Self::open(link, Ring::Input, link.client_bell())
    }

    fn open(link: &LinkMemory, ring: Ring, receiver: Doorbell) -> Result<Self> {
        let (slots, bytes) = (link.slots(ring)?, link.arena(ring)?);
        let (sent, taken) = link.cursors(ring);
        if ring::RingSlots::slots(&slots) == 0 {
            return Err(Error::Protocol("the link has no such ring"));
        }
        // A predecessor may have died between publishing a message and counting it.
        let mut next = read_position(&sent)?;
        if ring::is_published(&slots, next) {
            next += 1;
            sent.position.store(next, Ordering::Release);
        }
        let seen_taken = checked_taken(&slots, &taken, 0, next)?;
        let waiting =
            (seen_taken..next).filter_map(|at| Some((at, ring::take(&slots, at)?.arena())));
        let waiting: Vec<_> = waiting.filter(|(_, range)| range.len != 0).collect();
        let (arena, allocations) =
            FifoArena::restore(bytes.len() as u32, waiting.iter().map(|(_, range)| *range))?;
        let payloads = waiting.iter().map(|(at, _)| *at).zip(allocations).collect();
        Ok(Self {
            slots,
            sent,
            taken,
            bytes,
            arena,
            payloads,
            next,
            seen_taken,
            receiver,
        })
    }

    /// Sends a message; `Ok(None)` if there is no room for it now. The link fills in number and payload range.
    pub fn send(&mut self, mut slot: Slot, payload: &[u8]) -> Result<Option<u64>> {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if !self.has_room(len)? {
            return Ok(None);
        }
        slot.seq = self.next;
        slot.set_arena(Default::default());
        if len != 0 {
            let Some((allocation, range)) = self.arena.allocate(len) else {
                return Ok(None);
            };
            self.bytes.write(range.offset as usize, payload)?;
            slot.set_arena(range);
            self.payloads.push_back((self.next, allocation));
        }
        ring::publish(&self.slots, self.next, slot);
        self.next += 1;
        self.sent.position.store(self.next, Ordering::Release);
        self.receiver.ring();
        Ok(Some(slot.seq))
    }

    /// Is there room for a message with a payload of `len` bytes?
    pub fn has_room(&mut self, len: u32) -> Result<bool> {
        if self.fits(len) {
            return Ok(true);
        }
        self.seen_taken = checked_taken(&self.slots, &self.taken, self.seen_taken, self.next)?;
        while let Some(&(at, allocation)) = self.payloads.front() {
            if at >= self.seen_taken {
                break;
            }
            self.arena.free(allocation);
            self.payloads.pop_front();
        }
        Ok(self.fits(len))
    }

    fn fits(&self, len: u32) -> bool {
        self.next - self.seen_taken < ring::RingSlots::slots(&self.slots)
            && (len == 0 || self.arena.fits(len))
    }

    /// Number of the next message: how many were sent since the link was made, by predecessors too.
    pub fn position(&self) -> u64 {
        self.next
    }
}

/// The receiver's cursor, if it makes sense: it never moves back, nor past what was sent, nor lags more than a lap.
fn checked_taken(slots: &Slots, taken: &Cursor, least: u64, next: u64) -> Result<u64> {
    let taken = taken.position.load(Ordering::Acquire);
    if taken < least || taken > next || next - taken > ring::RingSlots::slots(slots) {
        return Err(Error::Protocol("receiver's cursor is out of range"));
    }
    Ok(taken)
}

/// The receiving end.
#[derive(Debug)]
pub struct QueueReceiver {
    slots: Slots,
    taken: View<Cursor>,
    bytes: Bytes,
    next: u64,
    sender: Doorbell,
}

impl QueueReceiver {
    /// Server of a register link: calls from the worker.
    pub fn from_client(link: &LinkMemory) -> Result<Self> {
        Self::open(link, Ring::Request, link.client_bell())
    }

    /// Client of a register link: effects from the seat.
    pub fn from_server(link: &LinkMemory) -> Result<Self> {
        Self::open(link, Ring::Reply, link.server_bell())
    }

    /// Client of any link: outside input.
    pub fn input(link: &LinkMemory) -> Result<Self> {
        Self::open(link, Ring::Input, link.server_bell())
    }

    fn open(link: &LinkMemory, ring: Ring, sender: Doorbell) -> Result<Self> {
        let (slots, bytes) = (link.slots(ring)?, link.arena(ring)?);
        if ring::RingSlots::slots(&slots) == 0 {
            return Err(Error::Protocol("the link has no such ring"));
        }
        let (_, taken) = link.cursors(ring);
        let next = read_position(&taken)?;
        Ok(Self {
            slots,
            taken,
            bytes,
            next,
            sender,
        })
    }

    /// Is a message there? For `ready` of a [`Waiter`](crate::Waiter).
    pub fn has_message(&self) -> bool {
        ring::is_published(&self.slots, self.next)
    }

    /// The next message without taking it, if its number and range make sense.
    pub fn peek(&self) -> Result<Option<Slot>> {
        let Some(slot) = ring::take(&self.slots, self.next) else {
            return Ok(None);
        };
        if slot.seq != self.next {
            return Err(Error::Protocol("message number is not the next"));
        }
        slot.arena().check(self.bytes.len() as u64)?;
        Ok(Some(slot))
    }

    /// Takes the next message; its payload replaces what `payload` held.
    pub fn receive(&mut self, payload: &mut Vec<u8>) -> Result<Option<Slot>> {
        let Some(slot) = self.peek()? else {
            return Ok(None);
        };
        let range = slot.arena();
        payload.clear();
        payload.resize(range.len as usize, 0);
        self.bytes.read(range.offset as usize, payload)?;
        self.next += 1;
        self.taken.position.store(self.next, Ordering::Release);
        self.sender.ring();
        Ok(Some(slot))
    }

    /// Number of the next message.
    pub fn position(&self) -> u64 {
        self.next
    }
}
