//! The same command has the same final hash, whatever the host does and however it is run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use guest_tests::{Boot, Outcome, image};

/// A boot that also writes and reads a disk, so that completions and interrupts come in.
fn boot() -> Boot {
    let boot = Boot::shell("linux-cloud");
    let disk = image::empty_disk(&boot.path(""));
    boot.drive(&disk).commands(&[
        "echo work begins; dd if=/dev/zero of=/dev/vda bs=1M count=48 && sync",
        "dd if=/dev/vda bs=1M count=48 | tail -c 4M | sha256sum",
    ])
}

/// The hash of the run with which all others are compared.
fn reference() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| boot().run().expect_code(0).hash())
}

#[test]
fn twice_is_the_same() {
    assert_eq!(boot().run().expect_code(0).hash(), reference());
}

/// Runs on a host whose cores have other things to do.
fn run_beside_others(boot: Boot) -> Outcome {
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let outcome = boot.run();
        busy.store(false, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn beside_a_busy_host_it_is_the_same() {
    let outcome = run_beside_others(boot());
    assert_eq!(outcome.expect_code(0).hash(), reference());
}

/// With the tests of one difference each, every pair of engine, policy and load has run.
#[test]
fn the_interpreter_paced_beside_a_busy_host_agrees() {
    let boot = boot().args(["--engine", "interp", "--policy", "paced"]);
    let outcome = run_beside_others(boot);
    assert_eq!(outcome.expect_code(0).hash(), reference());
}

#[test]
fn the_interpreter_agrees() {
    assert_eq!(
        boot()
            .args(["--engine", "interp"])
            .run()
            .expect_code(0)
            .hash(),
        reference()
    );
}

#[test]
fn pacing_changes_nothing() {
    assert_eq!(
        boot()
            .args(["--policy", "paced"])
            .run()
            .expect_code(0)
            .hash(),
        reference()
    );
}

#[test]
fn without_seriald_for_a_moment_it_is_the_same() {
    assert_eq!(killed("seriald", "Run /init"), reference());
}

#[test]
fn without_blockd_for_a_moment_it_is_the_same() {
    assert_eq!(killed("blockd", "Run /init"), reference());
}

#[test]
fn without_blockd_in_the_middle_of_writing_it_is_the_same() {
    assert_eq!(killed("blockd", "work begins"), reference());
}

/// The hash of a run in which a process dies once the console shows `text`.
fn killed(name: &str, text: &str) -> String {
    let mut running = boot().start();
    running.wait_for(text);
    running.named(name).kill();
    let outcome = running.finish().expect_code(0);
    image::expect_sound(&outcome.path("disk.qcow2"));
    outcome.hash()
}
