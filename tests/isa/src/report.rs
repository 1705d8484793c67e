//! What a campaign found: counts of every form, and the first differences of each.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use iced_x86::{Code, Formatter, NasmFormatter};
use isa_native::{Event, Slot};

use crate::compare::Difference;
use crate::forms::Bits;
use crate::generate::Case;

/// How many differences of a form are kept.
const KEPT: usize = 3;

/// What happened to a form.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub cases: u64,
    /// Cases that completed, the rest having raised an exception.
    pub completed: u64,
    pub differing: u64,
    /// Cases of transcendentals whose results are too far apart to be roundings of one number: no failure.
    pub deviating: u64,
    /// Cases that our decoder refuses although the host executes them.
    pub missing: u64,
    /// Cases that neither side could be made to tell about.
    pub lost: u64,
    /// The first differences, as text.
    pub examples: Vec<String>,
}

/// The result of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub bits: Bits,
    pub engine: &'static str,
    pub tallies: BTreeMap<usize, Tally>,
    pub excluded: Vec<(Code, &'static str)>,
    /// How many cases the host ended with each vector; 1 is completion.
    pub vectors: BTreeMap<u32, u64>,
    /// The forms that were to be generated.
    pub forms: Vec<Code>,
    /// Guest instructions that emitted code executed.
    pub compiled: u64,
}

impl Report {
    pub(crate) fn tally(&mut self, code: Code) -> &mut Tally {
        self.tallies.entry(code as usize).or_default()
    }

    /// How many cases completed on the host.
    pub fn completed(&self) -> u64 {
        self.tallies.values().map(|t| t.completed).sum()
    }

    /// How many cases were compared.
    pub fn cases(&self) -> u64 {
        self.tallies.values().map(|t| t.cases).sum()
    }

    /// Forms that were to be generated and have no case.
    pub fn uncovered(&self) -> Vec<Code> {
        let none = |code: &Code| !self.tallies.contains_key(&(*code as usize));
        self.forms.iter().copied().filter(none).collect()
    }

    /// How many cases differ, are not implemented, or were lost.
    pub fn failures(&self) -> u64 {
        let failed = |t: &Tally| t.differing + t.missing + t.lost;
        self.tallies.values().map(failed).sum()
    }

    pub(crate) fn differing(&mut self, case: &Case, slot: &Slot, found: &[Difference]) {
        let seed = self.seed;
        let tally = self.tally(case.code());
        tally.differing += 1;
        if tally.examples.len() < KEPT {
            tally.examples.push(describe(seed, case, slot, found));
        }
    }

    /// One line a form, then the forms without a case and why.
    pub fn coverage(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "# Instruction forms compared with the host CPU\n\nEngine {}, {}-bit code, seed {}: {} cases, {} forms, {} failures.\n",
            self.engine,
            self.bits.count(),
            self.seed,
            self.cases(),
            self.tallies.len(),
            self.failures()
        );
        text.push_str("| form | cases | completed | differing | deviating | not implemented | lost |\n|---|---:|---:|---:|---:|---:|---:|\n");
        for (&code, t) in &self.tallies {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                name(code),
                t.cases,
                t.completed,
                t.differing,
                t.deviating,
                t.missing,
                t.lost
            );
        }
        text.push_str("\n## Forms without a case\n\n");
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for code in self.uncovered() {
            reasons
                .entry("too few cases in this campaign")
                .or_default()
                .push(format!("{code:?}"));
        }
        for (code, why) in &self.excluded {
            reasons.entry(why).or_default().push(format!("{code:?}"));
        }
        for (why, codes) in reasons {
            let _ = writeln!(text, "- {why} ({}): {}", codes.len(), codes.join(", "));
        }
        text
    }
}

impl fmt::Display for Report {
    /// The failures, grouped by form, worst first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let completed = self.completed();
        writeln!(
            f,
            "{}, {} bits: {} cases of {} forms, {completed} completed, {} failures (seed {})",
            self.engine,
            self.bits.count(),
            self.cases(),
            self.tallies.len(),
            self.failures(),
            self.seed
        )?;
        writeln!(f, "exceptions by vector: {:?}", self.vectors)?;
        let mut failed: Vec<_> = self
            .tallies
            .iter()
            .filter(|(_, t)| t.differing + t.missing + t.lost != 0)
            .collect();
        failed.sort_by_key(|(_, t)| std::cmp::Reverse(t.differing));
        for (&code, t) in failed {
            writeln!(
                f,
                "\n{}: {} of {} cases differ, {} not implemented, {} lost",
                name(code),
                t.differing,
                t.cases,
                t.missing,
                t.lost
            )?;
            for example in &t.examples {
                f.write_str(example)?;
            }
        }
        Ok(())
    }
}

fn name(code: usize) -> String {
    Code::try_from(code).map_or_else(|_| code.to_string(), |code| format!("{code:?}"))
}

/// A case and its differences, for a reader.
pub fn describe(seed: u64, case: &Case, slot: &Slot, found: &[Difference]) -> String {
    let mut text = String::new();
    let mut assembly = String::new();
    NasmFormatter::new().format(&case.instruction, &mut assembly);
    let bytes: Vec<String> = slot.code[..slot.code_len as usize]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let b = &slot.before;
    let _ = writeln!(
        text,
        "  {assembly}   [{}] at {:#x}   --seed {seed} --bits {} --case {}",
        bytes.join(" "),
        b.rip,
        case.bits.count(),
        case.number
    );
    let _ = write!(
        text,
        "    flags {:#x} rcx {:#x} rsp {:#x} mxcsr {:#x} segments {:x?}",
        b.rflags, b.gpr[1], b.gpr[4], b.fx.mxcsr, b.selectors
    );
    if let Some(at) = case.operand {
        let _ = write!(text, " operand at {at:#x}");
    }
    let Event {
        vector, error, cr2, ..
    } = slot.event;
    let _ = writeln!(text, " host: vector {vector} error {error:#x} cr2 {cr2:#x}");
    for d in found.iter().take(8) {
        let _ = writeln!(
            text,
            "    {:14} before {:#x}  host {:#x}  guest {:#x}",
            d.what, d.before, d.host, d.guest
        );
    }
    text
}
