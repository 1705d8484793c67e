//! Floating point with a significand of 128 bits, truncated: enough to compute what is then rounded to 64.
//!
//! Not a general arithmetic: no infinities, no NaNs, exponents far inside `i32`. Each operation errs by at most 2^-126 of its
//! result; the functions here keep the sum of their errors below 2^-115.

use crate::x87::{C1, Done, F80, OE, PE, UE};

/// (-1)^neg * mant * 2^(exp - 127); `mant` has its top bit set, or is zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide {
    neg: bool,
    exp: i32,
    mant: u128,
}

pub(crate) const LN_2: Wide = Wide::constant(-1, 0xb17217f7d1cf79abc9e3b39803f2f6af);
const LOG2_E: Wide = Wide::constant(0, 0xb8aa3b295c17f0bbbe87fed0691d3e89);
pub(crate) const PI: Wide = Wide::constant(1, 0xc90fdaa22168c234c4c6628b80dc1cd1);

/// atan(k / 8).
const ATAN: [Wide; 9] = [
    Wide::ZERO,
    Wide::constant(-4, 0xfeadd4d5617b6e32c897989f3e888ef8),
    Wide::constant(-3, 0xfadbafc96406eb156dc79ef5f7a217e6),
    Wide::constant(-2, 0xb7b0ca0f26f784738aa32122dcfe4483),
    Wide::constant(-2, 0xed63382b0dda7b456fe445ecbc3a8d03),
    Wide::constant(-1, 0x8f005d5ef7f59f9b5c835e1665c43748),
    Wide::constant(-1, 0xa4bc7d1934f7092419a87f2a457dac9f),
    Wide::constant(-1, 0xb8053e2bc2319e73cb2da55210a4443d),
    Wide::constant(-1, 0xc90fdaa22168c234c4c6628b80dc1cd1),
];

/// 2/pi in 256 bits below the point, the lowest word first.
const TWO_OVER_PI: [u64; 4] = [
    0xfe5163abdebbc561,
    0xdb6295993c439041,
    0xfc2757d1f534ddc0,
    0xa2f9836e4e441529,
];

impl Wide {
    const ZERO: Wide = Wide {
        neg: false,
        exp: 0,
        mant: 0,
    };
    const ONE: Wide = Wide::constant(0, 1 << 127);
    pub(crate) const THREE: Wide = Wide::constant(1, 3 << 126);

    const fn constant(exp: i32, mant: u128) -> Wide {
        Wide {
            neg: false,
            exp,
            mant,
        }
    }

    /// A value from an unnormalised significand.
    fn normal(neg: bool, exp: i32, mant: u128) -> Wide {
        if mant == 0 {
            return Wide::ZERO;
        }
        let zeros = mant.leading_zeros();
        Wide {
            neg,
            exp: exp - zeros as i32,
            mant: mant << zeros,
        }
    }

    fn from_int(v: i32) -> Wide {
        Wide::normal(v < 0, 127, v.unsigned_abs().into())
    }

    /// A finite value of the x87.
    pub(crate) fn from_f80(v: F80) -> Wide {
        let exp = ((v[1] & 0x7fff) as i32).max(1) - 16383;
        Wide::normal(v[1] & 0x8000 != 0, exp, u128::from(v[0]) << 64)
    }

    pub(crate) fn is_zero(self) -> bool {
        self.mant == 0
    }
    /// The sign as the x87 has it.
    pub(crate) fn sign(self) -> u64 {
        u64::from(self.neg) << 15
    }
    pub(crate) fn with_sign(self, sign: u64) -> Wide {
        Wide {
            neg: sign != 0,
            ..self
        }
    }
    pub(crate) fn abs(self) -> Wide {
        Wide { neg: false, ..self }
    }
    fn neg(self) -> Wide {
        Wide {
            neg: !self.neg,
            ..self
        }
    }
    /// The neighbour, for a function that is less than its argument by what has no place here: how it is rounded depends on that.
    fn nearer_to_zero(self) -> Wide {
        const TOP: u128 = 1 << 127;
        match self.mant {
            0 => self,
            TOP => Wide {
                exp: self.exp - 1,
                mant: u128::MAX,
                ..self
            },
            mant => Wide {
                mant: mant - 1,
                ..self
            },
        }
    }
    pub(crate) fn half(self) -> Wide {
        Wide {
            exp: self.exp - 1,
            ..self
        }
    }
    fn twice(self) -> Wide {
        Wide {
            exp: self.exp + 1,
            ..self
        }
    }

    pub(crate) fn mul(self, o: Wide) -> Wide {
        let high = mul_high(self.mant, o.mant);
        Wide::normal(self.neg != o.neg, self.exp + o.exp + 1, high)
    }

    /// Division by a small positive integer.
    fn div_int(self, n: u32) -> Wide {
        if self.is_zero() {
            return self;
        }
        // The remainder's next bits keep the quotient at full length.
        let n = u128::from(n);
        let (q, r) = (self.mant / n, self.mant % n);
        let zeros = q.leading_zeros();
        let low = (r << zeros) / n;
        Wide::normal(self.neg, self.exp - zeros as i32, q << zeros | low)
    }

    pub(crate) fn div(self, o: Wide) -> Wide {
        // Long division of significands in [2^127, 2^128): one integer bit, 127 below it.
        let (mut rest, d) = (self.mant, o.mant);
        let mut q = 0u128;
        let mut carry = false;
        for _ in 0..128 {
            q <<= 1;
            if carry || rest >= d {
                rest = rest.wrapping_sub(d);
                q |= 1;
            }
            carry = rest >> 127 != 0;
            rest <<= 1;
        }
        Wide::normal(self.neg != o.neg, self.exp - o.exp, q)
    }

    fn is_less(self, o: Wide) -> bool {
        !o.is_zero() && (self.is_zero() || (self.exp, self.mant) < (o.exp, o.mant))
    }

    pub(crate) fn add(self, o: Wide) -> Wide {
        let (big, small) = if self.is_less(o) {
            (o, self)
        } else {
            (self, o)
        };
        if small.is_zero() {
            return big;
        }
        // One bit of room for the carry.
        let shift = (big.exp - small.exp) as u32 + 1;
        let (a, b) = (big.mant >> 1, small.mant.checked_shr(shift).unwrap_or(0));
        if big.neg == small.neg {
            Wide::normal(big.neg, big.exp + 1, a + b)
        } else if big.exp == small.exp {
            // Nothing is shifted out, so nothing need be.
            Wide::normal(big.neg, big.exp, big.mant - small.mant)
        } else {
            Wide::normal(big.neg, big.exp + 1, a - b)
        }
    }

    fn sub(self, o: Wide) -> Wide {
        self.add(o.neg())
    }

    /// Rounds to 64 bits by the control word. `inexact`: the true value differs from this one, by less than its last bit.
    pub(crate) fn to_f80(self, control: u16, inexact: bool) -> Done {
        let biased = self.exp + 16383;
        // Below the normal range the significand is shifted right, to the exponent of 1.
        let shift = if biased < 1 {
            (1 - biased).min(128) as u32
        } else {
            0
        };
        let lost = if shift == 0 {
            0
        } else {
            self.mant << (128 - shift).min(127)
        };
        let mant = self.mant.checked_shr(shift).unwrap_or(0);
        let rest = mant as u64 as u128 | u128::from(lost != 0);
        let inexact = inexact || rest != 0;
        let mut top = (mant >> 64) as u64;
        let up = match control >> 10 & 3 {
            0 => rest > 1 << 63 || rest == 1 << 63 && (top & 1 != 0 || lost != 0),
            1 => self.neg && inexact,
            2 => !self.neg && inexact,
            _ => false,
        };
        let mut exponent = biased.max(1);
        if up {
            top = top.wrapping_add(1);
            if top == 0 {
                top = 1 << 63;
                exponent += 1;
            }
        }
        let mut status = if inexact { PE } else { 0 } | if up { C1 } else { 0 };
        if exponent >= 0x7fff {
            return overflow(self.neg, control);
        }
        let tiny = biased < 1 && top >> 63 == 0;
        if tiny && inexact {
            status |= UE;
        }
        let field = if top >> 63 == 0 { 0 } else { exponent as u64 };
        Done {
            value: [top, field | self.sign()],
            status,
        }
    }
}

/// The masked response to overflow: infinity, or the greatest number where rounding goes towards zero.
fn overflow(neg: bool, control: u16) -> Done {
    let sign = u64::from(neg) << 15;
    let away = match control >> 10 & 3 {
        0 => true,
        1 => neg,
        2 => !neg,
        _ => false,
    };
    Done {
        value: if away {
            [1 << 63, 0x7fff | sign]
        } else {
            [u64::MAX, 0x7ffe | sign]
        },
        status: OE | PE | if away { C1 } else { 0 },
    }
}

/// The upper half of a product.
fn mul_high(a: u128, b: u128) -> u128 {
    let (a1, a0) = (a >> 64, a & u128::from(u64::MAX));
    let (b1, b0) = (b >> 64, b & u128::from(u64::MAX));
    let low = (a0 * b0) >> 64;
    let (m1, m2) = (a1 * b0, a0 * b1);
    let middle = low + (m1 & u128::from(u64::MAX)) + (m2 & u128::from(u64::MAX));
    a1 * b1 + (m1 >> 64) + (m2 >> 64) + (middle >> 64)
}

/// e^y - 1 for |y| < 0.7: y (1 + y/2 (1 + y/3 (...))).
pub(crate) fn exp_m1(y: Wide) -> Wide {
    let inner = (2..34)
        .rev()
        .fold(Wide::ONE, |t, n| Wide::ONE.add(y.mul(t).div_int(n)));
    y.mul(inner)
}

/// 2 * log2(e) * atanh(s) for |s| < 0.18, which is log2((1 + s) / (1 - s)).
fn log2_ratio(s: Wide) -> Wide {
    let square = s.mul(s);
    let series = (0..26).rev().fold(Wide::ZERO, |t, k| {
        Wide::ONE.div_int(2 * k + 1).add(square.mul(t))
    });
    s.mul(series).mul(LOG2_E).twice()
}

/// log2(x) of a positive number; exactly zero for 1 and exact for powers of two.
pub(crate) fn log2(x: Wide) -> Wide {
    // m in [sqrt(1/2), sqrt(2)), so that the exponent never cancels the rest.
    const SQRT_2: u128 = 0xb504_f333_f9de_6484_597d_89b3_754a_be9f;
    let up = i32::from(x.mant >= SQRT_2);
    let m = Wide { exp: -up, ..x };
    let s = m.sub(Wide::ONE).div(m.add(Wide::ONE));
    Wide::from_int(x.exp + up).add(log2_ratio(s))
}

/// log2(1 + x) for x > -1.
pub(crate) fn log2_1p(x: Wide) -> Wide {
    if x.exp < -2 {
        return log2_ratio(x.div(x.add(Wide::ONE.twice())));
    }
    log2(x.add(Wide::ONE))
}

/// The angle of the point (x, y), both not negative and not zero, or (`left`) of (-x, y).
pub(crate) fn atan2(y: Wide, x: Wide, left: bool) -> Wide {
    let steep = x.is_less(y);
    let q = if steep { x.div(y) } else { y.div(x) };
    let mut angle = atan(q);
    if steep {
        angle = PI.half().sub(angle);
    }
    if left { PI.sub(angle) } else { angle }
}

/// atan(q) for q in [0, 1]: the nearest eighth from a table, the rest t = (8q - k) / (8 + kq) by its series.
fn atan(q: Wide) -> Wide {
    let eight = Wide {
        exp: q.exp + 3,
        ..q
    };
    let k = if eight.exp < -1 || eight.is_zero() {
        0
    } else {
        // Rounded to nearest: the bits of weight 1 and above of q * 8 + 1/2.
        let shifted = eight.add(Wide::ONE.half());
        (shifted.mant >> (127 - shifted.exp)) as i32
    };
    let k_wide = Wide::from_int(k);
    let t = if k == 0 {
        q
    } else {
        eight.sub(k_wide).div(Wide::from_int(8).add(k_wide.mul(q)))
    };
    let square = t.mul(t);
    let series = (0..17).rev().fold(Wide::ZERO, |s, n| {
        Wide::ONE.div_int(2 * n + 1).sub(square.mul(s))
    });
    let angle = ATAN[k as usize].add(t.mul(series));
    // It is less than q, by however little.
    if (angle.exp, angle.mant) == (q.exp, q.mant) {
        angle.nearer_to_zero()
    } else {
        angle
    }
}

/// Sine and cosine of a finite value below 2^63.
pub(crate) fn sin_cos(x: F80) -> (Wide, Wide) {
    let (quadrant, r) = reduce(x);
    let (s, c) = (sin_series(r), cos_series(r));
    let (sin, cos) = match quadrant & 3 {
        0 => (s, c),
        1 => (c, s.neg()),
        2 => (s.neg(), c.neg()),
        _ => (c.neg(), s),
    };
    // So far this was |x|.
    (if x[1] & 0x8000 != 0 { sin.neg() } else { sin }, cos)
}

/// r (1 - r^2/(2*3) (1 - r^2/(4*5) (...))), |r| <= pi/4.
fn sin_series(r: Wide) -> Wide {
    let square = r.mul(r);
    let inner = (1..16).rev().fold(Wide::ONE, |t, k| {
        Wide::ONE.sub(square.mul(t).div_int(2 * k * (2 * k + 1)))
    });
    let sine = r.mul(inner);
    // It is less than r, by however little.
    if (sine.exp, sine.mant) == (r.exp, r.mant) {
        sine.nearer_to_zero()
    } else {
        sine
    }
}

/// 1 - r^2/(1*2) (1 - r^2/(3*4) (...)).
fn cos_series(r: Wide) -> Wide {
    let square = r.mul(r);
    let cosine = (1..17).rev().fold(Wide::ONE, |t, k| {
        Wide::ONE.sub(square.mul(t).div_int((2 * k - 1) * 2 * k))
    });
    // It is less than 1, likewise.
    if (cosine.exp, cosine.mant) == (0, 1 << 127) {
        cosine.nearer_to_zero()
    } else {
        cosine
    }
}

/// Below 2 to this power the next term of a series has no place in 128 bits, or nearly none.
const TINY: i32 = -60;

/// The tangent of `x`, whose sine and cosine these are. Of a tiny number it is a little more than that.
pub(crate) fn tan(x: F80, sin: Wide, cos: Wide) -> Wide {
    let x = Wide::from_f80(x);
    if x.exp < TINY {
        Wide {
            mant: x.mant + 1,
            ..x
        }
    } else {
        sin.div(cos)
    }
}

/// |x| as quadrant * pi/2 + r with |r| <= pi/4.
fn reduce(x: F80) -> (u64, Wide) {
    let w = Wide::from_f80(x).abs();
    let small = Wide { exp: -1, ..PI };
    if w.is_less(small) {
        return (0, w);
    }
    // m * 2/pi, 320 bits. x = m * 2^(e - 63), so 1 + e bits of the product are above the point.
    let m = (w.mant >> 64) as u64;
    let mut p = [0u64; 5];
    let mut carry = 0u128;
    for (limb, t) in p.iter_mut().zip(TWO_OVER_PI) {
        carry += u128::from(m) * u128::from(t);
        *limb = carry as u64;
        carry >>= 64;
    }
    p[4] = carry as u64;
    let above = (1 + w.exp) as u32;
    let whole = if above == 0 { 0 } else { p[4] >> (64 - above) };
    let mut fraction = shifted_left(p, above);
    // The nearest quadrant: a fraction of a half or more counts from above.
    let near = fraction[4] >> 63;
    if near != 0 {
        fraction = negated(fraction);
    }
    let r = from_fraction(fraction).mul(PI.half());
    (
        whole.wrapping_add(near),
        if near != 0 { r.neg() } else { r },
    )
}

fn shifted_left(p: [u64; 5], n: u32) -> [u64; 5] {
    core::array::from_fn(|i| {
        let below = if i == 0 { 0 } else { p[i - 1] };
        if n == 0 {
            p[i]
        } else {
            p[i] << n | below >> (64 - n)
        }
    })
}

fn negated(p: [u64; 5]) -> [u64; 5] {
    let mut carry = true;
    p.map(|limb| {
        let (v, c) = (!limb).overflowing_add(carry.into());
        carry = c;
        v
    })
}

/// A number below one from its bits; at least 128 of them are kept, counted from the first that is set.
fn from_fraction(p: [u64; 5]) -> Wide {
    let top = (0..5).rev().find(|&i| p[i] != 0).unwrap_or(0);
    let limb = |back: usize| if top >= back { p[top - back] } else { 0 };
    let zeros = limb(0).leading_zeros();
    let mut mant = u128::from(limb(0)) << 64 | u128::from(limb(1));
    if zeros > 0 {
        mant = mant << zeros | u128::from(limb(2) >> (64 - zeros));
    }
    Wide::normal(false, -1 - 64 * (4 - top as i32) - zeros as i32, mant)
}
