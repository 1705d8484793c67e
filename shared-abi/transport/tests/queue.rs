//! Plain queues: order, payloads, back-pressure, and a sender's successor.

use atoll_abi::char::CharInput;
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::slot::Kind;
use atoll_abi::{PAGE, Slot};
use atoll_transport::{LinkMemory, QueueReceiver, QueueSender};
use proptest::prelude::*;
use std::collections::VecDeque;

const SMALL: LinkGeometry = LinkGeometry {
    slots: 4,
    input_slots: 4,
    request_arena: PAGE as u32,
    reply_arena: PAGE as u32,
    input_arena: 0,
};

fn link() -> LinkMemory {
    LinkMemory::create("test", LinkKind::Register, &SMALL, 1).unwrap()
}

proptest! {
    /// Whatever is sent comes out in order and whole, also when the sender or the receiver is replaced in between.
    #[test]
    fn messages_arrive_in_order(steps in prop::collection::vec((0u8..10, 0usize..2000), 1..200)) {
        let link = link();
        let (mut sender, mut receiver) = (QueueSender::to_server(&link).unwrap(), QueueReceiver::from_client(&link).unwrap());
        let mut expected: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let mut payload = Vec::new();
        for (step, len) in steps {
            match step {
                0 => sender = QueueSender::to_server(&link).unwrap(),
                1 => receiver = QueueReceiver::from_client(&link).unwrap(),
                2..=5 => {
                    let bytes = vec![sender.position() as u8; len];
                    if let Some(seq) = sender.send(Slot::of(Kind::DmaReadDone), &bytes).unwrap() {
                        expected.push_back((seq, bytes));
                    } else {
                        prop_assert!(!expected.is_empty(), "no room in an empty queue");
                    }
                }
                _ => match (receiver.receive(&mut payload).unwrap(), expected.pop_front()) {
                    (Some(slot), Some((seq, bytes))) => {
                        prop_assert_eq!(slot.seq, seq);
                        prop_assert_eq!(&payload, &bytes);
                    }
                    (None, None) => {}
                    other => prop_assert!(false, "{other:?}"),
                },
            }
        }
    }
}

#[test]
fn input_holds_its_sender_back_until_the_worker_takes_some() {
    let link = link();
    let (mut sender, mut receiver) = (
        QueueSender::input(&link).unwrap(),
        QueueReceiver::input(&link).unwrap(),
    );
    let mut typed = 0;
    while sender
        .send(CharInput::bytes(typed, b"key").encode(), &[])
        .unwrap()
        .is_some()
    {
        typed += 3;
    }
    assert_eq!(typed, 12);
    assert!(receiver.has_message());
    assert!(receiver.peek().unwrap().is_some());
    let mut payload = Vec::new();
    let first = CharInput::decode(&receiver.receive(&mut payload).unwrap().unwrap()).unwrap();
    assert_eq!(first, CharInput::bytes(0, b"key"));
    assert!(
        sender
            .send(CharInput::Break.encode(), &[])
            .unwrap()
            .is_some()
    );
    assert!(
        sender
            .send(CharInput::Break.encode(), &[])
            .unwrap()
            .is_none()
    );
}
