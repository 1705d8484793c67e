//! The virtio block device (virtio 1.2, 5.2): read, write, flush, discard, write zeroes, identity.
//!
//! The model checks every request against the medium and hands the back end only what is in range; it answers the rest itself,
//! at once. A request's latency is a function of its kind and size alone.
//!
//! Not modelled: more than one queue, secure erase, lifetime, zoned devices, several ranges in one discard or write-zeroes
//! request (the configuration says one), legacy SCSI commands and write barriers.
//!
//! Invariants: at most [`SLOTS`] requests and [`BYTES_IN_FLIGHT`] payload bytes are in flight, those included that a driver's
//! reset orphaned; what finds no room stays in the guest's queue until a completion frees some.

use device_core::{BlockRequest, Effect, Ports, Reply, Request, Status};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Run};
use super::device::{Device, Io};

mod config;
mod request;

pub use config::BlockConfig;
use config::{FEATURE_CONFIG_WCE, FEATURE_FLUSH, MAX_REQUEST_BYTES, QUEUE_LEN};
use request::{Action, parse};

const QUEUE: u16 = 0;
const SLOTS: usize = 128;
const BYTES_IN_FLIGHT: u64 = 2 * MAX_REQUEST_BYTES;

const STATUS_OK: u8 = 0;
const STATUS_IO_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

/// A request between submission and completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    head: u16,
    /// Payload bytes, of which a read writes as many to the guest.
    bytes: u32,
    is_read: bool,
    /// What the device may write: data, and the status byte at the end.
    writable: Run,
    /// The driver reset the device since: the reply goes nowhere.
    is_orphan: bool,
}

#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// A token is the index of a slot.
    slots: Vec<Option<Pending>>,
    /// The driver's choice of cache mode, where it may choose.
    writeback: bool,
    features: u64,
    /// Chains wait in the queue for room.
    is_full: bool,
}

/// A virtio block device; [`VirtioBlock`](super::VirtioBlock) is the function that a machine attaches.
#[derive(Clone, Debug)]
pub struct Block {
    config: BlockConfig,
    state: State,
    /// Kept from call to call for its buffers; not state.
    chain: Chain,
}

impl Block {
    pub fn new(config: BlockConfig) -> Block {
        let state = State {
            slots: vec![None; SLOTS],
            writeback: config.writeback,
            ..State::default()
        };
        Block {
            config,
            state,
            chain: Chain::default(),
        }
    }

    /// Whether a write may be answered before it is on stable storage (5.2.6.2): a driver that knows nothing of flushes must not
    /// need them.
    fn is_writeback(&self) -> bool {
        if self.state.features & FEATURE_CONFIG_WCE != 0 {
            self.state.writeback
        } else {
            self.config.writeback && self.state.features & FEATURE_FLUSH != 0
        }
    }

    fn bytes_in_flight(&self) -> u64 {
        self.state
            .slots
            .iter()
            .flatten()
            .map(|pending| u64::from(pending.bytes))
            .sum()
    }

    /// Serves one chain. False if there is no room for it.
    fn serve(&mut self, chain: &Chain, io: &mut Io<'_, '_>) -> bool {
        let Some(status_at) = chain.writable.last_byte() else {
            io.fail();
            return true;
        };
        let answer = |io: &mut Io<'_, '_>, status: u8, written: u32| {
            io.cx.effects.dma_write(status_at, &[status]);
            io.push(QUEUE, chain.head, written);
        };
        match parse(chain, &self.config, io.cx.dma) {
            // No request header: there is nothing to answer to (2.7.4.2 and 5.2.6).
            None => io.fail(),
            Some(Action::Answer(status)) => answer(io, status, 1),
            Some(Action::Identify) => {
                let room = chain.writable.len() - 1;
                let id = &self.config.serial_bytes()[..room.min(20) as usize];
                let written = chain.writable.write(0, id, io.cx);
                // The status byte counts only where it follows at once.
                answer(io, STATUS_OK, written as u32 + u32::from(written == room));
            }
            Some(Action::Submit { request, bytes }) => {
                let free = self.state.slots.iter().position(Option::is_none);
                let fits = self.bytes_in_flight() + u64::from(bytes) <= BYTES_IN_FLIGHT;
                let (Some(token), true) = (free, fits) else {
                    return false;
                };
                self.submit(token, request, bytes, chain, io);
            }
        }
        true
    }

    fn submit(
        &mut self,
        token: usize,
        request: BlockRequest<()>,
        bytes: u32,
        chain: &Chain,
        io: &mut Io<'_, '_>,
    ) {
        let through = !self.is_writeback();
        let (effects, dma) = (&mut *io.cx.effects, &mut *io.cx.dma);
        let mark = effects.mark();
        if let BlockRequest::Write { .. } = request
            && !chain
                .readable
                .read(request::HEADER_LEN, effects.reserve(bytes as usize), dma)
        {
            io.fail();
            return;
        }
        let data = effects.since(mark);
        let latency_ns = latency_ns(&request, bytes);
        let request = match request.map(|()| data) {
            BlockRequest::Write { sector, data, .. } => BlockRequest::Write {
                sector,
                data,
                fua: through,
            },
            BlockRequest::WriteZeroes {
                sector,
                sectors,
                unmap,
                ..
            } => BlockRequest::WriteZeroes {
                sector,
                sectors,
                unmap,
                fua: through,
            },
            other => other,
        };
        effects.push_gathered(Effect::Submit {
            token: token as u64,
            latency_ns,
            request: Request::Block(request),
        });
        let is_read = matches!(request, BlockRequest::Read { .. });
        let writable = chain.writable.clone();
        self.state.slots[token] = Some(Pending {
            head: chain.head,
            bytes,
            is_read,
            writable,
            is_orphan: false,
        });
    }

    /// Answers a finished request.
    fn finish(&mut self, pending: &Pending, reply: &Reply<'_>, io: &mut Io<'_, '_>) {
        let status = match reply.status {
            Status::Ok => STATUS_OK,
            Status::Unsupported => STATUS_UNSUPPORTED,
            Status::Io | Status::NoSpace | Status::ReadOnly => STATUS_IO_ERROR,
        };
        let mut written = 1;
        if pending.is_read {
            // A failed read wrote nothing but its status, which comes after the data: no byte from the start on is good.
            written = 0;
            if status == STATUS_OK {
                self.write_data(pending, reply.data, io);
                written = pending.bytes + 1;
            }
        }
        if let Some(at) = pending.writable.last_byte() {
            io.cx.effects.dma_write(at, &[status]);
        }
        io.push(QUEUE, pending.head, written);
    }

    /// Exactly as many bytes as were asked for, whatever the back end sent.
    fn write_data(&self, pending: &Pending, data: &[u8], io: &mut Io<'_, '_>) {
        let wanted = pending.bytes as usize;
        let given = data.len().min(wanted);
        pending.writable.write(0, &data[..given], io.cx);
        let missing = vec![0; wanted - given];
        pending.writable.write(given as u64, &missing, io.cx);
    }
}

/// 50 to 100 us: a medium that is quick to find things and moves 20 GB/s.
fn latency_ns(request: &BlockRequest<()>, bytes: u32) -> u64 {
    match request {
        BlockRequest::Read { .. } | BlockRequest::Write { .. } => {
            50_000 + (u64::from(bytes) / 20).min(50_000)
        }
        BlockRequest::Flush => 100_000,
        BlockRequest::Discard { .. } | BlockRequest::WriteZeroes { .. } => 75_000,
    }
}

impl Device for Block {
    type State = State;

    const KIND: &'static str = "virtio-blk";
    const VERSION: u16 = 1;
    const TYPE: u16 = 2;
    /// SCSI mass storage, which is what firmware looks for.
    const CLASS: u32 = 0x01_00_00;
    const QUEUES: &'static [u16] = &[QUEUE_LEN];

    fn features(&self) -> u64 {
        self.config.features()
    }

    fn ports(&self) -> Ports {
        Ports {
            max_in_flight: SLOTS as u32,
            max_bytes_in_flight: BYTES_IN_FLIGHT,
        }
    }

    fn read_config(&self, offset: u64) -> u8 {
        self.config.register(offset, self.state.writeback)
    }

    fn write_config(&mut self, offset: u64, size: u8, value: u32) {
        if offset == config::WRITEBACK && size == 1 && self.features() & FEATURE_CONFIG_WCE != 0 {
            self.state.writeback = value & 1 != 0;
        }
    }

    fn start(&mut self, features: u64) {
        self.state.features = features;
    }

    fn stop(&mut self) {
        let slots = std::mem::take(&mut self.state.slots);
        let orphan = |slot: Option<Pending>| {
            slot.map(|pending| Pending {
                is_orphan: true,
                ..pending
            })
        };
        self.state = State {
            slots: slots.into_iter().map(orphan).collect(),
            writeback: self.config.writeback,
            ..State::default()
        };
    }

    fn power_cycle(&mut self) {
        *self = Block::new(self.config.clone());
    }

    fn process(&mut self, _queue: u16, io: &mut Io<'_, '_>) {
        let mut chain = std::mem::take(&mut self.chain);
        self.state.is_full = false;
        while io.pop(QUEUE, &mut chain) {
            if !self.serve(&chain, io) {
                io.unpop(QUEUE);
                self.state.is_full = true;
                break;
            }
        }
        self.chain = chain;
        if !self.state.is_full && !io.is_broken {
            io.want_notification(QUEUE);
        }
    }

    fn complete(&mut self, token: u64, reply: &Reply<'_>, io: &mut Io<'_, '_>) {
        let slot = usize::try_from(token)
            .ok()
            .and_then(|index| self.state.slots.get_mut(index));
        let Some(pending) = slot.and_then(Option::take) else {
            return;
        };
        if !pending.is_orphan {
            self.finish(&pending, reply, io);
        }
        if self.state.is_full {
            self.process(QUEUE, io);
        }
    }

    fn forget(&mut self, token: u64) {
        if let Some(slot) = usize::try_from(token)
            .ok()
            .and_then(|index| self.state.slots.get_mut(index))
        {
            *slot = None;
        }
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        if state.slots.len() != SLOTS {
            return Err("another number of request slots");
        }
        let bytes = state
            .slots
            .iter()
            .flatten()
            .map(|pending| u64::from(pending.bytes))
            .sum::<u64>();
        if bytes > BYTES_IN_FLIGHT {
            return Err("more bytes in flight than there is room for");
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
