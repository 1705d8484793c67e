//! When code is worth compiling.

use rustc_hash::FxHashMap;

use super::{Mode, Rank, Tier};

/// Starts of a block before it is translated quickly.
const THRESHOLD: u32 = 24;
/// Passes through an entry of quick code after which it reports itself.
const PASSES: u32 = 400;
/// Reports in quick succession after which Cranelift makes it anew.
const STREAK: u32 = 12;
/// How long after a report the next one still belongs to it. What a machine does now and then while it waits for work is not worth a
/// compiler's time, however often it adds up to.
const SUCCESSION_NS: u64 = 20_000_000;
/// Reports that are remembered at most.
const REPORTS: usize = 1 << 16;
/// Starts of a block in lockstep before Cranelift, too, translates it for the first time.
const SECOND: u32 = 3;
/// A page whose regions were dropped this often doubles its threshold each time from then on.
const PATIENCE: u32 = 4;

/// Heat thresholds, by page.
#[derive(Debug)]
pub(crate) struct Warmth {
    threshold: u32,
    /// What the threshold is in a normal run.
    ripe: u32,
    /// Per page: how often regions of it were dropped, and how often hot code was put off since.
    rewrites: FxHashMap<u64, (u32, u32)>,
    /// When each place last reported itself, in virtual time, and how many reports there were in succession.
    reports: FxHashMap<u64, (u64, u32)>,
}

impl Warmth {
    pub(crate) fn new(mode: Mode, compiles: bool) -> Warmth {
        let mut warmth = Warmth::with_threshold(if compiles { THRESHOLD } else { u32::MAX });
        if mode == Mode::Lockstep && compiles {
            warmth.threshold = 1;
        }
        warmth
    }

    pub(crate) fn with_threshold(threshold: u32) -> Warmth {
        Warmth {
            threshold,
            ripe: threshold,
            rewrites: FxHashMap::default(),
            reports: FxHashMap::default(),
        }
    }

    /// Entries after which a block is reported as hot.
    pub(crate) fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Entries that a block must have had to become part of another's region of this rank: the rest is cold and left out.
    pub(crate) fn least(&self, rank: Rank) -> u32 {
        match rank {
            Rank::BEST => (self.ripe / 12).clamp(1, 1 << 20),
            _ => 1,
        }
    }

    /// Takes a report of quick code; whether there were enough in succession.
    pub(crate) fn is_busy(&mut self, physical: u64, now_ns: u64) -> bool {
        if self.reports.len() >= REPORTS {
            self.reports.clear();
        }
        let (then, streak) = self.reports.entry(physical).or_default();
        let late = now_ns.wrapping_sub(*then) > SUCCESSION_NS;
        *streak = if late { 1 } else { *streak + 1 };
        *then = now_ns;
        *streak >= STREAK
    }

    /// Passes through an entry of quick code before it reports itself. What lockstep makes early does not report itself.
    pub(crate) fn passes(&self, rank: Rank) -> u32 {
        if rank.ripe { PASSES } else { i32::MAX as u32 }
    }

    /// In lockstep, the rank of the code that a place should have whose head was entered so often and which has code of this rank: each
    /// translator gets each head early, and then at the heat at which it gets it in a normal run.
    pub(crate) fn due(&self, rank: Rank, entered: u32) -> Option<Rank> {
        let (ripe, tier) = match rank {
            _ if rank.ripe => return None,
            _ if entered >= self.ripe => (true, Tier::Quick),
            _ if entered >= SECOND => (false, Tier::Optimised),
            _ => return None,
        };
        let due = Rank { ripe, tier };
        (due > rank).then_some(due)
    }

    /// Regions of this page were dropped because somebody wrote to it.
    pub(crate) fn rewritten(&mut self, page: u64) {
        let (n, put_off) = self.rewrites.entry(page).or_default();
        *n = n.saturating_add(1);
        *put_off = 0;
    }

    /// Whether a hot block of this page should prove itself once more: the heat to set it back to.
    pub(crate) fn patience(&mut self, page: u64) -> Option<u32> {
        let (rewrites, put_off) = self.rewrites.get_mut(&page)?;
        let doublings = rewrites.saturating_sub(PATIENCE).min(16);
        if *put_off >> doublings != 0 || doublings == 0 {
            return None;
        }
        *put_off += 1;
        Some(0)
    }
}
