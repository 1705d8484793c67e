//! Who is who on the wire.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A process of the machine: its place in the machine and how many predecessors it had there.
///
/// The generation is what makes a restart visible: a message to or from an older generation gets `Dead`, never an
/// answer, so nobody takes a process that lost its memory for the one that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerId {
    pub index: u16,
    pub generation: u32,
}

impl PeerId {
    /// The broker itself, of which a machine has exactly one.
    pub const BROKER: Self = Self {
        index: 0,
        generation: 0,
    };

    pub const fn new(index: u16, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The one that takes this peer's place.
    pub const fn successor(self) -> Self {
        Self {
            index: self.index,
            generation: self.generation.wrapping_add(1),
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// One link of the machine, in the order of the machine file.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct LinkId(pub u16);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link{}", self.0)
    }
}

/// One interrupt line or MSI vector that a device may raise: the row of the route table that names it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct LineId(pub u16);

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line{}", self.0)
    }
}
