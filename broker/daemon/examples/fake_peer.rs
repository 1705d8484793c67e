//! A process of a machine that serves nobody, for tests of the broker: under the name of a real binary it speaks the session as that
//! one does, or misbehaves as it is told.
//!
//! It is told by what the machine file has: a worker by the kernel command line, a disk by its path, a serial line by its file. Of a
//! list of words the first is for the first generation, the next for the next, and the last for all that follow.

use atoll_abi::clock::{ClockPage, RunState, WorkerState};
use atoll_abi::config::{CharKind, Config};
use atoll_abi::control::{
    Attach, Control, ExitReport, Fault, FaultKind, Hello, LogLevel, LogRecord, Role, SegmentRole,
};
use atoll_abi::exit::ExitReason;
use atoll_abi::{ABI_VERSION, VirtualTime};
use atoll_transport::attach::Incoming;
use atoll_transport::{Message, Session, View, process};
use machine_spec::WorkerMachine;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(20);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let own = std::path::Path::new(&arguments[0])
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let role = match own {
        "cpu-worker" => Role::Worker,
        "seriald" => Role::Char,
        _ => Role::Block,
    };
    let (session, name) = match arguments[1].as_str() {
        "--session-fd" => (
            Session::from_fd(process::take_inherited(arguments[2].parse().unwrap()).unwrap()),
            String::new(),
        ),
        _ => (
            Session::connect(arguments[2].as_ref()).unwrap(),
            arguments[4].clone(),
        ),
    };
    Peer { session, role }.live(name);
}

struct Peer {
    session: Session,
    role: Role,
}

impl Peer {
    fn live(mut self, name: String) {
        let version = if name == "old" {
            ABI_VERSION + 1
        } else {
            ABI_VERSION
        };
        let pid = std::process::id();
        self.say(Control::Hello(Hello {
            abi_version: version,
            role: self.role,
            pid,
            binary: "fake".into(),
            name,
        }));
        let (attach, message) = loop {
            let message = self
                .session
                .recv(None)
                .expect("a broker")
                .expect("no deadline");
            match message.control.clone() {
                Control::Attach(attach) => break (attach, message),
                Control::Refused { reason } => {
                    eprintln!("{reason}");
                    std::process::exit(4);
                }
                _ => {}
            }
        };
        let word = word(&attach);
        let files: Vec<_> = attach.files.iter().map(|file| file.name.as_str()).collect();
        let who = format!("{:?} {}", self.role, attach.peer);
        self.log(format!("{who} is told to {word} with {files:?}"));
        match self.role {
            Role::Worker => self.work(&attach, message, &word),
            _ => self.serve(&word),
        }
    }

    fn say(&self, control: Control) {
        if self.session.send(&control).is_err() {
            std::process::exit(0);
        }
    }

    fn log(&self, text: String) {
        self.say(Control::Log(LogRecord {
            level: LogLevel::Info,
            at: None,
            text,
        }));
    }

    fn fault(&self, kind: FaultKind) -> ! {
        self.say(Control::Fault(Fault {
            kind,
            what: format!("it is {kind:?}"),
        }));
        std::process::exit(3);
    }

    fn serve(mut self, word: &str) {
        match word {
            "locked" => self.fault(FaultKind::Locked),
            "bad" => self.fault(FaultKind::Config),
            "crash" => std::process::exit(9),
            // What only a worker may say.
            "presume" => self.say(Control::Trail(b"forged\n".to_vec())),
            _ => {}
        }
        self.say(Control::Ready);
        let mut next = Instant::now();
        loop {
            match self.session.recv(Some(next)) {
                Ok(Some(Message {
                    control: Control::Start,
                    ..
                })) => self.log(format!("{:?} serves", self.role)),
                Ok(Some(Message {
                    control: Control::Stop { .. },
                    ..
                })) if word == "stay" => {}
                Ok(Some(Message {
                    control: Control::Stop { .. },
                    ..
                }))
                | Err(_) => return,
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.say(Control::Heartbeat { progress: 1 });
                    next = Instant::now() + Duration::from_millis(500);
                }
            }
        }
    }

    fn work(mut self, attach: &Attach, message: Message, word: &str) {
        let mut incoming = Incoming::new(attach, message.fds);
        let clock: View<ClockPage> = incoming.page(SegmentRole::Clock).expect("a clock");
        let ram = incoming.guest_ram().expect("RAM");
        let links = incoming.links(None).expect("links").len();
        self.log(format!(
            "{} MiB, {links} links, {:?}",
            ram.len() >> 20,
            clock.policy()
        ));
        if word == "bad" {
            self.fault(FaultKind::Config);
        }
        self.say(Control::Ready);
        let mut pressed = false;
        while clock.run_state() != RunState::Stopping && !(pressed && word == "run") {
            if clock.run_state() == RunState::Running {
                self.run(&clock, word);
            }
            match self.session.recv(Some(Instant::now() + LOOK)) {
                Ok(Some(Message {
                    control: Control::PowerButton,
                    ..
                })) => pressed = true,
                Ok(Some(Message {
                    control: Control::Stop { .. },
                    ..
                })) => break,
                Ok(Some(Message { control, .. })) => self.log(format!("worker heard {control:?}")),
                Ok(None) => {}
                Err(_) => return,
            }
        }
        self.report(
            &clock,
            if pressed {
                ExitReason::PowerOff
            } else {
                ExitReason::Terminated
            },
        );
    }

    /// Comes as far as it may at once; a horizon that is never reached is an hour away.
    fn run(&self, clock: &ClockPage, word: &str) {
        match word {
            "off" => {
                self.say(Control::Trail(b"{\"end\":1}\n".to_vec()));
                self.report(clock, ExitReason::PowerOff);
                std::process::exit(0);
            }
            "die" => std::process::abort(),
            _ => {}
        }
        let reached = clock.horizon().min(VirtualTime::from_secs(3600));
        if clock.now() < reached {
            clock.publish_now(reached, 7);
            clock.set_worker_state(WorkerState::AtHorizon, None);
            self.log(format!("worker is at {reached}"));
        }
    }

    fn report(&self, clock: &ClockPage, reason: ExitReason) {
        self.say(Control::ExitReport(ExitReport {
            reason,
            detail: String::new(),
            now: clock.now(),
            instructions: 7,
            final_hash: [7; 32],
            stats: "{}".into(),
        }));
    }
}

fn word(attach: &Attach) -> String {
    let words = match &attach.config {
        Config::Worker(config) => {
            WorkerMachine::from_bytes(&config.machine)
                .expect("a machine")
                .guest
                .append
        }
        Config::Block(config) => config.path.clone(),
        Config::Char(config) => match &config.kind {
            CharKind::File { path, .. } => path.clone(),
            _ => "serve".into(),
        },
        Config::Seat(_) => "serve".into(),
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let index = (attach.peer.generation as usize).min(words.len() - 1);
    words[index].to_owned()
}
