//! From a hot block to an installed region.

use atoll_x86::decode::decode;
use atoll_x86::features::Features;
use atoll_x86::interp::BlockCache;
use atoll_x86::{Cpu, Op};

use super::background::Background;
use super::{Engine, Entry, Mode, PAGE, Rank, Tier};
use crate::compiler::Compiled;
use crate::plan::{Plan, Source};
use crate::quick;

/// Instructions of a region of the first tier at most: what is made is soon run, or it was made in vain.
const QUICK_CAP: usize = 300;

/// What discovery may look at: the pages that the code TLB holds, and which places were executed.
struct View<'a> {
    cpu: &'a Cpu,
    blocks: &'a BlockCache,
    base: u64,
    mode: u32,
    features: Features,
    /// What a block that control may come to must have been entered at least.
    least: u32,
    /// Whether the interpreter executes what regions do too, so that its counts are those of a machine without regions.
    counts_all: bool,
}

impl View<'_> {
    fn physical(&mut self, at: i64) -> Option<u64> {
        let page = self.page(at.div_euclid(PAGE as i64))?;
        Some(page + at.rem_euclid(PAGE as i64) as u64)
    }
}

impl Source for View<'_> {
    fn op(&mut self, at: i64) -> Option<Op> {
        let mut bytes = [0; 30];
        let n = self
            .cpu
            .mmu
            .code_bytes(self.physical(at)?, &mut bytes[..15]);
        if let Some(op) = decode(&bytes[..n], self.mode, self.features) {
            return Some(op);
        }
        let rest = self.physical(at + n as i64)?;
        let m = self.cpu.mmu.code_bytes(rest, &mut bytes[n..][..15]);
        decode(&bytes[..(n + m).min(15)], self.mode, self.features)
    }
    fn page(&mut self, page: i64) -> Option<u64> {
        let va = self.base.wrapping_add((page * PAGE as i64) as u64);
        self.cpu.mmu.peek_fetch(va)
    }
    fn warm(&mut self, at: i64) -> bool {
        let mode = self.mode;
        self.physical(at).is_some_and(|p| {
            let heat = if self.counts_all {
                self.blocks.entered(p, mode)
            } else {
                self.blocks.heat(p, mode)
            };
            heat >= self.least
        })
    }
}

impl Engine {
    /// The plan of the region whose head is at RIP, of at most `cap` instructions.
    fn plan(&self, cpu: &Cpu, cap: usize, rank: Rank) -> Option<Plan> {
        let mode = cpu.state.mode;
        if !supported(mode) {
            return None;
        }
        let rip = cpu.state.rip();
        let mut view = View {
            blocks: &self.blocks,
            base: rip & !(PAGE - 1),
            mode,
            features: cpu.features(),
            cpu,
            least: self.warmth.least(rank),
            counts_all: self.mode == Mode::Lockstep,
        };
        Plan::discover(&mut view, (rip & (PAGE - 1)) as i64, mode, cap)
    }

    /// Makes the region whose head is at RIP, which is at `physical`, of at most `cap` instructions, and gives its entry.
    pub(crate) fn translate(
        &mut self,
        cpu: &mut Cpu,
        physical: u64,
        rank: Rank,
        cap: usize,
    ) -> Option<Entry> {
        let compiled = match rank.tier {
            Tier::Quick => {
                let plan = self.plan(cpu, cap.min(QUICK_CAP), rank)?;
                quick::compile(plan, self.warmth.passes(rank))
            }
            Tier::Optimised => {
                let plan = self.plan(cpu, cap, rank)?;
                self.compiler.as_mut()?.compile(plan)?
            }
        };
        for (at, n) in compiled.plan.code() {
            cpu.mmu.mark_code(at, n);
        }
        self.install(compiled, rank);
        self.regions.as_ref()?.entry(physical, cpu.state.mode)
    }

    /// Asks the compile thread for the region whose head is at RIP, which is at `physical`.
    pub(crate) fn request(&mut self, cpu: &mut Cpu, physical: u64) {
        let place = (physical, cpu.state.mode);
        let Some(background) = &mut self.background else {
            return;
        };
        if !background.vote(place) && !background.is_full() {
            let Some(plan) = self.plan(cpu, usize::MAX, Rank::BEST) else {
                return;
            };
            // From now on a store to the code is reported, and cancels what was made of it.
            for (at, n) in plan.code() {
                cpu.mmu.mark_code(at, n);
            }
            if let Some(b) = &mut self.background {
                b.submit(place, plan);
            }
        }
    }

    /// Installs what the compile thread has finished.
    pub(crate) fn install_finished(&mut self) {
        while let Some((_, compiled)) = self.background.as_mut().and_then(Background::poll) {
            if let Some(c) = compiled {
                self.install(c, Rank::BEST);
            }
        }
    }

    fn install(&mut self, compiled: Compiled, rank: Rank) {
        let n = compiled.plan.len() as u64;
        if rank.tier == Tier::Quick {
            self.stats.quick_ns += compiled.ns;
            self.stats.quick_instructions += n;
        } else {
            self.stats.compile_ns += compiled.ns;
            self.stats.translated_instructions += n;
        }
        if let Some(regions) = &mut self.regions {
            regions.install(compiled, rank, &mut self.blocks);
        }
    }
}

/// Whether code of this mode is translated: 64-bit code, and 32-bit code with flat segments.
fn supported(word: u32) -> bool {
    use atoll_x86::state::mode;
    let flat32 = mode::CODE32 | mode::STACK32 | mode::FLAT | mode::PROTECTED;
    (word & mode::LONG != 0 || word & flat32 == flat32)
        && word & (mode::DEBUG | mode::V86 | mode::ALIGN) == 0
}
