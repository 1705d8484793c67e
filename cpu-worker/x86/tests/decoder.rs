//! Bytes by chance through the decoder, in every mode: see [`atoll_x86::hostile::decoder`], which is a fuzz target too.

use atoll_x86::hostile;

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A mode, and fifteen bytes, often with prefixes, escapes or VEX at their head.
fn bytes(rng: &mut Rng, mode: u8) -> [u8; 16] {
    const HEADS: [u8; 20] = [
        0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0x40, 0x48, 0x4f, 0x0f, 0x0f, 0x0f, 0xc4,
        0xc5, 0xc7, 0xd9, 0xf6, 0xff,
    ];
    let mut bytes = [0; 16];
    bytes.fill_with(|| (rng.next() >> 32) as u8);
    for byte in bytes
        .iter_mut()
        .skip(1)
        .take((rng.next() >> 40) as usize % 5)
    {
        *byte = HEADS[(rng.next() >> 33) as usize % HEADS.len()];
    }
    bytes[0] = mode;
    bytes
}

#[test]
fn random_bytes() {
    let mut rng = Rng(1);
    let known = (0..400_000).filter(|n| hostile::decoder(&bytes(&mut rng, (n % 8) as u8)));
    let known = known.count();
    assert!(known > 100_000, "{known} instructions");
}
