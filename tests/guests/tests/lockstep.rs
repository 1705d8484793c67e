//! Whole boots with the interpreter beside the translator, comparing every exit of every region.

use guest_tests::Boot;

#[test]
#[ignore = "takes long; make lockstep"]
fn the_cloud_kernels_boot_shows_no_difference() {
    Boot::shell("linux-cloud")
        .args(["--engine", "lockstep"])
        .commands(&["cat /proc/cpuinfo"])
        .run()
        .expect_code(0);
}

#[test]
#[ignore = "takes long; make lockstep-debian"]
fn the_debian_disks_boot_shows_no_difference() {
    Boot::debian()
        .args(["--engine", "lockstep"])
        .debian_commands(&["systemctl is-system-running"])
        .run()
        .expect_code(0);
}
