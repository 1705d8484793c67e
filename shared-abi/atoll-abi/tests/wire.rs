//! The wire, frozen: golden bytes of every message, and `ABI.md` as rendered from the types.
//!
//! `ATOLL_BLESS=1 cargo test -p atoll-abi` rewrites both files; the diff is the change of the wire, and a change of
//! anything that was there before needs a new `ABI_VERSION`.

use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest, DiskFlags, DiskInfo};
use atoll_abi::char::{CharInput, CharRequest, LineFlags};
use atoll_abi::clock::Policy;
use atoll_abi::config::*;
use atoll_abi::control::*;
use atoll_abi::exit::ExitReason;
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::register::{Access, AccessDone};
use atoll_abi::slot::{Kind, REPLY_ROOM_WORD, SLOT_BYTES};
use atoll_abi::{ArenaRange, LinkId, PeerId, Slot, Status, VirtualTime};
use proptest::prelude::*;
use std::path::PathBuf;

/// One slot of each message, as it lies in a ring before the owner bit is set.
fn slots() -> Vec<(String, Slot)> {
    let mut all: Vec<(&str, Slot)> = Vec::new();
    let block = |op, offset_bytes, len_bytes| BlockRequest {
        op,
        flags: BlockFlags::empty(),
        offset_bytes,
        len_bytes,
    };
    let room = ArenaRange {
        offset: 0x40,
        len: 0x200,
    };
    let mut read = Slot {
        stamp: 1_000_000,
        seq: 5,
        ..block(BlockOp::Read, 0x1_0000_0000, 0x200).encode()
    };
    read.words[REPLY_ROOM_WORD] = room.to_word();
    let write = BlockRequest {
        flags: BlockFlags::FUA,
        ..block(BlockOp::Write, 0x1000, 0x400)
    };
    let mut write = Slot {
        stamp: 2_000_000,
        seq: 6,
        ..write.encode()
    };
    write.set_arena(ArenaRange {
        offset: 0x80,
        len: 0x400,
    });
    let zeroes = BlockRequest {
        flags: BlockFlags::UNMAP,
        ..block(BlockOp::WriteZeroes, 0x2000, 0x800)
    };
    all.extend([
        ("block read", read),
        ("block write, FUA", write),
        ("block flush", block(BlockOp::Flush, 0, 0).encode()),
        (
            "block discard",
            block(BlockOp::Discard, 0x3000, 0x1000).encode(),
        ),
        ("block write-zeroes, unmap", zeroes.encode()),
        ("block get-info", block(BlockOp::GetInfo, 0, 0).encode()),
    ]);
    let mut reply = Slot {
        stamp: 1_000_000,
        seq: 5,
        arg: Status::Ok.number(),
        ..Slot::of(Kind::Reply)
    };
    reply.words[0] = 3;
    reply.set_arena(room);
    let info = DiskInfo {
        size_bytes: 10 << 30,
        block_bytes: 512,
        flags: DiskFlags::WRITEBACK | DiskFlags::DISCARD,
    };
    let [a, b, c] = info.to_words();
    all.extend([
        ("reply with payload", reply),
        (
            "reply, no space",
            Slot {
                arg: Status::NoSpace.number(),
                ..Slot {
                    arena_len: 0,
                    ..reply
                }
            },
        ),
        (
            "reply to get-info",
            Slot {
                words: [3, a, b, c],
                ..reply
            },
        ),
    ]);
    let mut output = Slot {
        stamp: 7,
        seq: 8,
        ..CharRequest::Output { number: 0x1234 }.encode()
    };
    output.set_arena(ArenaRange { offset: 0, len: 5 });
    all.extend([
        ("char output", output),
        (
            "char line state",
            CharRequest::SetLine {
                lines: LineFlags::DTR | LineFlags::RTS,
            }
            .encode(),
        ),
        ("char input", CharInput::bytes(0x55, b"root\n").encode()),
        ("char opened", CharInput::Opened.encode()),
        ("char closed", CharInput::Closed.encode()),
        ("char break", CharInput::Break.encode()),
        (
            "char resized",
            CharInput::Resized {
                columns: 132,
                rows: 43,
            }
            .encode(),
        ),
    ]);
    let access = Access {
        now: VirtualTime(99),
        region: 4,
        offset: 0x14,
        size: 4,
        write: None,
    };
    all.extend([
        ("access read", access.encode()),
        (
            "access write",
            Access {
                write: Some(0xdead_beef),
                ..access
            }
            .encode(),
        ),
        (
            "access done, value",
            AccessDone {
                call: 12,
                value: Some(0x55aa),
            }
            .encode(),
        ),
        (
            "access done, later",
            AccessDone {
                call: 13,
                value: None,
            }
            .encode(),
        ),
    ]);
    all.into_iter()
        .map(|(name, slot)| (name.to_owned(), slot))
        .collect()
}

fn block_config() -> Config {
    Config::Block(BlockConfig {
        path: "/d.qcow2".into(),
        format: ImageFormat::Qcow2,
        read_only: false,
        cache: CacheMode::Writethrough,
        snapshot: true,
        discard: true,
        detect_zeroes: false,
        backing_allowed: vec!["/base".into()],
        lock: true,
        label: "vda".into(),
    })
}

fn worker_config() -> Config {
    let link = WorkerLink {
        link: LinkId(1),
        kind: LinkKind::Char,
        name: "tty".into(),
        generation: 2,
    };
    let start = VirtualTime(300);
    Config::Worker(WorkerConfig {
        machine: vec![1, 2, 3],
        links: vec![link],
        policy: Policy::Paced,
        start,
    })
}

fn attach(config: Config) -> Control {
    let geometry = LinkGeometry {
        slots: 256,
        input_slots: 4,
        request_arena: 4096,
        reply_arena: 8192,
        input_arena: 0,
    };
    let link = LinkDesc {
        link: LinkId(1),
        kind: LinkKind::Block,
        generation: 2,
        geometry,
    };
    let roles = [
        SegmentRole::GuestRam,
        SegmentRole::Clock,
        SegmentRole::Routes,
        SegmentRole::Stats,
        SegmentRole::Bells,
        SegmentRole::Link(link),
        SegmentRole::Blob(1),
    ];
    let fd = |(i, role)| SegmentDesc {
        role,
        len: 4096,
        source: SegmentSource::Fd(i as u8),
    };
    let mut segments: Vec<_> = roles.into_iter().enumerate().map(fd).collect();
    segments[6].source = SegmentSource::Named("/atoll-1".into());
    segments[6].len = 4000;
    let files = vec![FileDesc {
        name: "terminal-in".into(),
        fd: 6,
    }];
    Control::Attach(Attach {
        peer: PeerId::new(3, 1),
        config,
        segments,
        files,
    })
}

fn char_config(kind: CharKind) -> Config {
    Config::Char(CharConfig {
        kind,
        label: "tty".into(),
    })
}

fn run_request() -> RunRequest {
    let kernel = SegmentDesc {
        role: SegmentRole::Blob(0),
        len: 5000,
        source: SegmentSource::Fd(0),
    };
    let terminal = FileDesc {
        name: "terminal".into(),
        fd: 1,
    };
    RunRequest {
        machine: vec![1, 2],
        resolved: vec![3],
        segments: vec![kernel],
        files: vec![terminal],
    }
}

fn report() -> ExitReport {
    ExitReport {
        reason: ExitReason::TripleFault,
        detail: "d".into(),
        now: VirtualTime(500),
        instructions: 400,
        final_hash: [0x5a; 32],
        stats: "{}".into(),
    }
}

/// Every message, with every shape of configuration, request and reply.
fn controls() -> Vec<(String, Control)> {
    let status = MachineStatus {
        running: true,
        now: VirtualTime(1),
        instructions: 2,
        horizon: VirtualTime::MAX,
    };
    let peer = PeerStatus {
        peer: PeerId::new(1, 0),
        role: Role::Block,
        name: "vda".into(),
        pid: 77,
        restarts: 1,
        waiting: Some("lock".into()),
    };
    let record = LogRecord {
        level: LogLevel::Warn,
        at: Some(VirtualTime(9)),
        text: "t".into(),
    };
    let hello = Hello {
        abi_version: 1,
        role: Role::Worker,
        pid: 4242,
        binary: "0.1.0".into(),
        name: "cpu".into(),
    };
    let file = CharKind::File {
        path: "/log".into(),
        append: true,
    };
    let unix = CharKind::UnixServer {
        path: "/s".into(),
        wait: true,
    };
    let mut all = vec![
        Control::Hello(hello),
        Control::Welcome {
            abi_version: 1,
            peer: PeerId::new(3, 1),
        },
        Control::Refused {
            reason: "no".into(),
        },
        attach(worker_config()),
        attach(block_config()),
        attach(char_config(CharKind::Stdio {
            signal_to_guest: true,
        })),
        attach(char_config(CharKind::Pty)),
        attach(char_config(unix)),
        attach(char_config(file)),
        attach(char_config(CharKind::Null)),
        attach(Config::Seat(SeatConfig {
            model: "rtc".into(),
            options: vec![9],
        })),
        Control::Ready,
        Control::Start,
        Control::Stop {
            grace_ns: 5_000_000_000,
        },
        Control::PowerButton,
        Control::Reset,
        Control::Heartbeat { progress: 300 },
        Control::Fault(Fault {
            kind: FaultKind::Locked,
            what: "held".into(),
        }),
        Control::ExitReport(report()),
        Control::LinkLost {
            link: LinkId(1),
            generation: 2,
        },
        Control::LinkReplaced {
            link: LinkId(1),
            generation: 3,
        },
        Control::Log(record.clone()),
        Control::Monitor(MonitorRequest::RunUntil {
            at: VirtualTime(1_000),
        }),
    ];
    all.push(Control::Trail(b"{}\n".to_vec()));
    all.push(Control::Run(run_request()));
    let console = [
        ConsoleRequest::Quit,
        ConsoleRequest::Attached,
        ConsoleRequest::Detached,
    ];
    all.extend(console.map(Control::Console));
    let plain = [
        MonitorRequest::Status,
        MonitorRequest::Peers,
        MonitorRequest::Pause,
        MonitorRequest::Resume,
        MonitorRequest::PowerButton,
        MonitorRequest::Reset,
        MonitorRequest::Quit,
        MonitorRequest::Terminate,
    ];
    all.extend(plain.map(Control::Monitor));
    let replies = [
        MonitorReply::Done,
        MonitorReply::Failed {
            reason: "no".into(),
        },
        MonitorReply::Status(status),
        MonitorReply::Peers(vec![peer]),
        MonitorReply::Ended(report()),
        MonitorReply::Log {
            peer: PeerId::new(1, 0),
            record,
        },
    ];
    all.extend(replies.map(Control::MonitorReply));
    all.into_iter()
        .map(|control| (name_of(&control), control))
        .collect()
}

/// The message's name, and a detail where one message has several shapes. No wildcard: a new message must be added.
fn name_of(control: &Control) -> String {
    let first_word = |debug: String| {
        debug
            .split([' ', '(', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    match control {
        Control::Attach(attach) => match &attach.config {
            Config::Char(config) => {
                format!("Attach Char {}", first_word(format!("{:?}", config.kind)))
            }
            config => format!("Attach {}", first_word(format!("{config:?}"))),
        },
        Control::Console(request) => format!("Console {request:?}"),
        Control::Monitor(request) => format!("Monitor {}", first_word(format!("{request:?}"))),
        Control::MonitorReply(reply) => {
            format!("MonitorReply {}", first_word(format!("{reply:?}")))
        }
        Control::Hello(_)
        | Control::Welcome { .. }
        | Control::Refused { .. }
        | Control::Ready
        | Control::Start
        | Control::Stop { .. }
        | Control::PowerButton
        | Control::Reset
        | Control::Heartbeat { .. }
        | Control::Fault(_)
        | Control::ExitReport(_)
        | Control::LinkLost { .. }
        | Control::LinkReplaced { .. }
        | Control::Log(_)
        | Control::Trail(_)
        | Control::Run(_) => first_word(format!("{control:?}")),
    }
}

fn encoded() -> Vec<(String, Vec<u8>)> {
    controls()
        .into_iter()
        .map(|(name, control)| (name, postcard::to_stdvec(&control).unwrap()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a file with what the types say now; under `ATOLL_BLESS=1` writes it.
fn compare(path: &str, now: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("ATOLL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, now).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (then, now)) in frozen.lines().zip(now.lines()).enumerate() {
        assert_eq!(
            then,
            now,
            "{}:{}: the wire changed",
            path.display(),
            line + 1
        );
    }
    assert_eq!(
        frozen.lines().count(),
        now.lines().count(),
        "{}: the wire grew or shrank",
        path.display()
    );
}

#[test]
fn golden_bytes() {
    let mut golden = String::new();
    for (name, slot) in slots() {
        let words = slot.to_words();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes.len(), SLOT_BYTES);
        golden += &format!("slot {name} = {}\n", hex(&bytes));
    }
    for (name, bytes) in encoded() {
        golden += &format!("control {name} = {}\n", hex(&bytes));
    }
    compare("tests/golden.txt", &golden);
}

#[test]
fn abi_md_is_current() {
    compare("../ABI.md", &atoll_abi::doc::render(&encoded()));
}

#[test]
fn control_messages_survive_the_wire() {
    for (name, control) in controls() {
        let bytes = postcard::to_stdvec(&control).unwrap();
        assert_eq!(
            postcard::from_bytes::<Control>(&bytes).unwrap(),
            control,
            "{name}"
        );
        assert!(
            postcard::from_bytes::<Control>(&bytes[..bytes.len() - 1]).is_err(),
            "{name} cut short"
        );
    }
}

/// The first byte of a message is its number: none is missing among the examples.
#[test]
fn every_control_message_has_an_example() {
    let mut numbers: Vec<u8> = encoded().iter().map(|(_, bytes)| bytes[0]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..numbers.len() as u8).collect::<Vec<_>>());
    assert!(postcard::from_bytes::<Control>(&[numbers.len() as u8, 0, 0, 0, 0, 0, 0]).is_err());
}

proptest! {
    #[test]
    fn a_slot_decodes_or_is_refused(words in any::<[u64; 8]>(), kind in any::<u8>()) {
        let slot = Slot { kind, ..Slot::from_words(words) };
        if let Ok(request) = BlockRequest::decode(&slot) {
            prop_assert!(request.offset_bytes.checked_add(request.len_bytes).is_some());
            prop_assert_eq!(request.encode().words[..2].to_vec(), slot.words[..2].to_vec());
        }
        if let Ok(input) = CharInput::decode(&slot) {
            prop_assert_eq!(CharInput::decode(&input.encode()), Ok(input));
        }
        if let Ok(access) = Access::decode(&slot) {
            prop_assert_eq!(Access::decode(&access.encode()), Ok(access));
        }
        let _ = (CharRequest::decode(&slot), AccessDone::decode(&slot), DiskInfo::from_words([words[1], words[2], 0]));
    }

    #[test]
    fn a_control_message_decodes_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0u8..20) {
        let mut bytes = bytes;
        bytes.insert(0, first);
        if let Ok(control) = postcard::from_bytes::<Control>(&bytes) {
            let again = postcard::to_stdvec(&control).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Control>(&again).unwrap(), control);
        }
    }
}
