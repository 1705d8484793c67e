//! The block device under a mock driver: every kind of request, its limits, its time, and resets in between.

use std::collections::BTreeMap;

use device_core::rig::{InFlight, Rig};
use device_core::{Model, conformance};
use proptest::prelude::*;

use super::super::mock::{BUFFERS, Buffer, EVENT_INDEX, INDIRECT, Mock, VERSION_1};
use super::super::{VirtioBlock, VirtioPci};
use super::request::{
    TYPE_DISCARD, TYPE_FLUSH, TYPE_IDENTIFY, TYPE_READ, TYPE_WRITE, TYPE_WRITE_ZEROES,
};
use super::*;

const SECTORS: u64 = 1 << 16;
const HEADER: u64 = BUFFERS;
const STATUS: u64 = BUFFERS + 0x100;
const DATA: u64 = BUFFERS + 0x1000;
/// Flush, cache mode, discard, write zeroes.
const FEATURES: u64 = VERSION_1 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14;

fn config() -> BlockConfig {
    BlockConfig {
        sectors: SECTORS,
        serial: "atoll-disk-0".into(),
        ..BlockConfig::default()
    }
}

fn model() -> Box<dyn Model> {
    Box::new(VirtioPci::new(Block::new(config())))
}

/// A driver whose disk is a map of sectors.
fn mock_with(features: u64, config: BlockConfig) -> Mock {
    let make = || -> Box<dyn Model> { Box::new(VirtioBlock::new(Block::new(config.clone()))) };
    let mut mock = Mock::new(&make, features, 256);
    let mut disk = BTreeMap::<u64, Vec<u8>>::new();
    let rig = std::mem::replace(&mut mock.rig, Rig::new(self::model()));
    mock.rig = rig.with_backend(Box::new(move |request| serve(&mut disk, request)));
    mock
}

fn mock() -> Mock {
    mock_with(FEATURES, config())
}

fn serve(disk: &mut BTreeMap<u64, Vec<u8>>, request: &Request<Vec<u8>>) -> (Status, Vec<u8>) {
    let Request::Block(request) = request else {
        panic!("{request:?}")
    };
    match request {
        BlockRequest::Read { sector, len } => {
            let sectors = *sector..sector + u64::from(len / 512);
            (
                Status::Ok,
                sectors
                    .flat_map(|s| disk.get(&s).cloned().unwrap_or(vec![0; 512]))
                    .collect(),
            )
        }
        BlockRequest::Write { sector, data, .. } => {
            for (i, chunk) in data.chunks(512).enumerate() {
                disk.insert(sector + i as u64, chunk.to_vec());
            }
            (Status::Ok, Vec::new())
        }
        BlockRequest::WriteZeroes {
            sector, sectors, ..
        } => {
            (*sector..sector + u64::from(*sectors)).for_each(|s| drop(disk.remove(&s)));
            (Status::Ok, Vec::new())
        }
        BlockRequest::Flush => (Status::Ok, Vec::new()),
        BlockRequest::Discard { .. } => (Status::Io, Vec::new()),
    }
}

/// Publishes a request: type, sector, and the buffers between header and status byte.
fn add(mock: &mut Mock, kind: u32, sector: u64, buffers: &[Buffer]) -> u16 {
    mock.rig.ram.write(HEADER, &kind.to_le_bytes());
    mock.rig.ram.write(HEADER + 4, &[0; 4]);
    mock.rig.ram.write(HEADER + 8, &sector.to_le_bytes());
    mock.rig.ram.write(STATUS, &[0xEE]);
    let chain = [&[(HEADER, 16, false)], buffers, &[(STATUS, 1, true)]].concat();
    mock.add(&chain)
}

/// Does one request to its end. Returns its status, how many bytes were written, and how long it took.
fn run(mock: &mut Mock, kind: u32, sector: u64, buffers: &[Buffer]) -> (u8, u32, u64) {
    let head = add(mock, kind, sector, buffers);
    let start = mock.rig.now_ns;
    mock.kick();
    while let Some(at) = mock.rig.next_due() {
        mock.rig.advance(at - mock.rig.now_ns);
    }
    let used = mock.used();
    assert_eq!((used.len(), used[0].0), (1, u32::from(head)));
    (mock.bytes(STATUS, 1)[0], used[0].1, mock.rig.now_ns - start)
}

#[test]
fn it_conforms() {
    for seed in 0..8 {
        conformance::check(&model, seed, 2000);
    }
}

#[test]
fn the_configuration_describes_the_medium() {
    let mut mock = mock();
    let mut read = |offset: u64, size| mock.rig.read(0, 0x2000 + offset, size);
    assert_eq!(
        (read(0, 8), read(8, 4), read(0xC, 4), read(0x14, 4)),
        (SECTORS, 4096, 254, 512)
    );
    assert_eq!((read(0x20, 1), read(0x22, 2)), (1, 1));
    assert_eq!(
        (read(0x24, 4), read(0x28, 4), read(0x2C, 4)),
        (1 << 22, 1, 1)
    );
    assert_eq!(
        (read(0x30, 4), read(0x34, 4), read(0x38, 1)),
        (1 << 22, 1, 1)
    );
}

#[test]
fn what_is_written_is_read_back_after_the_modelled_time() {
    let mut mock = mock();
    let pattern: Vec<u8> = (0..2048u32).map(|i| (i * 7 / 8) as u8).collect();
    mock.rig.ram.write(DATA, &pattern);
    let written = run(
        &mut mock,
        TYPE_WRITE,
        5,
        &[(DATA, 1000, false), (DATA + 1000, 1048, false)],
    );
    assert_eq!(written, (0, 1, 50_102));
    let read = run(
        &mut mock,
        TYPE_READ,
        5,
        &[(DATA + 0x8000, 512, true), (DATA + 0x9000, 1536, true)],
    );
    assert_eq!(read, (0, 2049, 50_102));
    assert_eq!(mock.bytes(DATA + 0x8000, 512), &pattern[..512]);
    assert_eq!(mock.bytes(DATA + 0x9000, 1536), &pattern[512..]);
    assert_eq!(mock.rig.vectors, [0, 0]);
}

/// What a link of the default size admits at once, so that the ring is never what holds a request back. Replies are freed in the
/// order of issue, and no request lives longer than two of the shortest: twice what is in flight, and a gap at the arena's end.
#[test]
fn everything_in_flight_fits_into_a_link() {
    use atoll_abi::link::{LinkGeometry, LinkKind};
    let link = LinkGeometry::default_for(LinkKind::Block);
    let ports = Block::new(config()).ports();
    let bytes = ports.max_bytes_in_flight;
    assert!(MAX_REQUEST_BYTES <= u64::from(atoll_abi::block::MAX_TRANSFER));
    assert!(ports.max_in_flight <= link.slots / 4);
    assert!(bytes <= u64::from(link.request_arena) / 4);
    assert!(2 * bytes + MAX_REQUEST_BYTES <= u64::from(link.reply_arena));
    let longest = latency_ns(
        &BlockRequest::Read {
            sector: 0,
            len: 1 << 20,
        },
        1 << 20,
    );
    let shortest = latency_ns(
        &BlockRequest::Read {
            sector: 0,
            len: 512,
        },
        512,
    );
    assert!(longest <= 2 * shortest);
}

#[test]
fn nothing_changes_before_its_time() {
    let mut mock = mock();
    mock.rig.ram.write(DATA, &[0xAA; 512]);
    add(&mut mock, TYPE_READ, 0, &[(DATA, 512, true)]);
    mock.kick();
    mock.rig.advance(50_024);
    assert_eq!(
        (
            mock.bytes(DATA, 1)[0],
            mock.bytes(STATUS, 1)[0],
            mock.used().len()
        ),
        (0xAA, 0xEE, 0)
    );
    mock.rig.advance(1);
    assert_eq!(
        (
            mock.bytes(DATA, 1)[0],
            mock.bytes(STATUS, 1)[0],
            mock.used().len()
        ),
        (0, 0, 1)
    );
}

#[test]
fn requests_out_of_range_or_shape_are_answered_without_the_back_end() {
    let mut mock = mock();
    let cases: [(&str, u32, u64, &[Buffer], u8); 8] = [
        (
            "beyond the end",
            TYPE_READ,
            SECTORS,
            &[(DATA, 512, true)],
            1,
        ),
        (
            "over the end",
            TYPE_READ,
            SECTORS - 1,
            &[(DATA, 1024, true)],
            1,
        ),
        (
            "a sector number that overflows",
            TYPE_WRITE,
            u64::MAX,
            &[(DATA, 512, false)],
            1,
        ),
        ("half a sector", TYPE_WRITE, 0, &[(DATA, 256, false)], 1),
        (
            "more than a request may move",
            TYPE_READ,
            0,
            &[(DATA, 1 << 20, true), (DATA, 512, true)],
            1,
        ),
        ("nothing", TYPE_READ, 0, &[], 0),
        ("an unknown type", 0x1234, 0, &[], 2),
        (
            "a discard of half a range",
            TYPE_DISCARD,
            0,
            &[(DATA, 8, false)],
            1,
        ),
    ];
    for (what, kind, sector, buffers, status) in cases {
        assert_eq!(
            run(&mut mock, kind, sector, buffers),
            (status, 1, 0),
            "{what}"
        );
    }
}

#[test]
fn a_failed_read_writes_no_data() {
    let mut mock = mock_with(FEATURES, config());
    let rig = std::mem::replace(&mut mock.rig, Rig::new(model()));
    mock.rig = rig.with_backend(Box::new(|_| (Status::Io, vec![1; 512])));
    assert_eq!(
        run(&mut mock, TYPE_READ, 0, &[(DATA, 512, true)]),
        (1, 0, 50_025)
    );
    assert_eq!(mock.bytes(DATA, 512), [0; 512]);
}

#[test]
fn the_identity_is_twenty_bytes() {
    let mut mock = mock();
    assert_eq!(
        run(&mut mock, TYPE_IDENTIFY, 0, &[(DATA, 20, true)]),
        (0, 21, 0)
    );
    assert_eq!(mock.bytes(DATA, 20), b"atoll-disk-0\0\0\0\0\0\0\0\0");
}

fn range(mock: &mut Mock, sector: u64, sectors: u32, flags: u32) {
    mock.rig.ram.write(DATA, &sector.to_le_bytes());
    mock.rig.ram.write(DATA + 8, &sectors.to_le_bytes());
    mock.rig.ram.write(DATA + 12, &flags.to_le_bytes());
}

fn submitted(mock: &Mock) -> Vec<Request<Vec<u8>>> {
    mock.rig
        .in_flight
        .iter()
        .map(|InFlight { request, .. }| request.clone())
        .collect()
}

#[test]
fn discard_and_write_zeroes_take_one_range() {
    let mut mock = mock();
    let cases = [
        (
            TYPE_DISCARD,
            0,
            Some(BlockRequest::Discard {
                sector: 3,
                sectors: 9,
            }),
        ),
        (TYPE_DISCARD, 1, None),
        (
            TYPE_WRITE_ZEROES,
            0,
            Some(BlockRequest::WriteZeroes {
                sector: 3,
                sectors: 9,
                unmap: false,
                fua: false,
            }),
        ),
        (
            TYPE_WRITE_ZEROES,
            1,
            Some(BlockRequest::WriteZeroes {
                sector: 3,
                sectors: 9,
                unmap: true,
                fua: false,
            }),
        ),
        (TYPE_WRITE_ZEROES, 2, None),
    ];
    for (kind, flags, expected) in cases {
        range(&mut mock, 3, 9, flags);
        add(&mut mock, kind, 0, &[(DATA, 16, false)]);
        mock.kick();
        assert_eq!(
            submitted(&mock),
            expected.map(Request::Block).into_iter().collect::<Vec<_>>(),
            "{kind} {flags}"
        );
        mock.rig.advance(100_000);
        assert_eq!(mock.used().len(), 1);
    }
    range(&mut mock, SECTORS - 1, 2, 0);
    assert_eq!(run(&mut mock, TYPE_DISCARD, 0, &[(DATA, 16, false)]).0, 1);
}

/// Whether a write is to be stable when it is answered.
fn is_through(mock: &mut Mock) -> bool {
    add(mock, TYPE_WRITE, 0, &[(DATA, 512, false)]);
    mock.kick();
    let requests = submitted(mock);
    mock.rig.advance(100_000);
    matches!(
        &requests[..],
        [Request::Block(BlockRequest::Write { fua: true, .. })]
    )
}

#[test]
fn the_cache_mode_is_the_drivers_where_it_may_choose() {
    let mut chosen = mock();
    assert!(!is_through(&mut chosen));
    chosen.rig.write(0, 0x2020, 1, 0);
    assert!(is_through(&mut chosen));
    chosen.rig.write(0, 0x2020, 1, 1);
    assert!(!is_through(&mut chosen));
    let mut flushes = mock_with(VERSION_1 | 1 << 9, config());
    assert!(!is_through(&mut flushes));
    let mut knows_nothing = mock_with(VERSION_1, config());
    assert!(
        is_through(&mut knows_nothing),
        "a driver without flush gets stable writes"
    );
    let mut through = mock_with(
        FEATURES,
        BlockConfig {
            writeback: false,
            ..config()
        },
    );
    assert!(is_through(&mut through));
}

#[test]
fn a_read_only_medium_takes_no_write() {
    let mut mock = mock_with(
        VERSION_1 | 1 << 5,
        BlockConfig {
            read_only: true,
            ..config()
        },
    );
    assert_eq!(run(&mut mock, TYPE_WRITE, 0, &[(DATA, 512, false)]).0, 1);
    assert_eq!(run(&mut mock, TYPE_FLUSH, 0, &[]).0, 0);
    assert_eq!(run(&mut mock, TYPE_READ, 0, &[(DATA, 512, true)]).0, 0);
}

#[test]
fn what_finds_no_room_waits_in_the_queue() {
    let mut mock = mock();
    // Each 1 MiB: two fit, and a small one after them does not overtake the third.
    for _ in 0..3 {
        add(&mut mock, TYPE_READ, 0, &[(DATA, 1 << 20, true)]);
    }
    add(&mut mock, TYPE_READ, 0, &[(DATA, 512, true)]);
    mock.kick();
    assert_eq!(mock.rig.in_flight.len(), 2);
    mock.rig.advance(100_000);
    assert_eq!((mock.used().len(), mock.rig.in_flight.len()), (2, 2));
    mock.rig.advance(100_000);
    assert_eq!(mock.used().len(), 2);
}

#[test]
fn no_more_requests_are_in_flight_than_were_reserved() {
    let mut mock = mock();
    mock.size = 256;
    for _ in 0..4 {
        for i in 0..40 {
            mock.add_indirect(
                0x20_0000 + i * 64,
                &[(HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true)],
            );
        }
        mock.kick();
    }
    assert_eq!(mock.rig.in_flight.len(), 128);
    let mut done = 0;
    while let Some(at) = mock.rig.next_due() {
        mock.rig.advance(at - mock.rig.now_ns);
        done += mock.used().len();
    }
    assert_eq!(done, 160);
}

#[test]
fn replies_to_requests_from_before_a_reset_go_nowhere() {
    let mut mock = mock();
    mock.rig.ram.write(DATA, &[0xAA; 512]);
    add(&mut mock, TYPE_READ, 0, &[(DATA, 512, true)]);
    mock.kick();
    mock.start(FEATURES);
    mock.rig.advance(100_000);
    assert_eq!(mock.used(), []);
    assert_eq!(mock.bytes(DATA, 512), [0xAA; 512]);
    assert_eq!(
        run(&mut mock, TYPE_READ, 0, &[(DATA, 512, true)]),
        (0, 513, 50_025)
    );
}

#[test]
fn a_chain_without_header_or_status_breaks_the_device() {
    for buffers in [
        &[(HEADER, 16, false)][..],
        &[(HEADER, 15, false), (STATUS, 1, true)],
        &[(STATUS, 1, true)],
    ] {
        let mut mock = mock();
        mock.add(buffers);
        mock.kick();
        assert_eq!(mock.status(), 0x4F, "{buffers:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Random writes and reads against a flat array, with indirect chains, event indices and odd segment sizes.
    #[test]
    fn it_is_a_disk(ops in proptest::collection::vec((any::<bool>(), 0..32u64, 1..8u64, 8..600u32), 1..40)) {
        let mut mock = mock_with(FEATURES | INDIRECT | EVENT_INDEX, config());
        let mut disk = vec![0u8; 64 * 512];
        for (n, (is_write, sector, sectors, piece)) in ops.into_iter().enumerate() {
            let (len, mut buffers, mut at) = (sectors as u32 * 512, vec![(HEADER, 16, false)], 0);
            while at < len {
                let size = piece.min(len - at);
                buffers.push((DATA + u64::from(at) * 2, size, !is_write));
                at += size;
            }
            buffers.push((STATUS, 1, true));
            let range = sector as usize * 512..(sector + sectors) as usize * 512;
            if is_write {
                let bytes: Vec<u8> = (0..len).map(|i| (i as usize * 31 + n) as u8).collect();
                for &(address, size, _) in &buffers[1..buffers.len() - 1] {
                    let from = (address - DATA) as usize / 2;
                    mock.rig.ram.write(address, &bytes[from..from + size as usize]);
                }
                disk[range.clone()].copy_from_slice(&bytes);
            }
            mock.rig.ram.write(HEADER, &u32::from(is_write).to_le_bytes());
            mock.rig.ram.write(HEADER + 8, &sector.to_le_bytes());
            mock.set_used_event(n as u16);
            mock.add_indirect(0x20_0000, &buffers);
            mock.kick();
            mock.rig.advance(100_000);
            prop_assert_eq!(mock.used().len(), 1);
            prop_assert_eq!(mock.rig.vectors.len(), n + 1);
            if !is_write {
                for &(address, size, _) in &buffers[1..buffers.len() - 1] {
                    let from = range.start + (address - DATA) as usize / 2;
                    prop_assert_eq!(mock.bytes(address, size as usize), &disk[from..from + size as usize]);
                }
            }
        }
    }
}
