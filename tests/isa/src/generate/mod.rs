//! A case: the bytes of one instruction, and the machine that it meets.
//!
//! The bytes come first (`code`), then a machine of random values (`state`), then what the instruction needs to mean
//! something is put right (`aim`): its memory operand made to lie where `values::data_address` says, its stack and string
//! pointers likewise, counts made small.

mod aim;
mod code;
mod far;
mod save_area;
mod segments;
mod state;

pub use aim::segment_place;
use iced_x86::{Code, Instruction, Mnemonic};
use isa_native::Slot;
use isa_native::layout::{CODE, CODE_LEN, PAGE};
use isa_native::segments::{CS, base, descriptor};

use crate::forms::{Bits, Form, Forms};
use crate::rng::Rng;

/// What is known of a case besides its slot.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The number in its campaign.
    pub number: u64,
    /// What the bytes decode to.
    pub instruction: Instruction,
    pub bits: Bits,
    /// The linear address of the explicit memory operand, if there is one.
    pub operand: Option<u64>,
}

impl Case {
    /// The form.
    pub fn code(&self) -> Code {
        self.instruction.code()
    }
}

/// Makes case `number` of the campaign with this seed.
pub fn case(forms: &Forms, seed: u64, number: u64, slot: &mut Slot) -> Case {
    let mut rng = Rng::of_case(seed, number);
    let form = &forms.generated[(number % forms.generated.len() as u64) as usize];
    let mut code = loop {
        if let Some(code) = code::random(form, &mut rng)
            && !save_area::is_in_the_way(&code.instruction)
        {
            break code;
        }
    };
    let before = &mut slot.before;
    state::fill(before, &code.instruction, &mut rng);
    segments::fill(before, form.bits, &mut rng);
    let at = if has_no_end(&code.instruction) {
        CODE + rng.below(PAGE)
    } else {
        place(code.len as u64, &mut rng)
    };
    before.rip = at - base(before.selectors[CS]);
    if let Some(d) = descriptor(before.selectors[CS]) {
        // To return to a place beyond the limit is the kernel's fault, not the case's.
        before.rip = before.rip.min(d.limit_in_bytes().into());
    }
    let operand = aim::aim(&mut code, before, &mut rng);
    if form.bits != Bits::B64 {
        before.gpr.iter_mut().for_each(|r| *r &= u32::MAX as u64);
    }
    slot.code = [0; 16];
    slot.code[..code.len].copy_from_slice(&code.bytes[..code.len]);
    slot.code_len = code.len as u32;
    slot.repeats = is_repeated(&code.instruction) as u32;
    let mut instruction = code.instruction;
    instruction.set_ip(before.rip);
    instruction.set_next_ip(before.rip.wrapping_add(code.len as u64));
    Case {
        number,
        bits: form.bits,
        instruction,
        operand,
    }
}

/// The encodings of `form` alone, for a campaign about one form.
pub fn only(form: &Form) -> Forms {
    Forms {
        generated: vec![form.clone()],
        excluded: Vec::new(),
    }
}

/// Where the instruction lies: anywhere in the code pages, with a liking for their ends.
fn place(len: u64, rng: &mut Rng) -> u64 {
    let end = CODE + CODE_LEN as u64;
    match rng.below(20) {
        0 => end - len,
        1 => CODE + PAGE - len,
        2 => CODE + PAGE - rng.below(len),
        3 => end - rng.below(len),
        _ => CODE + rng.below(CODE_LEN as u64 - len),
    }
}

/// Whether it is not defined how many bytes are fetched: of what is invalid, and of the undefined instructions with a ModRM byte.
fn has_no_end(i: &Instruction) -> bool {
    matches!(
        i.mnemonic(),
        Mnemonic::INVALID | Mnemonic::Ud0 | Mnemonic::Ud1
    )
}

/// Whether the instruction is executed as a number of iterations, between which a trap may come.
fn is_repeated(i: &Instruction) -> bool {
    if code::is_gather(i.code()) {
        return true;
    }
    i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix())
}
