//! Lockstep: runs a region and the interpreter over the same instructions, and finds the instruction where they differ.

use atoll_x86::bus::rehearsal;
use atoll_x86::cpu::SHADOW_STI;
use atoll_x86::{Cpu, State};

use super::{Engine, Entry, Next, Rank};
use crate::abi::Leave;
use crate::lockstep::Comparison;

impl Engine {
    /// The entry to use at a place that has this one, whose region is made anew if its head was entered often enough for another. None if
    /// there was no room, and all had to go.
    pub(crate) fn grow(&mut self, cpu: &mut Cpu, physical: u64, entry: Entry) -> Option<Entry> {
        let entered = self.blocks.entered(physical, cpu.state.mode);
        let rank = self.regions.as_ref().and_then(|r| r.rank(entry));
        let Some(due) = rank.and_then(|r| self.warmth.due(r, entered)) else {
            return Some(entry);
        };
        match self.translate(cpu, physical, due, usize::MAX) {
            Some(grown) => Some(grown),
            None => {
                // Refused: not again at every entry.
                self.blocks.set_heat(physical, cpu.state.mode, 0);
                self.regions.as_ref()?.entry(physical, cpu.state.mode)
            }
        }
    }

    /// Runs a region, takes it back, interprets as many instructions, and compares.
    ///
    /// # Panics
    /// On a difference, with both states and the instruction: there is nothing to go on from.
    pub(crate) fn run_lockstep(&mut self, cpu: &mut Cpu, entry: Entry) -> Next {
        let mut c = self.comparison.take().unwrap_or_default();
        let (why, difference) = self.compare(cpu, entry, &mut c);
        let steps = c.steps();
        if let Some(difference) = difference {
            cpu.mmu.roll_back(&c.interpreter);
            let b = std::mem::take(&mut c.before);
            let rank = self.regions.as_ref().and_then(|r| r.rank(entry));
            let rank = rank.expect("the region that ran is there");
            let culprit = self.name_instruction(cpu, &mut c, &b, rank);
            panic!(
                "lockstep: the engines differ, {rank:?}\nat {:#x}, mode {:#x}, {steps} instructions, {why:?}\n{difference}\n{culprit}\nbefore: {:x?}, \
                 flags {:#x}",
                b.rip(),
                b.mode,
                b.gpr,
                b.eflags()
            );
        }
        self.comparison = Some(c);
        self.stats.comparisons += 1;
        self.stats.compiled_instructions += steps;
        match why {
            Leave::Interpret | Leave::Float => Next::Here,
            Leave::Warm => {
                self.warm(cpu);
                Next::Anywhere
            }
            Leave::Budget if steps == 0 => Next::ToDeadline,
            _ if steps == 0 => Next::Here,
            _ => Next::Anywhere,
        }
    }

    /// Runs both from the present state. The interpreter's outcome stays.
    fn compare(
        &mut self,
        cpu: &mut Cpu,
        entry: Entry,
        c: &mut Comparison,
    ) -> (Leave, Option<String>) {
        c.before.clone_from(&cpu.state);
        cpu.mmu.forget_changes();
        cpu.state.clock.rehearsal = rehearsal::ON;
        let why = self.enter(cpu, entry);
        cpu.state.clock.rehearsal = rehearsal::NONE;
        c.take_back(cpu);
        self.interpret_until(cpu, c.region.state.clock.budget);
        cpu.mmu.take_changes(&mut c.interpreter);
        (why, c.difference(cpu, why))
    }

    /// Interprets until the budget is `until`.
    fn interpret_until(&mut self, cpu: &mut Cpu, until: i64) {
        // The deadline comes nearer, and time stays what it is.
        let ahead = (until << cpu.state.clock.shift) as u64;
        cpu.state.clock.budget -= until;
        cpu.state.clock.deadline_ns = cpu.state.clock.deadline_ns.wrapping_sub(ahead);
        // However it ends: if not at the end of the budget, the states differ.
        self.blocks.replay(cpu);
        cpu.state.clock.budget += until;
        cpu.state.clock.deadline_ns = cpu.state.clock.deadline_ns.wrapping_add(ahead);
        // STI begins a shadow at the end of the budget, where events are due. This was not the end.
        let sti = cpu.state.shadow == SHADOW_STI && cpu.state.clock.budget > 0;
        if sti && !cpu.bus.interrupt_pending(&mut cpu.state.clock) {
            cpu.state.shadow = 0;
        }
    }

    /// Makes the region again with one instruction, two, and so on: the first with which it differs is the one that is looked for.
    fn name_instruction(
        &mut self,
        cpu: &mut Cpu,
        c: &mut Comparison,
        before: &State,
        rank: Rank,
    ) -> String {
        for cap in 1..=LONGEST {
            cpu.state.clone_from(before);
            let Some(entry) = self
                .place(cpu)
                .and_then(|p| self.translate(cpu, p, rank, cap))
            else {
                return "the region cannot be made again".into();
            };
            let (_, difference) = self.compare(cpu, entry, c);
            if let Some(difference) = difference {
                return format!(
                    "first with {cap} instructions, the interpreter then being at {:#x}:\n{difference}",
                    cpu.state.rip()
                );
            }
            cpu.mmu.roll_back(&c.interpreter);
        }
        "no shorter region differs".into()
    }
}

/// How far the search for the instruction goes.
const LONGEST: usize = 300;
