//! Values at which instructions go wrong: integers at the edges of their widths, floating-point numbers of every class,
//! addresses at the edges of pages.

use isa_native::layout::{CODE, CODE_LEN, DATA, DATA_END, DATA_LEN, PAGE, READ_ONLY};

use crate::rng::Rng;

/// An integer that likes edges.
pub fn integer(rng: &mut Rng) -> u64 {
    let edge = |rng: &mut Rng| {
        let bits = rng.pick(&[7, 8, 15, 16, 31, 32, 63, 0]);
        let around = (1u64 << bits).wrapping_add(rng.below(3)).wrapping_sub(1);
        if rng.chance(50) {
            around
        } else {
            around.wrapping_neg()
        }
    };
    match rng.below(12) {
        0 => 0,
        1 => u64::MAX,
        2 | 3 => rng.below(16),
        4 => rng.below(256).wrapping_neg(),
        5 | 6 => edge(rng),
        7 => rng.word() & 0xffff_ffff,
        8 => rng.word() as i32 as u64,
        9 => 1 << rng.below(64),
        _ => rng.word(),
    }
}

/// Bits of a float with this many bits of exponent and fraction, of any class.
fn float(rng: &mut Rng, exponent_bits: u32, fraction_bits: u32) -> u64 {
    let all_ones = (1u64 << exponent_bits) - 1;
    let fraction_mask = (1u64 << fraction_bits) - 1;
    let bias = all_ones >> 1;
    let sign = rng.word() & 1;
    let some_fraction = |rng: &mut Rng| match rng.below(4) {
        0 => 1,
        1 => fraction_mask,
        2 => 1 << rng.below(fraction_bits as u64),
        _ => rng.word() & fraction_mask,
    };
    let (exponent, fraction) = match rng.below(16) {
        0 => (0, 0),
        1 => (all_ones, 0),
        // Quiet and signalling NaNs.
        2 => (all_ones, some_fraction(rng) | 1 << (fraction_bits - 1)),
        3 => (all_ones, (some_fraction(rng) & (fraction_mask >> 1)).max(1)),
        4 => (0, some_fraction(rng)),
        5 => (1, some_fraction(rng)),
        6 => (all_ones - 1, some_fraction(rng)),
        7 => (bias, 0),
        // Small integers and halves.
        8 | 9 => {
            let e = rng.below(5);
            (bias + e, (rng.word() & 15) << (fraction_bits - 4))
        }
        // Around the limits of 32- and 64-bit integers.
        10 => (
            bias + rng.pick(&[14, 15, 30, 31, 32, 62, 63, 64]),
            some_fraction(rng),
        ),
        11 | 12 => (
            (bias + rng.below(60)).wrapping_sub(30) & all_ones,
            rng.word() & fraction_mask,
        ),
        _ => (rng.word() & all_ones, rng.word() & fraction_mask),
    };
    sign << (exponent_bits + fraction_bits) | exponent << fraction_bits | fraction
}

/// A binary32 value of any class.
pub fn single(rng: &mut Rng) -> u32 {
    float(rng, 8, 23) as u32
}

/// A binary64 value of any class.
pub fn double(rng: &mut Rng) -> u64 {
    float(rng, 11, 52)
}

/// An 80-bit value of any class, the unsupported encodings of SDM vol. 1, 8.2.2 included.
pub fn extended(rng: &mut Rng) -> [u64; 2] {
    let sign = rng.word() & 0x8000;
    let fraction = |rng: &mut Rng| match rng.below(4) {
        0 => 0,
        1 => 1,
        2 => u64::MAX >> 1,
        _ => rng.word() >> 1,
    };
    const INTEGER: u64 = 1 << 63;
    let (exponent, significand) = match rng.below(20) {
        0 | 1 => (0, 0),
        2 => (0x7fff, INTEGER),
        3 => (0x7fff, INTEGER | 1 << 62 | fraction(rng)),
        4 => (0x7fff, INTEGER | (fraction(rng) & (u64::MAX >> 2)).max(1)),
        5 => (0, fraction(rng)),
        // A pseudo-denormal, and other encodings that the x87 refuses.
        6 => (0, INTEGER | fraction(rng)),
        7 => (rng.below(0x8000), fraction(rng)),
        8 | 9 => (0x3fff, INTEGER),
        10..=13 => (0x3fff + rng.below(6), INTEGER | (rng.word() & 0x1f) << 58),
        14 => (0x3fff + rng.below(70), INTEGER | fraction(rng)),
        15 => (1, INTEGER | fraction(rng)),
        16 => (0x7ffe, INTEGER | fraction(rng)),
        17 => {
            // What fits into binary64 and binary32, and their edges.
            let bias = rng.pick(&[1023, 127]);
            let e = 0x3fff - bias + rng.pick(&[0, 1, 2, 2 * bias - 1, 2 * bias, 2 * bias + 1]);
            (e, INTEGER | fraction(rng))
        }
        _ => (rng.below(0x7fff), INTEGER | fraction(rng)),
    };
    [significand, sign | exponent]
}

/// A 128-bit vector: floats of either width, edge integers of any lane, or noise.
pub fn vector(rng: &mut Rng) -> [u64; 2] {
    match rng.below(8) {
        0..=2 => [double(rng), double(rng)],
        3..=5 => {
            let pair = |rng: &mut Rng| single(rng) as u64 | (single(rng) as u64) << 32;
            [pair(rng), pair(rng)]
        }
        6 => [lanes(rng), lanes(rng)],
        _ => [rng.word(), rng.word()],
    }
}

/// 64 bits in lanes of one width, each at an edge.
fn lanes(rng: &mut Rng) -> u64 {
    let bits = rng.pick(&[8, 16, 32]);
    let mask = u64::MAX >> (64 - bits);
    (0..64 / bits).fold(0, |v, n| {
        let lane = match rng.below(6) {
            0 => 0,
            1 => mask,
            2 => mask >> 1,
            3 => (mask >> 1) + 1,
            _ => rng.word() & mask,
        };
        v | lane << (n * bits)
    })
}

/// Eight bytes of memory.
pub fn memory_word(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 | 1 => integer(rng),
        2 => double(rng),
        3 => single(rng) as u64 | (single(rng) as u64) << 32,
        4 => pointer(rng),
        5 => lanes(rng),
        _ => rng.word(),
    }
}

/// An address in the data or code pages, or just not in them.
pub fn pointer(rng: &mut Rng) -> u64 {
    if rng.chance(10) {
        return CODE + rng.below(CODE_LEN as u64);
    }
    data_address(rng, 8)
}

/// Where an operand of `bytes` lies: mostly inside the writable pages, aligned as often as not, else at an edge.
pub fn data_address(rng: &mut Rng, bytes: u64) -> u64 {
    let bytes = bytes.clamp(1, 1024);
    let inside = |rng: &mut Rng| DATA + 64 + rng.below(DATA_LEN as u64 - 128 - bytes);
    // Straddles, touches or just misses an edge.
    let around = |rng: &mut Rng, edge: u64| (edge + 8).wrapping_sub(rng.below(bytes + 16));
    match rng.below(100) {
        0..=64 => {
            let align = bytes.next_power_of_two().min(64);
            inside(rng) & !(align - 1)
        }
        65..=82 => inside(rng),
        83..=87 => around(rng, DATA + PAGE),
        88..=90 => around(rng, READ_ONLY),
        91..=93 => around(rng, DATA_END),
        94..=96 => around(rng, DATA),
        97 => READ_ONLY + rng.below(PAGE - bytes),
        98 => around(rng, 0x0000_8000_0000_0000),
        _ => rng.word(),
    }
}
