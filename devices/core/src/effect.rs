//! What comes out of a model: effects, in the order in which the seat applies them.
//!
//! [`Effects`] is a flat list and one byte buffer beside it, both kept from call to call, so that neither a quiet access
//! nor a disk write allocates in the steady state. Readers see [`Effect<&[u8]>`].

use serde::{Deserialize, Serialize};

use crate::request::Request;

/// What the whole machine does next, by a device's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerEvent {
    /// ACPI S5.
    Off,
    /// A system reset: port 0xCF9, the keyboard controller's reset line, the ACPI reset register.
    Reset,
}

/// One effect. `B` is the payload: a slice for those who apply it, a [`Span`] where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect<B> {
    /// One of the device's own lines takes a level. For a PCI function line 0 is its INTx pin.
    Line {
        line: u16,
        level: bool,
    },
    /// An MSI-X vector of the function fires. Its address, data and mask are in configuration space, which the board
    /// keeps; while MSI-X is disabled this does nothing, and while it is enabled INTx does nothing.
    Msix {
        vector: u16,
    },
    /// Bytes into guest RAM. What lies outside of it is dropped.
    DmaWrite {
        address: u64,
        bytes: B,
    },
    /// A request that is answered: the seat gives it a sequence number, and its reply comes back through
    /// [`Model::complete`](crate::Model::complete) with this token at now + `latency_ns` and not before.
    Submit {
        token: u64,
        latency_ns: u64,
        request: Request<B>,
    },
    /// A request that nobody answers. It takes effect now.
    Post {
        request: Request<B>,
    },
    /// Arms one of the device's timers, also if it was armed. A time in the past is due at the next boundary.
    SetTimer {
        timer: u16,
        at_ns: u64,
    },
    CancelTimer {
        timer: u16,
    },
    /// The model has room for outside input again, after it took less than it was offered.
    InputReady,
    Power(PowerEvent),
    /// The A20 gate opens or closes: the CPU's addresses have their bit 20, or not.
    A20 {
        open: bool,
    },
}

/// Where in the byte buffer of an [`Effects`] a payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
}

/// Payload bytes for which the buffer stays. The requests of a whole queue can be many MiB.
const KEPT_BYTES: usize = 256 << 10;

/// The effects of one call.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    list: Vec<Effect<Span>>,
    bytes: Vec<u8>,
}

impl<B> Effect<B> {
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> Effect<C> {
        match self {
            Effect::Line { line, level } => Effect::Line { line, level },
            Effect::Msix { vector } => Effect::Msix { vector },
            Effect::DmaWrite { address, bytes } => Effect::DmaWrite {
                address,
                bytes: f(bytes),
            },
            Effect::Submit {
                token,
                latency_ns,
                request,
            } => Effect::Submit {
                token,
                latency_ns,
                request: request.map(f),
            },
            Effect::Post { request } => Effect::Post {
                request: request.map(f),
            },
            Effect::SetTimer { timer, at_ns } => Effect::SetTimer { timer, at_ns },
            Effect::CancelTimer { timer } => Effect::CancelTimer { timer },
            Effect::InputReady => Effect::InputReady,
            Effect::Power(event) => Effect::Power(event),
            Effect::A20 { open } => Effect::A20 { open },
        }
    }
}

impl Effects {
    pub fn new() -> Effects {
        Effects::default()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all effects and keeps the buffers, unless they have grown far beyond what a call mostly needs. The seat calls this before each
    /// call of the model.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    /// The effects, in the order in which they are to be applied.
    pub fn iter(&self) -> impl Iterator<Item = Effect<&[u8]>> + '_ {
        self.list
            .iter()
            .map(|e| e.map(|span| &self.bytes[span.start..span.end]))
    }

    /// Adds an effect, copying its payload if it has one.
    pub fn push(&mut self, effect: Effect<&[u8]>) {
        let bytes = &mut self.bytes;
        let stored = effect.map(|payload| {
            let start = bytes.len();
            bytes.extend_from_slice(payload);
            Span {
                start,
                end: bytes.len(),
            }
        });
        self.list.push(stored);
    }

    pub fn line(&mut self, line: u16, level: bool) {
        self.list.push(Effect::Line { line, level });
    }

    pub fn msix(&mut self, vector: u16) {
        self.list.push(Effect::Msix { vector });
    }

    pub fn dma_write(&mut self, address: u64, bytes: &[u8]) {
        self.push(Effect::DmaWrite { address, bytes });
    }

    pub fn post(&mut self, request: Request<&[u8]>) {
        self.push(Effect::Post { request });
    }

    pub fn submit(&mut self, token: u64, latency_ns: u64, request: Request<&[u8]>) {
        self.push(Effect::Submit {
            token,
            latency_ns,
            request,
        });
    }

    pub fn set_timer(&mut self, timer: u16, at_ns: u64) {
        self.list.push(Effect::SetTimer { timer, at_ns });
    }

    pub fn cancel_timer(&mut self, timer: u16) {
        self.list.push(Effect::CancelTimer { timer });
    }

    pub fn power(&mut self, event: PowerEvent) {
        self.list.push(Effect::Power(event));
    }

    pub fn a20(&mut self, open: bool) {
        self.list.push(Effect::A20 { open });
    }

    pub fn input_ready(&mut self) {
        self.list.push(Effect::InputReady);
    }

    /// The end of the payload bytes so far: the start of a payload that is gathered piece by piece with
    /// [`reserve`](Effects::reserve) and closed by [`since`](Effects::since).
    pub fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Appends `len` zero bytes to the payload buffer for the caller to fill.
    pub fn reserve(&mut self, len: usize) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        &mut self.bytes[start..]
    }

    /// The payload gathered since `mark`.
    pub fn since(&self, mark: usize) -> Span {
        assert!(mark <= self.bytes.len(), "a mark of another call");
        Span {
            start: mark,
            end: self.bytes.len(),
        }
    }

    /// Adds an effect whose payload was gathered in place.
    pub fn push_gathered(&mut self, effect: Effect<Span>) {
        self.list.push(effect);
    }
}

/// Equal if the same effects with the same payloads come in the same order, however they are stored.
impl PartialEq for Effects {
    fn eq(&self, other: &Effects) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Effects {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back_in_order_and_gathered_ones_are_no_different() {
        let mut copied = Effects::new();
        copied.dma_write(0x1000, b"abcdef");
        copied.line(0, true);

        let mut gathered = Effects::new();
        gathered.reserve(3).copy_from_slice(b"???");
        let mark = gathered.mark();
        gathered.reserve(4).copy_from_slice(b"abcd");
        gathered.reserve(2).copy_from_slice(b"ef");
        let bytes = gathered.since(mark);
        gathered.push_gathered(Effect::DmaWrite {
            address: 0x1000,
            bytes,
        });
        gathered.line(0, true);

        assert_eq!(copied, gathered);
        copied.clear();
        assert!(copied.is_empty() && copied != gathered);
    }
}
