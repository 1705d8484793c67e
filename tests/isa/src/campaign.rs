//! A campaign: cases by the batch, run by the host and by an engine of ours, and compared.

use std::path::Path;

use anyhow::{Context, Result};
use atoll_jit::Tier;
use atoll_x86::{Kind, decode::decode};
use iced_x86::{Code, Mnemonic};
use isa_native::{Event, Machine, Slot, Witness};

use crate::compare::{compare, deviates};
use crate::forms::{self, Bits, Forms};
use crate::generate::{self, Case};
use crate::guest::{End, Guest};
use crate::{Report, features};

/// The first argument of the program that is the child.
pub const CHILD: &str = "witness";
const DEBUG: u32 = 1;
const UNDEFINED: u32 = 6;

/// Which of our engines runs the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The interpreter, single-stepping.
    Interp,
    /// The quick translator; every instruction is a region's.
    Quick,
    /// The optimising translator, likewise.
    Jit,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub seed: u64,
    /// The first case and the number behind the last.
    pub cases: std::ops::Range<u64>,
    pub engine: Engine,
    pub bits: Bits,
    /// Only forms whose name contains this.
    pub only: Option<String>,
}

impl Campaign {
    /// Runs it; `program` is this package's own, which becomes the child.
    ///
    /// # Errors
    /// If the child cannot be run, or no form is left.
    pub fn run(&self, program: &Path) -> Result<Report> {
        let forms = self.forms();
        anyhow::ensure!(!forms.generated.is_empty(), "no form is left to generate");
        let mut witness = Witness::start(program, CHILD).context("cannot start the child")?;
        let mut guest = match self.engine {
            Engine::Interp => Guest::interpreted(),
            Engine::Quick => Guest::translated(Tier::Quick),
            Engine::Jit => Guest::translated(Tier::Optimised),
        };
        let mut report = Report {
            seed: self.seed,
            bits: self.bits,
            engine: match self.engine {
                Engine::Interp => "interpreter",
                Engine::Quick => "quick translator",
                Engine::Jit => "translator",
            },
            excluded: forms.excluded.clone(),
            forms: forms.generated.iter().map(|form| form.code).collect(),
            ..Report::default()
        };
        let mut after = Machine::default();
        let mut at = self.cases.start;
        while at < self.cases.end {
            let count = (self.cases.end - at).min(Witness::capacity() as u64) as usize;
            let cases: Vec<Case> = witness.slots()[..count]
                .iter_mut()
                .zip(at..)
                .map(|(slot, number)| generate::case(&forms, self.seed, number, slot))
                .collect();
            witness.run(count)?;
            for (case, slot) in cases.iter().zip(witness.slots().iter()) {
                judge(&mut report, &mut guest, case, slot, &mut after);
            }
            at += count as u64;
        }
        report.compiled = guest.compiled();
        Ok(report)
    }

    fn forms(&self) -> Forms {
        let mut forms = forms::all(self.bits);
        if let Some(only) = &self.only {
            forms
                .generated
                .retain(|form| format!("{:?}", form.code).contains(only.as_str()));
        }
        forms
    }
}

/// Runs one case on our side and notes how it went.
fn judge(report: &mut Report, guest: &mut Guest, case: &Case, slot: &Slot, after: &mut Machine) {
    if !guest.steps() && needs_stepping(case, slot) {
        return;
    }
    let host = slot.event;
    *report.vectors.entry(host.vector).or_default() += 1;
    let tally = report.tally(case.code());
    tally.cases += 1;
    if host.state != Event::DONE {
        tally.lost += 1;
        note(report, case, slot, "the child died");
        return;
    }
    tally.completed += (host.vector == DEBUG) as u64;
    match guest.run(slot, after) {
        End::Lost(exit) => {
            tally.lost += 1;
            note(
                report,
                case,
                slot,
                &format!("the guest ended with {exit:?}"),
            );
        }
        End::Done(event) => {
            let found = compare(case, slot, event, after, guest.steps());
            if found.is_empty() {
                tally.deviating += deviates(case, slot, after) as u64;
                return;
            }
            if event.vector == UNDEFINED && host.vector != UNDEFINED && is_unknown(case, slot) {
                tally.missing += 1;
                note(
                    report,
                    case,
                    slot,
                    "our decoder takes it for no instruction",
                );
                return;
            }
            report.differing(case, slot, &found);
        }
    }
}

fn note(report: &mut Report, case: &Case, slot: &Slot, what: &str) {
    let text = format!(
        "  {what}:\n{}",
        crate::report::describe(report.seed, case, slot, &[])
    );
    let examples = &mut report.tally(case.code()).examples;
    if examples.len() < 3 {
        examples.push(text);
    }
}

/// Whether our decoder takes it for no instruction.
fn is_unknown(case: &Case, slot: &Slot) -> bool {
    use atoll_x86::state::mode::{AVX, CODE32, FLAT, LONG, PROTECTED, STACK32};
    let bits = match case.bits {
        Bits::B64 => LONG,
        Bits::B32 => CODE32,
        Bits::B16 => 0,
    };
    let mode = bits | STACK32 | FLAT | PROTECTED | AVX;
    let bytes = &slot.code[..15];
    case.code() != Code::INVALID
        && decode(bytes, mode, features::guest()).is_some_and(|op| op.kind == Kind::Invalid)
}

/// Whether the case cannot be run without single-stepping. The instruction stores TF; or it branched to one of its own bytes, and
/// what happens next would happen.
fn needs_stepping(case: &Case, slot: &Slot) -> bool {
    use Mnemonic::{Popf, Popfd, Popfq, Pushf, Pushfd, Pushfq};
    if matches!(
        case.instruction.mnemonic(),
        Pushf | Pushfd | Pushfq | Popf | Popfd | Popfq
    ) {
        return true;
    }
    let to = slot
        .after
        .linear_rip()
        .wrapping_sub(slot.before.linear_rip());
    slot.event.vector == DEBUG && to < slot.code_len as u64 && case.code() != Code::INVALID
}
