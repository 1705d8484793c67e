//! Direct boot of a bzImage by the 64-bit boot protocol (Linux `Documentation/arch/x86/boot.rst`).
//!
//! The kernel is entered at its 64-bit entry point with a flat GDT and an identity mapping of the first 4 GiB. Field offsets are
//! those of `struct boot_params` and `struct setup_header`.

use std::borrow::Cow;

use super::{Chunk, Entry, memory_map};
use crate::map;

const GDT: u64 = 0x500;
const STACK: u64 = 0x7ff0;
const BOOT_PARAMS: u64 = 0x7000;
const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
/// Selectors `__BOOT_CS` and `__BOOT_DS` of the protocol.
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;

/// Offsets in the kernel image and in `boot_params`.
mod field {
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const JUMP: usize = 0x200;
    pub(super) const HEADER: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const HEAP_END_PTR: usize = 0x224;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const RELOCATABLE: usize = 0x234;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    pub(super) const ACPI_RSDP: usize = 0x70;
    pub(super) const E820_TABLE: usize = 0x2d0;
}

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoadError {
    #[error(
        "the kernel is no bzImage: {0}; give a Linux kernel for x86 (for example /boot/vmlinuz-*)"
    )]
    NotBzImage(&'static str),
    #[error("the kernel is truncated: its header asks for {needed} bytes, the file has {found}")]
    Truncated { needed: u64, found: u64 },
    #[error(
        "the kernel speaks boot protocol {0}.{1:02} without a 64-bit entry point; Atoll boots 64-bit kernels of protocol 2.12 or later"
    )]
    No64BitEntry(u8, u8),
    #[error("{what} needs {needed} bytes of RAM, but the guest has {available}; raise -m")]
    TooLarge {
        what: &'static str,
        needed: u64,
        available: u64,
    },
    #[error("the command line has {found} bytes, the kernel takes {limit}")]
    CommandLine { found: usize, limit: usize },
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// What the setup header says.
struct Header {
    setup_bytes: usize,
    header_end: usize,
    initrd_max: u64,
    cmdline_max: usize,
    pref_address: u64,
    init_size: u64,
}

fn parse_header(kernel: &[u8]) -> Result<Header, LoadError> {
    if kernel.len() < field::INIT_SIZE + 8 {
        return Err(LoadError::NotBzImage("it is shorter than a setup header"));
    }
    if u16_at(kernel, field::BOOT_FLAG) != 0xaa55
        || &kernel[field::HEADER..field::HEADER + 4] != b"HdrS"
    {
        return Err(LoadError::NotBzImage("the signature HdrS is missing"));
    }
    let version = u16_at(kernel, field::VERSION);
    if kernel[field::LOADFLAGS] & 1 == 0 {
        return Err(LoadError::NotBzImage("it is a zImage that loads low"));
    }
    if version < 0x20c || u16_at(kernel, field::XLOADFLAGS) & 1 == 0 {
        return Err(LoadError::No64BitEntry((version >> 8) as u8, version as u8));
    }
    let sectors = match kernel[field::SETUP_SECTS] {
        0 => 4,
        n => usize::from(n),
    };
    let setup_bytes = (sectors + 1) * 512;
    // The protected-mode size in 16-byte units; a truncated file is refused before the guest runs into its end.
    let payload = u64::from(u32_at(kernel, 0x1f4)) * 16;
    let needed = setup_bytes as u64 + payload;
    if (kernel.len() as u64) < needed {
        return Err(LoadError::Truncated {
            needed,
            found: kernel.len() as u64,
        });
    }
    Ok(Header {
        setup_bytes,
        header_end: (field::HEADER + usize::from(kernel[field::JUMP + 1])).min(0x290),
        initrd_max: u64::from(u32_at(kernel, field::INITRD_ADDR_MAX)),
        cmdline_max: u32_at(kernel, field::CMDLINE_SIZE) as usize,
        pref_address: if kernel[field::RELOCATABLE] != 0 {
            u64_at(kernel, field::PREF_ADDRESS)
        } else {
            0x10_0000
        },
        init_size: u64::from(u32_at(kernel, field::INIT_SIZE)),
    })
}

/// Lays out kernel, initrd, command line, boot parameters, GDT and page tables.
///
/// # Errors
/// [`LoadError`], when the image is not a 64-bit bzImage or does not fit.
pub fn load<'a>(
    kernel: &'a [u8],
    initrd: &'a [u8],
    command_line: &str,
    memory_bytes: u64,
    rsdp: u64,
) -> Result<(Vec<Chunk<'a>>, Entry), LoadError> {
    let header = parse_header(kernel)?;
    let (low_ram, _) = map::split_ram(memory_bytes);
    let payload = &kernel[header.setup_bytes..];
    let kernel_end = header.pref_address + header.init_size.max(payload.len() as u64);
    if kernel_end > low_ram {
        return Err(LoadError::TooLarge {
            what: "the kernel",
            needed: kernel_end,
            available: low_ram,
        });
    }
    if command_line.len() > header.cmdline_max.min(0xffff) {
        return Err(LoadError::CommandLine {
            found: command_line.len(),
            limit: header.cmdline_max,
        });
    }
    let initrd_top = low_ram.min(header.initrd_max + 1);
    let initrd_at = initrd_top.saturating_sub(initrd.len() as u64) & !0xfff;
    if !initrd.is_empty() && initrd_at < kernel_end {
        let needed = kernel_end + initrd.len() as u64;
        return Err(LoadError::TooLarge {
            what: "the kernel with its initrd",
            needed,
            available: low_ram,
        });
    }

    let params = boot_params(kernel, &header, initrd_at, initrd.len(), memory_bytes, rsdp);
    let mut chunks = vec![
        Chunk {
            address: BOOT_PARAMS,
            bytes: Cow::Owned(params),
        },
        Chunk {
            address: COMMAND_LINE,
            bytes: Cow::Owned([command_line.as_bytes(), &[0]].concat()),
        },
        Chunk {
            address: GDT,
            bytes: Cow::Owned(gdt()),
        },
        Chunk {
            address: PAGE_TABLES,
            bytes: Cow::Owned(identity_map()),
        },
        Chunk {
            address: header.pref_address,
            bytes: Cow::Borrowed(payload),
        },
    ];
    if !initrd.is_empty() {
        chunks.push(Chunk {
            address: initrd_at,
            bytes: Cow::Borrowed(initrd),
        });
    }
    let entry = Entry {
        rip: header.pref_address + 0x200,
        rsi: BOOT_PARAMS,
        rsp: STACK,
        cr3: PAGE_TABLES,
        gdt_base: GDT,
        gdt_limit: 31,
        code_selector: BOOT_CS,
        data_selector: BOOT_DS,
    };
    Ok((chunks, entry))
}

/// The zero page: the kernel's own setup header with the loader's fields filled in, and the memory map.
fn boot_params(
    kernel: &[u8],
    header: &Header,
    initrd_at: u64,
    initrd_len: usize,
    memory_bytes: u64,
    rsdp: u64,
) -> Vec<u8> {
    let mut page = vec![0u8; 4096];
    put(
        &mut page,
        field::SETUP_SECTS,
        &kernel[field::SETUP_SECTS..header.header_end],
    );
    page[field::TYPE_OF_LOADER] = 0xff;
    page[field::LOADFLAGS] |= 0x80; // CAN_USE_HEAP
    put(&mut page, field::HEAP_END_PTR, &0xfe00u16.to_le_bytes());
    put(
        &mut page,
        field::CMD_LINE_PTR,
        &(COMMAND_LINE as u32).to_le_bytes(),
    );
    if initrd_len > 0 {
        put(
            &mut page,
            field::RAMDISK_IMAGE,
            &(initrd_at as u32).to_le_bytes(),
        );
        put(
            &mut page,
            field::RAMDISK_SIZE,
            &(initrd_len as u32).to_le_bytes(),
        );
    }
    put(&mut page, field::ACPI_RSDP, &rsdp.to_le_bytes());
    let ranges = memory_map(memory_bytes);
    page[field::E820_ENTRIES] = ranges.len() as u8;
    for (i, (base, len, kind)) in ranges.into_iter().enumerate() {
        let at = field::E820_TABLE + i * 20;
        put(&mut page, at, &base.to_le_bytes());
        put(&mut page, at + 8, &len.to_le_bytes());
        put(&mut page, at + 16, &(kind as u32).to_le_bytes());
    }
    page
}

/// Null, null, flat 64-bit code, flat data.
fn gdt() -> Vec<u8> {
    [0u64, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]
        .iter()
        .flat_map(|d| d.to_le_bytes())
        .collect()
}

/// Identity mapping of 4 GiB by 2 MiB pages: a PML4, a page-directory-pointer table and four page directories.
fn identity_map() -> Vec<u8> {
    const PRESENT_WRITE: u64 = 3;
    let mut tables = vec![0u64; 6 * 512];
    tables[0] = (PAGE_TABLES + 0x1000) | PRESENT_WRITE;
    for i in 0..4 {
        tables[512 + i] = (PAGE_TABLES + 0x2000 + i as u64 * 0x1000) | PRESENT_WRITE;
    }
    for (i, entry) in tables[1024..].iter_mut().enumerate() {
        *entry = ((i as u64) << 21) | 0x80 | PRESENT_WRITE;
    }
    tables.iter().flat_map(|e| e.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal image with a valid header and `payload` bytes of protected-mode code.
    fn image(payload: usize) -> Vec<u8> {
        let mut k = vec![0u8; 5 * 512 + payload];
        k[field::SETUP_SECTS] = 4;
        put(&mut k, 0x1f4, &((payload / 16) as u32).to_le_bytes());
        put(&mut k, field::BOOT_FLAG, &0xaa55u16.to_le_bytes());
        k[field::JUMP + 1] = 0x66;
        put(&mut k, field::HEADER, b"HdrS");
        put(&mut k, field::VERSION, &0x20fu16.to_le_bytes());
        k[field::LOADFLAGS] = 1;
        put(
            &mut k,
            field::INITRD_ADDR_MAX,
            &0x7fff_ffffu32.to_le_bytes(),
        );
        k[field::RELOCATABLE] = 1;
        k[field::XLOADFLAGS] = 1;
        put(&mut k, field::CMDLINE_SIZE, &2047u32.to_le_bytes());
        put(&mut k, field::PREF_ADDRESS, &0x100_0000u64.to_le_bytes());
        put(&mut k, field::INIT_SIZE, &0x10_0000u32.to_le_bytes());
        k
    }

    #[test]
    fn places_the_initrd_at_the_top_of_low_ram() {
        let kernel = image(4096);
        let initrd = vec![7u8; 5000];
        let (chunks, entry) = load(&kernel, &initrd, "quiet", 64 << 20, 0xe0000).unwrap();
        let last = chunks.last().unwrap();
        assert_eq!(last.address, (64 << 20) - 8192);
        assert_eq!(entry.rip, 0x100_0200);
    }

    #[test]
    fn refuses_what_is_no_kernel() {
        assert!(matches!(
            load(&[0; 100], &[], "", 64 << 20, 0),
            Err(LoadError::NotBzImage(_))
        ));
        assert!(matches!(
            load(&[0; 10_000], &[], "", 64 << 20, 0),
            Err(LoadError::NotBzImage(_))
        ));
        let mut short = image(4096);
        short.truncate(3000);
        assert!(matches!(
            load(&short, &[], "", 64 << 20, 0),
            Err(LoadError::Truncated { .. })
        ));
        assert!(matches!(
            load(&image(4096), &[], "", 16 << 20, 0),
            Err(LoadError::TooLarge {
                what: "the kernel",
                ..
            })
        ));
        assert!(matches!(
            load(&image(4096), &vec![0; 48 << 20], "", 64 << 20, 0),
            Err(LoadError::TooLarge { .. })
        ));
        let long = "x".repeat(3000);
        assert!(matches!(
            load(&image(4096), &[], &long, 64 << 20, 0),
            Err(LoadError::CommandLine { .. })
        ));
    }
}
