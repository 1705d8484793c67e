//! Lockstep: runs a region and the interpreter over the same instructions, and finds the instruction where they differ.

use atoll_mmu::Undo;
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
        let (interp, log) = self.interpreter_outcome(cpu, region.state.clock.budget);
        settle(&mut region, &interp, why);
        if let Some(difference) = region.compare(&interp) {
            cpu.mmu.roll_back(&log);
            let culprit = self.name_instruction(cpu, &before);
            panic!(
                "lockstep: the engines differ\nat {:#x}, mode {:#x}, {steps} instructions, {why:?}\n{difference}\n{culprit}\nbefore: {:x?}, \
                 flags {:#x}",
                before.rip(),
                before.mode,
                before.gpr,
                before.eflags()
            );
        }
        cpu.mmu.recycle_undo(log);
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

    /// Interprets until the budget is `until`. What was stored stays; the log tells how to take it back.
    fn interpreter_outcome(&mut self, cpu: &mut Cpu, until: i64) -> (Outcome, Undo) {
        let log = cpu.mmu.take_undo();
        cpu.mmu.recycle_undo(log);
        // The deadline comes nearer, and time stays what it is.
        let ahead = (until << cpu.state.clock.shift) as u64;
        cpu.state.clock.budget -= until;
        cpu.state.clock.deadline_ns = cpu.state.clock.deadline_ns.wrapping_sub(ahead);
        while let Stretch::Tagged(_) | Stretch::Hot = self.blocks.run(cpu, u32::MAX, true) {}
        cpu.state.clock.budget += until;
        cpu.state.clock.deadline_ns = cpu.state.clock.deadline_ns.wrapping_add(ahead);
        let log = cpu.mmu.take_undo();
        (Outcome::logged(cpu, &log), log)
    }

    /// Makes the region again with one instruction, two, and so on: the first with which it differs is the one that is looked for.
    fn name_instruction(&mut self, cpu: &mut Cpu, before: &State) -> String {
        for cap in 1..=LONGEST {
            cpu.state = before.clone();
            let Some(entry) = self.place(cpu).and_then(|p| self.translate(cpu, p, cap)) else {
                return "the region cannot be made again".into();
            };
            let (mut region, why) = self.region_outcome(cpu, entry, before);
            let (interp, log) = self.interpreter_outcome(cpu, region.state.clock.budget);
            cpu.mmu.roll_back(&log);
            settle(&mut region, &interp, why);
            if let Some(difference) = region.compare(&interp) {
                return format!(
                    "first with {cap} instructions, the interpreter then being at {:#x}:\n{difference}",
                    interp.state.rip()
                );
            }
        }
        "no shorter region differs".into()
    }
}

/// How far the search for the instruction goes.
const LONGEST: usize = 300;

/// An exit before an instruction that was begun: what it filled, the interpreter fills when it does it, and its sticky flags come then.
fn settle(region: &mut Outcome, interp: &Outcome, why: Leave) {
    if matches!(why, Leave::Interpret | Leave::Float) {
        let begun = |place| {
            interp
                .stored
                .binary_search_by_key(&place, |s| s.place)
                .is_err()
        };
        region.stored.retain(|s| !begun(s.place));
    }
    if why == Leave::Float {
        region.state.mxcsr &= interp.state.mxcsr;
    }
}
