//! The interpreter's 128-bit integer vectors: the verbs of [`crate::Eval`] on `[u64; 2]`, in plain lane arithmetic.
//!
//! Functions of values alone; the floating-point verbs, which touch MXCSR, are in `eval_fp`. An operation that is a
//! constant of the instruction folds away, as everything here is inlined into the handlers.
//!
//! Source: Intel SDM vol. 2, the "Operation" section of each instruction.

use crate::eval::{VecBin, VecShift, VecShuf, VecUn};
use crate::op::Width;

/// 128 bits: the low half first.
pub type X = [u64; 2];

macro_rules! lanes {
    ($($split:ident $join:ident $t:ty, $u:ty, $n:literal;)*) => {$(
        #[inline(always)]
        fn $split(x: X) -> [$t; $n] {
            const PER: usize = $n / 2;
            core::array::from_fn(|i| (x[i / PER] >> (i % PER * <$t>::BITS as usize)) as $t)
        }
        #[inline(always)]
        fn $join(v: [$t; $n]) -> X {
            const PER: usize = $n / 2;
            core::array::from_fn(|h| {
                (0..PER).fold(0, |x, i| x | u64::from(v[h * PER + i] as $u) << (i * <$t>::BITS as usize))
            })
        }
    )*};
}
lanes! {
    u8s of_u8s u8, u8, 16;
    i8s of_i8s i8, u8, 16;
    u16s of_u16s u16, u16, 8;
    i16s of_i16s i16, u16, 8;
    u32s of_u32s u32, u32, 4;
    i32s of_i32s i32, u32, 4;
}

#[inline(always)]
fn i64s(x: X) -> [i64; 2] {
    x.map(|v| v as i64)
}
#[inline(always)]
fn of_i64s(v: [i64; 2]) -> X {
    v.map(|v| v as u64)
}

/// Lane-wise over two vectors: `each!(split, join, a, b, |x, y| ...)`.
macro_rules! each {
    ($split:ident, $join:ident, $a:expr, $b:expr, $f:expr) => {{
        let (a, b) = ($split($a), $split($b));
        $join(core::array::from_fn(|i| zip(a[i], b[i], $f)))
    }};
}

/// Calls `f`; it tells the compiler the closure's argument types.
#[inline(always)]
fn zip<T, R>(a: T, b: T, f: impl Fn(T, T) -> R) -> R {
    f(a, b)
}

#[inline(always)]
fn full(w: u32, on: bool) -> u64 {
    if on { u64::MAX >> (64 - w) } else { 0 }
}

/// Two-operand operations.
#[inline(always)]
pub fn x_bin(op: VecBin, a: X, b: X) -> X {
    use VecBin::*;
    match op {
        And => [a[0] & b[0], a[1] & b[1]],
        Or => [a[0] | b[0], a[1] | b[1]],
        Xor => [a[0] ^ b[0], a[1] ^ b[1]],
        AndNot => [!a[0] & b[0], !a[1] & b[1]],
        AddB => each!(u8s, of_u8s, a, b, u8::wrapping_add),
        AddW => each!(u16s, of_u16s, a, b, u16::wrapping_add),
        AddD => each!(u32s, of_u32s, a, b, u32::wrapping_add),
        AddQ => [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])],
        SubB => each!(u8s, of_u8s, a, b, u8::wrapping_sub),
        SubW => each!(u16s, of_u16s, a, b, u16::wrapping_sub),
        SubD => each!(u32s, of_u32s, a, b, u32::wrapping_sub),
        SubQ => [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])],
        AddSatSB => each!(i8s, of_i8s, a, b, i8::saturating_add),
        AddSatSW => each!(i16s, of_i16s, a, b, i16::saturating_add),
        AddSatUB => each!(u8s, of_u8s, a, b, u8::saturating_add),
        AddSatUW => each!(u16s, of_u16s, a, b, u16::saturating_add),
        SubSatSB => each!(i8s, of_i8s, a, b, i8::saturating_sub),
        SubSatSW => each!(i16s, of_i16s, a, b, i16::saturating_sub),
        SubSatUB => each!(u8s, of_u8s, a, b, u8::saturating_sub),
        SubSatUW => each!(u16s, of_u16s, a, b, u16::saturating_sub),
        AvgUB => each!(
            u8s,
            of_u8s,
            a,
            b,
            |x, y| ((u16::from(x) + u16::from(y) + 1) >> 1) as u8
        ),
        AvgUW => each!(
            u16s,
            of_u16s,
            a,
            b,
            |x, y| ((u32::from(x) + u32::from(y) + 1) >> 1) as u16
        ),
        MinUB => each!(u8s, of_u8s, a, b, u8::min),
        MaxUB => each!(u8s, of_u8s, a, b, u8::max),
        MinSW => each!(i16s, of_i16s, a, b, i16::min),
        MaxSW => each!(i16s, of_i16s, a, b, i16::max),
        MinSB => each!(i8s, of_i8s, a, b, i8::min),
        MaxSB => each!(i8s, of_i8s, a, b, i8::max),
        MinUW => each!(u16s, of_u16s, a, b, u16::min),
        MaxUW => each!(u16s, of_u16s, a, b, u16::max),
        MinSD => each!(i32s, of_i32s, a, b, i32::min),
        MaxSD => each!(i32s, of_i32s, a, b, i32::max),
        MinUD => each!(u32s, of_u32s, a, b, u32::min),
        MaxUD => each!(u32s, of_u32s, a, b, u32::max),
        CmpEqB => each!(u8s, of_u8s, a, b, |x, y| full(8, x == y) as u8),
        CmpEqW => each!(u16s, of_u16s, a, b, |x, y| full(16, x == y) as u16),
        CmpEqD => each!(u32s, of_u32s, a, b, |x, y| full(32, x == y) as u32),
        CmpEqQ => [full(64, a[0] == b[0]), full(64, a[1] == b[1])],
        CmpGtB => each!(i8s, of_i8s, a, b, |x, y| full(8, x > y) as i8),
        CmpGtW => each!(i16s, of_i16s, a, b, |x, y| full(16, x > y) as i16),
        CmpGtD => each!(i32s, of_i32s, a, b, |x, y| full(32, x > y) as i32),
        CmpGtQ => each!(i64s, of_i64s, a, b, |x, y| full(64, x > y) as i64),
        SignB => each!(i8s, of_i8s, a, b, |x, y| sign(i32::from(x), i32::from(y))
            as i8),
        SignW => each!(i16s, of_i16s, a, b, |x, y| sign(i32::from(x), i32::from(y))
            as i16),
        SignD => each!(i32s, of_i32s, a, b, sign),
        _ => x_bin_wide(op, a, b),
    }
}

/// PSIGNx of one lane.
#[inline(always)]
fn sign(x: i32, y: i32) -> i32 {
    match y.signum() {
        0 => 0,
        1 => x,
        _ => x.wrapping_neg(),
    }
}

/// The operations whose lanes are not each other's equals: products, packs, unpacks, horizontal sums.
#[inline(always)]
fn x_bin_wide(op: VecBin, a: X, b: X) -> X {
    use VecBin::*;
    match op {
        MulLoW => each!(i16s, of_i16s, a, b, i16::wrapping_mul),
        MulHiSW => each!(
            i16s,
            of_i16s,
            a,
            b,
            |x, y| ((i32::from(x) * i32::from(y)) >> 16) as i16
        ),
        MulHiUW => each!(
            u16s,
            of_u16s,
            a,
            b,
            |x, y| ((u32::from(x) * u32::from(y)) >> 16) as u16
        ),
        MulLoD => each!(i32s, of_i32s, a, b, i32::wrapping_mul),
        MulUDQ => [0, 1].map(|i| (a[i] & 0xffff_ffff) * (b[i] & 0xffff_ffff)),
        MulSDQ => [0, 1].map(|i| (i64::from(a[i] as i32) * i64::from(b[i] as i32)) as u64),
        MulHrSW => each!(i16s, of_i16s, a, b, |x, y| {
            ((((i32::from(x) * i32::from(y)) >> 14) + 1) >> 1) as i16
        }),
        MaddWD => {
            let (a, b) = (i16s(a), i16s(b));
            let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
            of_i32s(core::array::from_fn(|i| {
                product(2 * i).wrapping_add(product(2 * i + 1))
            }))
        }
        MaddUBSW => {
            let (a, b) = (u8s(a), i8s(b));
            let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
            of_i16s(core::array::from_fn(|i| {
                sat16(product(2 * i) + product(2 * i + 1))
            }))
        }
        SadBW => {
            let (a, b) = (u8s(a), u8s(b));
            [0, 8].map(|h| (h..h + 8).map(|i| u64::from(a[i].abs_diff(b[i]))).sum())
        }
        UnpackLoB => unpack8(a[0], b[0]),
        UnpackHiB => unpack8(a[1], b[1]),
        UnpackLoW => unpack16(a[0], b[0]),
        UnpackHiW => unpack16(a[1], b[1]),
        UnpackLoD => unpack32(a[0], b[0]),
        UnpackHiD => unpack32(a[1], b[1]),
        UnpackLoQ => [a[0], b[0]],
        UnpackHiQ => [a[1], b[1]],
        PackSSWB => pack8(a, b, |x| x.clamp(-128, 127) as u8),
        PackUSWB => pack8(a, b, |x| x.clamp(0, 255) as u8),
        PackSSDW => pack16(a, b, |x| x.clamp(-0x8000, 0x7fff) as u16),
        PackUSDW => pack16(a, b, |x| x.clamp(0, 0xffff) as u16),
        PshufB => {
            let (a, b) = (u8s(a), u8s(b));
            of_u8s(core::array::from_fn(|i| {
                if b[i] & 0x80 != 0 {
                    0
                } else {
                    a[usize::from(b[i] & 15)]
                }
            }))
        }
        HaddW => horizontal16(a, b, |x, y| x.wrapping_add(y) as i16),
        HaddSatW => horizontal16(a, b, |x, y| sat16(x + y)),
        HsubW => horizontal16(a, b, |x, y| x.wrapping_sub(y) as i16),
        HsubSatW => horizontal16(a, b, |x, y| sat16(x - y)),
        HaddD => horizontal32(a, b, i32::wrapping_add),
        HsubD => horizontal32(a, b, i32::wrapping_sub),
        SllVD => each!(u32s, of_u32s, a, b, |x, n| x.checked_shl(n).unwrap_or(0)),
        SrlVD => each!(u32s, of_u32s, a, b, |x, n| x.checked_shr(n).unwrap_or(0)),
        SraVD => each!(i32s, of_i32s, a, b, |x, n| x >> (n as u32).min(31)),
        SllVQ => [0, 1].map(|i| shift64(a[i], b[i], u64::checked_shl)),
        SrlVQ => [0, 1].map(|i| shift64(a[i], b[i], u64::checked_shr)),
        PermilS => of_u32s(u32s(b).map(|i| u32s(a)[i as usize & 3])),
        PermilD => b.map(|i| a[i as usize >> 1 & 1]),
        _ => unreachable!("lane-wise operations are in x_bin"),
    }
}

#[inline(always)]
fn sat16(x: i32) -> i16 {
    x.clamp(-0x8000, 0x7fff) as i16
}

/// A shift by any count.
#[inline(always)]
fn shift64(v: u64, count: u64, f: impl Fn(u64, u32) -> Option<u64>) -> u64 {
    u32::try_from(count).ok().and_then(|n| f(v, n)).unwrap_or(0)
}

#[inline(always)]
fn unpack8(a: u64, b: u64) -> X {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    of_u8s(core::array::from_fn(|i| {
        if i % 2 == 0 { a[i / 2] } else { b[i / 2] }
    }))
}

#[inline(always)]
fn unpack16(a: u64, b: u64) -> X {
    of_u16s(core::array::from_fn(|i| {
        (if i % 2 == 0 { a } else { b } >> (i / 2 * 16)) as u16
    }))
}

#[inline(always)]
fn unpack32(a: u64, b: u64) -> X {
    [a & 0xffff_ffff | b << 32, a >> 32 | b >> 32 << 32]
}

#[inline(always)]
fn pack8(a: X, b: X, f: impl Fn(i16) -> u8) -> X {
    let (a, b) = (i16s(a), i16s(b));
    of_u8s(core::array::from_fn(|i| {
        f(if i < 8 { a[i] } else { b[i - 8] })
    }))
}

#[inline(always)]
fn pack16(a: X, b: X, f: impl Fn(i32) -> u16) -> X {
    let (a, b) = (i32s(a), i32s(b));
    of_u16s(core::array::from_fn(|i| {
        f(if i < 4 { a[i] } else { b[i - 4] })
    }))
}

#[inline(always)]
fn horizontal16(a: X, b: X, f: impl Fn(i32, i32) -> i16) -> X {
    let (a, b) = (i16s(a), i16s(b));
    of_i16s(core::array::from_fn(|i| {
        let (v, j) = if i < 4 {
            (&a, 2 * i)
        } else {
            (&b, 2 * (i - 4))
        };
        f(i32::from(v[j]), i32::from(v[j + 1]))
    }))
}

#[inline(always)]
fn horizontal32(a: X, b: X, f: impl Fn(i32, i32) -> i32) -> X {
    let (a, b) = (i32s(a), i32s(b));
    of_i32s([f(a[0], a[1]), f(a[2], a[3]), f(b[0], b[1]), f(b[2], b[3])])
}

/// One-operand operations.
#[inline(always)]
pub fn x_un(op: VecUn, a: X) -> X {
    use VecUn::*;
    match op {
        AbsB => of_u8s(i8s(a).map(i8::unsigned_abs)),
        AbsW => of_u16s(i16s(a).map(i16::unsigned_abs)),
        AbsD => of_u32s(i32s(a).map(i32::unsigned_abs)),
        SxBW => of_i16s(core::array::from_fn(|i| i16::from(i8s(a)[i]))),
        SxBD => of_i32s(core::array::from_fn(|i| i32::from(i8s(a)[i]))),
        SxBQ => of_i64s(core::array::from_fn(|i| i64::from(i8s(a)[i]))),
        SxWD => of_i32s(core::array::from_fn(|i| i32::from(i16s(a)[i]))),
        SxWQ => of_i64s(core::array::from_fn(|i| i64::from(i16s(a)[i]))),
        SxDQ => of_i64s(core::array::from_fn(|i| i64::from(i32s(a)[i]))),
        ZxBW => of_u16s(core::array::from_fn(|i| u16::from(u8s(a)[i]))),
        ZxBD => of_u32s(core::array::from_fn(|i| u32::from(u8s(a)[i]))),
        ZxBQ => [a[0] & 0xff, a[0] >> 8 & 0xff],
        ZxWD => of_u32s(core::array::from_fn(|i| u32::from(u16s(a)[i]))),
        ZxWQ => [a[0] & 0xffff, a[0] >> 16 & 0xffff],
        ZxDQ => [a[0] & 0xffff_ffff, a[0] >> 32],
        MinPosUW => {
            let v = u16s(a);
            // The first of equal minima: the index makes the keys distinct.
            let least = (0..8)
                .map(|i| u64::from(v[i]) << 3 | i as u64)
                .min()
                .unwrap_or(0);
            [least >> 3 | (least & 7) << 16, 0]
        }
    }
}

/// Shifts by one count for all lanes.
#[inline(always)]
pub fn x_shift(op: VecShift, a: X, count: u64) -> X {
    use VecShift::*;
    // A count beyond the lane gives what the greatest shift would: zeros, or copies of the sign.
    let n = count.min(64) as u32;
    match op {
        SllW => of_u16s(u16s(a).map(|x| x.checked_shl(n).unwrap_or(0))),
        SllD => of_u32s(u32s(a).map(|x| x.checked_shl(n).unwrap_or(0))),
        SllQ => a.map(|x| x.checked_shl(n).unwrap_or(0)),
        SrlW => of_u16s(u16s(a).map(|x| x.checked_shr(n).unwrap_or(0))),
        SrlD => of_u32s(u32s(a).map(|x| x.checked_shr(n).unwrap_or(0))),
        SrlQ => a.map(|x| x.checked_shr(n).unwrap_or(0)),
        SraW => of_i16s(i16s(a).map(|x| x >> n.min(15))),
        SraD => of_i32s(i32s(a).map(|x| x >> n.min(31))),
        SllB => whole(a, |x| x.checked_shl(8 * n).unwrap_or(0)),
        SrlB => whole(a, |x| x.checked_shr(8 * n).unwrap_or(0)),
    }
}

#[inline(always)]
fn whole(a: X, f: impl Fn(u128) -> u128) -> X {
    let v = f(u128::from(a[1]) << 64 | u128::from(a[0]));
    [v as u64, (v >> 64) as u64]
}

/// Shuffles by an immediate.
#[inline(always)]
pub fn x_shuf(op: VecShuf, a: X, b: X, imm: u8) -> X {
    let two = |i: u32| usize::from(imm >> (2 * i) & 3);
    let words = |h: u64| (0..4).fold(0, |r, i| r | (h >> (two(i) * 16) & 0xffff) << (i * 16));
    match op {
        VecShuf::D => of_u32s([0, 1, 2, 3].map(|i| u32s(a)[two(i)])),
        VecShuf::Lw => [words(a[0]), a[1]],
        VecShuf::Hw => [a[0], words(a[1])],
        VecShuf::Ps => {
            let (a, b) = (u32s(a), u32s(b));
            of_u32s([a[two(0)], a[two(1)], b[two(2)], b[two(3)]])
        }
        VecShuf::Pd => [a[usize::from(imm & 1)], b[usize::from(imm >> 1 & 1)]],
        VecShuf::Align => align(a, b, imm),
        VecShuf::DupLoD => [a[0], a[0]],
        VecShuf::DupEvenS => a.map(|x| x & 0xffff_ffff | x << 32),
        VecShuf::DupOddS => a.map(|x| x >> 32 | x >> 32 << 32),
    }
}

/// PALIGNR: bytes `imm` to `imm` + 15 of a:b.
fn align(a: X, b: X, imm: u8) -> X {
    let (a, b) = (u8s(a), u8s(b));
    of_u8s(core::array::from_fn(|i| match i + usize::from(imm) {
        j @ 0..16 => b[j],
        j @ 16..32 => a[j - 16],
        _ => 0,
    }))
}

/// Lane `i` of width `w`, zero-extended.
#[inline(always)]
pub fn x_lane(w: Width, a: X, i: u8) -> u64 {
    let bit = u32::from(i) * w.bits();
    a[(bit >> 6 & 1) as usize] >> (bit & 63) & w.mask()
}

/// The vector with lane `i` replaced by `v`'s low bits.
#[inline(always)]
pub fn x_with_lane(w: Width, mut a: X, i: u8, v: u64) -> X {
    let bit = u32::from(i) * w.bits();
    let half = &mut a[(bit >> 6 & 1) as usize];
    *half = *half & !(w.mask() << (bit & 63)) | (v & w.mask()) << (bit & 63);
    a
}

/// The sign bits of all lanes.
#[inline(always)]
pub fn x_mask(w: Width, a: X) -> u64 {
    // A multiplication gathers the sign bits of one half into its top byte: bit 8i goes to bit 56 + i.
    let bytes = |h: u64| (h >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    match w {
        Width::B => bytes(a[0]) | bytes(a[1]) << 8,
        Width::W => (0..8).fold(0, |m, i| m | (x_lane(w, a, i) >> 15) << i),
        Width::D => a[0] >> 31 & 1 | a[0] >> 63 << 1 | (a[1] >> 31 & 1) << 2 | a[1] >> 63 << 3,
        Width::Q => a[0] >> 63 | a[1] >> 63 << 1,
    }
}

/// Lane-wise b where the mask's sign bit is set, else a.
#[inline(always)]
pub fn x_blend(w: Width, a: X, b: X, mask: X) -> X {
    let m = match w {
        Width::B => of_i8s(i8s(mask).map(|x| x >> 7)),
        Width::W => of_i16s(i16s(mask).map(|x| x >> 15)),
        Width::D => of_i32s(i32s(mask).map(|x| x >> 31)),
        Width::Q => of_i64s(i64s(mask).map(|x| x >> 63)),
    };
    [0, 1].map(|i| a[i] & !m[i] | b[i] & m[i])
}
