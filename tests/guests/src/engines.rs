//! One guest under several engines.

use crate::{Boot, Outcome};

/// Runs a machine by the interpreter and by the translator: all that the guest sees is the same. Gives the translator's run.
///
/// # Panics
/// If they differ, or end otherwise than with this exit code.
#[track_caller]
pub fn agreed(boot: impl Fn() -> Boot, code: i32) -> Outcome {
    let [interpreted, translated] =
        ["interp", "jit"].map(|engine| boot().args(["--engine", engine]).run().expect_code(code));
    assert_eq!(interpreted.console, translated.console);
    assert_eq!(interpreted.hash(), translated.hash());
    translated
}

/// Runs a machine in lockstep, where a difference between the engines would end the worker and with it the run. Prints what was
/// compared.
///
/// # Panics
/// If it ends otherwise than with this exit code, or less than this share of the instructions was compared.
#[track_caller]
pub fn compared(name: &str, boot: Boot, code: i32, least: f64) -> Outcome {
    let outcome = boot.args(["--engine", "lockstep"]).run().expect_code(code);
    let stats = outcome.stats();
    let (share, all) = (&stats["share_compiled"], &stats["instructions"]);
    let times = &stats["engine"]["comparisons"];
    eprintln!("{name}: {share} of {all} instructions were compared, {times} times something");
    let share = share.as_f64().expect("a share is a number");
    assert!(
        share >= least,
        "only {share} of the instructions were compared"
    );
    outcome
}
