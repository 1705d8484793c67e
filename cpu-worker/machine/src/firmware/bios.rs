//! What a PC's BIOS leaves behind in the first MiB: interrupt vectors, its data area, the beginning of the extended one.
//!
//! Boot protocols leave the machine "in normal working order, i.e. as initialized by the BIOS" (Multiboot 0.6.96, section 3.2), and kernels look:
//! Xen puts its real-mode trampoline below the extended BIOS data area, Linux reserves from there on, others find their serial ports here.
//! Field addresses: IBM PC AT Technical Reference (6280070), section 5, "BIOS Data Areas".
//!
//! There is no BIOS behind it. A service that a guest calls in real mode says that it is not supported, as every BIOS says of those that it has
//! not: carry set, 86h in AH. Interrupts of devices and exceptions return at once; a guest that wants them brings its own vectors.

use super::Chunk;
use crate::map;

/// Interrupt vectors, four bytes each.
const VECTORS: u64 = 0;
/// The BIOS data area begins here.
const DATA: u64 = 0x400;
/// The segment of the code that the vectors point to.
const SEGMENT: u16 = 0xf000;
/// Where IBM's BIOS has its interrupt return, in that segment; what tells of an unsupported service stands behind it.
const RETURN: u16 = 0xff53;

/// The software interrupts that are services of a BIOS: display, equipment, memory, disk, serial, system, keyboard, printer, ROM BASIC,
/// boot, time.
const SERVICES: std::ops::RangeInclusive<u16> = 0x10..=0x1a;

const CODE: [u8; 12] = [
    0xcf, // iret
    0x55, // push bp
    0x89, 0xe5, // mov bp, sp
    0x80, 0x4e, 0x06,
    0x01, // or byte [bp + 6], 1: carry, in the flags that the interrupt pushed
    0x5d, // pop bp
    0xb4, 0x86, // mov ah, 86h
    0xcf, // iret
];

/// The areas of a machine that has those of COM1 to COM4.
pub fn areas(serial: [bool; 4]) -> [Chunk<'static>; 4] {
    let code = u64::from(SEGMENT) * 16 + u64::from(RETURN);
    [
        Chunk::new(VECTORS, vectors()),
        Chunk::new(DATA, data(serial)),
        // The extended area says how long it is, in KiB.
        Chunk::new(map::LOW_MEMORY_END, vec![1]),
        Chunk::new(code, &CODE[..]),
    ]
}

fn vectors() -> Vec<u8> {
    (0..256)
        .flat_map(|vector| {
            let offset = RETURN + u16::from(SERVICES.contains(&vector));
            [offset.to_le_bytes(), SEGMENT.to_le_bytes()].concat()
        })
        .collect()
}

fn data(serial: [bool; 4]) -> Vec<u8> {
    let mut area = vec![0; 0x100];
    let mut word = |at: usize, value: u16| area[at..at + 2].copy_from_slice(&value.to_le_bytes());
    let ports = map::COM.iter().zip(serial).filter(|(_, present)| *present);
    let count = ports.clone().count() as u16;
    for (i, ((port, _), _)) in ports.enumerate() {
        word(2 * i, *port);
    }
    word(0x0e, (map::LOW_MEMORY_END >> 4) as u16);
    // Equipment: a floating-point unit, so many serial ports.
    word(0x10, 1 << 1 | count << 9);
    word(0x13, (map::LOW_MEMORY_END >> 10) as u16);
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_area_tells_of_ports_and_memory() {
        let [_, data, extended, _] = areas([true, false, true, false]);
        let word = |at: u64| {
            let at = (at - data.address) as usize;
            u16::from_le_bytes([data.bytes[at], data.bytes[at + 1]])
        };
        assert_eq!([word(0x400), word(0x402), word(0x404)], [0x3f8, 0x3e8, 0]);
        assert_eq!(u64::from(word(0x40e)) * 16, extended.address);
        assert_eq!(u64::from(word(0x413)) * 1024, extended.address);
        assert_eq!(word(0x410) >> 9 & 7, 2);
    }

    #[test]
    fn every_vector_points_at_an_instruction_of_the_code() {
        let [vectors, .., code] = areas([false; 4]);
        for (i, vector) in vectors.bytes.chunks(4).enumerate() {
            let half = |at| u64::from(u16::from_le_bytes([vector[at], vector[at + 1]]));
            let offset = (half(2) * 16 + half(0) - code.address) as usize;
            let first = if matches!(i, 0x10..=0x1a) { 0x55 } else { 0xcf };
            assert_eq!(code.bytes[offset], first, "vector {i:#x}");
        }
    }
}
