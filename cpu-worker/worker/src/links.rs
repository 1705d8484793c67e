//! The worker's ends of its links: requests of the board's devices go out here, replies and outside input come in.
//!
//! Nothing here decides when the guest sees anything. A request never waits for its answer at issue; a reply that is not there at its T makes the
//! worker wait, which stops virtual time. Serial output is gathered and sent at the next boundary, so that a line of text is one request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest, DiskInfo};
use atoll_abi::char::{CharInput, CharRequest, MAX_OUTPUT};
use atoll_abi::link::LinkKind;
use atoll_abi::{Slot, VirtualTime};
use atoll_machine::{Backends, Lost};
use atoll_transport::{LinkClient, QueueReceiver, SubmitError};
use device_core::{Request, Status};

use crate::control::Wire;

/// One link and what waits on it.
struct Port {
    client: LinkClient,
    input: Option<QueueReceiver>,
    /// Serial output not sent yet, and how many bytes were sent before it.
    output: Vec<u8>,
    output_sent: u64,
    /// Posted requests whose reply was not taken yet, oldest first.
    posted: VecDeque<u64>,
    /// Outside input came and was not given to the guest yet.
    waiting: VecDeque<u8>,
}

/// All links, by place.
pub struct Links {
    ports: Vec<Port>,
    wire: Wire,
    /// A peer broke the protocol or is gone for good.
    broken: Option<u16>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links")
            .field("ports", &self.ports.len())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

/// The links, shared between the board (as its [`Backends`]) and the run loop. Both are on the worker's one thread.
#[derive(Clone, Debug)]
pub struct SharedLinks(Arc<Mutex<Links>>);

impl SharedLinks {
    pub fn new(links: Links) -> SharedLinks {
        SharedLinks(Arc::new(Mutex::new(links)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Links> {
        self.0
            .lock()
            .expect("the lock is taken by one thread, which does not panic under it")
    }
}

impl Links {
    /// The links in the order of the machine file's places.
    ///
    /// # Errors
    /// When a segment is not a link of this ABI.
    pub fn new(clients: Vec<LinkClient>, wire: Wire) -> atoll_transport::Result<Links> {
        let ports = clients.into_iter().map(|client| {
            let input = match client.link().kind() {
                LinkKind::Char => Some(QueueReceiver::input(client.link())?),
                _ => None,
            };
            Ok(Port {
                client,
                input,
                output: Vec::new(),
                output_sent: 0,
                posted: VecDeque::new(),
                waiting: VecDeque::new(),
            })
        });
        Ok(Links {
            ports: ports.collect::<atoll_transport::Result<_>>()?,
            wire,
            broken: None,
        })
    }

    /// Asks a block link for its disk, before the machine starts. None if the back end is gone.
    pub fn disk_info(&mut self, place: u16) -> Option<DiskInfo> {
        let request = BlockRequest {
            op: BlockOp::GetInfo,
            flags: BlockFlags::empty(),
            offset_bytes: 0,
            len_bytes: 0,
        };
        let seq = self.submit_slot(place, 0, request.encode(), &[], 0);
        let words = self.wait(place, seq)?.words;
        let port = &mut self.ports[usize::from(place)];
        port.client.release(seq).ok()?;
        DiskInfo::from_words(words).ok()
    }

    fn submit_slot(
        &mut self,
        place: u16,
        issued_ns: u64,
        slot: Slot,
        payload: &[u8],
        reply_bytes: u32,
    ) -> u64 {
        loop {
            let port = &mut self.ports[usize::from(place)];
            match port
                .client
                .submit(VirtualTime(issued_ns), slot, payload, reply_bytes)
            {
                Ok(seq) => return seq,
                Err(SubmitError::Full) if !port.posted.is_empty() => self.take_posted(place),
                // The model bounds what it has in flight by its manifest, so a full ring only means that the server is behind.
                Err(SubmitError::Full | SubmitError::Stalled) => self.wait_room(place),
                Err(SubmitError::TooLong(_) | SubmitError::Link(_)) => {
                    self.broken = Some(place);
                    return u64::MAX;
                }
            }
            if self.broken.is_some() || self.wire.ended() {
                return u64::MAX;
            }
        }
    }

    fn wait_room(&mut self, place: u16) {
        let Links { ports, wire, .. } = self;
        let port = &mut ports[usize::from(place)];
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(100);
        wire.waiting(Some(place));
        port.client.wait_room(wire.waiter(), Some(deadline));
        wire.waiting(None);
    }

    /// Waits for a reply; None if there will be none.
    fn wait(&mut self, place: u16, seq: u64) -> Option<atoll_transport::Reply> {
        if self.broken.is_some() {
            return None;
        }
        let Links {
            ports,
            wire,
            broken,
        } = self;
        let client = &mut ports[usize::from(place)].client;
        if let Ok(Some(reply)) = client.poll(seq) {
            return Some(reply);
        }
        wire.waiting(Some(place));
        let reply = loop {
            wire.wait_until(|| client.is_answered(seq));
            match client.poll(seq) {
                Ok(Some(reply)) => break Some(reply),
                Ok(None) if wire.ended() => break None,
                Ok(None) => {}
                Err(_) => {
                    *broken = Some(place);
                    break None;
                }
            }
        };
        wire.waiting(None);
        reply
    }

    /// Waits for the reply to the oldest posted request.
    fn take_posted(&mut self, place: u16) {
        let Some(seq) = self.ports[usize::from(place)].posted.pop_front() else {
            return;
        };
        if self.wait(place, seq).is_some()
            && self.ports[usize::from(place)].client.release(seq).is_err()
        {
            self.broken = Some(place);
        }
    }

    /// Sends what was gathered, and frees what was answered. Called at every boundary.
    pub fn flush(&mut self, now_ns: u64) {
        for place in 0..self.ports.len() as u16 {
            if !self.ports[usize::from(place)].output.is_empty() {
                self.send_output(place, now_ns);
            }
            while self.broken.is_none() && self.has_answered_post(place) {
                self.take_posted(place);
            }
        }
    }

    fn has_answered_post(&self, place: u16) -> bool {
        let port = &self.ports[usize::from(place)];
        port.posted
            .front()
            .is_some_and(|seq| port.client.is_answered(*seq))
    }

    fn send_output(&mut self, place: u16, now_ns: u64) {
        let output = std::mem::take(&mut self.ports[usize::from(place)].output);
        for bytes in output.chunks(MAX_OUTPUT as usize) {
            let number = self.ports[usize::from(place)].output_sent;
            let seq = self.submit_slot(
                place,
                now_ns,
                CharRequest::Output { number }.encode(),
                bytes,
                0,
            );
            let port = &mut self.ports[usize::from(place)];
            port.output_sent += bytes.len() as u64;
            if seq != u64::MAX {
                port.posted.push_back(seq);
            }
        }
    }

    /// Waits until everything that was sent has been answered: the end of a run.
    pub fn drain(&mut self, now_ns: u64) {
        self.flush(now_ns);
        for place in 0..self.ports.len() as u16 {
            while !self.ports[usize::from(place)].posted.is_empty()
                && self.broken.is_none()
                && !self.wire.ended()
            {
                self.take_posted(place);
            }
        }
    }

    /// Takes what outside input arrived, as (place, bytes). `room` tells how much waits in a device already.
    pub fn take_input(&mut self, room: &dyn Fn(u16) -> usize) -> Vec<(u16, Vec<u8>)> {
        let mut all = Vec::new();
        for place in 0..self.ports.len() as u16 {
            // A guest that does not read holds the reader back: the ring fills, and seriald stops reading.
            if room(place) >= 256 {
                continue;
            }
            let port = &mut self.ports[usize::from(place)];
            let Some(queue) = &mut port.input else {
                continue;
            };
            let mut payload = Vec::new();
            for _ in 0..64 {
                match queue
                    .receive(&mut payload)
                    .map(|slot| slot.map(|slot| CharInput::decode(&slot)))
                {
                    Ok(Some(Ok(input))) => port.waiting.extend(input.as_bytes()),
                    Ok(None) => break,
                    Ok(Some(Err(_))) | Err(_) => {
                        self.broken = Some(place);
                        break;
                    }
                }
            }
            if !port.waiting.is_empty() {
                all.push((place, port.waiting.drain(..).collect()));
            }
        }
        all
    }

    /// Whether input waits to be taken.
    pub fn has_input(&self) -> bool {
        self.ports
            .iter()
            .any(|port| port.input.as_ref().is_some_and(QueueReceiver::has_message))
    }

    /// The place whose peer broke the protocol.
    pub fn broken(&self) -> Option<u16> {
        self.broken
    }

    /// The worker's view of the broker: waiting, time, control messages.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Waits on the worker's bell until something arrives or `deadline` passes.
    pub fn sleep(&mut self, deadline: Option<std::time::Instant>, extra: impl Fn(&Wire) -> bool) {
        let Links { ports, wire, .. } = self;
        wire.sleep(deadline, |wire| {
            extra(wire)
                || ports
                    .iter()
                    .any(|port| port.input.as_ref().is_some_and(QueueReceiver::has_message))
        });
    }
}

/// A device's block request as the wire has it; the payload of a write goes beside it.
fn block_request<'a>(request: &device_core::BlockRequest<&'a [u8]>) -> (BlockRequest, &'a [u8]) {
    use device_core::BlockRequest as R;
    const SECTOR: u64 = 512;
    let fua = |on: bool| {
        if on {
            BlockFlags::FUA
        } else {
            BlockFlags::empty()
        }
    };
    let (op, flags, sector, len_bytes, payload): (_, _, _, _, &[u8]) = match *request {
        R::Read { sector, len } => (
            BlockOp::Read,
            BlockFlags::empty(),
            sector,
            u64::from(len),
            &[],
        ),
        R::Write {
            sector,
            data,
            fua: durable,
        } => (
            BlockOp::Write,
            fua(durable),
            sector,
            data.len() as u64,
            data,
        ),
        R::Flush => (BlockOp::Flush, BlockFlags::empty(), 0, 0, &[]),
        R::Discard { sector, sectors } => (
            BlockOp::Discard,
            BlockFlags::empty(),
            sector,
            u64::from(sectors) * SECTOR,
            &[],
        ),
        R::WriteZeroes {
            sector,
            sectors,
            unmap,
            fua: durable,
        } => {
            let unmap = if unmap {
                BlockFlags::UNMAP
            } else {
                BlockFlags::empty()
            };
            (
                BlockOp::WriteZeroes,
                fua(durable) | unmap,
                sector,
                u64::from(sectors) * SECTOR,
                &[],
            )
        }
    };
    (
        BlockRequest {
            op,
            flags,
            offset_bytes: sector * SECTOR,
            len_bytes,
        },
        payload,
    )
}

fn status(status: atoll_abi::Status) -> Status {
    use atoll_abi::Status as S;
    match status {
        S::Ok => Status::Ok,
        S::NoSpace => Status::NoSpace,
        S::ReadOnly | S::Denied => Status::ReadOnly,
        S::Unsupported => Status::Unsupported,
        S::Io | S::OutOfRange | S::Invalid | S::NotFound | S::Closed => Status::Io,
    }
}

impl Backends for SharedLinks {
    fn submit(&mut self, place: u16, issued_ns: u64, request: &Request<&[u8]>) -> u64 {
        match request {
            Request::Block(block) => {
                let (request, payload) = block_request(block);
                self.lock().submit_slot(
                    place,
                    issued_ns,
                    request.encode(),
                    payload,
                    request.reply_bytes(),
                )
            }
            // Characters and frames are posted; a model that submits them would wait for an answer that means nothing.
            Request::CharOut(_) | Request::Frame(_) => {
                self.post(place, issued_ns, request);
                u64::MAX
            }
        }
    }

    fn post(&mut self, place: u16, issued_ns: u64, request: &Request<&[u8]>) {
        if let Request::CharOut(bytes) = request {
            let mut links = self.lock();
            let port = &mut links.ports[usize::from(place)];
            port.output.extend_from_slice(bytes);
            if port.output.len() >= MAX_OUTPUT as usize {
                links.send_output(place, issued_ns);
            }
        }
    }

    fn reply(&mut self, place: u16, ticket: u64, data: &mut Vec<u8>) -> Result<Status, Lost> {
        let mut links = self.lock();
        data.clear();
        if ticket == u64::MAX {
            return if links.broken.is_some() || links.wire.ended() {
                Err(Lost { place })
            } else {
                Ok(Status::Ok)
            };
        }
        let reply = links.wait(place, ticket).ok_or(Lost { place })?;
        let client = &mut links.ports[usize::from(place)].client;
        data.resize(reply.len as usize, 0);
        let read = client
            .read_reply(ticket, 0, data)
            .and_then(|()| client.release(ticket));
        if read.is_err() {
            links.broken = Some(place);
            return Err(Lost { place });
        }
        Ok(status(reply.status))
    }
}
