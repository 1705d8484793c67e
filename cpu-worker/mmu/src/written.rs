//! Which pages were written: what a hash of RAM has to look at again.
//!
//! Stores through a write tag leave no trace, so a page counts as written as soon as a tag lets them through; [`Mmu::take_written`] makes
//! every tag send the next store the slow way, where it is noted. All other writes pass by [`Ram::note_write`](crate::Ram).

use crate::mmu::Mmu;
use crate::tlb::{INVALID, slow};

impl Mmu {
    /// Calls `f` with the address of each page that may have been written since the last call, or ever.
    pub fn take_written(&mut self, mut f: impl FnMut(u64)) {
        self.tracking = true;
        self.data_tlb.for_each(|e| {
            if e.write & INVALID == 0 {
                e.write |= slow::WATCHED;
            }
        });
        for (word, writable) in self.writable.iter_mut().enumerate() {
            let mut bits = std::mem::take(writable) | self.ram.take_stored(word);
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                f(self.ram.address_of(index).expect("a bit stands for a page"));
            }
        }
    }
}
