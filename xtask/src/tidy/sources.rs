//! What may stand in a file, and where.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::lexer;

/// Where `unsafe` may stand: each keeps one kind of promise that the compiler cannot.
const UNSAFE: &[&str] = &[
    // Mappings shared with other processes, and what lies in them.
    "shared-abi/transport/",
    // Guest RAM and the inline TLB, as emitted code sees them.
    "cpu-worker/mmu/",
    // Entering code that was emitted.
    "cpu-worker/jit/",
    // The host's SSE and x87 instructions.
    "cpu-worker/hostfp/",
    // System calls that give rights away.
    "devices/sdk/src/sandbox",
    // Faults injected below imago, whose storage trait declares unsafe functions.
    "devices/backends/block/tests/common/storage.rs",
    // The host CPU as the witness: generated instructions run in a child process.
    "tests/isa/native/",
];

/// Names that may stand in the code of some directories only.
const NAMES: &[(&str, &[&str])] = &[
    ("cranelift", &["cpu-worker/jit/"]),
    (
        "iced_x86",
        &["cpu-worker/x86/", "cpu-worker/jit/", "tests/isa/"],
    ),
    ("imago", &["devices/backends/block/"]),
    ("tokio", &[]),
    ("docker", &["compose/"]),
    ("kubernetes", &["compose/"]),
];

/// Directories of pure state machines, with the parts of the standard library that they may not
/// know: a file, a socket, a thread, a clock.
const PURE: &[&str] = &[
    "devices/models/src/",
    "devices/core/src/",
    "broker/core/src/",
];
const IMPURE: &[&str] = &["fs", "net", "thread", "time", "process", "os", "env"];

/// Words of what is not finished, spelt so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Roots of directories that exist on one machine only, spelt likewise.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

const LINES_MAX: usize = 1000;
const BYTES_MAX: u64 = 100_000;

/// Everything in the files that breaks a rule.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in files {
        let name = file.to_string_lossy();
        let size = fs::metadata(root.join(file))?.len();
        if size > BYTES_MAX && name != "Cargo.lock" {
            faults.push(format!(
                "{name}: {size} bytes; nothing above {BYTES_MAX} is kept here"
            ));
        }
        let bytes = fs::read(root.join(file)).with_context(|| format!("cannot read {name}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            faults.extend(check_text(&name, &text));
            if name.ends_with(".rs") {
                faults.extend(check_rust(&name, &text));
            }
        }
    }
    Ok(faults)
}

/// The rules for any text.
fn check_text(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = format!("{name}:{}", number + 1);
        for word in UNFINISHED.iter().filter(|word| has_word(line, word)) {
            faults.push(format!(
                "{at}: {word}: finish it, or say in a sentence what is not done"
            ));
        }
        for path in MACHINE_PATHS.iter().filter(|path| line.contains(**path)) {
            faults.push(format!("{at}: {path} is a directory of one machine"));
        }
    }
    faults
}

/// The rules for Rust.
fn check_rust(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{name}: begins without a //! that says what the file is"
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!(
            "{name}: {lines} lines; one idea a file, {LINES_MAX} at most"
        ));
    }
    let code = lexer::code(text);
    let may_be_unsafe = within(name, UNSAFE);
    let is_root = ["/src/lib.rs", "/src/main.rs"]
        .iter()
        .any(|root| name.ends_with(root));
    let crate_is_safe = !UNSAFE
        .iter()
        .any(|dir| dir.starts_with(name.split("src/").next().unwrap_or(name)));
    if is_root && crate_is_safe && !code.contains("#![forbid(unsafe_code)]") {
        faults.push(format!("{name}: lacks #![forbid(unsafe_code)]"));
    }
    let pure = within(name, PURE);
    for (number, line) in code.lines().enumerate() {
        let at = format!("{name}:{}", number + 1);
        if !may_be_unsafe && has_word(line, "unsafe") {
            faults.push(format!("{at}: unsafe outside the crates that may"));
        }
        let lower = line.to_lowercase();
        for (word, dirs) in NAMES.iter().filter(|(word, _)| lower.contains(word)) {
            if !within(name, dirs) {
                faults.push(format!("{at}: names {word}, which only {dirs:?} may"));
            }
        }
        if name.contains("tests/") && line.contains("thread::sleep") {
            faults.push(format!("{at}: a sleep in a test; wait for what is awaited"));
        }
    }
    if pure {
        let known = std_modules(&code);
        faults.extend(
            IMPURE
                .iter()
                .filter(|module| known.contains(module))
                .map(|module| format!("{name}: a pure crate knows std::{module}")),
        );
    }
    faults
}

fn within(name: &str, dirs: &[&str]) -> bool {
    dirs.iter().any(|dir| name.starts_with(dir))
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part_of_word)
            && !line[at + word.len()..]
                .chars()
                .next()
                .is_some_and(part_of_word)
    })
}

/// The modules of the standard library that the code names, also in `use std::{a, b::c}`.
fn std_modules(code: &str) -> Vec<&str> {
    let first_word = |text: &'_ str| {
        text.trim_start()
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .map(str::len)
    };
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("std::") {
        let rest = &code[at + "std::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.push(&rest[..first_word(rest).unwrap_or(0)]);
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (end, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let item = group[start..end].trim_start();
                    modules.push(&item[..first_word(item).unwrap_or(0)]);
                    start = end + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_groups() {
        let code = "use std::{collections::{BTreeMap, fs}, time::Duration, fmt};\nlet x = std::thread::spawn();";
        assert_eq!(std_modules(code), ["collections", "time", "fmt", "thread"]);
    }

    #[test]
    fn a_models_file_may_not_be_unsafe_or_know_a_clock() {
        let text = "//! A model.\nuse std::time::Instant; // unsafe\nunsafe fn f() {}\n";
        let faults = check_rust("devices/models/src/rtc.rs", text);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("rtc.rs:3: unsafe"));
        assert!(faults[1].contains("std::time"));
    }

    #[test]
    fn a_crate_without_leave_forbids_unsafe() {
        assert_eq!(
            check_rust("broker/core/src/lib.rs", "//! Broker.\n").len(),
            1
        );
        assert!(check_rust("cpu-worker/jit/src/lib.rs", "//! JIT.\n").is_empty());
        assert!(
            check_rust("devices/sdk/src/lib.rs", "//! SDK.\n").is_empty(),
            "its sandbox has leave"
        );
        assert!(
            check_rust(
                "broker/core/src/lib.rs",
                "//! Broker.\n#![forbid(unsafe_code)]\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn texts_are_finished_and_name_no_machine() {
        let text = format!("{}: later\n{}x\nTODOS\n", UNFINISHED[0], MACHINE_PATHS[0]);
        assert_eq!(check_text("README.md", &text).len(), 2);
    }
}
