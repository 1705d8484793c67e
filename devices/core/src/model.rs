//! The trait that every device model implements, and what its calls are given.

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::effect::Effects;
use crate::manifest::Manifest;
use crate::section::{LoadError, Section};

/// Guest RAM as a device reads it.
pub trait Dma {
    /// Fills `buf` from `address`. False if any byte lies outside RAM (or the function may not master the bus): `buf` is
    /// then all zeroes.
    fn read(&mut self, address: u64, buf: &mut [u8]) -> bool;
}

/// The RAM of a device that does no DMA.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDma;

impl Dma for NoDma {
    fn read(&mut self, _address: u64, buf: &mut [u8]) -> bool {
        buf.fill(0);
        false
    }
}

/// What a model is given with each call.
#[expect(missing_debug_implementations, reason = "holds a trait object")]
pub struct Cx<'a> {
    /// Virtual nanoseconds since power-on; never goes back.
    pub now_ns: u64,
    pub dma: &'a mut dyn Dma,
    pub effects: &'a mut Effects,
}

impl<'a> Cx<'a> {
    pub fn new(now_ns: u64, dma: &'a mut dyn Dma, effects: &'a mut Effects) -> Cx<'a> {
        Cx {
            now_ns,
            dma,
            effects,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Ok,
    /// The host failed to read or write.
    Io,
    /// The host has no room left.
    NoSpace,
    /// The medium is read-only.
    ReadOnly,
    /// The back end does not do this kind of request.
    Unsupported,
}

/// A back end's answer to a submitted request. `data` is empty unless a read succeeded; the model takes no more of it than
/// it asked for and treats what is missing as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply<'a> {
    pub status: Status,
    #[serde(borrow)]
    pub data: &'a [u8],
}

/// What comes to a device from outside of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input<'a> {
    /// Bytes that arrive at a character device.
    #[serde(borrow)]
    Char(&'a [u8]),
    /// A frame that arrives at a network device.
    Frame(&'a [u8]),
    /// The power button was pressed and released.
    PowerButton,
}

/// A device as the guest sees it.
///
/// `&mut Cx` carries time, DMA reads and the list that takes the effects. Nothing here fails: what a guest does wrong is
/// data, answered by the device's own error bits.
pub trait Model: Send {
    /// What the board must know to attach the device. Never changes while the model lives.
    fn manifest(&self) -> Manifest;

    /// A register access. The result of a write is ignored. Bits above the access's size are zero.
    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64;

    /// A timer that the model armed is due: `cx.now_ns` is at or after its time. It is disarmed before the call.
    fn timer(&mut self, _timer: u16, _cx: &mut Cx<'_>) {}

    /// The reply to a submitted request, at the time that was fixed when it was issued.
    fn complete(&mut self, _token: u64, _reply: &Reply<'_>, _cx: &mut Cx<'_>) {}

    /// Outside input. Returns how many of its units (bytes, or 1 for anything else) were taken; if fewer than offered, the
    /// model answers with [`Effect::InputReady`](crate::Effect::InputReady) once it has room again.
    fn input(&mut self, _input: &Input<'_>, _cx: &mut Cx<'_>) -> usize {
        0
    }

    /// Power-on or system reset: the state that [`Model`]'s constructor gave, but for what survives a reset in the real
    /// device. Requests in flight are forgotten: the seat never delivers their replies. Armed timers are cancelled and lines
    /// lowered by the seat before the call.
    fn reset(&mut self, cx: &mut Cx<'_>);

    /// All state that the guest can ever see, and nothing that a constructor's arguments fix.
    fn save(&self) -> Section;

    /// Takes the state of a section that this kind of model saved. On an error the model is unchanged.
    fn load(&mut self, section: &Section) -> Result<(), LoadError>;
}
