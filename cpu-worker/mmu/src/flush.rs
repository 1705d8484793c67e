//! Register changes, PCID slots and invalidation (Intel SDM vol. 3A, 4.10.4).

use crate::PagingRegs;
use crate::mmu::{Mmu, Privilege, SLOTS, Slot};
use crate::paging::pdptes;
use crate::tlb::Scope;

const DATA_KINDS: [Privilege; 3] = [Privilege::User, Privilege::Supervisor, Privilege::Smap];

impl Mmu {
    /// Takes over the registers after any of them changed, privilege and EFLAGS.AC included, and flushes what a change of CR0, CR4 or
    /// EFER invalidates. A write of CR3 goes through [`Mmu::load_cr3`].
    pub fn configure(&mut self, regs: &PagingRegs) {
        let flush = regs.flush_key() != self.regs.flush_key();
        let pcid = regs.pcid() != self.regs.pcid();
        self.regs = *regs;
        self.kind = match (regs.user, regs.smap() && !regs.ac) {
            (true, _) => Privilege::User,
            (false, true) => Privilege::Smap,
            (false, false) => Privilege::Supervisor,
        };
        if flush {
            self.flush_all();
        }
        if pcid || flush {
            self.choose_slot(regs.pcid());
        }
        self.choose_sets();
    }

    /// Whether taking these over would flush, or change the PCID.
    pub fn would_flush(&self, regs: &PagingRegs) -> bool {
        regs.flush_key() != self.regs.flush_key() || regs.pcid() != self.regs.pcid()
    }

    /// The registers in force.
    pub fn regs(&self) -> &PagingRegs {
        &self.regs
    }

    /// MOV to CR3 (or a task switch): changes the address space; `keep` is bit 63 of the source with CR4.PCIDE set, which spares the
    /// new PCID's translations.
    pub fn load_cr3(&mut self, cr3: u64, keep: bool) {
        self.regs.cr3 = cr3;
        self.choose_slot(self.regs.pcid());
        if !keep {
            self.flush_slot(self.slot, Scope::NotGlobal);
        }
        self.choose_sets();
    }

    /// The page-directory-pointer-table entries that PAE paging would use with this CR3; None if their reserved bits forbid it.
    pub fn read_pdptes(&self, cr3: u64) -> Option<[u64; 4]> {
        pdptes(&self.ram, &self.regs, cr3)
    }

    /// Finds the slot of a PCID, or takes the one that was chosen longest ago.
    fn choose_slot(&mut self, pcid: u16) {
        self.loads += 1;
        let held = self.slots.iter().position(|s| s.valid && s.pcid == pcid);
        self.slot = held.unwrap_or_else(|| {
            let oldest = (0..SLOTS).min_by_key(|&i| (self.slots[i].valid, self.slots[i].used));
            let slot = oldest.expect("there are slots");
            self.flush_slot(slot, Scope::All);
            slot
        });
        self.slots[self.slot] = Slot {
            pcid,
            valid: true,
            used: self.loads,
        };
    }

    fn flush_slot(&mut self, slot: usize, scope: Scope) {
        for kind in DATA_KINDS {
            self.data_tlb.flush(Mmu::data_set(slot, kind), scope);
        }
        for user in [false, true] {
            self.code_tlb.flush(Mmu::code_set(slot, user), scope);
        }
    }

    fn flush_slot_page(&mut self, slot: usize, va: u64, scope: Scope) {
        for kind in DATA_KINDS {
            self.data_tlb
                .flush_page(Mmu::data_set(slot, kind), va, scope);
        }
        for user in [false, true] {
            self.code_tlb
                .flush_page(Mmu::code_set(slot, user), va, scope);
        }
    }

    /// Everything, global entries included.
    pub fn flush_all(&mut self) {
        for slot in 0..SLOTS {
            self.flush_slot(slot, Scope::All);
        }
    }

    /// INVLPG: the page's translations for the current PCID, and global ones for all.
    pub fn invlpg(&mut self, va: u64) {
        for slot in 0..SLOTS {
            let scope = if slot == self.slot {
                Scope::All
            } else {
                Scope::OnlyGlobal
            };
            self.flush_slot_page(slot, va, scope);
        }
    }

    /// INVPCID type 0: one address of one PCID, global entries spared.
    pub fn invpcid_address(&mut self, pcid: u16, va: u64) {
        if let Some(slot) = self.slot_of(pcid) {
            self.flush_slot_page(slot, va, Scope::NotGlobal);
        }
    }

    /// INVPCID type 1: one PCID, global entries spared.
    pub fn invpcid_context(&mut self, pcid: u16) {
        if let Some(slot) = self.slot_of(pcid) {
            self.flush_slot(slot, Scope::NotGlobal);
        }
    }

    /// INVPCID type 2: everything.
    pub fn invpcid_all(&mut self) {
        self.flush_all();
    }

    /// INVPCID type 3: everything but global entries.
    pub fn invpcid_all_but_global(&mut self) {
        for slot in 0..SLOTS {
            self.flush_slot(slot, Scope::NotGlobal);
        }
    }

    fn slot_of(&self, pcid: u16) -> Option<usize> {
        self.slots.iter().position(|s| s.valid && s.pcid == pcid)
    }

    /// All that the guest could observe of the TLB, for hashes: tags without slow bits, pages and attributes, then the PCID slots.
    pub fn visible_tlb(&self) -> impl Iterator<Item = u64> + '_ {
        let entries = self.data_tlb.visible().chain(self.code_tlb.visible());
        let slots = self
            .slots
            .iter()
            .flat_map(|s| [u64::from(s.pcid) << 1 | u64::from(s.valid), s.used]);
        entries.flatten().chain(slots).chain([self.slot as u64])
    }
}
