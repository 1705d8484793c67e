//! A campaign: seeded cases of every form, run on both sides, counted and compared.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use iced_x86::{Formatter, Instruction, NasmFormatter};
use isa_native::{Arena, COMPLETED, Case, DATA_BYTES, Outcome};

use crate::compare::differences;
use crate::engine::Engine;
use crate::forms::{self, Form, Name};
use crate::generate::{self, Generated};
use crate::random::Random;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    pub cases: u64,
    /// Cases that ended in an exception on the host.
    pub faults: u64,
    /// How many cases each form had, by its name.
    pub forms: BTreeMap<Name, u64>,
    /// Descriptions of the first differing cases of each form, and how many there were in all.
    pub failures: BTreeMap<Name, (u64, Vec<String>)>,
    /// Cases that killed the child.
    pub lost: Vec<String>,
}

impl Report {
    /// Differing and lost cases.
    pub fn differing(&self) -> u64 {
        self.failures.values().map(|(n, _)| n).sum::<u64>() + self.lost.len() as u64
    }

    /// Forms that had no case.
    pub fn missing(&self, forms: &[Form]) -> Vec<String> {
        let had = |f: &&Form| !self.forms.contains_key(&(f.code as u16, f.memory));
        forms
            .iter()
            .filter(had)
            .map(|f| format!("{:?} {}", f.code, kind(f.memory)))
            .collect()
    }

    /// The failures in words.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (count, examples) in self.failures.values() {
            let _ = writeln!(text, "{count} cases, such as\n{}", examples.join(""));
        }
        for l in &self.lost {
            let _ = writeln!(text, "{l}");
        }
        text
    }
}

fn kind(memory: bool) -> &'static str {
    if memory { "memory" } else { "register" }
}

/// Keep this many examples of each form's failures.
const EXAMPLES: usize = 2;

/// Runs `cases` cases from `seed`, going round the forms that `wanted` lets through.
pub fn run(
    make: &mut dyn FnMut(&[u8; DATA_BYTES]) -> Box<dyn Engine>,
    seed: u64,
    cases: u64,
    wanted: &dyn Fn(&Form) -> bool,
) -> io::Result<Report> {
    let mut r = Random::new(seed);
    let mut pristine = [0; DATA_BYTES];
    fill(&mut r, &mut pristine);
    let mut arena = Arena::new(&pristine)?;
    let mut engine = make(&pristine);
    let forms: Vec<Form> = forms::all().into_iter().filter(|f| wanted(f)).collect();
    let mut report = Report::default();
    if forms.is_empty() {
        return Ok(report);
    }
    let mut next = 0;
    while report.cases < cases {
        let batch = make_batch(&mut r, &forms, &mut next, (cases - report.cases).min(4096));
        run_batch(&mut arena, engine.as_mut(), &batch, &mut report)?;
    }
    Ok(report)
}

/// Text, numbers and noise for the data pages.
fn fill(r: &mut Random, bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(64) {
        let kind = r.below(4);
        for word in chunk.chunks_mut(8) {
            let v = match kind {
                0 => r.word() & 0x0101_0101_0101_0101,
                1 => r.integer(),
                2 => 0,
                _ => r.word(),
            };
            word.copy_from_slice(&v.to_le_bytes());
        }
    }
}

fn make_batch(r: &mut Random, forms: &[Form], next: &mut usize, n: u64) -> Vec<Generated> {
    let mut batch = Vec::new();
    while (batch.len() as u64) < n {
        let form = &forms[*next % forms.len()];
        *next += 1;
        // Some random bits make another instruction of a form; a few tries find one of its own.
        batch.extend((0..20).find_map(|_| generate::case(r, form)));
    }
    batch
}

fn run_batch(
    arena: &mut Arena,
    engine: &mut dyn Engine,
    batch: &[Generated],
    report: &mut Report,
) -> io::Result<()> {
    let cases: Vec<Case> = batch.iter().map(|g| g.case).collect();
    let outcomes = isa_native::run(arena, &cases)?;
    for (g, host) in batch.iter().zip(outcomes) {
        let name = (
            g.instruction.code() as u16,
            forms::has_memory(&g.instruction),
        );
        report.cases += 1;
        *report.forms.entry(name).or_default() += 1;
        let host = match host {
            Ok(outcome) => outcome,
            Err(lost) => {
                report.lost.push(format!("{}\n    {lost:?}", title(g)));
                continue;
            }
        };
        report.faults += u64::from(host.vector != COMPLETED);
        let ours = engine.run(&g.case);
        let found = differences(&g.instruction, &g.case, &host, &ours);
        if !found.is_empty() {
            let (count, examples) = report.failures.entry(name).or_default();
            *count += 1;
            if examples.len() < EXAMPLES {
                examples.push(describe(g, &host, &found));
            }
        }
    }
    Ok(())
}

fn title(g: &Generated) -> String {
    let mut text = String::new();
    NasmFormatter::new().format(&g.instruction, &mut text);
    let bytes: String = g.case.code[..usize::from(g.case.len)]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("{:?}: {text} ({bytes})", g.instruction.code())
}

fn describe(g: &Generated, host: &Outcome, found: &str) -> String {
    let b = &g.case.before;
    let mut text = format!(
        "  {}, vector {} on the host\n{found}",
        title(g),
        host.vector
    );
    let _ = writeln!(
        text,
        "    before: gpr {:x?} rflags {:#x} mxcsr {:#x}",
        b.gpr, b.rflags, b.fx.mxcsr
    );
    if uses(&g.instruction, |r| r.is_xmm()) {
        let _ = writeln!(text, "    before: xmm {:x?}", b.fx.xmm);
    }
    if uses(&g.instruction, |r| r.is_st() || r.is_mm())
        || format!("{:?}", g.instruction.mnemonic()).starts_with('F')
    {
        let _ = writeln!(
            text,
            "    before: control {:#x} status {:#x} tags {:#x} st {:x?}",
            b.fx.control, b.fx.status, b.fx.tags, b.fx.st
        );
    }
    if g.case.patch_count > 0 {
        let _ = writeln!(
            text,
            "    memory: {:x?}",
            &g.case.patches[..usize::from(g.case.patch_count)]
        );
    }
    text
}

fn uses(i: &Instruction, f: impl Fn(iced_x86::Register) -> bool) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == iced_x86::OpKind::Register && f(i.op_register(n)))
}
