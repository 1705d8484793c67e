//! A driver for tests: it sets a device up through its registers and lays queues out in RAM, by the book or against it.

use device_core::Model;
use device_core::rig::Rig;

/// Where queue 0 lies in the rig's RAM, and where tests put their buffers.
pub(super) const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
pub(super) const BUFFERS: u64 = 0x1_0000;
const RAM: usize = 32 << 20;

pub(super) const NOTIFY: u64 = 0x3000;
pub(super) const VERSION_1: u64 = 1 << 32;
pub(super) const EVENT_INDEX: u64 = 1 << 29;
pub(super) const INDIRECT: u64 = 1 << 28;

/// Address, length, and whether the device writes it.
pub(super) type Buffer = (u64, u32, bool);

pub(super) struct Mock {
    pub(super) rig: Rig,
    pub(super) size: u16,
    /// The next free descriptor, going round.
    next: u16,
    published: u16,
    seen: u16,
}

impl Mock {
    /// Sets the device up with these features and one queue of `size`.
    pub(super) fn new(make: &dyn Fn() -> Box<dyn Model>, features: u64, size: u16) -> Mock {
        let rig = Rig::new(make()).with_twin(make()).with_ram(RAM);
        let mut mock = Mock {
            rig,
            size,
            next: 0,
            published: 0,
            seen: 0,
        };
        mock.start(features);
        mock
    }

    /// From reset to DRIVER_OK.
    pub(super) fn start(&mut self, features: u64) {
        (self.next, self.published, self.seen) = (0, 0, 0);
        self.rig.ram.0[DESCRIPTORS as usize..USED as usize + 0x1000].fill(0);
        self.common(0x14, 1, 0);
        self.common(0x14, 1, 3);
        for half in [0, 1] {
            self.common(0x08, 4, half);
            self.common(0x0C, 4, features >> (32 * half) & 0xFFFF_FFFF);
        }
        self.common(0x14, 1, 0xB);
        assert_eq!(self.status(), 0xB, "features {features:#x} are accepted");
        self.common(0x16, 2, 0);
        self.common(0x18, 2, u64::from(self.size));
        self.common(0x1A, 2, 0);
        for (field, at) in [(0x20, DESCRIPTORS), (0x28, AVAILABLE), (0x30, USED)] {
            self.common(field, 8, at);
        }
        self.common(0x1C, 2, 1);
        self.common(0x10, 2, 1);
        self.common(0x14, 1, 0xF);
    }

    pub(super) fn common(&mut self, offset: u64, size: u8, value: u64) {
        self.rig.write(0, offset, size, value);
    }

    pub(super) fn status(&mut self) -> u64 {
        self.rig.read(0, 0x14, 1)
    }

    fn put16(&mut self, at: u64, value: u16) {
        self.rig.ram.write(at, &value.to_le_bytes());
    }

    fn get16(&self, at: u64) -> u16 {
        let at = at as usize;
        u16::from_le_bytes([self.rig.ram.0[at], self.rig.ram.0[at + 1]])
    }

    pub(super) fn put_descriptor(&mut self, at: u64, buffer: (u64, u32), flags: u16, next: u16) {
        self.rig.ram.write(at, &buffer.0.to_le_bytes());
        self.rig.ram.write(at + 8, &buffer.1.to_le_bytes());
        self.put16(at + 12, flags);
        self.put16(at + 14, next);
    }

    /// Writes a chain and makes it available; the device is not told. Returns its head.
    pub(super) fn add(&mut self, buffers: &[Buffer]) -> u16 {
        let head = self.next % self.size;
        for (i, &(address, len, write)) in buffers.iter().enumerate() {
            let (index, next) = (self.next % self.size, self.next.wrapping_add(1) % self.size);
            let more = u16::from(i + 1 < buffers.len());
            self.put_descriptor(
                DESCRIPTORS + 16 * u64::from(index),
                (address, len),
                more | u16::from(write) << 1,
                next,
            );
            self.next = self.next.wrapping_add(1);
        }
        self.publish(head);
        head
    }

    /// The same, through a table at `table`.
    pub(super) fn add_indirect(&mut self, table: u64, buffers: &[Buffer]) -> u16 {
        for (i, &(address, len, write)) in buffers.iter().enumerate() {
            let more = u16::from(i + 1 < buffers.len());
            self.put_descriptor(
                table + 16 * i as u64,
                (address, len),
                more | u16::from(write) << 1,
                i as u16 + 1,
            );
        }
        let head = self.next % self.size;
        self.next = self.next.wrapping_add(1);
        self.put_descriptor(
            DESCRIPTORS + 16 * u64::from(head),
            (table, 16 * buffers.len() as u32),
            4,
            0,
        );
        self.publish(head);
        head
    }

    /// Makes a chain available, whatever it is.
    pub(super) fn publish(&mut self, head: u16) {
        self.put16(
            AVAILABLE + 4 + 2 * u64::from(self.published % self.size),
            head,
        );
        self.set_published(self.published.wrapping_add(1));
    }

    pub(super) fn set_published(&mut self, index: u16) {
        self.published = index;
        self.put16(AVAILABLE + 2, index);
    }

    pub(super) fn kick(&mut self) {
        self.rig.write(0, NOTIFY, 2, 0);
    }

    /// With event indices: interrupt once this many chains (modulo 2^16) were given back.
    pub(super) fn set_used_event(&mut self, index: u16) {
        self.put16(AVAILABLE + 4 + 2 * u64::from(self.size), index);
    }

    pub(super) fn available_event(&self) -> u16 {
        self.get16(USED + 4 + 8 * u64::from(self.size))
    }

    pub(super) fn set_no_interrupt(&mut self, off: bool) {
        self.put16(AVAILABLE, u16::from(off));
    }

    /// Chains given back since the last call: head and bytes written.
    pub(super) fn used(&mut self) -> Vec<(u32, u32)> {
        let mut used = Vec::new();
        while self.seen != self.get16(USED + 2) {
            let at = (USED + 4 + 8 * u64::from(self.seen % self.size)) as usize;
            let word =
                |at: usize| u32::from_le_bytes(std::array::from_fn(|i| self.rig.ram.0[at + i]));
            used.push((word(at), word(at + 4)));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }

    pub(super) fn bytes(&self, at: u64, len: usize) -> &[u8] {
        &self.rig.ram.0[at as usize..at as usize + len]
    }
}
