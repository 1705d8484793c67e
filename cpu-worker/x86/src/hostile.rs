//! Arbitrary bytes through the decoder: the body of a fuzz target and of a property test.

use iced_x86::{Decoder, DecoderOptions};

use crate::decode::decode;
use crate::features::Features;
use crate::op::{Kind, Op};
use crate::state::mode;

/// Mode words, and how wide code is in them.
const MODES: [(u32, u32); 4] = [
    (0, 16),
    (mode::PROTECTED | mode::V86, 16),
    (mode::PROTECTED | mode::CODE32, 32),
    (mode::PROTECTED | mode::LMA | mode::LONG, 64),
];

/// Decodes up to 15 bytes in a mode and on a CPU that the byte before them chooses. It never panics, an instruction has 1 to 15
/// bytes, as many as iced says where iced knows one, and is the same whatever stands behind it. Gives whether iced was asked.
pub fn decoder(bytes: &[u8]) -> bool {
    let Some((choice, code)) = bytes.split_first() else {
        return false;
    };
    let (mode, bits) = MODES[usize::from(choice % 4)];
    let features = [Features::all(), Features::empty()][usize::from(choice / 4 % 2)];
    let mut bytes = [0; 15];
    let given = code.len().min(15);
    bytes[..given].copy_from_slice(&code[..given]);
    let op = decode(&bytes, mode, features);
    let op = op.unwrap_or_else(|| panic!("15 bytes hold any instruction: {bytes:x?}"));
    let len = usize::from(op.len);
    assert!((1..=15).contains(&len), "{bytes:x?} in {bits}: {len}");
    // What does not end within the bytes is told so, whatever they are cut to.
    for cut in 0..len {
        if let Some(short) = decode(&bytes[..cut], mode, features) {
            assert!(
                usize::from(short.len) <= cut.max(1),
                "{bytes:x?} cut to {cut}"
            );
        }
    }
    if op.kind == Kind::Invalid {
        return false;
    }
    let alone = decode(&bytes[..len], mode, features).map(|op| meaning(&op));
    assert_eq!(alone, Some(meaning(&op)), "{bytes:x?} in {bits}");
    let iced = Decoder::new(bits, &bytes, DecoderOptions::NO_WBNOINVD).decode();
    if !iced.is_invalid() {
        assert_eq!(len, iced.len(), "{bytes:x?} in {bits}: {iced}");
    }
    !iced.is_invalid()
}

/// Everything of an instruction but its handler, whose address says nothing.
fn meaning(op: &Op) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (op.kind, op.flags, op.width, op.width2, op.len),
        (op.imm, op.disp, op.sub, op.sub2),
        (op.dst_arg, op.dst, op.src_arg, op.src, op.src1),
        (op.base, op.index, op.scale, op.addr, op.seg),
    )
}
