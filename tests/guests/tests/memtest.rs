//! memtest86+, a program without a kernel, entered by Linux's boot protocol: a whole pass over 64 MiB, in 32-bit and in 64-bit code.
//!
//! One of its tests lets the memory stand for ten minutes, which are virtual: where an instruction takes 64 ns, they are a fifth of the run.

use guest_tests::{Boot, agreed};

fn memtest(guest: &str) -> Boot {
    Boot::image(guest).args([
        "-m",
        "64",
        "-append",
        "console=ttyS0,115200",
        "-icount",
        "shift=6",
    ])
}

/// The line of the screen that tells how many passes are done, and what they found.
const ONE_PASS: &str = "Pass:  1        Errors: 0 ";

fn finds_no_error(guest: &str) {
    let mut running = memtest(guest).start();
    running.wait_for(ONE_PASS);
}

fn runs_alike(guest: &str) {
    agreed(|| memtest(guest).args(["--vtime-limit", "400s"]), 16)
        .expect_console("#5  [Moving inversions")
        .expect_console("Errors: 0 ");
}

#[test]
#[ignore = "takes long; make guests"]
fn the_32_bit_program_finds_no_error() {
    finds_no_error("memtest86-ia32");
}

#[test]
#[ignore = "takes long; make guests"]
fn the_64_bit_program_finds_no_error() {
    finds_no_error("memtest86-x64");
}

#[test]
#[ignore = "takes long; make guests"]
fn the_32_bit_program_runs_alike_in_both_engines() {
    runs_alike("memtest86-ia32");
}

#[test]
#[ignore = "takes long; make guests"]
fn the_64_bit_program_runs_alike_in_both_engines() {
    runs_alike("memtest86-x64");
}
