//! What stands in memory before the first instruction: ACPI tables and the boot protocols.
//!
//! Everything here is a pure function from bytes to [`Chunk`]s; the board writes them into RAM.

pub mod acpi;
pub mod linux;

use std::borrow::Cow;

/// Bytes to be placed at a guest-physical address.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    pub address: u64,
    pub bytes: Cow<'a, [u8]>,
}

/// The registers with which a guest starts; everything not named is as after a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub rip: u64,
    pub rsi: u64,
    pub rsp: u64,
    pub cr3: u64,
    pub gdt_base: u64,
    pub gdt_limit: u16,
    pub code_selector: u16,
    pub data_selector: u16,
}

/// A type of the e820 map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RangeKind {
    Ram = 1,
    Reserved = 2,
    Acpi = 3,
}

/// The memory map that the guest is told, lowest first.
pub fn memory_map(memory_bytes: u64) -> Vec<(u64, u64, RangeKind)> {
    use crate::map;
    let (low, high) = map::split_ram(memory_bytes);
    let mut ranges = vec![
        (0, map::LOW_MEMORY_END, RangeKind::Ram),
        (
            map::LOW_MEMORY_END,
            0xa_0000 - map::LOW_MEMORY_END,
            RangeKind::Reserved,
        ),
        (
            map::ACPI_TABLES,
            map::ACPI_TABLES_END - map::ACPI_TABLES,
            RangeKind::Acpi,
        ),
        (0x10_0000, low - 0x10_0000, RangeKind::Ram),
        (map::IOAPIC, 0x1000, RangeKind::Reserved),
        (map::LAPIC, 0x1000, RangeKind::Reserved),
    ];
    if high > 0 {
        ranges.push((map::HIGH_RAM, high, RangeKind::Ram));
    }
    ranges
}
