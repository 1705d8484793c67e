//! A seeded slice of the campaign against the host CPU.
//!
//! The two tests take turns: cases live at fixed addresses, so a process has room for one arena.

use std::sync::{Mutex, PoisonError};

use isa_tests::campaign;
use isa_tests::engine::{Engine, Interpreter};
use isa_tests::forms;
use isa_tests::machine::{Machine, Mode};

/// Fixed, so that a failure can be looked at; `cargo run -p isa-tests -- --seed` tries others.
const SEED: u64 = 20;
const CASES: u64 = 100_000;

/// Held while an arena exists.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn the_interpreter_does_what_the_host_does() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut make = |pristine: &_| -> Box<dyn Engine> { Box::new(Interpreter::new(pristine)) };
    let report = campaign::run(&mut make, SEED, CASES, &|_| true).expect("the host side runs");
    assert_eq!(report.differing(), 0, "\n{}", report.describe());
    assert_eq!(
        report.missing(&forms::all()),
        Vec::<String>::new(),
        "forms without a case"
    );
    assert!(
        report.faults > CASES / 100,
        "faults are part of it: {}",
        report.faults
    );
}

/// Fewer, as each is translated, run by both tiers and compared by the engine itself as well.
const LOCKSTEP_CASES: u64 = 20_000;

#[test]
fn the_translator_does_what_the_host_does() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut make =
        |pristine: &_| -> Box<dyn Engine> { Box::new(Machine::new(pristine, Mode::Lockstep)) };
    let report =
        campaign::run(&mut make, SEED, LOCKSTEP_CASES, &|_| true).expect("the host side runs");
    assert_eq!(report.differing(), 0, "\n{}", report.describe());
}
