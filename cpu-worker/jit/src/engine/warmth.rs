//! When code is worth compiling.

use rustc_hash::FxHashMap;

use super::Mode;

/// Starts of a block before it is translated quickly.
const THRESHOLD: u32 = 24;
/// Passes through an entry of quick code before Cranelift makes it anew.
const PASSES: u32 = 1000;
/// The same in lockstep, where both are to be seen.
const FEW_PASSES: u32 = 3;
/// A page whose regions were dropped this often doubles its threshold each time from then on.
const PATIENCE: u32 = 4;

/// Heat thresholds, by page.
#[derive(Debug)]
pub(crate) struct Warmth {
    threshold: u32,
    passes: u32,
    /// Per page: how often regions of it were dropped, and how often hot code was put off since.
    rewrites: FxHashMap<u64, (u32, u32)>,
}

impl Warmth {
    pub(crate) fn new(mode: Mode, compiles: bool) -> Warmth {
        let threshold = match mode {
            _ if !compiles => u32::MAX,
            Mode::Lockstep => 1,
            _ => THRESHOLD,
        };
        Warmth {
            passes: if mode == Mode::Lockstep {
                FEW_PASSES
            } else {
                PASSES
            },
            ..Warmth::with_threshold(threshold)
        }
    }

    pub(crate) fn with_threshold(threshold: u32) -> Warmth {
        Warmth {
            threshold,
            passes: PASSES,
            rewrites: FxHashMap::default(),
        }
    }

    /// Entries after which a block is reported as hot.
    pub(crate) fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Entries that a block must have had to become part of another's region: the rest is cold and left out.
    pub(crate) fn least(&self) -> u32 {
        (self.threshold / 12).clamp(1, 1 << 20)
    }

    /// Passes through an entry of quick code before it is to be made anew.
    pub(crate) fn passes(&self) -> u32 {
        self.passes
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
