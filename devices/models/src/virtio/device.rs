//! What a virtio device is to its transport.

use device_core::{Cx, Ports, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::queue::{Broken, Queue};

/// A device type under the transport.
pub trait Device: Send {
    /// All that it saves; what the constructor fixes is not in it.
    type State: Serialize + DeserializeOwned;

    /// Names the model, such as `virtio-blk`.
    const KIND: &'static str;
    /// The version of `State`.
    const VERSION: u16;
    /// The device type (virtio 1.2, chapter 5).
    const TYPE: u16;
    /// PCI class code.
    const CLASS: u32;
    /// The most entries that each queue can have.
    const QUEUES: &'static [u16];

    /// Feature bits of the device type; the transport adds its own.
    fn features(&self) -> u64;
    fn ports(&self) -> Ports {
        Ports::default()
    }

    /// One byte of the device configuration.
    fn read_config(&self, offset: u64) -> u8;
    /// A write to the device configuration of 1, 2 or 4 bytes.
    fn write_config(&mut self, _offset: u64, _size: u8, _value: u32) {}

    /// The guest has accepted these features and goes to work.
    fn start(&mut self, _features: u64) {}
    /// The driver reset the device. Requests in flight are still answered, and to be dropped then.
    fn stop(&mut self);
    /// The machine was reset: as `stop`, and nothing is in flight any more.
    fn power_cycle(&mut self);

    /// There may be new chains in a queue.
    fn process(&mut self, queue: u16, io: &mut Io<'_, '_>);
    /// The reply to a request of this device.
    fn complete(&mut self, _token: u64, _reply: &Reply<'_>, _io: &mut Io<'_, '_>) {}
    /// The same, of a request that was in flight when the driver reset the device, or while it waits for that: the reply goes
    /// nowhere.
    fn forget(&mut self, _token: u64) {}

    fn state(&self) -> &Self::State;
    /// Takes a loaded state, or says what is wrong with it.
    fn set_state(&mut self, state: Self::State) -> Result<(), &'static str>;
}

/// What a device works with: the queues, and the call's context.
#[expect(missing_debug_implementations, reason = "holds a trait object")]
pub struct Io<'a, 'b> {
    pub(super) queues: &'a mut [Queue],
    pub(super) event_index: bool,
    /// One bit for each queue that is to interrupt.
    pub(super) interrupts: u64,
    pub(super) is_broken: bool,
    pub(super) cx: &'a mut Cx<'b>,
}

impl Io<'_, '_> {
    /// Takes the next chain of a queue, if there is one. A broken queue has none, and breaks the device.
    pub(super) fn pop(&mut self, queue: u16, chain: &mut super::chain::Chain) -> bool {
        if self.is_broken {
            return false;
        }
        let result = self.queues[usize::from(queue)].pop(chain, self.cx.dma);
        self.unless_broken(result)
    }

    pub(super) fn unpop(&mut self, queue: u16) {
        self.queues[usize::from(queue)].unpop();
    }

    /// Gives a chain back, and interrupts if the guest wants that.
    pub(super) fn push(&mut self, queue: u16, head: u16, written: u32) {
        let index = usize::from(queue);
        self.queues[index].push(head, written, self.cx);
        let wants = self.queues[index].wants_interrupt(self.event_index, self.cx.dma);
        if self.unless_broken(wants) {
            self.interrupts |= 1 << queue;
        }
    }

    /// All chains were taken: the next one is to be announced.
    pub(super) fn want_notification(&mut self, queue: u16) {
        self.queues[usize::from(queue)].want_notification(self.event_index, self.cx);
    }

    /// The guest broke the device's rules: it stops until it is reset.
    pub(super) fn fail(&mut self) {
        self.is_broken = true;
    }

    fn unless_broken(&mut self, result: Result<bool, Broken>) -> bool {
        self.is_broken |= result.is_err();
        result.unwrap_or(false)
    }
}
