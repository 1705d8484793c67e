//! The state after RESET and INIT (SDM vol. 3A, table 9-1), and the registers as bytes for hashes and snapshots.

use crate::cpu::Cpu;
use crate::flags::LazyFlags;
use crate::op::{RDX, Seg};
use crate::state::{Segment, State, X87, attr, cr};

/// The reset value of IA32_PAT.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

impl Cpu {
    /// Power-on or the reset line. RAM, the clock and the seeded generator stay.
    pub fn reset(&mut self) {
        let old = &self.state;
        self.state = State {
            clock: old.clock,
            rng: old.rng,
            ..State::default()
        };
        if self.state.rng == [0; 4] {
            self.state.rng = self.model.seed;
        }
        self.state.gpr[RDX as usize] = self.model.signature as u64;
        self.mmu.flush_all();
        self.update_mode();
    }
}

impl Default for State {
    /// As after RESET, the mode word not yet computed.
    fn default() -> State {
        let data = Segment {
            base: 0,
            limit: 0xffff,
            attr: attr::P | attr::S | 3,
            selector: 0,
        };
        let mut seg = [data; 8];
        seg[Seg::Cs as usize] = Segment {
            base: 0xffff_0000,
            limit: 0xffff,
            attr: attr::P | attr::S | 0xb,
            selector: 0xf000,
        };
        seg[Seg::Ldtr as usize].attr = attr::P | 2;
        seg[Seg::Tr as usize].attr = attr::P | 11;
        let mut state = State {
            gpr: [0; 32],
            flags: LazyFlags::real(0),
            rflags: 2,
            clock: Default::default(),
            mode: 0,
            mxcsr: crate::state::MXCSR_DEFAULT,
            xmm: [[0; 2]; 16],
            seg,
            gdtr: Default::default(),
            idtr: Default::default(),
            cr0: cr::CR0_ET | cr::CR0_NW | cr::CR0_CD,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            pdpte: [0; 4],
            xcr0: 1,
            dr: [0; 8],
            x87: X87 {
                control: 0x40,
                tags: 0xff,
                ..X87::default()
            },
            ymm_high: [[0; 2]; 16],
            efer: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            pat: PAT_RESET,
            tsc_aux: 0,
            tsc_offset: 0,
            misc_enable: 0x1801,
            spec_ctrl: 0,
            mtrr_def_type: 0,
            mtrr_fixed: [0; 11],
            mtrr_variable: [0; 16],
            shadow: 0,
            halted: 0,
            nmi_blocked: 0,
            a20: 1,
            monitor: 0,
            between: 0,
            rng: [0; 4],
        };
        state.gdtr.limit = 0xffff;
        state.idtr.limit = 0xffff;
        state.dr[6] = 0xffff_0ff0;
        state.dr[7] = 0x400;
        state.set_rip(0xfff0);
        state
    }
}

impl State {
    /// Feeds everything that the guest could ever observe of this vCPU to `sink`, in a fixed order; two vCPUs that feed the same go on
    /// the same. The budget and the engine's own fields are not part of it; virtual time is.
    pub fn hash_registers(&self, sink: &mut dyn FnMut(&[u8])) {
        let mut put = |v: u64| sink(&v.to_le_bytes());
        self.gpr[..18].iter().for_each(|&v| put(v));
        put(self.eflags());
        put(self.clock.now_ns());
        for x in self.xmm.iter().chain(&self.ymm_high).chain(&self.x87.regs) {
            x.iter().for_each(|&v| put(v));
        }
        for s in &self.seg {
            put(s.base);
            put(s.limit as u64 | (s.attr as u64) << 32 | (s.selector as u64) << 48);
        }
        for t in [self.gdtr, self.idtr] {
            put(t.base);
            put(t.limit as u64);
        }
        let x = &self.x87;
        let words = [
            x.control as u64,
            x.status as u64,
            x.tags as u64,
            x.opcode as u64,
            x.ip,
            x.dp,
            x.cs as u64,
            x.ds as u64,
            self.mxcsr as u64,
            self.cr0,
            self.cr2,
            self.cr3,
            self.cr4,
            self.xcr0,
            self.efer,
            self.star,
            self.lstar,
            self.cstar,
            self.sfmask,
            self.kernel_gs_base,
            self.sysenter_cs,
            self.sysenter_esp,
            self.sysenter_eip,
            self.pat,
            self.tsc_aux,
            self.tsc_offset,
            self.misc_enable,
            self.spec_ctrl,
            self.mtrr_def_type,
            self.shadow as u64,
            self.halted as u64,
            self.nmi_blocked as u64,
            self.a20 as u64,
            self.monitor as u64,
            self.between,
        ];
        let arrays = [
            &words[..],
            &self.dr,
            &self.pdpte,
            &self.mtrr_fixed,
            &self.mtrr_variable,
            &self.rng,
        ];
        arrays.into_iter().flatten().for_each(|&v| put(v));
    }
}
