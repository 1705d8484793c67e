//! PDEP and PEXT, functions of `Cpu`: dst = src1 deposited in, or extracted from, the bits that src sets.

use super::source;
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::op::Op;

/// Calls `f` with each set bit of `mask`, from the low end, and its number among them.
fn each_bit(mut mask: u64, mut f: impl FnMut(u32, u64)) {
    let mut n = 0;
    while mask != 0 {
        f(n, mask & mask.wrapping_neg());
        mask &= mask - 1;
        n += 1;
    }
}

pub fn pdep(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let mask = source(cpu, op, op.width, op.src_arg)?;
    let v = cpu.reg(op.width, op.src1);
    let mut r = 0;
    each_bit(mask, |n, bit| r |= if v >> n & 1 != 0 { bit } else { 0 });
    cpu.set_reg(op.width, op.dst, r);
    Ok(())
}

pub fn pext(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let mask = source(cpu, op, op.width, op.src_arg)?;
    let v = cpu.reg(op.width, op.src1);
    let mut r = 0;
    each_bit(mask, |n, bit| r |= u64::from(v & bit != 0) << n);
    cpu.set_reg(op.width, op.dst, r);
    Ok(())
}
