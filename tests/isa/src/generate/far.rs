//! Where far transfers go, and the pointers and stack frames that say so.

use iced_x86::{Instruction, Mnemonic, OpKind};
use isa_native::Machine;
use isa_native::layout::{CODE, CODE_LEN, DATA, DATA_LEN};
use isa_native::segments::{self, CODE_32, CODE_64, USER_DATA, those};

use super::code::{self, Bytes};
use super::segments as choice;
use crate::exclude;
use crate::rng::Rng;
use crate::values;

const TF: u64 = 1 << 8;
const NT: u64 = 1 << 14;

/// Puts what the instruction goes by into its bytes or onto the stack; a pointer in memory is [`pointer`]'s.
pub(super) fn aim(code: &mut Bytes, m: &mut Machine, rng: &mut Rng) {
    let i = code.instruction;
    let bytes = i.code().op_code().operand_size() as usize / 8;
    match i.mnemonic() {
        Mnemonic::Retf => {
            let (selector, offset) = target(&i, m, rng);
            put_words(m, bytes, &[offset, selector.into()]);
        }
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => {
            interrupt_frame(&i, m, bytes, rng);
        }
        _ => match i.op0_kind() {
            OpKind::FarBranch16 => immediate(code, 2, m, rng),
            OpKind::FarBranch32 => immediate(code, 4, m, rng),
            _ => {}
        },
    }
}

/// A far pointer with an offset of `bytes` bytes.
pub(super) fn pointer(i: &Instruction, m: &Machine, bytes: usize, rng: &mut Rng) -> Vec<u8> {
    let (selector, offset) = target(i, m, rng);
    [&offset.to_le_bytes()[..bytes], &selector.to_le_bytes()].concat()
}

/// Replaces the far pointer that ends the instruction.
fn immediate(code: &mut Bytes, bytes: usize, m: &Machine, rng: &mut Rng) {
    let new = pointer(&code.instruction, m, bytes, rng);
    code.bytes[code.len - new.len()..code.len].copy_from_slice(&new);
    if let Some(new) = code::decode(code.bits, code.bytes) {
        *code = new;
    }
}

/// RIP, CS, RFLAGS, RSP and SS. Few cases have NT set, with which IRET goes nowhere in long mode.
fn interrupt_frame(i: &Instruction, m: &mut Machine, bytes: usize, rng: &mut Rng) {
    if rng.chance(3) {
        m.rflags |= NT;
    }
    let (selector, offset) = target(i, m, rng);
    let flags = match rng.below(4) {
        0 => rng.word(),
        1 => m.rflags,
        _ => rng.word() | TF,
    };
    let stack = match rng.below(10) {
        0..4 => USER_DATA,
        4..8 => rng.pick(&those(|d| d.present && !d.code && d.open)),
        _ => choice::any(rng),
    };
    let sp = match rng.chance(70) {
        true => values::data_address(rng, 8),
        false => rng.word(),
    };
    put_words(
        m,
        bytes,
        &[offset, selector.into(), flags, sp, stack.into()],
    );
}

/// A selector and an offset: mostly of a code segment, and in the code pages.
fn target(i: &Instruction, m: &Machine, rng: &mut Rng) -> (u16, u64) {
    let selector = loop {
        let selector = segment(rng);
        if exclude::target(i, m, selector).is_none() {
            break selector;
        }
    };
    let limit = segments::descriptor(selector).map_or(u32::MAX, |d| d.limit_in_bytes());
    let offset = match rng.below(20) {
        0 => (u64::from(limit) + 2).wrapping_sub(rng.below(4)),
        1 => (1 << 47) + 2 - rng.below(4),
        2 => rng.word(),
        3 => values::pointer(rng),
        _ => (CODE + rng.below(CODE_LEN as u64)).wrapping_sub(segments::base(selector)),
    };
    (selector, offset)
}

fn segment(rng: &mut Rng) -> u16 {
    let selector = match rng.below(10) {
        0..2 => CODE_64,
        2..4 => CODE_32,
        4..8 => rng.pick(&those(|d| d.runs())),
        _ => choice::any(rng),
    };
    match rng.chance(5) {
        true => selector & !3 | rng.below(4) as u16,
        false => selector,
    }
}

/// Puts words of `bytes` bytes where POP finds them.
fn put_words(m: &mut Machine, bytes: usize, words: &[u64]) {
    let words: Vec<u8> = words
        .iter()
        .flat_map(|word| word.to_le_bytes().into_iter().take(bytes))
        .collect();
    put_on_stack(m, &words);
}

/// Puts bytes to the top of the stack, or those of them that lie in the pages that can be written.
pub(super) fn put_on_stack(m: &mut Machine, bytes: &[u8]) {
    let start = m.stack_top().wrapping_sub(DATA);
    for (at, &byte) in (0..).zip(bytes) {
        let at = start.wrapping_add(at);
        if at < DATA_LEN as u64 {
            m.memory[at as usize] = byte;
        }
    }
}
