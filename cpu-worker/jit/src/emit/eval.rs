//! `impl Eval` for the translator: the verbs on Cranelift values.
//!
//! A value of width w has the integer type of that width. A truth is an `i8` that is 0 or 1, perhaps to be read negated.

use atoll_x86::Vector;
use atoll_x86::eval::{Eval, Fp, FpBin, FpCvt, FpFma, FpUn, VecBin, VecShift, VecShuf, VecUn};
use atoll_x86::flags::{DF, FlagOp};
use atoll_x86::op::{AH, AddrSize, Cond, Kind, Op, OpFlags, RIP, Reg, Seg, Width, ZERO};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Type, Value, types};

use super::{Emitter, Transfer, plain};
use crate::abi;

/// The integer type of a width.
pub(super) fn ty(w: Width) -> Type {
    match w {
        Width::B => types::I8,
        Width::W => types::I16,
        Width::D => types::I32,
        Width::Q => types::I64,
    }
}

/// A truth value.
#[derive(Clone, Copy)]
pub(crate) struct Truth {
    pub(super) value: Value,
    pub(super) negated: bool,
}

impl Truth {
    pub(super) fn plain(value: Value) -> Truth {
        Truth {
            value,
            negated: false,
        }
    }
    pub(super) fn not(self) -> Truth {
        Truth {
            value: self.value,
            negated: !self.negated,
        }
    }
}

/// An instruction that cannot be translated; `translates` excludes them.
#[derive(Debug)]
pub(crate) struct Untranslatable;

impl Emitter<'_, '_> {
    /// Goes to `exit` where the truth holds.
    pub(super) fn leave_if(&mut self, t: Truth, exit: Block) {
        let on = self.b.create_block();
        self.brif(t, exit, on);
        self.b.switch_to_block(on);
    }

    fn wide_reg(&mut self, r: Reg) -> Value {
        match r {
            ZERO => self.b.ins().iconst(types::I64, 0),
            RIP => self.rip_of(self.next),
            _ => self.b.use_var(self.gpr[r as usize & 15]),
        }
    }

    /// A value as 64 bits, which a load has given already.
    fn zero_extended(&mut self, v: Value) -> Value {
        match self.loaded {
            Some((loaded, wide)) if loaded == v => wide,
            _ => self.b.ins().uextend(types::I64, v),
        }
    }

    fn both<const N: usize>(&mut self, w: Width, signed: bool, v: [Value; N]) -> [Value; N] {
        v.map(|v| match (w, signed) {
            (Width::Q, _) => v,
            (_, true) => self.b.ins().sextend(types::I64, v),
            (_, false) => self.b.ins().uextend(types::I64, v),
        })
    }

    /// hi:lo as one 64-bit value, for widths below Q.
    fn join_halves(&mut self, w: Width, hi: Value, lo: Value, signed: bool) -> Value {
        let lo = self.b.ins().uextend(types::I64, lo);
        let hi = if signed {
            self.b.ins().sextend(types::I64, hi)
        } else {
            self.b.ins().uextend(types::I64, hi)
        };
        let hi = self.b.ins().ishl_imm_u(hi, i64::from(w.bits()));
        self.b.ins().bor(hi, lo)
    }

    /// Unsigned division; leaves where it faults, and where 128 bits are needed.
    fn divide_unsigned(&mut self, w: Width, hi: Value, lo: Value, d: Value) -> (Value, Value) {
        let exit = self.exit_before();
        if w == Width::Q {
            let high = Truth::plain(self.b.ins().icmp_imm_s(IntCC::NotEqual, hi, 0));
            self.leave_if(high, exit);
            let zero = Truth::plain(self.b.ins().icmp_imm_s(IntCC::Equal, d, 0));
            self.leave_if(zero, exit);
            return (self.b.ins().udiv(lo, d), self.b.ins().urem(lo, d));
        }
        let big = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, hi, d);
        self.leave_if(Truth::plain(big), exit);
        let n = self.join_halves(w, hi, lo, false);
        let [d] = self.both(w, false, [d]);
        let q = self.b.ins().udiv(n, d);
        let r = self.b.ins().urem(n, d);
        (
            self.b.ins().ireduce(ty(w), q),
            self.b.ins().ireduce(ty(w), r),
        )
    }

    /// Signed division; leaves where it faults, where 128 bits are needed, and for the divisor -1, whose quotient may not fit.
    fn divide_signed(&mut self, w: Width, hi: Value, lo: Value, d: Value) -> (Value, Value) {
        let exit = self.exit_before();
        let up = self.b.ins().iadd_imm_s(d, 1);
        let odd = self
            .b
            .ins()
            .icmp_imm_s(IntCC::UnsignedLessThanOrEqual, up, 1);
        self.leave_if(Truth::plain(odd), exit);
        if w == Width::Q {
            let sign = self.b.ins().sshr_imm_u(lo, 63);
            let more = Truth::plain(self.b.ins().icmp(IntCC::NotEqual, hi, sign));
            self.leave_if(more, exit);
            return (self.b.ins().sdiv(lo, d), self.b.ins().srem(lo, d));
        }
        let n = self.join_halves(w, hi, lo, true);
        let [d] = self.both(w, true, [d]);
        let q = self.b.ins().sdiv(n, d);
        let r = self.b.ins().srem(n, d);
        let low = self.b.ins().ireduce(ty(w), q);
        let back = self.b.ins().sextend(types::I64, low);
        let over = Truth::plain(self.b.ins().icmp(IntCC::NotEqual, back, q));
        self.leave_if(over, exit);
        (low, self.b.ins().ireduce(ty(w), r))
    }

    pub(super) fn check_aligned(&mut self, address: Value, aligned: bool, bytes: i64) {
        if aligned {
            let exit = self.exit_before();
            let low = self.b.ins().band_imm_s(address, bytes - 1);
            let bad = Truth::plain(self.b.ins().icmp_imm_s(IntCC::NotEqual, low, 0));
            self.leave_if(bad, exit);
        }
    }
}

impl Eval for Emitter<'_, '_> {
    type V = Value;
    type X = Value;
    type B = Truth;
    type Loc = Value;
    type Stop = Untranslatable;

    fn imm(&mut self, w: Width, value: u64) -> Value {
        let n = 64 - w.bits();
        let signed = ((value << n) as i64) >> n;
        self.b.ins().iconst(ty(w), signed & (w.mask() as i64))
    }
    fn reg(&mut self, w: Width, r: Reg) -> Value {
        if r >= AH {
            let v = self.wide_reg(r - AH);
            let v = self.b.ins().ushr_imm_u(v, 8);
            return self.b.ins().ireduce(types::I8, v);
        }
        let v = self.wide_reg(r);
        if w == Width::Q {
            v
        } else {
            self.b.ins().ireduce(ty(w), v)
        }
    }
    fn set_reg(&mut self, w: Width, r: Reg, v: Value) {
        let to = if r >= AH { r - AH } else { r };
        let var = self.gpr[to as usize];
        let new = match w {
            Width::Q => v,
            Width::D => self.zero_extended(v),
            Width::W | Width::B => {
                let old = self.b.use_var(var);
                let shift = if r >= AH { 8 } else { 0 };
                let kept = self.b.ins().band_imm_s(old, !((w.mask() << shift) as i64));
                let v = self.b.ins().uextend(types::I64, v);
                let v = if shift == 0 {
                    v
                } else {
                    self.b.ins().ishl_imm_u(v, shift)
                };
                self.b.ins().bor(kept, v)
            }
        };
        self.b.def_var(var, new);
    }
    fn xmm(&mut self, r: Reg) -> Value {
        self.b.use_var(self.xmm[r as usize])
    }
    fn set_xmm(&mut self, r: Reg, v: Value) {
        self.b.def_var(self.xmm[r as usize], v);
    }
    fn xmm_high(&mut self, r: Reg) -> Value {
        self.load_state(types::I8X16, abi::ymm_high(r))
    }
    fn set_xmm_high(&mut self, r: Reg, v: Value) {
        let v = self.cast(types::I8X16, v);
        self.store_state(v, abi::ymm_high(r));
    }
    fn seg_base(&mut self, seg: Seg) -> Value {
        self.load_state(types::I64, abi::seg_base(seg as u8))
    }
    fn next_rip(&mut self, _: &Op) -> Value {
        self.rip_of(self.next)
    }
    fn set_df(&mut self, on: bool) {
        let f = self.load_state(types::I64, abi::RFLAGS);
        let f = if on {
            self.b.ins().bor_imm_s(f, DF as i64)
        } else {
            self.b.ins().band_imm_s(f, !(DF as i64))
        };
        self.store_state(f, abi::RFLAGS);
    }

    fn add(&mut self, _: Width, a: Value, b: Value) -> Value {
        self.b.ins().iadd(a, b)
    }
    fn sub(&mut self, _: Width, a: Value, b: Value) -> Value {
        self.b.ins().isub(a, b)
    }
    fn and(&mut self, _: Width, a: Value, b: Value) -> Value {
        if a == b { a } else { self.b.ins().band(a, b) }
    }
    fn or(&mut self, _: Width, a: Value, b: Value) -> Value {
        if a == b { a } else { self.b.ins().bor(a, b) }
    }
    fn xor(&mut self, w: Width, a: Value, b: Value) -> Value {
        if a == b {
            self.b.ins().iconst(ty(w), 0)
        } else {
            self.b.ins().bxor(a, b)
        }
    }
    fn mul(&mut self, w: Width, a: Value, b: Value) -> Value {
        if w == Width::B {
            let [a, b] = self.both(w, false, [a, b]);
            let p = self.b.ins().imul(a, b);
            return self.b.ins().ireduce(types::I8, p);
        }
        self.b.ins().imul(a, b)
    }
    fn mul_hi(&mut self, w: Width, signed: bool, a: Value, b: Value) -> Value {
        if w == Width::Q {
            return if signed {
                self.b.ins().smulhi(a, b)
            } else {
                self.b.ins().umulhi(a, b)
            };
        }
        let [a, b] = self.both(w, signed, [a, b]);
        let p = self.b.ins().imul(a, b);
        let p = self.b.ins().ushr_imm_u(p, i64::from(w.bits()));
        self.b.ins().ireduce(ty(w), p)
    }
    fn div_rem(
        &mut self,
        w: Width,
        signed: bool,
        hi: Value,
        lo: Value,
        d: Value,
    ) -> Result<(Value, Value), Untranslatable> {
        Ok(if signed {
            self.divide_signed(w, hi, lo, d)
        } else {
            self.divide_unsigned(w, hi, lo, d)
        })
    }
    fn not(&mut self, _: Width, a: Value) -> Value {
        self.b.ins().bnot(a)
    }
    fn shl(&mut self, _: Width, a: Value, count: Value) -> Value {
        self.b.ins().ishl(a, count)
    }
    fn shr(&mut self, _: Width, a: Value, count: Value) -> Value {
        self.b.ins().ushr(a, count)
    }
    fn sar(&mut self, _: Width, a: Value, count: Value) -> Value {
        self.b.ins().sshr(a, count)
    }
    fn rotl(&mut self, _: Width, a: Value, count: Value) -> Value {
        self.b.ins().rotl(a, count)
    }
    fn rotr(&mut self, _: Width, a: Value, count: Value) -> Value {
        self.b.ins().rotr(a, count)
    }
    fn clz(&mut self, _: Width, a: Value) -> Value {
        self.b.ins().clz(a)
    }
    fn ctz(&mut self, _: Width, a: Value) -> Value {
        self.b.ins().ctz(a)
    }
    fn popcnt(&mut self, _: Width, a: Value) -> Value {
        self.b.ins().popcnt(a)
    }
    fn bswap(&mut self, _: Width, a: Value) -> Value {
        self.b.ins().bswap(a)
    }
    fn zext(&mut self, from: Width, to: Width, a: Value) -> Value {
        if from == to {
            return a;
        }
        let wide = self.zero_extended(a);
        if to == Width::Q {
            return wide;
        }
        let v = self.b.ins().ireduce(ty(to), wide);
        self.loaded = Some((v, wide));
        v
    }
    fn sext(&mut self, from: Width, to: Width, a: Value) -> Value {
        if from == to {
            return a;
        }
        self.b.ins().sextend(ty(to), a)
    }
    fn trunc(&mut self, from: Width, to: Width, a: Value) -> Value {
        if from == to {
            return a;
        }
        self.b.ins().ireduce(ty(to), a)
    }

    fn eq(&mut self, _: Width, a: Value, b: Value) -> Truth {
        Truth::plain(self.b.ins().icmp(IntCC::Equal, a, b))
    }
    fn ult(&mut self, _: Width, a: Value, b: Value) -> Truth {
        Truth::plain(self.b.ins().icmp(IntCC::UnsignedLessThan, a, b))
    }
    fn slt(&mut self, _: Width, a: Value, b: Value) -> Truth {
        Truth::plain(self.b.ins().icmp(IntCC::SignedLessThan, a, b))
    }
    fn b_not(&mut self, a: Truth) -> Truth {
        a.not()
    }
    fn b_and(&mut self, a: Truth, b: Truth) -> Truth {
        let a = self.truth_value(Width::B, a);
        let b = self.truth_value(Width::B, b);
        Truth::plain(self.b.ins().band(a, b))
    }
    fn b_or(&mut self, a: Truth, b: Truth) -> Truth {
        let a = self.truth_value(Width::B, a);
        let b = self.truth_value(Width::B, b);
        Truth::plain(self.b.ins().bor(a, b))
    }
    fn b_to(&mut self, w: Width, a: Truth) -> Value {
        self.truth_value(w, a)
    }
    fn select(&mut self, _: Width, c: Truth, a: Value, b: Value) -> Value {
        self.choose(c, a, b)
    }

    fn flags(&mut self, op: FlagOp, w: Width, a: Value, b: Value, result: Value) {
        self.set_flags(op, w, a, b, result);
    }
    fn flags_if(&mut self, c: Truth, op: FlagOp, w: Width, a: Value, b: Value, result: Value) {
        self.set_flags_if(c, op, w, a, b, result);
    }
    fn cond(&mut self, cond: Cond) -> Truth {
        self.condition(cond)
    }
    fn flag_bits(&mut self) -> Value {
        self.flag_bits_value()
    }

    fn ea(&mut self, op: &Op, _: u32) -> Result<Value, Untranslatable> {
        let mut a = match (op.base, op.index) {
            (ZERO, ZERO) => return Ok(self.absolute(op)),
            (ZERO, _) => self.scaled(op),
            (_, ZERO) => self.wide_reg(op.base),
            _ => {
                let base = self.wide_reg(op.base);
                let index = self.scaled(op);
                self.b.ins().iadd(base, index)
            }
        };
        if op.disp != 0 {
            a = self.b.ins().iadd_imm_s(a, op.disp);
        }
        Ok(self.cut_and_base(op, a))
    }
    fn stack_ea(&mut self, _: &Op, sp: Value, _: u32, _: bool) -> Result<Value, Untranslatable> {
        Ok(sp)
    }
    fn load(&mut self, w: Width, address: Value) -> Result<Value, Untranslatable> {
        let host = self.host(address, w.bytes(), false);
        let wide = match w {
            Width::B => self.b.ins().uload8(types::I64, plain(), host, 0),
            Width::W => self.b.ins().uload16(types::I64, plain(), host, 0),
            // Where it is not the operand of the host's instruction.
            Width::D if self.op.kind == Kind::Mov => self.b.ins().uload32(plain(), host, 0),
            _ => return Ok(self.b.ins().load(ty(w), plain(), host, 0)),
        };
        let v = self.b.ins().ireduce(ty(w), wide);
        self.loaded = Some((v, wide));
        Ok(v)
    }
    fn store(&mut self, w: Width, address: Value, value: Value) -> Result<(), Untranslatable> {
        let host = self.host(address, w.bytes(), true);
        self.b.ins().store(plain(), value, host, 0);
        Ok(())
    }
    fn load_rmw(&mut self, w: Width, address: Value) -> Result<(Value, Value), Untranslatable> {
        let host = self.host(address, w.bytes(), true);
        Ok((self.b.ins().load(ty(w), plain(), host, 0), host))
    }
    fn store_rmw(&mut self, _: Width, loc: Value, value: Value) {
        self.b.ins().store(plain(), value, loc, 0);
    }
    fn load_x(&mut self, address: Value, aligned: bool) -> Result<Value, Untranslatable> {
        self.check_aligned(address, aligned, 16);
        let host = self.host(address, 16, false);
        Ok(self.b.ins().load(types::I8X16, plain(), host, 0))
    }
    fn store_x(
        &mut self,
        address: Value,
        aligned: bool,
        value: Value,
    ) -> Result<(), Untranslatable> {
        self.check_aligned(address, aligned, 16);
        let host = self.host(address, 16, true);
        self.b.ins().store(plain(), value, host, 0);
        Ok(())
    }
    fn load_y(&mut self, address: Value, aligned: bool) -> Result<[Value; 2], Untranslatable> {
        self.check_aligned(address, aligned, 32);
        let host = self.host(address, 32, false);
        Ok([0, 16].map(|at| self.b.ins().load(types::I8X16, plain(), host, at)))
    }
    fn store_y(
        &mut self,
        address: Value,
        aligned: bool,
        [low, high]: [Value; 2],
    ) -> Result<(), Untranslatable> {
        self.check_aligned(address, aligned, 32);
        let host = self.host(address, 32, true);
        self.b.ins().store(plain(), low, host, 0);
        self.b.ins().store(plain(), high, host, 16);
        Ok(())
    }

    fn raise_if(&mut self, c: Truth, _: Vector) -> Result<(), Untranslatable> {
        let exit = self.exit_before();
        self.leave_if(c, exit);
        Ok(())
    }
    fn branch(&mut self, _: &Op, c: Truth, _: u64) {
        self.transfer = Transfer::Branch(c);
    }
    fn jump_rel(&mut self, _: &Op, _: u64) {
        self.transfer = Transfer::Jump;
    }
    fn check_target(&mut self, op: &Op, target: Value) -> Result<(), Untranslatable> {
        if op.has(OpFlags::LONG) {
            let exit = self.exit_before();
            let up = self.b.ins().ishl_imm_u(target, 16);
            let down = self.b.ins().sshr_imm_u(up, 16);
            let bad = Truth::plain(self.b.ins().icmp(IntCC::NotEqual, down, target));
            self.leave_if(bad, exit);
        }
        Ok(())
    }
    fn jump_to(&mut self, _: &Op, target: Value) {
        self.transfer = Transfer::To(target);
    }

    fn x_const(&mut self, lo: u64, hi: u64) -> Value {
        self.vector_const(lo, hi)
    }
    fn x_bin(&mut self, op: VecBin, a: Value, b: Value) -> Value {
        self.vector_bin(op, a, b)
    }
    fn x_un(&mut self, op: VecUn, a: Value) -> Value {
        self.vector_un(op, a)
    }
    fn x_shift(&mut self, op: VecShift, a: Value, count: Value) -> Value {
        self.vector_shift(op, a, count)
    }
    fn x_shift_imm(&mut self, op: VecShift, a: Value, count: u8) -> Value {
        self.vector_shift_imm(op, a, count)
    }
    fn x_shuf(&mut self, op: VecShuf, a: Value, b: Value, imm: u8) -> Value {
        self.vector_shuffle(op, a, b, imm)
    }
    fn x_lane(&mut self, w: Width, a: Value, i: u8) -> Value {
        self.vector_lane(w, a, i)
    }
    fn x_with_lane(&mut self, w: Width, a: Value, i: u8, v: Value) -> Value {
        self.vector_with_lane(w, a, i, v)
    }
    fn x_mask(&mut self, w: Width, a: Value) -> Value {
        self.vector_mask(w, a)
    }
    fn x_is_zero(&mut self, a: Value) -> Truth {
        self.vector_is_zero(a)
    }
    fn x_blend(&mut self, w: Width, a: Value, b: Value, mask: Value) -> Value {
        self.vector_blend(w, a, b, mask)
    }

    /// Emitted code runs with all exceptions masked, so the flags of the halves just add up.
    fn halves(
        &mut self,
        mut f: impl FnMut(&mut Self, usize) -> Result<Value, Untranslatable>,
    ) -> Result<[Value; 2], Untranslatable> {
        Ok([f(self, 0)?, f(self, 1)?])
    }
    fn fp_fma(
        &mut self,
        _: FpFma,
        _: Fp,
        _: [Value; 3],
        _: Value,
    ) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    fn fp_bin(&mut self, op: FpBin, fp: Fp, a: Value, b: Value) -> Result<Value, Untranslatable> {
        self.float_bin(op, fp, a, b)
    }
    fn fp_un(
        &mut self,
        op: FpUn,
        fp: Fp,
        a: Value,
        b: Value,
        _: u8,
    ) -> Result<Value, Untranslatable> {
        self.float_un(op, fp, a, b)
    }
    fn fp_cmp(&mut self, _: Fp, _: Value, _: Value, _: u8) -> Result<Value, Untranslatable> {
        Err(Untranslatable)
    }
    fn fp_comi(
        &mut self,
        fp: Fp,
        quiet: bool,
        a: Value,
        b: Value,
    ) -> Result<Value, Untranslatable> {
        self.float_comi(fp, quiet, a, b)
    }
    fn fp_to_int(
        &mut self,
        fp: Fp,
        w: Width,
        truncate: bool,
        a: Value,
    ) -> Result<Value, Untranslatable> {
        self.float_to_int(fp, w, truncate, a)
    }
    fn fp_from_int(
        &mut self,
        fp: Fp,
        w: Width,
        a: Value,
        v: Value,
    ) -> Result<Value, Untranslatable> {
        self.float_from_int(fp, w, a, v)
    }
    fn fp_convert(&mut self, op: FpCvt, a: Value, b: Value) -> Result<Value, Untranslatable> {
        self.float_convert(op, a, b)
    }
}

impl Emitter<'_, '_> {
    fn scaled(&mut self, op: &Op) -> Value {
        let i = self.wide_reg(op.index);
        if op.scale == 0 {
            i
        } else {
            self.b.ins().ishl_imm_u(i, i64::from(op.scale))
        }
    }

    /// An effective address that is a displacement alone.
    fn absolute(&mut self, op: &Op) -> Value {
        let a = self.b.ins().iconst(types::I64, op.disp);
        self.cut_and_base(op, a)
    }

    fn cut_and_base(&mut self, op: &Op, a: Value) -> Value {
        let a = match op.addr {
            _ if !op.has(OpFlags::ADDR_CUT) => a,
            AddrSize::A16 => self.b.ins().band_imm_s(a, 0xffff),
            AddrSize::A32 => {
                let low = self.b.ins().ireduce(types::I32, a);
                self.b.ins().uextend(types::I64, low)
            }
            AddrSize::A64 => a,
        };
        if op.has(OpFlags::SEG_BASE) {
            let base = self.seg_base(op.seg);
            return self.b.ins().iadd(a, base);
        }
        a
    }
}
