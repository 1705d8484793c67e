//! Starting `atoll run`, following its console, and what is left when it ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use xtask::guest::Guest;

use crate::process::{Process, cpu_time, descendants};
use crate::terminal::Terminal;

/// No boot is silent for so long on a host that has time for it; beyond it a test fails instead of hanging.
const SILENCE: Duration = Duration::from_secs(300);
/// The shares of a CPU that a silent machine gets which is only slow, because its host is busy: less, and it waits for something that does not
/// come; more, and it runs in a circle.
const BUSY_HOST: std::ops::Range<f64> = 0.02..0.5;

/// The program under test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("ATOLL_BIN") {
        return path.into();
    }
    // Tests lie in target/PROFILE/deps.
    let test = std::env::current_exe().expect("a test knows where it lies");
    let path = test
        .ancestors()
        .nth(2)
        .expect("tests lie two directories deep")
        .join("atoll");
    assert!(
        path.is_file(),
        "{} is missing: build it first (make build)",
        path.display()
    );
    path
}

/// A machine to be started.
#[derive(Debug)]
pub struct Boot {
    args: Vec<OsString>,
    dir: TempDir,
    wrapper: Vec<OsString>,
}

impl Boot {
    /// `atoll run` with nothing but what every test wants: statistics, a trail, no terminal.
    pub fn bare() -> Self {
        Self::rebooting().arg("-no-reboot")
    }

    /// The same, but a guest's reset starts it anew.
    pub fn rebooting() -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let mut boot = Self {
            args: vec!["run".into()],
            dir,
            wrapper: Vec::new(),
        };
        for flag in ["stats", "trail"] {
            let file = boot.path(flag);
            boot = boot.arg(format!("--{flag}")).arg(file);
        }
        boot.args(["-display", "none", "-serial", "stdio", "--policy", "exact"])
    }

    /// A stock kernel with the busybox shell.
    pub fn shell(guest: &str) -> Self {
        Self::kernel_of(&crate::guest(guest)).args(["-append", "console=ttyS0"])
    }

    /// The same with programs of the test's own in its file system.
    pub fn shell_with(guest: &str, programs: &[(&str, Vec<u8>)]) -> Self {
        let guest = crate::guest(guest);
        let mut initrd = fs::read(guest.initrd()).expect("a guest has an initial RAM disk");
        // Archives follow each other at multiples of four bytes.
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        initrd.extend(xtask::guest::programs(programs).expect("an archive in memory"));
        let boot = Self::kernel_of(&guest).args(["-append", "console=ttyS0"]);
        let file = boot.path("initrd");
        fs::write(&file, initrd).expect("there is room for the initial RAM disk");
        boot.arg("-initrd").arg(file)
    }

    /// A guest that is one file: another system's kernel, or a program that runs without one.
    pub fn image(guest: &str) -> Self {
        Self::bare()
            .arg("-kernel")
            .arg(crate::guest(guest).kernel())
    }

    /// Xen with Linux and the busybox shell as its first domain, whose console is Xen's.
    pub fn xen_with(guest: &str) -> Self {
        let guest = crate::guest(guest);
        let modules = format!(
            "{} console=hvc0,{}",
            guest.kernel().display(),
            guest.initrd().display()
        );
        Self::xen().args(["-m", "1024", "-initrd", &modules])
    }

    /// Xen alone.
    pub fn xen() -> Self {
        Self::image("xen").args(["-append", "console=com1 com1=115200,8n1"])
    }

    fn kernel_of(guest: &Guest) -> Self {
        Self::bare()
            .args(["-m", "512"])
            .arg("-kernel")
            .arg(guest.kernel())
            .arg("-initrd")
            .arg(guest.initrd())
    }

    /// A guest's reset starts the machine anew and does not end the run.
    pub fn with_resets(mut self) -> Self {
        self.args.retain(|arg| arg != "-no-reboot");
        self
    }

    /// A copy of the Debian disk, with its kernel.
    pub fn debian() -> Self {
        Self::debian_disk("debian")
    }

    /// Likewise, of a guest that is another Debian disk.
    pub fn debian_disk(guest: &str) -> Self {
        let guest = crate::guest(guest);
        let boot = Self::kernel_of(&guest).args(["-append", "console=ttyS0 root=/dev/vda"]);
        let disk = boot.path("disk.qcow2");
        fs::copy(guest.disk().expect("the Debian guest is a disk"), &disk)
            .expect("there is room for the disk");
        boot.drive(&disk)
    }

    /// A file of this run's own directory, which disappears with the outcome.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One more argument. Where a flag stands twice, the later one counts.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(OsString::from));
        self
    }

    /// What is typed inside the machine, in `--script`'s own words.
    pub fn script(self, text: &str) -> Self {
        let file = self.path("script");
        fs::write(&file, text).expect("a script is a small file");
        self.arg("--script").arg(file)
    }

    /// Types shell commands at the prompt, one after the other, and then switches off.
    pub fn commands(self, commands: &[&str]) -> Self {
        let steps = commands
            .iter()
            .chain(&["poweroff -f"])
            .map(|command| ("guest# ", *command));
        self.script(&typed(steps))
    }

    /// Logs in on the Debian disk, types commands, and has it shut down.
    pub fn debian_commands(self, commands: &[&str]) -> Self {
        let login = [("debian login: ", "root"), ("Password: ", "atoll")];
        let commands = commands
            .iter()
            .chain(&["poweroff"])
            .map(|command| ("root@debian:~# ", *command));
        self.script(&typed(login.into_iter().chain(commands)))
    }

    /// Adds a disk whose image is this file.
    pub fn drive(self, image: &Path) -> Self {
        self.drive_as("qcow2", image)
    }

    /// Likewise, an image without a format.
    pub fn raw_drive(self, image: &Path) -> Self {
        self.drive_as("raw", image)
    }

    fn drive_as(self, format: &str, image: &Path) -> Self {
        let option = format!("file={},format={format},if=virtio", image.display());
        self.arg("-drive").arg(option)
    }

    /// Starts atoll by way of another program.
    pub fn within(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(OsString::from).collect();
        self
    }

    /// Starts it.
    pub fn start(self) -> Running {
        let (mut child, dir) = self.spawn(Stdio::null(), Stdio::piped());
        let pipe = child.stdout.take().expect("standard output is a pipe");
        Running::new(child, pipe, dir, false)
    }

    /// Starts it on a terminal, as a session of its own that the terminal belongs to.
    pub fn start_on(self, terminal: &Terminal) -> Running {
        let this = self.within(&["setsid", "--ctty", "--wait"]);
        let (child, dir) = this.spawn(terminal.stdio(), terminal.stdio());
        Running::new(child, terminal.screen(), dir, true)
    }

    fn spawn(self, stdin: Stdio, stdout: Stdio) -> (Child, TempDir) {
        let mut words = self.wrapper;
        words.push(program().into());
        words.extend(self.args);
        let errors = File::create(self.dir.path().join("errors"));
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(stdin)
            .stdout(stdout)
            .stderr(errors.expect("errors go to a small file"))
            .spawn()
            .expect("the program can be started");
        (child, self.dir)
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Outcome {
        self.start().finish()
    }
}

/// A script that answers each prompt with a line.
fn typed<'a>(steps: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    steps
        .map(|(prompt, line)| {
            let line = line.replace('\\', "\\\\").replace('"', "\\\"");
            format!("expect \"{prompt}\"\nsend \"{line}\\n\"\n")
        })
        .collect()
}

/// A machine that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    console: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    /// How much of it lies before the end of what was last waited for.
    waited: usize,
    /// Its console does not end with it.
    on_terminal: bool,
    killed: Vec<Process>,
    dir: Option<TempDir>,
}

impl Running {
    fn new(
        child: Child,
        mut screen: impl Read + Send + 'static,
        dir: TempDir,
        on_terminal: bool,
    ) -> Self {
        let (send, console) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut bytes) {
                if send.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            console,
            seen: Vec::new(),
            waited: 0,
            on_terminal,
            killed: Vec::new(),
            dir: Some(dir),
        }
    }

    /// Waits until the console has shown `text` behind what was last waited for: a word that the kernel happens to print while it
    /// boots is no answer to what is typed later.
    pub fn wait_for(&mut self, text: &str) {
        loop {
            let unread = &self.seen[self.waited..];
            let found = unread
                .windows(text.len())
                .position(|bytes| bytes == text.as_bytes());
            if let Some(at) = found {
                self.waited += at + text.len();
                return;
            }
            if let Err(error) = self.listen() {
                panic!(
                    "{text:?} never came ({error}):\n{}\n{}",
                    self.text(),
                    self.errors()
                );
            }
        }
    }

    /// Takes in what the console shows next.
    ///
    /// # Errors
    /// Its end; or a timeout when the machine hangs.
    fn listen(&mut self) -> Result<(), RecvTimeoutError> {
        let pid = self.process().pid;
        let mut used = None;
        loop {
            match self.console.recv_timeout(SILENCE) {
                Ok(bytes) => {
                    self.seen.extend(bytes);
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = cpu_time(pid);
                    let share = |before| now.saturating_sub(before).div_duration_f64(SILENCE);
                    if used
                        .replace(now)
                        .is_some_and(|before| !BUSY_HOST.contains(&share(before)))
                    {
                        return Err(RecvTimeoutError::Timeout);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `atoll` itself.
    pub fn process(&self) -> Process {
        Process {
            pid: self.child.id() as i32,
            name: "atoll".into(),
        }
    }

    /// The processes of the machine.
    pub fn processes(&self) -> Vec<Process> {
        descendants(self.child.id() as i32)
    }

    /// The machine's process of this name; there must be one.
    pub fn named(&self, name: &str) -> Process {
        let all = self.processes();
        let mut named = all.iter().filter(|process| process.name == name);
        match (named.next(), named.next()) {
            (Some(one), None) => one.clone(),
            _ => panic!("one {name} was expected among {all:?}"),
        }
    }

    /// Kills the machine's process of this name; after an earlier kill its successor, once that is there.
    pub fn kill_one(&mut self, name: &str) {
        let deadline = Instant::now() + SILENCE;
        loop {
            let all = self.processes();
            let next = all
                .iter()
                .find(|process| process.name == name && !self.killed.contains(process));
            if let Some(process) = next {
                self.killed.push(process.clone());
                return process.kill();
            }
            assert!(Instant::now() < deadline, "no new {name} among {all:?}");
            std::thread::yield_now();
        }
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Outcome {
        while !self.on_terminal {
            match self.listen() {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it hangs:\n{}\n{}", self.text(), self.errors())
                }
            }
        }
        let status = self.child.wait().expect("the program was started by us");
        self.seen.extend(self.console.try_iter().flatten());
        let dir = self.dir.take().expect("a run ends once");
        Outcome {
            code: status.code(),
            console: self.text(),
            errors: fs::read_to_string(dir.path().join("errors")).unwrap_or_default(),
            dir,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn errors(&self) -> String {
        self.dir
            .as_ref()
            .and_then(|dir| fs::read_to_string(dir.path().join("errors")).ok())
            .unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.dir.is_some() {
            // A test failed; what it started must not outlive it, and there is nobody to tell of errors.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// What is left of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What the guest printed.
    pub console: String,
    /// What atoll printed.
    pub errors: String,
    dir: TempDir,
}

impl Outcome {
    /// Checks the exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "the console:\n{}\natoll:\n{}",
            self.console,
            self.errors
        );
        self
    }

    /// Checks that atoll's messages hold each of these texts.
    #[track_caller]
    pub fn expect_errors(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.errors.contains(text),
                "{text:?} is not in what atoll printed:\n{}",
                self.errors
            );
        }
        self
    }

    /// Checks that the console holds a text.
    #[track_caller]
    pub fn expect_console(self, text: &str) -> Self {
        assert!(
            self.console.contains(text),
            "{text:?} is not on the console:\n{}",
            self.console
        );
        self
    }

    /// The final hash, as printed.
    #[track_caller]
    pub fn hash(&self) -> String {
        let line = self
            .errors
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("final hash "));
        line.unwrap_or_else(|| panic!("atoll printed no final hash:\n{}", self.errors))
            .trim()
            .to_owned()
    }

    /// A file that the run left in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The statistics.
    #[track_caller]
    pub fn stats(&self) -> Value {
        let text = fs::read_to_string(self.path("stats")).expect("atoll wrote its statistics");
        serde_json::from_str(&text).expect("the statistics are JSON")
    }
}
