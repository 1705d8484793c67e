//! Accesses as somebody sees them who watches the board: `-d io` and its like. Nothing that the guest sees depends on it.

use crate::board::Board;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Port,
    Memory,
}

/// An access that the CPU made to something that is not RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Virtual time, in ns.
    pub now_ns: u64,
    pub space: Space,
    pub address: u64,
    pub bytes: u32,
    /// What was read or written.
    pub value: u64,
    pub is_write: bool,
    /// Whether anything is there.
    pub is_claimed: bool,
}

/// Sees each access after it was made.
pub type Watch = Box<dyn FnMut(&Seen) + Send>;

impl Board {
    /// Shows each access from now on to `watch`.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// Tells who watches of an access; `value` as it was read or written.
    pub(crate) fn show(
        &mut self,
        now_ns: u64,
        (space, address): (Space, u64),
        bytes: u32,
        value: u64,
        is_write: bool,
    ) {
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        let is_claimed = match space {
            Space::Port => self.answers_port(address as u16),
            Space::Memory => self.answers_memory(address),
        };
        watch(&Seen {
            now_ns,
            space,
            address,
            bytes,
            value,
            is_write,
            is_claimed,
        });
        self.watch = Some(watch);
    }
}
