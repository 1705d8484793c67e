//! The page walk: no paging, 32-bit, PAE and 4-level (Intel SDM vol. 3A, 4.3 to 4.7), as a pure function of RAM.
//!
//! The walk reads and decides; `Mmu::translate` commits: accessed bits of all levels and the dirty bit are set only when the
//! access is permitted, so a fault leaves the tables as they were. PAE's four top entries are registers, which
//! [`Mmu::read_pdptes`](crate::Mmu::read_pdptes) reads and checks when CR3 and the like are written.

use crate::mmu::Privilege;
use crate::ram::Ram;
use crate::tlb::attr;
use crate::{OFFSET, PAGE};

/// Physical address bits (CPUID 8000_0008H).
pub const PHYS_BITS: u32 = 40;

const PHYS_MASK: u64 = ((1 << PHYS_BITS) - 1) & !OFFSET;
const A20: u64 = 1 << 20;
const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const NX: u64 = 1 << 63;

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// The registers that translation depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagingRegs {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// CPL is 3.
    pub user: bool,
    /// EFLAGS.AC: explicit supervisor accesses may touch user pages although CR4.SMAP is set.
    pub ac: bool,
    /// CS is 64-bit code: linear addresses have 64 bits, else 32.
    pub long: bool,
    /// All segments are flat, so that of 32 bits the last address is also the last within the limit.
    pub flat: bool,
    /// The page-directory-pointer-table entries, with PAE paging.
    pub pdpte: [u64; 4],
    /// The A20 gate is closed: bit 20 of every physical address reads as zero.
    pub a20_closed: bool,
}

impl PagingRegs {
    /// The bits whose change invalidates every translation. That WP, SMEP, SMAP and NXE are among them goes beyond what SDM
    /// vol. 3A, 4.10.4.1 asks for: the tags hold the permission itself, not the rights it follows from.
    pub(crate) fn flush_key(&self) -> [u64; 3] {
        [
            self.cr0 & (CR0_PG | CR0_WP) | u64::from(self.a20_closed),
            self.cr4 & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP),
            self.efer & (EFER_LMA | EFER_NXE),
        ]
    }
    pub(crate) fn smap(&self) -> bool {
        self.cr4 & CR4_SMAP != 0
    }
    pub(crate) fn pcid(&self) -> u16 {
        if self.cr4 & CR4_PCIDE != 0 {
            (self.cr3 & 0xfff) as u16
        } else {
            0
        }
    }
    pub(crate) fn four_level(&self) -> bool {
        self.efer & EFER_LMA != 0
    }
    fn paging(&self) -> bool {
        self.cr0 & CR0_PG != 0
    }
    fn nxe(&self) -> bool {
        self.efer & EFER_NXE != 0
    }
    /// A physical address as it leaves the CPU.
    fn gated(&self, address: u64) -> u64 {
        if self.a20_closed {
            address & !A20
        } else {
            address
        }
    }
}

/// What an access wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) write: bool,
    pub(crate) fetch: bool,
    pub(crate) user: bool,
    /// User pages are out of bounds for this supervisor data access.
    pub(crate) smap: bool,
}

impl Want {
    /// A data access.
    pub(crate) fn data(kind: Privilege, write: bool) -> Want {
        Want {
            write,
            fetch: false,
            user: kind == Privilege::User,
            smap: kind == Privilege::Smap,
        }
    }
}

/// Error-code bits (SDM vol. 3A, 4.7).
mod error {
    pub(super) const P: u32 = 1;
    pub(super) const W: u32 = 2;
    pub(super) const U: u32 = 4;
    pub(super) const RSVD: u32 = 8;
    pub(super) const I: u32 = 16;
}

/// A table entry that the walk went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) address: u64,
    pub(crate) bytes: u32,
    pub(crate) old: u64,
    pub(crate) new: u64,
}

/// A permitted translation, before anything is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// The 4 KiB page that holds the address.
    pub(crate) page: u64,
    /// Attribute bits of the TLB entry.
    pub(crate) attr: u64,
    /// A later write of the same privilege would neither fault nor set a dirty bit.
    pub(crate) write: bool,
    /// Table entries with their accessed and dirty bits as they must become.
    pub(crate) used: [Used; 4],
}

/// The rights that all levels together leave.
#[derive(Clone, Copy)]
struct Rights {
    write: bool,
    user: bool,
    nx: bool,
}

struct Walker<'a> {
    ram: &'a Ram,
    regs: &'a PagingRegs,
    want: Want,
    rights: Rights,
    used: [Used; 4],
    depth: usize,
}

/// PAE's four top entries at `cr3`; None if one that is present has reserved bits (SDM vol. 3A, 4.4.1).
pub(crate) fn pdptes(ram: &Ram, regs: &PagingRegs, cr3: u64) -> Option<[u64; 4]> {
    const RESERVED: u64 = 0x1e6 | !((1 << PHYS_BITS) - 1);
    let mut entries = [0; 4];
    for (entry, n) in entries.iter_mut().zip(0..) {
        let address = regs.gated((cr3 & 0xffff_ffe0) + 8 * n);
        *entry = ram.read_uint(address, 8).unwrap_or(u64::MAX);
        if *entry & P != 0 && *entry & RESERVED != 0 {
            return None;
        }
    }
    Some(entries)
}

/// Translates `va`; the error is the code of the page fault.
pub(crate) fn walk(ram: &Ram, regs: &PagingRegs, va: u64, want: Want) -> Result<Walk, u32> {
    let mut w = Walker {
        ram,
        regs,
        want,
        rights: Rights {
            write: true,
            user: true,
            nx: false,
        },
        used: [Used::default(); 4],
        depth: 0,
    };
    if !regs.paging() {
        return Ok(Walk {
            page: regs.gated(va & !OFFSET),
            attr: 0,
            write: true,
            used: w.used,
        });
    }
    if regs.four_level() {
        w.four_level(va)
    } else if regs.cr4 & CR4_PAE != 0 {
        w.pae(va)
    } else {
        w.two_level(va)
    }
}

impl Walker<'_> {
    fn fault(&self, code: u32) -> u32 {
        let mut code = code;
        if self.want.write {
            code |= error::W;
        }
        if self.want.user {
            code |= error::U;
        }
        let marks_fetches =
            (self.regs.cr4 & CR4_PAE != 0 && self.regs.nxe()) || self.regs.cr4 & CR4_SMEP != 0;
        if self.want.fetch && marks_fetches {
            code |= error::I;
        }
        code
    }

    /// Reads one table entry, checks P and reserved bits, and gathers rights. Tables outside RAM read as all ones.
    fn entry(&mut self, address: u64, bytes: u32, reserved: u64) -> Result<u64, u32> {
        let address = self.regs.gated(address);
        let ones = u64::MAX >> (64 - 8 * bytes);
        let e = self.ram.read_uint(address, bytes).unwrap_or(ones);
        if e & P == 0 {
            return Err(self.fault(0));
        }
        if e & reserved != 0 {
            return Err(self.fault(error::P | error::RSVD));
        }
        self.used[self.depth] = Used {
            address,
            bytes,
            old: e,
            new: e | A,
        };
        self.depth += 1;
        Ok(e)
    }

    fn narrow(&mut self, e: u64) {
        self.rights.write &= e & RW != 0;
        self.rights.user &= e & US != 0;
        self.rights.nx |= e & NX != 0;
    }

    /// Reserved bits of any 8-byte entry: address bits beyond the machine's, and NX where it is off.
    fn reserved64(&self) -> u64 {
        let top = if self.regs.four_level() { 52 } else { 63 };
        let beyond = ((1u64 << top) - 1) & !((1 << PHYS_BITS) - 1);
        beyond | if self.regs.nxe() { 0 } else { NX }
    }

    /// One 8-byte entry of the table at `table`.
    fn entry64(&mut self, table: u64, va: u64, shift: u32, reserved: u64) -> Result<u64, u32> {
        let address = (table & PHYS_MASK) + ((va >> shift) & 511) * 8;
        let e = self.entry(address, 8, reserved | self.reserved64())?;
        self.narrow(e);
        Ok(e)
    }

    fn four_level(&mut self, va: u64) -> Result<Walk, u32> {
        let pml4e = self.entry64(self.regs.cr3, va, 39, PS)?;
        let pdpte = self.entry64(pml4e, va, 30, 0)?;
        if pdpte & PS != 0 {
            if pdpte & 0x3fff_e000 != 0 {
                return Err(self.fault(error::P | error::RSVD));
            }
            return self.leaf(pdpte, pdpte & PHYS_MASK, va, 1 << 30);
        }
        self.directory(pdpte, va)
    }

    /// The lower two levels, which PAE and 4-level paging share.
    fn directory(&mut self, above: u64, va: u64) -> Result<Walk, u32> {
        let pde = self.entry64(above, va, 21, 0)?;
        if pde & PS != 0 {
            if pde & 0x1f_e000 != 0 {
                return Err(self.fault(error::P | error::RSVD));
            }
            return self.leaf(pde, pde & PHYS_MASK, va, 2 << 20);
        }
        let pte = self.entry64(pde, va, 12, 0)?;
        self.leaf(pte, pte & PHYS_MASK, va, PAGE)
    }

    fn pae(&mut self, va: u64) -> Result<Walk, u32> {
        // These entries hold no rights and no accessed bit (SDM vol. 3A, table 4-8).
        let pdpte = self.regs.pdpte[(va >> 30) as usize & 3];
        if pdpte & P == 0 {
            return Err(self.fault(0));
        }
        self.directory(pdpte, va)
    }

    fn two_level(&mut self, va: u64) -> Result<Walk, u32> {
        let address = (self.regs.cr3 & 0xffff_f000) + ((va >> 22) & 1023) * 4;
        let large = self.regs.cr4 & CR4_PSE != 0;
        let pde = self.entry(address, 4, 0)?;
        self.narrow(pde);
        if large && pde & PS != 0 {
            // PSE-36: bits 13 to 20 are address bits 32 to 39; bit 21 is reserved with 40 physical bits.
            if pde & (1 << 21) != 0 {
                return Err(self.fault(error::P | error::RSVD));
            }
            let base = (pde & 0xffc0_0000) | ((pde & 0x1f_e000) << 19);
            return self.leaf(pde, base, va, 4 << 20);
        }
        let address = (pde & 0xffff_f000) + ((va >> 12) & 1023) * 4;
        let pte = self.entry(address, 4, 0)?;
        self.narrow(pte);
        self.leaf(pte, pte & 0xffff_f000, va, PAGE)
    }

    /// Decides with all rights known (SDM vol. 3A, 4.6).
    fn leaf(&mut self, e: u64, base: u64, va: u64, size: u64) -> Result<Walk, u32> {
        let Rights { write, user, nx } = self.rights;
        let want = self.want;
        let may_read = if want.user {
            user
        } else {
            !(user && want.smap)
        };
        let wp = want.user || self.regs.cr0 & CR0_WP != 0;
        let may_write = may_read && (write || !wp);
        let smep = user && self.regs.cr4 & CR4_SMEP != 0;
        let may_fetch = if want.user { user } else { !smep } && !(nx && self.regs.nxe());
        let allowed = match (want.fetch, want.write) {
            (true, _) => may_fetch,
            (false, true) => may_write,
            (false, false) => may_read,
        };
        if !allowed {
            return Err(self.fault(error::P));
        }
        if want.write {
            self.used[self.depth - 1].new |= D;
        }
        let offset = va & (size - 1) & !OFFSET;
        let mut bits = match size {
            PAGE => 0,
            0x4000_0000 => attr::HUGE,
            0x20_0000 => attr::LARGE,
            _ => attr::LARGE | attr::FOUR_MIB,
        };
        if e & G != 0 && self.regs.cr4 & CR4_PGE != 0 {
            bits |= attr::GLOBAL;
        }
        Ok(Walk {
            page: self.regs.gated((base & !(size - 1)) | offset),
            attr: bits,
            write: may_write && (want.write || e & D != 0),
            used: self.used,
        })
    }
}
