//! Arbitrary texts as everything that a user may write down: the bodies of fuzz targets and of property tests. Each must return, whatever
//! the text; problems are fine.

use std::path::Path;

use crate::{Draft, WorkerMachine, choices, parse_script};

/// A machine file.
pub fn machine_file(bytes: &[u8]) {
    let mut draft = Draft::new();
    draft.read_file(Path::new("dir/m.toml"), &String::from_utf8_lossy(bytes));
    look(draft);
}

/// A command line, one argument a line.
pub fn flags(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let arguments: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let _ = choices(&arguments);
    let mut draft = Draft::new();
    draft.read_flags(&arguments);
    look(draft);
}

/// A script for the serial ports.
pub fn script(bytes: &[u8]) {
    if let Err(problems) = parse_script("s", &String::from_utf8_lossy(bytes)) {
        assert!(!problems.to_string().is_empty());
    }
}

/// What the worker is told, as a peer would have damaged it. What is read can be said again.
pub fn worker_machine(bytes: &[u8]) {
    if let Ok(machine) = WorkerMachine::from_bytes(bytes) {
        let again = WorkerMachine::from_bytes(&machine.to_bytes());
        assert!(again.is_ok_and(|again| again == machine));
    }
}

/// What a command line does with a draft: the machine, however wrong, and the problems in words.
fn look(draft: Draft) {
    let (machine, problems) = draft.describe();
    let _ = (machine.policy(true), problems.to_string());
}
