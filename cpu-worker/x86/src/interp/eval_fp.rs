//! The interpreter's SSE floating point: each verb of [`crate::Eval`] is the host's instruction under the guest's MXCSR.

use atoll_hostfp::sse::{self, Done};
use atoll_hostfp::{Fp, FpBin, FpCvt, FpUn, Int};

use crate::cpu::Cpu;
use crate::exception::{Fault, Stop, Vector};
use crate::interp::eval_vec::X;
use crate::op::Width;
use crate::state::cr;

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
