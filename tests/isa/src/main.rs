//! `isa`: runs a campaign against the host CPU, or one case of it. With `witness FD` it is the child that a campaign starts.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use isa_tests::campaign::CHILD;
use isa_tests::{Bits, Campaign, Engine};

/// Compares Atoll's engines with the CPU that this runs on.
#[derive(Debug, Parser)]
struct Arguments {
    /// The campaign's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many cases to run.
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// Runs this case alone.
    #[arg(long)]
    case: Option<u64>,
    /// The engine of ours.
    #[arg(long, value_enum, default_value_t = Engine::Interp)]
    engine: Engine,
    /// Of 64-bit mode, or of 32-bit or 16-bit code in compatibility mode.
    #[arg(long, value_enum, default_value_t = Bits::B64)]
    bits: Bits,
    /// Only forms whose name contains this, as iced spells them.
    #[arg(long)]
    only: Option<String>,
    /// Writes the coverage of every form to this file.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(CHILD) {
        let fd = words.next().context("the child wants a descriptor")?;
        isa_native::serve(fd.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    let campaign = Campaign {
        seed: arguments.seed,
        cases: match arguments.case {
            Some(case) => case..case + 1,
            None => 0..arguments.cases,
        },
        engine: arguments.engine,
        bits: arguments.bits,
        only: arguments.only,
    };
    let report = campaign.run(&std::env::current_exe()?)?;
    print!("{report}");
    if let Some(path) = arguments.report {
        std::fs::write(&path, report.coverage())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.failures() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
