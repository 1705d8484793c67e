//! Both engines, side by side: a region runs, is taken back, and the interpreter does the same instructions.
//!
//! Compared at each exit: registers, flags, MXCSR, x87, virtual time, every byte stored and every TLB entry filled. On a difference the region
//! is made again with ever fewer instructions until the one that differs is alone.

use atoll_mmu::{Stored, Undo};
use atoll_x86::{Cpu, State};

/// What a stretch of guest code left behind.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) state: State,
    pub(crate) stored: Vec<Stored>,
}

impl Outcome {
    /// The outcome of what ran since the log was cleared, which is taken back.
    pub(crate) fn take_back(cpu: &mut Cpu) -> Outcome {
        let log = cpu.mmu.take_undo();
        let outcome = Outcome::logged(cpu, &log);
        cpu.mmu.roll_back(&log);
        // Code that was overwritten is as it was; the second engine reports it again.
        cpu.mmu.ram().take_code_writes();
        cpu.mmu.recycle_undo(log);
        outcome
    }

    /// The present state, and what the log says was stored.
    pub(crate) fn logged(cpu: &Cpu, log: &Undo) -> Outcome {
        Outcome {
            state: cpu.state.clone(),
            stored: cpu.mmu.stored(log),
        }
    }

    fn registers(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(2048);
        self.state.hash_registers(&mut |b| all.extend_from_slice(b));
        all
    }

    /// Whether the present state of `cpu`, with what it stored, is this one; else what differs.
    pub(crate) fn compare(&self, other: &Outcome) -> Option<String> {
        if self.registers() == other.registers() && self.stored == other.stored {
            return None;
        }
        Some(describe(self, other))
    }
}

/// The differences, a line each.
fn describe(region: &Outcome, interp: &Outcome) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |name: &str, a: u64, b: u64| {
        if a != b {
            let _ = writeln!(text, "  {name:8} region {a:#018x}  interpreter {b:#018x}");
        }
    };
    let (a, b) = (&region.state, &interp.state);
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
    for i in 0..16 {
        for half in 0..2 {
            line(&format!("xmm{i}.{half}"), a.xmm[i][half], b.xmm[i][half]);
        }
    }
    if a.x87 != b.x87 {
        let _ = writeln!(
            text,
            "  x87 region {:x?}\n  x87 interpreter {:x?}",
            a.x87, b.x87
        );
    }
    for s in region.stored.iter().filter(|s| !interp.stored.contains(s)) {
        let _ = writeln!(text, "  only the region: {:x?} = {:#x}", s.place, s.value);
    }
    for s in interp.stored.iter().filter(|s| !region.stored.contains(s)) {
        let _ = writeln!(
            text,
            "  only the interpreter: {:x?} = {:#x}",
            s.place, s.value
        );
    }
    text
}
