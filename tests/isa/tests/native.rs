//! A seeded slice of the campaign against the host CPU.

use isa_tests::campaign;
use isa_tests::engine::{Engine, Interpreter};
use isa_tests::forms;

/// Fixed, so that a failure can be looked at; `cargo run -p isa-tests -- --seed` tries others.
const SEED: u64 = 20;
const CASES: u64 = 100_000;

#[test]
fn the_interpreter_does_what_the_host_does() {
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
