//! A run as its user and its enemies see it: the real command line, broker and seriald, around a
//! worker without a CPU.

use atoll_transport::process::ProcessHandle;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with the programs under test, where the worker is the fake one.
struct Programs {
    folder: TempDir,
}

impl Programs {
    fn new() -> Self {
        let atoll = Path::new(env!("CARGO_BIN_EXE_atoll"));
        let target = atoll.parent().unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = |program: PathBuf, name: &str| {
            assert!(
                program.is_file(),
                "{} is missing: build it first",
                program.display()
            );
            let to = folder.path().join(name);
            std::fs::hard_link(&program, &to)
                .or_else(|_| std::fs::copy(&program, &to).map(drop))
                .unwrap();
        };
        place(atoll.into(), "atoll");
        place(target.join("broker"), "broker");
        place(target.join("seriald"), "seriald");
        place(target.join("examples/fake_worker"), "cpu-worker");
        let mut kernel = vec![0; 0x400];
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        std::fs::write(folder.path().join("kernel"), kernel).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(self.path("atoll"));
        command.arg("run").arg("-kernel").arg(self.path("kernel"));
        command
            .args(["-m", "16", "-append", words, "--stats"])
            .arg(self.path("stats"));
        command.args(flags);
        command
    }
}

/// A run whose console is a pipe or a pseudo-terminal.
struct Running {
    child: Child,
    output: File,
    input: Option<File>,
    seen: Vec<u8>,
    processes: Vec<(String, ProcessHandle)>,
}

impl Running {
    fn piped(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = OwnedFd::from(child.stdout.take().unwrap()).into();
        let input = OwnedFd::from(child.stdin.take().unwrap()).into();
        Self {
            child,
            output,
            input: Some(input),
            seen: Vec::new(),
            processes: Vec::new(),
        }
    }

    fn on_terminal(command: &mut Command, terminal: &Terminal) -> Self {
        let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
        let child = command
            .stdin(slave())
            .stdout(slave())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output: File = terminal.master.try_clone().unwrap().into();
        let input = output.try_clone().unwrap();
        Self {
            child,
            output,
            input: Some(input),
            seen: Vec::new(),
            processes: Vec::new(),
        }
    }

    /// Reads until the console has shown `text`; then the processes of the run are known.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self
            .seen
            .windows(text.len())
            .any(|seen| seen == text.as_bytes())
        {
            let length = self.output.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "{text:?} never came: {}", self.text());
            self.seen.extend_from_slice(&bytes[..length]);
        }
        self.processes = descendants(self.child.id());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Kills the process of this name; a successor that has not begun is waited for.
    fn kill(&self, name: &str) {
        let start = Instant::now();
        loop {
            let now = descendants(self.child.id());
            if let Some((_, process)) = now.iter().find(|(found, _)| found == name) {
                return process.kill().unwrap();
            }
            assert!(start.elapsed() < PATIENCE, "no {name} in {now:?}");
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn type_in(&mut self, text: &[u8]) {
        self.input.as_mut().unwrap().write_all(text).unwrap();
    }

    /// Waits for the end: the exit code, what was on standard error, and that nothing is left.
    fn finish(mut self, reads: bool) -> (Option<i32>, String, String) {
        if reads {
            let _ = self.output.read_to_end(&mut self.seen);
        }
        let mut errors = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        let code = self.child.wait().unwrap().code();
        let deadline = Some(Instant::now() + PATIENCE);
        for (name, process) in &self.processes {
            assert!(
                process.wait_dead(deadline).unwrap(),
                "{name} is left behind"
            );
        }
        (code, self.text(), errors)
    }
}

struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name)
            .unwrap()
            .into();
        Self { master, slave }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    }
}

fn descendants(pid: u32) -> Vec<(String, ProcessHandle)> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut found = Vec::new();
    for child in list.unwrap_or_default().split_whitespace() {
        let pid: u32 = child.parse().unwrap();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if let Ok(handle) = ProcessHandle::open(pid) {
            found.push((name.trim().to_owned(), handle));
        }
        found.extend(descendants(pid));
    }
    found
}

fn hash(errors: &str) -> &str {
    errors
        .lines()
        .find_map(|line| line.strip_prefix("final hash "))
        .unwrap_or_else(|| panic!("{errors}"))
}

#[test]
fn a_run_shows_its_output_and_how_it_ended() {
    let programs = Programs::new();
    let run = Running::piped(&mut programs.command("print=3", &[]));
    let (code, text, errors) = run.finish(true);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "line 000000\r\nline 000001\r\nline 000002\r\n"),
        "{errors}"
    );
    assert!(
        errors.contains("The guest powered the machine off."),
        "{errors}"
    );
    let stats = std::fs::read_to_string(programs.path("stats")).unwrap();
    assert!(
        stats.contains("\"exit_code\": 0") && stats.contains("\"fake\": true"),
        "{stats}"
    );
}

#[test]
fn no_kill_of_seriald_repeats_or_drops_a_byte() {
    let programs = Programs::new();
    let (code, calm, errors) =
        Running::piped(&mut programs.command("print=3000", &[])).finish(true);
    assert_eq!(code, Some(0), "{errors}");
    let mut run = Running::piped(&mut programs.command("print=3000", &[]));
    for line in [1, 400, 900, 1_600] {
        run.wait_for(&format!("line {line:06}"));
        run.kill("seriald");
    }
    let (code, text, disturbed) = run.finish(true);
    assert_eq!(code, Some(0), "{disturbed}");
    assert!(text == calm, "the output differs");
    assert_eq!(hash(&disturbed), hash(&errors));
}

#[test]
fn no_kill_of_seriald_loses_a_typed_key() {
    let programs = Programs::new();
    let mut run = Running::piped(&mut programs.command("echo", &[]));
    run.wait_for("type");
    let mut typed = String::new();
    for number in 0..200 {
        let text = format!("{number} ");
        run.type_in(text.as_bytes());
        typed += &text;
        if number % 70 == 33 {
            run.wait_for(&format!(" {} ", number - 10));
            run.kill("seriald");
        }
    }
    run.type_in(b"q");
    let (code, text, errors) = run.finish(true);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(text, format!("type\r\n{typed}q"));
}

#[test]
fn each_death_has_its_exit_code_and_leaves_nothing() {
    for (name, code) in [("cpu-worker", 13), ("broker", 14)] {
        let programs = Programs::new();
        let mut run = Running::piped(&mut programs.command("wait", &[]));
        run.wait_for("waiting");
        run.kill(name);
        let (found, _, errors) = run.finish(true);
        assert_eq!(found, Some(code), "{name}: {errors}");
    }
}

#[test]
fn sigterm_presses_the_power_button() {
    let programs = Programs::new();
    let mut run = Running::piped(&mut programs.command("wait", &[]));
    run.wait_for("waiting");
    run.signal(Signal::TERM);
    let (code, _, errors) = run.finish(true);
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn a_guest_that_ignores_the_button_is_ended() {
    let programs = Programs::new();
    let mut run = Running::piped(&mut programs.command("echo", &["--grace", "100ms"]));
    run.wait_for("type");
    run.signal(Signal::TERM);
    let (code, _, errors) = run.finish(true);
    assert_eq!(code, Some(18), "{errors}");
}

#[test]
fn a_deadline_ends_the_run() {
    let programs = Programs::new();
    let run = Running::piped(&mut programs.command("wait", &["--timeout", "200ms"]));
    assert_eq!(run.finish(true).0, Some(15));
}

#[test]
fn a_stopped_machine_waits_for_its_signal() {
    let programs = Programs::new();
    let run = Running::piped(&mut programs.command("print=1", &["-S", "--timeout", "300ms"]));
    let (code, text, _) = run.finish(true);
    assert_eq!((code, text.as_str()), (Some(15), ""));
}

#[test]
fn a_stopped_machine_starts_at_its_signal() {
    let programs = Programs::new();
    let run = Running::piped(&mut programs.command("print=1", &["-S"]));
    // Its signals are taken before it starts anything.
    let deadline = Instant::now() + PATIENCE;
    while descendants(run.child.id()).is_empty() {
        assert!(Instant::now() < deadline, "nothing was started");
        std::thread::yield_now();
    }
    run.signal(Signal::USR1);
    let (code, text, errors) = run.finish(true);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "line 000000\r\n"),
        "{errors}"
    );
}

#[test]
fn a_terminal_that_is_closed_ends_the_run() {
    let (programs, terminal) = (Programs::new(), Terminal::new());
    let mut run = Running::on_terminal(&mut programs.command("wait", &[]), &terminal);
    run.wait_for("waiting");
    let errors = run.child.stderr.take().unwrap();
    let processes = std::mem::take(&mut run.processes);
    let mut child = run.child;
    // The test's own handles of the master are the only ones.
    drop((run.output, run.input, terminal));
    assert_eq!(
        child.wait().unwrap().code(),
        Some(17),
        "{:?}",
        std::io::read_to_string(errors)
    );
    let deadline = Some(Instant::now() + PATIENCE);
    assert!(
        processes
            .iter()
            .all(|(_, process)| process.wait_dead(deadline).unwrap())
    );
}

#[test]
fn the_terminal_is_restored_whoever_dies() {
    for victim in ["nobody", "seriald", "cpu-worker", "broker", "atoll"] {
        let (programs, terminal) = (Programs::new(), Terminal::new());
        assert!(!terminal.is_raw());
        let mut run = Running::on_terminal(&mut programs.command("wait", &[]), &terminal);
        run.wait_for("waiting");
        assert!(terminal.is_raw(), "{victim}");
        match victim {
            "nobody" => {
                run.type_in(b"\x01h");
                run.wait_for("Ctrl-A x    quit");
                run.type_in(b"\x01x");
            }
            "seriald" => {
                run.kill("seriald");
                run.type_in(b"\x01x");
            }
            "atoll" => run.signal(Signal::KILL),
            other => run.kill(other),
        }
        let (code, _, errors) = run.finish(false);
        let expected = match victim {
            "nobody" | "seriald" => Some(17),
            "cpu-worker" => Some(13),
            "broker" => Some(14),
            _ => None,
        };
        assert_eq!(code, expected, "{victim}: {errors}");
        assert!(!terminal.is_raw(), "{victim} left the terminal raw");
    }
}

#[test]
fn bad_input_is_refused_with_everything_that_is_wrong() {
    let programs = Programs::new();
    let run =
        Running::piped(&mut programs.command("", &["-smp", "2", "--sede", "1", "-m", "lots"]));
    let (code, _, errors) = run.finish(true);
    assert_eq!(code, Some(2));
    for word in ["-smp", "--seed", "lots"] {
        assert!(errors.contains(word), "{errors}");
    }
}

#[test]
fn output_goes_to_a_file_exactly_once() {
    let programs = Programs::new();
    let file = programs.path("out");
    let flag = format!("file:{}", file.display());
    let mut command = programs.command("print=2000", &["-serial", &flag]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Whenever it is hit, the file is the same in the end.
    for _ in 0..200 {
        if let Some((_, seriald)) = descendants(child.id())
            .iter()
            .find(|(name, _)| name == "seriald")
        {
            seriald.kill().unwrap();
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let expected: String = (0..2000)
        .map(|line| format!("line {line:06}\r\n"))
        .collect();
    assert!(std::fs::read_to_string(file).unwrap() == expected);
}

#[test]
fn a_pseudo_terminal_is_named_and_shows_what_came_before() {
    let programs = Programs::new();
    let mut run = Running::piped(&mut programs.command("print=5 echo", &["-serial", "pty"]));
    run.wait_for("(label serial0)");
    let text = run.text();
    let (_, rest) = text.split_once("char device redirected to ").unwrap();
    let name = rest.split(' ').next().unwrap();
    let mut pty = File::options().read(true).write(true).open(name).unwrap();
    let (mut seen, mut bytes) = (String::new(), [0; 256]);
    while !seen.contains("type") {
        let length = pty.read(&mut bytes).unwrap();
        seen += std::str::from_utf8(&bytes[..length]).unwrap();
    }
    assert!(
        seen.starts_with("line 000000\r\nline 000001\r\n"),
        "{seen:?}"
    );
    pty.write_all(b"q").unwrap();
    assert_eq!(run.finish(true).0, Some(0));
}

#[test]
fn a_socket_that_waits_holds_the_machine() {
    let programs = Programs::new();
    let path = programs.path("socket");
    let flag = format!("unix:{},server,wait", path.display());
    let run = Running::piped(&mut programs.command("print=2 echo", &["-serial", &flag]));
    let deadline = Instant::now() + PATIENCE;
    let mut client = loop {
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    };
    let (mut seen, mut bytes) = (String::new(), [0; 256]);
    while !seen.contains("type") {
        let length = client.read(&mut bytes).unwrap();
        seen += std::str::from_utf8(&bytes[..length]).unwrap();
    }
    assert_eq!(seen, "line 000000\r\nline 000001\r\ntype\r\n");
    client.write_all(b"q").unwrap();
    assert_eq!(run.finish(true).0, Some(0));
    assert!(!path.exists(), "the socket is left behind");
}
