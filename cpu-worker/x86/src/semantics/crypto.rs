//! AES-NI and PCLMULQDQ, in plain integer arithmetic.
//!
//! A state is a vector of 16 bytes, column by column, as FIPS 197 and the Intel SDM (vol. 1, 12.13) have it. The S-box is
//! computed at compile time from its definition.

use super::sse::{Form, lanes};
use crate::cpu::Cpu;
use crate::exception::Stop;
use crate::interp::eval_vec::X;
use crate::op::Op;

type Done = Result<(), Stop>;
type Block = [u8; 16];

/// Product in GF(2^8) by x^8 + x^4 + x^3 + x + 1.
const fn gf_mul(mut a: u8, mut b: u8) -> u8 {
    let mut r = 0;
    while b != 0 {
        if b & 1 != 0 {
            r ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    r
}

/// The S-box: the inverse in GF(2^8) (a^254; zero for zero), then an affine map (FIPS 197, 5.1.1).
const fn s_box() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let a = i as u8;
        let (mut inverse, mut n) = (1u8, 0);
        while n < 254 {
            inverse = gf_mul(inverse, a);
            n += 1;
        }
        let b = inverse;
        let mixed = b.rotate_left(1) ^ b.rotate_left(2) ^ b.rotate_left(3) ^ b.rotate_left(4);
        table[i] = b ^ mixed ^ 0x63;
        i += 1;
    }
    table
}

const fn inverse_of(table: &[u8; 256]) -> [u8; 256] {
    let mut r = [0; 256];
    let mut i = 0;
    while i < 256 {
        r[table[i] as usize] = i as u8;
        i += 1;
    }
    r
}

/// One row of products, so that mixing a column is look-ups and XORs.
const fn times(factor: u8) -> [u8; 256] {
    let mut r = [0; 256];
    let mut i = 0;
    while i < 256 {
        r[i] = gf_mul(i as u8, factor);
        i += 1;
    }
    r
}

static S_BOX: [u8; 256] = s_box();
static INVERSE_S_BOX: [u8; 256] = inverse_of(&s_box());
static TIMES_2: [u8; 256] = times(2);
static TIMES_3: [u8; 256] = times(3);
static TIMES_9: [u8; 256] = times(9);
static TIMES_11: [u8; 256] = times(11);
static TIMES_13: [u8; 256] = times(13);
static TIMES_14: [u8; 256] = times(14);

fn block(x: X) -> Block {
    (u128::from(x[1]) << 64 | u128::from(x[0])).to_le_bytes()
}

fn vector(b: Block) -> X {
    let v = u128::from_le_bytes(b);
    [v as u64, (v >> 64) as u64]
}

fn substitute(b: Block, table: &[u8; 256]) -> Block {
    b.map(|v| table[usize::from(v)])
}

/// Row r moves left by r columns.
fn shift_rows(b: Block) -> Block {
    core::array::from_fn(|i| b[(i + 4 * (i % 4)) % 16])
}

fn inverse_shift_rows(b: Block) -> Block {
    core::array::from_fn(|i| b[(i + 12 * (i % 4)) % 16])
}

fn mix_columns(b: Block) -> Block {
    core::array::from_fn(|i| {
        let v = |row: usize| usize::from(b[i / 4 * 4 + (i + row) % 4]);
        TIMES_2[v(0)] ^ TIMES_3[v(1)] ^ v(2) as u8 ^ v(3) as u8
    })
}

fn inverse_mix_columns(b: Block) -> Block {
    core::array::from_fn(|i| {
        let v = |row: usize| usize::from(b[i / 4 * 4 + (i + row) % 4]);
        TIMES_14[v(0)] ^ TIMES_11[v(1)] ^ TIMES_13[v(2)] ^ TIMES_9[v(3)]
    })
}

/// dst = round(src1) ^ src.
fn round(cpu: &mut Cpu, op: &Op, f: impl Fn(Block) -> Block) -> Done {
    lanes(cpu, op, Form::of(op), op.src_arg, |_, _, state, key| {
        let r = vector(f(block(state)));
        Ok([r[0] ^ key[0], r[1] ^ key[1]])
    })
}

pub fn aesenc(cpu: &mut Cpu, op: &Op) -> Done {
    round(cpu, op, |b| mix_columns(substitute(shift_rows(b), &S_BOX)))
}
pub fn aesenclast(cpu: &mut Cpu, op: &Op) -> Done {
    round(cpu, op, |b| substitute(shift_rows(b), &S_BOX))
}
pub fn aesdec(cpu: &mut Cpu, op: &Op) -> Done {
    round(cpu, op, |b| {
        inverse_mix_columns(substitute(inverse_shift_rows(b), &INVERSE_S_BOX))
    })
}
pub fn aesdeclast(cpu: &mut Cpu, op: &Op) -> Done {
    round(cpu, op, |b| {
        substitute(inverse_shift_rows(b), &INVERSE_S_BOX)
    })
}

pub fn aesimc(cpu: &mut Cpu, op: &Op) -> Done {
    lanes(cpu, op, Form::of(op), op.src_arg, |_, _, _, src| {
        Ok(vector(inverse_mix_columns(block(src))))
    })
}

/// AESKEYGENASSIST: the S-box on words 1 and 3, each also rotated and with the round constant.
pub fn aeskeygenassist(cpu: &mut Cpu, op: &Op) -> Done {
    let words = |h: u64| {
        let w = (h >> 32) as u32;
        let s = u32::from_le_bytes(w.to_le_bytes().map(|v| S_BOX[usize::from(v)]));
        u64::from(s) | u64::from(s.rotate_right(8) ^ op.imm as u32) << 32
    };
    lanes(cpu, op, Form::of(op), op.src_arg, |_, _, _, src| {
        Ok(src.map(words))
    })
}

/// PCLMULQDQ: the product of two halves, without carries.
pub fn pclmulqdq(cpu: &mut Cpu, op: &Op) -> Done {
    let imm = op.imm as usize;
    lanes(cpu, op, Form::of(op), op.src_arg, |_, _, x, y| {
        let (a, b) = (u128::from(x[imm & 1]), y[imm >> 4 & 1]);
        let r = (0..64)
            .filter(|i| b >> i & 1 != 0)
            .fold(0, |r, i| r ^ a << i);
        Ok([r as u64, (r >> 64) as u64])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_those_of_fips_197() {
        assert_eq!((S_BOX[0], S_BOX[0x53], S_BOX[0xff]), (0x63, 0xed, 0x16));
        assert_eq!(INVERSE_S_BOX[0xed], 0x53);
        let b: Block = core::array::from_fn(|i| i as u8 * 7);
        assert_eq!(inverse_mix_columns(mix_columns(b)), b);
        assert_eq!(inverse_shift_rows(shift_rows(b)), b);
    }
}
