//! The architectural state of one vCPU. `repr(C)`: emitted code addresses its fields through the pinned register.
//!
//! Invariants: `gpr[16]` (ZERO) is zero; `gpr[17]` is RIP; `rflags` holds no arithmetic bits (they are in `flags`) but bit 1;
//! `mode` is what [`State::compute_mode`] gives for the rest, so whoever changes one of its inputs recomputes it.

use serde::{Deserialize, Serialize};

use crate::bus::Clock;
use crate::flags::{self, LazyFlags};
use crate::op::{RIP, Seg};

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Segment {
    pub base: u64,
    /// Limit in bytes, granularity already applied.
    pub limit: u32,
    /// Bits 8 to 15 and 20 to 23 of the descriptor's second dword, shifted right by 8: type, S, DPL, P, AVL, L, D/B, G.
    pub attr: u16,
    pub selector: u16,
}

/// Bits of [`Segment::attr`].
pub mod attr {
    pub const TYPE: u16 = 0xf;
    pub const S: u16 = 1 << 4;
    pub const DPL_SHIFT: u16 = 5;
    pub const P: u16 = 1 << 7;
    pub const AVL: u16 = 1 << 12;
    pub const L: u16 = 1 << 13;
    pub const DB: u16 = 1 << 14;
    pub const G: u16 = 1 << 15;
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct TableReg {
    pub base: u64,
    pub limit: u16,
}

/// The x87 unit. Registers are physical, `top` is in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct X87 {
    /// 80-bit values: significand, then sign and exponent in the low 16 bits of the second word.
    pub regs: [[u64; 2]; 8],
    pub control: u16,
    pub status: u16,
    /// One bit per physical register: 1 = in use (the abridged tag of FXSAVE).
    pub tags: u8,
    pub opcode: u16,
    pub ip: u64,
    pub dp: u64,
    pub cs: u16,
    pub ds: u16,
}

/// Bits of the mode word: all that emitted code and decoded blocks take for granted.
pub mod mode {
    /// CS is 64-bit code in long mode.
    pub const LONG: u32 = 1;
    /// CS.D: 32-bit default operand and address size (not set in LONG).
    pub const CODE32: u32 = 2;
    /// SS.B: 32-bit stack pointer (set in LONG too).
    pub const STACK32: u32 = 4;
    /// DS, ES, SS and CS have base 0 and the full limit (always set in LONG).
    pub const FLAT: u32 = 8;
    /// CPL is 3.
    pub const USER: u32 = 0x10;
    /// SMAP applies to explicit supervisor accesses (CR4.SMAP, CPL < 3, EFLAGS.AC clear).
    pub const SMAP: u32 = 0x20;
    /// MXCSR control bits differ from the default (all masked, nearest, no FTZ, no DAZ).
    pub const MXCSR: u32 = 0x40;
    /// CR0.EM or CR0.TS: x87/MMX/SSE instructions fault (#UD or #NM), or CR4.OSFXSR is clear.
    pub const FPU_OFF: u32 = 0x80;
    /// EFLAGS.TF or RF, or an enabled breakpoint in DR7: every instruction is executed by the interpreter.
    pub const DEBUG: u32 = 0x100;
    /// CR0.PE.
    pub const PROTECTED: u32 = 0x200;
    /// EFLAGS.VM.
    pub const V86: u32 = 0x400;
    /// EFER.LMA (long mode active: compatibility or 64-bit).
    pub const LMA: u32 = 0x800;
    /// Alignment checks apply (CR0.AM, EFLAGS.AC, CPL 3).
    pub const ALIGN: u32 = 0x1000;
    /// XCR0.AVX and CR4.OSXSAVE: VEX instructions may run.
    pub const AVX: u32 = 0x2000;
    /// An x87 exception is unmasked.
    pub const X87: u32 = 0x4000;
    /// CR0.TS alone: what VEX instructions heed of [`FPU_OFF`].
    pub const TASK_SWITCHED: u32 = 0x8000;
}

/// Control register bits.
pub mod cr {
    pub const CR0_PE: u64 = 1;
    pub const CR0_MP: u64 = 2;
    pub const CR0_EM: u64 = 4;
    pub const CR0_TS: u64 = 8;
    pub const CR0_ET: u64 = 16;
    pub const CR0_NE: u64 = 32;
    pub const CR0_WP: u64 = 1 << 16;
    pub const CR0_AM: u64 = 1 << 18;
    pub const CR0_NW: u64 = 1 << 29;
    pub const CR0_CD: u64 = 1 << 30;
    pub const CR0_PG: u64 = 1 << 31;
    pub const CR4_VME: u64 = 1;
    pub const CR4_PVI: u64 = 2;
    pub const CR4_TSD: u64 = 4;
    pub const CR4_DE: u64 = 8;
    pub const CR4_PSE: u64 = 16;
    pub const CR4_PAE: u64 = 32;
    pub const CR4_MCE: u64 = 64;
    pub const CR4_PGE: u64 = 128;
    pub const CR4_PCE: u64 = 256;
    pub const CR4_OSFXSR: u64 = 512;
    pub const CR4_OSXMMEXCPT: u64 = 1024;
    pub const CR4_UMIP: u64 = 1 << 11;
    pub const CR4_FSGSBASE: u64 = 1 << 16;
    pub const CR4_PCIDE: u64 = 1 << 17;
    pub const CR4_OSXSAVE: u64 = 1 << 18;
    pub const CR4_SMEP: u64 = 1 << 20;
    pub const CR4_SMAP: u64 = 1 << 21;
    pub const EFER_SCE: u64 = 1;
    pub const EFER_LME: u64 = 1 << 8;
    pub const EFER_LMA: u64 = 1 << 10;
    pub const EFER_NXE: u64 = 1 << 11;
}

/// The default MXCSR: all exceptions masked, round to nearest.
pub const MXCSR_DEFAULT: u32 = 0x1f80;
/// The sticky exception flags of MXCSR.
pub const MXCSR_FLAGS: u32 = 0x3f;

/// The exception masks of the x87 control word.
pub const X87_MASKS: u16 = 0x3f;

/// Everything that one vCPU holds. Its serial form is the vCPU's part of a snapshot (the TLB is the MMU's).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct State {
    /// General registers in the encoding's order, then ZERO, then RIP; the rest is unused and makes the index a mask.
    pub gpr: [u64; 32],
    pub flags: LazyFlags,
    /// EFLAGS without the arithmetic bits.
    pub rflags: u64,
    pub clock: Clock,
    pub mode: u32,
    pub mxcsr: u32,
    pub xmm: [[u64; 2]; 16],
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub seg: [Segment; 8],
    pub gdtr: TableReg,
    pub idtr: TableReg,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    /// PAE paging's four top entries, as they were when CR3 was loaded.
    pub pdpte: [u64; 4],
    pub xcr0: u64,
    pub dr: [u64; 8],
    pub x87: X87,
    /// Upper halves of YMM0 to YMM15.
    pub ymm_high: [[u64; 2]; 16],
    pub efer: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub tsc_aux: u64,
    /// TSC = now_ns scaled, plus this.
    pub tsc_offset: u64,
    pub misc_enable: u64,
    pub spec_ctrl: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    pub mtrr_variable: [u64; 16],
    /// What the next instruction is shielded from, or preceded by: [`crate::cpu::SHADOW_STI`] and the like.
    pub shadow: u32,
    pub halted: u32,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: u32,
    /// A20 gate open.
    pub a20: u32,
    /// MONITOR has armed an address, and no event came since.
    pub monitor: u32,
    /// One more than the RIP of the string instruction that was last seen between two iterations; zero when it has ended.
    pub between: u64,
    /// State of the seeded RDRAND/RDSEED generator (xorshift128+ or better; see the instruction).
    pub rng: [u64; 4],
}

impl State {
    /// RIP. During an instruction it already points past it.
    #[inline(always)]
    pub fn rip(&self) -> u64 {
        self.gpr[RIP as usize]
    }
    #[inline(always)]
    pub fn set_rip(&mut self, rip: u64) {
        self.gpr[RIP as usize] = rip;
    }
    #[inline(always)]
    pub fn segment(&self, seg: Seg) -> &Segment {
        &self.seg[seg as usize]
    }
    /// Whether the instruction at RIP is a string instruction with iterations behind it and iterations to come.
    pub(crate) fn is_between(&self) -> bool {
        self.between != 0 && self.between == self.rip().wrapping_add(1)
    }
    /// The current privilege level: SS.DPL (0 in real mode, 3 in virtual-8086 mode).
    #[inline(always)]
    pub fn cpl(&self) -> u8 {
        ((self.seg[Seg::Ss as usize].attr >> attr::DPL_SHIFT) & 3) as u8
    }
    /// EFLAGS or RFLAGS, complete.
    pub fn eflags(&self) -> u64 {
        (self.rflags & !flags::ARITH) | self.flags.bits() | 2
    }
    /// Sets all of RFLAGS (bit 1 forced, bits 3, 5 and 15 cleared) without checks; the caller recomputes the mode.
    pub fn set_eflags(&mut self, value: u64) {
        self.flags = LazyFlags::real(value);
        self.rflags = (value & !flags::ARITH & 0x3f_7fd5) | 2;
    }
    /// What the mode word must be for the present state.
    pub fn compute_mode(&self) -> u32 {
        let mut m = 0;
        let cs = self.segment(Seg::Cs);
        let ss = self.segment(Seg::Ss);
        let long = self.efer & cr::EFER_LMA != 0 && cs.attr & attr::L != 0;
        let set = |on: bool, bit: u32| if on { bit } else { 0 };
        m |= set(long, mode::LONG | mode::STACK32 | mode::FLAT);
        if !long {
            m |= set(cs.attr & attr::DB != 0, mode::CODE32);
            m |= set(ss.attr & attr::DB != 0, mode::STACK32);
            let flat = [Seg::Cs, Seg::Ss, Seg::Ds, Seg::Es].iter().all(|&s| {
                let s = self.segment(s);
                s.base == 0 && s.limit == u32::MAX && is_plain(s.attr)
            });
            let data = [ss, self.segment(Seg::Ds), self.segment(Seg::Es)];
            let flat = flat && cs.attr & 8 != 0 && data.iter().all(|s| s.attr & 8 == 0);
            m |= set(
                flat && self.cr0 & cr::CR0_PE != 0 && self.rflags & flags::VM == 0,
                mode::FLAT,
            );
        }
        let user = self.cpl() == 3;
        m |= set(user, mode::USER);
        m |= set(
            self.cr4 & cr::CR4_SMAP != 0 && !user && self.rflags & flags::AC == 0,
            mode::SMAP,
        );
        m |= set(self.mxcsr & !MXCSR_FLAGS != MXCSR_DEFAULT, mode::MXCSR);
        m |= set(
            self.cr0 & (cr::CR0_EM | cr::CR0_TS) != 0 || self.cr4 & cr::CR4_OSFXSR == 0,
            mode::FPU_OFF,
        );
        m |= set(self.cr0 & cr::CR0_TS != 0, mode::TASK_SWITCHED);
        m |= set(
            self.rflags & (flags::TF | flags::RF) != 0 || self.dr[7] & 0xff != 0,
            mode::DEBUG,
        );
        m |= set(self.cr0 & cr::CR0_PE != 0, mode::PROTECTED);
        m |= set(self.rflags & flags::VM != 0, mode::V86);
        m |= set(self.efer & cr::EFER_LMA != 0, mode::LMA);
        m |= set(
            self.cr0 & cr::CR0_AM != 0 && self.rflags & flags::AC != 0 && user,
            mode::ALIGN,
        );
        m |= set(
            self.cr4 & cr::CR4_OSXSAVE != 0 && self.xcr0 & 6 == 6,
            mode::AVX,
        );
        m |= set(self.x87.control & X87_MASKS != X87_MASKS, mode::X87);
        m
    }
}

/// Whether a segment's rights allow all that its kind can: present, readable code or writable data that grows up.
fn is_plain(a: u16) -> bool {
    let code = a & 8 != 0;
    a & attr::P != 0
        && a & attr::S != 0
        && if code {
            a & 2 != 0
        } else {
            a & 2 != 0 && a & 4 == 0
        }
}

impl Default for X87 {
    /// As after FNINIT.
    fn default() -> X87 {
        X87 {
            regs: [[0; 2]; 8],
            control: 0x37f,
            status: 0,
            tags: 0,
            opcode: 0,
            ip: 0,
            dp: 0,
            cs: 0,
            ds: 0,
        }
    }
}
