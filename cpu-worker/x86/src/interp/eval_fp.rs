//! The interpreter's SSE floating point: each verb of [`crate::Eval`] is the host's instruction under the guest's MXCSR.

use atoll_hostfp::sse::{self, Done};
use atoll_hostfp::{Fp, FpBin, FpCvt, FpFma, FpUn, Int};

use crate::cpu::Cpu;
use crate::exception::{Fault, Stop, Vector};
use crate::interp::eval_vec::X;
use crate::op::Width;
use crate::state::{MXCSR_DEFAULT, MXCSR_FLAGS, cr};

/// Commits the flags; an unmasked exception becomes #XM, or #UD where the system does not handle those (SDM vol. 1,
/// 11.6.4).
#[inline(always)]
fn finish<T>(cpu: &mut Cpu, done: Done<T>) -> Result<T, Stop> {
    cpu.state.mxcsr = done.mxcsr;
    if done.trap {
        return Err(simd_exception(cpu));
    }
    Ok(done.value)
}

#[cold]
fn simd_exception(cpu: &mut Cpu) -> Stop {
    let handled = cpu.state.cr4 & cr::CR4_OSXMMEXCPT != 0;
    cpu.raise(if handled {
        Fault::new(Vector::Simd)
    } else {
        Fault::UD
    })
}

/// The exceptions that are found before computing: invalid, denormal, zero-divide.
const PRE: u32 = 7;

/// Both halves of a 256-bit operation, see [`crate::Eval::halves`].
#[inline(always)]
pub fn halves(
    cpu: &mut Cpu,
    mut f: impl FnMut(&mut Cpu, usize) -> Result<X, Stop>,
) -> Result<[X; 2], Stop> {
    if cpu.state.mxcsr & MXCSR_DEFAULT == MXCSR_DEFAULT {
        return Ok([f(cpu, 0)?, f(cpu, 1)?]);
    }
    // Each half tells its own flags, as if none had been set; then the rules of SDM vol. 1, 11.5.3 hold for all of them.
    let before = cpu.state.mxcsr;
    let mut raised = 0;
    let mut values = [[0; 2]; 2];
    let mut stop = None;
    for (i, value) in values.iter_mut().enumerate() {
        cpu.state.mxcsr = before & !MXCSR_FLAGS;
        match f(cpu, i) {
            Ok(v) => *value = v,
            Err(other) => stop = Some(other),
        }
        raised |= cpu.state.mxcsr & MXCSR_FLAGS;
    }
    if raised & !(before >> 7) & PRE != 0 {
        raised &= PRE;
    }
    cpu.state.mxcsr = before | raised;
    match stop {
        Some(stop) => Err(stop),
        None => Ok(values),
    }
}

#[inline(always)]
fn int(w: Width) -> Int {
    if w == Width::Q { Int::Q } else { Int::D }
}

#[inline(always)]
pub fn fp_bin(cpu: &mut Cpu, op: FpBin, fp: Fp, a: X, b: X) -> Result<X, Stop> {
    let done = sse::bin(op, fp, a, b, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_un(cpu: &mut Cpu, op: FpUn, fp: Fp, a: X, b: X, imm: u8) -> Result<X, Stop> {
    let done = sse::un(op, fp, a, b, imm, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_fma(cpu: &mut Cpu, op: FpFma, fp: Fp, operands: [X; 3], keep: X) -> Result<X, Stop> {
    let done = atoll_hostfp::fma::fma(op, fp, operands, keep, cpu.state.mxcsr);
    finish(cpu, done)
}

/// VCVTPH2PS: the four halves in the low 64 bits.
pub fn half_to_single(cpu: &mut Cpu, halves: u64) -> Result<X, Stop> {
    let done = atoll_hostfp::half::to_single(halves, cpu.state.mxcsr);
    finish(cpu, done)
}

/// VCVTPS2PH: the halves are the low 64 bits.
pub fn single_to_half(cpu: &mut Cpu, x: X, imm: u8) -> Result<X, Stop> {
    let done = atoll_hostfp::half::from_single(x, imm, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_cmp(cpu: &mut Cpu, fp: Fp, a: X, b: X, predicate: u8) -> Result<X, Stop> {
    let done = sse::cmp(fp, a, b, predicate, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_comi(cpu: &mut Cpu, fp: Fp, quiet: bool, a: X, b: X) -> Result<u64, Stop> {
    let done = sse::comi(fp, quiet, a, b, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_to_int(cpu: &mut Cpu, fp: Fp, w: Width, truncate: bool, a: X) -> Result<u64, Stop> {
    let done = sse::to_int(fp, int(w), truncate, a, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_from_int(cpu: &mut Cpu, fp: Fp, w: Width, a: X, v: u64) -> Result<X, Stop> {
    let done = sse::from_int(fp, int(w), a, v, cpu.state.mxcsr);
    finish(cpu, done)
}

#[inline(always)]
pub fn fp_convert(cpu: &mut Cpu, op: FpCvt, a: X, b: X) -> Result<X, Stop> {
    let done = sse::convert(op, a, b, cpu.state.mxcsr);
    finish(cpu, done)
}
