//! The device's side of a split virtqueue (virtio 1.2, 2.7), with indirect descriptors and event indices.
//!
//! Reads come from RAM at once, writes go out as effects. Everything in RAM is the guest's and may be anything: a chain that the
//! specification forbids is [`Broken`], upon which the transport asks for a reset and the queue is left alone.
//!
//! Invariants: every loop is bounded by the queue's size or by [`MAX_CHAIN`]; a chain is never longer than 2^32 - 1 bytes.

use device_core::{Cx, Dma};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Segment};

/// No chain has more descriptors than this, counting those of an indirect table.
pub(super) const MAX_CHAIN: u32 = 1024;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// In the available ring's flags: no interrupts, please.
const NO_INTERRUPT: u16 = 1;

/// The guest broke the queue's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue {
    /// What the guest chose, a power of two.
    pub(super) size: u16,
    pub(super) is_enabled: bool,
    /// Where the descriptor table, the available ring and the used ring are.
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    /// How many chains were taken, and given back; both modulo 2^16.
    taken: u16,
    returned: u16,
    /// `returned` when the guest was last interrupted.
    signalled: u16,
    /// Whether it was at all: before that every first completion interrupts.
    has_signalled: bool,
}

/// A descriptor as it lies in RAM.
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Queue {
    pub(super) fn new(size: u16) -> Queue {
        Queue {
            size,
            is_enabled: false,
            descriptors: 0,
            available: 0,
            used: 0,
            taken: 0,
            returned: 0,
            signalled: 0,
            has_signalled: false,
        }
    }

    /// Whether the size is one that the arithmetic here relies on.
    pub(super) fn is_sound(&self, max: u16) -> bool {
        self.size.is_power_of_two() && self.size <= max
    }

    /// Takes the next chain, if there is one, into `chain`.
    pub(super) fn pop(&mut self, chain: &mut Chain, dma: &mut dyn Dma) -> Result<bool, Broken> {
        let published = read_u16(self.available.wrapping_add(2), dma)?;
        let waiting = published.wrapping_sub(self.taken);
        if waiting > self.size {
            return Err(Broken);
        }
        if waiting == 0 {
            return Ok(false);
        }
        let slot = u64::from(self.taken & (self.size - 1));
        let head = read_u16(self.available.wrapping_add(4 + 2 * slot), dma)?;
        chain.clear();
        chain.head = head;
        self.collect(head, chain, dma)?;
        self.taken = self.taken.wrapping_add(1);
        Ok(true)
    }

    /// Puts back the chain that was popped last: it is the next one again.
    pub(super) fn unpop(&mut self) {
        self.taken = self.taken.wrapping_sub(1);
    }

    fn collect(&self, head: u16, chain: &mut Chain, dma: &mut dyn Dma) -> Result<(), Broken> {
        let (mut table, mut len) = (self.descriptors, u32::from(self.size));
        let (mut index, mut seen, mut bytes) = (head, 0, 0u64);
        let mut is_indirect = false;
        loop {
            if u32::from(index) >= len || seen >= len.min(MAX_CHAIN) {
                return Err(Broken);
            }
            let descriptor = read_descriptor(table.wrapping_add(16 * u64::from(index)), dma)?;
            if descriptor.flags & INDIRECT != 0 {
                // Only as a chain's last, never within a table, and the table is whole descriptors (2.7.5.3.1).
                let is_whole = descriptor.len != 0 && descriptor.len.is_multiple_of(16);
                if is_indirect || descriptor.flags & NEXT != 0 || !is_whole {
                    return Err(Broken);
                }
                (table, len, index, seen) = (descriptor.address, descriptor.len / 16, 0, 0);
                is_indirect = true;
                continue;
            }
            seen += 1;
            bytes += u64::from(descriptor.len);
            let segment = Segment {
                address: descriptor.address,
                len: descriptor.len,
            };
            if descriptor.flags & WRITE != 0 {
                chain.writable.push(segment);
            } else if chain.writable.is_empty() {
                chain.readable.push(segment);
            } else {
                // What the device reads comes before what it writes (2.7.4.2).
                return Err(Broken);
            }
            if descriptor.flags & NEXT == 0 {
                break;
            }
            index = descriptor.next;
        }
        if bytes <= u64::from(u32::MAX) {
            Ok(())
        } else {
            Err(Broken)
        }
    }

    /// Gives a chain back with the number of bytes that were written to it.
    pub(super) fn push(&mut self, head: u16, written: u32, cx: &mut Cx<'_>) {
        let slot = u64::from(self.returned & (self.size - 1));
        let mut element = [0; 8];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        cx.effects
            .dma_write(self.used.wrapping_add(4 + 8 * slot), &element);
        self.returned = self.returned.wrapping_add(1);
        cx.effects
            .dma_write(self.used.wrapping_add(2), &self.returned.to_le_bytes());
    }

    /// Asks the guest to notify when it publishes the next chain. Without event indices it always does.
    pub(super) fn want_notification(&self, event_index: bool, cx: &mut Cx<'_>) {
        if event_index {
            let at = self.used.wrapping_add(4 + 8 * u64::from(self.size));
            cx.effects.dma_write(at, &self.taken.to_le_bytes());
        }
    }

    /// Whether the guest wants to be interrupted for what was pushed since it last was (2.7.7.2).
    pub(super) fn wants_interrupt(
        &mut self,
        event_index: bool,
        dma: &mut dyn Dma,
    ) -> Result<bool, Broken> {
        if !event_index {
            return Ok(read_u16(self.available, dma)? & NO_INTERRUPT == 0);
        }
        let event = read_u16(
            self.available.wrapping_add(4 + 2 * u64::from(self.size)),
            dma,
        )?;
        let (old, new) = (self.signalled, self.returned);
        // Whether `event` lies in [old, new), going round.
        let passed = new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old);
        let wants = passed || !self.has_signalled;
        if wants {
            self.signalled = new;
            self.has_signalled = true;
        }
        Ok(wants)
    }
}

fn read_u16(address: u64, dma: &mut dyn Dma) -> Result<u16, Broken> {
    let mut bytes = [0; 2];
    if dma.read(address, &mut bytes) {
        Ok(u16::from_le_bytes(bytes))
    } else {
        Err(Broken)
    }
}

fn read_descriptor(address: u64, dma: &mut dyn Dma) -> Result<Descriptor, Broken> {
    let mut bytes = [0; 16];
    if !dma.read(address, &mut bytes) {
        return Err(Broken);
    }
    let value = u128::from_le_bytes(bytes);
    Ok(Descriptor {
        address: value as u64,
        len: (value >> 64) as u32,
        flags: (value >> 96) as u16,
        next: (value >> 112) as u16,
    })
}
