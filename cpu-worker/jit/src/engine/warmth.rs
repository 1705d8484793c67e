//! When code is worth compiling.

use rustc_hash::FxHashMap;

use super::Mode;

/// Starts of a block before it is compiled.
const THRESHOLD: u32 = 50;
/// A page whose regions were dropped this often doubles its threshold each time from then on.
const PATIENCE: u32 = 4;

/// Heat thresholds, by page.
#[derive(Debug)]
pub(crate) struct Warmth {
    threshold: u32,
    rewrites: FxHashMap<u64, u32>,
}

impl Warmth {
    pub(crate) fn new(mode: Mode) -> Warmth {
        Warmth {
            threshold: match mode {
                Mode::Lockstep => 1,
                _ => THRESHOLD,
            },
            rewrites: FxHashMap::default(),
        }
    }

    /// Regions of this page were dropped because somebody wrote to it.
    pub(crate) fn rewritten(&mut self, page: u64) {
        let n = self.rewrites.entry(page).or_default();
        *n = n.saturating_add(1);
    }

    /// Whether a block started `heat` times has become hot just now.
    pub(crate) fn is_hot(&self, heat: u32, page: u64) -> bool {
        let rewrites = self.rewrites.get(&page).copied().unwrap_or(0);
        let doublings = rewrites.saturating_sub(PATIENCE).min(20);
        heat >= self.threshold << doublings
    }
}
