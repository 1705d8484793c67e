//! Lockstep: runs a region and the interpreter over the same instructions, and finds the instruction where they differ.

use atoll_x86::interp::Exit as Stretch;
use atoll_x86::{Cpu, State};

use super::{Engine, Entry, Next};
use crate::abi::Leave;
use crate::lockstep::Outcome;

impl Engine {
    /// Runs a region, takes it back, interprets as many instructions, and compares.
    ///
    /// # Panics
    /// On a difference, with both states and the instruction: there is nothing to go on from.
    pub(crate) fn run_lockstep(&mut self, cpu: &mut Cpu, entry: Entry) -> Next {
        let before = cpu.state.clone();
        let (mut region, why) = self.region_outcome(cpu, entry, &before);
        let steps = before.clock.budget - region.state.clock.budget;
        self.stats.compiled_instructions += steps as u64;
        if steps == 0 {
            return match why {
                Leave::Budget => Next::ToDeadline,
                _ => Next::Here,
            };
        }
        let interp = self.interpreter_outcome(cpu, region.state.clock.budget);
        if matches!(why, Leave::Interpret | Leave::Float) {
            // The instruction to come was begun: what it filled, the interpreter fills when it does it.
            region
                .stored
                .retain(|s| interp.stored.iter().any(|t| t.place == s.place));
        }
        if why == Leave::Float {
            // The flags of the instruction to come; it is the next that the interpreter does.
            region.state.mxcsr &= interp.state.mxcsr;
        }
        if let Some(difference) = region.compare(&interp) {
            let text = self.name_difference(cpu, &before, &difference);
            let text = format!(
                "{text} {why:?} {steps} {:x?}\n{:x?}",
                interp.state.gpr, interp.stored
            );
            panic!("lockstep: the engines differ\n{text}");
        }
        match why {
            Leave::Interpret | Leave::Float => Next::Here,
            _ => Next::Anywhere,
        }
    }

    fn region_outcome(&mut self, cpu: &mut Cpu, entry: Entry, before: &State) -> (Outcome, Leave) {
        let log = cpu.mmu.take_undo();
        cpu.mmu.recycle_undo(log);
        let why = self.enter(cpu, entry);
        let outcome = Outcome::take_back(cpu);
        cpu.state = before.clone();
        (outcome, why)
    }

    /// Interprets until the budget is `until`. What was stored stays.
    fn interpreter_outcome(&mut self, cpu: &mut Cpu, until: i64) -> Outcome {
        let log = cpu.mmu.take_undo();
        cpu.mmu.recycle_undo(log);
        // The deadline comes nearer, and time stays what it is.
        let ahead = (until << cpu.state.clock.shift) as u64;
        cpu.state.clock.budget -= until;
        cpu.state.clock.deadline_ns = cpu.state.clock.deadline_ns.wrapping_sub(ahead);
        while let Stretch::Tagged(_) | Stretch::Hot = self.blocks.run(cpu, u32::MAX, true) {}
        cpu.state.clock.budget += until;
        cpu.state.clock.deadline_ns = cpu.state.clock.deadline_ns.wrapping_add(ahead);
        Outcome::take(cpu)
    }

    /// The text of a difference.
    fn name_difference(&mut self, _: &mut Cpu, before: &State, difference: &str) -> String {
        format!(
            "at {:#x}, mode {:#x}\n{difference}\nstate before:\n{:x?}\nflags {:#x}",
            before.rip(),
            before.mode,
            before.gpr,
            before.eflags()
        )
    }
}
