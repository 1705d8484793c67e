//! Control and debug registers, and the TLB instructions (SDM vol. 3A, 2.5, 4.10.4, 17.2).

use atoll_mmu::PHYS_BITS;

use crate::cpu::{Cpu, DR7_GD};
use crate::eval::Eval;
use crate::exception::{Fault, Stop, Vector};
use crate::features::Features;
use crate::interp::signed_48;
use crate::op::{Arg, Op, Seg, Width};
use crate::state::{attr, cr::*, mode};

const CR0_KNOWN: u64 =
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;

/// CR3's flag that spares the TLB, with CR4.PCIDE set.
const CR3_KEEP: u64 = 1 << 63;

/// DR6 bits that always read as one, and those that can be written.
const DR6_ONES: u64 = 0xffff_0ff0;
const DR6_WRITABLE: u64 = 0xe00f;

fn width(op: &Op) -> Width {
    if op.has(crate::op::OpFlags::LONG) {
        Width::Q
    } else {
        Width::D
    }
}

/// MOV r, CRn: `src` is the number.
pub(crate) fn read_cr(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let s = &cpu.state;
    let v = match op.src {
        0 => s.cr0,
        2 => s.cr2,
        3 => s.cr3,
        4 => s.cr4,
        8 => cpu.bus.tpr() as u64,
        _ => return Err(cpu.raise(Fault::UD)),
    };
    let w = width(op);
    cpu.set_reg(w, op.dst, v & w.mask());
    Ok(())
}

/// MOV CRn, r: `dst` is the number.
pub(crate) fn write_cr(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let v = cpu.reg(width(op), op.src);
    match op.dst {
        0 => cpu.set_cr0(v),
        2 => {
            cpu.state.cr2 = v;
            Ok(())
        }
        3 => cpu.set_cr3(v),
        4 => cpu.set_cr4(v),
        8 if v > 15 => Err(cpu.gp(0)),
        8 => {
            cpu.bus.set_tpr(&mut cpu.state.clock, v as u8);
            cpu.interrupts_unmasked();
            Ok(())
        }
        _ => Err(cpu.raise(Fault::UD)),
    }
}

impl Cpu {
    /// MOV to CR0: switches protection, paging and with it long mode.
    fn set_cr0(&mut self, v: u64) -> Result<(), Stop> {
        let s = &self.state;
        let paging = v & CR0_PG != 0;
        let was_paging = s.cr0 & CR0_PG != 0;
        let long_code = s.segment(Seg::Cs).attr & attr::L != 0;
        let small_task = s.segment(Seg::Tr).attr & 8 == 0;
        let lme = s.efer & EFER_LME != 0;
        let bad = v >> 32 != 0
            || paging && v & CR0_PE == 0
            || v & CR0_NW != 0 && v & CR0_CD == 0
            || paging && !was_paging && lme && (s.cr4 & CR4_PAE == 0 || long_code || small_task)
            || !paging && was_paging && (s.mode & mode::LONG != 0 || s.cr4 & CR4_PCIDE != 0);
        if bad {
            return Err(self.gp(0));
        }
        let reload = (v ^ s.cr0) & (CR0_PG | CR0_CD | CR0_NW) != 0;
        let pdpte = self.pdptes(paging && reload && !lme, s.cr4, s.cr3)?;
        let s = &mut self.state;
        s.pdpte = pdpte;
        s.cr0 = v & CR0_KNOWN | CR0_ET;
        if paging && lme {
            s.efer |= EFER_LMA;
        } else {
            s.efer &= !EFER_LMA;
        }
        self.update_mode();
        Ok(())
    }

    fn set_cr3(&mut self, v: u64) -> Result<(), Stop> {
        let pcid = self.state.cr4 & CR4_PCIDE != 0;
        let keep = pcid && v & CR3_KEEP != 0;
        let v = if pcid { v & !CR3_KEEP } else { v };
        if self.state.mode & mode::LMA != 0 && v >> PHYS_BITS != 0 {
            return Err(self.gp(0));
        }
        let s = &self.state;
        let active = s.cr0 & CR0_PG != 0 && s.mode & mode::LMA == 0;
        self.state.pdpte = self.pdptes(active, s.cr4, v)?;
        self.state.cr3 = v;
        self.mmu.load_cr3(v, keep);
        self.update_mode();
        Ok(())
    }

    /// PAE's four top entries as they must become: read anew if `reload` holds and PAE paging is what `cr4` chooses, else as they are.
    /// Reserved bits in them are #GP(0) (SDM vol. 3A, 4.4.1).
    pub(crate) fn pdptes(&mut self, reload: bool, cr4: u64, cr3: u64) -> Result<[u64; 4], Stop> {
        if !reload || cr4 & CR4_PAE == 0 {
            return Ok(self.state.pdpte);
        }
        self.mmu.read_pdptes(cr3).ok_or_else(|| self.gp(0))
    }

    fn cr4_known(&self) -> u64 {
        let f = self.features();
        let on = |feature: Features, bits: u64| if f.contains(feature) { bits } else { 0 };
        on(Features::VME, CR4_VME | CR4_PVI)
            | on(Features::TSC, CR4_TSD)
            | on(Features::DE, CR4_DE)
            | on(Features::PSE, CR4_PSE)
            | on(Features::PAE, CR4_PAE)
            | on(Features::MCE, CR4_MCE)
            | on(Features::PGE, CR4_PGE)
            | CR4_PCE
            | on(Features::FXSR, CR4_OSFXSR)
            | on(Features::SSE, CR4_OSXMMEXCPT)
            | on(Features::UMIP, CR4_UMIP)
            | on(Features::FSGSBASE, CR4_FSGSBASE)
            | on(Features::PCID, CR4_PCIDE)
            | on(Features::XSAVE, CR4_OSXSAVE)
            | on(Features::SMEP, CR4_SMEP)
            | on(Features::SMAP, CR4_SMAP)
    }

    fn set_cr4(&mut self, v: u64) -> Result<(), Stop> {
        let s = &self.state;
        let lma = s.mode & mode::LMA != 0;
        let turns_pcid_on = v & !s.cr4 & CR4_PCIDE != 0;
        let bad = v & !self.cr4_known() != 0
            || lma && v & CR4_PAE == 0
            || turns_pcid_on && (!lma || s.cr3 & 0xfff != 0);
        if bad {
            return Err(self.gp(0));
        }
        let changed = (v ^ s.cr4) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) != 0;
        let reload = changed && !lma && s.cr0 & CR0_PG != 0;
        self.state.pdpte = self.pdptes(reload, v, s.cr3)?;
        self.state.cr4 = v;
        self.update_mode();
        Ok(())
    }

    /// #UD for DR4 and DR5 with CR4.DE, #DB for any access with DR7.GD; gives the real number.
    fn debug_register(&mut self, n: u8) -> Result<usize, Stop> {
        let n = match n {
            4 | 5 if self.state.cr4 & CR4_DE != 0 => return Err(self.raise(Fault::UD)),
            4 | 5 => n + 2,
            8.. => return Err(self.raise(Fault::UD)),
            _ => n,
        };
        self.require_cpl0()?;
        if self.state.dr[7] & DR7_GD != 0 {
            self.state.dr[6] |= 1 << 13;
            return Err(self.raise(Fault::new(Vector::Debug)));
        }
        Ok(n as usize)
    }
}

/// MOV r, DRn.
pub(crate) fn read_dr(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let n = cpu.debug_register(op.src)?;
    let w = width(op);
    let v = cpu.state.dr[n] & w.mask();
    cpu.set_reg(w, op.dst, v);
    Ok(())
}

/// MOV DRn, r.
pub(crate) fn write_dr(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let n = cpu.debug_register(op.dst)?;
    let v = cpu.reg(width(op), op.src);
    if n >= 6 && v >> 32 != 0 {
        return Err(cpu.gp(0));
    }
    cpu.state.dr[n] = match n {
        6 => v & DR6_WRITABLE | DR6_ONES,
        7 => v & 0xffff_2fff | 0x400,
        _ => v,
    };
    cpu.update_mode();
    Ok(())
}

pub(crate) fn clts(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    cpu.state.cr0 &= !CR0_TS;
    cpu.update_mode();
    Ok(())
}

/// LMSW: the low four bits of CR0; PE can be set but not cleared.
pub(crate) fn lmsw(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let v = match op.src_arg {
        Arg::Reg => cpu.reg(Width::W, op.src),
        _ => {
            let at = cpu.ea(op, 2)?;
            cpu.load(Width::W, at)?
        }
    };
    let kept = cpu.state.cr0 & CR0_PE;
    cpu.state.cr0 = cpu.state.cr0 & !0xf | v & 0xf | kept;
    cpu.update_mode();
    Ok(())
}

/// SMSW: 16 bits to memory, the operand's width to a register.
pub(crate) fn smsw(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.check_umip()?;
    let v = cpu.state.cr0;
    if op.dst_arg == Arg::Reg {
        cpu.set_reg(op.width, op.dst, v & op.width.mask());
        return Ok(());
    }
    let at = cpu.ea(op, 2)?;
    cpu.store(Width::W, at, v & 0xffff)
}

/// INVLPG. A non-canonical address does nothing.
pub(crate) fn invlpg(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let offset = super::tables::plain_address(cpu, op);
    if signed_48(offset) == offset {
        cpu.mmu.invlpg(offset);
    }
    Ok(())
}

/// INVPCID: the type is in register `dst`, the descriptor in memory.
pub(crate) fn invpcid(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let at = cpu.ea(op, 16)?;
    let pcid = cpu.load(Width::Q, at)?;
    let address = cpu.load(Width::Q, at.wrapping_add(8))?;
    let kind = cpu.reg(width(op), op.dst);
    let disabled = cpu.state.cr4 & CR4_PCIDE == 0;
    let bad = kind > 3
        || pcid >> 12 != 0
        || kind < 2 && disabled && pcid != 0
        || kind == 0 && signed_48(address) != address;
    if bad {
        return Err(cpu.gp(0));
    }
    match kind {
        0 => cpu.mmu.invpcid_address(pcid as u16, address),
        1 => cpu.mmu.invpcid_context(pcid as u16),
        2 => cpu.mmu.invpcid_all(),
        _ => cpu.mmu.invpcid_all_but_global(),
    }
    Ok(())
}

/// WBINVD, INVD and the like: there is no cache.
pub(crate) fn cache_control(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()
}

/// CLFLUSH, CLFLUSHOPT, CLWB: a load of one byte as far as faults go.
pub(crate) fn flush_line(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let at = cpu.line_address(op)?;
    match cpu.mmu.span_read(at, 1) {
        Ok(_) | Err(atoll_mmu::MemStop::Device { .. }) => Ok(()),
        Err(stop) => Err(cpu.memory_fault(stop)),
    }
}

/// CLZERO: the line of 64 bytes around the address becomes zero (AMD APM vol. 3). All of it must lie in the segment.
pub(crate) fn clear_line(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let before = cpu.ea(op, 1)? & 63;
    let line = cpu.lane_address(op, before.wrapping_neg(), 64)?;
    for n in 0..8 {
        cpu.store(Width::Q, line + 8 * n, 0)?;
    }
    Ok(())
}
