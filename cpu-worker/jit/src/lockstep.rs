//! Both engines, side by side: a region runs, is taken back, and the interpreter does the same instructions.
//!
//! Compared at each exit: the whole state (registers, flags, MXCSR, x87, virtual time), every byte stored and every TLB entry filled. On a
//! difference the region is made again with ever fewer instructions until the one that differs is alone.

use atoll_mmu::Changes;
use atoll_x86::{Cpu, State};

use crate::abi::Leave;

/// What one stretch of guest code left behind when it ran as a region and when it was interpreted. Kept from one comparison to the next
/// for its memory.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// The state before it.
    pub(crate) before: State,
    /// What the region made of it.
    pub(crate) region: Outcome,
    /// What the interpreter stored and filled; its state is the vCPU's.
    pub(crate) interpreter: Changes,
}

/// What a region left behind.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) state: State,
    pub(crate) changes: Changes,
}

impl Comparison {
    /// Notes what the region did that ran since `before`, and takes it back.
    pub(crate) fn take_back(&mut self, cpu: &mut Cpu) {
        self.region.state.clone_from(&cpu.state);
        cpu.mmu.take_changes(&mut self.region.changes);
        cpu.mmu.roll_back(&self.region.changes);
        if cpu.mmu.ram().code_written() {
            // Code that was overwritten is as it was; the interpreter reports it again.
            cpu.mmu.ram().take_code_writes();
        }
        cpu.state.clone_from(&self.before);
        // The MMU, too, knows whether EFLAGS.AC lifts SMAP.
        cpu.update_mode();
    }

    /// How many instructions the region did.
    pub(crate) fn steps(&self) -> u64 {
        self.region.state.clock.uncharged() - self.before.clock.uncharged()
    }

    /// What differs between the region's outcome and the interpreter's after as many instructions; None if nothing does.
    pub(crate) fn difference(&mut self, cpu: &Cpu, why: Leave) -> Option<String> {
        let (region, interpreter) = (&mut self.region.state, &cpu.state);
        // The same flags may be kept in different forms, and attention is for the run loop.
        if region.flags.bits() == interpreter.flags.bits() {
            region.flags = interpreter.flags;
        }
        region.clock.attention = interpreter.clock.attention;
        // The sticky flags of an instruction that was begun come when the interpreter does it.
        if why == Leave::Float {
            region.mxcsr &= interpreter.mxcsr;
        }
        let begun = matches!(why, Leave::Interpret | Leave::Float);
        let memory = self.region.changes.difference(&self.interpreter, begun);
        if region == interpreter && memory.is_none() {
            return None;
        }
        Some(describe(region, interpreter) + &memory.unwrap_or_default())
    }
}

/// The differences of two states, a line each, the region's value first.
fn describe(a: &State, b: &State) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |name: &str, a: u64, b: u64| {
        if a != b {
            let _ = writeln!(text, "  {name:8} region {a:#018x}  interpreter {b:#018x}");
        }
    };
    const NAMES: [&str; 18] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "zero", "rip",
    ];
    for (i, name) in NAMES.iter().enumerate() {
        line(name, a.gpr[i], b.gpr[i]);
    }
    line("rflags", a.eflags(), b.eflags());
    line("mxcsr", a.mxcsr.into(), b.mxcsr.into());
    line("budget", a.clock.budget as u64, b.clock.budget as u64);
    line("deadline", a.clock.deadline_ns, b.clock.deadline_ns);
    for i in 0..16 {
        for half in 0..2 {
            line(&format!("xmm{i}.{half}"), a.xmm[i][half], b.xmm[i][half]);
            let (a, b) = (a.ymm_high[i][half], b.ymm_high[i][half]);
            line(&format!("ymm{i}.{}", half + 2), a, b);
        }
    }
    if text.is_empty() && a != b {
        let _ = writeln!(text, "  region {a:x?}\n  interpreter {b:x?}");
    }
    text
}
