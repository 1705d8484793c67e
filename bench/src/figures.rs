//! Figures of Atoll alone, beside the table: what translation costs, how fast the interpreter is, what a link's
//! wake-up takes, and what an idle machine uses.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::guest::{self, Guest, Options};

use crate::machine::{self, Machine};

/// What the prompt set off (a shell that starts, code that is compiled) is done by then.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the machine is watched at its prompt.
const IDLE: Duration = Duration::from_secs(10);

/// What the statistics of a run say about translation.
pub(crate) fn translation(stats: &Path) -> Result<String> {
    let stats = read(stats)?;
    let number = |pointer: &str| {
        stats
            .pointer(pointer)
            .and_then(Value::as_f64)
            .with_context(|| format!("the statistics lack {pointer}"))
    };
    let translated = number("/engine/translated_instructions")?.max(1.0);
    Ok(format!(
        "translation          {:.1} us and {:.0} bytes of code a guest instruction; {:.0} regions, {translated:.0} instructions\n\
         in compiled code     {:.1} % of {:.2} G instructions",
        number("/engine/compile_ns")? / translated / 1000.0,
        number("/engine/code_bytes")? / translated,
        number("/engine/regions")?,
        number("/share_compiled")? * 100.0,
        number("/instructions")? / 1e9,
    ))
}

/// How fast the interpreter is over a boot.
pub(crate) fn interpreter(
    guest: &Guest,
    atoll: &Path,
    stats: &Path,
    silence: Duration,
) -> Result<String> {
    let mut command = Machine::Atoll.command(guest, &["boot"], atoll, stats);
    machine::measure(command.args(["--engine", "interp"]), silence)?;
    let stats = read(stats)?;
    let figure = |name: &str| {
        stats[name]
            .as_f64()
            .with_context(|| format!("the statistics lack {name}"))
    };
    let mips = figure("instructions")? * 1000.0 / figure("wall_ns")?;
    Ok(format!("interpreter          {mips:.0} MIPS over a boot"))
}

/// What a link's round trip takes, as its own measuring program says.
pub(crate) fn link(program: &Path) -> Result<String> {
    ensure!(
        program.is_file(),
        "{} is not built (cargo build --release -p atoll-transport --example latency)",
        program.display()
    );
    let text = xtask::host::output(&mut Command::new(program))?;
    Ok(text
        .lines()
        .map(|line| format!("link round trip      {line}"))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// What a machine that waits at its prompt uses: share of one core, and memory beside the guest's.
pub(crate) fn idle(atoll: &Path) -> Result<String> {
    let guest = guest::prepare(guest::DEFAULT, &Options::default())?;
    let mut child = Command::new(atoll)
        .args([
            "run", "-m", "512", "-display", "none", "-serial", "stdio", "--policy", "paced",
            "--grace", "0s",
        ])
        .arg("-kernel")
        .arg(guest.kernel())
        .arg("-initrd")
        .arg(guest.initrd())
        .args(["-append", "console=ttyS0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", atoll.display()))?;
    let figure = watch(&mut child);
    // It runs until it is told otherwise; its processes end with it.
    child.kill()?;
    child.wait()?;
    figure
}

fn watch(child: &mut Child) -> Result<String> {
    let mut console = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    let mut seen = Vec::new();
    while !seen.ends_with(b"guest#") {
        ensure!(
            console.read_until(b'#', &mut seen)? > 0,
            "the machine ended before its prompt"
        );
    }
    std::thread::sleep(SETTLE);
    let processes = family(child.id())?;
    let before = ticks(&processes)?;
    std::thread::sleep(IDLE);
    let used = (ticks(&processes)? - before) as f64 / ticks_per_second() / IDLE.as_secs_f64();
    let (guest_kib, other_kib) = memory(&processes)?;
    Ok(format!(
        "idle at the prompt   {:.2} % of one core over {} s\nmemory               {} MiB of guest RAM touched, {} MiB beside it",
        used * 100.0,
        IDLE.as_secs(),
        guest_kib / 1024,
        other_kib / 1024
    ))
}

/// A process and all that it started, by number.
fn family(root: u32) -> Result<Vec<u32>> {
    let mut family = vec![root];
    let mut at = 0;
    while let Some(pid) = family.get(at) {
        let task = PathBuf::from(format!("/proc/{pid}/task"));
        for thread in fs::read_dir(task)? {
            let children = fs::read_to_string(thread?.path().join("children"))?;
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    Ok(family)
}

/// User and system time of the processes (proc(5), /proc/pid/stat fields 14 and 15).
fn ticks(processes: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in processes {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat
            .rsplit_once(')')
            .context("/proc/pid/stat has no name")?;
        sum += fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(sum)
}

fn ticks_per_second() -> f64 {
    // USER_HZ, which is 100 on every Linux that runs on x86.
    100.0
}

/// Proportional memory in KiB: of the guest's RAM, and of everything else.
fn memory(processes: &[u32]) -> Result<(u64, u64)> {
    let (mut guest, mut other) = (0, 0);
    for pid in processes {
        let mut in_guest_ram = false;
        for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
            let first = line.split_whitespace().next().unwrap_or_default();
            if let Some(size) = line.strip_prefix("Pss:") {
                let kib: u64 = size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
                *(if in_guest_ram { &mut guest } else { &mut other }) += kib;
            } else if !first.ends_with(':') {
                in_guest_ram = line.contains("/memfd:") && line.contains("ram");
            }
        }
    }
    Ok((guest, other))
}

fn read(stats: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(stats).with_context(|| format!("atoll wrote no {}", stats.display()))?;
    serde_json::from_str(&text).context("the statistics are not JSON")
}
