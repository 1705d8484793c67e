//! What a hostile peer can do to each side, as functions of arbitrary bytes: the bodies of the fuzz targets and of the
//! property tests. Each must return, whatever the bytes; what it returns does not matter.

use crate::{LinkClient, LinkMemory, LinkServer, QueueReceiver, QueueSender, Session};
use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest, DiskInfo};
use atoll_abi::char::{CharInput, CharRequest};
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::register::{Access, AccessDone};
use atoll_abi::slot::SLOT_WORDS;
use atoll_abi::{PAGE, Slot, Status, VirtualTime};
use std::io::Write;
use std::os::unix::net::UnixStream;

const SMALL: LinkGeometry = LinkGeometry {
    slots: 8,
    input_slots: 8,
    request_arena: PAGE as u32,
    reply_arena: PAGE as u32,
    input_arena: PAGE as u32,
};

/// Decodes arbitrary bytes as each message that a slot can be.
pub fn slots(bytes: &[u8]) {
    for chunk in bytes.chunks_exact(8 * SLOT_WORDS) {
        let words = core::array::from_fn(|i| {
            u64::from_le_bytes(core::array::from_fn(|k| chunk[8 * i + k]))
        });
        let slot = Slot::from_words(words);
        let _ = (slot.kind(), slot.arena().check(PAGE as u64));
        let _ = (
            BlockRequest::decode(&slot),
            DiskInfo::from_words([slot.words[1], slot.words[2], 0]),
        );
        if let Ok(request) = CharRequest::decode(&slot) {
            request.encode();
        }
        if let Ok(input) = CharInput::decode(&slot) {
            assert!(
                CharInput::decode(&input.encode()) == Ok(input) && input.as_bytes().len() <= 24
            );
        }
        let _ = (Access::decode(&slot), AccessDone::decode(&slot));
    }
}

/// Receives arbitrary bytes as control messages, in two pieces.
pub fn session(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(64 << 10)];
    let Ok((mut peer, ours)) = UnixStream::pair() else {
        return;
    };
    let mut session = Session::from_fd(ours.into());
    for piece in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
        let _ = peer.write_all(piece);
        while let Ok(Some(_)) = session.try_recv() {}
    }
}

/// A fresh link overwritten with arbitrary bytes: the header and the rings, which are all that steers anybody.
fn scribbled(kind: LinkKind, bytes: &[u8], header_too: bool) -> Option<LinkMemory> {
    let link = LinkMemory::create("hostile", kind, &SMALL, 1).ok()?;
    let start = if header_too { 0 } else { PAGE };
    let all = link.segment().bytes(0, link.segment().len()).ok()?;
    all.write(start, &bytes[..bytes.len().min(4 * PAGE)]).ok()?;
    LinkMemory::open(link.segment().clone()).ok()
}

/// A back end whose client wrote arbitrary bytes.
pub fn server(bytes: &[u8]) {
    for header_too in [false, true] {
        let Some(link) = scribbled(LinkKind::Block, bytes, header_too) else {
            continue;
        };
        let generation = link.generation();
        let Ok((mut server, redo)) = LinkServer::attach(link, generation) else {
            continue;
        };
        assert!(redo.len() <= SMALL.slots as usize);
        for _ in 0..4 * SMALL.slots {
            let Ok(Some(request)) = server.next_request() else {
                break;
            };
            let _ = (
                server.payload(&request),
                BlockRequest::decode(&request.slot),
            );
            let _ = server.publish(&request, Status::Ok, [0; 3], &[1; 16]);
            if server.must_settle() {
                let _ = server.settle_published();
            }
        }
    }
}

/// A worker whose back end wrote arbitrary bytes.
pub fn client(bytes: &[u8]) {
    for header_too in [false, true] {
        let Some(link) = scribbled(LinkKind::Block, bytes, header_too) else {
            continue;
        };
        let Ok(mut client) = LinkClient::new(link) else {
            continue;
        };
        let read = BlockRequest {
            op: BlockOp::Read,
            flags: BlockFlags::empty(),
            offset_bytes: 0,
            len_bytes: 16,
        }
        .encode();
        for _ in 0..4 * SMALL.slots {
            let Ok(seq) = client.submit(VirtualTime::ZERO, read, &[1; 8], 16) else {
                break;
            };
            if let Ok(Some(_)) = client.poll(seq) {
                let _ = (client.reply_payload(seq), client.release(seq));
            }
        }
    }
}

/// Both ends of plain queues whose other end wrote arbitrary bytes.
pub fn queues(bytes: &[u8]) {
    for header_too in [false, true] {
        let Some(link) = scribbled(LinkKind::Register, bytes, header_too) else {
            continue;
        };
        for receiver in [
            QueueReceiver::from_client(&link),
            QueueReceiver::from_server(&link),
            QueueReceiver::input(&link),
        ] {
            let Ok(mut receiver) = receiver else { continue };
            let mut payload = Vec::new();
            for _ in 0..4 * SMALL.slots {
                let Ok(Some(_)) = receiver.receive(&mut payload) else {
                    break;
                };
            }
        }
        for sender in [
            QueueSender::to_server(&link),
            QueueSender::to_client(&link),
            QueueSender::input(&link),
        ] {
            let Ok(mut sender) = sender else { continue };
            for _ in 0..4 * SMALL.slots {
                let Ok(Some(_)) = sender.send(Slot::default(), &[1; 100]) else {
                    break;
                };
            }
        }
    }
}
