//! No form is without cases but for a reason, and what user mode cannot show is tested where it says.

use std::collections::BTreeSet;
use std::path::Path;

use iced_x86::Code;
use isa_tests::{Bits, coverage, elsewhere, forms};

#[test]
fn every_form_has_cases_or_a_reason() {
    for bits in [Bits::B64, Bits::B32, Bits::B16] {
        let generated: BTreeSet<Code> = forms::all(bits).generated.iter().map(|f| f.code).collect();
        let gaps: Vec<Code> = coverage::all(bits)
            .filter(|code| !generated.contains(code))
            .filter(|&code| coverage::why_none(code, bits, &generated).is_none())
            .collect();
        assert!(gaps.is_empty(), "{bits:?}: {gaps:?}");
        assert!(generated.len() > 1500, "{bits:?}: {}", generated.len());
    }
}

#[test]
fn system_instructions_are_tested_where_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (mnemonic, file) in elsewhere::TESTS {
        let text = std::fs::read_to_string(root.join(file))
            .expect(file)
            .to_lowercase();
        let name = format!("{mnemonic:?}").to_lowercase();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        assert!(
            words.into_iter().any(|word| word == name),
            "{name} in {file}"
        );
    }
}
