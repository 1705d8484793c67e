//! A request link with both ends in one process: protocol, admission, settlement, hostile ends.

use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest};
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::{PAGE, Slot, Status, VirtualTime};
use atoll_transport::{Error, LinkClient, LinkMemory, LinkServer, Segment, SubmitError};

const SMALL: LinkGeometry = LinkGeometry {
    slots: 16,
    input_slots: 0,
    request_arena: 4 * PAGE as u32,
    reply_arena: 2 * PAGE as u32,
    input_arena: 0,
};

fn link() -> LinkMemory {
    LinkMemory::create("test", LinkKind::Block, &SMALL, 1).unwrap()
}

/// The same memory, mapped a second time as another process would.
fn other_end(link: &LinkMemory) -> LinkMemory {
    let segment = link.segment();
    let fd = segment.fd().unwrap().try_clone_to_owned().unwrap();
    LinkMemory::open(Segment::from_fd(fd, segment.len()).unwrap()).unwrap()
}

fn slot(op: BlockOp, offset_bytes: u64, len_bytes: u64) -> Slot {
    BlockRequest {
        op,
        flags: BlockFlags::empty(),
        offset_bytes,
        len_bytes,
    }
    .encode()
}

fn write(client: &mut LinkClient, bytes: &[u8]) -> Result<u64, SubmitError> {
    client.submit(
        VirtualTime(5),
        slot(BlockOp::Write, 0, bytes.len() as u64),
        bytes,
        0,
    )
}

fn read(client: &mut LinkClient, len: u32) -> Result<u64, SubmitError> {
    client.submit(VirtualTime(6), slot(BlockOp::Read, 0, len.into()), &[], len)
}

#[test]
fn requests_and_replies_cross_in_any_order() {
    let memory = link();
    let mut client = LinkClient::new(other_end(&memory)).unwrap();
    let (mut server, redo) = LinkServer::attach(memory, 1).unwrap();
    assert!(redo.is_empty());
    let a = write(&mut client, b"hello").unwrap();
    let b = read(&mut client, 3).unwrap();
    assert_eq!((a, b), (0, 1));

    let first = server.next_request().unwrap().unwrap();
    let second = server.next_request().unwrap().unwrap();
    assert_eq!(server.next_request().unwrap(), None);
    assert_eq!(
        BlockRequest::decode(&first.slot).unwrap().op,
        BlockOp::Write
    );
    assert_eq!(server.payload(&first).unwrap(), b"hello");
    assert_eq!(first.issued, VirtualTime(5));

    assert!(
        server
            .publish(&second, Status::Ok, [0; 3], b"four")
            .is_err(),
        "more than was reserved"
    );
    server
        .publish(&second, Status::Ok, [7, 8, 9], b"abc")
        .unwrap();
    assert!(client.poll(a).unwrap().is_none());
    let reply = client.poll(b).unwrap().unwrap();
    assert_eq!(
        (reply.status, reply.len, reply.words, reply.issued),
        (Status::Ok, 3, [7, 8, 9], VirtualTime(6))
    );
    assert_eq!(client.reply_payload(b).unwrap(), b"abc");
    assert!(client.read_reply(b, 1, &mut [0; 3]).is_err());
    client.release(b).unwrap();
    assert!(client.release(b).is_err());
    assert!(client.release(a).is_err(), "not answered yet");

    assert!(server.settle(1).is_err(), "not published yet");
    server
        .publish(&first, Status::NoSpace, [0; 3], &[])
        .unwrap();
    assert!(
        server.publish(&first, Status::Ok, [0; 3], &[]).is_err(),
        "twice"
    );
    assert_eq!(client.poll_any().unwrap().unwrap().status, Status::NoSpace);
    server.settle_published().unwrap();
    assert_eq!(server.unsettled(), 0);
}

/// Full comes from virtual history alone: settled or not, early or late, admission is the same.
#[test]
fn full_does_not_depend_on_the_server() {
    for settle_early in [false, true] {
        let memory = link();
        let mut client = LinkClient::new(other_end(&memory)).unwrap();
        let (mut server, _) = LinkServer::attach(memory, 1).unwrap();
        let mut admitted = Vec::new();
        for _ in 0..3 {
            while let Ok(seq) = write(&mut client, &[1; 1000]) {
                let request = server.next_request().unwrap().unwrap();
                server.publish(&request, Status::Ok, [0; 3], &[]).unwrap();
                if settle_early || server.must_settle() {
                    server.settle_published().unwrap();
                }
                admitted.push(seq);
            }
            assert!(matches!(
                write(&mut client, &[1; 1000]),
                Err(SubmitError::Full)
            ));
            while let Some(reply) = client.poll_any().unwrap() {
                client.release(reply.seq).unwrap();
            }
        }
        assert_eq!(
            admitted,
            (0..12).collect::<Vec<_>>(),
            "four in flight at a time"
        );
    }
}

/// A server that does not settle stalls the client; the stall ends with the settlement, also for a request whose reply
/// nobody has looked at when its slot comes round again.
#[test]
fn stalled_ends_when_the_server_settles() {
    let memory = link();
    let mut client = LinkClient::new(other_end(&memory)).unwrap();
    let (mut server, _) = LinkServer::attach(memory, 1).unwrap();
    let slow = read(&mut client, 4).unwrap();
    let request = server.next_request().unwrap().unwrap();
    server
        .publish(&request, Status::Ok, [0; 3], b"slow")
        .unwrap();
    let mut others = 0;
    loop {
        match read(&mut client, 1) {
            Ok(seq) => {
                others += 1;
                let request = server.next_request().unwrap().unwrap();
                server.publish(&request, Status::Ok, [0; 3], b"x").unwrap();
                client.poll(seq).unwrap().unwrap();
                client.release(seq).unwrap();
            }
            Err(SubmitError::Stalled) => break,
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!(others, 15);
    assert!(server.must_settle());
    server.settle_published().unwrap();
    for _ in 0..16 {
        let seq = read(&mut client, 1).unwrap();
        let request = server.next_request().unwrap().unwrap();
        server.publish(&request, Status::Ok, [0; 3], b"y").unwrap();
        client.poll(seq).unwrap().unwrap();
        client.release(seq).unwrap();
    }
    assert_eq!(client.reply_payload(slow).unwrap(), b"slow");
    client.release(slow).unwrap();
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn what_never_fits_is_refused() {
    let mut client = LinkClient::new(link()).unwrap();
    assert!(matches!(
        write(&mut client, &[0; PAGE + 1]),
        Err(SubmitError::TooLong(_))
    ));
    assert!(matches!(
        read(&mut client, 3 * PAGE as u32),
        Err(SubmitError::TooLong(_))
    ));
    assert!(write(&mut client, &[0; PAGE]).is_ok());
}

#[test]
fn a_successor_redoes_and_answers() {
    let memory = link();
    let mut client = LinkClient::new(other_end(&memory)).unwrap();
    let (mut server, _) = LinkServer::attach(other_end(&memory), 1).unwrap();
    for i in 0..4u8 {
        write(&mut client, &[i; 10]).unwrap();
    }
    let requests: Vec<_> = (0..3)
        .map(|_| server.next_request().unwrap().unwrap())
        .collect();
    server
        .publish(&requests[0], Status::Ok, [0; 3], &[])
        .unwrap();
    server.settle_published().unwrap();
    server
        .publish(&requests[1], Status::Ok, [0; 3], &[])
        .unwrap();

    memory.set_generation(2);
    assert!(matches!(server.next_request(), Err(Error::Dead)));
    assert!(matches!(
        server.publish(&requests[2], Status::Ok, [0; 3], &[]),
        Err(Error::Dead)
    ));
    assert!(matches!(
        LinkServer::attach(other_end(&memory), 1),
        Err(Error::Dead)
    ));

    let (mut heir, redo) = LinkServer::attach(memory, 2).unwrap();
    assert_eq!(
        redo.iter().map(|request| request.seq).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(heir.payload(&redo[0]).unwrap(), [1; 10]);
    client.replaced();
    for seq in [2, 3] {
        let request = heir.next_request().unwrap().unwrap();
        assert_eq!(
            (request.seq, heir.payload(&request).unwrap()),
            (seq, vec![seq as u8; 10])
        );
        heir.publish(&request, Status::Ok, [0; 3], &[]).unwrap();
    }
    heir.settle_published().unwrap();
    for seq in 0..4 {
        assert_eq!(client.poll(seq).unwrap().unwrap().status, Status::Ok);
        client.release(seq).unwrap();
    }
    assert_eq!(write(&mut client, b"next").unwrap(), 4);
    assert_eq!(heir.next_request().unwrap().unwrap().seq, 4);
}
