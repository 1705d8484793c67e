//! `qemu-diff`: boots one guest in QEMU and in Atoll, and tells the first instruction that does not do the same in both.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use isa_tests::qemu::{self, From, Limits, Settings};

/// Finds the first instruction that does not do the same in QEMU and in Atoll. Both get QEMU's registers and memory at the first
/// instruction; what devices, clocks and CPUID answer is taken over from QEMU. The exit code is 1 if something differs.
#[derive(Debug, Parser)]
struct Arguments {
    /// What both boot: a bzImage, a Multiboot or ELF image.
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(long, default_value = "")]
    append: String,
    /// MiB of memory.
    #[arg(long, short, default_value_t = 128)]
    memory: u64,
    /// The CPU's model, a name that both know.
    #[arg(long, default_value = "qemu64")]
    cpu: String,
    /// Begin at this linear address (hexadecimal) instead of the kernel's entry.
    #[arg(long, value_parser = hexadecimal)]
    from: Option<u64>,
    /// Begin there the n-th time that QEMU comes by.
    #[arg(long, default_value_t = 1, requires = "from")]
    nth: u64,
    /// How many instructions to compare.
    #[arg(long, default_value_t = 10_000_000)]
    instructions: u64,
    /// How many differences to tell; after each, both go on from QEMU's registers.
    #[arg(long, default_value_t = 1)]
    differences: usize,
    /// Compare x87 and SSE registers too (QEMU writes twice as much).
    #[arg(long)]
    float: bool,
    /// How many seconds QEMU may take to come to the beginning, or be silent.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Further words for QEMU.
    #[arg(last = true)]
    more: Vec<OsString>,
}

fn hexadecimal(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).with_context(|| format!("{text:?} is no hexadecimal number"))
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let settings = Settings {
        kernel: arguments.kernel,
        initrd: arguments.initrd,
        append: arguments.append,
        memory_mib: arguments.memory,
        cpu: arguments.cpu,
        more: arguments.more,
        float: arguments.float,
        patience: Duration::from_secs(arguments.patience),
    };
    let from = match arguments.from {
        Some(address) => From::Address(address, arguments.nth),
        None => From::Entry,
    };
    let limits = Limits {
        instructions: arguments.instructions,
        differences: arguments.differences,
    };
    let dir = tempfile::tempdir()?;
    let outcome = qemu::compare(&settings, from, limits, dir.path())?;
    print!("{outcome}");
    Ok(match outcome.divergences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}
