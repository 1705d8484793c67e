//! The broker from outside: this test owns the machine, and its processes are fakes that behave as they are told.

use atoll_abi::control::{
    Control, Hello, MonitorReply, MonitorRequest, PeerStatus, Role, RunRequest,
};
use atoll_abi::exit::ExitReason;
use atoll_abi::{ABI_VERSION, PAGE, PeerId, VirtualTime};
use atoll_transport::attach::Outgoing;
use atoll_transport::process::{ProcessHandle, inherit};
use atoll_transport::{Segment, Session};
use machine_spec::{Blob, Draft, Policy, Resolved};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the fakes are told: the worker, the serial line, the disk.
type Words<'a> = [&'a str; 3];

/// A broker with a machine, owned by this test.
struct Machine {
    folder: TempDir,
    broker: Child,
    owner: Session,
    log: Vec<String>,
    replies: Vec<MonitorReply>,
    ended: Option<atoll_abi::control::ExitReport>,
}

impl Machine {
    fn start(words: Words<'_>) -> Self {
        Self::start_in(programs(), words, &[])
    }

    fn start_in(folder: TempDir, words: Words<'_>, arguments: &[&str]) -> Self {
        let (owner, theirs) = Session::pair().unwrap();
        let mut command = Command::new(folder.path().join("broker"));
        let fd = inherit(&mut command, vec![theirs.into_fd()])[0];
        command
            .current_dir(folder.path())
            .arg("--session-fd")
            .arg(fd.to_string())
            .args(arguments);
        let broker = command.stdin(Stdio::null()).spawn().unwrap();
        drop(command);
        let mut machine = Self {
            folder,
            broker,
            owner,
            log: Vec::new(),
            replies: Vec::new(),
            ended: None,
        };
        greet(&mut machine.owner);
        machine.run(words);
        machine
    }

    fn run(&mut self, [worker, serial, disk]: Words<'_>) {
        let drive = format!("file={disk},if=virtio,format=raw,id=vda");
        let serial = match serial {
            "pty" => serial.to_owned(),
            word => format!("file:{word}"),
        };
        let trail = self.folder.path().join("trail");
        let flags = [
            "-kernel", "k", "-m", "16", "-append", worker, "-serial", &serial, "-drive", &drive,
            "--trail",
        ];
        let mut flags: Vec<String> = flags.map(str::to_owned).into();
        flags.push(trail.to_str().unwrap().to_owned());
        let mut draft = Draft::new();
        assert!(draft.read_flags(&flags).is_empty());
        let machine = draft.finish().unwrap();
        let kernel = Segment::from_bytes("kernel", &[1; 5000]).unwrap();
        let resolved = Resolved {
            rtc_epoch: 0,
            seed: 0,
            policy: Policy::Exact,
            script: Vec::new(),
            bios: None,
            kernel: Some(Blob {
                index: 0,
                len: 5000,
            }),
            modules: Vec::new(),
        };
        let mut out = Outgoing::default();
        out.blob(0, 5000, &kernel).unwrap();
        let request = RunRequest {
            machine: machine.to_bytes().unwrap(),
            resolved: resolved.to_bytes(),
            segments: out.segments,
            files: Vec::new(),
        };
        self.owner
            .send_with(&Control::Run(request), &out.fds)
            .unwrap();
    }

    /// Takes what the broker says until `enough`.
    fn listen(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            let message = self
                .owner
                .recv(Some(deadline))
                .unwrap_or_else(|error| panic!("{what}: {error}: {:#?}", self.log));
            let message = message.unwrap_or_else(|| panic!("{what} never came: {:#?}", self.log));
            match message.control {
                Control::MonitorReply(MonitorReply::Log { record, .. }) => {
                    self.log.push(record.text)
                }
                Control::MonitorReply(MonitorReply::Ended(report)) => self.ended = Some(report),
                Control::MonitorReply(reply) => self.replies.push(reply),
                other => panic!("{other:?}"),
            }
        }
    }

    fn wait_log(&mut self, text: &str) {
        self.listen(text, |machine| {
            machine.log.iter().any(|line| line.contains(text))
        });
    }

    fn ask(&mut self, request: MonitorRequest) -> MonitorReply {
        self.owner.send(&Control::Monitor(request)).unwrap();
        self.listen("a reply", |machine| !machine.replies.is_empty());
        self.replies.remove(0)
    }

    fn peers(&mut self) -> Vec<PeerStatus> {
        match self.ask(MonitorRequest::Peers) {
            MonitorReply::Peers(peers) => peers,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the process at a place has another generation, and gives that.
    fn wait_generation(&mut self, index: usize, generation: u32) -> PeerStatus {
        let what = format!("{index}.{generation} is told to");
        let id = PeerId::new(index as u16 + 1, generation);
        self.wait_log(&format!("{id} is told to"));
        self.peers()
            .into_iter()
            .nth(index)
            .filter(|peer| peer.peer == id)
            .expect(&what)
    }

    fn processes(&mut self) -> Vec<ProcessHandle> {
        let pids = self
            .peers()
            .into_iter()
            .map(|peer| peer.pid)
            .filter(|pid| *pid != 0);
        pids.map(|pid| ProcessHandle::open(pid).unwrap()).collect()
    }

    /// The end, after which nothing of the machine is left.
    fn end(&mut self) -> (ExitReason, String) {
        self.listen("the end", |machine| machine.ended.is_some());
        let report = self.ended.clone().unwrap();
        let status = self.broker.wait().unwrap();
        assert_eq!(
            status.code(),
            Some(i32::from(report.reason.code())),
            "{report:?}"
        );
        (report.reason, report.detail)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

fn greet(session: &mut Session) {
    let hello = Hello {
        abi_version: ABI_VERSION,
        role: Role::Cli,
        pid: 1,
        binary: "test".into(),
        name: String::new(),
    };
    session.send(&Control::Hello(hello)).unwrap();
    let welcome = session
        .recv(Some(Instant::now() + PATIENCE))
        .unwrap()
        .expect("an answer");
    assert!(
        matches!(welcome.control, Control::Welcome { .. }),
        "{welcome:?}"
    );
}

/// A folder with the broker, and fakes under the names of the real binaries.
fn programs() -> TempDir {
    let broker = Path::new(env!("CARGO_BIN_EXE_broker"));
    let fake = broker.parent().unwrap().join("examples/fake_peer");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place =
        |from: &Path, name: &str| std::fs::hard_link(from, folder.path().join(name)).unwrap();
    place(broker, "broker");
    ["cpu-worker", "seriald", "blockd"]
        .into_iter()
        .for_each(|name| place(&fake, name));
    folder
}

fn assert_dead(processes: &[ProcessHandle]) {
    for process in processes {
        assert!(
            process.wait_dead(Some(Instant::now() + PATIENCE)).unwrap(),
            "process {} is left",
            process.pid()
        );
    }
}

const GOOD: Words<'static> = ["run", "serve", "serve"];

#[test]
fn a_machine_runs_to_its_end_and_leaves_its_trail() {
    let mut machine = Machine::start(["off", "serve", "serve"]);
    assert_eq!(machine.end().0, ExitReason::PowerOff);
    let report = machine.ended.clone().unwrap();
    assert_eq!((report.final_hash, report.instructions), ([7; 32], 7));
    assert!(
        machine
            .log
            .iter()
            .any(|line| line == "16 MiB, 2 links, Exact"),
        "{:?}",
        machine.log
    );
    let trail = std::fs::read_to_string(machine.folder.path().join("trail")).unwrap();
    assert_eq!(trail, "{\"end\":1}\n");
}

#[test]
fn a_killed_back_end_is_replaced_and_the_worker_told() {
    for (index, name, link) in [(1, "serial0", 0), (2, "vda", 1)] {
        let mut machine = Machine::start(GOOD);
        machine.wait_log("worker is at");
        let before = machine.peers().remove(index);
        assert_eq!((before.name.as_str(), before.restarts), (name, 0));
        ProcessHandle::open(before.pid).unwrap().kill().unwrap();
        let after = machine.wait_generation(index, 1);
        assert_eq!((after.restarts, after.pid != before.pid), (1, true));
        machine.wait_log(&format!(
            "worker heard LinkLost {{ link: LinkId({link}), generation: 0 }}"
        ));
        machine.wait_log(&format!(
            "worker heard LinkReplaced {{ link: LinkId({link}), generation: 1 }}"
        ));
        let processes = machine.processes();
        assert_eq!(machine.ask(MonitorRequest::Quit), MonitorReply::Done);
        assert_eq!(machine.end().0, ExitReason::Quit);
        assert_dead(&processes);
    }
}

#[test]
fn the_death_of_the_worker_ends_everything() {
    let mut machine = Machine::start(GOOD);
    machine.wait_log("worker is at");
    let processes = machine.processes();
    processes[0].kill().unwrap();
    let (reason, detail) = machine.end();
    assert_eq!(
        (reason, detail.as_str()),
        (ExitReason::WorkerLost, "it was killed by signal 9")
    );
    assert_dead(&processes);
    let mut machine = Machine::start(["die", "serve", "serve"]);
    assert_eq!(machine.end().0, ExitReason::WorkerLost);
}

#[test]
fn nothing_outlives_the_broker_or_the_owner() {
    let mut machine = Machine::start(GOOD);
    machine.wait_log("worker is at");
    let processes = machine.processes();
    machine.broker.kill().unwrap();
    machine.broker.wait().unwrap();
    assert_dead(&processes);

    let mut machine = Machine::start(GOOD);
    machine.wait_log("worker is at");
    let processes = machine.processes();
    machine.owner = Session::pair().unwrap().0;
    let status = machine.broker.wait().unwrap();
    assert_eq!(status.code(), Some(i32::from(ExitReason::Quit.code())));
    assert_dead(&processes);
}

#[test]
fn what_cannot_be_served_is_refused_with_its_reason() {
    for (words, text) in [
        (["run", "serve", "locked"], "vda: it is Locked"),
        (["run", "serve", "bad"], "vda: it is Config"),
        (["bad", "serve", "serve"], "it is Config"),
    ] {
        let mut machine = Machine::start(words);
        assert_eq!(machine.end(), (ExitReason::BadConfig, text.to_owned()));
    }
    let mut machine = Machine::start(GOOD);
    machine.wait_log("worker is at");
    machine.run(GOOD);
    let deadline = Some(Instant::now() + PATIENCE);
    let refused =
        std::iter::from_fn(|| machine.owner.recv(deadline).unwrap()).find_map(|message| {
            match message.control {
                Control::Refused { reason } => Some(reason),
                _ => None,
            }
        });
    assert!(refused.is_some_and(|reason| reason.contains("runs a machine already")));
}

#[test]
fn a_missing_binary_is_named() {
    let folder = programs();
    std::fs::remove_file(folder.path().join("blockd")).unwrap();
    let mut machine = Machine::start_in(folder, GOOD, &[]);
    let (reason, detail) = machine.end();
    assert_eq!(reason, ExitReason::BadConfig);
    assert!(detail.contains("blockd' does not exist"), "{detail}");
}

#[test]
fn a_peer_that_fails_or_presumes_is_replaced() {
    let mut machine = Machine::start(["run", "crash crash serve", "presume serve"]);
    machine.wait_log("worker is at");
    let restarts: Vec<u32> = machine.peers().iter().map(|peer| peer.restarts).collect();
    assert_eq!(restarts, [0, 2, 1]);
    assert!(
        machine
            .log
            .iter()
            .any(|line| line.contains("a Block may not send Trail")),
        "{:?}",
        machine.log
    );
    machine.end_by_quit();
    let trail = std::fs::read_to_string(machine.folder.path().join("trail")).unwrap();
    assert_eq!(trail, "", "what a disk forged is not in it");
}

#[test]
fn a_lock_that_somebody_else_holds_is_waited_for() {
    let mut machine = Machine::start(["run", "serve", "serve locked locked serve"]);
    machine.wait_log("worker is at");
    let disk = machine.peers().remove(2);
    ProcessHandle::open(disk.pid).unwrap().kill().unwrap();
    machine.wait_log("vda is lost (it is Locked)");
    assert_eq!(machine.peers()[2].waiting.as_deref(), Some("it is Locked"));
    machine.wait_generation(2, 3);
    machine.end_by_quit();
}

#[test]
fn what_outlives_a_server_is_handed_to_each() {
    let mut machine = Machine::start(["run", "pty", "serve,snapshot=on"]);
    machine.wait_log("worker is at");
    for peer in &machine.peers()[1..] {
        ProcessHandle::open(peer.pid).unwrap().kill().unwrap();
    }
    for text in [
        "2.0 is told to serve with [\"pty\"]",
        "2.1 is told to serve with [\"pty\"]",
        "3.0 is told to serve with [\"overlay\"]",
        "3.1 is told to serve with [\"overlay\"]",
    ] {
        machine.wait_log(text);
    }
    machine.end_by_quit();
}

#[test]
fn one_that_does_not_stop_is_killed() {
    let mut machine = Machine::start(["run", "stay", "serve"]);
    machine.wait_log("worker is at");
    let processes = machine.processes();
    machine.end_by_quit();
    assert!(
        machine
            .log
            .iter()
            .any(|line| line == "serial0 did not end in time")
    );
    assert_dead(&processes);
}

#[test]
fn time_is_moved_by_its_horizon() {
    let mut machine = Machine::start(GOOD);
    machine.wait_log("worker is at");
    let status = machine.ask(MonitorRequest::Status);
    assert!(
        matches!(status, MonitorReply::Status(ref status) if status.running && status.horizon.is_never()),
        "{status:?}"
    );
    assert_eq!(machine.ask(MonitorRequest::Pause), MonitorReply::Done);
    let status = machine.ask(MonitorRequest::Status);
    assert!(
        matches!(status, MonitorReply::Status(ref status) if !status.running),
        "{status:?}"
    );
    let run_until = |seconds| MonitorRequest::RunUntil {
        at: VirtualTime::from_secs(seconds),
    };
    assert_eq!(
        machine.ask(run_until(1800)),
        MonitorReply::Done,
        "it stands there already"
    );
    machine
        .owner
        .send(&Control::Monitor(run_until(7200)))
        .unwrap();
    let failed = machine.ask(MonitorRequest::Quit);
    assert!(
        matches!(failed, MonitorReply::Failed { .. }),
        "what was waited for will not come: {failed:?}"
    );
    machine.end_by_quit();
}

#[test]
fn the_power_button_ends_a_machine_that_listens() {
    let mut machine = Machine::start(GOOD);
    machine.wait_log("worker is at");
    assert_eq!(machine.ask(MonitorRequest::Terminate), MonitorReply::Done);
    assert_eq!(machine.end().0, ExitReason::PowerOff);
}

#[test]
fn peers_that_others_start_come_by_name() {
    let socket = std::env::temp_dir().join(format!("atoll-broker-{}", std::process::id()));
    let path = socket.to_str().unwrap().to_owned();
    let mut machine =
        Machine::start_in(programs(), GOOD, &["--listen", &path, "--external", "vda"]);
    let knock = |machine: &Machine, name: &str| {
        let mut command = Command::new(machine.folder.path().join("blockd"));
        command
            .args(["--socket", &path, "--name", name])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let refusal =
        |child: Child| String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    machine.wait_log("Char serves");
    let other = refusal(knock(&machine, "vdb"));
    assert!(
        other.contains("no 'vdb'; it has worker, serial0, vda"),
        "{other}"
    );
    assert!(refusal(knock(&machine, "serial0")).contains("served by a Char"));
    let mut first = knock(&machine, "vda");
    machine.wait_log("worker is at");
    let second = refusal(knock(&machine, "vda"));
    assert!(
        second.contains(&format!("served by process {} already", first.id())),
        "{second}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    machine.listen("the loss", |machine| {
        machine.log.iter().any(|line| line.contains("vda is lost"))
    });
    let mut third = knock(&machine, "vda");
    machine.wait_log("3.1 is told to");
    machine.end_by_quit();
    assert!(third.wait().unwrap().success());
    assert!(!PathBuf::from(&path).exists(), "the socket is removed");
}

impl Machine {
    fn end_by_quit(&mut self) {
        if self.ended.is_none() {
            self.owner
                .send(&Control::Monitor(MonitorRequest::Quit))
                .unwrap();
        }
        assert_eq!(self.end().0, ExitReason::Quit);
    }
}

/// A request of the wrong shape is answered and ends nothing else than itself.
#[test]
fn a_request_that_makes_no_sense_is_a_bad_configuration() {
    let folder = programs();
    let (mut owner, theirs) = Session::pair().unwrap();
    let mut command = Command::new(folder.path().join("broker"));
    let fd = inherit(&mut command, vec![theirs.into_fd()])[0];
    let mut broker = command
        .arg("--session-fd")
        .arg(fd.to_string())
        .spawn()
        .unwrap();
    drop(command);
    greet(&mut owner);
    let segment = atoll_abi::control::SegmentDesc {
        role: atoll_abi::control::SegmentRole::Blob(0),
        len: PAGE as u64,
        source: atoll_abi::control::SegmentSource::Fd(3),
    };
    let request = RunRequest {
        machine: vec![1],
        resolved: vec![],
        segments: vec![segment],
        files: vec![],
    };
    owner.send(&Control::Run(request)).unwrap();
    let answer = owner
        .recv(Some(Instant::now() + PATIENCE))
        .unwrap()
        .unwrap()
        .control;
    let Control::MonitorReply(MonitorReply::Ended(report)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(report.reason, ExitReason::BadConfig);
    assert_eq!(broker.wait().unwrap().code(), Some(2));
}
