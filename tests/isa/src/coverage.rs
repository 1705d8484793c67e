//! Which forms have cases, and why the others have none: everything that iced knows is one or the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use iced_x86::{Code, EncodingKind, FlowControl};

use crate::elsewhere;
use crate::forms::{self, Bits};

/// Why a form that code of this size can hold has no case. None: it has cases, or this is a gap.
pub fn why_none(code: Code, bits: Bits, generated: &BTreeSet<Code>) -> Option<&'static str> {
    if generated.contains(&code) {
        return None;
    }
    let op = code.op_code();
    if op.fwait() {
        return Some("two instructions: WAIT, and the one without it");
    }
    match code.encoding() {
        EncodingKind::EVEX | EncodingKind::MVEX => {
            return Some("AVX-512 and its forerunner, which no CPU model offers");
        }
        EncodingKind::XOP => return Some("XOP, which no CPU model offers"),
        EncodingKind::D3NOW => {
            return Some("3DNow!, which the engine has not: no host could bear witness to it");
        }
        _ => {}
    }
    if op.decoder_option() != 0 {
        return Some(
            "of processors before or beside the models: its bytes are something else there",
        );
    }
    forms::obstacle(code).or_else(|| of_one_maker(code, bits))
}

/// What only one kind of processor reads so.
fn of_one_maker(code: Code, bits: Bits) -> Option<&'static str> {
    use FlowControl::*;
    let op = code.op_code();
    let branches = matches!(
        code.flow_control(),
        UnconditionalBranch | IndirectBranch | ConditionalBranch | Return | Call | IndirectCall
    );
    if bits == Bits::B64 && branches && !forms::is_far(code) && op.operand_size() == 16 {
        return Some(
            "near branches with 66h have 16-bit operands with AMD, 64-bit ones with Intel",
        );
    }
    if code == Code::Popw_CS {
        return Some("of the 8086: 0Fh has been an escape since");
    }
    (code == Code::Ud0).then_some("UD0 without a ModRM byte, as AMD has it")
}

/// The forms that code of this size can hold.
pub fn all(bits: Bits) -> impl Iterator<Item = Code> {
    Code::values().filter(move |code| {
        let op = code.op_code();
        let fits = match bits {
            Bits::B64 => op.mode64(),
            Bits::B32 => op.mode32(),
            Bits::B16 => op.mode16(),
        };
        op.is_instruction() && fits
    })
}

/// The forms without a case by reason, those without a reason under "NO REASON", and what system instructions are tested by.
pub fn report() -> String {
    let mut text = String::from("# Forms without a case against the host CPU\n");
    for bits in [Bits::B64, Bits::B32, Bits::B16] {
        let generated: BTreeSet<Code> = forms::all(bits).generated.iter().map(|f| f.code).collect();
        let mut reasons: BTreeMap<&str, Vec<Code>> = BTreeMap::new();
        for code in all(bits).filter(|code| !generated.contains(code)) {
            let why = why_none(code, bits, &generated).unwrap_or("NO REASON");
            reasons.entry(why).or_default().push(code);
        }
        let _ = writeln!(
            text,
            "\n## {}-bit code: {} forms with cases, {} without\n",
            bits.count(),
            generated.len(),
            reasons.values().map(Vec::len).sum::<usize>()
        );
        for (why, codes) in reasons {
            let _ = writeln!(text, "- {why} ({}): {}", codes.len(), names(&codes));
        }
    }
    text.push_str("\n## System instructions, of which user mode sees no more than a refusal, and their tests\n\n");
    for (mnemonic, file) in elsewhere::TESTS {
        let _ = writeln!(text, "- {mnemonic:?}: {file}");
    }
    text
}

/// A list that a reader can take in: of many, the first.
fn names(codes: &[Code]) -> String {
    const SHOWN: usize = 60;
    let shown: Vec<String> = codes.iter().take(SHOWN).map(|c| format!("{c:?}")).collect();
    let more = codes.len().saturating_sub(SHOWN);
    let rest = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    shown.join(", ") + &rest
}
