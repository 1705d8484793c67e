//! Fixed-point numbers of 128 bits before and 512 behind the point, with the functions whose x87 instructions are tested. Everything is as
//! plain as can be: schoolbook arithmetic, power series until a term is zero. Errors are some units of 2^-500.

use std::cmp::Ordering;

use atoll_hostfp::x87::F80;

const LIMBS: usize = 10;
const FRACTION: usize = 8;
type Magnitude = [u64; LIMBS];

/// Sign and magnitude; the limbs' lowest comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed {
    negative: bool,
    magnitude: Magnitude,
}

fn compare(a: &Magnitude, b: &Magnitude) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

fn add(a: &Magnitude, b: &Magnitude) -> Magnitude {
    let mut carry = 0;
    std::array::from_fn(|n| {
        let sum = u128::from(a[n]) + u128::from(b[n]) + carry;
        carry = sum >> 64;
        sum as u64
    })
}

/// `a - b`, which is not negative.
fn subtract(a: &Magnitude, b: &Magnitude) -> Magnitude {
    let mut borrow = false;
    std::array::from_fn(|n| {
        let (d, one) = a[n].overflowing_sub(b[n]);
        let (d, two) = d.overflowing_sub(u64::from(borrow));
        borrow = one || two;
        d
    })
}

fn shift_left(a: &Magnitude, n: usize) -> Magnitude {
    let (limbs, bits) = (n / 64, n % 64);
    std::array::from_fn(|at| {
        let limb = |at: usize| at.checked_sub(limbs).map_or(0, |at| a[at]);
        let below = at.checked_sub(1).map_or(0, limb);
        limb(at) << bits | if bits == 0 { 0 } else { below >> (64 - bits) }
    })
}

fn shift_right(a: &Magnitude, n: usize) -> Magnitude {
    let (limbs, bits) = (n / 64, n % 64);
    std::array::from_fn(|at| {
        let limb = |at: usize| a.get(at + limbs).copied().unwrap_or(0);
        limb(at) >> bits
            | if bits == 0 {
                0
            } else {
                limb(at + 1) << (64 - bits)
            }
    })
}

/// The number of the highest bit that is set.
fn top_bit(a: &Magnitude) -> usize {
    let limb = a.iter().rposition(|&limb| limb != 0).expect("not zero");
    64 * limb + 63 - a[limb].leading_zeros() as usize
}

impl Fixed {
    pub(crate) const ZERO: Fixed = Fixed {
        negative: false,
        magnitude: [0; LIMBS],
    };

    pub(crate) fn from_integer(n: u64) -> Fixed {
        let mut magnitude = [0; LIMBS];
        magnitude[FRACTION] = n;
        Fixed {
            negative: false,
            magnitude,
        }
    }

    /// Exactly, which takes an exponent from -400 to 126.
    pub(crate) fn from_f80([significand, sign]: F80) -> Fixed {
        if significand == 0 {
            return Fixed::ZERO;
        }
        let mut magnitude = [0; LIMBS];
        magnitude[0] = significand;
        let shift = (sign & 0x7fff) as i64 - 16383 - 63 + 64 * FRACTION as i64;
        assert!((0..=64 * FRACTION as i64 + 63).contains(&shift), "{sign:x}");
        Fixed {
            negative: sign >> 15 != 0,
            magnitude: shift_left(&magnitude, shift as usize),
        }
    }

    /// Cut to 64 bits.
    pub(crate) fn to_f80(self) -> F80 {
        let top = top_bit(&self.magnitude);
        let significand = shift_right(&self.magnitude, top - 63)[0];
        let exponent = (top + 16383 - 64 * FRACTION) as u64;
        [significand, exponent | u64::from(self.negative) << 15]
    }

    pub(crate) fn neg(mut self) -> Fixed {
        self.negative = !self.negative;
        self
    }

    pub(crate) fn abs(mut self) -> Fixed {
        self.negative = false;
        self
    }

    pub(crate) fn add(&self, other: &Fixed) -> Fixed {
        let (a, b) = (&self.magnitude, &other.magnitude);
        let (negative, magnitude) = if self.negative == other.negative {
            (self.negative, add(a, b))
        } else if compare(a, b).is_ge() {
            (self.negative, subtract(a, b))
        } else {
            (other.negative, subtract(b, a))
        };
        Fixed {
            negative,
            magnitude,
        }
    }

    pub(crate) fn sub(&self, other: &Fixed) -> Fixed {
        self.add(&other.neg())
    }

    pub(crate) fn mul(&self, other: &Fixed) -> Fixed {
        let mut product = [0u64; 2 * LIMBS];
        for (i, &a) in self.magnitude.iter().enumerate() {
            let mut carry = 0;
            for (j, &b) in other.magnitude.iter().enumerate() {
                let t = u128::from(a) * u128::from(b) + u128::from(product[i + j]) + carry;
                product[i + j] = t as u64;
                carry = t >> 64;
            }
            product[i + LIMBS] = carry as u64;
        }
        Fixed {
            negative: self.negative != other.negative,
            magnitude: std::array::from_fn(|n| product[n + FRACTION]),
        }
    }

    pub(crate) fn div_small(&self, by: u64) -> Fixed {
        let mut rest = 0u128;
        let mut magnitude = [0; LIMBS];
        for n in (0..LIMBS).rev() {
            rest = rest << 64 | u128::from(self.magnitude[n]);
            magnitude[n] = (rest / u128::from(by)) as u64;
            rest %= u128::from(by);
        }
        Fixed { magnitude, ..*self }
    }

    pub(crate) fn half(&self) -> Fixed {
        self.div_small(2)
    }

    /// Bit by bit; the quotient is below 2^128, and the divisor below 2^127.
    pub(crate) fn div(&self, by: &Fixed) -> Fixed {
        let (mut rest, mut quotient) = ([0; LIMBS], [0; LIMBS]);
        // The dividend's bits from the top, then as many zeros as the fraction has.
        for bit in (0..64 * (LIMBS + FRACTION)).rev() {
            let next = bit
                .checked_sub(64 * FRACTION)
                .map_or(0, |bit| self.magnitude[bit / 64] >> (bit % 64) & 1);
            rest = shift_left(&rest, 1);
            rest[0] |= next;
            quotient = shift_left(&quotient, 1);
            if compare(&rest, &by.magnitude).is_ge() {
                rest = subtract(&rest, &by.magnitude);
                quotient[0] |= 1;
            }
        }
        Fixed {
            negative: self.negative != by.negative,
            magnitude: quotient,
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.magnitude == [0; LIMBS]
    }

    /// This error in 2^-20 of the last place of 64 bits of `truth`, rounded down.
    pub(crate) fn in_parts_of_ulp(&self, truth: &Fixed) -> u64 {
        // The unit is 2^(top - 63 - 20).
        let unit = top_bit(&truth.magnitude) - 83;
        let parts = shift_right(&self.magnitude, unit);
        assert!(parts[1..].iter().all(|&limb| limb == 0), "far off");
        parts[0]
    }

    /// 1/n - 1/3n^3 + 1/5n^5 and so on; `alternating` or, for the inverse hyperbolic tangent, not.
    fn inverse_tangent_of_inverse(n: u64, alternating: bool) -> Fixed {
        let mut power = Fixed::from_integer(1).div_small(n);
        let mut sum = power;
        for k in 1.. {
            power = power.div_small(n * n);
            if power.is_zero() {
                break;
            }
            let term = power.div_small(2 * k + 1);
            sum = if alternating && k % 2 == 1 {
                sum.sub(&term)
            } else {
                sum.add(&term)
            };
        }
        sum
    }

    /// Machin: pi = 16 atan(1/5) - 4 atan(1/239).
    pub(crate) fn pi() -> Fixed {
        let times = |n: u64, by: u64| {
            Fixed::from_integer(by).mul(&Fixed::inverse_tangent_of_inverse(n, true))
        };
        times(5, 16).sub(&times(239, 4))
    }

    /// ln 2 = 2 artanh(1/3).
    pub(crate) fn ln_2() -> Fixed {
        let t = Fixed::inverse_tangent_of_inverse(3, false);
        t.add(&t)
    }

    /// The sum of x^k / k! from `first` on, every `step`th term, with signs that alternate if `step` is 2.
    fn exponential_series(&self, first: u64, step: u64) -> Fixed {
        let mut term = if first == 0 {
            Fixed::from_integer(1)
        } else {
            *self
        };
        let mut sum = term;
        let mut k = first;
        while !term.is_zero() {
            for _ in 0..step {
                k += 1;
                term = term.mul(self).div_small(k);
            }
            if step == 2 {
                term = term.neg();
            }
            sum = sum.add(&term);
        }
        sum
    }

    /// e^x - 1.
    pub(crate) fn exp_m1(&self) -> Fixed {
        self.exponential_series(1, 1)
    }

    /// |x| as a multiple of pi/2, and what is left.
    fn reduced(&self) -> (u64, Fixed) {
        let quarter = Fixed::pi().half();
        let n = self.abs().div(&quarter).magnitude[FRACTION];
        (n, self.abs().sub(&quarter.mul(&Fixed::from_integer(n))))
    }

    pub(crate) fn sin(&self) -> Fixed {
        let (n, r) = self.reduced();
        let v = if n % 2 == 0 {
            r.exponential_series(1, 2)
        } else {
            r.exponential_series(0, 2)
        };
        if self.negative != (n % 4 >= 2) {
            v.neg()
        } else {
            v
        }
    }

    pub(crate) fn cos(&self) -> Fixed {
        let (n, r) = self.reduced();
        let v = if n % 2 == 0 {
            r.exponential_series(0, 2)
        } else {
            r.exponential_series(1, 2)
        };
        if matches!(n % 4, 1 | 2) { v.neg() } else { v }
    }

    /// ln((1 + t) / (1 - t)) = 2 (t + t^3/3 + t^5/5 ...).
    fn twice_artanh(&self) -> Fixed {
        let square = self.mul(self);
        let (mut power, mut sum) = (*self, *self);
        for k in 1.. {
            power = power.mul(&square);
            if power.is_zero() {
                break;
            }
            sum = sum.add(&power.div_small(2 * k + 1));
        }
        sum.add(&sum)
    }

    /// ln(1 + x), for a small x.
    pub(crate) fn ln_1p(&self) -> Fixed {
        self.div(&self.add(&Fixed::from_integer(2))).twice_artanh()
    }

    /// ln x, for a positive x.
    pub(crate) fn ln(&self) -> Fixed {
        let exponent = top_bit(&self.magnitude) as i64 - 64 * FRACTION as i64;
        let magnitude = match exponent >= 0 {
            true => shift_right(&self.magnitude, exponent as usize),
            false => shift_left(&self.magnitude, -exponent as usize),
        };
        let one = Fixed::from_integer(1);
        let m = Fixed { magnitude, ..*self };
        let twos = Fixed::from_integer(exponent.unsigned_abs()).mul(&Fixed::ln_2());
        let twos = if exponent < 0 { twos.neg() } else { twos };
        m.sub(&one).div(&m.add(&one)).twice_artanh().add(&twos)
    }

    /// Euler's series for 0 <= z <= 1: z/(1+z^2) times 1 + 2/3 w + 2*4/(3*5) w^2 ..., with w = z^2 / (1 + z^2).
    fn atan(&self) -> Fixed {
        let square = self.mul(self);
        let bottom = square.add(&Fixed::from_integer(1));
        let w = square.div(&bottom);
        let mut term = self.div(&bottom);
        let mut sum = term;
        for k in 1.. {
            term = term
                .mul(&w)
                .mul(&Fixed::from_integer(2 * k))
                .div_small(2 * k + 1);
            if term.is_zero() {
                break;
            }
            sum = sum.add(&term);
        }
        sum
    }

    /// The angle of the point (x, y).
    pub(crate) fn atan2(y: &Fixed, x: &Fixed) -> Fixed {
        let pi = Fixed::pi();
        let steep = compare(&y.magnitude, &x.magnitude).is_gt();
        let first = if steep {
            pi.half().sub(&x.abs().div(&y.abs()).atan())
        } else {
            y.abs().div(&x.abs()).atan()
        };
        let angle = if x.negative { pi.sub(&first) } else { first };
        if y.negative { angle.neg() } else { angle }
    }
}
