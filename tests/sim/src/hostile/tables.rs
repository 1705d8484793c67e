//! Registers that lead somewhere, and changes of descriptors, vectors, task state and page tables.

use device_core::SplitMix64;

use super::{CHANGES, Change, Mode, place};

/// A value for a register: often an address that is near an edge, or a small number.
pub(super) fn register(rng: &mut SplitMix64, mode: Mode) -> u64 {
    let edge = place::DATA + 0x1000 * rng.below(16) + 0xff0 + rng.below(32);
    match rng.below(10) {
        0..4 => edge - if mode.bits() == 16 { place::DATA } else { 0 },
        4 | 5 => rng.below(32),
        6 => place::PAGE_TABLES + rng.below(place::PAGE_TABLES_BYTES),
        7 => place::GDT + rng.below(0x4000),
        8 => place::CODE + rng.below(0x8000),
        _ => rng.next_u64() >> rng.below(64),
    }
}

/// Some changes, most of them of what the mode uses.
pub(super) fn changes(rng: &mut SplitMix64, mode: Mode) -> Vec<Change> {
    let most = if rng.below(4) == 0 { CHANGES } else { 4 };
    let count = 1 + rng.below(most as u64);
    (0..count).map(|_| change(rng, mode)).collect()
}

fn change(rng: &mut SplitMix64, mode: Mode) -> Change {
    let (address, bytes) = match rng.below(16) {
        0..5 => (place::GDT, 0xb0),
        5 | 6 if mode.bits() == 64 => (place::IDT64, 0x400),
        5 | 6 => (place::IDT, 0x200),
        7 => (place::VECTORS, 0x400),
        8 | 9 => (place::TSS, 0x800),
        10..15 => {
            let page = [2, 3, 4, 5, 6, 7, 0, 1][rng.below(8) as usize];
            // The first entries lead to what is used; the rest seldom does.
            let bytes = [0x40, 0x200, 0x1000][rng.below(3) as usize];
            (place::PAGE_TABLES + 0x1000 * page, bytes)
        }
        _ => (place::DATA, 0x1_0000),
    };
    let put = rng.below(4) == 0;
    let value = match rng.below(3) {
        0 => rng.next_u64() as u32,
        // A bit or two of rights, types, presence.
        1 => 1 << rng.below(32) | 1 << rng.below(32),
        _ => 1 << rng.below(12),
    };
    Change {
        address: address + rng.below(bytes / 4) * 4,
        value,
        put,
    }
}
