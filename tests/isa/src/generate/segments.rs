//! The segments of a case, and selectors for what loads one.

use iced_x86::{Instruction, Mnemonic, OpKind};
use isa_native::Machine;
use isa_native::layout::DATA;
use isa_native::segments::{
    self, CODE_32, CODE_64, CS, DS, ES, FS, GDT, GS, LDT, SS, USER_DATA, selector, those,
};

use crate::exclude;
use crate::forms::Bits;
use crate::rng::Rng;

/// Chooses segments: flat ones for 64-bit code, flat or small ones for 32-bit code, small ones for 16-bit code. FS and GS of a
/// null selector have bases of their own.
pub(super) fn fill(m: &mut Machine, bits: Bits, rng: &mut Rng) {
    m.selectors = [USER_DATA, CODE_64, USER_DATA, USER_DATA, 0, 0];
    let flat = bits == Bits::B64 || bits == Bits::B32 && rng.chance(50);
    if bits == Bits::B32 {
        let small = those(|d| d.runs() && d.big);
        m.selectors[CS] = if flat { CODE_32 } else { rng.pick(&small) };
    }
    if bits == Bits::B16 {
        m.selectors[CS] = rng.pick(&those(|d| d.runs() && !d.big));
    }
    if flat {
        return;
    }
    m.selectors[SS] = data(rng, &those(|d| !d.code && d.open && d.present));
    let readable = those(|d| d.present && (d.open || !d.code));
    for place in [ES, DS, FS, GS] {
        m.selectors[place] = match rng.below(50) {
            0 => 0,
            _ => data(rng, &readable),
        };
    }
    for (place, base) in [(FS, &mut m.fs_base), (GS, &mut m.gs_base)] {
        if m.selectors[place] != 0 {
            *base = segments::base(m.selectors[place]);
        }
    }
}

/// A segment of data: mostly one of a whole 64 KiB, else any of these, now and then Linux's own.
fn data(rng: &mut Rng, any: &[u16]) -> u16 {
    match rng.below(10) {
        0 => USER_DATA,
        1..=4 => rng.pick(&those(|d| {
            let all = d.limit_in_bytes() == 0xffff && u64::from(d.base) == DATA;
            all && d.present && !d.code && d.open && !d.down
        })),
        _ => rng.pick(any),
    }
}

/// A selector for what loads or looks at one.
pub(super) fn to_load(i: &Instruction, rng: &mut Rng) -> u16 {
    loop {
        let selector = any(rng);
        if exclude::selector(i, selector).is_none() {
            return selector;
        }
    }
}

/// A selector of an entry of either table, of none, or null; mostly with the privilege of user mode.
pub(super) fn any(rng: &mut Rng) -> u16 {
    let rpl = rng.below(4) as u16;
    let local = |rng: &mut Rng, entries: usize| selector(rng.below(entries as u64) as usize);
    match rng.below(8) {
        0 => rpl,
        1 => local(rng, LDT.len() + 3) & !3 | rpl,
        2 => (rng.below(GDT.len() as u64 + 3) as u16) << 3 | rpl,
        _ => local(rng, LDT.len()),
    }
}

/// Whether the instruction takes a selector, from its last operand or the stack.
pub(super) fn takes_selector(i: &Instruction) -> bool {
    use Mnemonic::*;
    match i.mnemonic() {
        Lar | Lsl | Verr | Verw | Lds | Les | Lss | Lfs | Lgs => true,
        Mov | Pop => i.op0_kind() == OpKind::Register && i.op0_register().is_segment_register(),
        _ => false,
    }
}
