//! Traffic with devices: ports, configuration space, registers in memory, and virtio queues that are nearly right.

use device_core::SplitMix64;

use super::code::Coder;
use super::place;

/// Ports that something answers at.
const PORTS: [u16; 44] = [
    0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, 0x72, 0x60,
    0x64, 0x92, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x2f8, 0xcf8, 0xcf9, 0xcfa,
    0xcfc, 0xcfd, 0xcfe, 0xcff, 0x600, 0x602, 0x608, 0x60c, 0x60e, 0x80, 0xb2, 0xe9, 0x402, 0x510,
    0x511,
];
/// The virtio disk's BAR, as the firmware sets it.
const BAR: u64 = 0xc000_0000;
const IOAPIC: u64 = 0xfec0_0000;
const LAPIC: u64 = 0xfee0_0000;

/// A port; seldom one of no device.
pub(super) fn port(rng: &mut SplitMix64) -> u16 {
    match rng.below(12) {
        0 => rng.next_u64() as u16,
        _ => PORTS[rng.below(PORTS.len() as u64) as usize],
    }
}

/// The address of a register in memory.
pub(super) fn register(rng: &mut SplitMix64) -> u64 {
    match rng.below(8) {
        0 => IOAPIC + [0, 0x10, 0x20, 0x40][rng.below(4) as usize],
        1..4 => LAPIC + 0x10 * rng.below(0x40),
        4 => BAR + rng.below(0x8000),
        5 => BAR + 0x1000 * rng.below(5) + rng.below(0x60),
        6 => BAR + rng.below(0x40),
        _ => 0xc000_0000 + rng.below(0x3fff_0000),
    }
}

fn value(rng: &mut SplitMix64) -> u32 {
    match rng.below(4) {
        0 => rng.next_u64() as u32,
        1 => 1 << rng.below(32),
        2 => rng.below(256) as u32,
        _ => (place::DATA + rng.below(0x1_0000)) as u32,
    }
}

/// A program of accesses.
pub(super) fn traffic(rng: &mut SplitMix64, bits: u32) -> Vec<u8> {
    let mut c = Coder::new(bits);
    if rng.below(2) == 0 {
        driver(rng, &mut c);
    }
    while c.has_room() {
        match rng.below(8) {
            0..3 => {
                let (port, value) = (port(rng), value(rng));
                c.port(port, rng.below(6) as u8, value);
            }
            3 => {
                let (slot, function) = ([0, 1, 3, 3][rng.below(4) as usize], rng.below(4) / 3 * 3);
                let at = 0x8000_0000 | slot << 11 | function << 8 | rng.below(64) << 2;
                c.port(0xcf8, 5, at as u32);
                c.port(0xcfc + rng.below(4) as u16, rng.below(6) as u8, value(rng));
            }
            4 | 5 => c.store(register(rng), value(rng), 1 << rng.below(3)),
            6 => c.load(register(rng), 1 << rng.below(3)),
            _ => c.store(place::DATA + rng.below(0x400) * 4, value(rng), 4),
        }
    }
    c.bytes
}

/// The registers of the common configuration structure: offset and bytes.
const COMMON: [(u64, u32); 12] = [
    (0x00, 4),
    (0x04, 4),
    (0x08, 4),
    (0x0c, 4),
    (0x10, 2),
    (0x14, 1),
    (0x16, 2),
    (0x18, 2),
    (0x1a, 2),
    (0x1c, 2),
    (0x20, 4),
    (0x28, 4),
];

/// What a driver does, with a slip now and then: the device set up, a queue of chains, and notifications.
fn driver(rng: &mut SplitMix64, c: &mut Coder) {
    let ring = place::DATA;
    let size = [4, 8, 16, 128][rng.below(4) as usize];
    // Bus master and memory.
    c.port(0xcf8, 5, 0x8000_1804);
    c.port(0xcfc, 5, 0x7);
    let mut writes = vec![
        (0x14, 1, 0),
        (0x14, 1, 3),
        (0x08, 4, 0),
        (0x0c, 4, rng.next_u64() as u32 & 0x3000_7660),
        (0x08, 4, 1),
        (0x0c, 4, 1),
        (0x14, 1, 0xb),
        (0x16, 2, 0),
        (0x18, 2, size),
        (0x1a, 2, rng.below(3) as u32),
        (0x20, 4, ring as u32),
        (0x28, 4, ring as u32 + 0x1000),
        (0x30, 4, ring as u32 + 0x2000),
        (0x1c, 2, 1),
        (0x14, 1, 0xf),
    ];
    if rng.below(3) == 0 {
        let (offset, bytes) = COMMON[rng.below(COMMON.len() as u64) as usize];
        let at = rng.below(writes.len() as u64) as usize;
        writes.insert(at, (offset, bytes, value(rng)));
    }
    // The chains first: notifications find them.
    let chains = 1 + rng.below(4);
    for n in 0..chains * 3 {
        descriptor(rng, c, ring + 16 * n, n);
    }
    for n in 0..chains {
        c.store(ring + 0x1004 + 2 * n, (3 * n) as u32, 2);
    }
    c.store(ring + 0x1002, chains as u32, 2);
    for (offset, bytes, value) in writes {
        c.store(BAR + offset, value, bytes);
    }
    for _ in 0..1 + rng.below(3) {
        c.store(BAR + 0x3000, 0, 2);
    }
}

/// One of a chain of three: header, data, status, as a block request has them.
fn descriptor(rng: &mut SplitMix64, c: &mut Coder, at: u64, n: u64) {
    let slip = rng.below(12) == 0;
    let (buffer, bytes, flags) = match n % 3 {
        0 => {
            let header = place::DATA + 0x3000 + 0x20 * n;
            c.store(header, [0, 1, 4, 8, 11, 13][rng.below(6) as usize], 4);
            c.store(header + 8, rng.below(9) as u32, 4);
            (header, 16, 1)
        }
        1 => {
            let write = rng.below(2) as u32 * 2;
            let bytes = [512, 1024, 4096, 16, 20][rng.below(5) as usize];
            // Data may land anywhere, code included.
            let to = match rng.below(4) {
                0 => place::CODE + rng.below(0x8000),
                1 => place::PAGE_TABLES + rng.below(place::PAGE_TABLES_BYTES),
                _ => place::DATA + 0x4000 + 0x1000 * n,
            };
            (to, bytes, 1 | write)
        }
        _ => (place::DATA + 0xf000 + n, 1, 2),
    };
    c.store(at, if slip { value(rng) } else { buffer as u32 }, 4);
    c.store(at + 4, u32::from(slip && rng.below(2) == 0), 4);
    c.store(at + 8, if slip { value(rng) } else { bytes }, 4);
    let flags = if slip { value(rng) & 0xffff } else { flags };
    c.store(at + 12, flags | (n as u32 + 1) << 16, 4);
}
