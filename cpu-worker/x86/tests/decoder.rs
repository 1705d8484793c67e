//! Bytes by chance through the decoder, in every mode: it never panics, an instruction has 1 to 15 bytes, and as many as iced says wherever
//! iced knows one.

use atoll_x86::decode::decode;
use atoll_x86::features::Features;
use atoll_x86::op::Kind;
use atoll_x86::state::mode;
use iced_x86::{Decoder, DecoderOptions};

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

/// Fifteen bytes, often with prefixes, escapes or VEX at their head.
fn bytes(rng: &mut Rng) -> [u8; 15] {
    const HEADS: [u8; 20] = [
        0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0x40, 0x48, 0x4f, 0x0f, 0x0f, 0x0f, 0xc4,
        0xc5, 0xc7, 0xd9, 0xf6, 0xff,
    ];
    let mut bytes = [0; 15];
    bytes.fill_with(|| (rng.next() >> 32) as u8);
    for byte in bytes.iter_mut().take((rng.next() >> 40) as usize % 5) {
        *byte = HEADS[(rng.next() >> 33) as usize % HEADS.len()];
    }
    bytes
}

const MODES: [(u32, u32); 4] = [
    (0, 16),
    (mode::PROTECTED | mode::V86, 16),
    (mode::PROTECTED | mode::CODE32, 32),
    (mode::PROTECTED | mode::LMA | mode::LONG, 64),
];

#[test]
fn random_bytes() {
    let mut rng = Rng(1);
    let features = [Features::all(), Features::empty()];
    let mut known = 0;
    for n in 0..400_000 {
        let bytes = bytes(&mut rng);
        let (mode, bits) = MODES[n % 4];
        let op = decode(&bytes, mode, features[n / 4 % 2]);
        let op = op.unwrap_or_else(|| panic!("15 bytes hold any instruction: {bytes:x?}"));
        let len = usize::from(op.len);
        assert!((1..=15).contains(&len), "{bytes:x?} in {bits}: {len}");
        let iced = Decoder::new(bits, &bytes, DecoderOptions::NO_WBNOINVD).decode();
        if !iced.is_invalid() && op.kind != Kind::Invalid {
            known += 1;
            assert_eq!(len, iced.len(), "{bytes:x?} in {bits}: {iced}");
        }
        // What does not end within the bytes is told so, whatever they are cut to.
        for cut in 0..len {
            if let Some(short) = decode(&bytes[..cut], mode, features[n / 4 % 2]) {
                assert!(
                    usize::from(short.len) <= cut.max(1),
                    "{bytes:x?} cut to {cut}"
                );
            }
        }
    }
    assert!(known > 100_000, "{known} instructions");
}
