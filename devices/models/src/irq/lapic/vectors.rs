//! A set of interrupt vectors: IRR, ISR and TMR.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vectors([u64; 4]);

impl Vectors {
    pub(super) fn set(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] |= 1 << (vector & 63);
    }

    pub(super) fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] &= !(1 << (vector & 63));
    }

    pub(super) fn is_set(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0
    }

    #[inline]
    pub(super) fn highest(&self) -> Option<u8> {
        let word = (0..4).rev().find(|&i| self.0[i] != 0)?;
        Some((word * 64) as u8 + 63 - self.0[word].leading_zeros() as u8)
    }

    /// One of the eight 32-bit registers that show the set.
    pub(super) fn word(&self, index: u32) -> u32 {
        (self.0[(index as usize / 2) & 3] >> (32 * (index % 2))) as u32
    }
}
