//! The Multiboot specification, version 0.6.96 (Multiboot 1), as GNU Mach, MINIX 3, Xen and many a teaching kernel use it.
//!
//! The header lies within the first 8 KiB of the image and asks for what the kernel needs. The image is an ELF file, or anything at all
//! whose addresses stand in the header (the "a.out kludge"). The kernel is entered in 32-bit protected mode without paging, with a
//! magic number in EAX and the information structure's address in EBX. A video mode that is asked for is not given: there is no
//! display, and the kernel sees that from the structure.

use super::elf::Elf;
use super::layout::{BOOT_CS, BOOT_DS, Fields, GDT_LIMIT, Stack, c_string, gdt};
use super::{Boot, Chunk, Entry, LoadError, Loaded, Start, memory_map};
use crate::map;

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u64 = 0x2bad_b002;
/// How much of the image may hold the header.
const SEARCH: u64 = 8192;

/// Flags of the header: bits that this loader understands (aligned modules, memory information, video mode), and the one that
/// says the addresses stand in the header.
const KNOWN_REQUIREMENTS: u32 = 1 | 1 << 1 | 1 << 2;
const REQUIREMENTS: u32 = 0xffff;
const HAS_ADDRESSES: u32 = 1 << 16;

/// Flags of the information structure.
mod info {
    pub(super) const MEMORY: u32 = 1;
    pub(super) const COMMAND_LINE: u32 = 1 << 2;
    pub(super) const MODULES: u32 = 1 << 3;
    pub(super) const MEMORY_MAP: u32 = 1 << 6;
    pub(super) const LOADER_NAME: u32 = 1 << 9;
}

/// Where a header was found, and its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    at: u64,
    flags: u32,
}

/// The first valid header of an image.
pub fn find(kernel: &[u8]) -> Option<Header> {
    let f = Fields(kernel);
    (0..SEARCH - 11).step_by(4).find_map(|at| {
        let (magic, flags, checksum) = (f.u32(at)?, f.u32(at + 4)?, f.u32(at + 8)?);
        let valid = magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0;
        valid.then_some(Header { at, flags })
    })
}

/// Lays out kernel, modules and information structure.
///
/// # Errors
/// [`LoadError`], when the header is refused, contradicts the file, or things do not fit.
pub fn load<'a>(boot: &Boot<'a>, header: &Header) -> Result<Loaded<'a>, LoadError> {
    let unknown = header.flags & REQUIREMENTS & !KNOWN_REQUIREMENTS;
    if unknown != 0 {
        return Err(LoadError::MultibootFlags(unknown as u16));
    }
    let (chunks, ip) = if header.flags & HAS_ADDRESSES != 0 {
        by_addresses(boot, header)?
    } else {
        let elf = Elf::parse(boot.kernel)?.ok_or(LoadError::Malformed(
            "its Multiboot header has no addresses, and it is no ELF file",
        ))?;
        (elf.chunks(boot.memory_bytes)?, elf.physical_entry()?)
    };
    let mut stack = Stack::behind(chunks, boot.memory_bytes);
    let bx = information(boot, &mut stack)?;
    let gdt_base = stack.put(WHAT, gdt(false))?;
    let entry = Entry {
        start: Start::Flat32,
        ip,
        ax: LOADER_MAGIC,
        bx,
        si: 0,
        sp: 0,
        gdt_base,
        gdt_limit: GDT_LIMIT,
        code_selector: BOOT_CS,
        data_selector: BOOT_DS,
    };
    Ok((stack.into_chunks(), entry))
}

const WHAT: &str = "the kernel with its Multiboot information";

/// The image as the header's own addresses place it, and the entry point.
fn by_addresses<'a>(boot: &Boot<'a>, header: &Header) -> Result<(Vec<Chunk<'a>>, u64), LoadError> {
    const BAD: LoadError = LoadError::Malformed(
        "the addresses of its Multiboot header contradict each other or the file",
    );
    let f = Fields(boot.kernel);
    let field = |n: u64| f.u32(header.at + 12 + 4 * n).map(u64::from).ok_or(BAD);
    let (header_at, load_at, load_end, bss_end, entry) =
        (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
    // The header's own place in file and memory fixes where the load begins in the file.
    let before = header_at.checked_sub(load_at).ok_or(BAD)?;
    let offset = header.at.checked_sub(before).ok_or(BAD)?;
    let bytes = match load_end {
        0 => boot.kernel.len() as u64 - offset,
        end => end.checked_sub(load_at).ok_or(BAD)?,
    };
    let bytes = f.bytes(offset, bytes).ok_or(BAD)?;
    let zeroes = match bss_end {
        0 => 0,
        end => end.checked_sub(load_at + bytes.len() as u64).ok_or(BAD)?,
    };
    let chunk = Chunk {
        zeroes,
        ..Chunk::new(load_at, bytes)
    };
    let (low_ram, _) = map::split_ram(boot.memory_bytes);
    if chunk.end() > low_ram {
        return Err(LoadError::TooLarge {
            what: "the kernel",
            needed: chunk.end(),
            available: low_ram,
        });
    }
    Ok((vec![chunk], entry))
}

/// Places modules and information structure; gives the latter's address.
fn information<'a>(boot: &Boot<'a>, stack: &mut Stack<'a>) -> Result<u64, LoadError> {
    let places = stack.modules(&boot.modules)?;
    // By convention the first word names the kernel; its path is no business of the guest's.
    let line = format!("kernel {}", boot.command_line);
    let command_line = stack.page(WHAT, c_string(line.trim_end()))?;
    let loader = stack.put(WHAT, c_string("Atoll"))?;
    let mut list = Vec::new();
    for ((start, end), module) in places.iter().zip(&boot.modules) {
        let text = stack.put(WHAT, c_string(module.text))?;
        list.extend(words(&[*start, *end, text, 0]));
    }
    let list = stack.put(WHAT, list)?;
    let mut table = Vec::new();
    for (base, bytes, kind) in memory_map(boot.memory_bytes) {
        // The size of the rest of an entry comes first.
        table.extend(words(&[20]));
        table.extend(base.to_le_bytes());
        table.extend(bytes.to_le_bytes());
        table.extend(words(&[kind as u64]));
    }
    let table_bytes = table.len() as u64;
    let table = stack.put(WHAT, table)?;
    let flags =
        info::MEMORY | info::COMMAND_LINE | info::MODULES | info::MEMORY_MAP | info::LOADER_NAME;
    let below = map::LOW_MEMORY_END >> 10;
    let above = (map::split_ram(boot.memory_bytes).0 - 0x10_0000) >> 10;
    let modules = boot.modules.len() as u64;
    // flags, memory below and above 1 MiB in KiB, boot device, command line, modules, symbols (4 words), memory map, drives (2),
    // configuration table, loader's name, APM table; the video fields behind them are not there.
    let structure = [
        u64::from(flags),
        below,
        above,
        0,
        command_line,
        modules,
        list,
        0,
        0,
        0,
        0,
        table_bytes,
        table,
        0,
        0,
        0,
        loader,
        0,
    ];
    stack.put(WHAT, words(&structure))
}

/// Numbers below 4 GiB as the structure has them.
fn words(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| (*value as u32).to_le_bytes())
        .collect()
}
