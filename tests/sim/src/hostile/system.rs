//! System instructions by chance: control registers, MSRs, selectors, page-table entries, far transfers, breakpoints.

use device_core::SplitMix64;

use super::code::{Coder, modrm, operand, pick, prefixes};
use super::{devices, place};

/// What the bits of CR0 and CR4 are mostly tried with.
const CR0_BITS: [u32; 10] = [1, 2, 3, 5, 16, 18, 29, 30, 0, 31];
const CR4_BITS: [u32; 18] = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 16, 18, 20, 21, 17, 5, 13];
const MSRS: [u32; 34] = [
    0x10,
    0x11,
    0x12,
    0x1b,
    0x3a,
    0x3b,
    0x8b,
    0xfe,
    0x174,
    0x175,
    0x176,
    0x179,
    0x17a,
    0x1a0,
    0x200,
    0x20f,
    0x250,
    0x277,
    0x2ff,
    0x38f,
    0x6e0,
    0x800,
    0x802,
    0x808,
    0x830,
    0xda0,
    0xc000_0080,
    0xc000_0081,
    0xc000_0082,
    0xc000_0084,
    0xc000_0100,
    0xc000_0102,
    0xc000_0103,
    0x4b56_4d01,
];

fn selector(rng: &mut SplitMix64) -> u32 {
    match rng.below(8) {
        0 => rng.next_u64() as u32 & 0xffff,
        1 => rng.below(4) as u32 * 8 + 4,
        _ => rng.below(0x16) as u32 * 8 + [0, 0, 3, 1][rng.below(4) as usize],
    }
}

/// Flips a bit of a control register that is read first.
fn control(rng: &mut SplitMix64, c: &mut Coder) {
    // The last two of CR0 end most programs.
    let tried = if rng.below(8) == 0 { 10 } else { 8 };
    let (register, bit) = match rng.below(2) {
        0 => (0, CR0_BITS[rng.below(tried) as usize]),
        _ => (4, CR4_BITS[rng.below(18) as usize]),
    };
    c.put(&[0x0f, 0x20, 0xc0 | register << 3]);
    if c.bits == 16 {
        c.put(&[0x66]);
    }
    c.put(&[0x0f, 0xba, 0xf8, bit as u8]);
    c.put(&[0x0f, 0x22, 0xc0 | register << 3]);
}

/// One instruction, with those that prepare it.
pub(super) fn system(rng: &mut SplitMix64, c: &mut Coder) {
    match rng.below(24) {
        0 | 1 => control(rng, c),
        2 => {
            let msr = MSRS[rng.below(MSRS.len() as u64) as usize];
            c.constant(1, msr);
            c.put(&[0x0f, 0x32]);
            if rng.below(2) == 0 {
                c.constant(0, operand(rng));
                c.constant(2, [0, 0, u32::MAX, operand(rng)][rng.below(4) as usize]);
            } else {
                // One bit of what was read.
                if c.bits == 16 {
                    c.put(&[0x66]);
                }
                c.put(&[0x0f, 0xba, 0xf8, rng.below(32) as u8]);
            }
            c.put(&[0x0f, 0x30]);
        }
        3..6 => {
            c.constant(0, selector(rng));
            c.put(&[0x8e, 0xc0 | pick(rng, &[0, 2, 3, 4, 5, 0, 3, 2]) << 3]);
        }
        6 => {
            c.constant(0, selector(rng));
            c.put(&[0x0f, pick(rng, &[0x00, 0x02, 0x03])]);
            let reg = rng.below(6) as u8;
            c.put(&[0xc0 | reg << 3]);
        }
        7 => {
            prefixes(rng, c);
            c.put(&[0x0f, rng.below(2) as u8]);
            modrm(rng, c, None);
        }
        8 => {
            // Page-table entries, with and without INVLPG.
            let at = place::PAGE_TABLES + rng.below(place::PAGE_TABLES_BYTES / 4) * 4;
            let page = (place::DATA + 0x1000 * rng.below(16)) as u32;
            let near = place::PAGE_TABLES + 0x1000 + 4 * (0x30 + rng.below(16));
            let at = if rng.below(2) == 0 { at } else { near };
            c.store(at, page | rng.below(512) as u32, 4);
            if rng.below(2) == 0 {
                c.put(&[0x0f, 0x01]);
                modrm(rng, c, Some(7));
            }
        }
        9 => c.put(&[0xcd, pick(rng, &[0x20, 0x21, 3, 4, 0x40, 0x80, 1, 2])]),
        10 => c.put(&[pick(rng, &[0xcc, 0xf1, 0xf4, 0xfa, 0xfb, 0xfb, 0xce, 0x9d])]),
        11 => {
            // POPF of something that keeps IF.
            if c.bits == 16 {
                c.put(&[
                    0x68,
                    rng.next_u64() as u8 & 0xd5,
                    0x02 | rng.next_u64() as u8 & 0x7d,
                ]);
            } else {
                c.put(&[
                    0x68,
                    rng.next_u64() as u8 & 0xd5,
                    0x02 | rng.next_u64() as u8 & 0x7d,
                ]);
                c.put(&[pick(rng, &[0, 0, 4, 1]), 0]);
            }
            c.put(&[0x9d]);
        }
        12 => {
            // A far way: direct, or an IRET or RETF of what is pushed.
            let (selector, to) = (selector(rng), (place::CODE + rng.below(0x8000)) as u32);
            let kind = rng.below(3);
            if kind == 0 && c.bits != 64 {
                c.put(&[pick(rng, &[0x9a, 0xea])]);
                c.put(&to.to_le_bytes()[..if c.bits == 16 { 2 } else { 4 }]);
                c.put(&selector.to_le_bytes()[..2]);
                return;
            }
            let (long, word) = (c.bits == 64, if c.bits == 16 { 2 } else { 4 });
            let mut push = |value: u32| {
                c.put(&[0x68]);
                c.put(&value.to_le_bytes()[..word]);
            };
            if long || kind == 2 {
                push([0x10, 0x33, selector][rng.below(3) as usize]);
                push(0xd000);
            }
            if kind != 0 {
                push(0x202 | rng.next_u64() as u32 & 0x3_4dd5);
            }
            push(selector);
            push(to);
            if long {
                c.put(&[0x48]);
            }
            c.put(&[if kind == 0 { 0xcb } else { 0xcf }]);
        }
        13 => c.put(&[
            0x0f,
            pick(rng, &[0x05, 0x07, 0x34, 0x35, 0x06, 0x08, 0x09, 0x0b]),
        ]),
        14 => c.put(&[
            0x0f,
            pick(rng, &[0x31, 0x33, 0xa2, 0x77, 0xa0, 0xa1, 0xa8, 0xa9]),
        ]),
        15 => {
            // Breakpoints.
            let at = match rng.below(3) {
                0 => (place::CODE + rng.below(0x8000)) as u32,
                1 => 0x40 + rng.below(0x60) as u32,
                _ => (place::DATA + rng.below(0x1_0000)) as u32,
            };
            c.constant(0, at);
            c.put(&[0x0f, 0x23, 0xc0 + rng.below(4) as u8 * 8]);
            c.constant(0, rng.next_u64() as u32);
            c.put(&[0x0f, 0x23, 0xf8]);
        }
        16 => c.put(&[0x0f, 0x21, 0xc0 | rng.below(64) as u8]),
        17 => {
            // CR3, often with a PCID.
            c.put(&[0x0f, 0x20, 0xd8]);
            if rng.below(2) == 0 {
                if c.bits == 16 {
                    c.put(&[0x66]);
                }
                c.put(&[0x0f, 0xba, 0xf8, pick(rng, &[0, 1, 2, 3, 4, 63])]);
            }
            c.put(&[0x0f, 0x22, 0xd8]);
        }
        18 => {
            // INVPCID.
            c.constant(2, rng.below(5) as u32);
            c.put(&[0x66, 0x0f, 0x38, 0x82]);
            modrm(rng, c, Some(2));
        }
        19 => {
            // State images.
            prefixes(rng, c);
            c.put(&[0x0f, pick(rng, &[0xae, 0xc7])]);
            modrm(rng, c, None);
        }
        20 => {
            let some = [
                0xc1, 0xc8, 0xc9, 0xca, 0xcb, 0xd0, 0xd1, 0xd5, 0xd6, 0xee, 0xef, 0xf8, 0xf9, 0xfa,
            ];
            c.put(&[0x0f, 0x01, pick(rng, &some)]);
        }
        21 => c.put(&[
            0x0f,
            0x22,
            0xc0 | pick(rng, &[0x02, 0x12, 0x1b, 0x20, 0x18]),
        ]),
        22 => {
            let (value, wide) = (rng.next_u64() as u32, 1 << rng.below(3));
            c.store(devices::register(rng), value, wide);
        }
        _ => {
            prefixes(rng, c);
            c.put(&[pick(rng, &[0xc4, 0xc5, 0xff, 0x8c, 0x63])]);
            let reg = 3 + rng.below(3) as u8;
            modrm(rng, c, Some(reg));
        }
    }
}
