//! The segments that cases run in: those that Linux gives every process, and a local descriptor table of our own, which the
//! child installs by modify_ldt(2) and the guest builds in its memory. Only by the latter is there code of 16 bits, 16-bit
//! addresses that reach the case's memory, and a limit to run into. Instructions that look at descriptors see both tables.

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

/// Linux's global descriptor table: segments of the kernel, [`CODE_32`], [`USER_DATA`] and [`CODE_64`], the task's and the
/// local table's descriptors, three empty entries for thread-local storage, and [`PER_CPU`].
pub const GDT: [u64; 16] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0x0000_8b00_0000_0067,
    0,
    0x0000_8200_0000_0000,
    0,
    0,
    0,
    0,
    0x0040_f500_0000_0000,
];
/// The task's descriptor, and the local table's.
pub const TASK: u16 = 0x40;
pub const LOCAL: u16 = 0x50;
/// Data that can be read; the limit is the number of the processor, and so the one thing of the table that the guest does not know.
pub const PER_CPU: u16 = 0x7b;

/// A descriptor of a code or data segment of user mode, accessed already, as modify_ldt(2) makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub base: u32,
    /// In bytes or, with `pages`, in pages; 20 bits.
    pub limit: u32,
    pub pages: bool,
    pub code: bool,
    /// Data can be written, code can be read.
    pub open: bool,
    /// Data whose valid offsets are those above the limit; conforming code.
    pub down: bool,
    /// D or B: 32 bits.
    pub big: bool,
    pub present: bool,
    /// AVL, which means nothing.
    pub available: bool,
}

impl Descriptor {
    /// The limit in bytes.
    pub const fn limit_in_bytes(&self) -> u32 {
        match self.pages {
            true => self.limit << 12 | 0xfff,
            false => self.limit,
        }
    }

    /// Whether code can run in it.
    pub const fn runs(&self) -> bool {
        self.code && self.present
    }
}

const DATA_16: Descriptor = Descriptor {
    base: DATA as u32,
    limit: 0xffff,
    pages: false,
    code: false,
    open: true,
    down: false,
    big: false,
    present: true,
    available: true,
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

/// Segments with ends in places of interest.
const SHAPES: [Descriptor; 14] = [
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

/// The local descriptor table: `SHAPES`, an entry that is all zeroes, and a segment of each type that there is.
pub const LDT: [Option<Descriptor>; SHAPES.len() + 1 + TYPES] = table();

/// How many of the 64 combinations of attributes the kernel makes: conforming code must not be present.
const TYPES: usize = 64 - 8;

const fn table() -> [Option<Descriptor>; SHAPES.len() + 1 + TYPES] {
    let mut table = [None; SHAPES.len() + 1 + TYPES];
    let mut n = 0;
    while n < SHAPES.len() {
        table[n] = Some(SHAPES[n]);
        n += 1;
    }
    n += 1;
    let mut bits = 0;
    while bits < 64 {
        let d = of_type(bits);
        if !(d.runs() && d.down) {
            table[n] = Some(d);
            n += 1;
        }
        bits += 1;
    }
    table
}

/// A segment with these attributes. No two have one limit, but for those that grow down from a limit in pages; and each holds part of the
/// case's memory.
const fn of_type(bits: u32) -> Descriptor {
    let [code, open, down, big, pages, present] = [
        bits & 1 != 0,
        bits & 2 != 0,
        bits & 4 != 0,
        bits & 8 != 0,
        bits & 16 != 0,
        bits & 32 != 0,
    ];
    Descriptor {
        base: if code { CODE as u32 } else { DATA as u32 },
        limit: match (pages, down) {
            (false, false) => 0x1f00 | bits,
            (false, true) => 0x1700 | bits,
            (true, false) => 0xf_0000 | bits,
            (true, true) => 0,
        },
        pages,
        code,
        open,
        down,
        big,
        present,
        available: bits % 3 == 1,
    }
}

/// The selector, for user mode, of entry `n` of the table.
pub const fn selector(n: usize) -> u16 {
    (n as u16) << 3 | 7
}

/// The entry that a selector names; None if it is not of the table, or empty.
pub fn descriptor(selector: u16) -> Option<Descriptor> {
    let in_table = selector & 4 != 0;
    let entry = LDT.get(usize::from(selector >> 3));
    entry.filter(|_| in_table).copied().flatten()
}

/// The base of the segment that a selector names: Linux's own are flat.
pub fn base(selector: u16) -> u64 {
    descriptor(selector).map_or(0, |d| u64::from(d.base))
}

/// Selectors of the table's entries that a condition holds for.
pub fn those(condition: impl Fn(&Descriptor) -> bool) -> Vec<u16> {
    let all = LDT.iter().enumerate();
    all.filter(|(_, entry)| entry.as_ref().is_some_and(&condition))
        .map(|(n, _)| selector(n))
        .collect()
}
