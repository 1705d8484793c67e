//! x87 arithmetic on 80-bit values under a given control word.
//!
//! Each stub pushes its operands on the host's empty stack, runs the guest's instruction under the guest's precision and
//! rounding control with everything masked, and pops the result. What comes back is the masked response and the status
//! bits that the instruction raised: IE to PE, C0 to C3 (C1 as the rounding direction).
//!
//! Stack faults, tags, unmasked responses and the exception pointers belong to the caller.
//!
//! What is common (see `quick80`) is computed in integers instead, with the same results. The rest:
//! a guest with the ABI's own control word (0x37f, which is also FNINIT's) runs on the host's: see `on_host`. Flags that
//! the guest has already are then reported again or not at all; both mean the same for sticky masked flags.

use core::arch::asm;

use crate::{X, quick80};

/// An 80-bit value: significand; sign and exponent in the low 16 bits of the second word, the rest zero.
pub type F80 = X;

/// The control word of the ABI and of FNINIT.
pub const DEFAULT: u16 = 0x37f;
static DEFAULT_WORD: u16 = DEFAULT;

pub const IE: u16 = 1;
pub const DE: u16 = 2;
pub const ZE: u16 = 4;
pub const OE: u16 = 8;
pub const UE: u16 = 16;
pub const PE: u16 = 32;
/// The sticky exception flags.
pub const FLAGS: u16 = 0x3f;
pub const C0: u16 = 1 << 8;
pub const C1: u16 = 1 << 9;
pub const C2: u16 = 1 << 10;
pub const C3: u16 = 1 << 14;
/// All four condition bits.
pub const CC: u16 = C0 | C1 | C2 | C3;

/// The guest's control word, and its sticky flags.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    pub control: u16,
    pub status: u16,
}

/// A result with the status bits of the instruction alone: flags raised, and C0 to C3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Done<T = F80> {
    pub value: T,
    pub status: u16,
}

/// Runs x87 code that starts and ends with an empty stack and leaves FNSTSW's word in AX; gives flags and C0 to C3.
///
/// With the default control word it first runs as the host stands. Host flags that the guest lacks may be stale; then,
/// and with any other control word, it runs with clear flags under the guest's.
macro_rules! on_host {
    ($env:expr, $($line:expr),+; $($operands:tt)*) => {{
        let env: Env = $env;
        let mut status: u16;
        let mut exact = true;
        status = 0;
        if env.control == DEFAULT {
            // SAFETY: the code reads and writes only the locals that it is given pointers to, within their size, and
            // leaves the x87 stack empty and the control word as it was. All exceptions are masked.
            unsafe {
                asm!($($line,)+ out("ax") status, $($operands)*
                     out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                     out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _, options(nostack));
            }
            exact = status & FLAGS & !env.status != 0;
        }
        if exact {
            let control = env.control & 0x1f00 | 0x7f;
            // SAFETY: as above; the control word has all exceptions masked and the default is back at the end.
            unsafe {
                asm!("fnclex", "fldcw word ptr [{control}]", $($line,)+ "fldcw word ptr [{default}]",
                     control = in(reg) &raw const control, default = in(reg) &raw const DEFAULT_WORD,
                     out("ax") status, $($operands)*
                     out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                     out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _, options(nostack));
            }
        }
        status & (FLAGS | CC)
    }};
}

/// The arithmetic instructions with two operands: `a` is the destination (st(0) or st(i)), `b` the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Bin {
    Add,
    Mul,
    /// a - b
    Sub,
    /// b - a
    Subr,
    /// a / b
    Div,
    /// b / a
    Divr,
}

/// A memory operand, zero-extended from its own width.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Mem {
    F32,
    F64,
    I16,
    I32,
}

/// Two 80-bit operands.
#[inline(always)]
pub fn bin(op: Bin, a: F80, b: F80, env: Env) -> Done {
    if quick80::applies(env.control)
        && let Some(done) = quick80::bin(op, a, b)
    {
        return done;
    }
    bin_on_host(op, a, b, env)
}

#[inline(never)]
fn bin_on_host(op: Bin, a: F80, b: F80, env: Env) -> Done {
    let mut value: F80 = [0; 2];
    macro_rules! run {
        ($insn:literal) => {
            on_host!(env, "fld tbyte ptr [{a}]", "fld tbyte ptr [{b}]", $insn, "fnstsw ax", "fstp tbyte ptr [{r}]",
                     "fstp st(0)"; a = in(reg) &raw const b, b = in(reg) &raw const a, r = in(reg) &raw mut value,)
        };
    }
    let status = match op {
        Bin::Add => run!("fadd st, st(1)"),
        Bin::Mul => run!("fmul st, st(1)"),
        Bin::Sub => run!("fsub st, st(1)"),
        Bin::Subr => run!("fsubr st, st(1)"),
        Bin::Div => run!("fdiv st, st(1)"),
        Bin::Divr => run!("fdivr st, st(1)"),
    };
    Done { value, status }
}

/// An 80-bit operand (st(0)) and one in memory, which the instruction converts itself.
#[inline(always)]
pub fn bin_mem(op: Bin, mem: Mem, a: F80, b: u64, env: Env) -> Done {
    if quick80::applies(env.control)
        && let Some(wide) = quick80::load(mem, b)
        && let Some(done) = quick80::bin(op, a, wide)
    {
        return done;
    }
    bin_mem_on_host(op, mem, a, b, env)
}

#[inline(never)]
fn bin_mem_on_host(op: Bin, mem: Mem, a: F80, b: u64, env: Env) -> Done {
    let mut value: F80 = [0; 2];
    macro_rules! run {
        ($insn:expr) => {
            on_host!(env, "fld tbyte ptr [{a}]", $insn, "fnstsw ax", "fstp tbyte ptr [{r}]";
                     a = in(reg) &raw const a, b = in(reg) &raw const b, r = in(reg) &raw mut value,)
        };
    }
    macro_rules! widths {
        ($float:literal, $int:literal) => {
            match mem {
                Mem::F32 => run!(concat!($float, " dword ptr [{b}]")),
                Mem::F64 => run!(concat!($float, " qword ptr [{b}]")),
                Mem::I16 => run!(concat!($int, " word ptr [{b}]")),
                Mem::I32 => run!(concat!($int, " dword ptr [{b}]")),
            }
        };
    }
    let status = match op {
        Bin::Add => widths!("fadd", "fiadd"),
        Bin::Mul => widths!("fmul", "fimul"),
        Bin::Sub => widths!("fsub", "fisub"),
        Bin::Subr => widths!("fsubr", "fisubr"),
        Bin::Div => widths!("fdiv", "fidiv"),
        Bin::Divr => widths!("fdivr", "fidivr"),
    };
    Done { value, status }
}

/// Instructions on st(0), some with st(1) as a second operand that stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Un {
    Sqrt,
    Rndint,
    /// FSCALE by st(1)
    Scale,
    /// FPREM by st(1); C0, C1, C3 hold the quotient's low bits, C2 whether it is partial
    Prem,
    /// FPREM1
    Prem1,
}

/// FSQRT, FRNDINT; FSCALE, FPREM and FPREM1 with `st1`.
#[inline]
pub fn un(op: Un, st0: F80, st1: F80, env: Env) -> Done {
    let mut value: F80 = [0; 2];
    macro_rules! run {
        ($insn:literal) => {
            on_host!(env, "fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]", $insn, "fnstsw ax", "fstp tbyte ptr [{r}]",
                     "fstp st(0)";
                     a = in(reg) &raw const st0, b = in(reg) &raw const st1, r = in(reg) &raw mut value,)
        };
    }
    let status = match op {
        Un::Sqrt => run!("fsqrt"),
        Un::Rndint => run!("frndint"),
        Un::Scale => run!("fscale"),
        Un::Prem => run!("fprem"),
        Un::Prem1 => run!("fprem1"),
    };
    Done { value, status }
}

/// FXTRACT: the exponent (which replaces st(0)) and the significand (which is pushed).
pub fn xtract(st0: F80, env: Env) -> Done<(F80, F80)> {
    let (mut significand, mut exponent): (F80, F80) = ([0; 2], [0; 2]);
    let status = on_host!(env, "fld tbyte ptr [{a}]", "fxtract", "fnstsw ax", "fstp tbyte ptr [{s}]",
                          "fstp tbyte ptr [{e}]"; a = in(reg) &raw const st0, s = in(reg) &raw mut significand,
                          e = in(reg) &raw mut exponent,);
    Done {
        value: (exponent, significand),
        status,
    }
}

/// FCOM (`quiet`: FUCOM) of st(0) = `a` with `b`: C0, C2 and C3.
#[inline(always)]
pub fn compare(quiet: bool, a: F80, b: F80, env: Env) -> u16 {
    match quick80::compare(a, b) {
        Some(status) => status,
        None => compare_on_host(quiet, a, b, env),
    }
}

#[inline(never)]
fn compare_on_host(quiet: bool, a: F80, b: F80, env: Env) -> u16 {
    macro_rules! run {
        ($insn:literal) => {
            on_host!(env, "fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]", $insn, "fnstsw ax", "fstp st(0)", "fstp st(0)";
                     a = in(reg) &raw const a, b = in(reg) &raw const b,)
        };
    }
    if quiet {
        run!("fucom st(1)")
    } else {
        run!("fcom st(1)")
    }
}

/// FCOM and FICOM with memory.
#[inline]
pub fn compare_mem(mem: Mem, a: F80, b: u64, env: Env) -> u16 {
    if let Some(wide) = quick80::load(mem, b)
        && let Some(status) = quick80::compare(a, wide)
    {
        return status;
    }
    compare_mem_on_host(mem, a, b, env)
}

#[inline(never)]
fn compare_mem_on_host(mem: Mem, a: F80, b: u64, env: Env) -> u16 {
    macro_rules! run {
        ($insn:literal) => {
            on_host!(env, "fld tbyte ptr [{a}]", $insn, "fnstsw ax", "fstp st(0)";
                     a = in(reg) &raw const a, b = in(reg) &raw const b,)
        };
    }
    match mem {
        Mem::F32 => run!("fcom dword ptr [{b}]"),
        Mem::F64 => run!("fcom qword ptr [{b}]"),
        Mem::I16 => run!("ficom word ptr [{b}]"),
        Mem::I32 => run!("ficom dword ptr [{b}]"),
    }
}

/// FTST.
pub fn test(a: F80, env: Env) -> u16 {
    on_host!(env, "fld tbyte ptr [{a}]", "ftst", "fnstsw ax", "fstp st(0)"; a = in(reg) &raw const a,)
}

/// FLD m32 and m64: IE for a signalling NaN, DE for a denormal.
#[inline(always)]
pub fn load(mem: Mem, v: u64, env: Env) -> Done {
    match quick80::load(mem, v) {
        Some(value) => Done { value, status: 0 },
        None => load_on_host(mem, v, env),
    }
}

#[inline(never)]
fn load_on_host(mem: Mem, v: u64, env: Env) -> Done {
    let mut value: F80 = [0; 2];
    macro_rules! run {
        ($insn:literal) => {
            on_host!(env, $insn, "fnstsw ax", "fstp tbyte ptr [{r}]";
                     a = in(reg) &raw const v, r = in(reg) &raw mut value,)
        };
    }
    let status = match mem {
        Mem::F32 => run!("fld dword ptr [{a}]"),
        Mem::F64 => run!("fld qword ptr [{a}]"),
        Mem::I16 => run!("fild word ptr [{a}]"),
        Mem::I32 => run!("fild dword ptr [{a}]"),
    };
    Done { value, status }
}

/// FILD m64, exact.
#[inline]
pub fn load_i64(v: i64) -> F80 {
    if v == 0 {
        return [0; 2];
    }
    let magnitude = v.unsigned_abs();
    let zeros = magnitude.leading_zeros();
    [
        magnitude << zeros,
        u64::from(v < 0) << 15 | u64::from(16383 + 63 - zeros),
    ]
}

/// What FST, FIST and FISTTP store; zero-extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Store {
    F32,
    F64,
    I16,
    I32,
    I64,
    /// FISTTP
    T16,
    T32,
    T64,
}

/// FST, FIST and FISTTP to memory.
#[inline(always)]
pub fn store(to: Store, a: F80, env: Env) -> Done<u64> {
    if quick80::applies(env.control | 0x300)
        && let Some(done) = quick80::store(to, a)
    {
        return done;
    }
    store_on_host(to, a, env)
}

#[inline(never)]
fn store_on_host(to: Store, a: F80, env: Env) -> Done<u64> {
    let mut value = 0u64;
    macro_rules! run {
        ($insn:literal) => {
            on_host!(env, "fld tbyte ptr [{a}]", $insn, "fnstsw ax";
                     a = in(reg) &raw const a, r = in(reg) &raw mut value,)
        };
    }
    let status = match to {
        Store::F32 => run!("fstp dword ptr [{r}]"),
        Store::F64 => run!("fstp qword ptr [{r}]"),
        Store::I16 => run!("fistp word ptr [{r}]"),
        Store::I32 => run!("fistp dword ptr [{r}]"),
        Store::I64 => run!("fistp qword ptr [{r}]"),
        Store::T16 => run!("fisttp word ptr [{r}]"),
        Store::T32 => run!("fisttp dword ptr [{r}]"),
        Store::T64 => run!("fisttp qword ptr [{r}]"),
    };
    Done { value, status }
}

/// FBLD of ten bytes of packed decimal.
pub fn load_bcd(bcd: F80) -> F80 {
    let env = Env {
        control: DEFAULT,
        status: FLAGS,
    };
    let mut value: F80 = [0; 2];
    let _ = on_host!(env, "fbld tbyte ptr [{a}]", "fnstsw ax", "fstp tbyte ptr [{r}]";
                     a = in(reg) &raw const bcd, r = in(reg) &raw mut value,);
    value
}

/// FBSTP: ten bytes of packed decimal.
pub fn store_bcd(a: F80, env: Env) -> Done {
    let mut value: F80 = [0; 2];
    let status = on_host!(env, "fld tbyte ptr [{a}]", "fbstp tbyte ptr [{r}]", "fnstsw ax";
                          a = in(reg) &raw const a, r = in(reg) &raw mut value,);
    Done { value, status }
}

/// The constants that FLD1 to FLDZ push, in the encoding's order (D9 E8 to D9 EE): 1, log2(10), log2(e), pi, log10(2), ln(2), 0.
/// They are rounded by the guest's rounding control and raise nothing.
pub fn constant(which: u8, control: u16) -> F80 {
    // Significand rounded down, whether the next bits round it up to nearest, sign and exponent.
    const TABLE: [(u64, bool, u64); 7] = [
        (0x8000_0000_0000_0000, false, 0x3fff),
        (0xd49a_784b_cd1b_8afe, false, 0x4000),
        (0xb8aa_3b29_5c17_f0bb, true, 0x3fff),
        (0xc90f_daa2_2168_c234, true, 0x4000),
        (0x9a20_9a84_fbcf_f798, true, 0x3ffd),
        (0xb172_17f7_d1cf_79ab, true, 0x3ffe),
        (0, false, 0),
    ];
    let index = usize::from(which % 7);
    let (down, above_half, exponent) = TABLE[index];
    let exact = index == 0 || index == 6;
    let up = match control >> 10 & 3 {
        0 => above_half,
        2 => !exact,
        _ => false,
    };
    [down + u64::from(up), exponent]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Env = Env {
        control: DEFAULT,
        status: 0,
    };
    const ONE: F80 = [1 << 63, 0x3fff];
    const THREE: F80 = [3 << 62, 0x4000];

    #[test]
    fn stale_host_flags_do_not_reach_the_guest() {
        let third = bin(Bin::Div, ONE, THREE, CLEAN);
        assert_eq!(third.value, [0xaaaa_aaaa_aaaa_aaab, 0x3ffd]);
        assert_eq!(third.status & FLAGS, PE);
        assert_eq!(third.status & C1, C1, "rounded up");
        assert_eq!(bin(Bin::Add, ONE, ONE, CLEAN).status & FLAGS, 0);
    }

    #[test]
    fn precision_and_rounding_are_the_guests() {
        let single = Env {
            control: 0x07f,
            status: 0,
        };
        assert_eq!(
            bin(Bin::Div, ONE, THREE, single).value,
            [0xaaaa_ab00_0000_0000, 0x3ffd]
        );
        let down = Env {
            control: 0x77f,
            status: 0,
        };
        let third = bin(Bin::Div, ONE, THREE, down);
        assert_eq!(third.value, [0xaaaa_aaaa_aaaa_aaaa, 0x3ffd]);
        assert_eq!(third.status & C1, 0);
        assert_eq!(bin(Bin::Divr, THREE, ONE, down).value, third.value);
    }

    #[test]
    fn memory_operands_and_stores() {
        let half = 0.5f32.to_bits();
        assert_eq!(
            bin_mem(Bin::Sub, Mem::F32, ONE, half.into(), CLEAN).value,
            [1 << 63, 0x3ffe]
        );
        assert_eq!(store(Store::F64, THREE, CLEAN).value, 3f64.to_bits());
        assert_eq!(store(Store::I16, [1 << 63, 0x4100], CLEAN).value, 0x8000);
        assert_eq!(
            store(Store::I16, [1 << 63, 0x4100], CLEAN).status & FLAGS,
            IE
        );
        assert_eq!(load_i64(-3), [3 << 62, 0xc000]);
        assert_eq!(load_bcd(store_bcd(THREE, CLEAN).value), THREE);
    }

    /// Values around every edge that the integer paths have, and plenty of ordinary ones.
    fn number(seed: &mut u64) -> F80 {
        let mut next = || {
            *seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (*seed ^ *seed >> 31).rotate_left(17)
        };
        let (kind, noise) = (next() % 12, next());
        let m = match next() % 5 {
            0 => 1 << 63,
            1 => u64::MAX,
            2 => noise & !0 << 40 | 1 << 63,
            3 => 0xc000_0000_0000_0000 | noise & 0xfff,
            _ => noise | 1 << 63,
        };
        let near = next() % 140;
        let e = match kind {
            0 => return [0, noise & 0x8000],
            1 => next() % 0x8000,
            2 => 0x7ffe - near % 3,
            3 => 1 + near % 3,
            4 => return [m >> 1, noise & 0x8000],
            5 | 6 => 16383,
            _ => 16383 - 70 + near,
        };
        [m, e | noise & 0x8000]
    }

    /// The host's C0, C2 and C3 are left over from earlier comparisons; arithmetic does not touch them.
    fn raised<T>(done: Done<T>) -> Done<T> {
        Done {
            status: done.status & (FLAGS | C1),
            ..done
        }
    }

    #[test]
    fn the_integer_paths_give_what_the_host_gives() {
        let mut seed = 7;
        let all = [Bin::Add, Bin::Mul, Bin::Sub, Bin::Subr, Bin::Div, Bin::Divr];
        let stores = [
            Store::F32,
            Store::F64,
            Store::I16,
            Store::I32,
            Store::I64,
            Store::T16,
            Store::T32,
            Store::T64,
        ];
        let mut quick = 0;
        for _ in 0..60_000 {
            let (a, b) = (number(&mut seed), number(&mut seed));
            for op in all {
                if let Some(done) = quick80::bin(op, a, b) {
                    quick += 1;
                    assert_eq!(
                        done,
                        raised(bin_on_host(op, a, b, CLEAN)),
                        "{op:?} {a:x?} {b:x?}"
                    );
                }
            }
            for to in stores {
                if let Some(done) = quick80::store(to, a) {
                    assert_eq!(done, raised(store_on_host(to, a, CLEAN)), "{to:?} {a:x?}");
                }
            }
            if let Some(status) = quick80::compare(a, b) {
                assert_eq!(status, compare_on_host(false, a, b, CLEAN), "{a:x?} {b:x?}");
            }
            for mem in [Mem::F32, Mem::F64, Mem::I16, Mem::I32] {
                let v = a[0].rotate_left(a[1] as u32);
                if let Some(value) = quick80::load(mem, v) {
                    let status = 0;
                    assert_eq!(
                        Done { value, status },
                        raised(load_on_host(mem, v, CLEAN)),
                        "{mem:?} {v:x}"
                    );
                }
            }
        }
        assert!(quick > 200_000, "only {quick} cases were common ones");
    }

    #[test]
    fn constants_are_the_hosts() {
        for rounding in 0..4u16 {
            let control = 0x37f | rounding << 10;
            for which in 0..7u8 {
                let mut value: F80 = [0; 2];
                macro_rules! host {
                    ($($n:literal $insn:literal)*) => {
                        match which {
                            $($n => {
                                let env = Env { control, status: 0 };
                                on_host!(env, $insn, "fnstsw ax", "fstp tbyte ptr [{r}]"; r = in(reg) &raw mut value,)
                            })*
                            _ => unreachable!(),
                        }
                    };
                }
                let status =
                    host!(0 "fld1" 1 "fldl2t" 2 "fldl2e" 3 "fldpi" 4 "fldlg2" 5 "fldln2" 6 "fldz");
                assert_eq!(status & FLAGS, 0);
                assert_eq!(
                    constant(which, control),
                    value,
                    "{which} under {control:#x}"
                );
            }
        }
    }
}
