//! A back end that is killed at any step, in a process of its own, and its successor.
//!
//! The back end serves a disk of 64 bytes kept in a file: it applies a write in two halves, publishes, and settles
//! now and then. It kills itself at step `n` of its work, for every `n` until it gets through; the successor finishes.
//! Whatever `n` was, the worker's side sees one and the same replies, and the disk holds one and the same bytes.

use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest};
use atoll_abi::config::{BlockConfig, CacheMode, Config, ImageFormat};
use atoll_abi::control::{Attach, Control};
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::{LinkId, PAGE, PeerId, Status, VirtualTime};
use atoll_transport::attach::{Incoming, Outgoing};
use atoll_transport::process::{ProcessHandle, inherit, take_inherited};
use atoll_transport::{LinkClient, LinkMemory, LinkServer, Request, Session};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DISK: usize = 64;
const GEOMETRY: LinkGeometry = LinkGeometry {
    slots: 64,
    input_slots: 0,
    request_arena: 4 * PAGE as u32,
    reply_arena: PAGE as u32,
    input_arena: 0,
};

/// Counts down to the kill.
struct Steps {
    left: Option<u32>,
}

impl Steps {
    fn step(&mut self) {
        if let Some(left) = &mut self.left {
            if *left == 0 {
                let me = ProcessHandle::open(std::process::id()).unwrap();
                me.kill().unwrap();
                loop {
                    std::thread::park();
                }
            }
            *left -= 1;
        }
    }
}

/// The back end: in place, in order, and a write in two halves.
struct Disk {
    file: std::fs::File,
    steps: Steps,
}

impl Disk {
    fn open(path: &Path, kill_at: Option<u32>) -> Self {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        Self {
            file,
            steps: Steps { left: kill_at },
        }
    }

    fn write(&mut self, server: &LinkServer, request: &Request, offset: u64) {
        let bytes = server.payload(request).unwrap();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        self.steps.step();
        self.file.write_all_at(first, offset).unwrap();
        self.steps.step();
        self.file
            .write_all_at(second, offset + first.len() as u64)
            .unwrap();
        self.steps.step();
    }

    fn serve(&mut self, server: &mut LinkServer, request: &Request) {
        let op = BlockRequest::decode(&request.slot).unwrap();
        let mut reply = vec![0; request.reply_room() as usize];
        match op.op {
            BlockOp::Write => self.write(server, request, op.offset_bytes),
            _ => self
                .file
                .read_exact_at(&mut reply, op.offset_bytes)
                .unwrap(),
        }
        server.publish(request, Status::Ok, [0; 3], &reply).unwrap();
        self.steps.step();
        if request.seq % 3 == 2 {
            server.settle_published().unwrap();
            self.steps.step();
        }
    }

    /// Everything that a successor or a first server has to do for `requests` requests in all.
    fn run(&mut self, link: LinkMemory, generation: u32, requests: u64) {
        let (mut server, redo) = LinkServer::attach(link, generation).unwrap();
        for request in redo {
            let op = BlockRequest::decode(&request.slot).unwrap();
            if op.op == BlockOp::Write {
                self.write(&server, &request, op.offset_bytes);
            }
        }
        while server.published_below() < requests {
            if let Some(request) = server.wait_request(None, || false).unwrap() {
                self.serve(&mut server, &request);
            }
        }
    }
}

const REQUESTS: u64 = 9;

/// Overlapping writes with reads between them: any lost, doubled or reordered effect shows.
fn submit_all(client: &mut LinkClient) {
    for i in 0..REQUESTS {
        let (offset_bytes, len_bytes) = (4 * i, 16);
        let now = VirtualTime(i);
        let block = |op| {
            BlockRequest {
                op,
                flags: BlockFlags::empty(),
                offset_bytes,
                len_bytes,
            }
            .encode()
        };
        if i % 3 == 1 {
            client.submit(now, block(BlockOp::Read), &[], 16).unwrap();
        } else {
            client
                .submit(now, block(BlockOp::Write), &[b'a' + i as u8; 16], 0)
                .unwrap();
        }
    }
}

/// What the worker and the disk see of a run whose first back end dies at step `kill_at`. Also: did it die?
fn run(path: &Path, kill_at: u32) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    std::fs::write(path, [b'.'; DISK]).unwrap();
    let link = LinkMemory::create("handover", LinkKind::Block, &GEOMETRY, 1).unwrap();
    let mut client = LinkClient::new(link.clone()).unwrap();
    let (session, child_end) = Session::pair().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let fds = inherit(&mut command, vec![child_end.into_fd()]);
    command.args(["--exact", "back_end_process", "--nocapture"]);
    command
        .env("ATOLL_TEST_SESSION", fds[0].to_string())
        .env("ATOLL_TEST_KILL_AT", kill_at.to_string());
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(command);

    let mut out = Outgoing::default();
    out.link(LinkId(0), &link).unwrap();
    let attach = Attach {
        peer: PeerId::new(1, 1),
        config: config(path),
        segments: out.segments,
        files: vec![],
    };
    session
        .send_with(&Control::Attach(attach), &out.fds)
        .unwrap();

    submit_all(&mut client);

    let handle = ProcessHandle::open(child.id()).unwrap();
    assert!(
        handle
            .wait_dead(Some(Instant::now() + Duration::from_secs(60)))
            .unwrap(),
        "the back end hangs"
    );
    let died = !child.wait().unwrap().success();
    link.set_generation(2);
    Disk::open(path, None).run(link, 2, REQUESTS);
    client.replaced();

    let mut replies = Vec::new();
    for seq in 0..REQUESTS {
        let reply = client.poll(seq).unwrap().unwrap();
        assert_eq!(reply.status, Status::Ok);
        replies.push(client.reply_payload(seq).unwrap());
        client.release(seq).unwrap();
    }
    (replies, std::fs::read(path).unwrap(), died)
}

fn config(path: &Path) -> Config {
    Config::Block(BlockConfig {
        path: path.to_str().unwrap().to_owned(),
        format: ImageFormat::Raw,
        read_only: false,
        cache: CacheMode::Writeback,
        snapshot: false,
        discard: false,
        detect_zeroes: false,
        backing_allowed: vec![],
        lock: false,
        label: "disk".into(),
    })
}

/// Not a test of its own: the back end's process, when started by the test below.
#[test]
fn back_end_process() {
    let Ok(fd) = std::env::var("ATOLL_TEST_SESSION") else {
        return;
    };
    let kill_at: u32 = std::env::var("ATOLL_TEST_KILL_AT")
        .unwrap()
        .parse()
        .unwrap();
    let mut session = Session::from_fd(take_inherited(fd.parse().unwrap()).unwrap());
    let message = session.recv(None).unwrap().unwrap();
    let Control::Attach(attach) = message.control else {
        panic!("no attach")
    };
    let Config::Block(config) = &attach.config else {
        panic!("no disk")
    };
    let (desc, link) = Incoming::new(&attach, message.fds)
        .links(None)
        .unwrap()
        .remove(0);
    Disk::open(&PathBuf::from(&config.path), Some(kill_at)).run(link, desc.generation, REQUESTS);
}

#[test]
fn a_back_end_may_die_at_any_step() {
    let path = std::env::temp_dir().join(format!("atoll-handover-{}", std::process::id()));
    let mut deaths = 0;
    let mut first = None;
    for kill_at in 0.. {
        let (replies, disk, died) = run(&path, kill_at);
        let expected = first.get_or_insert_with(|| (replies.clone(), disk.clone()));
        assert_eq!(
            (&replies, &disk),
            (&expected.0, &expected.1),
            "killed at step {kill_at}"
        );
        if !died {
            break;
        }
        deaths += 1;
    }
    std::fs::remove_file(&path).unwrap();
    let (replies, disk) = first.unwrap();
    // Written here by hand, so that the runs are not only equal but right.
    assert_eq!(
        disk,
        *b"aaaaaaaaccccddddddddffffggggggggiiiiiiiiiiiiiiii................"
    );
    assert_eq!(replies[1], *b"aaaaaaaaaaaa....");
    assert_eq!(replies[4], *b"dddddddddddd....");
    assert!(deaths > 20, "only {deaths} steps");
}
