//! The PVH start (Xen `docs/misc/pvh.pandoc`, `xen/include/public/arch-x86/hvm/start_info.h`, version 1).
//!
//! An ELF file names a 32-bit entry point in a note of the owner `Xen`, type XEN_ELFNOTE_PHYS32_ENTRY. It is entered in 32-bit
//! protected mode without paging, EBX pointing to the start info: modules, command line, ACPI tables, memory map.

use super::elf::Elf;
use super::layout::{BOOT_CS, BOOT_DS, Fields, GDT_LIMIT, Stack, c_string, gdt};
use super::{Boot, Entry, LoadError, Loaded, Start, memory_map};

const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

/// The entry point that the notes of a segment name.
pub(super) fn entry_of(notes: &[u8]) -> Option<u32> {
    let f = Fields(notes);
    let mut at = 0u64;
    // Each note has at least its header, so this ends.
    loop {
        let (name_bytes, value_bytes) = (f.u32(at)?, f.u32(at + 4)?);
        let kind = f.u32(at + 8)?;
        let name_at = at + 12;
        let value_at = name_at + u64::from(name_bytes).next_multiple_of(4);
        if kind == XEN_ELFNOTE_PHYS32_ENTRY && f.bytes(name_at, name_bytes.into())? == b"Xen\0" {
            return match value_bytes {
                4 => f.u32(value_at),
                8 => u32::try_from(f.u64(value_at)?).ok(),
                _ => None,
            };
        }
        at = value_at + u64::from(value_bytes).next_multiple_of(4);
    }
}

/// Lays out kernel, modules and start info.
///
/// # Errors
/// [`LoadError`], when they do not fit.
pub fn load<'a>(boot: &Boot<'a>, elf: &Elf<'a>, entry: u32) -> Result<Loaded<'a>, LoadError> {
    const WHAT: &str = "the kernel with its start info";
    if elf.long && !boot.long_mode {
        return Err(LoadError::NeedsLongMode);
    }
    let mut stack = Stack::behind(elf.chunks(boot.memory_bytes)?, boot.memory_bytes);
    let places = stack.modules(&boot.modules)?;
    let command_line = stack.page(WHAT, c_string(boot.command_line))?;
    let mut list = Vec::new();
    for ((start, end), module) in places.iter().zip(&boot.modules) {
        let text = stack.put(WHAT, c_string(module.text))?;
        list.extend(
            [*start, end - start, text, 0]
                .iter()
                .flat_map(|v| v.to_le_bytes()),
        );
    }
    let list = stack.put(WHAT, list)?;
    let ranges = memory_map(boot.memory_bytes);
    let mut table = Vec::new();
    for &(base, bytes, kind) in &ranges {
        table.extend(base.to_le_bytes());
        table.extend(bytes.to_le_bytes());
        table.extend(u64::from(kind as u32).to_le_bytes());
    }
    let table = stack.put(WHAT, table)?;
    let mut info = Vec::new();
    for word in [MAGIC, VERSION, 0, boot.modules.len() as u32] {
        info.extend(word.to_le_bytes());
    }
    for address in [list, command_line, boot.rsdp, table, ranges.len() as u64] {
        info.extend(address.to_le_bytes());
    }
    let info = stack.put(WHAT, info)?;
    let gdt_base = stack.put(WHAT, gdt(false))?;
    let entry = Entry {
        start: Start::Flat32,
        ip: u64::from(entry),
        ax: 0,
        bx: info,
        si: 0,
        sp: 0,
        gdt_base,
        gdt_limit: GDT_LIMIT,
        code_selector: BOOT_CS,
        data_selector: BOOT_DS,
    };
    Ok((stack.into_chunks(), entry))
}
