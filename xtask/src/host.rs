//! Running the host's programs, with errors that say which program, and what it printed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The root of the workspace that this program was built from.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace's root")
        .to_path_buf()
}

/// Says on the terminal what is being done; standard output is kept for results.
pub fn progress(line: impl std::fmt::Display) {
    eprintln!("  {line}");
}

/// Where `program` lies, by PATH and the directories of system programs, which an ordinary
/// user's PATH on Debian leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Checks that every program is there; otherwise names the Debian packages to install.
pub fn need(programs: &[(&str, &str)]) -> Result<()> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    ensure!(
        packages.is_empty(),
        "missing programs; as root: apt-get install {}",
        packages.join(" ")
    );
    Ok(())
}

/// A command whose program is found as [`find`] does.
pub fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| program.into()))
}

/// Runs a command to its end and gives its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let bytes = output_bytes(command)?;
    String::from_utf8(bytes).with_context(|| format!("{command:?} printed what is not text"))
}

/// As [`output`], for commands that print bytes.
pub fn output_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", name_of(command.get_program())))?;
    if !done.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            done.status,
            String::from_utf8_lossy(&done.stderr).trim_end()
        );
    }
    Ok(done.stdout)
}

/// Runs a command for its effect; what it prints is shown only if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output_bytes(command).map(drop)
}

fn name_of(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}
