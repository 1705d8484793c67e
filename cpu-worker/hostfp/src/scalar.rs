//! Scalar SSE arithmetic without a look at MXCSR: STMXCSR costs some 30 cycles, a look at the values two.
//!
//! Programs set PE at their first inexact operation and never clear it. From then on an operation of ordinary numbers with an
//! ordinary result raises nothing new: no NaN and no infinity is met (IE, ZE, OE) and no denormal (DE, UE). Each function gives
//! the result where that is certain from the values, else None; so the instruction may run under the host's own MXCSR, whose
//! flags are nobody's.
//!
//! The caller's MXCSR must have the default control bits ([`is_settled`]); comparisons and exact conversions do not need it.

use core::arch::asm;
use core::arch::x86_64::__m128i;

use crate::X;
use crate::ops::{Fp, FpBin, FpCvt, Int};
use crate::sse::{DEFAULT, FLAGS, PE, from_host, to_host};

/// Default control bits, and PE set already.
#[inline(always)]
fn is_settled(mxcsr: u32) -> bool {
    mxcsr & !(FLAGS & !PE) == DEFAULT | PE
}

/// Whether the low lane is a normal number.
#[inline(always)]
fn is_normal(fp: Fp, v: u64) -> bool {
    match fp {
        Fp::Ss => ((v as u32 >> 23) & 0xff).wrapping_sub(1) < 0xfe,
        _ => ((v >> 52) & 0x7ff).wrapping_sub(1) < 0x7fe,
    }
}

#[inline(always)]
fn is_zero(fp: Fp, v: u64) -> bool {
    match fp {
        Fp::Ss => (v as u32) << 1 == 0,
        _ => v << 1 == 0,
    }
}

/// A normal number or a zero.
#[inline(always)]
fn is_plain(fp: Fp, v: u64) -> bool {
    is_normal(fp, v) || is_zero(fp, v)
}

/// A normal number that cannot have been rounded up from a tiny one.
#[inline(always)]
fn is_clear_of_tiny(fp: Fp, v: u64) -> bool {
    match fp {
        Fp::Ss => ((v as u32 >> 23) & 0xff).wrapping_sub(2) < 0xfd,
        _ => ((v >> 52) & 0x7ff).wrapping_sub(2) < 0x7fd,
    }
}

macro_rules! run {
    ($insn:literal, $a:expr, $b:expr) => {{
        let mut value: __m128i = to_host($a);
        // SAFETY: works on registers only, with all exceptions masked.
        unsafe {
            asm!($insn, x = inout(xmm_reg) value, y = in(xmm_reg) to_host($b), options(nostack, nomem));
        }
        from_host(value)
    }};
}

#[inline(always)]
pub(crate) fn bin(op: FpBin, fp: Fp, a: X, b: X, mxcsr: u32) -> Option<X> {
    if matches!(fp, Fp::Ps | Fp::Pd)
        || !is_settled(mxcsr)
        || !is_plain(fp, a[0])
        || !is_plain(fp, b[0])
    {
        return None;
    }
    let single = fp == Fp::Ss;
    let value = match op {
        FpBin::Add if single => run!("addss {x}, {y}", a, b),
        FpBin::Add => run!("addsd {x}, {y}", a, b),
        FpBin::Sub if single => run!("subss {x}, {y}", a, b),
        FpBin::Sub => run!("subsd {x}, {y}", a, b),
        FpBin::Mul if single => run!("mulss {x}, {y}", a, b),
        FpBin::Mul => run!("mulsd {x}, {y}", a, b),
        FpBin::Div if single => run!("divss {x}, {y}", a, b),
        FpBin::Div => run!("divsd {x}, {y}", a, b),
        FpBin::Min if single => return Some(run!("minss {x}, {y}", a, b)),
        FpBin::Min => return Some(run!("minsd {x}, {y}", a, b)),
        FpBin::Max if single => return Some(run!("maxss {x}, {y}", a, b)),
        FpBin::Max => return Some(run!("maxsd {x}, {y}", a, b)),
        FpBin::Hadd | FpBin::Hsub | FpBin::AddSub => return None,
    };
    is_clear_of_tiny(fp, value[0]).then_some(value)
}

#[inline(always)]
pub(crate) fn sqrt(fp: Fp, a: X, b: X, mxcsr: u32) -> Option<X> {
    let positive = match fp {
        Fp::Ss => b[0] as u32 >> 31 == 0,
        Fp::Sd => b[0] >> 63 == 0,
        _ => false,
    };
    if !positive || !is_settled(mxcsr) || !is_plain(fp, b[0]) {
        return None;
    }
    Some(match fp {
        Fp::Ss => run!("sqrtss {x}, {y}", a, b),
        _ => run!("sqrtsd {x}, {y}", a, b),
    })
}

/// (U)COMISx: the flags follow from the values as integers, and nothing is raised.
#[inline(always)]
pub(crate) fn comi(fp: Fp, a: X, b: X) -> Option<u64> {
    if !is_plain(fp, a[0]) || !is_plain(fp, b[0]) {
        return None;
    }
    // Sign and magnitude as signed numbers; the zeros are equal.
    let key = |v: u64| {
        let v = if fp == Fp::Ss { v << 32 } else { v };
        let magnitude = (v & (u64::MAX >> 1)) as i64;
        if v >> 63 != 0 { -magnitude } else { magnitude }
    };
    let (x, y) = (key(a[0]), key(b[0]));
    const ZF: u64 = 0x40;
    Some(u64::from(x < y) | if x == y { ZF } else { 0 })
}

/// CVT(T)Sx2SI: only the integer indefinite tells of an invalid operation.
#[inline(always)]
pub(crate) fn to_int(fp: Fp, int: Int, truncate: bool, a: X, mxcsr: u32) -> Option<u64> {
    if !is_settled(mxcsr) {
        return None;
    }
    let mut value: u64;
    macro_rules! run {
        ($insn:literal) => {
            // SAFETY: works on registers only, with all exceptions masked.
            unsafe { asm!($insn, x = in(xmm_reg) to_host(a), out("rax") value, options(nostack, nomem)) }
        };
    }
    match (fp, int, truncate) {
        (Fp::Ss | Fp::Ps, Int::D, false) => run!("cvtss2si eax, {x}"),
        (Fp::Ss | Fp::Ps, Int::D, true) => run!("cvttss2si eax, {x}"),
        (Fp::Ss | Fp::Ps, Int::Q, false) => run!("cvtss2si rax, {x}"),
        (Fp::Ss | Fp::Ps, Int::Q, true) => run!("cvttss2si rax, {x}"),
        (_, Int::D, false) => run!("cvtsd2si eax, {x}"),
        (_, Int::D, true) => run!("cvttsd2si eax, {x}"),
        (_, Int::Q, false) => run!("cvtsd2si rax, {x}"),
        (_, Int::Q, true) => run!("cvttsd2si rax, {x}"),
    }
    let indefinite = match int {
        Int::D => 1 << 31,
        Int::Q => 1 << 63,
    };
    (value != indefinite).then_some(value)
}

/// CVTSI2Sx: at worst inexact; a 32-bit integer in a double not even that.
#[inline(always)]
pub(crate) fn from_int(fp: Fp, int: Int, a: X, v: u64, mxcsr: u32) -> Option<X> {
    if int == Int::D && fp == Fp::Sd {
        return Some([f64::from(v as i32).to_bits(), a[1]]);
    }
    if !is_settled(mxcsr) {
        return None;
    }
    macro_rules! run {
        ($insn:literal) => {{
            let mut value: __m128i = to_host(a);
            // SAFETY: works on registers only, with all exceptions masked.
            unsafe { asm!($insn, x = inout(xmm_reg) value, in("rax") v, options(nostack, nomem)) }
            from_host(value)
        }};
    }
    Some(match (fp, int) {
        (Fp::Ss | Fp::Ps, Int::D) => run!("cvtsi2ss {x}, eax"),
        (Fp::Ss | Fp::Ps, Int::Q) => run!("cvtsi2ss {x}, rax"),
        (_, Int::D) => run!("cvtsi2sd {x}, eax"),
        (_, Int::Q) => run!("cvtsi2sd {x}, rax"),
    })
}

/// Between the two scalar formats.
#[inline(always)]
pub(crate) fn convert(op: FpCvt, a: X, b: X, mxcsr: u32) -> Option<X> {
    match op {
        FpCvt::Ss2Sd if mxcsr & !FLAGS == DEFAULT && is_plain(Fp::Ss, b[0]) => {
            Some(run!("cvtss2sd {x}, {y}", a, b))
        }
        FpCvt::Sd2Ss if is_settled(mxcsr) && is_plain(Fp::Sd, b[0]) => {
            let value = run!("cvtsd2ss {x}, {y}", a, b);
            is_clear_of_tiny(Fp::Ss, value[0]).then_some(value)
        }
        _ => None,
    }
}
