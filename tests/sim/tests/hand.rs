//! Hand tests in assembly of what chance does not reach: modes, gates, tasks, paging rights, debug exceptions, code that writes code.
//!
//! Each file of `hand/` is a Multiboot image that prints what it finds on COM1 (see `hand/lib.inc`). What it must print stands in it
//! behind `;> `, by the manuals. Both engines and lockstep run it. QEMU runs it as a second opinion (`--ignored`): where it
//! differs, `;q> ` behind the line says what it prints, and `;q-` that it has no such line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atoll_jit::{Mode, Tier};
use cpu_worker::Stopped;
use machine_spec::CpuModel;

/// How often each test runs itself.
const PASSES: usize = 4;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("hand")
        .join(format!("{name}.asm"))
}

/// Assembles a test.
fn image(name: &str) -> PathBuf {
    let source = source(name);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hand-{name}.bin"));
    let status = Command::new("nasm")
        .args(["-f", "bin", "-w-zeroing", "-I"])
        .arg(source.parent().expect("it lies in a directory").join(""))
        .arg("-o")
        .arg(&out)
        .arg(&source)
        .status()
        .expect("nasm runs (Debian package nasm)");
    assert!(status.success(), "nasm assembles {}", source.display());
    out
}

/// What a test must print in a pass: by the manuals, and in QEMU.
#[derive(Default)]
struct Wanted {
    manual: Vec<String>,
    qemu: Vec<String>,
}

fn wanted(name: &str) -> Wanted {
    let text = std::fs::read_to_string(source(name)).expect("the source is there");
    let mut wanted = Wanted::default();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix(";> ") {
            wanted.manual.push(line.to_owned());
            wanted.qemu.push(line.to_owned());
        } else if let Some(line) = line.strip_prefix(";q> ") {
            *wanted.qemu.last_mut().expect("it follows a line") = line.to_owned();
        } else if line == ";q-" {
            wanted.qemu.pop();
        }
    }
    assert!(!wanted.manual.is_empty(), "{name} wants nothing");
    wanted
}

/// Compares what all passes printed.
fn check(name: &str, who: &str, console: &[u8], wanted: &[String]) {
    let console = String::from_utf8_lossy(console).replace('\r', "");
    let pass = std::iter::once("pass").chain(wanted.iter().map(String::as_str));
    let whole: Vec<&str> = (0..PASSES)
        .flat_map(|_| pass.clone())
        .chain(["end"])
        .collect();
    let mut lines = console.lines();
    for (n, want) in whole.iter().enumerate() {
        let (pass, line) = (n / (wanted.len() + 1) + 1, n % (wanted.len() + 1));
        let got = lines.next().unwrap_or("(nothing)");
        assert_eq!(got, *want, "{name} in {who}, pass {pass}, line {line}");
    }
    assert_eq!(lines.next(), None, "{name} in {who} went on");
}

fn run(name: &str, engine: Mode, inline: Option<(u32, Tier)>) -> sim::Outcome {
    sim::run(sim::Config {
        memory_bytes: 64 << 20,
        cpu: CpuModel::Max,
        disk: Some(
            (0..64 << 9)
                .map(|at| {
                    if at % 512 == 0 {
                        0xc3
                    } else {
                        (at / 512) as u8
                    }
                })
                .collect(),
        ),
        kernel: std::fs::read(image(name)).expect("nasm wrote it"),
        engine,
        inline,
        vtime_limit_ns: Some(200_000_000),
        ..sim::Config::default()
    })
}

const ENGINES: [(Mode, Option<(u32, Tier)>); 4] = [
    (Mode::Interp, None),
    (Mode::Jit, Some((2, Tier::Quick))),
    (Mode::Jit, Some((2, Tier::Optimised))),
    (Mode::Lockstep, None),
];

/// Runs a test in every engine: interpreted, translated by either tier as soon as anything is met a second time, and both beside
/// each other. They must agree in everything.
fn hand(name: &str) {
    let wanted = wanted(name).manual;
    let interp = run(name, Mode::Interp, None);
    check(name, "the interpreter", &interp.console, &wanted);
    assert_eq!(interp.stopped, Stopped::PowerOff);
    for (engine, inline) in &ENGINES[1..] {
        let (engine, inline) = (*engine, *inline);
        let other = run(name, engine, inline);
        let who = format!("{engine:?} {inline:?}");
        check(name, &who, &other.console, &wanted);
        assert_eq!(other, interp, "{name}: {who} against the interpreter");
    }
}

fn qemu(name: &str) {
    let output = Command::new("qemu-system-x86_64")
        .args(["-cpu", "max", "-m", "64", "-display", "none"])
        .args(["-serial", "stdio", "-no-reboot", "-kernel"])
        .arg(image(name))
        .stdin(Stdio::null())
        .output()
        .expect("QEMU runs (Debian package qemu-system-x86)");
    check(name, "QEMU", &output.stdout, &wanted(name).qemu);
}

macro_rules! hand_tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            hand(stringify!($name));
        })*
    };
}

macro_rules! second_opinions {
    ($($name:ident)*) => {
        mod in_qemu {
            $(#[test]
            #[ignore = "needs QEMU; make isa"]
            fn $name() {
                super::qemu(stringify!($name));
            })*
        }
    };
}

hand_tests! {
    segments gates tasks taskfaults v86 vme debug interrupts paging control smc
    real long syscall doublefault tlb alignment dma system smap ports
    shadow steps crossing verify privileged rights
}

// Not those of what QEMU's translator leaves out: segment limits and rights, much of debug exceptions, values that registers refuse.
second_opinions! {
    gates tasks v86 debug interrupts paging doublefault system smap ports
    verify rights
}

/// A fault in the delivery of a double fault shuts the processor down, which ends a machine that does not reboot.
#[test]
fn triplefault() {
    for (engine, inline) in ENGINES {
        let outcome = run("triplefault", engine, inline);
        let console = String::from_utf8_lossy(&outcome.console).replace('\r', "");
        assert_eq!(console, "pass\n", "{engine:?} {inline:?}");
        assert_eq!(
            outcome.stopped,
            Stopped::TripleFault,
            "{engine:?} {inline:?}"
        );
    }
}
