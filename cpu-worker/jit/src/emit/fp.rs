//! Floating point in emitted code.
//!
//! With the default MXCSR the host's own instruction gives the guest's result and sticky flags. Two things stand between: Cranelift may
//! swap the operands, which shows only in the payload of a NaN, so an instruction with a NaN in its result is left to the
//! interpreter; and a comparison made to find that out could set flags of its own, so it is made on integers. The functions are compiled
//! without mid-level optimisation: nothing is folded, hoisted or merged, and the test of the result keeps the operation alive.

use atoll_x86::eval::{Fp, FpBin, FpCvt, FpUn};
use atoll_x86::op::{Kind, Op, Width};
use atoll_x86::semantics::sse::{COMI, FROM_INT, TO_INT, TRUNCATE, UCOMI};
use atoll_x86::state::mode;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::Emitter;
use super::eval::{Truth, Untranslatable};
use crate::abi::Leave;

/// Whether a floating-point instruction is translated.
pub(super) fn translates(op: &Op, mode: u32) -> bool {
    if mode & mode::MXCSR != 0 {
        return false;
    }
    let is = |subs: &[u8]| subs.contains(&op.sub);
    match op.kind {
        Kind::FpBin => !is(&[FpBin::Hadd as u8, FpBin::Hsub as u8, FpBin::AddSub as u8]),
        Kind::FpUnary => is(&[FpUn::Sqrt as u8]),
        Kind::FpCompare => is(&[COMI, UCOMI]),
        Kind::FpConvert => is(&[
            TO_INT,
            TRUNCATE,
            FROM_INT,
            FpCvt::Ss2Sd as u8,
            FpCvt::Sd2Ss as u8,
            FpCvt::Dq2Ps as u8,
        ]),
        _ => false,
    }
}

/// The types of one lane and of the vector.
fn types_of(fp: Fp) -> (Type, Type) {
    match fp {
        Fp::Ss | Fp::Ps => (types::F32, types::F32X4),
        Fp::Sd | Fp::Pd => (types::F64, types::F64X2),
    }
}

fn is_scalar(fp: Fp) -> bool {
    matches!(fp, Fp::Ss | Fp::Sd)
}

impl Emitter<'_, '_> {
    fn leave_where(&mut self, c: Value) {
        let exit = self.exit_at(self.at, Leave::Float);
        self.leave_if(Truth::plain(c), exit);
    }

    /// The bits of a scalar without its sign, shifted up by one.
    fn magnitude(&mut self, v: Value) -> (Value, u64) {
        let t = self.b.func.dfg.value_type(v);
        let (int, infinity) = if t == types::F32 {
            (types::I32, 0xff00_0000)
        } else {
            (types::I64, 0xffe0_0000_0000_0000)
        };
        let bits = self.cast(int, v);
        (self.b.ins().iadd(bits, bits), infinity)
    }

    /// Leaves if a scalar is a NaN.
    fn leave_if_nan(&mut self, v: Value) {
        let (m, infinity) = self.magnitude(v);
        let t = self.b.func.dfg.value_type(m);
        let limit = self.b.ins().iconst(t, infinity as i64);
        let nan = self.b.ins().icmp(IntCC::UnsignedGreaterThan, m, limit);
        self.leave_where(nan);
    }

    /// Leaves if a lane of a vector is a NaN.
    fn leave_if_any_nan(&mut self, v: Value, fp: Fp) {
        let (lanes, w, absolute, infinity) = if fp == Fp::Ps {
            let twice = |v: u64| v << 32 | v;
            (
                types::I32X4,
                Width::D,
                twice(0x7fff_ffff),
                twice(0x7f80_0000),
            )
        } else {
            (
                types::I64X2,
                Width::Q,
                i64::MAX as u64,
                0x7ff0_0000_0000_0000,
            )
        };
        let bits = self.cast(lanes, v);
        let mask = self.vector_const(absolute, absolute);
        let mask = self.cast(lanes, mask);
        let m = self.b.ins().band(bits, mask);
        let limit = self.vector_const(infinity, infinity);
        let limit = self.cast(lanes, limit);
        let nan = self.b.ins().icmp(IntCC::SignedGreaterThan, m, limit);
        let any = self.vector_mask(w, nan);
        let any = self.b.ins().icmp_imm_s(IntCC::NotEqual, any, 0);
        self.leave_where(any);
    }

    /// The low lane.
    fn low(&mut self, fp: Fp, x: Value) -> Value {
        let v = self.cast(types_of(fp).1, x);
        self.b.ins().extractlane(v, 0)
    }

    /// `a` with its low lane replaced.
    fn with_low(&mut self, fp: Fp, a: Value, v: Value) -> Value {
        let x = self.cast(types_of(fp).1, a);
        let r = self.b.ins().insertlane(x, v, 0);
        self.cast(types::I8X16, r)
    }

    pub(super) fn float_bin(
        &mut self,
        op: FpBin,
        fp: Fp,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        let (x, y) = if is_scalar(fp) {
            (self.low(fp, a), self.low(fp, b))
        } else {
            let t = types_of(fp).1;
            (self.cast(t, a), self.cast(t, b))
        };
        let extreme = matches!(op, FpBin::Min | FpBin::Max);
        if extreme {
            // Their result need not be a NaN where an operand is.
            for v in [x, y] {
                self.check_nan(fp, v);
            }
        }
        let r = match op {
            FpBin::Add => self.b.ins().fadd(x, y),
            FpBin::Sub => self.b.ins().fsub(x, y),
            FpBin::Mul => self.b.ins().fmul(x, y),
            FpBin::Div => self.b.ins().fdiv(x, y),
            FpBin::Min => self.extreme(fp, FloatCC::LessThan, x, y),
            FpBin::Max => self.extreme(fp, FloatCC::GreaterThan, x, y),
            _ => return Err(Untranslatable),
        };
        if !extreme {
            self.check_nan(fp, r);
        }
        Ok(if is_scalar(fp) {
            self.with_low(fp, a, r)
        } else {
            self.cast(types::I8X16, r)
        })
    }

    fn check_nan(&mut self, fp: Fp, v: Value) {
        if is_scalar(fp) {
            self.leave_if_nan(v);
        } else {
            self.leave_if_any_nan(v, fp);
        }
    }

    /// The first operand where the comparison holds, else the second: equal zeros give the second, as the instructions do.
    fn extreme(&mut self, fp: Fp, cc: FloatCC, x: Value, y: Value) -> Value {
        let c = self.b.ins().fcmp(cc, x, y);
        if is_scalar(fp) {
            return self.b.ins().select(c, x, y);
        }
        let lanes = self.b.func.dfg.value_type(c);
        let (t, xi, yi) = (types_of(fp).1, self.cast(lanes, x), self.cast(lanes, y));
        let r = self.b.ins().bitselect(c, xi, yi);
        self.cast(t, r)
    }

    pub(super) fn float_un(
        &mut self,
        op: FpUn,
        fp: Fp,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        if op != FpUn::Sqrt {
            return Err(Untranslatable);
        }
        if is_scalar(fp) {
            let x = self.low(fp, b);
            let r = self.b.ins().sqrt(x);
            self.leave_if_nan(r);
            return Ok(self.with_low(fp, a, r));
        }
        let x = self.cast(types_of(fp).1, b);
        let r = self.b.ins().sqrt(x);
        self.leave_if_any_nan(r, fp);
        Ok(self.cast(types::I8X16, r))
    }

    /// COMISx and UCOMISx as EFLAGS bits. A NaN leaves, since COMISx sets another flag for it than Cranelift's comparison does. That
    /// first comparison also notes denormal operands, whoever reads the flags.
    pub(super) fn float_comi(
        &mut self,
        fp: Fp,
        _: bool,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        let (x, y) = (self.low(fp, a), self.low(fp, b));
        let unordered = self.b.ins().fcmp(FloatCC::Unordered, x, y);
        self.leave_where(unordered);
        let less = self.b.ins().fcmp(FloatCC::LessThan, x, y);
        let equal = self.b.ins().fcmp(FloatCC::Equal, x, y);
        let cf = self.b.ins().uextend(types::I64, less);
        let zf = self.b.ins().uextend(types::I64, equal);
        let zf = self.b.ins().ishl_imm_u(zf, 6);
        let bits = self.b.ins().bor(cf, zf);
        self.compared = Some((bits, x, y));
        Ok(bits)
    }

    /// Leaves unless the scalar's magnitude is below 2 to the `power`.
    fn leave_unless_below(&mut self, v: Value, power: u64) {
        let (m, _) = self.magnitude(v);
        let t = self.b.func.dfg.value_type(m);
        let limit = if t == types::I32 {
            (127 + power) << 24
        } else {
            (1023 + power) << 53
        };
        let limit = self.b.ins().iconst(t, limit as i64);
        let over = self
            .b
            .ins()
            .icmp(IntCC::UnsignedGreaterThanOrEqual, m, limit);
        self.leave_where(over);
    }

    pub(super) fn float_to_int(
        &mut self,
        fp: Fp,
        w: Width,
        truncate: bool,
        a: Value,
    ) -> Result<Value, Untranslatable> {
        let x = self.low(fp, a);
        // One bit less for rounding: what rounds up to the limit leaves as well.
        self.leave_unless_below(x, if w == Width::Q { 62 } else { 30 });
        let x = if truncate { x } else { self.b.ins().nearest(x) };
        Ok(self.b.ins().fcvt_to_sint_sat(super::eval::ty(w), x))
    }

    pub(super) fn float_from_int(
        &mut self,
        fp: Fp,
        _: Width,
        a: Value,
        v: Value,
    ) -> Result<Value, Untranslatable> {
        let r = self.b.ins().fcvt_from_sint(types_of(fp).0, v);
        self.keep(r);
        Ok(self.with_low(fp, a, r))
    }

    /// Makes an operation whose result may not be used happen all the same, for its flags.
    fn keep(&mut self, v: Value) {
        self.leave_if_nan(v);
    }

    pub(super) fn float_convert(
        &mut self,
        op: FpCvt,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        match op {
            FpCvt::Ss2Sd => {
                let x = self.low(Fp::Ss, b);
                let r = self.b.ins().fpromote(types::F64, x);
                self.leave_if_nan(r);
                Ok(self.with_low(Fp::Sd, a, r))
            }
            FpCvt::Sd2Ss => {
                let x = self.low(Fp::Sd, b);
                let r = self.b.ins().fdemote(types::F32, x);
                self.leave_if_nan(r);
                Ok(self.with_low(Fp::Ss, a, r))
            }
            FpCvt::Dq2Ps => {
                let x = self.cast(types::I32X4, b);
                let r = self.b.ins().fcvt_from_sint(types::F32X4, x);
                self.leave_if_any_nan(r, Fp::Ps);
                Ok(self.cast(types::I8X16, r))
            }
            _ => Err(Untranslatable),
        }
    }
}
