//! Whole boots with the interpreter beside the translator, comparing every exit of every region.

use guest_tests::{Boot, alpine_tarball, compared};

/// What is compared at least of a boot. The rest is what runs once, and what no region holds.
const MOST: f64 = 0.95;

fn compare_shell(guest: &str) {
    let boot = Boot::shell(guest).commands(&["cat /proc/cpuinfo"]);
    compared(guest, boot, 0, MOST);
}

/// A guest that ends by the limit, where an instruction takes 16 ns.
fn compare_until(guest: &str, boot: Boot, until: &str) {
    let boot = boot.args(["-icount", "shift=4", "--vtime-limit", until]);
    compared(guest, boot, 16, MOST);
}

fn compare_mach(guest: &str, until: &str) {
    let boot = Boot::image(guest).args(["-append", "console=com0"]);
    compare_until(guest, boot, until);
}

#[test]
fn the_cloud_kernels_boot_shows_no_difference() {
    compare_shell("linux-cloud");
}

#[test]
fn the_amd64_machs_boot_shows_no_difference() {
    compare_mach("gnumach-amd64", "1s");
}

#[test]
fn xens_trampoline_and_banner_show_no_difference() {
    compared("xen", Boot::xen(), 10, MOST);
}

#[test]
#[ignore = "takes long; make lockstep"]
fn the_i386_machs_boot_shows_no_difference() {
    compare_mach("gnumach", "6s");
}

#[test]
#[ignore = "takes long; make lockstep"]
fn linux_on_xen_shows_no_difference() {
    let boot = Boot::xen_with("linux-generic").commands(&["cat /proc/cpuinfo"]);
    compared("linux-generic on xen", boot, 0, MOST);
}

#[test]
#[ignore = "takes long; make lockstep"]
fn memtest_shows_no_difference() {
    for guest in ["memtest86-ia32", "memtest86-x64"] {
        let boot = Boot::image(guest).args(["-m", "64", "-append", "console=ttyS0,115200"]);
        compare_until(guest, boot, "30s");
    }
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
#[ignore = "takes long; make lockstep"]
fn debian_12s_i386_kernels_show_no_difference() {
    for guest in ["linux-686", "linux-686-pae"] {
        compare_shell(guest);
    }
}

#[test]
#[ignore = "takes long; make lockstep"]
fn alpines_user_space_shows_no_difference() {
    if alpine_tarball().is_none() {
        eprintln!(
            "not tested: ATOLL_ALPINE_TARBALL names no tarball of Alpine's mini root file system"
        );
        return;
    }
    let boot =
        Boot::shell("alpine").commands(&["apk --version", "ls -lR /etc /lib /usr > /tmp/list"]);
    compared("alpine", boot, 0, MOST);
}

#[test]
#[ignore = "takes long; make lockstep-debian"]
fn the_debian_disks_boot_shows_no_difference() {
    let boot = Boot::debian().debian_commands(&["systemctl is-system-running"]);
    compared("debian", boot, 0, MOST);
}
