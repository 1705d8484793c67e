//! The common cases of x87 arithmetic in integers: normal numbers and zeros, full precision, round to nearest.
//!
//! Reading the host's status word costs more than the whole of these computations (FNSTSW: some 35 cycles), and 80-bit loads
//! and stores do not come cheap either. Each function gives exactly what the host's instruction gives (value, PE, C1, and
//! C0 to C3 of comparisons), or None where the case is not a common one; tests compare it with the host.
//!
//! The caller has checked [`applies`].

use crate::x87::{Bin, C0, C1, C3, Done, F80, Mem, PE, Store};

const BIAS: i32 = 16383;
const SIGN: u64 = 0x8000;

/// Whether the control word asks for 64 bits of precision and rounding to nearest.
#[inline(always)]
pub(crate) const fn applies(control: u16) -> bool {
    control & 0xf00 == 0x300
}

#[inline(always)]
fn exponent(v: F80) -> i32 {
    (v[1] & 0x7fff) as i32
}

#[inline(always)]
fn is_normal(v: F80) -> bool {
    v[0] >> 63 != 0 && (v[1] & 0x7fff).wrapping_sub(1) < 0x7ffe
}

#[inline(always)]
fn is_zero(v: F80) -> bool {
    v[0] == 0 && v[1] & 0x7fff == 0
}

/// A significand with its top bit set and what lies below it, rounded; None if the exponent leaves the normal range.
#[inline(always)]
fn rounded(sign: u64, exponent: i32, high: u64, low: u64) -> Option<Done> {
    let up = low > 1 << 63 || low == 1 << 63 && high & 1 != 0;
    finish(sign, exponent, high, up, low != 0)
}

/// Adds the rounding and packs.
#[inline(always)]
fn finish(sign: u64, exponent: i32, m: u64, up: bool, inexact: bool) -> Option<Done> {
    let (m, carry) = m.overflowing_add(up.into());
    let m = if carry { 1 << 63 } else { m };
    let packed = exponent + i32::from(carry);
    if exponent < 1 || packed > 0x7ffe {
        return None;
    }
    Some(Done {
        value: [m, sign | packed as u64],
        status: if inexact { PE } else { 0 } | if up { C1 } else { 0 },
    })
}

/// The sum of two numbers, the second with its sign already settled.
#[inline(always)]
fn add(a: F80, b: F80) -> Option<Done> {
    if !is_normal(a) || !is_normal(b) {
        return add_zero(a, b);
    }
    // The one of greater magnitude first.
    let swap = (exponent(a), a[0]) < (exponent(b), b[0]);
    let (a, b) = if swap { (b, a) } else { (a, b) };
    let sign = a[1] & SIGN;
    let (high, low) = shifted(b[0], (exponent(a) - exponent(b)) as u32);
    if (a[1] ^ b[1]) & SIGN == 0 {
        let (sum, carry) = a[0].overflowing_add(high);
        if !carry {
            return rounded(sign, exponent(a), sum, low);
        }
        let (half, rest) = (1 << 63 | sum >> 1, sum << 63 | low >> 1 | low & 1);
        return rounded(sign, exponent(a) + 1, half, rest);
    }
    let difference = a[0] - high - u64::from(low != 0);
    normalised(sign, exponent(a), difference, low.wrapping_neg())
}

/// A significand moved right, and the 64 bits below it; what is lost from those is kept as a sticky lowest bit.
#[inline(always)]
fn shifted(m: u64, by: u32) -> (u64, u64) {
    match by {
        0 => (m, 0),
        1..64 => (m >> by, m << (64 - by)),
        64 => (0, m),
        65..128 => (0, m >> (by - 64) | u64::from(m << (128 - by) != 0)),
        _ => (0, 1),
    }
}

/// A difference whose top bits may have cancelled.
#[inline(always)]
fn normalised(sign: u64, exponent: i32, high: u64, low: u64) -> Option<Done> {
    if high >> 63 != 0 {
        return rounded(sign, exponent, high, low);
    }
    if high == 0 {
        // Then the operands were so close that nothing lies below `low`.
        let zeros = low.leading_zeros();
        return match low {
            0 => Some(exact([0, 0])),
            _ => rounded(sign, exponent - 64 - zeros as i32, low << zeros, 0),
        };
    }
    let zeros = high.leading_zeros();
    let m = high << zeros | low >> (64 - zeros);
    rounded(sign, exponent - zeros as i32, m, low << zeros)
}

/// A sum with a zero is the other operand; of two zeros the host decides the sign.
#[inline(never)]
fn add_zero(a: F80, b: F80) -> Option<Done> {
    match (is_zero(a), is_zero(b)) {
        (true, false) if is_normal(b) => Some(exact(b)),
        (false, true) if is_normal(a) => Some(exact(a)),
        _ => None,
    }
}

fn exact(value: F80) -> Done {
    Done { value, status: 0 }
}

#[inline(always)]
fn mul(a: F80, b: F80) -> Option<Done> {
    let sign = (a[1] ^ b[1]) & SIGN;
    if !is_normal(a) || !is_normal(b) {
        let zero = is_zero(a) && (is_zero(b) || is_normal(b)) || is_zero(b) && is_normal(a);
        return zero.then(|| exact([0, sign]));
    }
    let p = u128::from(a[0]) * u128::from(b[0]);
    // The top bit is the highest or the next.
    let zeros = u32::from(p >> 127 == 0);
    let p = if zeros == 0 { p } else { p << 1 };
    let exponent = exponent(a) + exponent(b) - BIAS + 1 - zeros as i32;
    rounded(sign, exponent, (p >> 64) as u64, p as u64)
}

#[inline(always)]
fn div(a: F80, b: F80) -> Option<Done> {
    let sign = (a[1] ^ b[1]) & SIGN;
    if !is_normal(a) || !is_normal(b) {
        return (is_zero(a) && is_normal(b)).then(|| exact([0, sign]));
    }
    // A quotient of exactly 64 bits.
    let less = a[0] < b[0];
    let dividend = u128::from(a[0]) << if less { 64 } else { 63 };
    let divisor = u128::from(b[0]);
    let (q, r) = ((dividend / divisor) as u64, dividend % divisor);
    let up = 2 * r > divisor || 2 * r == divisor && q & 1 != 0;
    finish(
        sign,
        exponent(a) - exponent(b) + BIAS - i32::from(less),
        q,
        up,
        r != 0,
    )
}

#[inline(always)]
fn negated(v: F80) -> F80 {
    [v[0], v[1] ^ SIGN]
}

#[inline(always)]
pub(crate) fn bin(op: Bin, a: F80, b: F80) -> Option<Done> {
    match op {
        Bin::Add => add(a, b),
        Bin::Sub => add(a, negated(b)),
        Bin::Subr => add(b, negated(a)),
        Bin::Mul => mul(a, b),
        Bin::Div => div(a, b),
        Bin::Divr => div(b, a),
    }
}

/// A memory operand that converts without a flag.
#[inline(always)]
pub(crate) fn load(mem: Mem, v: u64) -> Option<F80> {
    match mem {
        Mem::F32 => widen(v as u32 as u64, 23, 8),
        Mem::F64 => widen(v, 52, 11),
        Mem::I16 => Some(crate::x87::load_i64((v as i16).into())),
        Mem::I32 => Some(crate::x87::load_i64((v as i32).into())),
    }
}

/// An IEEE number of so many fraction and exponent bits; None if it is a denormal, an infinity or a NaN.
#[inline(always)]
fn widen(v: u64, fraction: u32, bits: u32) -> Option<F80> {
    let sign = (v >> (fraction + bits)) << 15;
    let all = (1 << bits) - 1;
    let e = v >> fraction & all;
    let m = v << (64 - fraction - 1) & (u64::MAX >> 1);
    if e == 0 || e == all {
        return (e == 0 && m == 0).then_some([0, sign]);
    }
    let bias = (all >> 1) as i32;
    Some([1 << 63 | m, sign | (e as i32 - bias + BIAS) as u64])
}

/// FST and FIST of numbers that fit.
#[inline(always)]
pub(crate) fn store(to: Store, a: F80) -> Option<Done<u64>> {
    match to {
        Store::F32 => narrow(a, 23, 8),
        Store::F64 => narrow(a, 52, 11),
        Store::I16 => integer(a, 16, false),
        Store::I32 => integer(a, 32, false),
        Store::I64 => integer(a, 64, false),
        Store::T16 => integer(a, 16, true),
        Store::T32 => integer(a, 32, true),
        Store::T64 => integer(a, 64, true),
    }
}

#[inline(always)]
fn narrow(a: F80, fraction: u32, bits: u32) -> Option<Done<u64>> {
    let sign = (a[1] >> 15 & 1) << (fraction + bits);
    if !is_normal(a) {
        return is_zero(a).then_some(Done {
            value: sign,
            status: 0,
        });
    }
    let all = (1i32 << bits) - 1;
    let e = exponent(a) - BIAS + (all >> 1);
    if e < 1 || e >= all {
        return None;
    }
    let dropped = 63 - fraction;
    let (kept, rest) = (a[0] >> dropped, a[0] & ((1 << dropped) - 1));
    let half = 1 << (dropped - 1);
    let up = rest > half || rest == half && kept & 1 != 0;
    // The leading one of the significand carries into the exponent, and so does the rounding.
    let value = ((e as u64 - 1) << fraction) + kept + u64::from(up);
    if value >> fraction >= all as u64 {
        return None;
    }
    Some(Done {
        value: sign | value,
        status: if rest != 0 { PE } else { 0 } | if up { C1 } else { 0 },
    })
}

#[inline(always)]
fn integer(a: F80, bits: u32, truncate: bool) -> Option<Done<u64>> {
    let mask = u64::MAX >> (64 - bits);
    if !is_normal(a) {
        return is_zero(a).then_some(Done {
            value: 0,
            status: 0,
        });
    }
    let e = exponent(a) - BIAS;
    // Comfortably inside the type: the greatest and the least need no thought here.
    if e >= bits as i32 - 2 {
        return None;
    }
    let (whole, rest) = match e {
        0.. => (a[0] >> (63 - e), a[0] << (e + 1)),
        -1 => (0, a[0]),
        // Below a half, and not a tie.
        _ => (0, 1),
    };
    let up = !truncate && (rest > 1 << 63 || rest == 1 << 63 && whole & 1 != 0);
    let magnitude = whole + u64::from(up);
    let value = if a[1] & SIGN != 0 {
        magnitude.wrapping_neg()
    } else {
        magnitude
    };
    Some(Done {
        value: value & mask,
        status: if rest != 0 { PE } else { 0 } | if up { C1 } else { 0 },
    })
}

/// C0, C2 and C3 of a comparison.
#[inline(always)]
pub(crate) fn compare(a: F80, b: F80) -> Option<u16> {
    let plain = |v| is_normal(v) || is_zero(v);
    if !plain(a) || !plain(b) {
        return None;
    }
    // Sign and magnitude as one signed number; the zeros are equal.
    let key = |v: F80| {
        let magnitude = i128::from(v[1] & 0x7fff) << 64 | i128::from(v[0]);
        if v[1] & SIGN != 0 {
            -magnitude
        } else {
            magnitude
        }
    };
    let (x, y) = (key(a), key(b));
    Some(if x > y {
        0
    } else if x < y {
        C0
    } else {
        C3
    })
}
