//! EFLAGS: bit names, and the lazy form in which both engines keep the arithmetic flags.
//!
//! The last flag-setting operation is remembered as `(op, width, a, b, result)`, all values zero-extended to 64 bits, and
//! turned into bits only when somebody asks. Seven forms cover all instructions.

use serde::{Deserialize, Serialize};

use crate::op::{Cond, Width};

pub const CF: u64 = 1;
pub const PF: u64 = 1 << 2;
pub const AF: u64 = 1 << 4;
pub const ZF: u64 = 1 << 6;
pub const SF: u64 = 1 << 7;
pub const TF: u64 = 1 << 8;
pub const IF: u64 = 1 << 9;
pub const DF: u64 = 1 << 10;
pub const OF: u64 = 1 << 11;
pub const IOPL: u64 = 3 << 12;
pub const NT: u64 = 1 << 14;
pub const RF: u64 = 1 << 16;
pub const VM: u64 = 1 << 17;
pub const AC: u64 = 1 << 18;
pub const VIF: u64 = 1 << 19;
pub const VIP: u64 = 1 << 20;
pub const ID: u64 = 1 << 21;
/// CF, PF, AF, ZF, SF and OF.
pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;

/// How the arithmetic flags follow from `(a, b, result)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(u32)]
pub enum FlagOp {
    /// `result` holds the bits of [`ARITH`] themselves.
    #[default]
    Real = 0,
    /// result = a + b, with or without carry in (ADD, ADC, XADD).
    Add = 1,
    /// result = a - b, with or without borrow in (SUB, SBB, CMP, NEG with a = 0, CMPS, SCAS, CMPXCHG).
    Sub = 2,
    /// AND, OR, XOR, TEST: CF, OF and AF are zero.
    Logic = 3,
    /// ZF, SF and PF from `result`; CF, AF and OF are the bits of `a` (shifts, multiplications).
    Szp = 4,
    /// result = x + 1; CF is that of `a`, which has no other bit.
    Inc = 5,
    /// result = x - 1; CF likewise.
    Dec = 6,
}

impl FlagOp {
    /// Whether the flags follow from `a` too.
    #[inline(always)]
    pub fn reads_a(self) -> bool {
        !matches!(self, FlagOp::Real | FlagOp::Logic)
    }

    /// Whether the flags follow from `b` too.
    #[inline(always)]
    pub fn reads_b(self) -> bool {
        matches!(self, FlagOp::Add | FlagOp::Sub)
    }

    /// The flags that `a` holds as bits.
    #[inline(always)]
    pub fn packed(self) -> u64 {
        match self {
            FlagOp::Szp => CF | AF | OF,
            FlagOp::Inc | FlagOp::Dec => CF,
            FlagOp::Real | FlagOp::Add | FlagOp::Sub | FlagOp::Logic => 0,
        }
    }
}

/// The flags that decide a condition (SDM volume 1, appendix B).
pub fn read_by(cond: Cond) -> u64 {
    match cond {
        Cond::O | Cond::No => OF,
        Cond::B | Cond::Ae => CF,
        Cond::E | Cond::Ne => ZF,
        Cond::Be | Cond::A => CF | ZF,
        Cond::S | Cond::Ns => SF,
        Cond::P | Cond::Np => PF,
        Cond::L | Cond::Ge => SF | OF,
        Cond::Le | Cond::G => ZF | SF | OF,
    }
}

/// The arithmetic flags, not yet computed. `repr(C)`: emitted code stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct LazyFlags {
    pub op: FlagOp,
    /// A [`Width`] as an integer.
    pub width: u32,
    pub a: u64,
    pub b: u64,
    pub result: u64,
}

impl LazyFlags {
    /// Flags already computed.
    #[inline(always)]
    pub fn real(bits: u64) -> LazyFlags {
        LazyFlags {
            op: FlagOp::Real,
            width: 3,
            a: 0,
            b: 0,
            result: bits & ARITH,
        }
    }

    #[inline(always)]
    fn sign(&self) -> u64 {
        1 << ((8u32 << self.width) - 1)
    }
    #[inline(always)]
    fn mask(&self) -> u64 {
        u64::MAX >> (64 - (8u32 << self.width))
    }

    /// The carry out of every bit position of the addition or subtraction.
    #[inline(always)]
    fn carries(&self) -> u64 {
        let (a, b, r) = (self.a, self.b, self.result);
        match self.op {
            FlagOp::Add => (a & b) | ((a | b) & !r),
            _ => (!a & b) | ((!a | b) & r),
        }
    }

    #[inline(always)]
    pub fn cf(&self) -> bool {
        match self.op {
            FlagOp::Real => self.result & CF != 0,
            FlagOp::Add | FlagOp::Sub => self.carries() & self.sign() != 0,
            FlagOp::Logic => false,
            FlagOp::Szp | FlagOp::Inc | FlagOp::Dec => self.a & CF != 0,
        }
    }
    #[inline(always)]
    pub fn of(&self) -> bool {
        let (a, b, r) = (self.a, self.b, self.result);
        match self.op {
            FlagOp::Real => r & OF != 0,
            FlagOp::Add => (a ^ r) & (b ^ r) & self.sign() != 0,
            FlagOp::Sub => (a ^ b) & (a ^ r) & self.sign() != 0,
            FlagOp::Logic => false,
            FlagOp::Szp => a & OF != 0,
            FlagOp::Inc => r == self.sign(),
            FlagOp::Dec => r == self.sign() - 1,
        }
    }
    #[inline(always)]
    pub fn af(&self) -> bool {
        match self.op {
            FlagOp::Real => self.result & AF != 0,
            FlagOp::Add | FlagOp::Sub => (self.a ^ self.b ^ self.result) & AF != 0,
            FlagOp::Logic => false,
            FlagOp::Szp => self.a & AF != 0,
            FlagOp::Inc => self.result & 15 == 0,
            FlagOp::Dec => self.result & 15 == 15,
        }
    }
    #[inline(always)]
    pub fn zf(&self) -> bool {
        match self.op {
            FlagOp::Real => self.result & ZF != 0,
            _ => self.result & self.mask() == 0,
        }
    }
    #[inline(always)]
    pub fn sf(&self) -> bool {
        match self.op {
            FlagOp::Real => self.result & SF != 0,
            _ => self.result & self.sign() != 0,
        }
    }
    #[inline(always)]
    pub fn pf(&self) -> bool {
        match self.op {
            FlagOp::Real => self.result & PF != 0,
            _ => (self.result as u8).count_ones() & 1 == 0,
        }
    }

    /// All arithmetic flags as EFLAGS bits.
    pub fn bits(&self) -> u64 {
        if self.op == FlagOp::Real {
            return self.result & ARITH;
        }
        let bit = |on: bool, flag: u64| if on { flag } else { 0 };
        bit(self.cf(), CF)
            | bit(self.pf(), PF)
            | bit(self.af(), AF)
            | bit(self.zf(), ZF)
            | bit(self.sf(), SF)
            | bit(self.of(), OF)
    }

    /// Whether `cond` holds.
    #[inline(always)]
    pub fn cond(&self, cond: Cond) -> bool {
        match cond {
            Cond::O => self.of(),
            Cond::No => !self.of(),
            Cond::B => self.cf(),
            Cond::Ae => !self.cf(),
            Cond::E => self.zf(),
            Cond::Ne => !self.zf(),
            Cond::Be => self.cf() || self.zf(),
            Cond::A => !(self.cf() || self.zf()),
            Cond::S => self.sf(),
            Cond::Ns => !self.sf(),
            Cond::P => self.pf(),
            Cond::Np => !self.pf(),
            Cond::L => self.sf() != self.of(),
            Cond::Ge => self.sf() == self.of(),
            Cond::Le => self.zf() || self.sf() != self.of(),
            Cond::G => !self.zf() && self.sf() == self.of(),
        }
    }

    /// The width as a type.
    pub fn width(&self) -> Width {
        [Width::B, Width::W, Width::D, Width::Q][(self.width & 3) as usize]
    }
}
