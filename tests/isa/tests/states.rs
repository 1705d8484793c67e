//! What cases begin with: every kind of state that instructions depend on comes up, and not just once.

use std::collections::BTreeMap;

use isa_native::Slot;
use isa_native::layout::{DATA, PAGE, READ_ONLY};
use isa_native::segments::{self, DS, SS};
use isa_tests::generate::{self, Case};
use isa_tests::{Bits, forms};

const CASES: u64 = 20_000;
/// The least that counts as covered: a campaign of a million has fifty times as many.
const ENOUGH: u64 = 3;

fn count(seen: &mut BTreeMap<&'static str, u64>, what: &'static str, is: bool) {
    *seen.entry(what).or_default() += u64::from(is);
}

fn control(seen: &mut BTreeMap<&'static str, u64>, slot: &Slot) {
    let (fx, flags) = (&slot.before.fx, slot.before.rflags);
    count(seen, "AC", flags & 1 << 18 != 0);
    count(seen, "DF", flags & 1 << 10 != 0);
    let mxcsr = fx.mxcsr;
    for (mode, what) in ["nearest", "down", "up", "to zero"].into_iter().enumerate() {
        count(seen, what, mxcsr >> 13 & 3 == mode as u32);
    }
    count(seen, "flush to zero", mxcsr & 0x8000 != 0);
    count(seen, "denormals are zero", mxcsr & 0x40 != 0);
    for n in 0..6 {
        let name = ["IM", "DM", "ZM", "OM", "UM", "PM"][n];
        count(seen, name, mxcsr >> (7 + n) & 1 == 0);
    }
    let fcw = fx.fcw;
    for (bits, what) in [(0, "24 bits"), (2, "53 bits"), (3, "64 bits")] {
        count(seen, what, fcw >> 8 & 3 == bits);
    }
    for (mode, what) in ["x87 nearest", "x87 down", "x87 up", "x87 to zero"]
        .into_iter()
        .enumerate()
    {
        count(seen, what, fcw >> 10 & 3 == mode as u16);
    }
    count(seen, "x87 unmasked", fcw & 0x3f != 0x3f);
    count(seen, "x87 pending", fx.fsw & 0x80 != 0);
    count(seen, "x87 empty register", fx.ftw != 0xff);
}

fn values(seen: &mut BTreeMap<&'static str, u64>, slot: &Slot) {
    let lanes = slot.before.fx.xmm[0].map(f64::from_bits);
    count(seen, "NaN", lanes[0].is_nan());
    count(
        seen,
        "signalling NaN",
        lanes[0].is_nan() && lanes[0].to_bits() >> 51 & 1 == 0,
    );
    count(seen, "denormal", lanes[0].is_subnormal());
    count(seen, "infinity", lanes[0].is_infinite());
    let single = f32::from_bits(slot.before.fx.xmm[1][0] as u32);
    count(seen, "denormal of 32 bits", single.is_subnormal());
    let [significand, sign] = slot.before.fx.st[0];
    count(
        seen,
        "80-bit denormal",
        sign & 0x7fff == 0 && significand != 0,
    );
    count(
        seen,
        "80-bit unsupported",
        sign & 0x7fff != 0 && significand >> 63 == 0,
    );
}

fn operands(seen: &mut BTreeMap<&'static str, u64>, case: &Case, slot: &Slot) {
    let Some(at) = case.operand else { return };
    let bytes = (case.instruction.memory_size().size() as u64).max(1);
    let last = at.wrapping_add(bytes - 1);
    count(seen, "misaligned", at % bytes.next_power_of_two() != 0);
    count(
        seen,
        "over two pages",
        at < DATA + PAGE && last >= DATA + PAGE,
    );
    count(
        seen,
        "into the read-only page",
        at < READ_ONLY && last >= READ_ONLY,
    );
    count(seen, "from before the pages", at < DATA && last >= DATA);
    count(
        seen,
        "behind the pages",
        last.wrapping_sub(READ_ONLY + PAGE) < 64,
    );
    let Some(d) = segments::descriptor(slot.before.selectors[DS]) else {
        return;
    };
    let limit = u64::from(d.base) + u64::from(d.limit_in_bytes());
    count(seen, "over a limit", at <= limit && last > limit);
}

/// How often each kind came up.
fn seen(bits: Bits) -> BTreeMap<&'static str, u64> {
    let (forms, mut slot, mut seen) = (forms::all(bits), Slot::default(), BTreeMap::new());
    for number in 0..CASES {
        let case = generate::case(&forms, 5, number, &mut slot);
        control(&mut seen, &slot);
        values(&mut seen, &slot);
        operands(&mut seen, &case, &slot);
        let stack = segments::descriptor(slot.before.selectors[SS]);
        if bits != Bits::B64 {
            count(&mut seen, "16-bit stack", stack.is_some_and(|d| !d.big));
            count(&mut seen, "32-bit stack", stack.is_none_or(|d| d.big));
            count(&mut seen, "expand-down", stack.is_some_and(|d| d.down));
        }
    }
    seen
}

#[test]
fn every_kind_of_state_comes_up() {
    for bits in [Bits::B64, Bits::B32, Bits::B16] {
        let seen = seen(bits);
        let rare: Vec<_> = seen.iter().filter(|(_, n)| **n < ENOUGH).collect();
        assert!(rare.is_empty(), "{bits:?}: {rare:?}");
    }
}
