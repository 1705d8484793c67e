//! What stands in memory before the first instruction: ACPI tables, a BIOS's data, and what the boot protocols place.
//!
//! Everything here is a pure function from bytes to [`Chunk`]s and an [`Entry`]; the board writes them into RAM and registers. The
//! images are a user's, so nothing about them is believed: a number read from one is bounded before it is used.
//!
//! [`load`] finds out by itself what a kernel is, in QEMU's order: a Linux bzImage ([`linux`]), Multiboot ([`multiboot`]), an ELF
//! file with a PVH entry or without one ([`elf`], [`pvh`]). What is not here: a start in real mode at an image's boot sector, or at
//! Linux's 16-bit entry. Both call a BIOS, so they are for machines that start in firmware, which is offered the kernel ([`fw_cfg`]).

pub mod acpi;
pub mod bios;
pub mod elf;
pub mod fw_cfg;
mod layout;
pub mod linux;
mod linux16;
pub mod multiboot;
pub mod pvh;
mod zero_page;

use std::borrow::Cow;

/// Bytes to be placed at a guest-physical address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub address: u64,
    pub bytes: Cow<'a, [u8]>,
    /// How many bytes of zero follow them: RAM may hold an earlier run's, before a reset.
    pub zeroes: u64,
}

impl<'a> Chunk<'a> {
    fn new(address: u64, bytes: impl Into<Cow<'a, [u8]>>) -> Chunk<'a> {
        Chunk {
            address,
            bytes: bytes.into(),
            zeroes: 0,
        }
    }

    /// The first address behind it.
    pub fn end(&self) -> u64 {
        self.address
            .saturating_add(self.bytes.len() as u64)
            .saturating_add(self.zeroes)
    }
}

/// The mode in which a guest starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// 32-bit protected mode: flat segments of 4 GiB, no paging.
    Flat32,
    /// 64-bit mode, through the page tables at `cr3`.
    Long { cr3: u64 },
}

/// The registers with which a guest starts; everything not named is as after a reset, and interrupts are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub start: Start,
    pub ip: u64,
    pub ax: u64,
    pub bx: u64,
    pub si: u64,
    pub sp: u64,
    pub gdt_base: u64,
    pub gdt_limit: u16,
    pub code_selector: u16,
    pub data_selector: u16,
}

/// A file beside the kernel: an initial RAM disk, a boot module.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    pub bytes: &'a [u8],
    /// Its name and arguments, for kernels that are told of them.
    pub text: &'a str,
}

/// What is to be booted, on what.
#[derive(Debug, Clone)]
pub struct Boot<'a> {
    pub kernel: &'a [u8],
    pub modules: Vec<Module<'a>>,
    pub command_line: &'a str,
    pub memory_bytes: u64,
    /// The address of the ACPI tables' root pointer.
    pub rsdp: u64,
    /// Whether the CPU has 64-bit mode.
    pub long_mode: bool,
}

/// Why a kernel cannot be booted.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum LoadError {
    #[error(
        "the kernel is of no kind that can be booted: {0}; give a Linux kernel for x86 (for example /boot/vmlinuz-*), a Multiboot \
         kernel or an ELF file"
    )]
    Unknown(&'static str),
    #[error("the kernel is malformed: {0}")]
    Malformed(&'static str),
    #[error("the kernel is truncated: its header asks for {needed} bytes, the file has {found}")]
    Truncated { needed: u64, found: u64 },
    #[error(
        "the kernel is a zImage that loads low, which needs a BIOS; Atoll boots a bzImage (make bzImage)"
    )]
    LoadsLow,
    #[error("the kernel is of 64 bits, and the CPU has no 64-bit mode; choose another with -cpu")]
    NeedsLongMode,
    #[error("the Multiboot header asks for what is not offered (flags {0:#06x})")]
    MultibootFlags(u16),
    #[error(
        "{what} reaches up to {needed:#x}, but the guest's low RAM ends at {available:#x}; raise -m"
    )]
    TooLarge {
        what: &'static str,
        needed: u64,
        available: u64,
    },
    #[error("the command line has {found} bytes, the kernel takes {limit}")]
    CommandLine { found: usize, limit: usize },
}

/// What a guest starts from.
pub type Loaded<'a> = (Vec<Chunk<'a>>, Entry);

/// Lays out the kernel and everything that its boot protocol wants beside it.
///
/// # Errors
/// [`LoadError`], when the image is of no known kind, is malformed or does not fit. Every chunk of a success lies within RAM.
pub fn load<'a>(boot: &Boot<'a>) -> Result<Loaded<'a>, LoadError> {
    if linux::is_linux(boot.kernel) {
        return linux::load(boot);
    }
    if let Some(header) = multiboot::find(boot.kernel) {
        return multiboot::load(boot, &header);
    }
    if let Some(elf) = elf::Elf::parse(boot.kernel)? {
        return match elf.pvh_entry {
            Some(entry) => pvh::load(boot, &elf, entry),
            None => elf::load(boot, &elf),
        };
    }
    Err(LoadError::Unknown(match boot.kernel {
        [0x1f, 0x8b, ..] => "it is compressed (unpack it with gunzip)",
        [] => "it is empty",
        _ => "it has no header of Linux, Multiboot or ELF",
    }))
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
