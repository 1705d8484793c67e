//! SSE4.2's string comparisons by the host's own instruction (Intel SDM vol. 2, 4.1).
//!
//! They are integer instructions and equal on every processor that has them; on one that has not, the caller computes.

use std::arch::asm;
use std::arch::x86_64::__m128i;

use crate::X;

/// What a comparison gives: the second intermediate result, a bit for each element, and the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Matched {
    pub bits: u32,
    pub cf: bool,
    pub zf: bool,
    pub sf: bool,
    pub of: bool,
}

/// Whether the host has the instructions.
pub fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("sse4.2")
}

/// Compares with implicit lengths. Of the immediate, bits 0 to 5 count.
///
/// # Panics
/// On a host without SSE4.2, see [`is_available`].
pub fn implicit(imm: u8, a: X, b: X) -> Matched {
    assert!(is_available());
    // SAFETY: the host has SSE4.2.
    unsafe { IMPLICIT[usize::from(imm & 63)](a, b) }
}

/// Compares with explicit lengths, which are saturated to the number of elements.
///
/// # Panics
/// On a host without SSE4.2, see [`is_available`].
pub fn explicit(imm: u8, a: X, a_len: u64, b: X, b_len: u64) -> Matched {
    assert!(is_available());
    // SAFETY: the host has SSE4.2.
    unsafe { EXPLICIT[usize::from(imm & 63)](a, a_len, b, b_len) }
}

type Implicit = unsafe fn(X, X) -> Matched;
type Explicit = unsafe fn(X, u64, X, u64) -> Matched;

fn vector(x: X) -> __m128i {
    // SAFETY: both are 128 bits without invalid values.
    unsafe { std::mem::transmute(x) }
}

fn matched(bits: __m128i, [cf, zf, sf, of]: [u8; 4]) -> Matched {
    // SAFETY: as in `vector`.
    let bits: X = unsafe { std::mem::transmute(bits) };
    Matched {
        bits: bits[0] as u32,
        cf: cf != 0,
        zf: zf != 0,
        sf: sf != 0,
        of: of != 0,
    }
}

/// # Safety
/// The host has SSE4.2.
unsafe fn pcmpistrm<const IMM: u8>(a: X, b: X) -> Matched {
    let (bits, c, z, s, o);
    // SAFETY: by contract; registers alone are read and written.
    unsafe {
        asm!(
            "pcmpistrm {a}, {b}, {imm}", "setc {c}", "setz {z}", "sets {s}", "seto {o}",
            a = in(xmm_reg) vector(a), b = in(xmm_reg) vector(b), imm = const IMM, out("xmm0") bits,
            c = out(reg_byte) c, z = out(reg_byte) z, s = out(reg_byte) s, o = out(reg_byte) o,
            options(pure, nomem, nostack),
        );
    }
    matched(bits, [c, z, s, o])
}

/// # Safety
/// The host has SSE4.2.
unsafe fn pcmpestrm<const IMM: u8>(a: X, a_len: u64, b: X, b_len: u64) -> Matched {
    let (bits, c, z, s, o);
    // SAFETY: by contract; registers alone are read and written.
    unsafe {
        asm!(
            // With REX.W the lengths are those of RAX and RDX in whole.
            "rex64 pcmpestrm {a}, {b}, {imm}", "setc {c}", "setz {z}", "sets {s}", "seto {o}",
            a = in(xmm_reg) vector(a), b = in(xmm_reg) vector(b), imm = const IMM, out("xmm0") bits,
            in("rax") a_len, in("rdx") b_len,
            c = out(reg_byte) c, z = out(reg_byte) z, s = out(reg_byte) s, o = out(reg_byte) o,
            options(pure, nomem, nostack),
        );
    }
    matched(bits, [c, z, s, o])
}

macro_rules! all {
    ($function:ident) => {
        all!($function,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47
        48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
        )
    };
    ($function:ident, $($imm:literal)*) => { [$($function::<$imm>),*] };
}

static IMPLICIT: [Implicit; 64] = all!(pcmpistrm);
static EXPLICIT: [Explicit; 64] = all!(pcmpestrm);
