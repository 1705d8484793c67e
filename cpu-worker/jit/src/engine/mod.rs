//! [`Engine`]: the loop that runs a vCPU, and the choice of the tier.
//!
//! At each boundary where control may have gone elsewhere the loop consults the code TLB (which the guest can see), finds the
//! decoded block at the physical place, and enters the region there if one is installed; else the interpreter runs the block.
//! Emitted code goes from region to region by itself and comes back only for what it cannot do.

mod blocks;
mod compare;
mod regions;
mod translate;
mod warmth;

use atoll_mmu::MemStop;
use atoll_x86::bus::attention;
use atoll_x86::state::mode;
use atoll_x86::{Cpu, Fault, Op, Stop};

use crate::abi::Leave;
use crate::compiler::Compiler;
use crate::lockstep::Lockstep;
use crate::thunks;

use blocks::{Blocks, PAGE};
use regions::Regions;
use warmth::Warmth;

pub(crate) use blocks::Entry;

/// How guest code is executed. The run is the same in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// By the interpreter alone.
    Interp,
    /// Hot code by translation.
    #[default]
    Jit,
    /// All code by both, compared at every exit.
    Lockstep,
}

/// Why [`Engine::run`] returned. All at an instruction boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget is used up.
    Deadline,
    /// `attention::MACHINE` is set: the board wants to be looked at. The caller clears it.
    Machine,
    /// The CPU is halted until an interrupt.
    Halt,
    /// A triple fault.
    Shutdown,
}

/// Figures of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Instructions executed in regions.
    pub compiled_instructions: u64,
    /// Instructions executed by the interpreter.
    pub interpreted_instructions: u64,
    /// Regions made so far.
    pub regions: u64,
    /// Guest instructions in them.
    pub translated_instructions: u64,
    /// Time spent compiling, in ns.
    pub compile_ns: u64,
    /// Machine code in use, in bytes.
    pub code_bytes: u64,
    /// Regions dropped because their code was written.
    pub dropped_regions: u64,
}

/// Runs one vCPU.
#[derive(Debug)]
pub struct Engine {
    mode: Mode,
    blocks: Blocks,
    regions: Option<Regions>,
    warmth: Warmth,
    compiler: Compiler,
    lockstep: Lockstep,
    stats: Stats,
    /// Helpers were installed in this vCPU.
    ready: bool,
}

/// What one stretch of the interpreter or of a region ended with.
pub(crate) enum Next {
    /// Look around and go on.
    On,
    Exit(Exit),
}

impl Engine {
    /// An engine; in [`Mode::Jit`] and [`Mode::Lockstep`] without memory for code it is an interpreter.
    pub fn new(mode: Mode) -> Engine {
        let regions = match mode {
            Mode::Interp => None,
            _ => Regions::new().ok(),
        };
        Engine {
            mode,
            blocks: Blocks::new(),
            regions,
            warmth: Warmth::new(mode),
            compiler: Compiler::new(),
            lockstep: Lockstep::default(),
            stats: Stats::default(),
            ready: false,
        }
    }

    /// The figures so far.
    pub fn stats(&self) -> Stats {
        let mut s = self.stats;
        if let Some(r) = &self.regions {
            s.code_bytes = r.code_bytes() as u64;
            s.regions = r.installed();
        }
        s
    }

    /// Forgets all decoded and translated code: after a reset, or when RAM was replaced.
    pub fn drop_code(&mut self, cpu: &mut Cpu) {
        self.blocks.clear();
        if let Some(r) = &mut self.regions {
            r.clear();
        }
        let ram = cpu.mmu.ram().clone();
        for (base, len, _) in ram.regions() {
            ram.unmark_code(base, len);
        }
        ram.take_code_writes();
    }

    /// Runs until the budget is used up or something needs the machine. A pending interrupt is taken first, if the state allows it.
    pub fn run(&mut self, cpu: &mut Cpu) -> Exit {
        self.prepare(cpu);
        cpu.state.clock.attention |= attention::INTERRUPT;
        loop {
            if let Some(exit) = self.attend(cpu) {
                return exit;
            }
            if cpu.state.clock.budget <= 0 {
                return Exit::Deadline;
            }
            let next = if cpu.state.shadow != 0 || cpu.state.mode & mode::DEBUG != 0 {
                self.single_step(cpu)
            } else {
                self.stretch(cpu)
            };
            if let Next::Exit(exit) = next {
                return exit;
            }
        }
    }

    fn prepare(&mut self, cpu: &mut Cpu) {
        if self.ready {
            return;
        }
        self.ready = true;
        if let Some(r) = &self.regions {
            thunks::install(cpu, r.table());
        }
        if self.mode == Mode::Lockstep {
            cpu.mmu.set_logging(true);
        }
    }

    /// Deals with whatever asked for attention.
    fn attend(&mut self, cpu: &mut Cpu) -> Option<Exit> {
        if cpu.mmu.ram().code_written() {
            self.drop_written(cpu);
        }
        if cpu.state.clock.attention == 0 {
            return None;
        }
        if cpu.state.clock.attention & attention::MACHINE != 0 {
            return Some(Exit::Machine);
        }
        cpu.state.clock.attention &= attention::INTERRUPT;
        if cpu.state.clock.attention & attention::INTERRUPT != 0 && cpu.try_interrupt().is_err() {
            return Some(Exit::Shutdown);
        }
        if cpu.state.halted != 0 {
            return Some(Exit::Halt);
        }
        None
    }

    /// Drops code that was written to.
    fn drop_written(&mut self, cpu: &mut Cpu) {
        let ram = cpu.mmu.ram().clone();
        for w in ram.take_code_writes() {
            let (mut at, end) = (w.address, w.address + w.len);
            while at < end {
                let n = (PAGE - at % PAGE).min(end - at);
                self.blocks.invalidate(at, n);
                if let Some(r) = &mut self.regions {
                    let dropped = r.invalidate(at, n);
                    self.stats.dropped_regions += dropped as u64;
                    if dropped != 0 {
                        self.warmth.rewritten(at / PAGE);
                    }
                }
                ram.unmark_code(at, n);
                at += n;
            }
        }
    }

    /// One block or region from where RIP is.
    fn stretch(&mut self, cpu: &mut Cpu) -> Next {
        let slot = match self.find(cpu) {
            Ok(slot) => slot,
            Err(stop) => return self.fetch_fault(cpu, stop),
        };
        if self.regions.is_some() {
            if let Some(entry) = self.entry(cpu, slot) {
                return self.run_region(cpu, entry);
            }
        }
        self.interpret(cpu, slot)
    }

    /// The decoded block where RIP is. Consults the code TLB.
    fn find(&mut self, cpu: &mut Cpu) -> Result<u32, MemStop> {
        let rip = cpu.state.rip().wrapping_add(self.code_base(cpu));
        let physical = cpu.mmu.fetch(rip)?;
        if let Some(slot) = self.blocks.find(physical, cpu.state.mode) {
            match self.blocks.get(slot).second {
                None => return Ok(slot),
                Some(second) => {
                    let behind = cpu.mmu.fetch((rip | (PAGE - 1)).wrapping_add(1))?;
                    if behind == second {
                        return Ok(slot);
                    }
                    self.blocks.invalidate(physical, 1);
                }
            }
        }
        let slot = self.blocks.decode(cpu, rip, physical)?;
        if let Some(r) = &self.regions {
            self.blocks.get_mut(slot).entry = r.entry(physical, cpu.state.mode);
        }
        Ok(slot)
    }

    /// What is added to RIP to give a linear address: the base of CS outside of 64-bit mode.
    fn code_base(&self, cpu: &Cpu) -> u64 {
        if cpu.state.mode & mode::LONG != 0 {
            0
        } else {
            cpu.state.segment(atoll_x86::op::Seg::Cs).base
        }
    }

    /// A fetch that did not reach RAM.
    fn fetch_fault(&mut self, cpu: &mut Cpu, stop: MemStop) -> Next {
        cpu.state.clock.budget -= 1;
        let why = match stop {
            MemStop::Device { .. } | MemStop::Split { .. } => cpu.raise(Fault::GP0),
            other => cpu.memory_fault(other),
        };
        self.stopped(cpu, why)
    }

    /// Delivers a fault, or passes on what else an instruction ended with.
    fn stopped(&mut self, cpu: &mut Cpu, stop: Stop) -> Next {
        match stop {
            Stop::Fault => match cpu.deliver_fault() {
                Ok(()) => Next::On,
                Err(_) => Next::Exit(Exit::Shutdown),
            },
            Stop::Halt => Next::Exit(Exit::Halt),
            Stop::Shutdown => Next::Exit(Exit::Shutdown),
            Stop::Again => Next::On,
        }
    }

    /// The region to enter at a block, made now if the block has become hot.
    fn entry(&mut self, cpu: &mut Cpu, slot: u32) -> Option<Entry> {
        let block = self.blocks.get_mut(slot);
        if let Some(entry) = block.entry {
            if self.regions.as_ref()?.address(entry).is_some()
                && self
                    .regions
                    .as_ref()?
                    .entry(block.physical, block.mode)
                    .is_some()
            {
                return self.regions.as_ref()?.entry(block.physical, block.mode);
            }
            block.entry = None;
        }
        if block.heat == u32::MAX {
            return None;
        }
        block.heat += 1;
        if !self.warmth.is_hot(block.heat, block.physical / PAGE) {
            return None;
        }
        self.translate(cpu, slot, usize::MAX)
    }

    /// Runs a region and what it leads to; then goes on as the way it left asks for.
    fn run_region(&mut self, cpu: &mut Cpu, entry: Entry) -> Next {
        if self.mode == Mode::Lockstep {
            return self.run_lockstep(cpu, entry);
        }
        let mut entry = entry;
        loop {
            let before = cpu.state.clock.budget;
            let why = self.enter(cpu, entry);
            self.stats.compiled_instructions += (before - cpu.state.clock.budget) as u64;
            match why {
                Leave::Interpret => return self.interpret_here(cpu),
                Leave::Budget => return self.interpret_to_deadline(cpu),
                Leave::Stale | Leave::Attention => return Next::On,
                Leave::Link => match self.follow(cpu) {
                    Some(next) => entry = next,
                    None => return Next::On,
                },
            }
        }
    }

    /// Enters emitted code.
    pub(crate) fn enter(&self, cpu: &mut Cpu, entry: Entry) -> Leave {
        let regions = self.regions.as_ref().expect("entries come from regions");
        let code = regions.address(entry).expect("a live entry");
        // SAFETY: the code was installed for this entry number and outlives the call: nothing is dropped while it runs; `cpu` is ours for the
        // duration.
        let raw = unsafe { thunks::enter(cpu, code, u64::from(entry.number)) };
        Leave::from_raw(raw)
    }

    /// After an exit through a link or an indirect branch: the region at RIP, if there is one, linked for the next time.
    fn follow(&mut self, cpu: &mut Cpu) -> Option<Entry> {
        if cpu.state.clock.attention != 0 || cpu.state.clock.budget <= 0 {
            return None;
        }
        let link = cpu.mmu.answer as usize;
        let slot = self.find(cpu).ok()?;
        let entry = self.entry(cpu, slot)?;
        let (rip, mode) = (cpu.state.rip(), cpu.state.mode);
        let regions = self.regions.as_mut()?;
        if link != 0 {
            regions.link(link, entry);
        } else {
            regions.target(rip, mode, entry);
        }
        Some(entry)
    }

    /// Interprets from RIP although a region may start there: at least one instruction.
    fn interpret_here(&mut self, cpu: &mut Cpu) -> Next {
        if cpu.state.clock.budget <= 0 {
            return Next::On;
        }
        match self.find(cpu) {
            Ok(slot) => self.interpret(cpu, slot),
            Err(stop) => self.fetch_fault(cpu, stop),
        }
    }

    /// The few instructions that are left before the deadline.
    fn interpret_to_deadline(&mut self, cpu: &mut Cpu) -> Next {
        while cpu.state.clock.budget > 0 {
            let next = self.interpret_here(cpu);
            if cpu.state.clock.attention != 0 || matches!(next, Next::Exit(_)) {
                return next;
            }
            if cpu.mmu.ram().code_written() || cpu.state.shadow != 0 {
                return next;
            }
        }
        Next::On
    }

    /// Runs a decoded block, as far as budget and events allow.
    fn interpret(&mut self, cpu: &mut Cpu, slot: u32) -> Next {
        let block = self.blocks.get(slot);
        let ops: *const [Op] = &raw const *block.ops;
        let before = cpu.state.clock.budget;
        // SAFETY: blocks are dropped only by `drop_written` and `clear`, which nothing below calls.
        let next = match interpret_ops(cpu, unsafe { &*ops }) {
            Ok(()) => Next::On,
            Err(stop) => self.stopped(cpu, stop),
        };
        self.stats.interpreted_instructions += (before - cpu.state.clock.budget).max(0) as u64;
        next
    }

    /// One instruction, where each is followed by a look at interrupts and traps.
    fn single_step(&mut self, cpu: &mut Cpu) -> Next {
        let slot = match self.find(cpu) {
            Ok(slot) => slot,
            Err(stop) => return self.fetch_fault(cpu, stop),
        };
        let op = self.blocks.get(slot).ops[0];
        self.stats.interpreted_instructions += 1;
        let shadow = cpu.state.shadow;
        cpu.state.shadow = 0;
        let done = interpret_ops(cpu, &[op]);
        let _ = shadow;
        cpu.state.clock.attention |= attention::INTERRUPT;
        match done {
            Ok(()) => Next::On,
            Err(stop) => self.stopped(cpu, stop),
        }
    }
}

/// Runs instructions in a row until one of them asks for something.
#[inline]
pub(crate) fn interpret_ops(cpu: &mut Cpu, ops: &[Op]) -> Result<(), Stop> {
    let mask = if cpu.state.mode & mode::LONG != 0 {
        u64::MAX
    } else {
        0xffff_ffff
    };
    for op in ops {
        if cpu.state.clock.budget <= 0 {
            return Ok(());
        }
        cpu.state.clock.budget -= 1;
        let rip = cpu.state.rip();
        cpu.state
            .set_rip(rip.wrapping_add(u64::from(op.len)) & mask);
        if let Err(stop) = (op.run)(cpu, op) {
            if matches!(stop, Stop::Fault | Stop::Again) {
                cpu.state.set_rip(rip);
            }
            return Err(stop);
        }
        if cpu.state.clock.attention != 0 || cpu.mmu.ram().code_written() {
            return Ok(());
        }
    }
    Ok(())
}
