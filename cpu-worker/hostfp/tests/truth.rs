//! The transcendentals against the true values, computed here to some 500 bits by plain power series: no part of what is tested
//! takes part in it. The bound is 1 ulp in every rounding mode (SDM vol. 1, 8.3.10); to the nearest it is half of one.

mod fixed;

use atoll_hostfp::transcendental as tr;
use atoll_hostfp::x87::{self, Env, F80};
use fixed::Fixed;

/// A small generator: any 64-bit sequence will do.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 ^ self.0 >> 29
    }

    /// A number with a binary exponent from `low` to `high`, of either sign; its fraction is of any kind.
    fn number(&mut self, low: i64, high: i64) -> F80 {
        let bits = self.word();
        let exponent = 16383 + low + ((bits >> 8) % (high - low + 1) as u64) as i64;
        let fraction = match bits & 3 {
            0 => bits >> 2 & 1,
            1 => u64::MAX >> 1,
            _ => self.word() >> 1,
        };
        [1 << 63 | fraction, exponent as u64 | bits >> 63 << 15]
    }
}

fn positive([significand, sign]: F80) -> F80 {
    [significand, sign & 0x7fff]
}

/// The greatest error seen, in 2^-20 of an ulp, by rounding mode.
#[derive(Default)]
struct Worst([u64; 4]);

impl Worst {
    fn check(&mut self, name: &str, operands: &[F80], mode: usize, ours: F80, truth: &Fixed) {
        let error = Fixed::from_f80(ours).sub(truth).abs();
        if truth.is_zero() {
            // The logarithm of 1.
            assert!(error.is_zero(), "{name} {operands:x?}: {ours:x?} is not 0");
            return;
        }
        let parts = error.in_parts_of_ulp(truth);
        let bound = if mode == 0 { (1 << 19) + 1 } else { 1 << 20 };
        assert!(
            parts < bound,
            "{name} {operands:x?}, rounding mode {mode}: {ours:x?} is {parts} / 2^20 ulp off"
        );
        self.0[mode] = self.0[mode].max(parts);
    }
}

/// Each rounding mode's environment, full precision.
fn environments() -> [Env; 4] {
    [0u16, 1, 2, 3].map(|mode| Env {
        control: x87::DEFAULT & !0xc00 | mode << 10,
        status: 0,
    })
}

fn of_one(
    name: &str,
    f: fn(F80, Env) -> x87::Done,
    truth: fn(&Fixed) -> Fixed,
    ranges: &[(i64, i64)],
) {
    let (mut random, mut worst) = (Random(7), Worst::default());
    for n in 0..400 {
        let (low, high) = ranges[n % ranges.len()];
        let x = random.number(low, high);
        let t = truth(&Fixed::from_f80(x));
        for (mode, env) in environments().into_iter().enumerate() {
            worst.check(name, &[x], mode, f(x, env).value, &t);
        }
    }
    // The test compares something: results are rounded, so that errors come near to the bounds.
    assert!(
        worst.0[0] > 1 << 18 && worst.0[1] > 1 << 19,
        "{name} {:?}",
        worst.0
    );
}

fn of_two(
    name: &str,
    f: fn(F80, F80, Env) -> x87::Done,
    truth: fn(&Fixed, &Fixed) -> Fixed,
    operands: fn(&mut Random) -> [F80; 2],
) {
    let (mut random, mut worst) = (Random(11), Worst::default());
    for _ in 0..400 {
        let [x, y] = operands(&mut random);
        let t = truth(&Fixed::from_f80(x), &Fixed::from_f80(y));
        for (mode, env) in environments().into_iter().enumerate() {
            worst.check(name, &[x, y], mode, f(x, y, env).value, &t);
        }
    }
    assert!(
        worst.0[0] > 1 << 18 && worst.0[1] > 1 << 19,
        "{name} {:?}",
        worst.0
    );
}

/// Angles from tiny ones to the end of the range, 2^63, which a CPU with 66 bits of pi gets wrong in the first place.
const ANGLES: &[(i64, i64)] = &[(-100, -2), (-2, 2), (2, 20), (20, 62), (62, 62)];

#[test]
fn sines() {
    of_one("fsin", tr::sin, Fixed::sin, ANGLES);
    of_one("fsincos", |x, e| tr::sincos(x, e).0, Fixed::sin, ANGLES);
}

#[test]
fn cosines() {
    // Below 2^-33 the cosine is 1 less next to nothing, and no rounding comes near to the bound.
    of_one("fcos", tr::cos, Fixed::cos, ANGLES);
    let second = |x, e| {
        let (mut done, cos) = tr::sincos(x, e);
        done.value = cos;
        done
    };
    of_one("fsincos", second, Fixed::cos, ANGLES);
}

#[test]
fn tangents() {
    let tan = |x: &Fixed| x.sin().div(&x.cos());
    of_one("fptan", |x, e| tr::ptan(x, e).0, tan, ANGLES);
}

#[test]
fn sines_next_to_multiples_of_pi() {
    // The numbers of 64 bits nearest to multiples of pi/2: what is left of them is small, and all of it is pi's further bits.
    let quarter = Fixed::pi().half();
    for n in [
        1,
        2,
        3,
        7,
        22,
        355,
        104_348,
        6_167_950_454,
        21_053_343_141_u64,
    ] {
        let x = quarter.mul(&Fixed::from_integer(n)).to_f80();
        let exact = Fixed::from_f80(x);
        for (mode, env) in environments().into_iter().enumerate() {
            let mut worst = Worst::default();
            worst.check("fsin", &[x], mode, tr::sin(x, env).value, &exact.sin());
            worst.check("fcos", &[x], mode, tr::cos(x, env).value, &exact.cos());
        }
    }
}

#[test]
fn powers() {
    let truth = |x: &Fixed| x.mul(&Fixed::ln_2()).exp_m1();
    of_one(
        "f2xm1",
        tr::f2xm1,
        truth,
        &[(-100, -20), (-20, -1), (-1, -1)],
    );
}

#[test]
fn arc_tangents() {
    let truth = |x: &Fixed, y: &Fixed| Fixed::atan2(y, x);
    of_two("fpatan", tr::patan, truth, |r| {
        [r.number(-40, 40), r.number(-40, 40)]
    });
}

#[test]
fn logarithms() {
    let truth = |x: &Fixed, y: &Fixed| x.ln().div(&Fixed::ln_2()).mul(y);
    of_two("fyl2x", tr::yl2x, truth, |r| {
        [positive(r.number(-60, 60)), r.number(-20, 20)]
    });
    // Next to 1, where the logarithm is small.
    of_two("fyl2x", tr::yl2x, truth, |r| {
        [positive(r.number(-1, 0)), r.number(-20, 20)]
    });
}

#[test]
fn logarithms_of_one_and_something() {
    let truth = |x: &Fixed, y: &Fixed| x.ln_1p().div(&Fixed::ln_2()).mul(y);
    of_two("fyl2xp1", tr::yl2xp1, truth, |r| {
        [r.number(-100, -3), r.number(-20, 20)]
    });
}
