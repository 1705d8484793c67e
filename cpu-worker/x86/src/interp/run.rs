//! The interpreter's loop: from block to block until something ends the stretch.
//!
//! Exactness: the budget is lowered by one before each instruction and never passed; attention is looked at after each
//! instruction, so a store into the block that runs, or a device that raises an interrupt, takes effect at the next
//! instruction. Every block entry asks the code TLB, as every instruction fetch of the guest would.

use atoll_mmu::MemStop;

use super::blocks::{BlockCache, NONE};
use super::signed_48;
use crate::bus::attention;
use crate::cpu::{Cpu, cut};
use crate::exception::{Fault, Stop};
use crate::op::{Kind, Op, RIP, RSP, Seg};
use crate::state::mode;

/// Why [`BlockCache::run`] came back. RIP is at the next instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The budget is used up.
    Budget,
    /// [`attention::CODE`] or [`attention::MACHINE`] is set: the engine's business.
    Attention,
    /// The CPU halted.
    Halt,
    /// A triple fault.
    Shutdown,
    /// The block at RIP was entered for the n-th time.
    Hot,
    /// The block at RIP carries this tag.
    Tagged(u32),
}

/// How a run of instructions ended.
pub(super) enum Flow {
    /// After its last instruction.
    End,
    Budget,
    Attention,
    /// The instruction with this index stopped, RIP having been as given.
    Stopped(Stop, u64, usize),
}

/// Executes instructions in order.
#[inline(always)]
pub(super) fn execute(cpu: &mut Cpu, ops: &[Op]) -> Flow {
    for (n, op) in ops.iter().enumerate() {
        if cpu.state.clock.budget <= 0 {
            return Flow::Budget;
        }
        cpu.state.clock.budget -= 1;
        let rip = cpu.state.gpr[RIP as usize];
        cpu.state.gpr[RIP as usize] = rip.wrapping_add(op.len as u64);
        if let Err(stop) = (op.run)(cpu, op) {
            return Flow::Stopped(stop, rip, n);
        }
        if cpu.state.clock.attention != 0 {
            return Flow::Attention;
        }
    }
    Flow::End
}

impl Cpu {
    /// The linear address of the next instruction.
    #[inline(always)]
    pub fn linear_rip(&mut self) -> u64 {
        let rip = self.state.gpr[RIP as usize];
        if self.state.mode & mode::LONG != 0 {
            return rip;
        }
        // A sequence that runs over 4 GiB goes on at 0.
        self.state.gpr[RIP as usize] = rip & 0xffff_ffff;
        self.state.segment(Seg::Cs).base.wrapping_add(rip) & 0xffff_ffff
    }

    /// Whether a linear address is beyond the limit of CS, which is looked at before the page.
    fn is_beyond_code(&self, va: u64) -> bool {
        let cs = self.state.segment(Seg::Cs);
        let offset = va.wrapping_sub(cs.base) & 0xffff_ffff;
        self.state.mode & mode::LONG == 0 && offset > u64::from(cs.limit)
    }

    /// The CPU is halted and nothing that it may take now waits.
    pub fn is_idle(&mut self) -> bool {
        self.state.halted != 0
            && !(self.interrupts_enabled() && self.bus.interrupt_pending(&mut self.state.clock))
    }

    /// Whether EFLAGS.IF is set.
    pub fn interrupts_enabled(&self) -> bool {
        self.state.rflags & crate::flags::IF != 0
    }
}

impl BlockCache {
    /// Interprets until something else has to be done. `hot` is the number of entries at which a block is reported; `here` tells that
    /// the block at RIP is to be interpreted whatever its tag.
    pub fn run(&mut self, cpu: &mut Cpu, hot: u32, here: bool) -> Exit {
        self.stretch::<false>(cpu, hot, here)
    }

    /// Interprets what a region has done already: blocks are counted as in a machine without regions, and neither heat nor tag ends it.
    pub fn replay(&mut self, cpu: &mut Cpu) -> Exit {
        self.stretch::<true>(cpu, 0, false)
    }

    #[inline(always)]
    fn stretch<const THROUGH: bool>(&mut self, cpu: &mut Cpu, hot: u32, here: bool) -> Exit {
        let mut pass = here;
        // Between two stretches the board may have moved data into code.
        cpu.note_code_writes();
        // The block that ended last and how: its link is tried first.
        let mut from = (NONE, 0);
        loop {
            // Who compares looks at the boundary, before what waits there is taken.
            if THROUGH && cpu.state.clock.budget <= 0 {
                return Exit::Budget;
            }
            if cpu.state.clock.attention != 0 {
                if let Some(exit) = self.attend(cpu) {
                    return exit;
                }
                from = (NONE, 0);
                pass = false;
                continue;
            }
            if cpu.state.clock.budget <= 0 {
                return Exit::Budget;
            }
            let id = match self.enter(cpu, from, cpu.state.mode) {
                Ok(id) => id,
                Err(stop) => {
                    if let Some(exit) = self.fetch_fault(cpu, stop) {
                        return exit;
                    }
                    from = (NONE, 0);
                    continue;
                }
            };
            let block = &mut self.blocks[id as usize];
            if THROUGH {
                block.heat = block.heat.saturating_add(1);
            } else if !pass {
                if block.tag != 0 {
                    return Exit::Tagged(block.tag);
                }
                block.heat = block.heat.saturating_add(1);
                if block.heat == hot {
                    return Exit::Hot;
                }
            }
            pass = false;
            let block = &self.blocks[id as usize];
            let end = cpu.state.gpr[RIP as usize].wrapping_add(block.len as u64);
            match execute(cpu, &block.ops) {
                Flow::End => {
                    from = (id, (cpu.state.gpr[RIP as usize] != end) as usize);
                }
                Flow::Budget => return Exit::Budget,
                Flow::Attention => from = (NONE, 0),
                Flow::Stopped(stop, rip, n) => {
                    let op = block.ops[n];
                    from = (NONE, 0);
                    if let Some(exit) = stopped(cpu, &op, stop, rip) {
                        return exit;
                    }
                }
            }
        }
    }

    /// The block at RIP: by the link of the one before, or looked up, or decoded.
    #[inline(always)]
    fn enter(&mut self, cpu: &mut Cpu, from: (u32, usize), mode: u32) -> Result<u32, Refusal> {
        let va = cpu.linear_rip();
        let pa = match cpu.mmu.peek_fetch(va) {
            Some(pa) => pa,
            None => fetch_anew(cpu, va)?,
        };
        let linked = match self.blocks.get(from.0 as usize) {
            Some(b) => b.next[from.1 & 1],
            None => NONE,
        };
        let id = match self.blocks.get(linked as usize) {
            Some(b) if b.is(pa, mode) => linked,
            _ => {
                let id = self.find(cpu, va, pa, mode)?;
                if let Some(b) = self.blocks.get_mut(from.0 as usize) {
                    b.next[from.1 & 1] = id;
                }
                id
            }
        };
        let block = &self.blocks[id as usize];
        if block.crosses() || mode & (mode::LONG | mode::FLAT) == 0 {
            return self.enter_checked(cpu, id, va, pa, mode);
        }
        Ok(id)
    }

    /// The rarer checks: the second page of an instruction over two, and the limit of CS.
    #[cold]
    fn enter_checked(
        &mut self,
        cpu: &mut Cpu,
        id: u32,
        va: u64,
        pa: u64,
        mode: u32,
    ) -> Result<u32, Refusal> {
        let mut id = id;
        if self.blocks[id as usize].crosses() {
            let next = (va | atoll_mmu::OFFSET).wrapping_add(1);
            let second = fetch_anew(cpu, next)?;
            if self.blocks[id as usize].second != second {
                id = self.refresh(cpu, id, va, pa, mode)?;
            }
        }
        if mode & (mode::LONG | mode::FLAT) == 0 {
            let limit = cpu.state.segment(Seg::Cs).limit as u64;
            let rip = cpu.state.rip();
            let bytes: u64 = self.blocks[id as usize]
                .ops
                .iter()
                .map(|o| o.len as u64)
                .sum();
            if rip + bytes - 1 > limit {
                return self.cut_to_limit(cpu, id, limit);
            }
        }
        Ok(id)
    }

    /// A block that runs over the limit of CS: the part before it is executed here, one instruction at a time.
    fn cut_to_limit(&mut self, cpu: &mut Cpu, id: u32, limit: u64) -> Result<u32, Refusal> {
        let first = self.blocks[id as usize].ops[0];
        if cpu.state.rip() + first.len as u64 - 1 > limit {
            return Err(Refusal::Limit);
        }
        Err(Refusal::Single(id))
    }

    /// An instruction could not be fetched: that counts as one, so that no sequence of faults stands still in time.
    #[cold]
    fn fetch_fault(&mut self, cpu: &mut Cpu, why: Refusal) -> Option<Exit> {
        let stop = match why {
            Refusal::Single(id) => {
                let ops = [self.blocks[id as usize].ops[0]];
                return match execute(cpu, &ops) {
                    Flow::Budget => Some(Exit::Budget),
                    Flow::Stopped(stop, rip, _) => stopped(cpu, &ops[0], stop, rip),
                    Flow::End | Flow::Attention => None,
                };
            }
            Refusal::Limit => cpu.raise(Fault::GP0),
            Refusal::Rewritten => {
                cpu.note_code_writes();
                return None;
            }
            // Code in a device's window: this board has none that holds code.
            Refusal::Memory(MemStop::Device { .. } | MemStop::Split { .. }) => cpu.raise(Fault::UD),
            Refusal::Memory(MemStop::PageFault { va, .. }) if cpu.is_beyond_code(va) => {
                cpu.raise(Fault::GP0)
            }
            Refusal::Memory(stop) => cpu.memory_fault(stop),
        };
        debug_assert!(stop == Stop::Fault);
        cpu.state.clock.budget -= 1;
        cpu.note_code_writes();
        cpu.deliver_fault().err().map(|_| Exit::Shutdown)
    }

    /// Looks at what wants attention; an exit if it is not the interpreter's business.
    #[cold]
    fn attend(&mut self, cpu: &mut Cpu) -> Option<Exit> {
        let bits = cpu.state.clock.attention;
        if bits & (attention::CODE | attention::MACHINE) != 0 {
            return Some(Exit::Attention);
        }
        cpu.state.clock.attention &= !attention::MODE;
        if bits & attention::INTERRUPT != 0 {
            return match cpu.try_interrupt() {
                Ok(_) => None,
                Err(_) => Some(Exit::Shutdown),
            };
        }
        if bits & attention::DEBUG != 0 {
            return self.step(cpu);
        }
        None
    }

    /// Executes one instruction with everything that may surround it, see [`Cpu::step`].
    pub fn step(&mut self, cpu: &mut Cpu) -> Option<Exit> {
        if cpu.state.clock.budget <= 0 {
            return Some(Exit::Budget);
        }
        if let Some(done) = cpu.take_step() {
            return done.err().map(|_| Exit::Shutdown);
        }
        // Before the fetch, which may fault (SDM vol. 3A, table 6-2).
        if cpu.meets_code_breakpoint() {
            cpu.state.clock.budget -= 1;
            return cpu.debug_trap();
        }
        // Blocks are the same with and without a debug trap to come.
        let id = match self.enter(cpu, (NONE, 0), cpu.state.mode & !mode::DEBUG) {
            Ok(id) | Err(Refusal::Single(id)) => id,
            Err(why) => return self.fetch_fault(cpu, why),
        };
        let op = self.blocks[id as usize].ops[0];
        cpu.step(&op)
    }
}

/// Why a block cannot be entered.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Memory(MemStop),
    /// The first instruction is beyond the limit of CS.
    Limit,
    /// Only the first instruction is within it.
    Single(u32),
    /// The walk for the fetch set an accessed bit within code, perhaps this: it is dropped first.
    Rewritten,
}

/// An instruction fetch from a page that the code TLB may not hold yet.
#[cold]
fn fetch_anew(cpu: &mut Cpu, va: u64) -> Result<u64, Refusal> {
    let pa = cpu.mmu.fetch(va)?;
    match cpu.mmu.ram().code_written() {
        true => Err(Refusal::Rewritten),
        false => Ok(pa),
    }
}

impl From<MemStop> for Refusal {
    fn from(stop: MemStop) -> Refusal {
        Refusal::Memory(stop)
    }
}

/// An instruction did not simply complete.
#[cold]
pub(super) fn stopped(cpu: &mut Cpu, op: &Op, stop: Stop, rip: u64) -> Option<Exit> {
    match stop {
        Stop::Fault => {
            cpu.state.set_rip(rip);
            cpu.settle_fault(op);
            cpu.deliver_fault().err().map(|_| Exit::Shutdown)
        }
        Stop::Again => {
            cpu.state.set_rip(rip);
            None
        }
        Stop::Halt => Some(Exit::Halt),
        Stop::Shutdown => Some(Exit::Shutdown),
    }
}

impl Cpu {
    /// Completes the fault of `op`: a non-canonical address through the stack segment is #SS.
    pub fn settle_fault(&mut self, op: &Op) {
        if self.fault.non_canonical && (op.seg == Seg::Ss || self.refused_by_stack(op)) {
            self.fault = Fault {
                ends_nmi: self.fault.ends_nmi,
                ..Fault::SS0
            };
        }
    }

    /// Whether it was the stack that could not be reached, by an instruction with another memory operand in another segment. POP
    /// goes to the stack first, PUSH and CALL to their operand.
    fn refused_by_stack(&self, op: &Op) -> bool {
        let canonical =
            |at: u64| signed_48(at) == at && signed_48(at.wrapping_add(7)) == at.wrapping_add(7);
        let sp = self.state.gpr[RSP as usize];
        match op.kind {
            Kind::Pop => !canonical(sp),
            Kind::Push | Kind::CallInd => {
                let base = match op.seg {
                    Seg::Fs | Seg::Gs => self.state.segment(op.seg).base,
                    _ => 0,
                };
                let operand = cut(op.addr, self.offset(op)).wrapping_add(base);
                canonical(operand) && !canonical(sp.wrapping_sub(8))
            }
            _ => false,
        }
    }
}

/// The engine that only interprets: everything that [`BlockCache::run`] leaves to an engine is done here.
#[derive(Debug, Default)]
pub struct Interpreter {
    pub cache: BlockCache,
}

impl Interpreter {
    /// Runs until the budget is used up, the CPU halts or shuts down, or [`attention::MACHINE`] is set.
    pub fn run(&mut self, cpu: &mut Cpu) -> Exit {
        if cpu.try_interrupt().is_err() {
            return Exit::Shutdown;
        }
        if cpu.state.halted != 0 {
            return Exit::Halt;
        }
        loop {
            let exit = self.cache.run(cpu, u32::MAX, false);
            if exit != Exit::Attention || cpu.state.clock.attention & attention::MACHINE != 0 {
                return exit;
            }
            self.forget_written(cpu);
        }
    }

    /// Drops the blocks whose bytes were written.
    pub fn forget_written(&mut self, cpu: &mut Cpu) {
        cpu.state.clock.attention &= !attention::CODE;
        let ram = cpu.mmu.ram().clone();
        for write in ram.take_code_writes() {
            self.cache.drop_code(write);
            ram.unmark_code(write.address, write.len);
        }
    }
}
