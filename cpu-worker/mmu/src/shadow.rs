//! What a host bridge shows at addresses behind which there is RAM: the RAM, the RAM read-only, a ROM, or nothing.
//!
//! PC chipsets call it shadow RAM: the addresses from 640 KiB to 1 MiB belong to a display, option ROMs and the BIOS, and firmware
//! copies ROMs into the RAM behind and then shows that (for the 82441FX the PAM registers, datasheet 290549, section 3.2.14).

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The size in which it is chosen.
pub const SHADOW_BLOCK: u64 = 0x4000;

/// What is seen at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shown {
    Ram,
    /// RAM that drops stores.
    ReadOnly,
    /// The ROM, where it reaches; else nothing.
    Rom,
    /// No memory: accesses go to the bus.
    Nothing,
}

impl Shown {
    const ALL: [Shown; 4] = [Shown::Ram, Shown::ReadOnly, Shown::Rom, Shown::Nothing];
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Shadow {
    base: u64,
    blocks: Box<[AtomicU8]>,
    /// Host address and length of the ROM that ends where the blocks end.
    rom: Option<(usize, u64)>,
}

impl Shadow {
    pub(crate) fn new(base: u64, len: u64, rom: Option<(usize, u64)>) -> Shadow {
        assert!(
            (base | len).is_multiple_of(SHADOW_BLOCK),
            "the shadow is made of whole blocks"
        );
        assert!(
            rom.is_none_or(|(_, bytes)| bytes <= len),
            "the ROM has addresses"
        );
        let block = |_| AtomicU8::new(Shown::Ram as u8);
        Shadow {
            base,
            blocks: (0..len / SHADOW_BLOCK).map(block).collect(),
            rom,
        }
    }

    fn end(&self) -> u64 {
        self.base + self.blocks.len() as u64 * SHADOW_BLOCK
    }

    fn block(&self, pa: u64) -> Option<(usize, &AtomicU8)> {
        let number = (pa.checked_sub(self.base)? / SHADOW_BLOCK) as usize;
        self.blocks.get(number).map(|block| (number, block))
    }

    /// Whether any of the bytes lies where something can be chosen.
    pub(crate) fn touches(&self, pa: u64, len: u64) -> bool {
        pa < self.end() && pa.saturating_add(len) > self.base
    }

    pub(crate) fn at(&self, pa: u64) -> Shown {
        self.block(pa).map_or(Shown::Ram, |(_, block)| {
            Shown::ALL[usize::from(block.load(Relaxed)) & 3]
        })
    }

    /// Chooses for the block of `pa`; gives its addresses if that is a change.
    pub(crate) fn set(&self, pa: u64, what: Shown) -> Option<Range<u64>> {
        let (number, block) = self.block(pa)?;
        let start = self.base + number as u64 * SHADOW_BLOCK;
        (block.swap(what as u8, Relaxed) != what as u8).then_some(start..start + SHADOW_BLOCK)
    }

    /// The host address of the ROM's byte at `pa`.
    pub(crate) fn rom(&self, pa: u64) -> Option<usize> {
        let (host, len) = self.rom?;
        let offset = pa.checked_sub(self.end() - len)?;
        Some(host + offset as usize)
    }
}
