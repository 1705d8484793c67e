//! From a hot block to an installed region.

use atoll_x86::decode::decode;
use atoll_x86::features::Features;
use atoll_x86::interp::BlockCache;
use atoll_x86::{Cpu, Op};

use super::{Engine, Entry, PAGE, REGION};
use crate::plan::{Plan, Source};

/// What discovery may look at: the pages that the code TLB holds, and which places were executed.
struct View<'a> {
    cpu: &'a Cpu,
    blocks: &'a BlockCache,
    base: u64,
    mode: u32,
    features: Features,
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
        self.physical(at)
            .is_some_and(|p| self.blocks.knows(p, mode))
    }
}

impl Engine {
    /// Makes the region whose head is at RIP, which is at `physical`, of at most `cap` instructions, and gives its entry.
    pub(crate) fn translate(&mut self, cpu: &mut Cpu, physical: u64, cap: usize) -> Option<Entry> {
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
        };
        let head = (rip & (PAGE - 1)) as i64;
        let plan = Plan::discover(&mut view, head, mode, cap)?;
        let compiled = self.compiler.compile(plan)?;
        self.stats.compile_ns += compiled.ns;
        self.stats.translated_instructions += compiled.plan.len() as u64;
        for (at, n) in compiled.plan.code() {
            cpu.mmu.mark_code(at, n);
        }
        let regions = self.regions.as_mut()?;
        let Some(given) = regions.install(compiled) else {
            regions.clear();
            return None;
        };
        for at in given {
            self.blocks.set_tag(at, mode, REGION);
        }
        regions.entry(physical, mode)
    }
}

/// Whether code of this mode is translated: 64-bit code, and 32-bit code with flat segments.
fn supported(word: u32) -> bool {
    use atoll_x86::state::mode;
    let flat32 = mode::CODE32 | mode::STACK32 | mode::FLAT | mode::PROTECTED;
    (word & mode::LONG != 0 || word & flat32 == flat32)
        && word & (mode::DEBUG | mode::V86 | mode::ALIGN) == 0
}
