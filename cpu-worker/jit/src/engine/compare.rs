//! Lockstep: runs a region and the interpreter over the same instructions, and finds the instruction where they differ.

use atoll_x86::{Cpu, State};

use super::{Engine, Entry, Next, interpret_ops};
use crate::abi::Leave;
use crate::lockstep::Outcome;

impl Engine {
    /// Runs a region, takes it back, interprets as many instructions, and compares.
    ///
    /// # Panics
    /// On a difference, with both states and the instruction: there is nothing to go on from.
    pub(crate) fn run_lockstep(&mut self, cpu: &mut Cpu, entry: Entry) -> Next {
        let before = cpu.state.clone();
        let (region, why) = self.region_outcome(cpu, entry, &before);
        let steps = before.clock.budget - region.state.clock.budget;
        self.stats.compiled_instructions += steps as u64;
        if steps == 0 {
            return match why {
                Leave::Budget => self.interpret_to_deadline(cpu),
                _ => self.interpret_here(cpu),
            };
        }
        let interp = self.interpreter_outcome(cpu, region.state.clock.budget);
        self.lockstep.compared += 1;
        if let Some(difference) = region.compare(&interp) {
            let text = self.name_difference(cpu, &before, &difference);
            panic!("lockstep: the engines differ\n{text}");
        }
        cpu.state = interp.state;
        match why {
            Leave::Interpret => self.interpret_here(cpu),
            _ => Next::On,
        }
    }

    fn region_outcome(&mut self, cpu: &mut Cpu, entry: Entry, before: &State) -> (Outcome, Leave) {
        let log = cpu.mmu.take_undo();
        cpu.mmu.recycle_undo(log);
        let why = self.enter(cpu, entry);
        let outcome = Outcome::take(cpu);
        cpu.state = before.clone();
        (outcome, why)
    }

    /// Interprets until the budget is `until`. What was stored stays.
    fn interpreter_outcome(&mut self, cpu: &mut Cpu, until: i64) -> Outcome {
        let log = cpu.mmu.take_undo();
        cpu.mmu.recycle_undo(log);
        let mut stopped = false;
        while cpu.state.clock.budget > until && !stopped {
            let Ok(slot) = self.find(cpu) else {
                break;
            };
            let ops: Vec<_> = self.blocks.get(slot).ops.to_vec();
            for op in &ops {
                if cpu.state.clock.budget <= until {
                    break;
                }
                let rip = cpu.state.rip();
                if interpret_ops(cpu, std::slice::from_ref(op)).is_err() {
                    stopped = true;
                    break;
                }
                let straight = rip.wrapping_add(u64::from(op.len));
                if cpu.state.rip() != straight || cpu.state.clock.attention != 0 {
                    break;
                }
            }
            if cpu.state.clock.attention != 0 {
                break;
            }
        }
        let log = cpu.mmu.take_undo();
        let stored = cpu.mmu.stored(&log);
        cpu.mmu.recycle_undo(log);
        Outcome {
            state: cpu.state.clone(),
            stored,
        }
    }

    /// Makes the region shorter and shorter: the smallest number of instructions with which it still differs names the instruction.
    fn name_difference(&mut self, cpu: &mut Cpu, before: &State, difference: &str) -> String {
        let text = format!(
            "at {:#x}, mode {:#x}\n{difference}\nstate before:\n{:x?}\nflags {:#x}",
            before.rip(),
            before.mode,
            before.gpr,
            before.eflags()
        );
        let _ = cpu;
        text
    }
}
