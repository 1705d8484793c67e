//! SSE arithmetic under a given MXCSR.
//!
//! Every function takes the guest's MXCSR and gives the result, the MXCSR after the instruction, and whether an unmasked
//! exception was signalled. In that case the value is not to be committed but the MXCSR is: its flags are set before #XM.
//!
//! Where the values alone tell that no new flag can come, `scalar` does without MXCSR. Otherwise there are three paths, chosen
//! by the guest's control bits:
//! - *default* control: the instruction runs under the host's own MXCSR, which is the same, and only STMXCSR follows. If
//!   the host's sticky flags then are all set in the guest's too, nothing is new. Otherwise it runs once more with
//!   the guest's MXCSR loaded, to tell new flags from stale ones; that also leaves the host's equal to the guest's, so it
//!   happens once for each change.
//! - other control bits, all masked: loaded before and restored after.
//! - something unmasked: run masked, with clear flags; see `signal`.

use core::arch::asm;
use core::arch::x86_64::__m128i;

use crate::X;
use crate::approx;
use crate::ops::{Fp, FpBin, FpCvt, FpUn, Int};
use crate::{predicates, scalar, unbounded};

/// MXCSR of the ABI, and of a CPU after reset: all masked, round to nearest, no FTZ, no DAZ.
pub const DEFAULT: u32 = 0x1f80;
/// The sticky flags.
pub const FLAGS: u32 = 0x3f;
/// All mask bits.
const MASKS: u32 = 0x1f80;
/// Invalid, denormal and zero-divide: found before computing.
const PRE: u32 = 7;
pub(crate) const OE: u32 = 8;
pub(crate) const UE: u32 = 0x10;
pub(crate) const PE: u32 = 0x20;
const FTZ: u32 = 0x8000;

/// What an instruction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Done<T> {
    pub value: T,
    /// MXCSR afterwards; valid (flags set) also when `trap` is.
    pub mxcsr: u32,
    /// An unmasked exception was signalled: nothing but MXCSR may be committed.
    pub trap: bool,
}

/// Which lanes of a result tell of an exact tiny value, which raises UE only when it is unmasked (SDM vol. 1, 4.9.1.5).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tiny {
    Never,
    Lanes(Fp),
}

#[inline(always)]
pub(crate) fn to_host(x: X) -> __m128i {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(x) }
}

#[inline(always)]
pub(crate) fn from_host(x: __m128i) -> X {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(x) }
}

/// Results that can be asked whether they hold an exact denormal.
trait Lanes: Copy {
    fn tiny(self, fp: Fp) -> bool;
}
impl Lanes for X {
    fn tiny(self, fp: Fp) -> bool {
        let single = |v: u32| v & 0x7f80_0000 == 0 && v & 0x7f_ffff != 0;
        let double = |v: u64| v & (0x7ff << 52) == 0 && v & ((1 << 52) - 1) != 0;
        let pair = |v: u64| single(v as u32) || single((v >> 32) as u32);
        match fp {
            Fp::Ss => single(self[0] as u32),
            Fp::Sd => double(self[0]),
            Fp::Ps => pair(self[0]) || pair(self[1]),
            Fp::Pd => double(self[0]) || double(self[1]),
        }
    }
}
impl Lanes for u64 {
    fn tiny(self, _: Fp) -> bool {
        false
    }
}

/// Runs an instruction that was given as two closures: under the host's own MXCSR, and under a given one.
#[inline(always)]
fn run<T: Lanes>(
    mxcsr: u32,
    tiny: Tiny,
    plain: impl Fn() -> (T, u32),
    under: impl Fn(u32) -> (T, u32),
) -> Done<T> {
    if mxcsr & !FLAGS == DEFAULT {
        let (value, after) = plain();
        if after & !mxcsr & FLAGS == 0 {
            return Done {
                value,
                mxcsr,
                trap: false,
            };
        }
    }
    slow(mxcsr, tiny, under)
}

#[inline(never)]
#[cold]
fn slow<T: Lanes>(mxcsr: u32, tiny: Tiny, under: impl Fn(u32) -> (T, u32)) -> Done<T> {
    if mxcsr & MASKS == MASKS {
        let (value, mxcsr) = under(mxcsr);
        return Done {
            value,
            mxcsr,
            trap: false,
        };
    }
    // Flush-to-zero has no effect while underflow is unmasked (SDM vol. 1, 10.2.3.3).
    let ftz = if mxcsr & (UE << 7) == 0 { FTZ } else { 0 };
    let (value, after) = under((mxcsr | MASKS) & !(FLAGS | ftz));
    signal(mxcsr, value, after & FLAGS, tiny)
}

/// Which flags an instruction with unmasked exceptions sets, and whether it traps: an unmasked exception found before
/// computing wins, and then no later one is reported (SDM vol. 1, 11.5.3).
fn signal<T: Lanes>(mxcsr: u32, value: T, mut raised: u32, tiny: Tiny) -> Done<T> {
    let unmasked = !(mxcsr >> 7) & FLAGS;
    if raised & unmasked & PRE != 0 {
        raised &= PRE;
    } else if let Tiny::Lanes(fp) = tiny
        && unmasked & UE != 0
        && value.tiny(fp)
    {
        raised |= UE;
    }
    Done {
        value,
        mxcsr: mxcsr | raised,
        trap: raised & unmasked != 0,
    }
}

/// A stub for an instruction `dst, src` on vectors, dst read too.
macro_rules! xx {
    ($insn:expr, $a:expr, $b:expr, $mxcsr:expr, $tiny:expr) => {{
        let (a, b) = (to_host($a), to_host($b));
        run(
            $mxcsr,
            $tiny,
            || {
                let mut value = a;
                let mut after = 0u32;
                // SAFETY: the instruction works on registers only; STMXCSR writes the local it is given.
                unsafe {
                    asm!($insn, "stmxcsr [{m}]", x = inout(xmm_reg) value, y = in(xmm_reg) b,
                         m = in(reg) &raw mut after, options(nostack));
                }
                (from_host(value), after)
            },
            |mxcsr| {
                let mut value = a;
                let mut word = mxcsr;
                // SAFETY: as above; the caller gives an MXCSR with all exceptions masked and no reserved bit, and the
                // default is back before the block ends.
                unsafe {
                    asm!("ldmxcsr [{m}]", $insn, "stmxcsr [{m}]", "ldmxcsr [{d}]", x = inout(xmm_reg) value,
                         y = in(xmm_reg) b, m = in(reg) &raw mut word, d = in(reg) &raw const DEFAULT_WORD,
                         options(nostack));
                }
                (from_host(value), word)
            },
        )
    }};
}

/// A stub for an instruction from a vector (or two, compared) to a general register.
macro_rules! xr {
    ($insn:expr, $a:expr, $b:expr, $mxcsr:expr) => {{
        let (a, b) = (to_host($a), to_host($b));
        run(
            $mxcsr,
            Tiny::Never,
            || {
                let mut value = 0u64;
                let mut after = 0u32;
                // SAFETY: the instruction works on registers only; STMXCSR writes the local it is given.
                unsafe {
                    asm!($insn, "stmxcsr [{m}]", x = in(xmm_reg) a, y = in(xmm_reg) b, inout("rax") value,
                         m = in(reg) &raw mut after, options(nostack));
                }
                (value, after)
            },
            |mxcsr| {
                let mut value = 0u64;
                let mut word = mxcsr;
                // SAFETY: as above; the default is back before the block ends.
                unsafe {
                    asm!("ldmxcsr [{m}]", $insn, "stmxcsr [{m}]", "ldmxcsr [{d}]", x = in(xmm_reg) a,
                         y = in(xmm_reg) b, inout("rax") value, m = in(reg) &raw mut word,
                         d = in(reg) &raw const DEFAULT_WORD, options(nostack));
                }
                (value, word)
            },
        )
    }};
}

/// A stub for an instruction from a general register into the low lane of a vector.
macro_rules! rx {
    ($insn:expr, $a:expr, $v:expr, $mxcsr:expr) => {{
        let (a, v) = (to_host($a), $v);
        run(
            $mxcsr,
            Tiny::Never,
            || {
                let mut value = a;
                let mut after = 0u32;
                // SAFETY: the instruction works on registers only; STMXCSR writes the local it is given.
                unsafe {
                    asm!($insn, "stmxcsr [{m}]", x = inout(xmm_reg) value, in("rax") v,
                         m = in(reg) &raw mut after, options(nostack));
                }
                (from_host(value), after)
            },
            |mxcsr| {
                let mut value = a;
                let mut word = mxcsr;
                // SAFETY: as above; the default is back before the block ends.
                unsafe {
                    asm!("ldmxcsr [{m}]", $insn, "stmxcsr [{m}]", "ldmxcsr [{d}]", x = inout(xmm_reg) value,
                         in("rax") v, m = in(reg) &raw mut word, d = in(reg) &raw const DEFAULT_WORD,
                         options(nostack));
                }
                (from_host(value), word)
            },
        )
    }};
}

pub(crate) static DEFAULT_WORD: u32 = DEFAULT;

/// ADDxx to ADDSUBPx; see `arithmetic`.
#[inline(always)]
pub fn bin(op: FpBin, fp: Fp, a: X, b: X, mxcsr: u32) -> Done<X> {
    if let Some(value) = scalar::bin(op, fp, a, b, mxcsr) {
        return silent(value, mxcsr);
    }
    let done = arithmetic(op, fp, a, b, mxcsr);
    if done.trap {
        return trapped(op, fp, a, b, mxcsr, done);
    }
    done
}

/// The result of an instruction that raised nothing new.
#[inline(always)]
fn silent<T>(value: T, mxcsr: u32) -> Done<T> {
    Done {
        value,
        mxcsr,
        trap: false,
    }
}

/// An unmasked overflow or underflow is rounded as if the exponent had no bounds, and only what that loses raises PE.
#[cold]
fn trapped(op: FpBin, fp: Fp, a: X, b: X, mxcsr: u32, mut done: Done<X>) -> Done<X> {
    let new = done.mxcsr & !mxcsr;
    if new & PE != 0 && !unbounded::is_inexact(op, fp, a, b, mxcsr) {
        done.mxcsr &= !PE;
    }
    done
}

/// HADD, HSUB and ADDSUB have packed forms only; a scalar one acts as its packed form.
#[inline(always)]
pub(crate) fn arithmetic(op: FpBin, fp: Fp, a: X, b: X, mxcsr: u32) -> Done<X> {
    macro_rules! four {
        ($ss:literal, $sd:literal, $ps:literal, $pd:literal, $tiny:expr) => {
            match fp {
                Fp::Ss => xx!($ss, a, b, mxcsr, $tiny),
                Fp::Sd => xx!($sd, a, b, mxcsr, $tiny),
                Fp::Ps => xx!($ps, a, b, mxcsr, $tiny),
                Fp::Pd => xx!($pd, a, b, mxcsr, $tiny),
            }
        };
    }
    macro_rules! packed {
        ($ps:literal, $pd:literal) => {
            match fp {
                Fp::Ss | Fp::Ps => xx!($ps, a, b, mxcsr, Tiny::Lanes(Fp::Ps)),
                Fp::Sd | Fp::Pd => xx!($pd, a, b, mxcsr, Tiny::Lanes(Fp::Pd)),
            }
        };
    }
    let tiny = Tiny::Lanes(fp);
    match op {
        FpBin::Add => four!(
            "addss {x}, {y}",
            "addsd {x}, {y}",
            "addps {x}, {y}",
            "addpd {x}, {y}",
            tiny
        ),
        FpBin::Sub => four!(
            "subss {x}, {y}",
            "subsd {x}, {y}",
            "subps {x}, {y}",
            "subpd {x}, {y}",
            tiny
        ),
        FpBin::Mul => four!(
            "mulss {x}, {y}",
            "mulsd {x}, {y}",
            "mulps {x}, {y}",
            "mulpd {x}, {y}",
            tiny
        ),
        FpBin::Div => four!(
            "divss {x}, {y}",
            "divsd {x}, {y}",
            "divps {x}, {y}",
            "divpd {x}, {y}",
            tiny
        ),
        FpBin::Min => four!(
            "minss {x}, {y}",
            "minsd {x}, {y}",
            "minps {x}, {y}",
            "minpd {x}, {y}",
            Tiny::Never
        ),
        FpBin::Max => four!(
            "maxss {x}, {y}",
            "maxsd {x}, {y}",
            "maxps {x}, {y}",
            "maxpd {x}, {y}",
            Tiny::Never
        ),
        FpBin::Hadd => packed!("haddps {x}, {y}", "haddpd {x}, {y}"),
        FpBin::Hsub => packed!("hsubps {x}, {y}", "hsubpd {x}, {y}"),
        FpBin::AddSub => packed!("addsubps {x}, {y}", "addsubpd {x}, {y}"),
    }
}

/// SQRTxx, RCPxS, RSQRTxS and ROUNDxx; scalar ones keep the rest of `a`.
#[inline]
pub fn un(op: FpUn, fp: Fp, a: X, b: X, imm: u8, mxcsr: u32) -> Done<X> {
    match op {
        FpUn::Sqrt => sqrt(fp, a, b, mxcsr),
        FpUn::Round => round(fp, a, b, imm, mxcsr),
        FpUn::Rcp | FpUn::Rsqrt => Done {
            value: approximate(op, fp, a, b),
            mxcsr,
            trap: false,
        },
    }
}

#[inline(always)]
fn sqrt(fp: Fp, a: X, b: X, mxcsr: u32) -> Done<X> {
    if let Some(value) = scalar::sqrt(fp, a, b, mxcsr) {
        return silent(value, mxcsr);
    }
    match fp {
        Fp::Ss => xx!("sqrtss {x}, {y}", a, b, mxcsr, Tiny::Never),
        Fp::Sd => xx!("sqrtsd {x}, {y}", a, b, mxcsr, Tiny::Never),
        Fp::Ps => xx!("sqrtps {x}, {y}", a, b, mxcsr, Tiny::Never),
        Fp::Pd => xx!("sqrtpd {x}, {y}", a, b, mxcsr, Tiny::Never),
    }
}

/// RCPxS and RSQRTxS raise no flag and read no control bit.
fn approximate(op: FpUn, fp: Fp, a: X, b: X) -> X {
    let one = |v: u32| match op {
        FpUn::Rcp => approx::rcp(v),
        _ => approx::rsqrt(v),
    };
    let two = |v: u64| u64::from(one(v as u32)) | u64::from(one((v >> 32) as u32)) << 32;
    match fp {
        Fp::Ss => [a[0] >> 32 << 32 | u64::from(one(b[0] as u32)), a[1]],
        _ => [two(b[0]), two(b[1])],
    }
}

/// ROUNDxx. The immediate's rounding mode becomes the instruction's own; bits 4 to 7 are ignored.
fn round(fp: Fp, a: X, b: X, imm: u8, mxcsr: u32) -> Done<X> {
    macro_rules! imms {
        ($insn:literal, $($n:literal)*) => {
            match imm & 15 {
                $($n => xx!(concat!($insn, " {x}, {y}, ", $n), a, b, mxcsr, Tiny::Never),)*
                _ => unreachable!("four bits"),
            }
        };
    }
    match fp {
        Fp::Ss => imms!("roundss", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        Fp::Sd => imms!("roundsd", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        Fp::Ps => imms!("roundps", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        Fp::Pd => imms!("roundpd", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
    }
}

/// CMPxx with a predicate: the eight of SSE, or the 32 of VCMPxx, the others of which are made of those eight.
#[inline]
pub fn cmp(fp: Fp, a: X, b: X, predicate: u8, mxcsr: u32) -> Done<X> {
    match predicate {
        0..8 => compare(fp, a, b, predicate, mxcsr),
        _ => predicates::compare(fp, a, b, predicate, mxcsr),
    }
}

/// CMPxx with one of SSE's predicates.
pub(crate) fn compare(fp: Fp, a: X, b: X, predicate: u8, mxcsr: u32) -> Done<X> {
    macro_rules! imms {
        ($insn:literal, $($n:literal)*) => {
            match predicate & 7 {
                $($n => xx!(concat!($insn, " {x}, {y}, ", $n), a, b, mxcsr, Tiny::Never),)*
                _ => unreachable!("three bits"),
            }
        };
    }
    match fp {
        Fp::Ss => imms!("cmpss", 0 1 2 3 4 5 6 7),
        Fp::Sd => imms!("cmpsd", 0 1 2 3 4 5 6 7),
        Fp::Ps => imms!("cmpps", 0 1 2 3 4 5 6 7),
        Fp::Pd => imms!("cmppd", 0 1 2 3 4 5 6 7),
    }
}

/// (U)COMISx: ZF, PF and CF as EFLAGS bits. `fp` is Ss or Sd.
#[inline(always)]
pub fn comi(fp: Fp, quiet: bool, a: X, b: X, mxcsr: u32) -> Done<u64> {
    if let Some(flags) = scalar::comi(fp, a, b) {
        return silent(flags, mxcsr);
    }
    let mut done = match (fp, quiet) {
        (Fp::Ss | Fp::Ps, true) => xr!("ucomiss {x}, {y}\nlahf", a, b, mxcsr),
        (Fp::Ss | Fp::Ps, false) => xr!("comiss {x}, {y}\nlahf", a, b, mxcsr),
        (_, true) => xr!("ucomisd {x}, {y}\nlahf", a, b, mxcsr),
        (_, false) => xr!("comisd {x}, {y}\nlahf", a, b, mxcsr),
    };
    done.value = done.value >> 8 & 0x45;
    done
}

/// CVT(T)SS2SI and CVT(T)SD2SI. A 32-bit result is zero-extended.
#[inline(always)]
pub fn to_int(fp: Fp, int: Int, truncate: bool, a: X, mxcsr: u32) -> Done<u64> {
    if let Some(value) = scalar::to_int(fp, int, truncate, a, mxcsr) {
        return silent(value, mxcsr);
    }
    match (fp, int, truncate) {
        (Fp::Ss | Fp::Ps, Int::D, false) => xr!("cvtss2si eax, {x} /* {y} */", a, a, mxcsr),
        (Fp::Ss | Fp::Ps, Int::D, true) => xr!("cvttss2si eax, {x} /* {y} */", a, a, mxcsr),
        (Fp::Ss | Fp::Ps, Int::Q, false) => xr!("cvtss2si rax, {x} /* {y} */", a, a, mxcsr),
        (Fp::Ss | Fp::Ps, Int::Q, true) => xr!("cvttss2si rax, {x} /* {y} */", a, a, mxcsr),
        (_, Int::D, false) => xr!("cvtsd2si eax, {x} /* {y} */", a, a, mxcsr),
        (_, Int::D, true) => xr!("cvttsd2si eax, {x} /* {y} */", a, a, mxcsr),
        (_, Int::Q, false) => xr!("cvtsd2si rax, {x} /* {y} */", a, a, mxcsr),
        (_, Int::Q, true) => xr!("cvttsd2si rax, {x} /* {y} */", a, a, mxcsr),
    }
}

/// CVTSI2SS and CVTSI2SD into the low lane of `a`.
#[inline(always)]
pub fn from_int(fp: Fp, int: Int, a: X, v: u64, mxcsr: u32) -> Done<X> {
    if let Some(value) = scalar::from_int(fp, int, a, v, mxcsr) {
        return silent(value, mxcsr);
    }
    match (fp, int) {
        (Fp::Ss | Fp::Ps, Int::D) => rx!("cvtsi2ss {x}, eax", a, v, mxcsr),
        (Fp::Ss | Fp::Ps, Int::Q) => rx!("cvtsi2ss {x}, rax", a, v, mxcsr),
        (_, Int::D) => rx!("cvtsi2sd {x}, eax", a, v, mxcsr),
        (_, Int::Q) => rx!("cvtsi2sd {x}, rax", a, v, mxcsr),
    }
}

/// The conversions between vectors.
#[inline]
pub fn convert(op: FpCvt, a: X, b: X, mxcsr: u32) -> Done<X> {
    if let Some(value) = scalar::convert(op, a, b, mxcsr) {
        return silent(value, mxcsr);
    }
    let mut done = conversion(op, a, b, mxcsr);
    if done.trap && matches!(op, FpCvt::Sd2Ss | FpCvt::Pd2Ps) {
        let new = done.mxcsr & !mxcsr;
        if new & PE != 0 && !unbounded::is_narrowing_inexact(op, b, mxcsr) {
            done.mxcsr &= !PE;
        }
    }
    done
}

#[inline(always)]
pub(crate) fn conversion(op: FpCvt, a: X, b: X, mxcsr: u32) -> Done<X> {
    let never = Tiny::Never;
    match op {
        FpCvt::Ss2Sd => xx!("cvtss2sd {x}, {y}", a, b, mxcsr, never),
        FpCvt::Sd2Ss => xx!("cvtsd2ss {x}, {y}", a, b, mxcsr, Tiny::Lanes(Fp::Ss)),
        FpCvt::Ps2Pd => xx!("cvtps2pd {x}, {y}", a, b, mxcsr, never),
        FpCvt::Pd2Ps => xx!("cvtpd2ps {x}, {y}", a, b, mxcsr, Tiny::Lanes(Fp::Ps)),
        FpCvt::Dq2Ps => xx!("cvtdq2ps {x}, {y}", a, b, mxcsr, never),
        FpCvt::Ps2Dq => xx!("cvtps2dq {x}, {y}", a, b, mxcsr, never),
        FpCvt::TPs2Dq => xx!("cvttps2dq {x}, {y}", a, b, mxcsr, never),
        FpCvt::Dq2Pd => xx!("cvtdq2pd {x}, {y}", a, b, mxcsr, never),
        FpCvt::Pd2Dq => xx!("cvtpd2dq {x}, {y}", a, b, mxcsr, never),
        FpCvt::TPd2Dq => xx!("cvttpd2dq {x}, {y}", a, b, mxcsr, never),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pd(lo: f64, hi: f64) -> X {
        [lo.to_bits(), hi.to_bits()]
    }

    #[test]
    fn stale_host_flags_do_not_reach_the_guest() {
        // An inexact addition leaves PE in the host's MXCSR; the exact one after it must not see it.
        let inexact = bin(FpBin::Add, Fp::Sd, pd(1.0, 7.0), pd(1e-30, 0.0), DEFAULT);
        assert_eq!(inexact.mxcsr, DEFAULT | 0x20);
        let exact = bin(FpBin::Add, Fp::Sd, pd(1.0, 7.0), pd(2.0, 0.0), DEFAULT);
        assert_eq!(
            (exact.value, exact.mxcsr, exact.trap),
            (pd(3.0, 7.0), DEFAULT, false)
        );
    }

    #[test]
    fn rounding_control_is_the_guests() {
        let up = DEFAULT | 2 << 13;
        let third = bin(FpBin::Div, Fp::Pd, pd(1.0, 1.0), pd(3.0, 2.0), up);
        assert_eq!(third.value, [0x3fd5_5555_5555_5556, 0.5f64.to_bits()]);
        assert_eq!(third.mxcsr, up | 0x20);
        assert_eq!(to_int(Fp::Sd, Int::Q, false, pd(1.25, 0.0), up).value, 2);
        let nearest = to_int(Fp::Sd, Int::D, false, pd(-1.25, 0.0), DEFAULT);
        assert_eq!(nearest.value, 0xffff_ffff);
    }

    #[test]
    fn unmasked_exceptions_are_reported_and_flagged() {
        let zm = DEFAULT & !0x200;
        let done = bin(FpBin::Div, Fp::Pd, pd(1.0, 1.0), pd(0.0, 3.0), zm);
        // The second lane's inexactness is not reported: an earlier exception trapped.
        assert_eq!((done.mxcsr, done.trap), (zm | 4, true));
        let um = DEFAULT & !0x800;
        let tiny = bin(
            FpBin::Mul,
            Fp::Sd,
            pd(f64::MIN_POSITIVE, 0.0),
            pd(0.5, 0.0),
            um,
        );
        assert_eq!((tiny.mxcsr, tiny.trap), (um | 0x10, true));
        let sticky = bin(FpBin::Add, Fp::Sd, pd(1.0, 0.0), pd(1.0, 0.0), um | 0x10);
        assert!(!sticky.trap, "a flag already set does not trap again");
    }

    #[test]
    fn what_values_tell_is_what_mxcsr_says() {
        let special = [
            0u64,
            1,
            0xf_ffff_ffff_ffff,
            0x10_0000_0000_0000,
            0x20_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x7ff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            0x3ff0_0000_0000_0000,
            0x41df_ffff_ffc0_0000,
            0x43df_ffff_ffff_ffff,
            0x3ca0_0000_0000_0001,
            0x36a0_0000_0000_0000,
            0x47ef_ffff_ffff_ffff,
            0x3810_0000_0000_0000,
            0x5fe1_2345_6789_abcd,
            0x2001_2345_6789_abcd,
            0x3fd5_5555_5555_5555,
            0x0080_0000_3f80_0001,
            0x7f7f_ffff,
        ];
        let values: Vec<u64> = special
            .iter()
            .flat_map(|&v| [v, v | 1 << 63, v.rotate_left(32)])
            .collect();
        const STICKY: u32 = DEFAULT | PE;
        for (x, y) in values
            .iter()
            .flat_map(|&x| values.iter().map(move |&y| (x, y)))
        {
            let (a, b) = ([x, 3], [y, 5]);
            for fp in [Fp::Ss, Fp::Sd] {
                for op in [
                    FpBin::Add,
                    FpBin::Sub,
                    FpBin::Mul,
                    FpBin::Div,
                    FpBin::Min,
                    FpBin::Max,
                ] {
                    if let Some(value) = scalar::bin(op, fp, a, b, STICKY) {
                        assert_eq!(
                            silent(value, STICKY),
                            arithmetic(op, fp, a, b, STICKY),
                            "{op:?} {a:x?} {b:x?}"
                        );
                    }
                }
                if let Some(flags) = scalar::comi(fp, a, b) {
                    let exact = slow_comi(fp, a, b);
                    assert_eq!((flags, STICKY), exact, "{a:x?} {b:x?}");
                }
                for (int, truncate) in [
                    (Int::D, false),
                    (Int::D, true),
                    (Int::Q, false),
                    (Int::Q, true),
                ] {
                    if scalar::to_int(fp, int, truncate, a, STICKY).is_some() {
                        let nothing_new = STICKY & !PE;
                        assert_eq!(
                            to_int(fp, int, truncate, a, nothing_new).mxcsr | PE,
                            STICKY,
                            "{a:x?}"
                        );
                    }
                }
            }
            for op in [FpCvt::Ss2Sd, FpCvt::Sd2Ss] {
                if let Some(value) = scalar::convert(op, a, b, STICKY) {
                    assert_eq!(
                        silent(value, STICKY),
                        conversion(op, a, b, STICKY),
                        "{op:?} {b:x?}"
                    );
                }
            }
        }
    }

    /// COMISx as MXCSR sees it: the comparison that raises most.
    fn slow_comi(fp: Fp, a: X, b: X) -> (u64, u32) {
        let done = match fp {
            Fp::Ss => xr!("comiss {x}, {y}\nlahf", a, b, DEFAULT | PE),
            _ => xr!("comisd {x}, {y}\nlahf", a, b, DEFAULT | PE),
        };
        (done.value >> 8 & 0x45, done.mxcsr)
    }

    #[test]
    fn comparisons_give_zf_pf_cf() {
        let nan = pd(f64::NAN, 0.0);
        assert_eq!(comi(Fp::Sd, true, nan, nan, DEFAULT).value, 0x45);
        assert_eq!(comi(Fp::Sd, true, nan, nan, DEFAULT).mxcsr, DEFAULT);
        assert_eq!(comi(Fp::Sd, false, nan, nan, DEFAULT).mxcsr, DEFAULT | 1);
        assert_eq!(
            comi(Fp::Sd, true, pd(1.0, 0.0), pd(2.0, 0.0), DEFAULT).value,
            1
        );
        assert_eq!(
            comi(Fp::Sd, true, pd(2.0, 0.0), pd(2.0, 0.0), DEFAULT).value,
            0x40
        );
    }
}
