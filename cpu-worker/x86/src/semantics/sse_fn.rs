//! SSE instructions that stay functions of `Cpu`: MXCSR, masked stores, dot products, sums of differences, hints.

use super::sse::{Form, both, lanes, put, put_wide, source, source_wide};
use crate::cpu::Cpu;
use crate::eval::{Eval, Fp, FpBin};
use crate::exception::{Fault, Stop};
use crate::interp::eval_vec::X;
use crate::op::{Op, Width};
use crate::state::cr;

type Done = Result<(), Stop>;

/// What PAUSE costs, a constant of the machine version.
const PAUSE_NS: u64 = 40;

/// Any SSE instruction while CR0.EM, CR0.TS or a clear CR4.OSFXSR forbids it (SDM vol. 3A, table 14-1).
pub fn switched_off(cpu: &mut Cpu, _: &Op) -> Done {
    let s = &cpu.state;
    let absent = s.cr0 & cr::CR0_EM != 0 || s.cr4 & cr::CR4_OSFXSR == 0;
    Err(cpu.raise(if absent { Fault::UD } else { Fault::NM }))
}

/// PAUSE: a spin-wait passes virtual time faster than its instructions do.
pub fn pause(cpu: &mut Cpu, _: &Op) -> Done {
    cpu.state.clock.charge_ns(PAUSE_NS);
    Ok(())
}

/// Sets MXCSR; its control bits are part of the mode word.
pub fn set_mxcsr(cpu: &mut Cpu, v: u32) {
    cpu.state.mxcsr = v;
    cpu.update_mode_within();
}

/// The bits of MXCSR that may be set: all of the low 16.
pub const MXCSR_MASK: u32 = 0xffff;

pub fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Done {
    let address = cpu.ea(op, 4)?;
    let v = cpu.load(Width::D, address)? as u32;
    if v & !MXCSR_MASK != 0 {
        return Err(cpu.gp(0));
    }
    set_mxcsr(cpu, v);
    Ok(())
}

pub fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Done {
    let address = cpu.ea(op, 4)?;
    let v = cpu.state.mxcsr.into();
    cpu.store(Width::D, address, v)
}

pub fn maskmovdqu(cpu: &mut Cpu, op: &Op) -> Done {
    let (data, mask) = (bytes(cpu.xmm(op.dst)), bytes(cpu.xmm(op.src)));
    masked_store(cpu, op, &data, &mask)
}

/// Stores the bytes whose mask byte has its top bit set. Whether the others can fault is left to the implementation: here,
/// as on many CPUs, all must be writable.
pub(super) fn masked_store(cpu: &mut Cpu, op: &Op, data: &[u8], mask: &[u8]) -> Done {
    let base = cpu.ea(op, data.len() as u32)?;
    cpu.check_store(base, data.len() as u32)?;
    for (i, &byte) in data.iter().enumerate() {
        if mask[i] & 0x80 != 0 {
            cpu.store(Width::B, base.wrapping_add(i as u64), byte.into())?;
        }
    }
    Ok(())
}

fn bytes(x: X) -> [u8; 16] {
    (u128::from(x[1]) << 64 | u128::from(x[0])).to_le_bytes()
}

/// MPSADBW: eight sums of four absolute differences; imm bit 2 chooses the start in src1, bits 0 and 1 the block of src. The upper
/// half has bits of its own.
pub fn mpsadbw(cpu: &mut Cpu, op: &Op) -> Done {
    lanes(cpu, op, Form::of(op), op.src_arg, |_, half, a, b| {
        let (a, b) = (bytes(a), bytes(b));
        let imm = op.imm as usize >> (3 * half);
        let (from, block) = ((imm >> 2 & 1) * 4, (imm & 3) * 4);
        let sum = |i: usize| -> u64 {
            (0..4)
                .map(|k| u64::from(a[from + i + k].abs_diff(b[block + k])))
                .sum()
        };
        let half = |h: usize| (0..4).fold(0, |r, i| r | sum(h + i) << (16 * i));
        Ok([half(0), half(4)])
    })
}

/// A step of a dot product on one half or two: each step of the two is one operation, as far as exceptions go.
fn step(
    cpu: &mut Cpu,
    form: Form,
    f: impl Fn(&mut Cpu, usize) -> Result<X, Stop>,
) -> Result<[X; 2], Stop> {
    if form == Form::Wide {
        cpu.halves(f)
    } else {
        Ok([f(cpu, 0)?, [0; 2]])
    }
}

/// Both operands' halves; the upper ones do not count without [`Form::Wide`].
fn operands(cpu: &mut Cpu, op: &Op, form: Form) -> Result<[[X; 2]; 2], Stop> {
    let b = if form == Form::Wide {
        source_wide(cpu, op, op.src_arg)?
    } else {
        [source(cpu, op, form, op.src_arg)?, [0; 2]]
    };
    Ok([both(cpu, op.src1), b])
}

fn commit(cpu: &mut Cpu, op: &Op, form: Form, r: [X; 2]) {
    if form == Form::Wide {
        put_wide(cpu, op, r);
    } else {
        put(cpu, op, form, r[0]);
    }
}

/// DPPS: products of the lanes in imm bits 4 to 7, summed in pairs, into the lanes in bits 0 to 3.
pub fn dpps(cpu: &mut Cpu, op: &Op) -> Done {
    let form = Form::of(op);
    let [a, b] = operands(cpu, op, form)?;
    let keep = |x: X| -> X { [0, 1].map(|h| x[h] & pair_mask(op.imm >> (4 + 2 * h))) };
    let products = step(cpu, form, |cpu, i| {
        cpu.fp_bin(FpBin::Mul, Fp::Ps, keep(a[i]), keep(b[i]))
    })?;
    let sums = step(cpu, form, |cpu, i| {
        let [low, high] = products[i];
        let even = low & 0xffff_ffff | high << 32;
        let odd = low >> 32 | high >> 32 << 32;
        cpu.fp_bin(FpBin::Add, Fp::Ps, [even, 0], [odd, 0])
    })?;
    let sum = step(cpu, form, |cpu, i| {
        let pair = sums[i][0];
        cpu.fp_bin(FpBin::Add, Fp::Ss, [pair & 0xffff_ffff, 0], [pair >> 32, 0])
    })?;
    let spread = sum.map(|x| {
        let twice = x[0] & 0xffff_ffff | x[0] << 32;
        [0, 1].map(|h| twice & pair_mask(op.imm >> (2 * h)))
    });
    commit(cpu, op, form, spread);
    Ok(())
}

/// All ones in the two 32-bit lanes of a half whose bit is set.
fn pair_mask(bits: u64) -> u64 {
    let lane = |on: u64| if on & 1 != 0 { 0xffff_ffff } else { 0 };
    lane(bits) | lane(bits >> 1) << 32
}

/// DPPD, of 128 bits only.
pub fn dppd(cpu: &mut Cpu, op: &Op) -> Done {
    lanes(cpu, op, Form::of(op), op.src_arg, |cpu, _, a, b| {
        let on = |bit: u64| if op.imm >> bit & 1 != 0 { u64::MAX } else { 0 };
        let keep = |x: X| -> X { [x[0] & on(4), x[1] & on(5)] };
        let p = cpu.fp_bin(FpBin::Mul, Fp::Pd, keep(a), keep(b))?;
        let sum = cpu.fp_bin(FpBin::Add, Fp::Sd, [p[0], 0], [p[1], 0])?[0];
        Ok([sum & on(0), sum & on(1)])
    })
}
