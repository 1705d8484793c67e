//! A hostile driver of a virtio disk, made of arbitrary bytes: the body of a fuzz target and of a property test.

use device_core::rig::Rig;
use device_core::{BlockRequest, Model, Noise, Request, Status};

use super::{Block, BlockConfig, VirtioBlock};

/// Where queue 0 lies in the rig's RAM, a table for indirect chains, and everything else.
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const BUFFERS: u64 = 0x8000;
const RAM: usize = 0x1_0000;

const QUEUE_LEN: u64 = 16;
const NOTIFY: u64 = 0x3000;
const VERSION_1: u64 = 1 << 32;
/// All that are offered: flush, cache mode, discard, write zeroes, indirect chains, event indices.
const FEATURES: u64 = VERSION_1 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 14 | 1 << 28 | 1 << 29;
/// Calls that are made of one input at most.
const STEPS: usize = 2000;

/// Sets a disk up by the book and then writes into its registers, its rings and its buffers what the bytes say. Nothing panics, what the
/// model owes its seat is kept, a model behind the wire does the same, and a sound driver can have the device back.
pub fn virtio_block(bytes: &[u8]) {
    let make = || -> Box<dyn Model> {
        Box::new(VirtioBlock::new(Block::new(BlockConfig {
            sectors: 64,
            serial: "hostile".into(),
            ..BlockConfig::default()
        })))
    };
    let mut rig = Rig::new(make())
        .with_twin(make())
        .with_ram(RAM)
        .with_backend(Box::new(backend));
    let mut noise = Noise(bytes);
    let chosen = noise.number(8);
    start(&mut rig, VERSION_1 | FEATURES & chosen);
    for _ in 0..STEPS {
        if noise.is_empty() {
            break;
        }
        step(&mut rig, &mut noise);
    }
    rig.advance(1 << 30);
    start(&mut rig, VERSION_1);
    read_a_sector(&mut rig);
}

/// From reset to DRIVER_OK, with empty rings.
fn start(rig: &mut Rig, features: u64) {
    rig.ram.0[DESCRIPTORS as usize..TABLE as usize].fill(0);
    let set_up = [
        (0x14, 1, 0),
        (0x14, 1, 3),
        (0x08, 4, 0),
        (0x0c, 4, features & 0xffff_ffff),
        (0x08, 4, 1),
        (0x0c, 4, features >> 32),
        (0x14, 1, 0xb),
        (0x16, 2, 0),
        (0x18, 2, QUEUE_LEN),
        (0x1a, 2, 0),
        (0x20, 8, DESCRIPTORS),
        (0x28, 8, AVAILABLE),
        (0x30, 8, USED),
        (0x1c, 2, 1),
        (0x14, 1, 0xf),
    ];
    for (offset, size, value) in set_up {
        rig.write(0, offset, size, value);
    }
}

fn step(rig: &mut Rig, noise: &mut Noise<'_>) {
    match noise.below(8) {
        // A descriptor of either table, nearly right.
        0..3 => {
            let table = [DESCRIPTORS, TABLE][noise.below(2) as usize];
            let at = table + 16 * noise.below(QUEUE_LEN);
            let address = [BUFFERS, TABLE, DESCRIPTORS, 0][noise.below(4) as usize];
            let fields = [
                (8, address + noise.number(2)),
                (4, noise.value()),
                (2, noise.number(1)),
                (2, noise.below(QUEUE_LEN + 1)),
            ];
            put(rig, at, &fields);
        }
        // The head of a request.
        3 => {
            let at = BUFFERS + noise.number(1);
            let fields = [(4, noise.below(16)), (4, 0), (8, noise.value())];
            put(rig, at, &fields);
        }
        4 => {
            let at = noise.number(2);
            let value = noise.value();
            put(rig, at, &[(8, value)]);
        }
        // A chain is made available, perhaps one that is none, and the device is told.
        5 => {
            let index = noise.number(1);
            let head = noise.below(QUEUE_LEN + 1);
            put(rig, AVAILABLE + 2, &[(2, index + 1)]);
            put(rig, AVAILABLE + 4 + 2 * (index % QUEUE_LEN), &[(2, head)]);
            rig.write(0, NOTIFY, 2, 0);
        }
        6 => {
            let ns = noise.number(3);
            rig.advance(ns);
        }
        _ => register(rig, noise),
    }
}

/// An access to the registers, mostly to the common ones.
fn register(rig: &mut Rig, noise: &mut Noise<'_>) {
    let size = 1 << noise.below(4);
    let page = [0, 0, 0, 0x1000, 0x2000, 0x3000][noise.below(6) as usize];
    let offset = page + noise.number(1);
    if noise.below(4) == 0 {
        rig.read(0, offset, size);
    } else {
        let value = noise.value();
        rig.write(0, offset, size, value);
    }
}

/// Writes fields of so many bytes each, one behind another.
fn put(rig: &mut Rig, mut at: u64, fields: &[(usize, u64)]) {
    for &(bytes, value) in fields {
        rig.ram.write(at, &value.to_le_bytes()[..bytes]);
        at += bytes as u64;
    }
}

/// Reads sector 1 by the book, and looks at the answer.
fn read_a_sector(rig: &mut Rig) {
    let (data, status) = (BUFFERS + 0x100, BUFFERS + 0x400);
    put(rig, BUFFERS, &[(4, 0), (4, 0), (8, 1)]);
    put(rig, status, &[(1, 0xff)]);
    let chain = [(BUFFERS, 16, 1), (data, 512, 3), (status, 1, 2)];
    for (n, (address, len, flags)) in chain.into_iter().enumerate() {
        let at = DESCRIPTORS + 16 * n as u64;
        put(
            rig,
            at,
            &[(8, address), (4, len), (2, flags), (2, n as u64 + 1)],
        );
    }
    put(rig, AVAILABLE, &[(2, 0), (2, 1), (2, 0)]);
    rig.write(0, NOTIFY, 2, 0);
    rig.advance(1 << 30);
    let byte = |at: u64| rig.ram.0[at as usize];
    let found = (byte(USED + 2), byte(status), byte(data), byte(data + 511));
    assert_eq!(found, (1, 0, 1, 1), "a sound driver is served");
}

/// A back end whose answers depend on the request alone, errors and short ones among them.
fn backend(request: &Request<Vec<u8>>) -> (Status, Vec<u8>) {
    match request {
        Request::Block(BlockRequest::Read { sector, len }) => match sector % 4 {
            0 => (Status::Io, Vec::new()),
            3 => (Status::Ok, vec![3; *len as usize / 2]),
            _ => (Status::Ok, vec![*sector as u8; *len as usize]),
        },
        Request::Block(BlockRequest::Write { sector, .. }) if sector % 4 == 0 => {
            (Status::NoSpace, Vec::new())
        }
        _ => (Status::Ok, Vec::new()),
    }
}
