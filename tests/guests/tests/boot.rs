//! Stock kernels boot to a shell, and the machine ends as the guest asks.

use guest_tests::Boot;

#[test]
fn the_default_guest_boots_and_powers_off() {
    let outcome = Boot::shell("linux-cloud")
        .commands(&["echo $((6 * 7)) is the answer"])
        .run()
        .expect_code(0);
    let stats = outcome.stats();
    outcome
        .expect_console("guest ready: Linux 6.1")
        .expect_console("42 is the answer");
    let share = stats["share_compiled"]
        .as_f64()
        .expect("a share is a number");
    // How much is compiled depends on how far the compile thread got, so on the host; the floor itself stands in bench/.
    assert!(
        share >= 0.5,
        "only {share} of the instructions ran in compiled code"
    );
}

#[test]
fn debian_13s_cloud_kernel_boots() {
    Boot::shell("linux-cloud-trixie")
        .commands(&["cat /proc/cpuinfo"])
        .run()
        .expect_code(0)
        .expect_console("Linux 6.12");
}

#[test]
fn debian_12s_generic_kernel_boots() {
    Boot::shell("linux-generic")
        .commands(&["uname -a"])
        .run()
        .expect_code(0)
        .expect_console("guest ready: Linux 6.1");
}

#[test]
fn a_reset_ends_the_run_with_its_own_code() {
    let script = "expect \"guest# \"\nsend \"reboot -f\\n\"\n";
    Boot::shell("linux-cloud")
        .script(script)
        .run()
        .expect_code(10);
}

/// Without `-no-reboot` it goes on in the same processes.
#[test]
fn a_reset_restarts_the_machine_in_place() {
    let script =
        "expect \"guest# \"\nsend \"reboot -f\\n\"\nexpect \"guest# \"\nsend \"poweroff -f\\n\"\n";
    let outcome = Boot::shell("linux-cloud")
        .with_resets()
        .script(script)
        .run()
        .expect_code(0);
    assert_eq!(outcome.console.matches("Linux version").count(), 2);
    assert_eq!(outcome.stats()["resets"], 1);
}
