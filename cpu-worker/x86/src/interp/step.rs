//! One instruction with everything that may surround it: breakpoints, the interrupt shadow, RF, the single-step trap
//! (SDM vol. 3A, 17.3; 6.8.3).
//!
//! The engines come here only while [`Cpu::needs_step`] holds; all other code runs without looking at any of it.

use super::run::{Exit, Flow, execute, stopped};
use crate::bus::attention;
use crate::cpu::{Cpu, DR7_ENABLED, SHADOW_SS, SHADOW_STEP, SHADOW_TRAP};
use crate::exception::Stop;
use crate::flags::{RF, TF};
use crate::op::Op;
use crate::state::{cr, mode};

/// DR6.BS: a single-step trap.
const DR6_BS: u64 = 1 << 14;

/// The types of breakpoints: the R/W fields of DR7.
mod kind {
    pub(super) const CODE: u64 = 0;
    pub(super) const PORT: u64 = 2;
    pub(super) const READ_WRITE: u64 = 3;
}

impl Cpu {
    /// Whether the next instruction must be executed by [`Cpu::step`].
    #[inline]
    pub fn needs_step(&self) -> bool {
        self.state.shadow != 0 || self.state.mode & mode::DEBUG != 0
    }

    /// Executes `op`, which is the instruction at RIP; traps and faults are delivered. The budget must not be used up, and no code
    /// breakpoint be met. An exit if the engine cannot go on: never [`Exit::Hot`] or [`Exit::Tagged`].
    pub fn step(&mut self, op: &Op) -> Option<Exit> {
        let flags = self.state.rflags;
        let shadow = std::mem::take(&mut self.state.shadow);
        // RF is good for one instruction.
        if flags & RF != 0 {
            self.state.rflags &= !RF;
            self.update_mode();
        }
        let watching = self.state.dr[7] & DR7_ENABLED != 0;
        self.last_port = None;
        self.mmu.take_touched();
        self.state.clock.attention &= !attention::DEBUG;
        let no_step = self.no_step;
        let exit = match execute(self, std::slice::from_ref(op)) {
            Flow::Budget => Some(Exit::Budget),
            Flow::Stopped(Stop::Again, rip, _) => {
                self.state.set_rip(rip);
                None
            }
            Flow::Stopped(Stop::Halt, ..) => Some(Exit::Halt),
            Flow::Stopped(stop, rip, _) => {
                let exit = stopped(self, op, stop, rip);
                self.end_step(shadow);
                return exit;
            }
            Flow::End | Flow::Attention => None,
        };
        let swallowed = self.no_step != no_step;
        let met = watching && self.meets_access_breakpoint();
        let held = self.state.shadow & SHADOW_SS != 0;
        if held && met {
            self.state.shadow |= SHADOW_TRAP;
        }
        let single = flags & TF != 0 && !swallowed && !held;
        let trap = single || met && !held || shadow & SHADOW_TRAP != 0;
        self.end_step(shadow);
        if !trap || exit == Some(Exit::Budget) {
            return exit;
        }
        if single || self.state.shadow & SHADOW_STEP != 0 {
            self.state.dr[6] |= DR6_BS;
        }
        self.debug_trap()
    }

    /// Delivers #DB.
    pub(super) fn debug_trap(&mut self) -> Option<Exit> {
        self.deliver_debug_trap().err().map(|_| Exit::Shutdown)
    }

    /// The shadow is over: interrupts count again. Decides whether the next instruction needs this care too.
    fn end_step(&mut self, shadow: u32) {
        if shadow != 0 && self.state.shadow == 0 {
            self.interrupts_unmasked();
            self.nmi_unblocked();
        }
        if self.needs_step() {
            self.state.clock.attention |= attention::DEBUG;
        }
    }

    /// The single-step trap that SYSCALL or SYSRET left behind, if there is one: it is delivered.
    pub(super) fn take_step(&mut self) -> Option<Result<(), Stop>> {
        let shadow = self.state.shadow;
        if shadow & SHADOW_STEP == 0 {
            return None;
        }
        self.state.shadow = 0;
        self.end_step(shadow);
        self.state.dr[6] |= DR6_BS;
        Some(self.deliver_debug_trap())
    }

    /// Whether an instruction breakpoint is set at RIP, which neither RF hides, nor a load of SS just before, nor that a string instruction
    /// goes on there; noted in DR6.
    pub(super) fn meets_code_breakpoint(&mut self) -> bool {
        let s = &self.state;
        let hidden = s.rflags & RF != 0 || s.shadow & SHADOW_SS != 0 || s.is_between();
        if s.dr[7] & DR7_ENABLED == 0 || hidden {
            return false;
        }
        let at = self.linear_rip();
        self.note_breakpoints(|kind, _, address| kind == kind::CODE && address == at)
    }

    /// Whether the instruction just executed accessed what a data or port breakpoint covers; noted in DR6.
    fn meets_access_breakpoint(&mut self) -> bool {
        let touched = self.mmu.take_touched();
        let ports = match self.last_port {
            Some(used) if self.state.cr4 & cr::CR4_DE != 0 => Some(used),
            _ => None,
        };
        self.note_breakpoints(|kind, bytes, address| {
            let base = address & !(bytes - 1);
            let covers = |at: u64, len: u32| {
                at.wrapping_sub(base) < bytes || base.wrapping_sub(at) < len.into()
            };
            match kind {
                kind::CODE => false,
                kind::PORT => ports.is_some_and(|(port, n)| covers(port.into(), n)),
                _ => touched
                    .iter()
                    .any(|t| (t.write || kind == kind::READ_WRITE) && covers(t.va, t.bytes)),
            }
        })
    }

    /// Sets the bits of DR6 for the enabled breakpoints of which `is_met(kind, bytes, address)` holds; whether there were any.
    fn note_breakpoints(&mut self, is_met: impl Fn(u64, u64, u64) -> bool) -> bool {
        let dr7 = self.state.dr[7];
        let bits = (0..4)
            .filter(|n| dr7 >> (2 * n) & 3 != 0)
            .filter(|n| {
                let field = dr7 >> (16 + 4 * n);
                let bytes = [1, 2, 8, 4][(field >> 2) as usize & 3];
                is_met(field & 3, bytes, self.state.dr[*n as usize])
            })
            .fold(0, |bits, n| bits | 1 << n);
        self.state.dr[6] |= bits;
        bits != 0
    }
}
