//! The sandbox, entered for good by a child: this test binary, started again.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::process::{Command, exit};

use device_sdk::sandbox::{Policy, enter};

const CHILD: &str = "ATOLL_TEST_SANDBOXED_CHILD";

/// What the child finds out, as its exit status: a bit for each thing that went wrong.
fn child() -> u8 {
    let mut kept = tempfile::tempfile().unwrap();
    let missing = enter(&Policy::common());
    let denied = |result: std::io::Result<File>| {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let checks = [
        denied(File::open("/etc/hostname")),
        denied(File::create("/tmp/atoll-sandbox-test")),
        Command::new("/bin/true").status().is_err(),
        std::net::TcpStream::connect("127.0.0.1:1")
            .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied),
        kept.write_all(b"what is open stays usable").is_ok(),
        std::thread::spawn(|| vec![1u8; 8 << 20].len())
            .join()
            .is_ok_and(|length| length == 8 << 20),
        !missing
            .iter()
            .any(|fence| fence.contains("seccomp") || fence.contains("limits")),
    ];
    if !missing.is_empty() {
        eprintln!("{missing:?}");
    }
    checks
        .iter()
        .enumerate()
        .filter(|(_, passed)| !**passed)
        .fold(0, |wrong, (bit, _)| wrong | 1 << bit)
}

#[test]
fn a_sandboxed_process_keeps_what_it_has_and_gets_no_more() {
    if std::env::var_os(CHILD).is_some() {
        exit(child().into());
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_sandboxed_process_keeps_what_it_has_and_gets_no_more",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert_eq!(
        status.code(),
        Some(0),
        "the bits of the status name the checks that failed"
    );
}
