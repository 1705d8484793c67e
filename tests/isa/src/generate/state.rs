//! The machine that an instruction meets, before anything is aimed.

use iced_x86::Instruction;
use isa_native::{Fx, Machine};

use super::save_area;
use crate::rng::Rng;
use crate::values;

const ARITHMETIC: u64 = 0x8d5;
const DF: u64 = 1 << 10;
const AC: u64 = 1 << 18;
/// Bit 1, TF and IF: every case begins with them.
const FIXED: u64 = 0x302;

/// Fills the machine with random values.
pub(super) fn fill(m: &mut Machine, i: &Instruction, rng: &mut Rng) {
    for r in &mut m.gpr {
        *r = match rng.below(8) {
            0 => values::pointer(rng),
            1 => values::double(rng),
            _ => values::integer(rng),
        };
    }
    m.rflags = FIXED | rng.word() & ARITHMETIC;
    if rng.chance(25) {
        m.rflags |= DF;
    }
    if rng.chance(2) {
        m.rflags |= AC;
    }
    m.fs_base = base(rng);
    m.gs_base = base(rng);
    m.fx = Fx::default();
    m.fx.mxcsr = mxcsr(rng);
    for x in &mut m.fx.xmm {
        *x = values::vector(rng);
    }
    // SSE leaves the upper halves alone; now and then they are as new.
    m.ymm_high = [[0; 2]; 16];
    if rng.chance(75) {
        for x in &mut m.ymm_high {
            *x = values::vector(rng);
        }
    }
    if uses_x87(i) {
        fill_x87(&mut m.fx, rng);
    }
    if save_area::is_of_family(i) {
        save_area::reset_some(m, rng);
    }
    fill_memory(&mut m.memory, rng);
}

/// A segment's base: near the data, or anywhere in the lower half.
fn base(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 0,
        1 => rng.word() & 0x7fff_ffff_ffff,
        _ => values::pointer(rng) & 0x7fff_ffff_ffff,
    }
}

/// Any rounding; now and then flush-to-zero, denormals-are-zero, unmasked exceptions and flags that are set already.
fn mxcsr(rng: &mut Rng) -> u32 {
    let mut v = (rng.below(4) as u32) << 13;
    v |= if rng.chance(80) {
        0x1f80
    } else {
        rng.word() as u32 & 0x1f80
    };
    if rng.chance(20) {
        v |= rng.word() as u32 & 0x8040;
    }
    if rng.chance(20) {
        v |= rng.word() as u32 & 0x3f;
    }
    v
}

/// Whether the instruction is of the x87 unit or of MMX, or moves their state.
fn uses_x87(i: &Instruction) -> bool {
    use iced_x86::CpuidFeature::*;
    let kind = |f: &iced_x86::CpuidFeature| {
        matches!(
            f,
            FPU | FPU287 | FPU387 | MMX | FXSR | SSE3 | XSAVE | XSAVEC | XSAVEOPT
        )
    };
    i.code().cpuid_features().iter().any(kind) || i.op_registers_are_mmx()
}

trait MmxOperands {
    fn op_registers_are_mmx(&self) -> bool;
}

impl MmxOperands for Instruction {
    fn op_registers_are_mmx(&self) -> bool {
        (0..self.op_count()).any(|n| self.op_register(n).is_mm())
    }
}

/// Registers of every class at any top of stack, mostly all in use, every rounding and precision, exceptions mostly masked and
/// seldom pending.
fn fill_x87(fx: &mut Fx, rng: &mut Rng) {
    let precision = rng.pick(&[0, 2, 3, 3, 3]);
    let masks = if rng.chance(75) {
        0x3f
    } else {
        rng.word() as u16 & 0x3f
    };
    fx.fcw = 0x40 | masks | precision << 8 | (rng.below(4) as u16) << 10;
    let mut flags = if rng.chance(50) {
        0
    } else {
        rng.word() as u16 & 0x7f
    };
    if !rng.chance(10) {
        flags &= masks | 0x40;
    }
    // The summary bits follow from flags and masks.
    let pending = flags & !masks & 0x3f != 0;
    fx.fsw = flags | rng.word() as u16 & 0x7f00 | if pending { 0x8080 } else { 0 };
    let top = u32::from(fx.fsw >> 11 & 7);
    fx.ftw = match rng.below(8) {
        0 => rng.word() as u8,
        // In use from the top on, as programs have it.
        1..=3 => ((0xff00u16 >> rng.below(9)) as u8).rotate_left(top),
        _ => 0xff,
    };
    for st in &mut fx.st {
        *st = match rng.below(6) {
            0 => [rng.word(), 0xffff],
            _ => values::extended(rng),
        };
    }
}

fn fill_memory(memory: &mut [u8], rng: &mut Rng) {
    for word in memory.chunks_exact_mut(8) {
        word.copy_from_slice(&values::memory_word(rng).to_le_bytes());
    }
}
