//! GNU Mach, entered by Multiboot: as far as it goes without a module to go on with.
//!
//! It then waits in a loop for its message to be read, so a run ends at a virtual time behind that. The i386 kernel first waits nearly five
//! seconds for disks and floppies that are not there; where an instruction takes 16 ns, it does so in fewer instructions.

use guest_tests::{Boot, Outcome, agreed};

const CONSOLE: [&str; 2] = ["-append", "console=com0"];
const SLOW: [&str; 2] = ["-icount", "shift=4"];

fn mach(guest: &str, until: &str) -> Boot {
    Boot::image(guest)
        .args(CONSOLE)
        .args(["--vtime-limit", until])
}

fn asks_for_a_module(outcome: Outcome) {
    outcome.expect_console("No bootstrap code loaded with the kernel!");
}

#[test]
fn the_i386_kernel_looks_for_its_devices_and_asks_for_a_module() {
    let outcome = mach("gnumach", "6s").run().expect_code(16);
    asks_for_a_module(outcome.expect_console("scsi : 0 hosts."));
}

#[test]
fn debian_12s_i386_kernel_asks_for_a_module() {
    asks_for_a_module(
        mach("gnumach-bookworm", "6s")
            .args(SLOW)
            .run()
            .expect_code(16),
    );
}

#[test]
fn the_i386_kernel_runs_alike_in_both_engines() {
    asks_for_a_module(agreed(|| mach("gnumach", "6s").args(SLOW), 16));
}

#[test]
fn the_amd64_kernel_runs_alike_in_both_engines() {
    asks_for_a_module(agreed(|| mach("gnumach-amd64", "0.2s"), 16));
}
