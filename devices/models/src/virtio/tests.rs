//! The transport and the queues, seen through the simplest device.

use device_core::conformance;
use device_core::rig::Rig;
use device_core::{Attach, BarKind, Model};
use proptest::prelude::*;

use super::mock::{BUFFERS, DESCRIPTORS, EVENT_INDEX, INDIRECT, Mock, VERSION_1};
use super::{Rng, VirtioPci};

fn model() -> Box<dyn Model> {
    Box::new(VirtioPci::new(Rng::new(7)))
}

fn mock(features: u64) -> Mock {
    Mock::new(&model, VERSION_1 | features, 8)
}

const NEEDS_RESET: u64 = 0x4F;

#[test]
fn it_conforms() {
    for seed in 0..8 {
        conformance::check(&model, seed, 2000);
    }
}

#[test]
fn the_function_is_a_modern_virtio_device() {
    let manifest = Rig::new(model()).manifest;
    let Attach::Pci(function) = manifest.attach else {
        panic!("{manifest:?}")
    };
    assert_eq!(
        (function.vendor, function.device, function.revision),
        (0x1AF4, 0x1044, 1)
    );
    assert!(
        function
            .bars
            .iter()
            .all(|bar| bar.kind == BarKind::Memory32)
    );
    let types: Vec<u8> = function.capabilities.iter().map(|c| c.body[1]).collect();
    assert_eq!(types, [1, 3, 4, 2, 5]);
    assert!(
        function
            .capabilities
            .iter()
            .all(|c| usize::from(c.body[0]) == c.body.len() + 2)
    );
    let config = crate::pci::ConfigSpace::new(&function);
    assert_eq!(config.read(0x34, 1), crate::pci::ConfigRead::Value(0x40));
}

#[test]
fn features_are_refused_without_version_1_and_beyond_what_is_offered() {
    for features in [0, VERSION_1 | 1 << 27, EVENT_INDEX] {
        let mut rig = Rig::new(model());
        rig.write(0, 0x14, 1, 3);
        for half in [0, 1] {
            rig.write(0, 0x08, 4, half);
            rig.write(0, 0x0C, 4, features >> (32 * half));
        }
        rig.write(0, 0x14, 1, 0xB);
        assert_eq!(rig.read(0, 0x14, 1), 3, "{features:#x}");
        rig.write(0, 0x14, 1, 0xF);
        assert_eq!(rig.read(0, 0x14, 1) & 4, 0);
    }
}

#[test]
fn queue_registers_keep_what_is_legal_until_the_queue_is_enabled() {
    let mut rig = Rig::new(model());
    assert_eq!((rig.read(0, 0x12, 2), rig.read(0, 0x18, 2)), (1, 8));
    for (written, read) in [(4, 4), (3, 4), (16, 4), (0, 4)] {
        rig.write(0, 0x18, 2, written);
        assert_eq!(rig.read(0, 0x18, 2), read);
    }
    rig.write(0, 0x1A, 2, 2);
    assert_eq!(rig.read(0, 0x1A, 2), 0xFFFF, "there are two vectors");
    rig.write(0, 0x20, 4, 0x1000);
    rig.write(0, 0x24, 4, 1);
    assert_eq!(rig.read(0, 0x20, 8), 0x1_0000_1000);
    rig.write(0, 0x1C, 2, 1);
    rig.write(0, 0x20, 4, 0);
    assert_eq!((rig.read(0, 0x20, 4), rig.read(0, 0x1C, 2)), (0x1000, 1));
    rig.write(0, 0x16, 2, 1);
    assert_eq!(
        (rig.read(0, 0x18, 2), rig.read(0, 0x1A, 2)),
        (0, 0xFFFF),
        "no such queue"
    );
}

#[test]
fn a_chain_is_filled_and_interrupts_by_vector_and_by_pin() {
    let mut mock = mock(0);
    let head = mock.add(&[(BUFFERS, 3, true), (BUFFERS + 100, 10, true)]);
    mock.kick();
    assert_eq!(mock.used(), [(u32::from(head), 13)]);
    assert!(mock.bytes(BUFFERS + 100, 10).iter().any(|&byte| byte != 0));
    assert_eq!(mock.bytes(BUFFERS + 3, 1), [0]);
    assert_eq!((&mock.rig.vectors[..], mock.rig.lines[0]), (&[0][..], true));
    assert_eq!(
        (
            mock.rig.read(0, 0x1000, 1),
            mock.rig.lines[0],
            mock.rig.read(0, 0x1000, 1)
        ),
        (1, false, 0)
    );
}

#[test]
fn the_seed_decides_the_bytes() {
    let bytes = |seed| {
        let mut mock = Mock::new(&|| Box::new(VirtioPci::new(Rng::new(seed))), VERSION_1, 8);
        mock.add(&[(BUFFERS, 64, true)]);
        mock.kick();
        mock.bytes(BUFFERS, 64).to_vec()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn chains_published_before_driver_ok_are_served_by_it() {
    let mut mock = mock(0);
    mock.common(0x14, 1, 0);
    mock.add(&[(BUFFERS, 4, true)]);
    mock.kick();
    assert_eq!(mock.used(), []);
}

#[test]
fn no_interrupt_is_sent_to_a_driver_that_wants_none() {
    let mut mock = mock(0);
    mock.set_no_interrupt(true);
    mock.add(&[(BUFFERS, 4, true)]);
    mock.kick();
    assert_eq!((mock.used().len(), mock.rig.vectors.len()), (1, 0));
}

#[test]
fn event_indices_choose_the_interrupt_and_the_notification() {
    let mut mock = mock(EVENT_INDEX);
    mock.set_used_event(2);
    for expected in [1, 1, 2, 2] {
        // The first completion after a reset interrupts: the device has no old index to compare with.
        mock.add(&[(BUFFERS, 4, true)]);
        mock.kick();
        assert_eq!(mock.rig.vectors.len(), expected);
    }
    assert_eq!(mock.available_event(), 4);
}

#[test]
fn indices_go_round() {
    let mut mock = mock(EVENT_INDEX);
    for i in 0..0x1_0010u32 {
        mock.set_used_event(i as u16);
        mock.add(&[(BUFFERS, 1, true)]);
        mock.kick();
        assert_eq!(mock.used().len(), 1);
        assert_eq!(std::mem::take(&mut mock.rig.vectors), [0], "{i}");
    }
}

#[test]
fn an_indirect_table_is_a_chain() {
    let mut mock = mock(INDIRECT);
    mock.add_indirect(0x8000, &[(BUFFERS, 5, true), (BUFFERS + 64, 6, true)]);
    mock.kick();
    assert_eq!(mock.used(), [(0, 11)]);
}

/// A name, and what breaks the queue.
type Breach = (&'static str, fn(&mut Mock));

const BREACHES: [Breach; 9] = [
    ("a head beyond the table", |m| m.publish(8)),
    ("more chains than the queue has", |m| m.set_published(9)),
    ("a loop", |m| {
        m.put_descriptor(DESCRIPTORS, (BUFFERS, 4), 3, 0);
        m.publish(0);
    }),
    ("a link beyond the table", |m| {
        m.put_descriptor(DESCRIPTORS, (BUFFERS, 4), 3, 8);
        m.publish(0);
    }),
    ("readable after writable", |m| {
        m.add(&[(BUFFERS, 4, true), (BUFFERS, 4, false)]);
    }),
    (
        "an indirect table that is no whole number of descriptors",
        |m| {
            m.put_descriptor(DESCRIPTORS, (0x8000, 15), 4, 0);
            m.publish(0);
        },
    ),
    ("a table within a table", |m| {
        m.put_descriptor(0x8000, (0x8000, 16), 4, 0);
        m.put_descriptor(DESCRIPTORS, (0x8000, 16), 4, 0);
        m.publish(0);
    }),
    ("a table outside RAM", |m| {
        m.put_descriptor(DESCRIPTORS, (u64::MAX - 3, 16), 4, 0);
        m.publish(0);
    }),
    ("a chain of more than 4 GiB", |m| {
        m.add(&[(BUFFERS, u32::MAX, true), (BUFFERS, u32::MAX, true)]);
    }),
];

#[test]
fn a_breach_of_the_rules_stops_the_device_until_it_is_reset() {
    for (what, breach) in BREACHES {
        let mut mock = mock(INDIRECT);
        breach(&mut mock);
        mock.kick();
        assert_eq!(mock.status(), NEEDS_RESET, "{what}");
        assert_eq!(
            (mock.used(), &mock.rig.vectors[..]),
            (vec![], &[1][..]),
            "{what}"
        );
        mock.kick();
        mock.start(VERSION_1);
        mock.add(&[(BUFFERS, 4, true)]);
        mock.kick();
        assert_eq!(mock.used().len(), 1, "{what}: works after a reset");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a driver does, the device ends its call, and a sound driver can have it back.
    #[test]
    fn a_hostile_driver_is_survived(bytes in proptest::collection::vec(any::<u8>(), 8..3000)) {
        super::hostile::virtio_block(&bytes);
    }
}
