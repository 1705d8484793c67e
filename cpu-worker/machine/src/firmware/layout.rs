//! What the boot protocols share: reading numbers from an image, descriptor and page tables, and a block of structures behind the kernel.
//!
//! Invariant: every address that leaves this file is below 4 GiB and every chunk within low RAM, which ends below 4 GiB.

use super::{Chunk, LoadError, Module};
use crate::map;

/// The numbers of an image, which may end anywhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&self, at: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?;
        let end = usize::try_from(at.checked_add(len)?).ok()?;
        self.0.get(start..end)
    }
    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.bytes(at, N as u64)?.try_into().ok()
    }
    pub(super) fn u8(&self, at: u64) -> Option<u8> {
        Some(u8::from_le_bytes(self.array(at)?))
    }
    pub(super) fn u16(&self, at: u64) -> Option<u16> {
        Some(u16::from_le_bytes(self.array(at)?))
    }
    pub(super) fn u32(&self, at: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.array(at)?))
    }
    pub(super) fn u64(&self, at: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.array(at)?))
    }
}

/// Null, null, then flat code and data at the selectors that Linux's protocol names `__BOOT_CS` and `__BOOT_DS`.
pub(super) const BOOT_CS: u16 = 0x10;
pub(super) const BOOT_DS: u16 = 0x18;
pub(super) const GDT_LIMIT: u16 = 31;

/// The descriptor table for a start in 32-bit or 64-bit code.
pub(super) fn gdt(long: bool) -> Vec<u8> {
    let code = if long {
        0x00af_9b00_0000_ffffu64
    } else {
        0x00cf_9b00_0000_ffff
    };
    [0, 0, code, 0x00cf_9300_0000_ffff]
        .iter()
        .flat_map(|descriptor| descriptor.to_le_bytes())
        .collect()
}

/// Identity mapping of 4 GiB by 2 MiB pages: a PML4, a page-directory-pointer table and four page directories.
pub(super) fn identity_map(base: u64) -> Vec<u8> {
    const PRESENT_WRITE: u64 = 3;
    const LARGE: u64 = 0x80;
    let mut tables = vec![0u64; 6 * 512];
    tables[0] = (base + 0x1000) | PRESENT_WRITE;
    for i in 0..4 {
        tables[512 + i] = (base + 0x2000 + i as u64 * 0x1000) | PRESENT_WRITE;
    }
    for (i, entry) in tables[1024..].iter_mut().enumerate() {
        *entry = ((i as u64) << 21) | LARGE | PRESENT_WRITE;
    }
    tables.iter().flat_map(|e| e.to_le_bytes()).collect()
}

/// A text as a kernel wants it: ended by a zero byte.
pub(super) fn c_string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Where things are placed one after the other, from the kernel's end upwards.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    next: u64,
    low_ram: u64,
    chunks: Vec<Chunk<'a>>,
}

impl<'a> Stack<'a> {
    /// Begins behind `chunks`, which must be checked to lie within low RAM.
    pub(super) fn behind(chunks: Vec<Chunk<'a>>, memory_bytes: u64) -> Stack<'a> {
        let end = chunks.iter().map(Chunk::end).max().unwrap_or(0);
        Stack {
            // Nothing goes into the first MiB, where kernels expect a PC's own tables.
            next: end.max(0x10_0000),
            low_ram: map::split_ram(memory_bytes).0,
            chunks,
        }
    }

    /// Places a chunk on the next page and gives its address.
    pub(super) fn page(
        &mut self,
        what: &'static str,
        bytes: impl Into<std::borrow::Cow<'a, [u8]>>,
    ) -> Result<u64, LoadError> {
        let chunk = Chunk::new(self.next.next_multiple_of(4096), bytes);
        self.push(what, chunk)
    }

    /// Places a chunk at the next multiple of 16 and gives its address.
    pub(super) fn put(
        &mut self,
        what: &'static str,
        bytes: impl Into<std::borrow::Cow<'a, [u8]>>,
    ) -> Result<u64, LoadError> {
        let chunk = Chunk::new(self.next.next_multiple_of(16), bytes);
        self.push(what, chunk)
    }

    fn push(&mut self, what: &'static str, chunk: Chunk<'a>) -> Result<u64, LoadError> {
        let end = chunk.end();
        if end > self.low_ram {
            return Err(LoadError::TooLarge {
                what,
                needed: end,
                available: self.low_ram,
            });
        }
        self.next = end;
        let address = chunk.address;
        self.chunks.push(chunk);
        Ok(address)
    }

    /// Places the modules page by page; gives the start and the end of each.
    pub(super) fn modules(&mut self, modules: &[Module<'a>]) -> Result<Vec<(u64, u64)>, LoadError> {
        modules
            .iter()
            .map(|module| {
                let start = self.page("the kernel with its modules", module.bytes)?;
                Ok((start, start + module.bytes.len() as u64))
            })
            .collect()
    }

    pub(super) fn into_chunks(self) -> Vec<Chunk<'a>> {
        self.chunks
    }
}
