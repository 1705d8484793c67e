//! [`Engine`]: the loop that runs a vCPU, and the choice of the tier.
//!
//! The interpreter (`atoll-x86`) runs decoded blocks and stops where a block has become hot or carries a tag; then the region there
//! is made, or entered. Emitted code goes from region to region by itself and comes back only for what it cannot do.

mod background;
mod compare;
mod regions;
mod shares;
mod translate;
mod warmth;

use atoll_x86::Cpu;
use atoll_x86::bus::attention;
use atoll_x86::interp::{BlockCache, Exit as Stretch};

use crate::abi::Leave;
use crate::compiler::Compiler;
use crate::lockstep::Comparison;
use crate::{rehearsal, thunks};

use background::Background;
use regions::Regions;
use shares::Shares;
use warmth::Warmth;

pub(crate) use regions::Entry;

pub(crate) const PAGE: u64 = 4096;

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

/// A translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The quick one, which what is hot meets first.
    Quick,
    /// Cranelift.
    Optimised,
}

/// Which code of a place replaces which: the greater the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Made of what had proved hot. Only lockstep makes code before.
    pub(crate) ripe: bool,
    pub(crate) tier: Tier,
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
    /// Regions made so far, by both translators.
    pub regions: u64,
    /// Guest instructions that Cranelift translated.
    pub translated_instructions: u64,
    /// CPU time that it took, in ns.
    pub compile_ns: u64,
    /// Guest instructions that the quick translator translated.
    pub quick_instructions: u64,
    /// Time that it took, in ns.
    pub quick_ns: u64,
    /// Machine code in use, in bytes.
    pub code_bytes: u64,
    /// Regions dropped because their code was written.
    pub dropped_regions: u64,
    /// Exits of regions at which lockstep compared the engines.
    pub comparisons: u64,
    /// Wall time in the interpreter, in ns, estimated from samples.
    pub wall_interpreter_ns: u64,
    /// Wall time in code of the quick translator, likewise.
    pub wall_quick_ns: u64,
    /// Wall time in Cranelift's code, likewise.
    pub wall_optimised_ns: u64,
}

/// Runs one vCPU.
#[derive(Debug)]
pub struct Engine {
    mode: Mode,
    blocks: BlockCache,
    regions: Option<Regions>,
    warmth: Warmth,
    /// What is hot is translated quickly first.
    quick: bool,
    /// For lockstep, which compiles in line.
    compiler: Option<Compiler>,
    background: Option<Background>,
    /// For lockstep.
    comparison: Option<Box<Comparison>>,
    /// There is no compile thread, and there shall be none.
    threadless: bool,
    stats: Stats,
    shares: Shares,
    /// The vCPU knows where the helpers are.
    ready: bool,
}

impl Rank {
    /// What all code becomes that stays hot.
    pub(crate) const BEST: Rank = Rank {
        ripe: true,
        tier: Tier::Optimised,
    };
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Interpret, entering regions where there are some.
    Anywhere,
    /// Interpret the block at RIP whatever there is, then as [`Next::Anywhere`].
    Here,
    /// Interpret to the end of the budget.
    ToDeadline,
}

impl Engine {
    /// An engine; in [`Mode::Jit`] and [`Mode::Lockstep`] without memory for code it is an interpreter.
    pub fn new(mode: Mode) -> Engine {
        let regions = match mode {
            Mode::Interp => None,
            Mode::Jit => Regions::new(regions::ARENA).ok(),
            Mode::Lockstep => Regions::new(regions::LARGE_ARENA).ok(),
        };
        Engine {
            mode,
            blocks: BlockCache::new(),
            warmth: Warmth::new(mode, regions.is_some()),
            regions,
            quick: mode != Mode::Interp,
            compiler: (mode == Mode::Lockstep).then(Compiler::new),
            background: None,
            comparison: None,
            threadless: mode == Mode::Lockstep,
            stats: Stats::default(),
            shares: Shares::default(),
            ready: false,
        }
    }

    /// An engine with one translator, in line, for what was started `threshold` times: for tests and measurements.
    pub fn inline(threshold: u32, tier: Tier) -> Engine {
        let mut engine = Engine::new(Mode::Jit);
        engine.quick = tier == Tier::Quick;
        engine.compiler = (tier == Tier::Optimised).then(Compiler::new);
        engine.threadless = true;
        engine.warmth = Warmth::with_threshold(threshold);
        engine
    }

    /// How it executes guest code.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The figures so far.
    pub fn stats(&self) -> Stats {
        let mut s = self.stats;
        s.wall_interpreter_ns = self.shares.interpreter_ns;
        s.wall_quick_ns = self.shares.quick_ns;
        s.wall_optimised_ns = self.shares.optimised_ns;
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
        if let Some(b) = &mut self.background {
            b.clear();
        }
        let ram = cpu.mmu.ram().clone();
        for (base, len, _) in ram.regions() {
            ram.unmark_code(base, len);
        }
        ram.take_code_writes();
        cpu.state.clock.attention &= !attention::CODE;
    }

    /// Runs until the budget is used up or something needs the machine. A pending interrupt is taken first, if the state allows it.
    pub fn run(&mut self, cpu: &mut Cpu) -> Exit {
        self.prepare(cpu);
        self.install_finished();
        if cpu.mmu.ram().code_written() {
            self.drop_written(cpu);
        }
        if cpu.try_interrupt().is_err() {
            return Exit::Shutdown;
        }
        if cpu.state.halted != 0 {
            return Exit::Halt;
        }
        let mut next = Next::Anywhere;
        loop {
            match self.interpret(cpu, next) {
                Stretch::Budget => return Exit::Deadline,
                Stretch::Halt => return Exit::Halt,
                Stretch::Shutdown => return Exit::Shutdown,
                Stretch::Attention => {
                    if cpu.mmu.ram().code_written() {
                        self.drop_written(cpu);
                    }
                    cpu.state.clock.attention &= !attention::CODE;
                    if cpu.state.clock.attention & attention::MACHINE != 0 {
                        return Exit::Machine;
                    }
                    next = Next::Anywhere;
                }
                Stretch::Hot => next = self.hot(cpu),
                Stretch::Tagged(tag) => next = self.tagged(cpu, tag),
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
        if !self.threadless && self.regions.is_some() {
            self.background = Background::start();
        }
        if self.mode == Mode::Lockstep {
            cpu.mmu.set_logging(true);
            rehearsal::hang_curtain(cpu);
        }
    }

    fn interpret(&mut self, cpu: &mut Cpu, next: Next) -> Stretch {
        let before = cpu.state.clock.uncharged();
        let deadline = cpu.state.clock.deadline_ns;
        let mut here = next != Next::Anywhere;
        let started = self.shares.begin();
        let stretch = loop {
            let stretch = self.blocks.run(cpu, self.warmth.threshold(), here);
            // A deadline may have come nearer or gone, but there is no region short enough before the one that was.
            let on = next == Next::ToDeadline && cpu.state.clock.deadline_ns == deadline;
            if !(on && matches!(stretch, Stretch::Tagged(_) | Stretch::Hot)) {
                break stretch;
            }
            here = true;
        };
        if let Some(started) = started {
            self.shares.end(started, None);
        }
        self.stats.interpreted_instructions += cpu.state.clock.uncharged() - before;
        if self.mode == Mode::Lockstep {
            cpu.mmu.forget_changes();
        }
        stretch
    }

    /// Drops code that was written to.
    fn drop_written(&mut self, cpu: &mut Cpu) {
        let ram = cpu.mmu.ram().clone();
        for w in ram.take_code_writes() {
            self.blocks.drop_code(w);
            let (mut at, end) = (w.address, w.address + w.len);
            while at < end {
                let n = (PAGE - at % PAGE).min(end - at);
                let mut gone = match &mut self.background {
                    Some(b) => b.invalidate(at, n),
                    None => 0,
                };
                if let Some(r) = &mut self.regions {
                    let dropped = r.invalidate(at, n, &mut self.blocks);
                    self.stats.dropped_regions += dropped as u64;
                    gone += dropped;
                }
                // A plan made in vain counts like a region made in vain.
                if gone != 0 {
                    self.warmth.rewritten(at / PAGE);
                }
                at += n;
            }
            ram.unmark_code(w.address, w.len);
        }
    }

    /// Where RIP is in physical memory. The interpreter has just fetched from there, so that the code TLB knows.
    fn place(&self, cpu: &mut Cpu) -> Option<u64> {
        let va = cpu.linear_rip();
        cpu.mmu.peek_fetch(va)
    }

    /// The block at RIP has become hot.
    fn hot(&mut self, cpu: &mut Cpu) -> Next {
        let mode = cpu.state.mode;
        let Some(physical) = self.place(cpu) else {
            return Next::Here;
        };
        if let Some(more) = self.warmth.patience(physical / PAGE) {
            self.blocks.set_heat(physical, mode, more);
            return Next::Here;
        }
        let rank = Rank {
            ripe: self.mode != Mode::Lockstep,
            tier: if self.quick {
                Tier::Quick
            } else {
                Tier::Optimised
            },
        };
        match self.translate(cpu, physical, rank, usize::MAX) {
            Some(entry) => self.run_entry(cpu, entry),
            None => Next::Here,
        }
    }

    /// The quick code at RIP wants to be made anew; gives what is to be entered there now.
    fn warm(&mut self, cpu: &mut Cpu) -> Option<Entry> {
        let physical = self.place(cpu)?;
        if self.compiler.is_some() {
            return self.translate(cpu, physical, Rank::BEST, usize::MAX);
        }
        if self.warmth.is_busy(physical, cpu.state.clock.now_ns()) {
            self.request(cpu, physical);
        }
        self.install_finished();
        self.regions.as_ref()?.entry(physical, cpu.state.mode)
    }

    /// A region starts at RIP, or one did when the block there was given its tag.
    fn tagged(&mut self, cpu: &mut Cpu, tag: u32) -> Next {
        let mode = cpu.state.mode;
        let Some(place) = self.place(cpu) else {
            return Next::Here;
        };
        let entry = self
            .regions
            .as_ref()
            .and_then(|r| r.tagged(tag, place, mode));
        match entry {
            Some(entry) if self.mode == Mode::Lockstep => match self.grow(cpu, place, entry) {
                Some(entry) => self.run_entry(cpu, entry),
                None => Next::Here,
            },
            Some(entry) => self.run_entry(cpu, entry),
            None => {
                // The region is gone, and only its tag is left: the place proves itself anew.
                self.blocks.set_tag(place, mode, 0);
                self.blocks.set_heat(place, mode, 0);
                Next::Here
            }
        }
    }

    fn run_entry(&mut self, cpu: &mut Cpu, entry: Entry) -> Next {
        if self.mode == Mode::Lockstep {
            self.run_lockstep(cpu, entry)
        } else {
            self.run_regions(cpu, entry)
        }
    }

    /// Runs a region and what it leads to.
    fn run_regions(&mut self, cpu: &mut Cpu, entry: Entry) -> Next {
        let mut entry = entry;
        loop {
            let before = cpu.state.clock.uncharged();
            let started = self.shares.begin();
            let why = self.enter(cpu, entry);
            if let Some(started) = started {
                let rank = self.regions.as_ref().and_then(|r| r.rank(entry));
                self.shares.end(started, rank.map(|rank| rank.tier));
            }
            let done = cpu.state.clock.uncharged() - before;
            self.stats.compiled_instructions += done;
            match why {
                Leave::Interpret | Leave::Float => return Next::Here,
                Leave::Budget => return Next::ToDeadline,
                // Nothing is gained by coming back here before the fetch that the interpreter makes.
                Leave::Stale if done == 0 => return Next::Here,
                Leave::Stale | Leave::Attention => return Next::Anywhere,
                Leave::Warm => match self.warm(cpu) {
                    Some(next) => entry = next,
                    None => return Next::Here,
                },
                Leave::Link => match self.follow(cpu) {
                    Some(next) => entry = next,
                    None => return Next::Anywhere,
                },
            }
        }
    }

    /// Enters emitted code.
    pub(crate) fn enter(&self, cpu: &mut Cpu, entry: Entry) -> Leave {
        let regions = self.regions.as_ref().expect("entries come from regions");
        let code = regions.address(entry).expect("a live entry");
        // SAFETY: the code was installed with this entry number and outlives the call: nothing is dropped while it runs; `cpu` is ours for
        // the duration.
        let raw = unsafe { thunks::enter(cpu, code, u64::from(entry.number)) };
        Leave::from_raw(raw)
    }

    /// After an exit through a link or an indirect branch: the region at RIP, if there is one, linked for the next time.
    fn follow(&mut self, cpu: &mut Cpu) -> Option<Entry> {
        if cpu.state.clock.attention != 0 || cpu.state.clock.budget <= 0 {
            return None;
        }
        let link = cpu.mmu.answer as usize;
        let va = cpu.linear_rip();
        let physical = cpu.mmu.fetch(va).ok()?;
        if cpu.mmu.ram().code_written() {
            // The walk set an accessed bit within code.
            cpu.state.clock.attention |= attention::CODE;
            return None;
        }
        let (rip, mode) = (cpu.state.rip(), cpu.state.mode);
        let regions = self.regions.as_mut()?;
        let entry = regions.entry(physical, mode)?;
        if link != 0 {
            regions.link(link, entry);
        } else {
            regions.target(rip, mode, entry);
        }
        Some(entry)
    }
}
