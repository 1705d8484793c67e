//! Guests that are made by chance (see `sim::hostile`) under every engine: the same end, the same console, the same hash; no model panics, and
//! nothing grows without bound.
//!
//! `make test` runs a slice of the seeds. `make fuzz` runs as many as `ATOLL_FUZZ_SECONDS` allows from `ATOLL_FUZZ_SEED` on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use atoll_jit::{Mode, Tier};
use machine_spec::CpuModel;
use sim::hostile::Guest;

/// Seeds of a run of `make test`.
const SLICE: u64 = 18;
/// One more: a row of a thousand stores, into which interrupts return everywhere. Translating all that follows anew each time took minutes.
const LONG_ROW: u64 = 5022;

/// The virtual time of a guest.
const LIMIT_NS: u64 = 1_500_000;

/// What the process may grow by after the first guests, in KiB: more than the engines' own bounds would be a leak.
const GROWTH_KIB: u64 = 512 << 10;

fn stage() -> &'static [u8] {
    static STAGE: OnceLock<Vec<u8>> = OnceLock::new();
    STAGE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile/stage.asm");
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-stage.bin");
        let status = Command::new("nasm")
            .args(["-f", "bin", "-w-zeroing", "-o"])
            .arg(&out)
            .arg(&source)
            .status()
            .expect("nasm runs (Debian package nasm)");
        assert!(status.success(), "nasm assembles {}", source.display());
        std::fs::read(out).expect("nasm wrote it")
    })
}

fn run(guest: &Guest, engine: Mode, inline: Option<(u32, Tier)>) -> sim::Outcome {
    sim::run(sim::Config {
        memory_bytes: 2 << 20,
        cpu: CpuModel::Max,
        kernel: guest.image(stage()),
        disk: Some((0..8 << 9).map(|n| (n * 7) as u8).collect()),
        engine,
        inline,
        vtime_limit_ns: Some(LIMIT_NS),
        hash_every_ns: Some(200_000),
        ..sim::Config::default()
    })
}

const ENGINES: [(Mode, Option<(u32, Tier)>); 4] = [
    (Mode::Interp, None),
    (Mode::Jit, Some((2, Tier::Quick))),
    // Cranelift is slow with what runs once and twice.
    (Mode::Jit, Some((12, Tier::Optimised))),
    (Mode::Lockstep, None),
];

/// A guest that takes longer in an engine is named.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a guest in all engines. What went wrong, if anything did.
fn try_guest(guest: &Guest) -> Result<sim::Outcome, String> {
    let mut first: Option<sim::Outcome> = None;
    for (engine, inline) in ENGINES {
        let who = format!("{engine:?} {inline:?}");
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(guest, engine, inline)))
            .map_err(|_| format!("{who} panicked"))?;
        if !outcome.faulted.is_empty() {
            return Err(format!("{who}: models panicked: {:?}", outcome.faulted));
        }
        let took = start.elapsed();
        if took > PATIENCE || std::env::var("ATOLL_FUZZ_TIMES").is_ok() {
            eprintln!("{who}: {took:?}");
        }
        match &first {
            None => first = Some(outcome),
            Some(first) if *first != outcome => {
                return Err(format!("{who} differs\n{}", difference(first, &outcome)));
            }
            Some(_) => {}
        }
    }
    Ok(first.expect("there are engines"))
}

/// The first point of the trail that differs, and the ends.
fn difference(a: &sim::Outcome, b: &sim::Outcome) -> String {
    let point = a.trail.iter().zip(&b.trail).find(|(a, b)| a != b);
    let end = |o: &sim::Outcome| (o.stopped, o.instructions, o.now_ns);
    format!("{point:#?}\n{:?}\n{:?}", end(a), end(b))
}

fn check(seed: u64) -> sim::Outcome {
    try_guest(&Guest::random(seed)).unwrap_or_else(|why| panic!("seed {seed}: {why}"))
}

/// What the process holds, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let number = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    number.expect("VmRSS is a number")
}

#[test]
fn a_slice_of_the_seeds() {
    let mut at_first = None;
    let mut instructions = 0;
    for seed in (0..SLICE).chain([LONG_ROW]) {
        instructions += check(seed).instructions;
        at_first.get_or_insert_with(resident_kib);
    }
    // Guests that end at their first instruction would find nothing.
    assert!(
        instructions > SLICE * 100_000,
        "{instructions} instructions"
    );
    let grown = resident_kib().saturating_sub(at_first.unwrap_or(0));
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB");
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().expect("a number"))
}

/// All failures are gathered: one is seldom alone.
#[test]
#[ignore = "long; make fuzz"]
fn a_campaign() {
    let seconds = variable("ATOLL_FUZZ_SECONDS", 60);
    let start = variable("ATOLL_FUZZ_SEED", 1_000_000);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut seed, mut failed) = (start, Vec::new());
    let mut ends = std::collections::BTreeMap::<String, u64>::new();
    while Instant::now() < end && failed.len() < 20 {
        match try_guest(&Guest::random(seed)) {
            Ok(outcome) => *ends.entry(format!("{:?}", outcome.stopped)).or_default() += 1,
            Err(why) => {
                eprintln!("seed {seed}: {why}");
                failed.push(seed);
            }
        }
        seed += 1;
    }
    println!("ends: {ends:?}");
    println!("{} guests, {} KiB resident", seed - start, resident_kib());
    assert!(failed.is_empty(), "seeds {failed:?}");
}

/// One guest: ATOLL_FUZZ_SEED. It is printed, and its image kept, which QEMU can boot too.
#[test]
#[ignore = "for work on a failure"]
fn one() {
    let seed = variable("ATOLL_FUZZ_SEED", 0);
    let guest = Guest::random(seed);
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-one.bin");
    std::fs::write(&image, guest.image(stage())).expect("it can be written");
    println!("{:#?}\n{}", guest, image.display());
    let outcome = check(seed);
    println!("{:?} at {} ns", outcome.stopped, outcome.now_ns);
}
