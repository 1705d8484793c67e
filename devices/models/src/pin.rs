//! An output line that tells the seat only when it changes.

use device_core::Cx;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    level: bool,
}

impl Pin {
    #[inline]
    pub(crate) fn set(&mut self, line: u16, level: bool, cx: &mut Cx<'_>) {
        if self.level != level {
            self.level = level;
            cx.effects.line(line, level);
        }
    }

    /// A short low pulse that leaves the line high: one rising edge, whatever came before.
    pub(crate) fn pulse(&mut self, line: u16, cx: &mut Cx<'_>) {
        self.set(line, false, cx);
        self.set(line, true, cx);
    }
}
