//! SSE4A: bit fields of the low half of a vector (AMD APM vol. 4, EXTRQ and INSERTQ). A length of 0 is 64.
//!
//! The upper half of the result is undefined, as is all of it where the field runs over bit 63; here the upper half is zero, and the field
//! is cut, as AMD's processors do.

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::op::{Arg, Op};

type Done = Result<(), Stop>;

/// `field` holds the length in bits 0 to 5 and the index in bits 8 to 13: gives the index and a mask of the length.
fn index_and_mask(field: u64) -> (u32, u64) {
    let mask = match field & 63 {
        0 => u64::MAX,
        length => (1 << length) - 1,
    };
    ((field >> 8) as u32 & 63, mask)
}

/// EXTRQ: the field is in the immediates, or in the source's low half.
pub fn extrq(cpu: &mut Cpu, op: &Op) -> Done {
    let field = match op.src_arg {
        Arg::Reg => cpu.xmm(op.src)[0],
        _ => op.imm,
    };
    let (index, mask) = index_and_mask(field);
    let value = cpu.xmm(op.dst)[0] >> index & mask;
    cpu.set_xmm(op.dst, [value, 0]);
    Ok(())
}

/// INSERTQ: the field is in the immediates (`op.sub` 1), or in the source's upper half.
pub fn insertq(cpu: &mut Cpu, op: &Op) -> Done {
    let [source, upper] = cpu.xmm(op.src);
    let (index, mask) = index_and_mask(if op.sub == 1 { op.imm } else { upper });
    let old = cpu.xmm(op.dst)[0];
    let value = old & !(mask << index) | (source & mask) << index;
    cpu.set_xmm(op.dst, [value, 0]);
    Ok(())
}
