//! The owner of a run: its console, its signals, and the end of everything that it started.
//!
//! One thread, one poll. The terminal is raw from the moment at which the broker knows what it was
//! like before, so that one of the two puts it back whichever dies.

use anyhow::Context;
use atoll_abi::control::{Control, ExitReport, LogLevel, LogRecord, MonitorReply, MonitorRequest};
use atoll_abi::exit::ExitReason;
use atoll_transport::process::ProcessHandle;
use atoll_transport::{Error, Session};
use char_backend::{Console, Escape, HELP, Key, RawTerminal};
use machine_spec::{CharBackend, Machine};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::end::without_report;

/// How long processes may take to see that their broker is gone, and to settle.
const ORPHANS: Duration = Duration::from_secs(10);
/// Typed bytes that wait at most; beyond, the terminal keeps them.
const MOST_TYPED: usize = 4096;

/// The signals that mean something to a run, taken by a descriptor.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    pub(crate) fn block() -> anyhow::Result<Self> {
        let taken = [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGCHLD,
        ];
        let set: SigSet = taken.into_iter().collect();
        set.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags).context("signalfd")?))
    }
}

/// See the module's documentation.
pub(crate) struct Owner {
    session: Session,
    console: Option<Console>,
    signals: Signals,
    escape: Escape,
    raw: Option<RawTerminal>,
    /// Standard input is a terminal, and has to become raw before it is read.
    is_terminal: bool,
    input_open: bool,
    output_open: bool,
    /// The machine does not start by itself.
    is_held: bool,
    asked_to_quit: bool,
    report: Option<ExitReport>,
    /// The last line that the user was shown, so that the end does not say it again.
    last_said: String,
    /// Sockets that serial lines listen on; seriald cannot remove its own from within its sandbox.
    sockets: Vec<PathBuf>,
}

impl Owner {
    pub(crate) fn new(
        session: Session,
        console: Option<Console>,
        signals: Signals,
        machine: &Machine,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            session,
            input_open: console.is_some(),
            console,
            signals,
            escape: Escape::default(),
            raw: None,
            is_terminal: rustix::termios::isatty(rustix::stdio::stdin()),
            output_open: true,
            is_held: machine.start_stopped,
            asked_to_quit: false,
            report: None,
            last_said: String::new(),
            sockets: sockets(machine),
        })
    }

    /// Follows the run to its end. When this returns, no process of it is left.
    pub(crate) fn follow(mut self) -> anyhow::Result<ExitReport> {
        if self.is_held {
            let pid = std::process::id();
            self.say(&format!("the machine is held; kill -USR1 {pid} starts it"));
        }
        let over = loop {
            self.wait(None)?;
            self.signals();
            self.console();
            self.input();
            match self.messages() {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let mut report = match (self.report.take(), over) {
            (Some(report), _) => report,
            (None, Err(Error::HangUp) | Ok(())) => without_report(ExitReason::BrokerLost, ""),
            (None, Err(error)) => without_report(ExitReason::BrokerLost, error.to_string()),
        };
        if self.bury()? && report.reason == ExitReason::PowerOff {
            report.detail = "a process did not end by itself and was killed".to_owned();
        }
        if report.detail == self.last_said {
            report.detail.clear();
        }
        for socket in &self.sockets {
            remove_socket(socket);
        }
        // The terminal is put back before anything else is printed on it.
        self.raw = None;
        Ok(report)
    }

    /// Waits until there is something to do, or so long.
    fn wait(&self, most: Option<Duration>) -> io::Result<()> {
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![
            PollFd::new(&self.session, PollFlags::IN),
            PollFd::new(&self.signals.0, PollFlags::IN),
        ];
        if let Some(console) = &self.console {
            let room = if console.has_typed() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds.push(PollFd::new(console, PollFlags::IN | room));
        }
        if self.reads_input() {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        let timeout = most.and_then(|most| most.try_into().ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn reads_input(&self) -> bool {
        let waits = self.console.as_ref().is_none_or(Console::has_typed);
        self.input_open && !waits && (self.raw.is_some() || !self.is_terminal)
    }

    /// Takes what the broker says; `true` at the end of the run.
    fn messages(&mut self) -> Result<bool, Error> {
        while let Some(message) = self.session.try_recv()? {
            match message.control {
                Control::MonitorReply(MonitorReply::Ended(report)) => {
                    self.report = Some(report);
                    return Ok(true);
                }
                Control::MonitorReply(MonitorReply::Log { record, .. }) => self.log(&record),
                Control::MonitorReply(MonitorReply::Failed { reason }) => self.say(&reason),
                // The answer to the first question: the broker knows the terminal now.
                Control::MonitorReply(MonitorReply::Status(_)) => self.enter_raw(),
                _ => {}
            }
        }
        Ok(false)
    }

    fn enter_raw(&mut self) {
        if self.is_terminal && self.console.is_some() && self.raw.is_none() {
            // A terminal that is gone by now will also be seen by who reads it.
            self.raw = RawTerminal::enter(rustix::stdio::stdin()).ok().flatten();
        }
    }

    fn log(&mut self, record: &LogRecord) {
        if record.level <= LogLevel::Warn {
            self.say(&record.text);
        }
    }

    /// One line for the user, also while the terminal is raw.
    fn say(&mut self, text: &str) {
        self.last_said = text.to_owned();
        let end = if self.raw.is_some() { "\r\n" } else { "\n" };
        let text = text.trim_end().replace('\n', end);
        // There is nobody to tell that standard error is gone.
        let _ = write!(io::stderr(), "atoll: {text}{end}");
    }

    fn ask(&mut self, request: MonitorRequest) {
        self.asked_to_quit |= request == MonitorRequest::Quit;
        // A broker that is gone is noticed when its messages are read.
        let _ = self.session.send(&Control::Monitor(request));
    }

    fn signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.0.read_signal() {
            match i32::try_from(signal.ssi_signo)
                .ok()
                .and_then(|n| Signal::try_from(n).ok())
            {
                Some(Signal::SIGTERM) => self.ask(MonitorRequest::Terminate),
                Some(Signal::SIGINT | Signal::SIGHUP) => self.ask(MonitorRequest::Quit),
                Some(Signal::SIGUSR1) => self.ask(MonitorRequest::Resume),
                _ => {}
            }
        }
    }

    /// Shows what the guest sent, and passes on what was typed.
    fn console(&mut self) {
        let Some(console) = &mut self.console else {
            return;
        };
        let mut text = Vec::new();
        let mut open = true;
        // Bounded, so that a chatty guest does not keep the keyboard waiting.
        for _ in 0..16 {
            match console.receive(&mut text) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if console.send().is_err() {
            open = false;
        }
        if !open {
            self.console = None;
        }
        self.show(&text);
    }

    fn show(&mut self, text: &[u8]) {
        if text.is_empty() || !self.output_open {
            return;
        }
        let mut output = io::stdout();
        if output
            .write_all(text)
            .and_then(|()| output.flush())
            .is_err()
        {
            self.output_open = false;
            self.leave("the console's output is closed");
        }
    }

    /// Nobody can see or use the console any more.
    fn leave(&mut self, why: &str) {
        if !self.asked_to_quit {
            self.say(why);
            self.ask(MonitorRequest::Quit);
        }
    }

    fn input(&mut self) {
        if !self.reads_input() {
            return;
        }
        let stdin = rustix::stdio::stdin();
        let mut fds = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if !matches!(poll(&mut fds, Some(&now)), Ok(1)) {
            return;
        }
        let mut typed = [0; MOST_TYPED];
        match rustix::io::read(stdin, &mut typed[..]) {
            Ok(0) => self.end_of_input(),
            Ok(length) => self.typed(&typed[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.end_of_input(),
        }
    }

    /// A pipe or file that is read to its end is all that is typed; a terminal that ends was closed.
    fn end_of_input(&mut self) {
        self.input_open = false;
        if self.is_terminal {
            self.leave("the terminal is closed");
        }
    }

    fn typed(&mut self, typed: &[u8]) {
        let mut text = Vec::new();
        // Only a terminal has somebody at it who may want to say something to us.
        let keys = match self.is_terminal {
            true => self.escape.filter(typed, &mut text),
            false => {
                text.extend_from_slice(typed);
                Vec::new()
            }
        };
        for key in keys {
            match key {
                Key::Quit => self.ask(MonitorRequest::Quit),
                Key::PowerButton => self.ask(MonitorRequest::PowerButton),
                Key::Help => self.show(HELP.as_bytes()),
            }
        }
        if let Some(console) = &mut self.console {
            console.type_in(&text);
            let _ = console.send();
        }
    }

    /// Waits for every process of the run, showing what the guest still says. `true` if some had to
    /// be killed.
    fn bury(&mut self) -> anyhow::Result<bool> {
        let deadline = Instant::now() + ORPHANS;
        self.input_open = false;
        let mut killed = false;
        while !reap() {
            if Instant::now() >= deadline {
                killed = true;
                children().iter().for_each(|child| drop(child.kill()));
            }
            // SIGCHLD ends the wait; the limit is for the deadline.
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait_for_children(left.max(Duration::from_millis(50)))?;
            self.signals();
            self.console();
        }
        // What the last process sent is still in the socket.
        let mut text = Vec::new();
        if let Some(mut console) = self.console.take() {
            while matches!(console.receive(&mut text), Ok(true)) {}
        }
        self.show(&text);
        Ok(killed)
    }

    /// As [`Self::wait`], without the broker: it has hung up.
    fn wait_for_children(&self, most: Duration) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.signals.0, PollFlags::IN)];
        if let Some(console) = &self.console {
            fds.push(PollFd::new(console, PollFlags::IN));
        }
        let timeout = most.try_into().ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn sockets(machine: &Machine) -> Vec<PathBuf> {
    let path = |serial| match machine.backend_of(serial) {
        CharBackend::Unix { path, .. } => Some(path.clone()),
        _ => None,
    };
    machine.serials.iter().filter_map(path).collect()
}

/// Removes a socket on which nobody listens any more. Another run may have taken the path over.
fn remove_socket(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        // If it cannot be removed, the next run takes it over.
        let _ = std::fs::remove_file(path);
    }
}

/// Collects children that have ended; `true` once there are none.
fn reap() -> bool {
    use rustix::process::{WaitOptions, wait};
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Our children that are alive, orphans of the broker among them.
fn children() -> Vec<ProcessHandle> {
    let list = format!("/proc/self/task/{}/children", std::process::id());
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(|pid| ProcessHandle::open(pid).ok())
        .collect()
}
