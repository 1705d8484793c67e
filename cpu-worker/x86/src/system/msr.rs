//! Model-specific registers, and the counters that read time (SDM vol. 4).
//!
//! What the CPU holds is here; the local APIC's, kvmclock's and all others are the bus's, which refuses what it does not
//! know, and a refusal is #GP(0).

use atoll_mmu::PHYS_BITS;

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::features::Features;
use crate::interp::signed_48;
use crate::op::{Op, RAX, RCX, RDX, Seg, Width};
use crate::state::cr;

const TSC: u32 = 0x10;
const PLATFORM_ID: u32 = 0x17;
const FEATURE_CONTROL: u32 = 0x3a;
const TSC_ADJUST: u32 = 0x3b;
const SPEC_CTRL: u32 = 0x48;
const PRED_CMD: u32 = 0x49;
const MICROCODE_LOAD: u32 = 0x79;
const MICROCODE_REVISION: u32 = 0x8b;
const PLATFORM_INFO: u32 = 0xce;
const MTRR_CAP: u32 = 0xfe;
const ARCH_CAPABILITIES: u32 = 0x10a;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUGCTL: u32 = 0x1d9;
const MTRR_VARIABLE: u32 = 0x200;
const MTRR_VARIABLE_END: u32 = 0x20f;
const PAT: u32 = 0x277;
const MTRR_DEF_TYPE: u32 = 0x2ff;
const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;

/// The fixed-range MTRRs in the order of `State::mtrr_fixed`.
const MTRR_FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];

/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAP_VALUE: u64 = 0x508;
/// The microcode revision, in the upper half as the register has it.
const MICROCODE: u64 = 1 << 32;
/// Base ratio 10 of a 100 MHz clock: 1 GHz.
const PLATFORM_INFO_VALUE: u64 = 10 << 8;
/// Locked, nothing enabled.
const FEATURE_CONTROL_VALUE: u64 = 1;
/// RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO,
/// PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO: nothing is executed speculatively here.
const ARCH_CAPABILITIES_VALUE: u64 = {
    let bits = [0, 1, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62];
    let mut v = 0;
    let mut i = 0;
    while i < bits.len() {
        v |= 1 << bits[i];
        i += 1;
    }
    v
};

impl Cpu {
    /// The time-stamp counter: virtual nanoseconds, one tick each, plus the guest's offset.
    pub fn tsc(&self) -> u64 {
        self.state
            .clock
            .now_ns()
            .wrapping_add(self.state.tsc_offset)
    }

    /// Whether the model has this register, for those that come with a feature.
    fn has_msr(&self, msr: u32) -> bool {
        let needed = match msr {
            TSC => Features::TSC,
            TSC_ADJUST => Features::TSC_ADJUST,
            SPEC_CTRL | PRED_CMD | ARCH_CAPABILITIES => Features::ARCH_CAPABILITIES,
            MTRR_CAP | MTRR_DEF_TYPE | MTRR_VARIABLE..=MTRR_VARIABLE_END => Features::MTRR,
            _ if MTRR_FIXED.contains(&msr) => Features::MTRR,
            SYSENTER_CS | SYSENTER_ESP | SYSENTER_EIP => Features::SEP,
            MCG_CAP | MCG_STATUS => Features::MCA,
            PAT => Features::PAT,
            EFER => {
                let any = Features::SYSCALL | Features::NX | Features::LM;
                return self.features().intersects(any);
            }
            STAR => Features::SYSCALL,
            LSTAR | CSTAR | SFMASK | FS_BASE | GS_BASE | KERNEL_GS_BASE => Features::LM,
            TSC_AUX => {
                let any = Features::RDTSCP | Features::RDPID;
                return self.features().intersects(any);
            }
            _ => Features::empty(),
        };
        self.features().contains(needed)
    }

    fn read_msr(&mut self, msr: u32) -> Option<u64> {
        if !self.has_msr(msr) {
            return None;
        }
        let s = &self.state;
        let v = match msr {
            TSC => self.tsc(),
            TSC_ADJUST => s.tsc_offset,
            PLATFORM_ID | MCG_CAP | MCG_STATUS | DEBUGCTL => 0,
            FEATURE_CONTROL => FEATURE_CONTROL_VALUE,
            SPEC_CTRL => s.spec_ctrl,
            MICROCODE_REVISION => MICROCODE,
            PLATFORM_INFO => PLATFORM_INFO_VALUE,
            MTRR_CAP => MTRR_CAP_VALUE,
            ARCH_CAPABILITIES => ARCH_CAPABILITIES_VALUE,
            SYSENTER_CS => s.sysenter_cs,
            SYSENTER_ESP => s.sysenter_esp,
            SYSENTER_EIP => s.sysenter_eip,
            MISC_ENABLE => s.misc_enable,
            MTRR_VARIABLE..=MTRR_VARIABLE_END => s.mtrr_variable[(msr - MTRR_VARIABLE) as usize],
            PAT => s.pat,
            MTRR_DEF_TYPE => s.mtrr_def_type,
            EFER => s.efer,
            STAR => s.star,
            LSTAR => s.lstar,
            CSTAR => s.cstar,
            SFMASK => s.sfmask,
            FS_BASE => s.segment(Seg::Fs).base,
            GS_BASE => s.segment(Seg::Gs).base,
            KERNEL_GS_BASE => s.kernel_gs_base,
            TSC_AUX => s.tsc_aux,
            _ => match MTRR_FIXED.iter().position(|&m| m == msr) {
                Some(n) => s.mtrr_fixed[n],
                None => return self.bus.msr_read(&mut self.state.clock, msr),
            },
        };
        Some(v)
    }

    fn write_msr(&mut self, msr: u32, v: u64) -> bool {
        if !self.has_msr(msr) {
            return false;
        }
        let canonical = signed_48(v) == v;
        let now = self.state.clock.now_ns();
        let s = &mut self.state;
        let (at, valid) = match msr {
            TSC => {
                s.tsc_offset = v.wrapping_sub(now);
                return true;
            }
            EFER => return self.write_efer(v),
            // Accepted, and without effect: no predictor, no update, no branch records.
            PRED_CMD => return v & !1 == 0,
            MICROCODE_LOAD | MICROCODE_REVISION | DEBUGCTL | MCG_STATUS => return true,
            TSC_ADJUST => (&mut s.tsc_offset, true),
            SPEC_CTRL => (&mut s.spec_ctrl, v & !7 == 0),
            SYSENTER_CS => (&mut s.sysenter_cs, true),
            SYSENTER_ESP => (&mut s.sysenter_esp, canonical),
            SYSENTER_EIP => (&mut s.sysenter_eip, canonical),
            MISC_ENABLE => (&mut s.misc_enable, true),
            MTRR_VARIABLE..=MTRR_VARIABLE_END => {
                let n = (msr - MTRR_VARIABLE) as usize;
                (&mut s.mtrr_variable[n], is_mtrr_range(n, v))
            }
            PAT => (&mut s.pat, is_pat(v)),
            MTRR_DEF_TYPE => (
                &mut s.mtrr_def_type,
                v & !0xcff == 0 && is_mtrr_type(v as u8),
            ),
            STAR => (&mut s.star, true),
            LSTAR => (&mut s.lstar, canonical),
            CSTAR => (&mut s.cstar, canonical),
            SFMASK => (&mut s.sfmask, v >> 32 == 0),
            FS_BASE => (&mut s.seg[Seg::Fs as usize].base, canonical),
            GS_BASE => (&mut s.seg[Seg::Gs as usize].base, canonical),
            KERNEL_GS_BASE => (&mut s.kernel_gs_base, canonical),
            TSC_AUX => (&mut s.tsc_aux, v >> 32 == 0),
            _ => match MTRR_FIXED.iter().position(|&m| m == msr) {
                Some(n) => {
                    let valid = v.to_le_bytes().into_iter().all(is_mtrr_type);
                    (&mut s.mtrr_fixed[n], valid)
                }
                None => return self.bus.msr_write(&mut self.state.clock, msr, v),
            },
        };
        if valid {
            *at = v;
        }
        valid
    }

    fn write_efer(&mut self, v: u64) -> bool {
        let f = self.features();
        let on = |feature: Features, bits: u64| if f.contains(feature) { bits } else { 0 };
        let known = on(Features::SYSCALL, cr::EFER_SCE)
            | on(Features::LM, cr::EFER_LME | cr::EFER_LMA)
            | on(Features::NX, cr::EFER_NXE);
        let old = self.state.efer;
        let switches = (v ^ old) & cr::EFER_LME != 0 && self.state.cr0 & cr::CR0_PG != 0;
        if v & !known != 0 || switches {
            return false;
        }
        self.state.efer = v & !cr::EFER_LMA | old & cr::EFER_LMA;
        self.update_mode_within();
        true
    }
}

/// Whether each byte is a memory type that PAT knows.
fn is_pat(v: u64) -> bool {
    v.to_le_bytes()
        .iter()
        .all(|b| matches!(b, 0 | 1 | 4 | 5 | 6 | 7))
}

/// Whether MTRRs know the memory type (SDM vol. 3A, table 12-8).
fn is_mtrr_type(t: u8) -> bool {
    matches!(t, 0 | 1 | 4 | 5 | 6)
}

/// Whether a variable range's base (even) or mask (odd) has no reserved bit and no reserved type (SDM vol. 3A, 12.11.2.3).
fn is_mtrr_range(n: usize, v: u64) -> bool {
    let is_mask = n & 1 != 0;
    let reserved = if is_mask { 0x7ff } else { 0xf00 };
    v >> PHYS_BITS == 0 && v & reserved == 0 && (is_mask || is_mtrr_type(v as u8))
}

/// Puts a 64-bit value into EDX:EAX.
fn set_edx_eax(cpu: &mut Cpu, v: u64) {
    cpu.set_reg(Width::D, RAX, v & 0xffff_ffff);
    cpu.set_reg(Width::D, RDX, v >> 32);
}

pub(crate) fn rdmsr(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let msr = cpu.reg(Width::D, RCX) as u32;
    match cpu.read_msr(msr) {
        Some(v) => set_edx_eax(cpu, v),
        None => return Err(cpu.gp(0)),
    }
    Ok(())
}

pub(crate) fn wrmsr(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    cpu.require_cpl0()?;
    let msr = cpu.reg(Width::D, RCX) as u32;
    let v = cpu.reg(Width::D, RDX) << 32 | cpu.reg(Width::D, RAX);
    if cpu.write_msr(msr, v) {
        cpu.note_code_writes();
        Ok(())
    } else {
        Err(cpu.gp(0))
    }
}

/// RDTSC, and RDTSCP (`sub` 1).
pub(crate) fn rdtsc(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    if cpu.state.cr4 & cr::CR4_TSD != 0 && cpu.state.cpl() != 0 {
        return Err(cpu.gp(0));
    }
    let v = cpu.tsc();
    set_edx_eax(cpu, v);
    if op.sub == 1 {
        let aux = cpu.state.tsc_aux & 0xffff_ffff;
        cpu.set_reg(Width::D, RCX, aux);
    }
    Ok(())
}

/// RDPMC: the model has no performance counters.
pub(crate) fn rdpmc(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    Err(cpu.gp(0))
}

pub(crate) fn rdpid(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let aux = cpu.state.tsc_aux;
    cpu.set_reg(op.width, op.dst, aux & op.width.mask());
    Ok(())
}
