//! The machine as a set of processes: which there are, what they hold, and that none is left behind.

use std::path::Path;

use guest_tests::{Boot, Process, Running, image, open_files};
use rustix::process::Signal;

/// A machine that waits at its prompt.
fn at_prompt() -> Running {
    let boot = Boot::shell("linux-cloud");
    let disk = image::empty_disk(&boot.path(""));
    let mut running = boot
        .drive(&disk)
        .args(["--policy", "paced", "--grace", "1s"])
        .start();
    running.wait_for("guest# ");
    running
}

#[track_caller]
fn expect_gone(processes: &[Process]) {
    let left: Vec<_> = processes
        .iter()
        .filter(|process| process.exists())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn each_part_is_a_process_and_none_is_left_behind() {
    let running = at_prompt();
    let all = running.processes();
    let mut names: Vec<&str> = all.iter().map(|process| process.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["blockd", "broker", "cpu-worker", "seriald"]);
    running.process().signal(Signal::TERM);
    // The shell guest does not listen to the power button.
    running.finish().expect_code(18);
    expect_gone(&all);
}

#[test]
fn the_worker_holds_no_file() {
    /// The one descriptor that it shares with the user's shell, for the words of a panic.
    const STANDARD_ERROR: u32 = 2;
    let running = at_prompt();
    for (number, file) in open_files(running.named("cpu-worker").pid) {
        let text = file.to_string_lossy();
        let harmless = ["/memfd:", "socket:", "pipe:", "anon_inode:"]
            .iter()
            .any(|kind| text.starts_with(kind));
        let harmless = harmless || file == Path::new("/dev/null") || number == STANDARD_ERROR;
        assert!(harmless, "the worker's descriptor {number} is {text}");
    }
}

#[test]
fn a_dead_worker_ends_the_machine_in_good_order() {
    dies("cpu-worker", 13);
}

#[test]
fn a_dead_broker_ends_the_machine_in_good_order() {
    dies("broker", 14);
}

/// A worker that is stopped takes no part in anything, its own end included.
#[test]
fn a_silent_worker_is_killed_after_its_time() {
    let running = at_prompt();
    let all = running.processes();
    running.named("cpu-worker").signal(Signal::STOP);
    let outcome = running
        .finish()
        .expect_code(13)
        .expect_errors(&["no heartbeat for 2"]);
    expect_gone(&all);
    image::expect_sound(&outcome.path("disk.qcow2"));
}

fn dies(name: &str, code: i32) {
    let running = at_prompt();
    let all = running.processes();
    running.named(name).kill();
    let outcome = running.finish().expect_code(code);
    expect_gone(&all);
    image::expect_sound(&outcome.path("disk.qcow2"));
}
