//! The segments that cases run in: those that Linux gives every process, and a local descriptor table of our own, which the
//! child installs by modify_ldt(2) and the guest builds in its memory. Only by the latter is there code of 16 bits, 16-bit
//! addresses that reach the case's memory, and a limit to run into.

use crate::layout::{CODE, CODE_LEN, DATA};

/// Linux's code segments for user mode, and its data segment.
pub const CODE_64: u16 = 0x33;
pub const CODE_32: u16 = 0x23;
pub const USER_DATA: u16 = 0x2b;

/// A segment register's place in [`crate::Machine::selectors`]: the encoding's number.
pub const ES: usize = 0;
pub const CS: usize = 1;
pub const SS: usize = 2;
pub const DS: usize = 3;
pub const FS: usize = 4;
pub const GS: usize = 5;

/// A descriptor of a code or data segment of user mode, accessed already, as modify_ldt(2) makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub base: u32,
    /// In bytes; below 1 MiB, for none of these counts in pages.
    pub limit: u32,
    pub code: bool,
    /// Data can be written, code can be read.
    pub open: bool,
    /// Data whose valid offsets are those above the limit.
    pub down: bool,
    /// D or B: 32 bits.
    pub big: bool,
    pub present: bool,
}

const DATA_16: Descriptor = Descriptor {
    base: DATA as u32,
    limit: 0xffff,
    code: false,
    open: true,
    down: false,
    big: false,
    present: true,
};
const DATA_32: Descriptor = Descriptor {
    big: true,
    ..DATA_16
};
const CODE_16: Descriptor = Descriptor {
    base: CODE as u32,
    code: true,
    ..DATA_16
};
/// A limit that is no page's edge.
const SHORT: u32 = 0x17ff;

/// The local descriptor table.
pub const LDT: [Descriptor; 14] = [
    CODE_16,
    // The limit is the end of the code pages.
    Descriptor {
        limit: CODE_LEN as u32 - 1,
        ..CODE_16
    },
    // Execute-only.
    Descriptor {
        open: false,
        ..CODE_16
    },
    Descriptor {
        limit: CODE_LEN as u32 - 1,
        big: true,
        ..CODE_16
    },
    DATA_16,
    DATA_32,
    Descriptor {
        limit: SHORT,
        ..DATA_16
    },
    Descriptor {
        limit: SHORT,
        ..DATA_32
    },
    Descriptor {
        limit: SHORT,
        down: true,
        ..DATA_16
    },
    Descriptor {
        limit: SHORT,
        down: true,
        ..DATA_32
    },
    Descriptor {
        open: false,
        ..DATA_16
    },
    // Offset FFFFH lies in the middle of the pages, and the limit behind it; or is the limit.
    Descriptor {
        base: DATA as u32 - 0xf000,
        limit: 0x1_2fff,
        ..DATA_16
    },
    Descriptor {
        base: DATA as u32 - 0xf000,
        ..DATA_16
    },
    Descriptor {
        present: false,
        ..DATA_32
    },
];

/// The selector, for user mode, of entry `n` of the table.
pub const fn selector(n: usize) -> u16 {
    (n as u16) << 3 | 7
}

/// The entry that a selector names; None if it is not of the table.
pub fn descriptor(selector: u16) -> Option<Descriptor> {
    let in_table = selector & 4 != 0;
    LDT.get(usize::from(selector >> 3))
        .filter(|_| in_table)
        .copied()
}

/// The base of the segment that a selector names: Linux's own are flat.
pub fn base(selector: u16) -> u64 {
    descriptor(selector).map_or(0, |d| u64::from(d.base))
}

/// Selectors of the table's entries that a condition holds for.
pub fn those(condition: impl Fn(&Descriptor) -> bool) -> Vec<u16> {
    let all = LDT.iter().enumerate();
    all.filter(|(_, d)| condition(d))
        .map(|(n, _)| selector(n))
        .collect()
}
