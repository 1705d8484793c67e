//! Guests of 32 bits, and systems other than Linux, each as far as its packages go.

use guest_tests::Boot;

fn boots_686(guest: &str) {
    Boot::shell(guest)
        .commands(&["uname -m", "echo $((6 * 7)) is the answer"])
        .run()
        .expect_code(0)
        .expect_console("guest ready: Linux 6.1")
        .expect_console("42 is the answer");
}

#[test]
fn debian_12s_i386_kernel_with_pae_boots() {
    boots_686("linux-686-pae");
}

#[test]
#[ignore = "takes long; make guests"]
fn debian_12s_i386_kernel_without_pae_boots() {
    boots_686("linux-686");
}
