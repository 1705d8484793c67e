//! Which host register holds what, within one block.
//!
//! Every guest register is in the state at each instruction's end; a host register may hold a copy of it beside, so that the next reader
//! needs no load. A copy is forgotten when the host register is wanted or the guest register changes.

use atoll_x86::op::Reg;

use super::asm::{Host, R8, R9, R10, R11, R12, RAX, RBX, RDX};

/// What values may live in. RCX, RSI and RDI are scratch, R13 to R15 have fixed tasks.
const POOL: [Host; 8] = [RAX, RDX, RBX, R8, R9, R10, R11, R12];

/// The operands of the lazy flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum FlagPart {
    A = 1,
    B = 2,
    Result = 4,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Live values in it.
    users: u8,
    /// Guest registers whose 64 bits it has.
    guests: u16,
    /// The upper half is zero.
    clear: bool,
    /// Parts of the flags that it has, see [`FlagPart`].
    flags: u8,
}

/// The state of all host registers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hosts {
    slots: [Slot; 16],
    next: usize,
}

impl Hosts {
    fn slot(&mut self, h: Host) -> &mut Slot {
        &mut self.slots[h.0 as usize]
    }

    fn find(&self, wanted: impl Fn(&Slot) -> bool) -> Option<Host> {
        POOL.into_iter().find(|h| wanted(&self.slots[h.0 as usize]))
    }

    /// A register for a new value. None if all are taken.
    pub(super) fn take(&mut self) -> Option<Host> {
        let idle = self.find(|s| s.users == 0 && s.guests == 0 && s.flags == 0);
        let h = idle.or_else(|| {
            (0..POOL.len()).find_map(|_| {
                self.next = (self.next + 1) % POOL.len();
                let h = POOL[self.next];
                (self.slots[h.0 as usize].users == 0).then_some(h)
            })
        })?;
        *self.slot(h) = Slot {
            users: 1,
            ..Slot::default()
        };
        Some(h)
    }

    /// One more value is in the register.
    pub(super) fn share(&mut self, h: Host) {
        self.slot(h).users += 1;
    }

    /// One value less is in the register; what it is a copy of stays known.
    pub(super) fn release(&mut self, h: Host) {
        self.slot(h).users -= 1;
    }

    /// Whether exactly one value is in the register, so that it may be overwritten with the next.
    pub(super) fn is_alone(&self, h: Host) -> bool {
        self.slots[h.0 as usize].users == 1
    }

    /// The register is about to be overwritten.
    pub(super) fn overwrite(&mut self, h: Host) {
        let s = self.slot(h);
        (s.guests, s.flags, s.clear) = (0, 0, false);
    }

    /// Forgets all copies: control may come from elsewhere, or a function ran.
    pub(super) fn forget_all(&mut self) {
        for h in POOL {
            self.overwrite(h);
        }
    }

    /// Where a copy of a guest register is, and whether its upper half is zero.
    pub(super) fn guest(&self, r: Reg) -> Option<(Host, bool)> {
        let h = self.find(|s| s.guests >> r & 1 != 0)?;
        Some((h, self.slots[h.0 as usize].clear))
    }

    /// The guest register has a new value, of which this is a copy.
    pub(super) fn set_guest(&mut self, r: Reg, copy: Option<(Host, bool)>) {
        for s in &mut self.slots {
            s.guests &= !(1 << r);
        }
        if let Some((h, clear)) = copy {
            let s = self.slot(h);
            s.guests |= 1 << r;
            s.clear |= clear;
        }
    }

    /// A guest register was read into this one.
    pub(super) fn note_guest(&mut self, r: Reg, h: Host) {
        self.slot(h).guests |= 1 << r;
    }

    /// Where a copy of a part of the flags is.
    pub(super) fn flag(&self, part: FlagPart) -> Option<Host> {
        self.find(|s| s.flags & part as u8 != 0)
    }

    /// A part of the flags has a new value, of which this is a copy.
    pub(super) fn set_flag(&mut self, part: FlagPart, copy: Option<Host>) {
        for s in &mut self.slots {
            s.flags &= !(part as u8);
        }
        if let Some(h) = copy {
            self.slot(h).flags |= part as u8;
        }
    }
}
