//! Linux's 16-bit boot protocol, under firmware (Linux `Documentation/arch/x86/boot.rst`).
//!
//! The kernel's own real-mode half runs and asks the BIOS what there is, so this is the way of a boot loader on a real machine. fw_cfg offers
//! the pieces under QEMU's numbers, with the addresses they belong at, and an option ROM that firmware boots from: it has fw_cfg
//! copy each piece to its place and jumps. It is the work of QEMU's `linuxboot_dma.bin`, made simple by a table of transfers
//! that is complete before the machine starts.

use device_models::platform::{FW_CFG_PORT, FwCfgFile, FwCfgItem};

use super::fw_cfg::item;
use super::layout::c_string;
use super::linux::{self, initrd};
use super::zero_page::field;
use super::{Boot, LoadError};
use crate::map;

/// Where the real-mode half lies, the heap and stack behind it, and the command line behind those.
const SETUP: u64 = 0x1_0000;
const COMMAND_LINE: u64 = 0x2_0000;
const STACK: u16 = 0xfff0;
/// `heap_end_ptr`: the heap's end, less 0x200.
const HEAP_END: u16 = 0xfe00;
/// What firmware may keep of the end of low RAM for its tables.
const FIRMWARE_BYTES: u64 = 1 << 20;

/// `loadflags`: `heap_end_ptr` is valid.
const CAN_USE_HEAP: u8 = 0x80;
/// `type_of_loader` of loaders without a number of their own.
const UNKNOWN_LOADER: u8 = 0xff;

/// The numbers of a piece's items.
struct Keys {
    address: u16,
    size: u16,
    data: u16,
}
const KERNEL: Keys = keys(0x07, 0x08, 0x11);
const INITRD: Keys = keys(0x0a, 0x0b, 0x12);
const COMMAND: Keys = keys(0x13, 0x14, 0x15);
const REAL_MODE: Keys = keys(0x16, 0x17, 0x18);

const fn keys(address: u16, size: u16, data: u16) -> Keys {
    Keys {
        address,
        size,
        data,
    }
}

/// A piece, and where the option ROM puts it.
struct Piece {
    keys: Keys,
    address: u64,
    bytes: Vec<u8>,
}

/// Adds the kernel, everything beside it, and the option ROM that starts it.
///
/// # Errors
/// [`LoadError`], when the image is no bzImage, is malformed or does not fit.
pub(super) fn offer(
    boot: &Boot<'_>,
    items: &mut Vec<FwCfgItem>,
    files: &mut Vec<FwCfgFile>,
) -> Result<(), LoadError> {
    let pieces = pieces(boot)?;
    files.push(FwCfgFile {
        name: "genroms/linuxboot.bin",
        bytes: option_rom(&pieces),
    });
    // Before any disk.
    files.push(FwCfgFile {
        name: "bootorder",
        bytes: c_string("/rom@genroms/linuxboot.bin"),
    });
    for piece in pieces {
        items.push(item(
            piece.keys.address,
            &(piece.address as u32).to_le_bytes(),
        ));
        items.push(item(
            piece.keys.size,
            &(piece.bytes.len() as u32).to_le_bytes(),
        ));
        items.push(FwCfgItem {
            key: piece.keys.data,
            bytes: piece.bytes,
        });
    }
    Ok(())
}

fn pieces(boot: &Boot<'_>) -> Result<Vec<Piece>, LoadError> {
    if !linux::is_linux(boot.kernel) {
        return Err(LoadError::Unknown("firmware can only start a Linux kernel"));
    }
    let header = linux::parse_header(boot.kernel)?;
    if header.version < 0x202 {
        return Err(LoadError::Malformed("its boot protocol is older than 2.02"));
    }
    let found = boot.command_line.len();
    if found > header.cmdline_max {
        return Err(LoadError::CommandLine {
            found,
            limit: header.cmdline_max,
        });
    }
    let initrd = initrd(&boot.modules).into_owned();
    let initrd_bytes = initrd.len() as u64;
    let available = map::split_ram(boot.memory_bytes).0 - FIRMWARE_BYTES;
    let initrd_at = available
        .min(header.initrd_max + 1)
        .saturating_sub(initrd_bytes)
        & !0xfff;
    let payload_end = linux::HIGH + header.payload.len() as u64;
    let kernel_end = header.load_at.saturating_add(header.init_size);
    let kernel_end = kernel_end.max(payload_end);
    if kernel_end > initrd_at {
        return Err(LoadError::TooLarge {
            what: "the kernel with its initrd",
            needed: kernel_end.saturating_add(initrd_bytes),
            available,
        });
    }
    let setup_bytes = boot.kernel.len() - header.payload.len();
    let mut setup = boot.kernel[..setup_bytes].to_vec();
    setup[field::TYPE_OF_LOADER] = UNKNOWN_LOADER;
    setup[field::LOADFLAGS] |= CAN_USE_HEAP;
    let mut put = |at: usize, value: &[u8]| setup[at..at + value.len()].copy_from_slice(value);
    put(field::HEAP_END_PTR, &HEAP_END.to_le_bytes());
    put(field::CMD_LINE_PTR, &(COMMAND_LINE as u32).to_le_bytes());
    let mut pieces = Vec::new();
    if initrd_bytes > 0 {
        put(field::RAMDISK_IMAGE, &(initrd_at as u32).to_le_bytes());
        put(field::RAMDISK_SIZE, &(initrd_bytes as u32).to_le_bytes());
        pieces.push(Piece {
            keys: INITRD,
            address: initrd_at,
            bytes: initrd,
        });
    }
    let mut piece = |keys, address, bytes| {
        pieces.push(Piece {
            keys,
            address,
            bytes,
        });
    };
    piece(REAL_MODE, SETUP, setup);
    piece(COMMAND, COMMAND_LINE, c_string(boot.command_line));
    piece(KERNEL, linux::HIGH, header.payload.to_vec());
    Ok(pieces)
}

/// Places within the option ROM.
const PNP_HEADER: usize = 0x20;
const MAKER: usize = 0x40;
const PRODUCT: usize = 0x48;
const CODE: usize = 0x50;
const TABLE: usize = 0x90;
const ROM_BYTES: usize = 512;

/// A PnP option ROM (BIOS Boot Specification 1.01, appendix A) whose bootstrap entry has each piece copied and enters the kernel. It
/// needs no status of the transfers: this machine's fw_cfg is done when OUT is.
fn option_rom(pieces: &[Piece]) -> Vec<u8> {
    const DMA_LOW: [u8; 2] = (FW_CFG_PORT + 8).to_le_bytes();
    const SEGMENT: [u8; 2] = ((SETUP >> 4) as u16).to_le_bytes();
    const ENTRY: [u8; 2] = ((SETUP >> 4) as u16 + 0x20).to_le_bytes();
    const SP: [u8; 2] = STACK.to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0xfa,                                           // cli
        0x66, 0x31, 0xdb,                               // xor ebx, ebx
        0x8c, 0xcb,                                     // mov bx, cs
        0x66, 0xc1, 0xe3, 0x04,                         // shl ebx, 4
        0x66, 0x81, 0xc3, TABLE as u8, 0, 0, 0,         // add ebx, TABLE
        0xb9, pieces.len() as u8, 0,                    // mov cx, number of transfers
        0xba, DMA_LOW[0], DMA_LOW[1],                   // mov dx, low half of the DMA address
        0x66, 0x89, 0xd8,                               // next: mov eax, ebx
        0x66, 0x0f, 0xc8,                               // bswap eax
        0x66, 0xef,                                     // out dx, eax
        0x66, 0x83, 0xc3, 0x10,                         // add ebx, 16
        0xe2, 0xf2,                                     // loop next
        0xb8, SEGMENT[0], SEGMENT[1],                   // mov ax, the real-mode half's segment
        0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8, // mov ds, ax; es, fs, gs
        0x8e, 0xd0,                                     // mov ss, ax
        0xbc, SP[0], SP[1],                             // mov sp, STACK
        0xea, 0, 0, ENTRY[0], ENTRY[1],                 // jmp to its second sector
    ];
    let mut rom = vec![0; ROM_BYTES];
    let mut put = |at: usize, bytes: &[u8]| rom[at..at + bytes.len()].copy_from_slice(bytes);
    // The mark, the size in sectors, and the initialisation: RETF, there is nothing to do.
    put(0, &[0x55, 0xaa, (ROM_BYTES / 512) as u8, 0xcb]);
    put(0x1a, &(PNP_HEADER as u16).to_le_bytes());
    // Revision 1, two units of 16 bytes.
    put(PNP_HEADER, b"$PnP\x01\x02");
    put(PNP_HEADER + 0x0e, &[MAKER as u8, 0, PRODUCT as u8, 0]);
    put(PNP_HEADER + 0x1a, &(CODE as u16).to_le_bytes());
    put(MAKER, b"Atoll");
    put(PRODUCT, b"Linux");
    put(CODE, &code);
    for (n, piece) in pieces.iter().enumerate() {
        const SELECT_AND_READ: u32 = 0x8 | 0x2;
        let control = u32::from(piece.keys.data) << 16 | SELECT_AND_READ;
        let at = TABLE + 16 * n;
        put(at, &control.to_be_bytes());
        put(at + 4, &(piece.bytes.len() as u32).to_be_bytes());
        put(at + 8, &piece.address.to_be_bytes());
    }
    // The header's bytes add up to zero, and so do all of them.
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    rom[PNP_HEADER + 9] = sum(&rom[PNP_HEADER..PNP_HEADER + 32]).wrapping_neg();
    rom[ROM_BYTES - 1] = sum(&rom).wrapping_neg();
    rom
}

const _: () = assert!(CODE + 59 <= TABLE && TABLE + 4 * 16 < ROM_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(kernel: &[u8]) -> Boot<'_> {
        Boot {
            kernel,
            modules: Vec::new(),
            command_line: "quiet",
            memory_bytes: 64 << 20,
            rsdp: 0,
            long_mode: false,
        }
    }

    /// Two sectors of setup and a page of protected-mode code.
    fn image(version: u16) -> Vec<u8> {
        let mut k = vec![0u8; 3 * 512 + 4096];
        k[field::SETUP_SECTS] = 2;
        k[field::SYSSIZE] = 1;
        k[field::BOOT_FLAG..][..2].copy_from_slice(&[0x55, 0xaa]);
        k[field::HEADER..][..4].copy_from_slice(b"HdrS");
        k[field::VERSION..][..2].copy_from_slice(&version.to_le_bytes());
        k[field::LOADFLAGS] = 1;
        k
    }

    #[test]
    fn the_real_mode_half_is_told_where_things_are() {
        let kernel = image(0x203);
        let mut kernel = kernel.clone();
        kernel[field::INITRD_ADDR_MAX..][..4].copy_from_slice(&0x37ff_ffffu32.to_le_bytes());
        let (mut items, mut files) = (Vec::new(), Vec::new());
        offer(&boot(&kernel), &mut items, &mut files).unwrap();
        let data = |key| &items.iter().find(|item| item.key == key).unwrap().bytes;
        let setup = data(REAL_MODE.data);
        assert_eq!(setup.len(), 3 * 512);
        assert_eq!(setup[field::LOADFLAGS], 0x81);
        assert_eq!(setup[field::CMD_LINE_PTR..][..4], [0, 0, 2, 0]);
        assert_eq!(data(COMMAND.data), b"quiet\0");
        assert_eq!(data(KERNEL.address), &[0, 0, 0x10, 0]);
        assert_eq!(files[1].bytes, b"/rom@genroms/linuxboot.bin\0");
    }

    #[test]
    fn the_option_rom_is_sound() {
        let rom = option_rom(&pieces(&boot(&image(0x202))).unwrap());
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum(&rom), sum(&rom[0x20..0x40])), (0, 0));
        // The first transfer, without an initrd: the setup sectors to 0x10000.
        let setup = [0, 0x18, 0, 0x0a, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(rom[TABLE..TABLE + 16], setup);
    }

    #[test]
    fn old_and_foreign_kernels_are_refused() {
        let error = |kernel: &[u8]| pieces(&boot(kernel)).err().unwrap();
        assert!(matches!(error(&image(0x201)), LoadError::Malformed(_)));
        assert!(matches!(error(b"\x7fELF"), LoadError::Unknown(_)));
    }
}
