//! `struct boot_params`, the "zero page" (Linux `Documentation/arch/x86/zero-page.rst` and `boot.rst`).

use super::memory_map;
use crate::map;

/// Offsets in the kernel image and in `boot_params`.
pub(super) mod field {
    pub(in super::super) const EXT_MEM_K: usize = 0x002;
    pub(in super::super) const OLD_CL_MAGIC: usize = 0x020;
    pub(in super::super) const ACPI_RSDP: usize = 0x070;
    pub(in super::super) const ALT_MEM_K: usize = 0x1e0;
    pub(in super::super) const E820_ENTRIES: usize = 0x1e8;
    pub(in super::super) const SETUP_SECTS: usize = 0x1f1;
    pub(in super::super) const SYSSIZE: usize = 0x1f4;
    pub(in super::super) const BOOT_FLAG: usize = 0x1fe;
    pub(in super::super) const JUMP: usize = 0x200;
    pub(in super::super) const HEADER: usize = 0x202;
    pub(in super::super) const VERSION: usize = 0x206;
    pub(in super::super) const TYPE_OF_LOADER: usize = 0x210;
    pub(in super::super) const LOADFLAGS: usize = 0x211;
    pub(in super::super) const CODE32_START: usize = 0x214;
    pub(in super::super) const RAMDISK_IMAGE: usize = 0x218;
    pub(in super::super) const RAMDISK_SIZE: usize = 0x21c;
    pub(in super::super) const HEAP_END_PTR: usize = 0x224;
    pub(in super::super) const CMD_LINE_PTR: usize = 0x228;
    pub(in super::super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(in super::super) const RELOCATABLE: usize = 0x234;
    pub(in super::super) const XLOADFLAGS: usize = 0x236;
    pub(in super::super) const CMDLINE_SIZE: usize = 0x238;
    pub(in super::super) const PREF_ADDRESS: usize = 0x258;
    pub(in super::super) const INIT_SIZE: usize = 0x260;
    pub(in super::super) const HEADER_END: usize = 0x290;
    pub(in super::super) const E820_TABLE: usize = 0x2d0;
}

/// The boot protocol whose header is made up for kernels that bring none.
const VERSION: u16 = 0x20c;

/// What the loader tells a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct ZeroPage<'a> {
    /// The kernel's own header: the bytes from [`field::SETUP_SECTS`] on. Empty if it has none.
    pub header: &'a [u8],
    pub command_line_at: u64,
    pub initrd_at: u64,
    pub initrd_bytes: u64,
    pub memory_bytes: u64,
    pub rsdp: u64,
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn put32(bytes: &mut [u8], at: usize, value: u64) {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    put(bytes, at, &value.to_le_bytes());
}

impl ZeroPage<'_> {
    /// The page.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut page = vec![0u8; 4096];
        let own = self
            .header
            .len()
            .min(field::HEADER_END - field::SETUP_SECTS);
        put(&mut page, field::SETUP_SECTS, &self.header[..own]);
        if own == 0 {
            put(&mut page, field::BOOT_FLAG, &0xaa55u16.to_le_bytes());
            put(&mut page, field::HEADER, b"HdrS");
            put(&mut page, field::VERSION, &VERSION.to_le_bytes());
            page[field::LOADFLAGS] = 1;
        }
        page[field::TYPE_OF_LOADER] = 0xff;
        page[field::LOADFLAGS] |= 0x80; // CAN_USE_HEAP
        put(&mut page, field::HEAP_END_PTR, &0xfe00u16.to_le_bytes());
        put32(&mut page, field::CMD_LINE_PTR, self.command_line_at);
        if self.initrd_bytes > 0 {
            put32(&mut page, field::RAMDISK_IMAGE, self.initrd_at);
            put32(&mut page, field::RAMDISK_SIZE, self.initrd_bytes);
        }
        put(&mut page, field::ACPI_RSDP, &self.rsdp.to_le_bytes());
        self.memory(&mut page);
        page
    }

    fn memory(&self, page: &mut [u8]) {
        // For kernels that do not know the map: KiB above 1 MiB, in 16 and in 32 bits.
        let above = (map::split_ram(self.memory_bytes).0 - 0x10_0000) >> 10;
        put(
            page,
            field::EXT_MEM_K,
            &(above.min(0xfc00) as u16).to_le_bytes(),
        );
        put32(page, field::ALT_MEM_K, above);
        let ranges = memory_map(self.memory_bytes);
        page[field::E820_ENTRIES] = ranges.len() as u8;
        for (i, (base, len, kind)) in ranges.into_iter().enumerate() {
            let at = field::E820_TABLE + i * 20;
            put(page, at, &base.to_le_bytes());
            put(page, at + 8, &len.to_le_bytes());
            put(page, at + 16, &(kind as u32).to_le_bytes());
        }
    }
}
