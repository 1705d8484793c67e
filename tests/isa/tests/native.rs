//! The seeded slice that every test run includes, and the campaign that `make isa` runs.

use std::path::Path;

use isa_tests::{Bits, Campaign, Engine, Report, coverage};

/// Fixed, so that a failure can be looked at: `isa --seed 20 --case N` runs one case of it again.
const SEED: u64 = 20;
const PROGRAM: &str = env!("CARGO_BIN_EXE_isa");

fn run(engine: Engine, bits: Bits, cases: u64) -> Report {
    let campaign = Campaign {
        seed: SEED,
        cases: 0..cases,
        engine,
        bits,
        only: None,
    };
    let report = campaign
        .run(Path::new(PROGRAM))
        .expect("the host side runs");
    assert_eq!(report.failures(), 0, "\n{report}");
    // PUSHF and POPF cannot be told from single-stepping, which only the interpreter does.
    if engine == Engine::Interp {
        assert_eq!(report.uncovered(), [], "forms without a case");
    }
    report
}

#[test]
fn the_interpreter_does_what_the_host_does() {
    let report = run(Engine::Interp, Bits::B64, 100_000);
    let faults = report.cases() - report.completed();
    assert!(faults > 5_000, "faults are part of it: {faults}");
    assert_raised(&report, &[0, 3, 6, 11, 12, 13, 14, 16, 17, 19]);
}

/// The exceptions that the host has raised in a campaign, #DE to #XM.
fn assert_raised(report: &Report, vectors: &[u32]) {
    let missing: Vec<_> = vectors
        .iter()
        .filter(|v| !report.vectors.contains_key(v))
        .collect();
    assert!(missing.is_empty(), "never raised: {missing:?}");
}

#[test]
fn the_interpreter_does_what_the_host_does_in_32_bit_code() {
    let report = run(Engine::Interp, Bits::B32, 60_000);
    assert_raised(&report, &[0, 3, 4, 5, 6, 11, 12, 13, 14, 16, 17, 19]);
}

#[test]
fn the_interpreter_does_what_the_host_does_in_16_bit_code() {
    let report = run(Engine::Interp, Bits::B16, 60_000);
    assert_raised(&report, &[0, 3, 4, 5, 6, 11, 12, 13, 14, 16, 17, 19]);
}

/// Runs cases of which at least this share must be translated, which leaves out those whose segments are not flat.
fn translated(engine: Engine, bits: Bits, cases: u64, share: f64) {
    let report = run(engine, bits, cases);
    assert!(
        report.compiled as f64 > report.cases() as f64 * share,
        "instructions are translated: {} of {} cases",
        report.compiled,
        report.cases()
    );
}

#[test]
fn the_quick_translator_does_what_the_host_does() {
    translated(Engine::Quick, Bits::B64, 50_000, 0.5);
    translated(Engine::Quick, Bits::B32, 30_000, 0.3);
    // The translators leave 16-bit code to the interpreter.
    run(Engine::Quick, Bits::B16, 10_000);
}

/// Fewer, as each costs Cranelift a region.
#[test]
fn the_translator_does_what_the_host_does() {
    translated(Engine::Jit, Bits::B64, 10_000, 0.5);
}

/// A million cases of each size of code, the coverage of every form in files, and at the end what has no case and why.
#[test]
#[ignore = "minutes; `make isa` runs it"]
fn campaign() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (engine, bits, cases, name) in [
        (Engine::Interp, 1_000_000, "interpreter"),
        (Engine::Quick, 1_000_000, "quick-translator"),
        (Engine::Jit, 200_000, "translator"),
    ]
    .into_iter()
    .flat_map(|row| [Bits::B64, Bits::B32, Bits::B16].map(|bits| (bits, row)))
    .map(|(bits, (engine, cases, name))| (engine, bits, cases, name))
    {
        let report = run(engine, bits, cases);
        let path = directory.join(format!("isa-coverage-{name}-{}.md", bits.count()));
        std::fs::write(&path, report.coverage()).expect("the directory can be written");
        print!("{report}");
        println!("coverage in {}", path.display());
    }
    println!("{}", coverage::report());
}
