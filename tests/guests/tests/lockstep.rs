//! Whole boots with the interpreter beside the translator, comparing every exit of every region.

use guest_tests::{Boot, Outcome};

/// Runs a boot in lockstep: a difference would end the worker, and with it the run. Prints what was compared.
fn compare(boot: Boot) -> Outcome {
    let outcome = boot.args(["--engine", "lockstep"]).run().expect_code(0);
    let stats = outcome.stats();
    eprintln!("{stats:#}");
    let share = stats["share_compiled"]
        .as_f64()
        .expect("a share is a number");
    assert!(
        share >= 0.95,
        "only {share} of the instructions were compared"
    );
    outcome
}

fn compare_shell(guest: &str) {
    compare(Boot::shell(guest).commands(&["cat /proc/cpuinfo"]));
}

#[test]
fn the_cloud_kernels_boot_shows_no_difference() {
    compare_shell("linux-cloud");
}

#[test]
#[ignore = "takes long; make lockstep"]
fn debian_13s_cloud_kernel_shows_no_difference() {
    compare_shell("linux-cloud-trixie");
}

#[test]
#[ignore = "takes long; make lockstep"]
fn debian_12s_generic_kernel_shows_no_difference() {
    compare_shell("linux-generic");
}

#[test]
#[ignore = "takes long; make lockstep-debian"]
fn the_debian_disks_boot_shows_no_difference() {
    compare(Boot::debian().debian_commands(&["systemctl is-system-running"]));
}
