//! Fused multiply-add: the host's instruction where there is one, and the same in integers where there is none.
//!
//! Both round once. An unmasked exception is always left to the integers, which know the result without bounds on its exponent
//! (SDM vol. 1, 11.5.2.4): that decides PE, and the host's masked instruction cannot tell it.
//!
//! NaNs: the first of x, y, z that is one, made quiet; infinity times zero is invalid unless z is a quiet NaN (SDM vol. 1, 14.5.2).

use core::arch::asm;
use std::sync::LazyLock;

use crate::X;
use crate::ops::{Fp, FpFma};
use crate::sse::{DEFAULT_WORD, Done, FLAGS, OE, PE, UE, from_host, to_host};

const IE: u32 = 1;
const DE: u32 = 2;
const PRE: u32 = 7;
const MASKS: u32 = 0x1f80;
const DAZ: u32 = 0x40;
const FTZ: u32 = 0x8000;

/// Whether the host has the instruction.
static ON_HOST: LazyLock<bool> = LazyLock::new(|| std::is_x86_feature_detected!("fma"));

/// x * y + z as `op` says; scalar operations keep the rest of `keep`.
pub fn fma(op: FpFma, fp: Fp, [x, y, z]: [X; 3], keep: X, mxcsr: u32) -> Done<X> {
    let mut done = if mxcsr & MASKS == MASKS && *ON_HOST {
        on_host(op, fp, x, y, z, mxcsr)
    } else {
        in_integers(op, fp, x, y, z, mxcsr)
    };
    match fp {
        Fp::Ss => done.value = [keep[0] >> 32 << 32 | done.value[0] & 0xffff_ffff, keep[1]],
        Fp::Sd => done.value[1] = keep[1],
        _ => {}
    }
    done
}

/// The host's instruction, all exceptions masked. The operands' places decide which NaN is given: x, y, z in that order.
fn on_host(op: FpFma, fp: Fp, x: X, y: X, z: X, mxcsr: u32) -> Done<X> {
    macro_rules! run {
        ($insn:literal) => {{
            let mut value = to_host(y);
            let mut word = mxcsr;
            // SAFETY: the host has the instruction (`ON_HOST`); it works on registers only. All exceptions are masked, no
            // reserved bit of MXCSR is set, and the default is back before the block ends.
            unsafe {
                asm!("ldmxcsr [{m}]", concat!($insn, " {v}, {x}, {z}"), "stmxcsr [{m}]", "ldmxcsr [{d}]",
                     v = inout(xmm_reg) value, x = in(xmm_reg) to_host(x), z = in(xmm_reg) to_host(z),
                     m = in(reg) &raw mut word, d = in(reg) &raw const DEFAULT_WORD, options(nostack));
            }
            (from_host(value), word)
        }};
    }
    macro_rules! four {
        ($ss:literal $sd:literal $ps:literal $pd:literal) => {
            match fp {
                Fp::Ss => run!($ss),
                Fp::Sd => run!($sd),
                Fp::Ps => run!($ps),
                Fp::Pd => run!($pd),
            }
        };
    }
    let (value, mxcsr) = match op {
        FpFma::Add => four!("vfmadd213ss" "vfmadd213sd" "vfmadd213ps" "vfmadd213pd"),
        FpFma::Sub => four!("vfmsub213ss" "vfmsub213sd" "vfmsub213ps" "vfmsub213pd"),
        FpFma::NegAdd => four!("vfnmadd213ss" "vfnmadd213sd" "vfnmadd213ps" "vfnmadd213pd"),
        FpFma::NegSub => four!("vfnmsub213ss" "vfnmsub213sd" "vfnmsub213ps" "vfnmsub213pd"),
        FpFma::AddSub => match fp {
            Fp::Ss | Fp::Ps => run!("vfmaddsub213ps"),
            _ => run!("vfmaddsub213pd"),
        },
        FpFma::SubAdd => match fp {
            Fp::Ss | Fp::Ps => run!("vfmsubadd213ps"),
            _ => run!("vfmsubadd213pd"),
        },
    };
    Done {
        value,
        mxcsr,
        trap: false,
    }
}

/// Lane by lane in integers.
fn in_integers(op: FpFma, fp: Fp, x: X, y: X, z: X, mxcsr: u32) -> Done<X> {
    let format = match fp {
        Fp::Ss | Fp::Ps => SINGLE,
        Fp::Sd | Fp::Pd => DOUBLE,
    };
    let per = (64 / format.bits) as usize;
    let lanes = match fp {
        Fp::Ss | Fp::Sd => 1,
        _ => 2 * per,
    };
    let mut value = [0; 2];
    let mut raised = 0;
    for i in 0..lanes {
        let shift = i % per * format.bits as usize;
        let lane = |v: X| v[i / per] >> shift & format.mask();
        let (negate_product, negate_addend) = match op {
            FpFma::Add => (false, false),
            FpFma::Sub => (false, true),
            FpFma::NegAdd => (true, false),
            FpFma::NegSub => (true, true),
            FpFma::AddSub => (false, i % 2 == 0),
            FpFma::SubAdd => (false, i % 2 == 1),
        };
        let one = Lane {
            f: format,
            negate_product,
            negate_addend,
            mxcsr,
        };
        let (v, flags) = one.compute(lane(x), lane(y), lane(z));
        value[i / per] |= v << shift;
        raised |= flags;
    }
    let unmasked = !(mxcsr >> 7) & FLAGS;
    if raised & unmasked & PRE != 0 {
        raised &= PRE;
    }
    Done {
        value,
        mxcsr: mxcsr | raised,
        trap: raised & unmasked != 0,
    }
}

/// A binary format.
#[derive(Clone, Copy)]
struct Format {
    bits: u32,
    fraction: u32,
}

const SINGLE: Format = Format {
    bits: 32,
    fraction: 23,
};
const DOUBLE: Format = Format {
    bits: 64,
    fraction: 52,
};

impl Format {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }
    fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }
    /// The exponent field of infinities and NaNs.
    fn top(self) -> u64 {
        (1 << (self.bits - 1 - self.fraction)) - 1
    }
    fn infinity(self) -> u64 {
        self.top() << self.fraction
    }
    fn quiet(self) -> u64 {
        1 << (self.fraction - 1)
    }
    fn is_nan(self, v: u64) -> bool {
        v & !self.sign() > self.infinity()
    }
    fn is_signalling(self, v: u64) -> bool {
        self.is_nan(v) && v & self.quiet() == 0
    }
    fn is_infinite(self, v: u64) -> bool {
        v & !self.sign() == self.infinity()
    }
    fn is_zero(self, v: u64) -> bool {
        v & !self.sign() == 0
    }
    fn is_denormal(self, v: u64) -> bool {
        !self.is_zero(v) && v & self.infinity() == 0
    }
    /// The significand with its leading bit, and the exponent of its last one.
    fn parts(self, v: u64) -> (u64, i32) {
        let fraction = v & ((1 << self.fraction) - 1);
        let exponent = (v >> self.fraction & self.top()) as i32;
        let last = self.last_exponent(exponent.max(1));
        if exponent == 0 {
            (fraction, last)
        } else {
            (fraction | 1 << self.fraction, last)
        }
    }
    /// The exponent of the last place for this exponent field.
    fn last_exponent(self, field: i32) -> i32 {
        field - (self.top() >> 1) as i32 - self.fraction as i32
    }
}

/// One lane's operation.
#[derive(Clone, Copy)]
struct Lane {
    f: Format,
    negate_product: bool,
    negate_addend: bool,
    mxcsr: u32,
}

/// A magnitude at the top of 126 bits and the exponent of bit 0; the last bit is sticky. Zero is no bits.
#[derive(Clone, Copy)]
struct Number {
    negative: bool,
    bits: u128,
    exponent: i32,
}

/// The leading bit of a [`Number`], with room above for a carry.
const LEADING: u32 = 125;

impl Number {
    fn new(negative: bool, bits: u128, exponent: i32) -> Number {
        if bits == 0 {
            return Number {
                negative,
                bits,
                exponent: i32::MIN / 2,
            };
        }
        let up = bits.leading_zeros() - (127 - LEADING);
        Number {
            negative,
            bits: bits << up,
            exponent: exponent - up as i32,
        }
    }
}

/// Shifted right; what is lost stays in the last bit.
fn shift_sticky(v: u128, n: u32) -> u128 {
    match n {
        0 => v,
        1..=127 => v >> n | u128::from(v << (128 - n) != 0),
        _ => u128::from(v != 0),
    }
}

/// The exact sum, but for a sticky last bit far below any place that is rounded to.
fn sum(a: Number, b: Number, down: bool) -> Number {
    let (big, small) = if (a.exponent, a.bits) >= (b.exponent, b.bits) {
        (a, b)
    } else {
        (b, a)
    };
    let aligned = shift_sticky(small.bits, big.exponent.wrapping_sub(small.exponent) as u32);
    if a.negative == b.negative {
        let bits = big.bits + aligned;
        let carry = bits >> (LEADING + 1) != 0;
        return Number {
            bits: shift_sticky(bits, carry.into()),
            exponent: big.exponent + i32::from(carry),
            ..big
        };
    }
    let bits = big.bits - aligned;
    Number {
        // An exact zero of opposite signs is positive, but when rounding down.
        negative: if bits == 0 { down } else { big.negative },
        bits,
        ..big
    }
}

impl Lane {
    /// The bits of the result, and the flags raised.
    fn compute(self, x: u64, y: u64, z: u64) -> (u64, u32) {
        let f = self.f;
        let all = [x, y, z].map(|v| {
            if self.mxcsr & DAZ != 0 && f.is_denormal(v) {
                v & f.sign()
            } else {
                v
            }
        });
        let [x, y, z] = all;
        let zero_times_infinity =
            f.is_zero(x) && f.is_infinite(y) || f.is_infinite(x) && f.is_zero(y);
        if let Some(&nan) = all.iter().find(|v| f.is_nan(**v)) {
            let invalid = all.iter().any(|v| f.is_signalling(*v));
            return (nan | f.quiet(), if invalid { IE } else { 0 });
        }
        let default_nan = f.sign() | f.infinity() | f.quiet();
        if zero_times_infinity {
            return (default_nan, IE);
        }
        let product_sign = (x ^ y) & f.sign() != 0;
        let product_negative = product_sign != self.negate_product;
        let addend_negative = (z & f.sign() != 0) != self.negate_addend;
        let denormal = if all.iter().any(|v| f.is_denormal(*v)) {
            DE
        } else {
            0
        };
        let infinite_product = f.is_infinite(x) || f.is_infinite(y);
        let signed = |negative: bool, v: u64| if negative { v | f.sign() } else { v };
        if infinite_product {
            if f.is_infinite(z) && product_negative != addend_negative {
                return (default_nan, IE);
            }
            return (signed(product_negative, f.infinity()), denormal);
        }
        if f.is_infinite(z) {
            return (signed(addend_negative, f.infinity()), denormal);
        }
        let ((xs, xe), (ys, ye), (zs, ze)) = (f.parts(x), f.parts(y), f.parts(z));
        let product = Number::new(product_negative, u128::from(xs) * u128::from(ys), xe + ye);
        let addend = Number::new(addend_negative, zs.into(), ze);
        let down = self.mxcsr >> 13 & 3 == 1;
        let exact = sum(product, addend, down);
        if exact.bits == 0 {
            return (signed(exact.negative, 0), denormal);
        }
        let (v, flags) = self.round(exact);
        (signed(exact.negative, v), flags | denormal)
    }

    /// The magnitude rounded into the format, and OE, UE and PE.
    fn round(self, n: Number) -> (u64, u32) {
        let f = self.f;
        let masked = |flag: u32| self.mxcsr & flag << 7 != 0;
        let exact = Number::new(n.negative, n.bits, n.exponent);
        let last = exact.exponent + (LEADING - f.fraction) as i32;
        // As if the exponent had no bounds: this decides what is tiny and what overflows.
        let (free, free_inexact) = self.at(exact, last);
        let carried = free >> (f.fraction + 1) != 0;
        let field = last + carried as i32 - f.last_exponent(0);
        if field >= f.top() as i32 {
            let inexact = if free_inexact || masked(OE) { PE } else { 0 };
            return (self.overflow(n.negative), OE | inexact);
        }
        if field >= 1 {
            let fraction = if carried { free >> 1 } else { free };
            let bits = ((field as u64) << f.fraction) + (fraction & !(1 << f.fraction));
            return (bits, if free_inexact { PE } else { 0 });
        }
        if !masked(UE) {
            return (0, UE | if free_inexact { PE } else { 0 });
        }
        if self.mxcsr & FTZ != 0 {
            return (0, UE | PE);
        }
        let (bits, inexact) = self.at(exact, f.last_exponent(1));
        (bits, if inexact { UE | PE } else { 0 })
    }

    /// The magnitude in units of two to the `last`, rounded, and whether that was inexact.
    fn at(self, n: Number, last: i32) -> (u64, bool) {
        let down = (last - n.exponent) as u32;
        // Two more bits than are kept: the half and the rest.
        let rest = shift_sticky(n.bits, down - 2);
        let (kept, lost) = ((rest >> 2) as u64, (rest & 3) as u64);
        let up = match self.mxcsr >> 13 & 3 {
            0 => lost > 2 || lost == 2 && kept & 1 != 0,
            1 => lost != 0 && n.negative,
            2 => lost != 0 && !n.negative,
            _ => false,
        };
        (kept + u64::from(up), lost != 0)
    }

    fn overflow(self, negative: bool) -> u64 {
        let to_infinity = match self.mxcsr >> 13 & 3 {
            0 => true,
            1 => negative,
            2 => !negative,
            _ => false,
        };
        self.f.infinity() - u64::from(!to_infinity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of ways must agree: specials, neighbours of powers of two and random bits, in every rounding mode.
    #[test]
    fn the_integers_give_what_the_host_gives() {
        if !*ON_HOST {
            return;
        }
        let mut state = 0x1234_5678_9abc_def1u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let doubles = [
            0u64,
            1,
            0xf_ffff_ffff_ffff,
            1 << 52,
            0x3ff0_0000_0000_0000,
            0x3ff0_0000_0000_0001,
            0x7fef_ffff_ffff_ffff,
            0x7ff0_0000_0000_0000,
            0x7ff8_0000_0000_0005,
            0x7ff0_0000_0000_0007,
            0x3cb0_0000_0000_0000,
            0x1e60_0000_0000_0000,
        ];
        let singles = [
            0u64,
            1,
            0x7f_ffff,
            0x80_0000,
            0x3f80_0000,
            0x3f80_0001,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7fc0_0005,
            0x7f80_0007,
            0x3400_0000,
            0x1f80_0001,
        ];
        let ops = [
            FpFma::Add,
            FpFma::Sub,
            FpFma::NegAdd,
            FpFma::NegSub,
            FpFma::AddSub,
            FpFma::SubAdd,
        ];
        for round in 0..400_000u64 {
            let r = random();
            let mut lane = |special: &[u64; 12], bits: u32, fraction: u32| {
                let n = random();
                let sign = (n & 1) << (bits - 1);
                let mask = u64::MAX >> (64 - bits);
                let bias = (1u64 << (bits - 2 - fraction)) - 1;
                sign | match n >> 1 & 3 {
                    0 => special[(n >> 8) as usize % special.len()],
                    1 => random() & mask >> 1,
                    _ => {
                        (bias + (n >> 8 & 127) - 64) << fraction
                            | random() & ((1 << fraction) - 1) & (u64::MAX << (n >> 20 & 63))
                    }
                }
            };
            let mut vector = |double: bool| -> X {
                core::array::from_fn(|_| {
                    if double {
                        lane(&doubles, 64, 52)
                    } else {
                        lane(&singles, 32, 23) | lane(&singles, 32, 23) << 32
                    }
                })
            };
            let double = r & 1 != 0;
            let (x, y, z) = (vector(double), vector(double), vector(double));
            let mut mxcsr = 0x1f80 | (r as u32 >> 8 & 3) << 13;
            if r >> 12 & 7 == 0 {
                mxcsr |= FTZ;
            }
            if r >> 16 & 7 == 0 {
                mxcsr |= DAZ;
            }
            let fp = if double { Fp::Pd } else { Fp::Ps };
            let op = ops[(r >> 24) as usize % ops.len()];
            assert_eq!(
                on_host(op, fp, x, y, z, mxcsr),
                in_integers(op, fp, x, y, z, mxcsr),
                "case {round}: {op:?} {fp:?} {x:x?} {y:x?} {z:x?} {mxcsr:#x}"
            );
        }
    }

    #[test]
    fn an_unmasked_underflow_traps_even_when_exact() {
        let half = 0.5f64.to_bits();
        let um = 0x1f80 & !0x800;
        let operands = [[f64::MIN_POSITIVE.to_bits(), 0], [half, 0], [0, 0]];
        let done = fma(FpFma::Add, Fp::Sd, operands, [0; 2], um);
        assert_eq!((done.mxcsr, done.trap), (um | UE, true));
    }
}
