//! Runs a campaign from the command line and reports what it covered.
//!
//! usage: isa-tests [--cases N] [--seed S] [--only TEXT] [--engine meaning|interp|jit|lockstep] [--forms]
#![forbid(unsafe_code)]

use std::process::ExitCode;

use isa_tests::campaign;
use isa_tests::engine::{Engine, Interpreter};
use isa_tests::forms;
use isa_tests::machine::{Machine, Mode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    let number =
        |name: &str, default: u64| value(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let only = value("--only").unwrap_or_default();
    let wanted = |f: &forms::Form| format!("{:?}", f.code).contains(&only);
    let engine = value("--engine").unwrap_or_default();
    let mut make = |pristine: &_| -> Box<dyn Engine> {
        match engine.as_str() {
            "interp" => Box::new(Machine::new(pristine, Mode::Interp)),
            "jit" => Box::new(Machine::new(pristine, Mode::Jit)),
            "lockstep" => Box::new(Machine::new(pristine, Mode::Lockstep)),
            _ => Box::new(Interpreter::new(pristine)),
        }
    };
    let (seed, cases) = (number("--seed", 1), number("--cases", 100_000));
    let report = match campaign::run(&mut make, seed, cases, &wanted) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("the host side failed: {error}");
            return ExitCode::from(2);
        }
    };
    print!("{}", report.describe());
    let all: Vec<_> = forms::all().into_iter().filter(|f| wanted(f)).collect();
    if arguments.iter().any(|a| a == "--forms") {
        for f in &all {
            let n = report
                .forms
                .get(&(f.code as u16, f.memory))
                .copied()
                .unwrap_or(0);
            println!(
                "{n:6} {:?} {}",
                f.code,
                if f.memory { "memory" } else { "register" }
            );
        }
    }
    println!(
        "{} cases of {} forms, {} of them ended in an exception; {} differ in {} forms",
        report.cases,
        all.len(),
        report.faults,
        report.differing(),
        report.failures.len()
    );
    for m in report.missing(&all) {
        println!("no case: {m}");
    }
    ExitCode::from(u8::from(report.differing() != 0))
}
