//! The bytes of an instruction.

use iced_x86::{Code, ConstantOffsets, Decoder, DecoderOptions, Instruction, OpKind};

use crate::exclude;
use crate::forms::{self, Bits, Encoding, Form, P66, P67, PF2, PF3, REX_W, Vex};
use crate::rng::Rng;

/// An instruction's bytes, and what they mean at address 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    pub(super) bits: Bits,
    pub(super) bytes: [u8; 15],
    pub(super) len: usize,
    pub(super) instruction: Instruction,
    pub(super) offsets: ConstantOffsets,
}

const MAX: usize = 15;

/// A random encoding of the form; None if it came out as something that is not generated.
pub(super) fn random(form: &Form, rng: &mut Rng) -> Option<Bytes> {
    let encoding = rng.pick(&form.encodings);
    let mut bytes = [0; 32];
    let mut n = prefixes(form, encoding, rng, &mut bytes);
    if let Some(vex) = encoding.vex {
        n += vex_prefix(form.bits, vex, encoding, rng, &mut bytes[n..]);
        bytes[n] = encoding.opcode;
        n += 1;
    } else {
        let (opcode, len) = encoding.opcode_bytes();
        bytes[n..n + len].copy_from_slice(&opcode[..len]);
        n += len;
    }
    bytes[n] = modrm(form.code, encoding, rng);
    n += 1;
    // SIB, displacement and immediates, as many of them as there are.
    for byte in &mut bytes[n..] {
        *byte = constant(rng);
    }
    decode(form.bits, bytes[..MAX].try_into().expect("15 bytes"))
}

/// Reads the bytes; None if they are of a form that is not generated.
pub(super) fn decode(bits: Bits, bytes: [u8; MAX]) -> Option<Bytes> {
    let mut decoder = Decoder::new(bits.count(), &bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let code = instruction.code();
    let invalid = code == Code::INVALID;
    let len = if invalid { MAX } else { instruction.len() };
    if !invalid && forms::obstacle(code).is_some()
        || exclude::encoding(&instruction, &bytes[..len]).is_some()
    {
        return None;
    }
    Some(Bytes {
        bits,
        bytes,
        // What is invalid counts with all its bytes: where it ends is not defined.
        len,
        instruction,
        offsets: decoder.get_constant_offsets(&instruction),
    })
}

/// A byte of a constant: small, or at an edge, as often as not.
fn constant(rng: &mut Rng) -> u8 {
    match rng.below(8) {
        0 => 0,
        1 => 0xff,
        2 => 0x80,
        3 => rng.below(16) as u8,
        _ => rng.word() as u8,
    }
}

/// A VEX prefix with random registers, of two bytes where that is possible, every other time.
fn vex_prefix(bits: Bits, vex: Vex, e: Encoding, rng: &mut Rng, to: &mut [u8]) -> usize {
    // Forms that name no register there want all ones; in 32-bit code there are eight registers.
    let mut vvvv = if rng.chance(40) {
        15
    } else {
        rng.below(16) as u8
    };
    let mut rxb = rng.below(8) as u8;
    if bits != Bits::B64 {
        vvvv |= 8;
        rxb = 7;
    }
    let bytes = vex.bytes(e.map, rxb, vvvv);
    if e.map == 1 && !vex.w && rxb & 3 == 3 && rng.chance(50) {
        to[..2].copy_from_slice(&[0xc5, bytes[2] & 0x7f | rxb >> 2 << 7]);
        return 2;
    }
    to[..3].copy_from_slice(&bytes);
    3
}

/// Whether the memory operand is a vector of addresses.
pub(super) fn is_gather(code: Code) -> bool {
    format!("{code:?}").contains("gather")
}

fn modrm(code: Code, encoding: Encoding, rng: &mut Rng) -> u8 {
    if !encoding.is_memory() {
        return encoding.modrm;
    }
    let mode = rng.below(3) as u8;
    let rm = if is_gather(code) {
        4
    } else {
        rng.below(8) as u8
    };
    mode << 6 | encoding.modrm & 0x38 | rm
}

/// Legacy prefixes in any order, then REX.
fn prefixes(form: &Form, e: Encoding, rng: &mut Rng, bytes: &mut [u8; 32]) -> usize {
    let mut legacy = [0u8; 6];
    let mut n = 0;
    let mut put = |byte: u8| {
        legacy[n] = byte;
        n += 1;
    };
    for (bit, byte) in [(P66, 0x66), (P67, 0x67), (PF2, 0xf2), (PF3, 0xf3)] {
        if e.prefixes & bit != 0 {
            put(byte);
        }
    }
    if e.vex.is_some() && e.is_memory() && e.prefixes & P67 == 0 && rng.chance(10) {
        put(0x67);
    }
    if rng.chance(25) {
        put(rng.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x64, 0x65, 0x65]));
    }
    if may_lock(form.code, e, rng) {
        put(0xf0);
    }
    for last in (1..n).rev() {
        legacy.swap(last, rng.below(last as u64 + 1) as usize);
    }
    bytes[..n].copy_from_slice(&legacy[..n]);
    if e.vex.is_some() {
        // No legacy prefix but segments and address size may come before VEX.
        if rng.chance(1) {
            let rex = form.bits == Bits::B64;
            bytes[n] = rng.pick(&[0x66, 0xf2, 0xf3, if rex { 0x48 } else { 0xf0 }]);
            n += 1;
        }
        return n;
    }
    if form.bits != Bits::B64 {
        return n;
    }
    let w = (e.prefixes & REX_W != 0) as u8;
    if w != 0 || rng.chance(40) {
        bytes[n] = 0x40 | w << 3 | rng.below(8) as u8;
        n += 1;
    }
    n
}

/// LOCK where it is allowed, and now and then where it is not.
fn may_lock(code: Code, e: Encoding, rng: &mut Rng) -> bool {
    let allowed = code != Code::INVALID && code.op_code().can_use_lock_prefix() && e.is_memory();
    rng.chance(if allowed { 30 } else { 1 })
}

/// Whether operand kinds name explicit memory.
pub(super) fn has_memory(i: &Instruction) -> bool {
    i.op_kinds().any(|k| k == OpKind::Memory)
}
