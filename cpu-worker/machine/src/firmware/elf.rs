//! ELF files (System V ABI, chapters 4 and 5): the program headers, and the start of a file that brings no boot protocol.
//!
//! Such a file is taken for a Linux kernel without its wrapping (vmlinux): it starts at its entry point, of 32 bits without paging or
//! of 64 bits with an identity mapping of the first 4 GiB, with the address of a zero page in ESI or RSI, as a bzImage does.

use super::layout::{BOOT_CS, BOOT_DS, Fields, GDT_LIMIT, Stack, c_string, gdt, identity_map};
use super::linux::initrd;
use super::zero_page::ZeroPage;
use super::{Boot, Chunk, Entry, LoadError, Loaded, Start, pvh};
use crate::map;

const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// More program headers than any kernel has.
const MAX_HEADERS: u16 = 256;

/// A part of the file that goes into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub physical: u64,
    virtual_: u64,
    pub bytes: &'a [u8],
    /// Its size in memory; what the file does not fill is zero.
    pub memory_bytes: u64,
}

/// What is needed of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf<'a> {
    /// ELFCLASS64.
    pub long: bool,
    /// The entry point as the file has it, usually a virtual address.
    pub entry: u64,
    pub segments: Vec<Segment<'a>>,
    /// The entry point of a Xen note.
    pub pvh_entry: Option<u32>,
}

const TRUNCATED: LoadError = LoadError::Malformed("its ELF headers point behind its end");

impl<'a> Elf<'a> {
    /// Reads the headers; None if it is no ELF file.
    ///
    /// # Errors
    /// [`LoadError`], when the file is no x86 executable or contradicts itself.
    pub fn parse(file: &'a [u8]) -> Result<Option<Elf<'a>>, LoadError> {
        let f = Fields(file);
        if f.bytes(0, 4) != Some(b"\x7fELF") {
            return Ok(None);
        }
        let (long, little) = (f.u8(4) == Some(2), f.u8(5) == Some(1));
        if !little
            || !matches!(
                (long, f.u16(18)),
                (false, Some(EM_386)) | (true, Some(EM_X86_64))
            )
        {
            return Err(LoadError::Malformed(
                "it is an ELF file for another processor",
            ));
        }
        // ET_EXEC, or ET_DYN, which is loaded where it says all the same.
        if !matches!(f.u16(16), Some(2 | 3)) {
            return Err(LoadError::Malformed(
                "it is an ELF file, but no executable one",
            ));
        }
        let word = |at32: u64, at64: u64| {
            if long {
                f.u64(at64)
            } else {
                f.u32(at32).map(u64::from)
            }
        };
        let entry = word(24, 24).ok_or(TRUNCATED)?;
        let table = word(28, 32).ok_or(TRUNCATED)?;
        let tail = if long { 54 } else { 42 };
        let size = f.u16(tail).ok_or(TRUNCATED)?;
        let count = f.u16(tail + 2).ok_or(TRUNCATED)?;
        if count > MAX_HEADERS || size < if long { 56 } else { 32 } {
            return Err(LoadError::Malformed("its ELF program headers are none"));
        }
        let mut elf = Elf {
            long,
            entry,
            segments: Vec::new(),
            pvh_entry: None,
        };
        for n in 0..u64::from(count) {
            let at = table.checked_add(n * u64::from(size)).ok_or(TRUNCATED)?;
            elf.header(&f, at)?;
        }
        if elf.segments.is_empty() {
            return Err(LoadError::Malformed(
                "it is an ELF file with nothing to load",
            ));
        }
        Ok(Some(elf))
    }

    /// One program header.
    fn header(&mut self, f: &Fields<'a>, at: u64) -> Result<(), LoadError> {
        // type; then offset, virtual and physical address, size in the file and in memory.
        let header = Fields(
            f.bytes(at, if self.long { 56 } else { 32 })
                .ok_or(TRUNCATED)?,
        );
        let word = |n: u64| {
            let value = if self.long {
                header.u64(8 + 8 * n)
            } else {
                header.u32(4 + 4 * n).map(u64::from)
            };
            value.ok_or(TRUNCATED)
        };
        let kind = header.u32(0).ok_or(TRUNCATED)?;
        let (offset, file_bytes, memory_bytes) = (word(0)?, word(3)?, word(4)?);
        match kind {
            PT_LOAD if memory_bytes > 0 => {
                if file_bytes > memory_bytes {
                    return Err(LoadError::Malformed(
                        "an ELF segment is longer than its place",
                    ));
                }
                self.segments.push(Segment {
                    virtual_: word(1)?,
                    physical: word(2)?,
                    bytes: f.bytes(offset, file_bytes).ok_or(TRUNCATED)?,
                    memory_bytes,
                });
            }
            PT_NOTE => {
                let notes = f.bytes(offset, file_bytes).ok_or(TRUNCATED)?;
                self.pvh_entry = self.pvh_entry.or(pvh::entry_of(notes));
            }
            _ => {}
        }
        Ok(())
    }

    /// The segments where they belong.
    ///
    /// # Errors
    /// [`LoadError::TooLarge`], when one does not lie within low RAM.
    pub fn chunks(&self, memory_bytes: u64) -> Result<Vec<Chunk<'a>>, LoadError> {
        let (low_ram, _) = map::split_ram(memory_bytes);
        let chunk = |segment: &Segment<'a>| {
            let end = segment.physical.saturating_add(segment.memory_bytes);
            if end > low_ram {
                return Err(LoadError::TooLarge {
                    what: "the kernel",
                    needed: end,
                    available: low_ram,
                });
            }
            Ok(Chunk {
                zeroes: segment.memory_bytes - segment.bytes.len() as u64,
                ..Chunk::new(segment.physical, segment.bytes)
            })
        };
        self.segments.iter().map(chunk).collect()
    }

    /// Where the code of the entry point lies in physical memory: an address within a segment's virtual range is moved with it, any
    /// other one is physical already.
    ///
    /// # Errors
    /// [`LoadError::Malformed`], when it lies in no segment.
    pub fn physical_entry(&self) -> Result<u64, LoadError> {
        let within = |base: u64, s: &Segment<'_>| self.entry.wrapping_sub(base) < s.memory_bytes;
        if let Some(s) = self.segments.iter().find(|s| within(s.virtual_, s)) {
            return Ok((self.entry - s.virtual_).wrapping_add(s.physical));
        }
        let physical = self.segments.iter().any(|s| within(s.physical, s));
        let outside = LoadError::Malformed("its ELF entry point lies in none of its segments");
        physical.then_some(self.entry).ok_or(outside)
    }
}

/// Starts a file without a boot protocol.
///
/// # Errors
/// [`LoadError`], when it does not fit.
pub fn load<'a>(boot: &Boot<'a>, elf: &Elf<'a>) -> Result<Loaded<'a>, LoadError> {
    const WHAT: &str = "the kernel with its parameters";
    if elf.long && !boot.long_mode {
        return Err(LoadError::NeedsLongMode);
    }
    let mut stack = Stack::behind(elf.chunks(boot.memory_bytes)?, boot.memory_bytes);
    let disk = initrd(&boot.modules);
    let initrd_bytes = disk.len() as u64;
    let initrd_at = stack.page("the kernel with its initrd", disk)?;
    let command_line_at = stack.page(WHAT, c_string(boot.command_line))?;
    let zero_page = ZeroPage {
        header: &[],
        command_line_at,
        initrd_at,
        initrd_bytes,
        memory_bytes: boot.memory_bytes,
        rsdp: boot.rsdp,
    };
    let si = stack.page(WHAT, zero_page.build())?;
    let gdt_base = stack.page(WHAT, gdt(elf.long))?;
    let sp = stack.page(WHAT, vec![0; 4096])? + 4096;
    let start = if elf.long {
        // The tables hold their own addresses, so they are placed twice: to learn where, and with what.
        let cr3 = stack.page(WHAT, vec![])?;
        stack.put(WHAT, identity_map(cr3))?;
        Start::Long { cr3 }
    } else {
        Start::Flat32
    };
    let entry = Entry {
        start,
        ip: elf.physical_entry()?,
        ax: 0,
        bx: 0,
        si,
        sp,
        gdt_base,
        gdt_limit: GDT_LIMIT,
        code_selector: BOOT_CS,
        data_selector: BOOT_DS,
    };
    Ok((stack.into_chunks(), entry))
}
