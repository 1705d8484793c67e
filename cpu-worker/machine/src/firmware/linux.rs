//! Direct boot of a bzImage by the 64-bit or the 32-bit boot protocol (Linux `Documentation/arch/x86/boot.rst`).
//!
//! The kernel's real-mode half is not run: what it would find out from a BIOS stands in the zero page. A kernel with a 64-bit entry
//! point starts there, with an identity mapping of the first 4 GiB; all others at their 32-bit entry point without paging. Field
//! offsets are those of `struct boot_params` and `struct setup_header`.

use std::borrow::Cow;

use super::layout::{BOOT_CS, BOOT_DS, Fields, GDT_LIMIT, c_string, gdt, identity_map};
use super::zero_page::{ZeroPage, field};
use super::{Boot, Chunk, Entry, LoadError, Loaded, Module, Start};
use crate::map;

const GDT: u64 = 0x500;
const STACK: u64 = 0x7ff0;
const BOOT_PARAMS: u64 = 0x7000;
const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
/// Where a bzImage lies unless it says something else.
pub(super) const HIGH: u64 = 0x10_0000;

/// What versions of the protocol before 2.02 have instead of a pointer: a magic number, and the offset of the command line from this
/// address.
const OLD_BASE: u64 = 0x9_0000;
const OLD_MAGIC: u16 = 0xa33f;
const OLD_COMMAND_LINE: u64 = 0x9_8000;

/// Whether the image has a setup header.
pub(super) fn is_linux(kernel: &[u8]) -> bool {
    let image = Fields(kernel);
    image.u16(field::BOOT_FLAG as u64) == Some(0xaa55)
        && image.bytes(field::HEADER as u64, 4) == Some(b"HdrS")
}

/// What the setup header says, with the defaults of the protocol's older versions.
pub(super) struct Header<'a> {
    pub version: u16,
    raw: &'a [u8],
    /// The protected-mode part.
    pub payload: &'a [u8],
    /// Where it runs; by the 32-bit and 64-bit protocols it is loaded there, too.
    pub load_at: u64,
    entry: u64,
    long: bool,
    pub initrd_max: u64,
    pub cmdline_max: usize,
    /// What it needs from `load_at` on.
    pub init_size: u64,
}

pub(super) fn parse_header<'a>(kernel: &'a [u8]) -> Result<Header<'a>, LoadError> {
    const SHORT: LoadError = LoadError::Malformed("it is shorter than a setup header");
    let image = Fields(kernel);
    let u8 = |at: usize| image.u8(at as u64).ok_or(SHORT);
    let u16 = |at: usize| image.u16(at as u64).ok_or(SHORT);
    let u32 = |at: usize| image.u32(at as u64).ok_or(SHORT);
    let version = u16(field::VERSION)?;
    if version < 0x200 || u8(field::LOADFLAGS)? & 1 == 0 {
        return Err(LoadError::LoadsLow);
    }
    let since = |first: u16| version >= first;
    let sectors = match u8(field::SETUP_SECTS)? {
        0 => 4,
        n => usize::from(n),
    };
    let setup_bytes = (sectors + 1) * 512;
    // The protected-mode size in units of 16 bytes, the last of which need not be whole; a truncated file is refused before the guest
    // runs into its end.
    let paragraphs = if since(0x204) {
        u32(field::SYSSIZE)?
    } else {
        u32::from(u16(field::SYSSIZE)?)
    };
    let needed = setup_bytes as u64 + u64::from(paragraphs) * 16;
    let found = kernel.len() as u64;
    if found < setup_bytes as u64 || found + 15 < needed {
        return Err(LoadError::Truncated { needed, found });
    }
    let header_end = (field::HEADER + usize::from(u8(field::JUMP + 1)?)).min(field::HEADER_END);
    let relocatable = since(0x205) && u8(field::RELOCATABLE)? != 0;
    let preferred = if since(0x20a) {
        image.u64(field::PREF_ADDRESS as u64).ok_or(SHORT)?
    } else {
        HIGH
    };
    let load_at = if relocatable { preferred } else { HIGH };
    let long = since(0x20c) && u16(field::XLOADFLAGS)? & 1 != 0;
    Ok(Header {
        version,
        raw: &kernel[field::SETUP_SECTS..header_end],
        payload: &kernel[setup_bytes..],
        load_at,
        entry: match (long, relocatable) {
            (true, _) => load_at.saturating_add(0x200),
            (false, true) => load_at,
            (false, false) => u64::from(u32(field::CODE32_START)?),
        },
        long,
        initrd_max: if since(0x203) {
            u64::from(u32(field::INITRD_ADDR_MAX)?)
        } else {
            0x37ff_ffff
        },
        cmdline_max: if since(0x206) {
            u32(field::CMDLINE_SIZE)? as usize
        } else {
            255
        },
        init_size: if since(0x20a) {
            u64::from(u32(field::INIT_SIZE)?)
        } else {
            0
        },
    })
}

/// The initial RAM disk. The kernel takes several archives one after the other, each padded to four bytes.
pub(super) fn initrd<'a>(modules: &[Module<'a>]) -> Cow<'a, [u8]> {
    match modules {
        [] => Cow::Borrowed(&[]),
        [one] => Cow::Borrowed(one.bytes),
        several => {
            let mut all = Vec::new();
            for module in several {
                all.resize(all.len().next_multiple_of(4), 0);
                all.extend_from_slice(module.bytes);
            }
            Cow::Owned(all)
        }
    }
}

/// Lays out kernel, initrd, command line, boot parameters, GDT and page tables.
///
/// # Errors
/// [`LoadError`], when the image is malformed or does not fit.
pub fn load<'a>(boot: &Boot<'a>) -> Result<Loaded<'a>, LoadError> {
    let header = parse_header(boot.kernel)?;
    if header.long && !boot.long_mode {
        return Err(LoadError::NeedsLongMode);
    }
    let (low_ram, _) = map::split_ram(boot.memory_bytes);
    let kernel_end = header
        .load_at
        .saturating_add(header.init_size.max(header.payload.len() as u64));
    let too_large = |what, needed| LoadError::TooLarge {
        what,
        needed,
        available: low_ram,
    };
    if header.load_at < HIGH || kernel_end > low_ram {
        return Err(too_large("the kernel", kernel_end));
    }
    let limit = header.cmdline_max.min(if header.version < 0x202 {
        0x7000
    } else {
        0xffff
    });
    let found = boot.command_line.len();
    if found > limit {
        return Err(LoadError::CommandLine { found, limit });
    }
    let initrd = initrd(&boot.modules);
    let initrd_bytes = initrd.len() as u64;
    let initrd_at = low_ram
        .min(header.initrd_max + 1)
        .saturating_sub(initrd_bytes)
        & !0xfff;
    if initrd_bytes > 0 && initrd_at < kernel_end {
        return Err(too_large(
            "the kernel with its initrd",
            kernel_end.saturating_add(initrd_bytes),
        ));
    }
    let mut chunks = parameters(boot, &header, initrd_at, initrd_bytes);
    chunks.push(Chunk::new(header.load_at, header.payload));
    if initrd_bytes > 0 {
        chunks.push(Chunk::new(initrd_at, initrd));
    }
    let entry = Entry {
        start: if header.long {
            Start::Long { cr3: PAGE_TABLES }
        } else {
            Start::Flat32
        },
        ip: header.entry,
        ax: 0,
        bx: 0,
        si: BOOT_PARAMS,
        sp: STACK,
        gdt_base: GDT,
        gdt_limit: GDT_LIMIT,
        code_selector: BOOT_CS,
        data_selector: BOOT_DS,
    };
    Ok((chunks, entry))
}

/// The chunks in low memory: boot parameters, command line, descriptor and page tables.
fn parameters<'a>(
    boot: &Boot<'a>,
    header: &Header<'a>,
    initrd_at: u64,
    initrd_bytes: u64,
) -> Vec<Chunk<'a>> {
    let old = header.version < 0x202;
    let command_line_at = if old { OLD_COMMAND_LINE } else { COMMAND_LINE };
    let mut page = ZeroPage {
        header: header.raw,
        command_line_at,
        initrd_at,
        initrd_bytes,
        memory_bytes: boot.memory_bytes,
        rsdp: boot.rsdp,
    }
    .build();
    if old {
        let offset = (OLD_COMMAND_LINE - OLD_BASE) as u16;
        let magic = [OLD_MAGIC.to_le_bytes(), offset.to_le_bytes()].concat();
        page[field::OLD_CL_MAGIC..field::OLD_CL_MAGIC + 4].copy_from_slice(&magic);
    }
    let mut chunks = vec![
        Chunk::new(BOOT_PARAMS, page),
        Chunk::new(command_line_at, c_string(boot.command_line)),
        Chunk::new(GDT, gdt(header.long)),
    ];
    if header.long {
        chunks.push(Chunk::new(PAGE_TABLES, identity_map(PAGE_TABLES)));
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// A minimal image with a valid header and `payload` bytes of protected-mode code.
    fn image(payload: usize) -> Vec<u8> {
        let mut k = vec![0u8; 5 * 512 + payload];
        k[field::SETUP_SECTS] = 4;
        put(
            &mut k,
            field::SYSSIZE,
            &((payload / 16) as u32).to_le_bytes(),
        );
        put(&mut k, field::BOOT_FLAG, &0xaa55u16.to_le_bytes());
        k[field::JUMP + 1] = 0x66;
        put(&mut k, field::HEADER, b"HdrS");
        put(&mut k, field::VERSION, &0x20fu16.to_le_bytes());
        k[field::LOADFLAGS] = 1;
        put(&mut k, field::CODE32_START, &0x10_0000u32.to_le_bytes());
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

    fn boot<'a>(kernel: &'a [u8], command_line: &'a str, memory_bytes: u64) -> Boot<'a> {
        Boot {
            kernel,
            modules: Vec::new(),
            command_line,
            memory_bytes,
            rsdp: 0xe_0000,
            long_mode: true,
        }
    }

    fn with<'a>(mut boot: Boot<'a>, files: &[&'a [u8]]) -> Boot<'a> {
        boot.modules = files
            .iter()
            .map(|bytes| Module { bytes, text: "x" })
            .collect();
        boot
    }

    #[test]
    fn places_the_initrd_at_the_top_of_low_ram() {
        let kernel = image(4096);
        let disk = vec![7u8; 5000];
        let (chunks, entry) = load(&with(boot(&kernel, "quiet", 64 << 20), &[&disk])).unwrap();
        let last = chunks.last().unwrap();
        assert_eq!(last.address, (64 << 20) - 8192);
        assert_eq!(entry.ip, 0x100_0200);
        assert_eq!(entry.start, Start::Long { cr3: PAGE_TABLES });
    }

    #[test]
    fn takes_a_file_whose_last_unit_is_not_whole() {
        let mut kernel = image(4096);
        kernel.truncate(kernel.len() - 15);
        assert!(load(&boot(&kernel, "", 64 << 20)).is_ok());
        kernel.pop();
        assert!(load(&boot(&kernel, "", 64 << 20)).is_err());
    }

    #[test]
    fn joins_several_initrds_with_padding() {
        let kernel = image(4096);
        let (chunks, _) = load(&with(boot(&kernel, "", 64 << 20), &[&[1; 5], &[2; 3]])).unwrap();
        assert_eq!(
            *chunks.last().unwrap().bytes,
            [1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 2]
        );
    }

    #[test]
    fn enters_by_what_the_header_offers() {
        // (version, relocatable, 64-bit entry) and where the kernel lies and starts.
        let cases = [
            (0x20f, 1, 1, 0x100_0000, 0x100_0200),
            (0x20f, 0, 1, 0x10_0000, 0x10_0200),
            (0x20f, 1, 0, 0x100_0000, 0x100_0000),
            (0x20c, 0, 0, 0x10_0000, 0x10_0000),
            (0x207, 1, 1, 0x10_0000, 0x10_0000),
            (0x204, 1, 1, 0x10_0000, 0x10_0000),
            (0x200, 0, 0, 0x10_0000, 0x10_0000),
        ];
        for (version, relocatable, long, load_at, ip) in cases {
            let mut kernel = image(4096);
            put(&mut kernel, field::VERSION, &(version as u16).to_le_bytes());
            kernel[field::RELOCATABLE] = relocatable;
            kernel[field::XLOADFLAGS] = long;
            let (chunks, entry) = load(&boot(&kernel, "", 64 << 20)).unwrap();
            assert_eq!(chunks.last().unwrap().address, load_at, "{version:#x}");
            assert_eq!((entry.ip, entry.si), (ip, BOOT_PARAMS), "{version:#x}");
            assert_eq!(
                entry.start == Start::Flat32,
                ip & 0x200 == 0,
                "{version:#x}"
            );
        }
    }

    #[test]
    fn hands_the_command_line_to_an_old_kernel_in_the_old_way() {
        let mut kernel = image(4096);
        put(&mut kernel, field::VERSION, &0x201u16.to_le_bytes());
        let (chunks, _) = load(&boot(&kernel, "old", 64 << 20)).unwrap();
        assert_eq!(
            chunks[0].bytes[field::OLD_CL_MAGIC..][..4],
            [0x3f, 0xa3, 0, 0x80]
        );
        assert_eq!(
            (chunks[1].address, &*chunks[1].bytes),
            (0x9_8000, &b"old\0"[..])
        );
    }

    #[test]
    fn refuses_what_cannot_be_booted() {
        let good = image(4096);
        let mut short = good.clone();
        short.truncate(3000);
        let mut low = good.clone();
        low[field::LOADFLAGS] = 0;
        let long = "x".repeat(3000);
        let disk = vec![0; 48 << 20];
        let error = |boot: &Boot<'_>| load(boot).unwrap_err();
        assert!(matches!(
            error(&boot(&good[..0x210], "", 64 << 20)),
            LoadError::Malformed(_)
        ));
        assert!(matches!(
            error(&boot(&short, "", 64 << 20)),
            LoadError::Truncated { .. }
        ));
        assert_eq!(error(&boot(&low, "", 64 << 20)), LoadError::LoadsLow);
        assert!(matches!(
            error(&boot(&good, "", 16 << 20)),
            LoadError::TooLarge {
                what: "the kernel",
                ..
            }
        ));
        assert!(matches!(
            error(&with(boot(&good, "", 64 << 20), &[&disk])),
            LoadError::TooLarge { .. }
        ));
        assert!(matches!(
            error(&boot(&good, &long, 64 << 20)),
            LoadError::CommandLine { .. }
        ));
        let old_cpu = Boot {
            long_mode: false,
            ..boot(&good, "", 64 << 20)
        };
        assert_eq!(error(&old_cpu), LoadError::NeedsLongMode);
    }
}
