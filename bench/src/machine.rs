//! The machines that are compared: their command lines, and one run of one of them.
//!
//! The guest is the same for all: same kernel, same RAM disk, same command line. It runs the
//! cases by itself and powers off, so nothing is typed; its markers on the serial console are
//! stamped with the host's clock as they arrive.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xtask::guest::Guest;

/// What Atoll's default CPU has, as far as TCG has it; the report lists what differs. `erms` is left
/// out: it is no instruction but a hint that REP MOVSB is fast, which on TCG is not so.
const QEMU_CPU: &str = "Nehalem,+aes,+pclmulqdq,+movbe,+xsave,+rdrand,+rdseed,+fsgsbase,+clflushopt,+clwb,+rdpid,\
    +pdpe1gb,+rdtscp,+3dnowprefetch";

/// A machine to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine {
    /// Atoll, which always counts.
    Atoll,
    /// QEMU's TCG with its best flags, not counting.
    Tcg,
    /// QEMU's TCG, counting instructions.
    TcgIcount,
}

impl Machine {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Atoll, Self::Tcg, Self::TcgIcount];

    /// The name in the table's head.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Atoll => "atoll",
            Self::Tcg => "qemu",
            Self::TcgIcount => "qemu-icount",
        }
    }

    /// The command that boots the guest and runs the cases.
    pub(crate) fn command(
        self,
        guest: &Guest,
        cases: &[&str],
        atoll: &Path,
        stats: &Path,
    ) -> Command {
        let mut command = match self {
            Self::Atoll => {
                let mut command = Command::new(atoll);
                command.arg("run").arg("--stats").arg(stats);
                command
            }
            Self::Tcg | Self::TcgIcount => {
                let mut command = Command::new("qemu-system-x86_64");
                // No default devices: neither a BIOS that looks for disks nor a screen to draw.
                command.args(["-machine", "pc", "-nodefaults", "-no-user-config"]);
                command.args(["-accel", "tcg,tb-size=1024", "-cpu", QEMU_CPU]);
                command
            }
        };
        if self == Self::TcgIcount {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        // Without mitigations the kernel does the same work on every CPU model: a model decides not
        // how fast a translator is, but whether the kernel swaps page tables at each system call.
        let append = format!("console=ttyS0 mitigations=off bench={}", cases.join(","));
        command.args([
            "-m",
            "512",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ]);
        command
            .arg("-kernel")
            .arg(guest.kernel())
            .arg("-initrd")
            .arg(guest.initrd())
            .args(["-append", &append]);
        command
    }
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains(' ') {
            format!("\"{word}\"")
        } else {
            word.into_owned()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What one run measured.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Seconds by case.
    pub(crate) seconds: BTreeMap<String, f64>,
    /// What each case computed.
    pub(crate) results: BTreeMap<String, String>,
    /// The CPU features that the guest saw.
    pub(crate) flags: String,
}

impl Run {
    /// Takes in one line of the console.
    fn line(&mut self, at: Instant, started: &mut BTreeMap<String, Instant>, line: &str) {
        // A message of the kernel may stand before a marker on its line.
        let Some((_, marker)) = line.split_once("bench: ") else {
            return;
        };
        let (name, rest) = marker.trim_end().split_once(' ').unwrap_or((marker, ""));
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("begin", _) => {
                started.insert(name.to_owned(), at);
            }
            ("end", result) => {
                if let Some(begin) = started.get(name) {
                    self.seconds
                        .insert(name.to_owned(), (at - *begin).as_secs_f64());
                    self.results.insert(name.to_owned(), result.to_owned());
                }
            }
            _ if name == "flags" => rest.clone_into(&mut self.flags),
            _ => {}
        }
    }
}

/// Runs a command to its end and measures what its console shows; `deadline` bounds the silence
/// between two lines.
pub(crate) fn measure(command: &mut Command, deadline: Duration) -> Result<Run> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!(
                "cannot start {}",
                PathBuf::from(command.get_program()).display()
            )
        })?;
    let lines = stamped_lines(&mut child);
    let mut run = Run::default();
    let mut started = BTreeMap::from([("boot".to_owned(), begin)]);
    let mut tail = Vec::new();
    loop {
        match lines.recv_timeout(deadline) {
            Ok((at, line)) => {
                run.line(at, &mut started, &line);
                tail.push(line);
                if tail.len() > 12 {
                    tail.remove(0);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                bail!(
                    "silent for {} s; the console's last lines:\n{}",
                    deadline.as_secs(),
                    tail.join("\n")
                );
            }
        }
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        bail!(
            "{}; the console's last lines:\n{}\n{errors}",
            done.status,
            tail.join("\n")
        );
    }
    Ok(run)
}

/// The console's lines with the time at which each was complete.
fn stamped_lines(child: &mut Child) -> mpsc::Receiver<(Instant, String)> {
    let (send, receive) = mpsc::channel();
    let mut console = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while console
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let at = Instant::now();
            if send
                .send((at, String::from_utf8_lossy(&line).trim_end().to_owned()))
                .is_err()
            {
                break;
            }
            line.clear();
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_after_other_text() {
        let (mut run, mut started, now) = (Run::default(), BTreeMap::new(), Instant::now());
        run.line(now, &mut started, "[    1.0] noise bench: sieve begin");
        run.line(
            now + Duration::from_secs(2),
            &mut started,
            "bench: sieve end 00ff\r",
        );
        run.line(now, &mut started, "bench: flags fpu vme");
        run.line(now, &mut started, "bench: sort end 1");
        assert_eq!(
            run.seconds,
            BTreeMap::from([("sieve".to_owned(), 2.0)]),
            "an end without a begin counts for nothing"
        );
        assert_eq!(run.results["sieve"], "00ff");
        assert_eq!(run.flags, "fpu vme");
    }
}
