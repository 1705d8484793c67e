//! Virtual time: nanoseconds since the machine was switched on.
//!
//! It is a function of instructions retired, idle skips and fixed charges, and of nothing else. Durations are plain
//! `u64` nanoseconds. All arithmetic saturates: 2^64 ns are 584 years, and a timer "never" is [`VirtualTime::MAX`].

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use serde::{Deserialize, Serialize};

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[repr(transparent)]
pub struct VirtualTime(pub u64);

impl VirtualTime {
    pub const ZERO: Self = Self(0);
    /// Later than everything that happens: a timer that is not armed.
    pub const MAX: Self = Self(u64::MAX);

    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    pub const fn from_us(us: u64) -> Self {
        Self(us.saturating_mul(1_000))
    }

    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    pub const fn ns(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` until this time; zero if that is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn is_never(self) -> bool {
        self.0 == u64::MAX
    }
}

impl Add<u64> for VirtualTime {
    type Output = Self;

    fn add(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

impl AddAssign<u64> for VirtualTime {
    fn add_assign(&mut self, ns: u64) {
        *self = *self + ns;
    }
}

impl Sub<u64> for VirtualTime {
    type Output = Self;

    fn sub(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }
}

impl Sub for VirtualTime {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.since(earlier)
    }
}

impl fmt::Display for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("never");
        }
        write!(
            f,
            "{}.{:09}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(VirtualTime::MAX + 1, VirtualTime::MAX);
        assert_eq!(VirtualTime::ZERO - 1, VirtualTime::ZERO);
        assert_eq!(VirtualTime(3) - VirtualTime(5), 0);
        assert_eq!(
            VirtualTime::from_ms(2) - VirtualTime::from_us(500),
            1_500_000
        );
        assert_eq!(VirtualTime(1_500_000_000).to_string(), "1.500000000s");
        assert_eq!(VirtualTime::MAX.to_string(), "never");
    }
}
