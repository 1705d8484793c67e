//! Xen, entered by Multiboot: its trampoline runs in real mode and asks a BIOS, its first domain is Linux in ring 3.

use guest_tests::{Boot, agreed};

#[test]
fn xen_alone_asks_for_a_kernel_and_resets() {
    agreed(Boot::xen, 10)
        .expect_console("(XEN) Xen version 4.17")
        .expect_console("Found 0 EDD information structures")
        .expect_console("dom0 kernel not specified");
}

#[test]
#[ignore = "takes long; make guests"]
fn linux_on_xen_reaches_its_shell() {
    let boot = || {
        Boot::xen_with("linux-generic")
            .commands(&["cat /sys/hypervisor/type", "echo $((6 * 7)) is the answer"])
    };
    agreed(boot, 0)
        .expect_console("guest ready: Linux 6.1")
        .expect_console("\nxen\r")
        .expect_console("42 is the answer")
        .expect_console("Entering ACPI S5 state");
}
