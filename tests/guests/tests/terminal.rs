//! A user at a terminal: the keys that are the guest's, those that are the console's, and the terminal afterwards.

use guest_tests::{Boot, Terminal, image};

/// A machine at its prompt, on a terminal that it has made raw.
fn at_prompt(terminal: &Terminal) -> guest_tests::Running {
    assert!(!terminal.is_raw());
    let boot = Boot::shell("linux-cloud");
    let disk = image::empty_disk(&boot.path(""));
    let mut running = boot
        .drive(&disk)
        .args(["--policy", "paced"])
        .start_on(terminal);
    running.wait_for("guest# ");
    assert!(terminal.is_raw());
    running
}

#[test]
fn a_session_at_the_keyboard() {
    let terminal = Terminal::new();
    let mut running = at_prompt(&terminal);
    terminal.press(b"echo $((6 * 7)) is the answer\r");
    running.wait_for("42 is the answer");
    // Ctrl-C reaches the guest's program, once it says that it runs, and nobody on the host.
    terminal.press(b"sh -c 'echo run''ning; exec sleep 1000'; echo code $?\r");
    running.wait_for("running");
    terminal.press(b"\x03");
    running.wait_for("^C");
    terminal.press(b"echo still $((20 + 1))\r");
    running.wait_for("still 21");
    terminal.press(b"\x01h");
    running.wait_for("Ctrl-A x    quit");
    for name in ["seriald", "blockd"] {
        running.kill_one(name);
        terminal.press(format!("echo after ${{x}}{name}\r").as_bytes());
        running.wait_for(&format!("after {name}"));
        assert!(terminal.is_raw(), "the successor of {name} has it raw");
    }
    terminal.press(b"\x01x");
    running.finish().expect_code(17);
    assert!(!terminal.is_raw());
}

#[test]
fn it_is_restored_whoever_dies() {
    for (name, code) in [("cpu-worker", 13), ("broker", 14)] {
        let terminal = Terminal::new();
        let running = at_prompt(&terminal);
        running.named(name).kill();
        running.finish().expect_code(code);
        assert!(!terminal.is_raw(), "{name} left it raw");
    }
}
