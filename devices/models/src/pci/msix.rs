//! An MSI-X table with its pending bits (PCI 3.0, 6.8.2).
//!
//! It lies in one of the function's BARs, but the board keeps it: a model names a vector, and what that means is between
//! the guest and this table.

use device_core::Msix;
use serde::{Deserialize, Serialize};

const VECTOR_MASKED: u32 = 1;

/// Address low and high, data, vector control.
type Entry = [u32; 4];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    entries: Vec<Entry>,
    pending: Vec<u64>,
}

impl Table {
    pub(super) fn new(msix: &Msix) -> Table {
        let vectors = usize::from(msix.vectors);
        Table {
            entries: vec![[0, 0, 0, VECTOR_MASKED]; vectors],
            pending: vec![0; vectors.div_ceil(64)],
        }
    }

    /// Whether it has the shape that `msix` says: asked of a state that was loaded.
    pub(super) fn fits(&self, msix: &Msix) -> bool {
        let vectors = usize::from(msix.vectors);
        self.entries.len() == vectors && self.pending.len() == vectors.div_ceil(64)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.len() as u64 * 16
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending.len() as u64 * 8
    }

    /// The vector's message, unless it is masked by itself or with all others: then it becomes pending.
    pub(super) fn fire(&mut self, vector: u16, all_masked: bool) -> Option<(u64, u32)> {
        let [low, high, data, control] = *self.entries.get(usize::from(vector))?;
        let bit = 1 << (vector % 64);
        let pending = &mut self.pending[usize::from(vector / 64)];
        if all_masked || control & VECTOR_MASKED != 0 {
            *pending |= bit;
            return None;
        }
        *pending &= !bit;
        Some((u64::from(high) << 32 | u64::from(low), data))
    }

    pub(super) fn is_pending(&self, vector: u16) -> bool {
        self.pending
            .get(usize::from(vector / 64))
            .is_some_and(|word| word >> (vector % 64) & 1 != 0)
    }

    pub(super) fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    /// A read of an aligned double word of the table.
    pub(super) fn read(&self, offset: u64) -> u32 {
        let entry = self.entries.get((offset / 16) as usize);
        entry.map_or(0, |entry| entry[(offset / 4 % 4) as usize])
    }

    /// A write of an aligned double word. Returns the vector whose control was written.
    pub(super) fn write(&mut self, offset: u64, value: u32) -> Option<u16> {
        let index = offset / 16;
        let entry = self.entries.get_mut(index as usize)?;
        match offset / 4 % 4 {
            0 => entry[0] = value & !3,
            3 => {
                entry[3] = value & VECTOR_MASKED;
                return Some(index as u16);
            }
            field => entry[field as usize] = value,
        }
        None
    }

    /// A read of an aligned double word of the pending bits; they are read-only.
    pub(super) fn read_pending(&self, offset: u64) -> u32 {
        let word = self
            .pending
            .get((offset / 8) as usize)
            .copied()
            .unwrap_or(0);
        (word >> (offset % 8 * 8)) as u32
    }
}
