//! One instruction with everything that may surround it: breakpoints, the interrupt shadow, RF, the single-step trap
//! (SDM vol. 3A, 17.3; 6.8.3).
//!
//! The engines come here only while [`Cpu::needs_step`] holds; all other code runs without looking at any of it.

use super::run::{Exit, Flow, execute, stopped};
use crate::bus::attention;
use crate::cpu::{Cpu, SHADOW_SS, cut};
use crate::exception::Stop;
use crate::flags::{RF, TF};
use crate::op::{Arg, Kind, Op, OpFlags, RSP};
use crate::state::mode;

/// DR6.BS: a single-step trap.
const DR6_BS: u64 = 1 << 14;
/// The enable bits of DR7.
const DR7_ENABLED: u64 = 0xff;

impl Cpu {
    /// Whether the next instruction must be executed by [`Cpu::step`].
    #[inline]
    pub fn needs_step(&self) -> bool {
        self.state.shadow != 0 || self.state.mode & mode::DEBUG != 0
    }

    /// Executes `op`, which is the instruction at RIP; traps and faults are delivered. The budget must not be used up. An exit if the
    /// engine cannot go on: never [`Exit::Hot`] or [`Exit::Tagged`].
    pub fn step(&mut self, op: &Op) -> Option<Exit> {
        let flags = self.state.rflags;
        let watching = self.state.dr[7] & DR7_ENABLED != 0;
        if watching && flags & RF == 0 && self.code_breakpoint() {
            self.state.clock.budget -= 1;
            return self.debug_trap();
        }
        let data_hit = watching && self.data_breakpoint(op);
        let shadow = std::mem::take(&mut self.state.shadow);
        let (cpl, events) = (self.state.cpl(), self.events);
        self.state.clock.attention &= !attention::DEBUG;
        let exit = match execute(self, std::slice::from_ref(op)) {
            Flow::Budget => Some(Exit::Budget),
            Flow::Stopped(Stop::Again, rip, _) => {
                self.state.set_rip(rip);
                None
            }
            Flow::Stopped(stop, rip, _) => {
                let exit = stopped(self, op, stop, rip);
                self.end_step(shadow);
                return exit;
            }
            Flow::End | Flow::Attention => {
                if flags & RF != 0 && self.events == events {
                    self.state.rflags &= !RF;
                    self.update_mode();
                }
                None
            }
        };
        self.end_step(shadow);
        // Entering a handler or the kernel with TF cleared swallows the trap.
        let entered =
            self.events != events || self.state.cpl() < cpl && self.state.rflags & TF == 0;
        let single = flags & TF != 0 && !entered && self.state.shadow != SHADOW_SS;
        if single {
            self.state.dr[6] |= DR6_BS;
        }
        if (single || data_hit) && exit.is_none() {
            return self.debug_trap();
        }
        exit
    }

    fn debug_trap(&mut self) -> Option<Exit> {
        self.deliver_debug_trap().err().map(|_| Exit::Shutdown)
    }

    /// The shadow is over: interrupts count again. Decides whether the next instruction needs this care too.
    fn end_step(&mut self, shadow: u32) {
        if shadow != 0 && self.state.shadow == 0 {
            self.interrupts_unmasked();
        }
        if self.needs_step() {
            self.state.clock.attention |= attention::DEBUG;
        }
    }

    /// Whether an instruction breakpoint is set at RIP; notes it in DR6.
    fn code_breakpoint(&mut self) -> bool {
        let at = self.linear_rip();
        let hits = (0..4)
            .filter(|&n| {
                let (enabled, kind) = self.breakpoint(n);
                enabled && kind & 3 == 0 && self.state.dr[n] == at
            })
            .fold(0, |bits, n| bits | 1 << n);
        self.state.dr[6] |= hits;
        hits != 0
    }

    /// Whether breakpoint `n` is enabled, and its type (bits 0 and 1) and length (bits 2 and 3).
    fn breakpoint(&self, n: usize) -> (bool, u64) {
        let dr7 = self.state.dr[7];
        (dr7 >> (2 * n) & 3 != 0, dr7 >> (16 + 4 * n) & 15)
    }

    /// Whether a data breakpoint covers the explicit memory operand of `op`, or its stack access; notes it in DR6.
    fn data_breakpoint(&mut self, op: &Op) -> bool {
        let mut accesses = Vec::new();
        if let Some(access) = operand_access(self, op) {
            accesses.push(access);
        }
        if let Some(access) = stack_access(self, op) {
            accesses.push(access);
        }
        let mut hits = 0;
        for n in 0..4 {
            let (enabled, kind) = self.breakpoint(n);
            let bytes = [1, 2, 8, 4][(kind >> 2) as usize & 3];
            let base = self.state.dr[n] & !(bytes - 1);
            for &(at, len, write) in &accesses {
                let touches = at < base + bytes && base < at.wrapping_add(len);
                if enabled && touches && (kind & 3 == 3 || kind & 3 == 1 && write) {
                    hits |= 1 << n;
                }
            }
        }
        self.state.dr[6] |= hits;
        hits != 0
    }
}

/// Address, bytes and whether it is written, of an explicit memory operand.
fn operand_access(cpu: &mut Cpu, op: &Op) -> Option<(u64, u64, bool)> {
    let write = op.dst_arg == Arg::Mem;
    if !write && op.src_arg != Arg::Mem || op.kind == Kind::Lea {
        return None;
    }
    let offset = cut(op.addr, cpu.offset(op));
    let base = if op.has(OpFlags::SEG_BASE) {
        cpu.state.segment(op.seg).base
    } else {
        0
    };
    let reads_only = matches!(op.kind, Kind::Cmp | Kind::Test | Kind::Bt);
    Some((
        offset.wrapping_add(base),
        op.width.bytes() as u64,
        write && !reads_only,
    ))
}

fn stack_access(cpu: &mut Cpu, op: &Op) -> Option<(u64, u64, bool)> {
    let bytes = op.width.bytes() as u64;
    let sp = cpu.state.gpr[RSP as usize] & op.stack_width().mask();
    match op.kind {
        Kind::Push | Kind::Call | Kind::CallInd => Some((sp.wrapping_sub(bytes), bytes, true)),
        Kind::Pop | Kind::Ret => Some((sp, bytes, false)),
        _ => None,
    }
}
