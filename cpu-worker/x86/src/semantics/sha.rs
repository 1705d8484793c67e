//! The SHA extensions (Intel SDM vol. 2, SHA1RNDS4 to SHA256MSG2; FIPS 180-4 names the functions).
//!
//! Words are counted from the top of a vector, as the manual does for SHA-1: `words(x)[0]` is bits 96 to 127.

use super::sse::{Form, source};
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::interp::eval_vec::X;
use crate::op::Op;

type Done = Result<(), Stop>;

fn words(x: X) -> [u32; 4] {
    [
        (x[1] >> 32) as u32,
        x[1] as u32,
        (x[0] >> 32) as u32,
        x[0] as u32,
    ]
}

fn vector(w: [u32; 4]) -> X {
    let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    [pair(w[2], w[3]), pair(w[0], w[1])]
}

/// dst = f(dst, src).
fn apply(cpu: &mut Cpu, op: &Op, f: impl Fn([u32; 4], [u32; 4]) -> [u32; 4]) -> Done {
    // AMD's processors, of which the models with SHA are, ask for no alignment here.
    let src = source(cpu, op, Form::Vex, op.src_arg)?;
    let dst = cpu.xmm(op.dst);
    cpu.set_xmm(op.dst, vector(f(words(dst), words(src))));
    Ok(())
}

fn choose(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ !x & z
}
fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}
fn majority(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ x & z ^ y & z
}

/// Four rounds; the immediate chooses function and constant, src holds the words with E added to the first.
pub fn sha1rnds4(cpu: &mut Cpu, op: &Op) -> Done {
    let (f, k): (fn(u32, u32, u32) -> u32, u32) = match op.imm & 3 {
        0 => (choose, 0x5a82_7999),
        1 => (parity, 0x6ed9_eba1),
        2 => (majority, 0x8f1b_bcdc),
        _ => (parity, 0xca62_c1d6),
    };
    apply(cpu, op, |[mut a, mut b, mut c, mut d], w| {
        let mut e = 0u32;
        for word in w {
            let next = f(b, c, d)
                .wrapping_add(a.rotate_left(5))
                .wrapping_add(word)
                .wrapping_add(e)
                .wrapping_add(k);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        [a, b, c, d]
    })
}

pub fn sha1nexte(cpu: &mut Cpu, op: &Op) -> Done {
    apply(cpu, op, |d, s| {
        let e = d[0].rotate_left(30);
        [s[0].wrapping_add(e), s[1], s[2], s[3]]
    })
}

pub fn sha1msg1(cpu: &mut Cpu, op: &Op) -> Done {
    apply(cpu, op, |d, s| {
        [d[2] ^ d[0], d[3] ^ d[1], s[0] ^ d[2], s[1] ^ d[3]]
    })
}

pub fn sha1msg2(cpu: &mut Cpu, op: &Op) -> Done {
    apply(cpu, op, |d, s| {
        let first = (d[0] ^ s[1]).rotate_left(1);
        [
            first,
            (d[1] ^ s[2]).rotate_left(1),
            (d[2] ^ s[3]).rotate_left(1),
            (d[3] ^ first).rotate_left(1),
        ]
    })
}

/// Two rounds: dst holds C, D, G and H, src A, B, E and F, XMM0 the words with their constants.
pub fn sha256rnds2(cpu: &mut Cpu, op: &Op) -> Done {
    let wk = words(cpu.xmm(0));
    apply(cpu, op, |d, s| {
        let ([mut a, mut b, mut e, mut f], [mut c, mut dd, mut g, mut h]) = (s, d);
        for word in [wk[3], wk[2]] {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t = choose(e, f, g)
                .wrapping_add(s1)
                .wrapping_add(word)
                .wrapping_add(h);
            let next = t.wrapping_add(majority(a, b, c)).wrapping_add(s0);
            (a, b, c, dd, e, f, g, h) = (next, a, b, c, t.wrapping_add(dd), e, f, g);
        }
        [a, b, e, f]
    })
}

fn sigma0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3
}
fn sigma1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10
}

pub fn sha256msg1(cpu: &mut Cpu, op: &Op) -> Done {
    apply(cpu, op, |d, s| {
        let after = [s[3], d[0], d[1], d[2]];
        core::array::from_fn(|i| d[i].wrapping_add(sigma0(after[i])))
    })
}

pub fn sha256msg2(cpu: &mut Cpu, op: &Op) -> Done {
    apply(cpu, op, |d, s| {
        let w16 = d[3].wrapping_add(sigma1(s[1]));
        let w17 = d[2].wrapping_add(sigma1(s[0]));
        let w18 = d[1].wrapping_add(sigma1(w16));
        let w19 = d[0].wrapping_add(sigma1(w17));
        [w19, w18, w17, w16]
    })
}
