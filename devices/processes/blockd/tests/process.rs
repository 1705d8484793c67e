//! The real binary, with this test as its broker and its worker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest, DiskFlags, DiskInfo};
use atoll_abi::config::{BlockConfig, CacheMode, Config, ImageFormat};
use atoll_abi::control::{
    Attach, Control, Fault, FaultKind, FileDesc, LinkDesc, Role, SegmentDesc, SegmentRole,
    SegmentSource,
};
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::{ABI_VERSION, LinkId, PeerId, Status, VirtualTime};
use atoll_transport::{LinkClient, LinkMemory, Listener, Session, SubmitError, Waiter, process};
use rustix::event::{PollFd, PollFlags};

const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: u64 = 8 << 20;

fn deadline() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// A machine that has one disk and no CPU.
struct Machine {
    config: BlockConfig,
    overlay: Option<OwnedFd>,
    client: LinkClient,
    waiter: Waiter,
    generation: u32,
    time: u64,
}

/// One blockd, and the broker's end of its session.
struct Process {
    child: Child,
    session: Session,
}

impl Machine {
    fn new(image: &Path, format: ImageFormat) -> Machine {
        let config = BlockConfig {
            path: image.to_str().unwrap().into(),
            format,
            read_only: false,
            cache: CacheMode::Writeback,
            snapshot: false,
            discard: true,
            detect_zeroes: false,
            backing_allowed: Vec::new(),
            lock: true,
            label: "disk0".into(),
        };
        let geometry = LinkGeometry {
            slots: 64,
            request_arena: 4 << 20,
            ..LinkGeometry::default_for(LinkKind::Block)
        };
        let link = LinkMemory::create("test-link", LinkKind::Block, &geometry, 0).unwrap();
        let waiter = link.client_bell().waiter();
        Machine {
            config,
            overlay: None,
            client: LinkClient::new(link).unwrap(),
            waiter,
            generation: 0,
            time: 0,
        }
    }

    /// Starts a blockd and hands the link over, up to `Start`.
    fn start(&mut self) -> Process {
        let mut process = self.attach();
        process.expect(|control| matches!(control, Control::Ready));
        process.session.send(&Control::Start).unwrap();
        process
    }

    fn attach(&mut self) -> Process {
        let (ours, theirs) = Session::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_blockd"));
        let fds = process::inherit(&mut command, vec![theirs.into_fd()]);
        let child = command
            .args(["--session-fd", &fds[0].to_string()])
            .spawn()
            .unwrap();
        drop(command);
        let process = Process {
            child,
            session: ours,
        };
        self.welcome(process, "")
    }

    /// Shakes hands with a process that says it is `name`.
    fn welcome(&self, mut process: Process, name: &str) -> Process {
        let hello = process.expect(|control| matches!(control, Control::Hello(_)));
        let Control::Hello(hello) = hello else {
            unreachable!()
        };
        assert_eq!((hello.role, hello.pid), (Role::Block, process.child.id()));
        assert_eq!(hello.name, name);
        let peer = PeerId::new(1, self.generation);
        process
            .session
            .send(&Control::Welcome {
                abi_version: ABI_VERSION,
                peer,
            })
            .unwrap();
        self.hand_over(&process, peer);
        process
    }

    fn hand_over(&self, process: &Process, peer: PeerId) {
        let link = self.client.link();
        let desc = LinkDesc {
            link: LinkId(0),
            kind: LinkKind::Block,
            generation: self.generation,
            geometry: *link.geometry(),
        };
        let attach = Attach {
            peer,
            config: Config::Block(self.config.clone()),
            segments: vec![SegmentDesc {
                role: SegmentRole::Link(desc),
                len: link.segment().len() as u64,
                source: SegmentSource::Fd(0),
            }],
            files: self
                .overlay
                .iter()
                .map(|_| FileDesc {
                    name: "overlay".into(),
                    fd: 1,
                })
                .collect(),
        };
        let mut fds: Vec<BorrowedFd<'_>> = vec![link.segment().fd().unwrap()];
        fds.extend(self.overlay.iter().map(AsFd::as_fd));
        process
            .session
            .send_with(&Control::Attach(attach), &fds)
            .unwrap();
    }

    /// Another generation serves the link from now on.
    fn next_generation(&mut self) {
        self.generation += 1;
        self.client.link().set_generation(self.generation);
    }

    fn submit(&mut self, request: BlockRequest, payload: &[u8]) -> u64 {
        self.time += 1000;
        loop {
            match self.client.submit(
                VirtualTime(self.time),
                request.encode(),
                payload,
                request.reply_bytes(),
            ) {
                Ok(seq) => return seq,
                Err(SubmitError::Stalled) => {
                    assert!(
                        self.client.wait_room(&mut self.waiter, deadline()),
                        "the journal is never settled"
                    );
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn reply(&mut self, seq: u64) -> (Status, [u64; 3], Vec<u8>) {
        let reply = self
            .client
            .wait_reply(&mut self.waiter, seq, deadline())
            .unwrap()
            .expect("a reply in time");
        let payload = self.client.reply_payload(seq).unwrap();
        self.client.release(seq).unwrap();
        (reply.status, reply.words, payload)
    }

    fn ask(&mut self, request: BlockRequest, payload: &[u8]) -> (Status, [u64; 3], Vec<u8>) {
        let seq = self.submit(request, payload);
        self.reply(seq)
    }

    fn info(&mut self) -> DiskInfo {
        let (status, words, _) = self.ask(request(BlockOp::GetInfo, 0, 0), &[]);
        assert_eq!(status, Status::Ok);
        DiskInfo::from_words(words).unwrap()
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (status, ..) = self.ask(request(BlockOp::Write, offset, data.len() as u64), data);
        assert_eq!(status, Status::Ok);
    }

    fn read(&mut self, offset: u64, length: u64) -> Vec<u8> {
        let (status, _, payload) = self.ask(request(BlockOp::Read, offset, length), &[]);
        assert_eq!(status, Status::Ok);
        payload
    }
}

fn request(op: BlockOp, offset_bytes: u64, len_bytes: u64) -> BlockRequest {
    BlockRequest {
        op,
        flags: BlockFlags::empty(),
        offset_bytes,
        len_bytes,
    }
}

impl Process {
    /// The next message that `wanted` accepts; heartbeats and log lines in between are passed over.
    fn expect(&mut self, wanted: impl Fn(&Control) -> bool) -> Control {
        loop {
            let message = self
                .session
                .recv(deadline())
                .unwrap()
                .expect("a message in time");
            match message.control {
                control if wanted(&control) => return control,
                Control::Heartbeat { .. } | Control::Log(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn fault(&mut self) -> Fault {
        match self.expect(|control| matches!(control, Control::Fault(_))) {
            Control::Fault(fault) => fault,
            _ => unreachable!(),
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        // The session ends with the process.
        while let Ok(Some(_)) = self.session.recv(deadline()) {}
        self.child.wait().unwrap()
    }
}

fn image(directory: &tempfile::TempDir, format: &str, size: u64) -> PathBuf {
    let path = directory.path().join("image");
    let output = Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-f",
            format,
            path.to_str().unwrap(),
            &size.to_string(),
        ])
        .output()
        .expect("qemu-img runs (package qemu-utils)");
    assert!(output.status.success());
    path
}

fn check(path: &Path) {
    let output = Command::new("qemu-img")
        .args(["check", "-q", "-f", "qcow2"])
        .arg(path)
        .output()
        .unwrap();
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 3)),
        "{code:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn requests_are_answered_and_the_end_is_orderly() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "qcow2", SIZE);
    let mut machine = Machine::new(&path, ImageFormat::Probe);
    let mut process = machine.start();
    let expected = DiskFlags::WRITEBACK | DiskFlags::DISCARD | DiskFlags::WRITE_ZEROES;
    assert_eq!(
        machine.info(),
        DiskInfo {
            size_bytes: SIZE,
            block_bytes: 512,
            flags: expected
        }
    );
    machine.write(4096, &[7; 8192]);
    let (status, ..) = machine.ask(request(BlockOp::WriteZeroes, 4096, 512), &[]);
    assert_eq!(status, Status::Ok);
    let (status, ..) = machine.ask(request(BlockOp::Flush, 0, 0), &[]);
    assert_eq!(status, Status::Ok);
    let (status, ..) = machine.ask(request(BlockOp::Discard, 8192, 512), &[]);
    assert_eq!(status, Status::Ok);
    let mut model = vec![0; 16384];
    model[4608..12288].fill(7);
    model[8192..8704].fill(0);
    assert!(machine.read(0, 16384) == model);
    let (status, _, payload) = machine.ask(request(BlockOp::Read, SIZE, 512), &[]);
    assert_eq!((status, payload.len()), (Status::OutOfRange, 0));
    process.expect(|control| matches!(control, Control::Heartbeat { progress } if *progress > 0));
    process
        .session
        .send(&Control::Stop {
            grace_ns: 1_000_000_000,
        })
        .unwrap();
    assert!(process.wait().success());
    check(&path);
}

#[test]
fn a_process_that_others_start_finds_the_broker_by_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "raw", SIZE);
    let socket = directory.path().join("broker");
    let listener = Listener::bind(&socket).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_blockd"))
        .args(["--name", "disk0", "--socket"])
        .arg(&socket)
        .spawn()
        .unwrap();
    let mut knock = [PollFd::new(&listener, PollFlags::IN)];
    rustix::event::poll(&mut knock, Some(&PATIENCE.try_into().unwrap())).unwrap();
    let session = listener.try_accept().unwrap().expect("somebody knocked");
    let mut machine = Machine::new(&path, ImageFormat::Raw);
    let mut process = machine.welcome(Process { child, session }, "disk0");
    process.expect(|control| matches!(control, Control::Ready));
    process.session.send(&Control::Start).unwrap();
    assert_eq!(machine.info().size_bytes, SIZE);
    process.kill();
}

#[test]
fn hang_up_and_sigterm_are_orderly_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "qcow2", SIZE);
    let mut machine = Machine::new(&path, ImageFormat::Qcow2);
    let process = machine.start();
    machine.write(0, &[1; 512]);
    let Process { mut child, session } = process;
    drop(session);
    assert!(child.wait().unwrap().success());
    machine.next_generation();
    let process = machine.start();
    assert_eq!(machine.read(0, 512), [1; 512]);
    process::ProcessHandle::open(process.child.id())
        .unwrap()
        .terminate()
        .unwrap();
    assert!(process.wait().success());
    check(&path);
}

#[test]
fn a_kill_at_any_time_is_invisible() {
    let directory = tempfile::tempdir().unwrap();
    for (format, kind) in [("qcow2", ImageFormat::Qcow2), ("raw", ImageFormat::Raw)] {
        let path = image(&directory, format, SIZE);
        let mut machine = Machine::new(&path, kind);
        let mut model = vec![0u8; SIZE as usize];
        let mut process = machine.start();
        for round in 0..6u8 {
            // A burst is under way, and the last of it unanswered, when the process dies.
            let mut pending = Vec::new();
            for step in 0..14u64 {
                let offset = (u64::from(round) * 7 + step * 13) % 120 * 65536 + step * 512;
                let data = vec![round.wrapping_mul(31).wrapping_add(step as u8 + 1); 20480];
                pending.push(
                    machine.submit(request(BlockOp::Write, offset, data.len() as u64), &data),
                );
                model[offset as usize..][..data.len()].copy_from_slice(&data);
            }
            let read = machine.submit(request(BlockOp::Read, 65536, 65536), &[]);
            let at_read = model[65536..131072].to_vec();
            // Depending on the host, more or less of the burst is answered by now.
            machine.reply(pending[usize::from(round) * 2]);
            process.kill();
            machine.next_generation();
            process = machine.start();
            for (index, seq) in pending.into_iter().enumerate() {
                if index != usize::from(round) * 2 {
                    assert_eq!(machine.reply(seq).0, Status::Ok);
                }
            }
            let (status, _, payload) = machine.reply(read);
            assert!(status == Status::Ok && payload == at_read, "round {round}");
        }
        for offset in (0..SIZE).step_by(1 << 20) {
            assert!(machine.read(offset, 1 << 20) == model[offset as usize..][..1 << 20]);
        }
        process
            .session
            .send(&Control::Stop { grace_ns: 0 })
            .unwrap();
        assert!(process.wait().success());
        if format == "qcow2" {
            check(&path);
        } else {
            assert!(std::fs::read(&path).unwrap() == model);
        }
    }
}

#[test]
fn a_long_burst_never_waits_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "qcow2", SIZE);
    let mut machine = Machine::new(&path, ImageFormat::Qcow2);
    let process = machine.start();
    for round in 0..2000u64 {
        let offset = round * 4096 % SIZE;
        machine.write(offset, &[round as u8; 4096]);
    }
    process.kill();
    check(&path);
}

#[test]
fn a_snapshot_survives_its_server_and_not_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "raw", SIZE);
    let mut machine = Machine::new(&path, ImageFormat::Raw);
    machine.config.snapshot = true;
    machine.overlay = Some(tempfile::tempfile().unwrap().into());
    let process = machine.start();
    machine.write(0, &[5; 65536]);
    machine.ask(request(BlockOp::Flush, 0, 0), &[]);
    process.kill();
    machine.next_generation();
    let process = machine.start();
    assert_eq!(machine.read(0, 65536), vec![5; 65536]);
    process.kill();
    assert!(std::fs::read(&path).unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn what_cannot_be_served_is_a_fault_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "raw", SIZE);
    let mut holder = Machine::new(&path, ImageFormat::Raw);
    let process = holder.start();
    let mut second = Machine::new(&path, ImageFormat::Raw);
    let mut refused = second.attach();
    let fault = refused.fault();
    assert_eq!(fault.kind, FaultKind::Locked);
    let who = format!("process {} (blockd)", process.child.id());
    assert!(
        fault.what.contains(&path.display().to_string()) && fault.what.contains(&who),
        "{}",
        fault.what
    );
    assert_eq!(refused.wait().code(), Some(3));
    process.kill();

    let mut absent = Machine::new(&directory.path().join("absent"), ImageFormat::Raw);
    let mut refused = absent.attach();
    let fault = refused.fault();
    assert_eq!(fault.kind, FaultKind::Config);
    assert!(fault.what.contains("No such file"), "{}", fault.what);
    assert_eq!(refused.wait().code(), Some(2));
}

#[test]
fn a_request_that_makes_no_sense_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(&directory, "raw", SIZE);
    let mut machine = Machine::new(&path, ImageFormat::Raw);
    let mut process = machine.start();
    let slot = atoll_abi::Slot {
        arg: 77,
        ..request(BlockOp::Flush, 0, 0).encode()
    };
    machine.client.submit(VirtualTime(1), slot, &[], 0).unwrap();
    assert_eq!(process.fault().kind, FaultKind::Protocol);
    assert_eq!(process.wait().code(), Some(1));
}
