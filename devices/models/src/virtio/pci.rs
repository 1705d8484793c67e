//! The modern PCI transport (virtio 1.2, 4.1): common configuration, notification, interrupt status and device configuration in
//! one BAR, the MSI-X table in another.
//!
//! Not modelled: notification data, administration queues, shared memory, per-queue reset.
//!
//! Invariants: a device is asked to process a queue only while DRIVER_OK is set, NEEDS_RESET is not and the queue is enabled;
//! features change only before FEATURES_OK; every register of a queue is fixed once it is enabled.

use device_core::{
    Access, Attach, Bar, BarKind, Capability, Cx, Kind, LoadError, Manifest, Model, Msix,
    PciFunction, Reply, Section,
};
use serde::{Deserialize, Serialize};

use super::device::{Device, Io};
use super::queue::Queue;
use crate::pin::Pin;

const VENDOR: u16 = 0x1AF4;
const SUBSYSTEM: u16 = 0x1100;

const BAR_REGISTERS: u8 = 0;
const BAR_MSIX: u8 = 1;
/// Where the four structures are in their BAR, a page each.
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const PART: u64 = 0x1000;
const NOTIFY_MULTIPLIER: u64 = 4;

const LINE_INTX: u16 = 0;
const NO_VECTOR: u16 = 0xFFFF;

const FEATURE_INDIRECT: u64 = 1 << 28;
const FEATURE_EVENT_INDEX: u64 = 1 << 29;
const FEATURE_VERSION_1: u64 = 1 << 32;
const TRANSPORT_FEATURES: u64 = FEATURE_INDIRECT | FEATURE_EVENT_INDEX | FEATURE_VERSION_1;

const STATUS_DRIVER_OK: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;
const STATUS_NEEDS_RESET: u8 = 64;

const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    config_vector: u16,
    status: u8,
    queue_select: u16,
    queues: Vec<Queue>,
    vectors: Vec<u16>,
    isr: u8,
    intx: Pin,
}

impl State {
    fn new(sizes: &[u16]) -> State {
        State {
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            status: 0,
            queue_select: 0,
            queues: sizes.iter().map(|&size| Queue::new(size)).collect(),
            vectors: vec![NO_VECTOR; sizes.len()],
            isr: 0,
            intx: Pin::default(),
        }
    }

    fn has(&self, status: u8) -> bool {
        self.status & status != 0
    }
}

/// A device under the PCI transport.
#[derive(Clone, Debug)]
pub struct VirtioPci<D> {
    device: D,
    state: State,
}

impl<D: Device> VirtioPci<D> {
    pub fn new(device: D) -> VirtioPci<D> {
        VirtioPci {
            device,
            state: State::new(D::QUEUES),
        }
    }

    fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    /// One vector a queue and one for configuration changes.
    fn vectors() -> u16 {
        D::QUEUES.len() as u16 + 1
    }

    // Registers.

    fn read(&mut self, a: &Access, cx: &mut Cx<'_>) -> u64 {
        let offset = a.offset % PART;
        match a.offset - offset {
            COMMON => self.read_common(offset, a.size),
            ISR if offset == 0 => {
                // Reading takes the interrupt back (4.1.4.5).
                let isr = std::mem::take(&mut self.state.isr);
                self.state.intx.set(LINE_INTX, false, cx);
                u64::from(isr)
            }
            DEVICE => (0..u64::from(a.size)).fold(0, |v, i| {
                v | u64::from(self.device.read_config(offset + i)) << (8 * i)
            }),
            _ => 0,
        }
    }

    fn read_common(&self, offset: u64, size: u8) -> u64 {
        // The fields as they lie in memory; an access of any width sees its bytes.
        let s = &self.state;
        let queue = s.queues.get(usize::from(s.queue_select));
        let field = |f: fn(&Queue) -> u64| queue.map_or(0, f);
        let half = |value: u64, select: u32| match select {
            0 => value & 0xFFFF_FFFF,
            1 => value >> 32,
            _ => 0,
        };
        let dword = |at: u64| match at {
            0x00 => u64::from(s.device_feature_select),
            0x04 => half(self.offered(), s.device_feature_select),
            0x08 => u64::from(s.driver_feature_select),
            0x0C => half(s.driver_features, s.driver_feature_select),
            0x10 => u64::from(s.config_vector) | (s.queues.len() as u64) << 16,
            0x14 => u64::from(s.status) | u64::from(s.queue_select) << 16,
            0x18 => {
                let vector = s
                    .vectors
                    .get(usize::from(s.queue_select))
                    .copied()
                    .unwrap_or(NO_VECTOR);
                field(|q| u64::from(q.size)) | u64::from(vector) << 16
            }
            // Enable, and the notification offset, which is the queue's number.
            0x1C => {
                let notify = if queue.is_some() {
                    u64::from(s.queue_select)
                } else {
                    0
                };
                field(|q| u64::from(q.is_enabled)) | notify << 16
            }
            0x20 => field(|q| q.descriptors & 0xFFFF_FFFF),
            0x24 => field(|q| q.descriptors >> 32),
            0x28 => field(|q| q.available & 0xFFFF_FFFF),
            0x2C => field(|q| q.available >> 32),
            0x30 => field(|q| q.used & 0xFFFF_FFFF),
            0x34 => field(|q| q.used >> 32),
            _ => 0,
        };
        let at = offset & !3;
        let value = (dword(at) | dword(at + 4) << 32) >> (8 * (offset & 3));
        if size >= 8 {
            value
        } else {
            value & ((1 << (8 * size)) - 1)
        }
    }

    fn write(&mut self, a: &Access, value: u64, cx: &mut Cx<'_>) {
        let offset = a.offset % PART;
        match a.offset - offset {
            COMMON => self.write_common(offset, a.size, value, cx),
            DEVICE => self.device.write_config(offset, a.size, value as u32),
            NOTIFY => {
                let queue = offset / NOTIFY_MULTIPLIER;
                if queue < D::QUEUES.len() as u64 {
                    self.process(queue as u16, cx);
                }
            }
            _ => {}
        }
    }

    /// A field is written by an access of its own width, the 64-bit ones in halves too (4.1.3.1); others are dropped.
    fn write_common(&mut self, offset: u64, size: u8, value: u64, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        match (offset, size) {
            (0x00, 4) => s.device_feature_select = value as u32,
            (0x08, 4) => s.driver_feature_select = value as u32,
            (0x0C, 4) if !s.has(STATUS_FEATURES_OK) => {
                let shift = match s.driver_feature_select {
                    0 => 0,
                    1 => 32,
                    _ => return,
                };
                s.driver_features = s.driver_features & !(0xFFFF_FFFF << shift) | value << shift;
            }
            (0x10, 2) => s.config_vector = Self::legal_vector(value),
            (0x14, 1) => self.set_status(value as u8, cx),
            (0x16, 2) => s.queue_select = value as u16,
            (0x1A, 2) => {
                if let Some(vector) = s.vectors.get_mut(usize::from(s.queue_select)) {
                    *vector = Self::legal_vector(value);
                }
            }
            _ => self.write_queue(offset, size, value),
        }
    }

    /// An impossible vector reads back as none, which tells the driver (4.1.5.1.2.1).
    fn legal_vector(value: u64) -> u16 {
        if value < u64::from(Self::vectors()) {
            value as u16
        } else {
            NO_VECTOR
        }
    }

    fn write_queue(&mut self, offset: u64, size: u8, value: u64) {
        let index = usize::from(self.state.queue_select);
        let Some(queue) = self.state.queues.get_mut(index) else {
            return;
        };
        if queue.is_enabled {
            return;
        }
        let low = |old: u64| old & !0xFFFF_FFFF | value & 0xFFFF_FFFF;
        let high = |old: u64| old & 0xFFFF_FFFF | value << 32;
        match (offset, size) {
            (0x18, 2) => {
                let wanted = value as u16;
                if wanted.is_power_of_two() && wanted <= D::QUEUES[index] {
                    queue.size = wanted;
                }
            }
            (0x1C, 2) => queue.is_enabled = value == 1,
            (0x20, 4) => queue.descriptors = low(queue.descriptors),
            (0x24, 4) => queue.descriptors = high(queue.descriptors),
            (0x28, 4) => queue.available = low(queue.available),
            (0x2C, 4) => queue.available = high(queue.available),
            (0x30, 4) => queue.used = low(queue.used),
            (0x34, 4) => queue.used = high(queue.used),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u8, cx: &mut Cx<'_>) {
        if value == 0 {
            return self.reset_by_driver(cx);
        }
        let offered = self.offered();
        let s = &mut self.state;
        // The driver sets bits and clears none but by a reset; NEEDS_RESET is the device's own.
        let new = value & !s.status & !STATUS_NEEDS_RESET;
        s.status |= new;
        if new & STATUS_FEATURES_OK != 0 {
            let legal =
                s.driver_features & !offered == 0 && s.driver_features & FEATURE_VERSION_1 != 0;
            if !legal {
                s.status &= !STATUS_FEATURES_OK;
            }
        }
        if new & STATUS_DRIVER_OK != 0 {
            if s.has(STATUS_FEATURES_OK) {
                self.device.start(s.driver_features);
                // What was published before counts from now on.
                for queue in 0..D::QUEUES.len() as u16 {
                    self.process(queue, cx);
                }
            } else {
                s.status &= !STATUS_DRIVER_OK;
            }
        }
    }

    fn reset_by_driver(&mut self, cx: &mut Cx<'_>) {
        self.device.stop();
        let intx = self.state.intx;
        self.state = State {
            intx,
            ..State::new(D::QUEUES)
        };
        self.state.intx.set(LINE_INTX, false, cx);
    }

    // Work.

    fn is_running(&self) -> bool {
        self.state.status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET) == STATUS_DRIVER_OK
    }

    fn process(&mut self, queue: u16, cx: &mut Cx<'_>) {
        if self.is_running() && self.state.queues[usize::from(queue)].is_enabled {
            self.with_io(cx, |device, io| device.process(queue, io));
        }
    }

    /// Lets the device work on its queues and delivers the interrupts that come of it.
    fn with_io(&mut self, cx: &mut Cx<'_>, work: impl FnOnce(&mut D, &mut Io<'_, '_>)) {
        let event_index = self.state.driver_features & FEATURE_EVENT_INDEX != 0;
        let mut io = Io {
            queues: &mut self.state.queues,
            event_index,
            interrupts: 0,
            is_broken: false,
            cx,
        };
        work(&mut self.device, &mut io);
        let (interrupts, is_broken) = (io.interrupts, io.is_broken);
        for queue in 0..self.state.vectors.len() {
            if interrupts >> queue & 1 != 0 {
                self.interrupt(ISR_QUEUE, self.state.vectors[queue], cx);
            }
        }
        if is_broken {
            self.state.status |= STATUS_NEEDS_RESET;
            self.interrupt(ISR_CONFIG, self.state.config_vector, cx);
        }
    }

    /// Configuration space knows whether MSI-X is enabled and drops the other of the two.
    fn interrupt(&mut self, isr: u8, vector: u16, cx: &mut Cx<'_>) {
        self.state.isr |= isr;
        self.state.intx.set(LINE_INTX, true, cx);
        if vector != NO_VECTOR {
            cx.effects.msix(vector);
        }
    }

    // What the board is told.

    fn function(&self) -> PciFunction {
        let bar = |index, size| Bar {
            index,
            kind: BarKind::Memory32,
            prefetchable: false,
            size,
            granule: 4,
        };
        let notify_len = (D::QUEUES.len() as u64 * NOTIFY_MULTIPLIER) as u32;
        let structures = [
            (1, COMMON, 0x38),
            (3, ISR, 1),
            (4, DEVICE, PART as u32),
            (2, NOTIFY, notify_len),
        ];
        let mut capabilities: Vec<_> = structures
            .map(|(kind, offset, len)| structure(kind, offset as u32, len))
            .into();
        capabilities[3]
            .body
            .extend_from_slice(&(NOTIFY_MULTIPLIER as u32).to_le_bytes());
        capabilities[3].body[0] += 4;
        capabilities.push(window());
        let msix = Msix {
            vectors: Self::vectors(),
            table_bar: BAR_MSIX,
            table_offset: 0,
            pba_bar: BAR_MSIX,
            pba_offset: 0x800,
        };
        PciFunction {
            vendor: VENDOR,
            device: 0x1040 + D::TYPE,
            revision: 1,
            class: D::CLASS,
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
            bars: vec![bar(BAR_REGISTERS, 4 * PART), bar(BAR_MSIX, 0x1000)],
            capabilities,
            msix: Some(msix),
            intx: true,
            registers: Vec::new(),
        }
    }
}

/// A vendor capability that says where a structure is (4.1.4).
fn structure(kind: u8, offset: u32, len: u32) -> Capability {
    let mut body = vec![16, kind, BAR_REGISTERS, 0, 0, 0];
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    Capability {
        id: 9,
        body,
        writable: Vec::new(),
        bar_window: false,
    }
}

/// The capability through which firmware without BARs reaches them (4.1.4.9).
fn window() -> Capability {
    let mut body = vec![20, 5];
    body.resize(18, 0);
    let mut writable = vec![0; 18];
    writable[2] = 0xFF;
    writable[6..].fill(0xFF);
    Capability {
        id: 9,
        body,
        writable,
        bar_window: true,
    }
}

impl<D: Device> Model for VirtioPci<D> {
    fn manifest(&self) -> Manifest {
        Manifest {
            kind: D::KIND.into(),
            attach: Attach::Pci(Box::new(self.function())),
            lines: 1,
            timers: 0,
            ports: self.device.ports(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        // The other BAR is the board's.
        if access.region != u16::from(BAR_REGISTERS) {
            return 0;
        }
        access.by_granule(4, |a| match a.kind {
            Kind::Read => self.read(&a, cx),
            Kind::Write(value) => {
                self.write(&a, value, cx);
                0
            }
        })
    }

    fn complete(&mut self, token: u64, reply: &Reply<'_>, cx: &mut Cx<'_>) {
        let running = self.is_running();
        self.with_io(cx, |device, io| {
            // A device that stopped still has to hear of the end of its requests, and writes nothing.
            if running {
                device.complete(token, reply, io);
            } else {
                device.forget(token);
            }
        });
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.device.power_cycle();
        self.state = State::new(D::QUEUES);
    }

    fn save(&self) -> Section {
        Section::of(D::KIND, D::VERSION, &(&self.state, self.device.state()))
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let (state, device): (State, D::State) = section.state(D::KIND, D::VERSION)?;
        let sizes = D::QUEUES;
        let shaped = state.queues.len() == sizes.len() && state.vectors.len() == sizes.len();
        if !shaped
            || !state
                .queues
                .iter()
                .zip(sizes)
                .all(|(queue, &max)| queue.is_sound(max))
        {
            return Err(section.malformed("queues that this device does not have"));
        }
        let vector = |&v: &u16| v == NO_VECTOR || v < Self::vectors();
        if !state
            .vectors
            .iter()
            .chain([&state.config_vector])
            .all(vector)
        {
            return Err(section.malformed("an interrupt vector that this device does not have"));
        }
        self.device
            .set_state(device)
            .map_err(|why| section.malformed(why))?;
        self.state = state;
        Ok(())
    }
}
