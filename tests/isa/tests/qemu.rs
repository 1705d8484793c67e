//! The comparison with QEMU finds what is different, and only that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use atoll_x86::Vector;
use isa_tests::qemu::{self, Ended, From, Limits, Outcome, Settings};

/// Assembles a guest.
fn image(name: &str, dir: &Path) -> PathBuf {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
    let out = dir.join(name);
    let status = Command::new("nasm")
        .args(["-f", "bin", "-I"])
        .arg(guests.join(""))
        .arg("-o")
        .arg(&out)
        .arg(guests.join(name).with_extension("asm"))
        .status()
        .expect("nasm runs (Debian package nasm)");
    assert!(status.success(), "nasm assembles {name}");
    out
}

fn compare(name: &str, limits: Limits) -> Outcome {
    let dir = tempfile::tempdir().expect("there is room for temporary files");
    let settings = Settings {
        kernel: image(name, dir.path()),
        initrd: None,
        append: String::new(),
        memory_mib: 16,
        cpu: "qemu64".into(),
        more: Vec::new(),
        float: true,
        patience: Duration::from_secs(100),
    };
    qemu::compare(&settings, From::Entry, limits, dir.path())
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// A limit that QEMU does not know.
#[test]
#[ignore = "needs QEMU; make isa"]
fn a_planted_difference_is_named() {
    let limits = Limits {
        instructions: 10_000,
        differences: 1,
    };
    let outcome = compare("limit", limits);
    let [found] = outcome.divergences.as_slice() else {
        panic!("one difference was planted:\n{outcome}");
    };
    assert_eq!(found.text, "mov ebx,[fs:1000h]", "\n{outcome}");
    assert_eq!(found.bytes[..7], [0x64, 0x8b, 0x1d, 0, 0x10, 0, 0]);
    assert!(
        found
            .fault
            .is_some_and(|fault| fault.vector == Vector::GeneralProtection)
    );
    let names: Vec<&str> = found.differences.iter().map(|d| d.name.as_str()).collect();
    // Atoll is in the handler of #GP, QEMU behind the instruction.
    assert!(names.starts_with(&["rip", "rsp"]), "{names:?}");
    assert!(
        outcome.to_string().contains("instruction 61 differs"),
        "\n{outcome}"
    );
}

/// What comes from outside is no difference, and is told.
#[test]
#[ignore = "needs QEMU; make isa"]
fn clocks_devices_and_interrupts_are_followed() {
    let limits = Limits {
        instructions: u64::MAX,
        differences: 1,
    };
    let outcome = compare("outside", limits);
    assert!(outcome.divergences.is_empty(), "\n{outcome}");
    assert!(matches!(outcome.ended, Ended::Qemu), "\n{outcome}");
    assert!(
        outcome.instructions > 50_000 && outcome.interrupts > 10,
        "\n{outcome}"
    );
    let sources: Vec<&str> = outcome.notes.0.keys().map(String::as_str).collect();
    assert!(sources.contains(&"IN from port 0x40"), "{sources:?}");
}
