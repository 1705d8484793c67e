//! Side-by-side measurements: Atoll and QEMU's TCG run the same guest in alternation.
//!
//! Prints the command lines, the median time of every case on every machine, Atoll's ratios, and
//! whether the floors hold. Ends with a failure if a result was wrong or a floor was missed.
#![forbid(unsafe_code)]

mod cases;
mod figures;
mod machine;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use machine::Machine;
use report::Report;
use xtask::guest::{self, Guest};

const USAGE: &str = "\
usage: atoll-bench [CASE|GROUP]... [--runs N] [--only MACHINE]... [--atoll FILE]

  CASE, GROUP     what to measure; everything without one
  --runs N        runs of each machine, taken in turn (default 3)
  --only MACHINE  atoll, qemu or qemu-icount; may be given more than once
  --atoll FILE    the atoll program (default: the one built beside this one)
";

/// A machine that prints nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(300);

struct Arguments {
    cases: Vec<&'static str>,
    runs: usize,
    machines: Vec<Machine>,
    atoll: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match arguments(&words).and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("atoll-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn arguments(words: &[String]) -> Result<Arguments> {
    let beside = std::env::current_exe()?.with_file_name("atoll");
    let mut arguments = Arguments {
        cases: Vec::new(),
        runs: 3,
        machines: Vec::new(),
        atoll: beside,
    };
    let mut names = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--runs" => arguments.runs = value()?.parse().context("--runs needs a number")?,
            "--atoll" => arguments.atoll = value()?.into(),
            "--only" => {
                let name = value()?;
                let machine = Machine::ALL
                    .into_iter()
                    .find(|machine| machine.name() == name);
                arguments.machines.push(
                    machine.with_context(|| format!("there is no machine {name:?}\n{USAGE}"))?,
                );
            }
            flag if flag.starts_with('-') => bail!("there is no option {flag}\n{USAGE}"),
            _ => names.push(word.clone()),
        }
    }
    arguments.cases = cases::select(&names).map_err(anyhow::Error::msg)?;
    if arguments.machines.is_empty() {
        arguments.machines = Machine::ALL.to_vec();
    }
    ensure!(arguments.runs > 0, "--runs needs at least 1");
    Ok(arguments)
}

/// Measures and prints; says whether all results are right and all floors hold.
fn run(arguments: &Arguments) -> Result<bool> {
    let guest = guest::prepare("bench", &guest::Options::default())?;
    let stats = std::env::temp_dir().join(format!("atoll-bench-{}.json", std::process::id()));
    let command =
        |machine: Machine| machine.command(&guest, &arguments.cases, &arguments.atoll, &stats);
    for machine in &arguments.machines {
        println!(
            "{:<12} {}",
            machine.name(),
            machine::shown(&command(*machine))
        );
    }
    let mut report = Report::default();
    for turn in 1..=arguments.runs {
        for machine in &arguments.machines {
            eprintln!("run {turn} of {}: {}", arguments.runs, machine.name());
            let run = machine::measure(&mut command(*machine), SILENCE)
                .with_context(|| machine.name())?;
            report.add(*machine, run);
        }
    }
    if arguments.machines.contains(&Machine::Atoll) {
        print_figures(arguments, &guest, &stats);
        // It may not be there; nothing else would be lost with it.
        drop(std::fs::remove_file(&stats));
    }
    let (table, floors_hold) = report.table(&arguments.cases);
    println!("\n{table}");
    if let Some(difference) = report.feature_difference() {
        println!("{difference}");
    }
    let faults = report.faults(&arguments.cases);
    for fault in &faults {
        println!("WRONG  {fault}");
    }
    Ok(floors_hold && faults.is_empty())
}

/// Prints the figures of Atoll alone; one that cannot be had says why.
fn print_figures(arguments: &Arguments, guest: &Guest, stats: &Path) {
    println!();
    let link = arguments.atoll.with_file_name("examples").join("latency");
    // The statistics are those of the last run of the cases, until the interpreter writes its own.
    for figure in [
        figures::translation(stats),
        figures::interpreter(guest, &arguments.atoll, stats, SILENCE),
        figures::link(&link),
        figures::idle(&arguments.atoll),
    ] {
        match figure {
            Ok(text) => println!("{text}"),
            Err(error) => println!("not measured: {error:#}"),
        }
    }
}
