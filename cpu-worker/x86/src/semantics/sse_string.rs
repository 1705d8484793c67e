//! SSE4.2's string comparisons, PCMPESTRI to PCMPISTRM (Intel SDM vol. 1, 12.9; vol. 2, 4.1).

use atoll_hostfp::strings::{self, Matched};

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::flags::{CF, LazyFlags, OF, SF, ZF};
use crate::interp::eval_vec::X;
use crate::op::{Arg, Op, OpFlags, RAX, RCX, RDX, Width};

type Done = Result<(), Stop>;

/// One operand: its elements, extended as the immediate says, and how many of them count.
struct Text {
    v: [i32; 16],
    len: usize,
}

/// Elements in a vector: 16 bytes or 8 words.
fn elements(imm: u8) -> usize {
    if imm & 1 == 0 { 16 } else { 8 }
}

fn split(x: X, imm: u8) -> [i32; 16] {
    let mut v = [0; 16];
    for (i, e) in v.iter_mut().enumerate().take(elements(imm)) {
        let half = |per: usize, bits: usize| x[i / per] >> (i % per * bits);
        *e = match imm & 3 {
            0 => i32::from(half(8, 8) as u8),
            1 => i32::from(half(4, 16) as u16),
            2 => i32::from(half(8, 8) as i8),
            _ => i32::from(half(4, 16) as i16),
        };
    }
    v
}

/// The aggregation: a bit for each element of `b`.
fn aggregate(imm: u8, a: &Text, b: &Text) -> u32 {
    let n = elements(imm);
    let bit = |j: usize| match imm >> 2 & 3 {
        // Equal any: a is a set of characters.
        0 => j < b.len && a.v[..a.len].contains(&b.v[j]),
        // Ranges: a is a list of pairs.
        1 => {
            j < b.len
                && a.v[..a.len]
                    .chunks_exact(2)
                    .any(|r| (r[0]..=r[1]).contains(&b.v[j]))
        }
        // Equal each.
        2 => match (j < a.len, j < b.len) {
            (true, true) => a.v[j] == b.v[j],
            (x, y) => x == y,
        },
        // Equal ordered: a is a substring that starts at j, as far as b's vector shows.
        _ => (j..n)
            .zip(0..a.len)
            .all(|(k, i)| k < b.len && a.v[i] == b.v[k]),
    };
    (0..n).fold(0, |r, j| r | u32::from(bit(j)) << j)
}

/// The second intermediate result and the flags, computed here.
fn compute(imm: u8, a: Text, b: Text) -> Matched {
    let n = elements(imm);
    let all = (1u32 << n) - 1;
    let first = aggregate(imm, &a, &b);
    let bits = match imm >> 4 & 3 {
        1 => first ^ all,
        3 => first ^ ((1u32 << b.len) - 1),
        _ => first,
    };
    Matched {
        bits,
        cf: bits != 0,
        zf: b.len < n,
        sf: a.len < n,
        of: bits & 1 != 0,
    }
}

/// Sets the flags; gives the second intermediate result.
fn settle(cpu: &mut Cpu, m: Matched) -> u32 {
    let flag = |on: bool, f: u64| if on { f } else { 0 };
    cpu.state.flags =
        LazyFlags::real(flag(m.cf, CF) | flag(m.zf, ZF) | flag(m.sf, SF) | flag(m.of, OF));
    m.bits
}

/// The two operands; `a` is dst, `b` src, which in memory need not be aligned.
fn operands(cpu: &mut Cpu, op: &Op) -> Result<(X, X), Stop> {
    let b = if op.src_arg == Arg::Mem {
        let address = cpu.ea(op, 16)?;
        cpu.load_x(address, false)?
    } else {
        cpu.xmm(op.src)
    };
    Ok((cpu.xmm(op.dst), b))
}

/// Lengths from RAX and RDX: absolute, saturated.
fn explicit(cpu: &mut Cpu, op: &Op) -> Result<u32, Stop> {
    let (a, b) = operands(cpu, op)?;
    let n = elements(op.imm as u8) as u64;
    let len = |v: u64| {
        let v = if op.width == Width::Q {
            v as i64
        } else {
            i64::from(v as i32)
        };
        v.unsigned_abs().min(n) as usize
    };
    let (a_len, b_len) = (len(cpu.reg(Width::Q, RAX)), len(cpu.reg(Width::Q, RDX)));
    let imm = op.imm as u8;
    let m = if strings::is_available() {
        strings::explicit(imm, a, a_len as u64, b, b_len as u64)
    } else {
        let text = |x: X, len: usize| Text {
            v: split(x, imm),
            len,
        };
        compute(imm, text(a, a_len), text(b, b_len))
    };
    Ok(settle(cpu, m))
}

/// Lengths up to the first zero element.
fn implicit(cpu: &mut Cpu, op: &Op) -> Result<u32, Stop> {
    let (a, b) = operands(cpu, op)?;
    let imm = op.imm as u8;
    let m = if strings::is_available() {
        strings::implicit(imm, a, b)
    } else {
        compute(imm, terminated(a, imm), terminated(b, imm))
    };
    Ok(settle(cpu, m))
}

/// A text that ends at its first zero element.
fn terminated(x: X, imm: u8) -> Text {
    let v = split(x, imm);
    let n = elements(imm);
    Text {
        v,
        len: v[..n].iter().position(|&e| e == 0).unwrap_or(n),
    }
}

/// The index of the first or last set bit into ECX; the number of elements if there is none.
fn index(cpu: &mut Cpu, op: &Op, result: u32) -> Done {
    let i = match result {
        0 => elements(op.imm as u8) as u32,
        r if op.imm & 0x40 == 0 => r.trailing_zeros(),
        r => 31 - r.leading_zeros(),
    };
    cpu.set_reg(Width::D, RCX, i.into());
    Ok(())
}

/// The bits, or a mask of elements, into XMM0.
fn mask(cpu: &mut Cpu, op: &Op, result: u32) -> Done {
    let n = elements(op.imm as u8);
    let x = if op.imm & 0x40 == 0 {
        [result.into(), 0]
    } else {
        let (per, bits) = (n / 2, 128 / n);
        let ones = u64::MAX >> (64 - bits);
        let lane = |i: usize| if result >> i & 1 != 0 { ones } else { 0 };
        [0, per].map(|h| (0..per).fold(0, |r, i| r | lane(h + i) << (i * bits)))
    };
    cpu.set_xmm(0, x);
    if op.has(OpFlags::VEX) {
        cpu.set_xmm_high(0, [0; 2]);
    }
    Ok(())
}

pub fn pcmpestri(cpu: &mut Cpu, op: &Op) -> Done {
    let r = explicit(cpu, op)?;
    index(cpu, op, r)
}
pub fn pcmpestrm(cpu: &mut Cpu, op: &Op) -> Done {
    let r = explicit(cpu, op)?;
    mask(cpu, op, r)
}
pub fn pcmpistri(cpu: &mut Cpu, op: &Op) -> Done {
    let r = implicit(cpu, op)?;
    index(cpu, op, r)
}
pub fn pcmpistrm(cpu: &mut Cpu, op: &Op) -> Done {
    let r = implicit(cpu, op)?;
    mask(cpu, op, r)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two ways agree, for all immediates, on texts of few letters with and without ends.
    #[test]
    fn the_host_computes_the_same() {
        if !strings::is_available() {
            return;
        }
        let mut seed = 1u64;
        let mut text = || {
            let mut half = || {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (seed >> 8) & 0x0303_8103_0201_0103
            };
            [half(), half()]
        };
        for round in 0..20_000u32 {
            let imm = (round % 64) as u8;
            let (a, b) = (text(), text());
            let ours = compute(imm, terminated(a, imm), terminated(b, imm));
            assert_eq!(strings::implicit(imm, a, b), ours, "{imm:#x} {a:x?} {b:x?}");
            let n = elements(imm);
            let (x, y) = (round as usize / 64 % (n + 1), round as usize / 7 % (n + 1));
            let of = |v, len| Text {
                v: split(v, imm),
                len,
            };
            let ours = compute(imm, of(a, x), of(b, y));
            let host = strings::explicit(imm, a, x as u64, b, y as u64);
            assert_eq!(host, ours, "{imm:#x} {a:x?} {x} {b:x?} {y}");
        }
    }
}
