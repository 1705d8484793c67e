//! `impl Eval for Cpu`: the verbs on integers.
//!
//! A value of width w is a `u64` whose upper bits are zero. Memory goes through the MMU's inline lookup; what that refuses
//! (faults, devices, two pages, code) is in `cpu/memory.rs`.

use atoll_mmu::{Loc, PAGE};

use super::{eval_fp, eval_vec};
use crate::cpu::Cpu;
use crate::eval::{Eval, Fp, FpBin, FpCvt, FpFma, FpUn, VecBin, VecShift, VecShuf, VecUn};
use crate::exception::{Fault, Stop, Vector};
use crate::flags::{self, FlagOp, LazyFlags};
use crate::op::{AH, Cond, Op, OpFlags, RIP, Reg, Seg, Width};

/// `v` as a signed number of width `w`.
#[inline(always)]
const fn signed(w: Width, v: u64) -> i64 {
    let n = 64 - w.bits();
    ((v << n) as i64) >> n
}

impl Eval for Cpu {
    type V = u64;
    type X = [u64; 2];
    type B = bool;
    type Loc = Loc;
    type Stop = Stop;

    #[inline(always)]
    fn imm(&mut self, w: Width, value: u64) -> u64 {
        value & w.mask()
    }
    #[inline(always)]
    fn reg(&mut self, w: Width, r: Reg) -> u64 {
        // AH to BH are 32 to 35: the mask gives their register.
        let v = self.state.gpr[(r & 31) as usize];
        if w == Width::B && r >= AH {
            (v >> 8) & 0xff
        } else {
            v & w.mask()
        }
    }
    #[inline(always)]
    fn set_reg(&mut self, w: Width, r: Reg, v: u64) {
        let at = &mut self.state.gpr[(r & 31) as usize];
        match w {
            Width::D | Width::Q => *at = v,
            Width::W => *at = *at & !0xffff | v,
            Width::B if r >= AH => *at = *at & !0xff00 | v << 8,
            Width::B => *at = *at & !0xff | v,
        }
    }
    #[inline(always)]
    fn xmm(&mut self, r: Reg) -> [u64; 2] {
        self.state.xmm[(r & 15) as usize]
    }
    #[inline(always)]
    fn set_xmm(&mut self, r: Reg, v: [u64; 2]) {
        self.state.xmm[(r & 15) as usize] = v;
    }
    #[inline(always)]
    fn xmm_high(&mut self, r: Reg) -> [u64; 2] {
        self.state.ymm_high[(r & 15) as usize]
    }
    #[inline(always)]
    fn set_xmm_high(&mut self, r: Reg, v: [u64; 2]) {
        self.state.ymm_high[(r & 15) as usize] = v;
    }
    #[inline(always)]
    fn seg_base(&mut self, seg: Seg) -> u64 {
        self.state.segment(seg).base
    }
    #[inline(always)]
    fn next_rip(&mut self, _: &Op) -> u64 {
        self.state.gpr[RIP as usize]
    }
    #[inline(always)]
    fn set_df(&mut self, on: bool) {
        if on {
            self.state.rflags |= flags::DF;
        } else {
            self.state.rflags &= !flags::DF;
        }
    }

    #[inline(always)]
    fn add(&mut self, w: Width, a: u64, b: u64) -> u64 {
        a.wrapping_add(b) & w.mask()
    }
    #[inline(always)]
    fn sub(&mut self, w: Width, a: u64, b: u64) -> u64 {
        a.wrapping_sub(b) & w.mask()
    }
    #[inline(always)]
    fn and(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a | b
    }
    #[inline(always)]
    fn xor(&mut self, _: Width, a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    fn mul(&mut self, w: Width, a: u64, b: u64) -> u64 {
        a.wrapping_mul(b) & w.mask()
    }
    #[inline(always)]
    fn mul_hi(&mut self, w: Width, is_signed: bool, a: u64, b: u64) -> u64 {
        let high = if is_signed {
            (signed(w, a) as i128 * signed(w, b) as i128) >> w.bits()
        } else {
            ((a as u128 * b as u128) >> w.bits()) as i128
        };
        high as u64 & w.mask()
    }
    #[inline(always)]
    fn div_rem(
        &mut self,
        w: Width,
        is_signed: bool,
        hi: u64,
        lo: u64,
        d: u64,
    ) -> Result<(u64, u64), Stop> {
        let result = if is_signed {
            divide_signed(w, hi, lo, d)
        } else {
            divide_unsigned(w, hi, lo, d)
        };
        result.ok_or_else(|| self.raise(Fault::new(Vector::Divide)))
    }
    #[inline(always)]
    fn not(&mut self, w: Width, a: u64) -> u64 {
        !a & w.mask()
    }
    #[inline(always)]
    fn shl(&mut self, w: Width, a: u64, count: u64) -> u64 {
        (a << (count & 63)) & w.mask()
    }
    #[inline(always)]
    fn shr(&mut self, _: Width, a: u64, count: u64) -> u64 {
        a >> (count & 63)
    }
    #[inline(always)]
    fn sar(&mut self, w: Width, a: u64, count: u64) -> u64 {
        (signed(w, a) >> (count & 63)) as u64 & w.mask()
    }
    #[inline(always)]
    fn rotl(&mut self, w: Width, a: u64, count: u64) -> u64 {
        let n = count as u32;
        match w {
            Width::B => (a as u8).rotate_left(n) as u64,
            Width::W => (a as u16).rotate_left(n) as u64,
            Width::D => (a as u32).rotate_left(n) as u64,
            Width::Q => a.rotate_left(n),
        }
    }
    #[inline(always)]
    fn rotr(&mut self, w: Width, a: u64, count: u64) -> u64 {
        let n = count as u32;
        match w {
            Width::B => (a as u8).rotate_right(n) as u64,
            Width::W => (a as u16).rotate_right(n) as u64,
            Width::D => (a as u32).rotate_right(n) as u64,
            Width::Q => a.rotate_right(n),
        }
    }
    #[inline(always)]
    fn clz(&mut self, w: Width, a: u64) -> u64 {
        (a.leading_zeros() - (64 - w.bits())) as u64
    }
    #[inline(always)]
    fn ctz(&mut self, w: Width, a: u64) -> u64 {
        a.trailing_zeros().min(w.bits()) as u64
    }
    #[inline(always)]
    fn popcnt(&mut self, _: Width, a: u64) -> u64 {
        a.count_ones() as u64
    }
    #[inline(always)]
    fn bswap(&mut self, w: Width, a: u64) -> u64 {
        a.swap_bytes() >> (64 - w.bits())
    }
    #[inline(always)]
    fn zext(&mut self, _: Width, _: Width, a: u64) -> u64 {
        a
    }
    #[inline(always)]
    fn sext(&mut self, from: Width, to: Width, a: u64) -> u64 {
        signed(from, a) as u64 & to.mask()
    }
    #[inline(always)]
    fn trunc(&mut self, _: Width, to: Width, a: u64) -> u64 {
        a & to.mask()
    }

    #[inline(always)]
    fn eq(&mut self, _: Width, a: u64, b: u64) -> bool {
        a == b
    }
    #[inline(always)]
    fn ult(&mut self, _: Width, a: u64, b: u64) -> bool {
        a < b
    }
    #[inline(always)]
    fn slt(&mut self, w: Width, a: u64, b: u64) -> bool {
        signed(w, a) < signed(w, b)
    }
    #[inline(always)]
    fn b_not(&mut self, a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn b_and(&mut self, a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn b_or(&mut self, a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn b_to(&mut self, _: Width, a: bool) -> u64 {
        a as u64
    }
    #[inline(always)]
    fn select(&mut self, _: Width, c: bool, a: u64, b: u64) -> u64 {
        if c { a } else { b }
    }

    #[inline(always)]
    fn flags(&mut self, op: FlagOp, w: Width, a: u64, b: u64, result: u64) {
        self.state.flags = LazyFlags {
            op,
            width: w as u32,
            a,
            b,
            result: if op == FlagOp::Real {
                result & flags::ARITH
            } else {
                result
            },
        };
    }
    #[inline(always)]
    fn flags_if(&mut self, c: bool, op: FlagOp, w: Width, a: u64, b: u64, result: u64) {
        if c {
            self.flags(op, w, a, b, result);
        }
    }
    #[inline(always)]
    fn cond(&mut self, cond: Cond) -> bool {
        self.state.flags.cond(cond)
    }
    #[inline(always)]
    fn flag_bits(&mut self) -> u64 {
        self.state.flags.bits()
    }

    #[inline(always)]
    fn ea(&mut self, op: &Op, bytes: u32) -> Result<u64, Stop> {
        let offset = self.offset(op);
        if op.has(
            OpFlags::SEG_BASE
                .union(OpFlags::SEG_CHECK)
                .union(OpFlags::ADDR_CUT),
        ) {
            return self.segmented(op, offset, bytes);
        }
        Ok(offset)
    }
    #[inline(always)]
    fn stack_ea(&mut self, op: &Op, sp: u64, bytes: u32, write: bool) -> Result<u64, Stop> {
        if op.has(OpFlags::SEG_BASE.union(OpFlags::SEG_CHECK)) {
            return self.linear(Seg::Ss, sp, bytes, write);
        }
        Ok(sp)
    }
    #[inline(always)]
    fn load(&mut self, w: Width, address: u64) -> Result<u64, Stop> {
        self.read_memory(address, w.bytes())
    }
    #[inline(always)]
    fn store(&mut self, w: Width, address: u64, value: u64) -> Result<(), Stop> {
        self.write_memory(address, w.bytes(), value)
    }
    #[inline(always)]
    fn load_rmw(&mut self, w: Width, address: u64) -> Result<(u64, Loc), Stop> {
        match self.mmu.prepare_write(address, w.bytes()) {
            Ok(loc) if loc.is_plain() => Ok((self.mmu.read_loc(&loc, w.bytes()), loc)),
            other => self.begin_rmw(w.bytes(), other),
        }
    }
    #[inline(always)]
    fn store_rmw(&mut self, w: Width, loc: Loc, value: u64) {
        if loc.is_plain() {
            self.mmu.write_loc(&loc, w.bytes(), value);
        } else {
            self.end_rmw(w.bytes(), &loc, value);
        }
    }
    #[inline(always)]
    fn load_x(&mut self, address: u64, aligned: bool) -> Result<[u64; 2], Stop> {
        if aligned && address & 15 != 0 {
            return Err(self.raise(Fault::GP0));
        }
        match self.mmu.load128(address) {
            Ok(v) => Ok(v),
            Err(stop) => self.read_memory_128(address, stop),
        }
    }
    #[inline(always)]
    fn store_x(&mut self, address: u64, aligned: bool, value: [u64; 2]) -> Result<(), Stop> {
        if aligned && address & 15 != 0 {
            return Err(self.raise(Fault::GP0));
        }
        if self.mmu.try_store128(address, value) {
            return Ok(());
        }
        self.write_memory_128(address, value)
    }

    fn load_y(&mut self, address: u64, aligned: bool) -> Result<[[u64; 2]; 2], Stop> {
        if aligned && address & 31 != 0 {
            return Err(self.raise(Fault::GP0));
        }
        self.check_end(address, 32)?;
        let low = self.load_x(address, false)?;
        Ok([low, self.load_x(address.wrapping_add(16), false)?])
    }
    fn store_y(&mut self, address: u64, aligned: bool, value: [[u64; 2]; 2]) -> Result<(), Stop> {
        if aligned && address & 31 != 0 {
            return Err(self.raise(Fault::GP0));
        }
        if address & (PAGE - 1) > PAGE - 32 {
            self.check_store(address, 32)?;
        }
        self.store_x(address, false, value[0])?;
        self.store_x(address.wrapping_add(16), false, value[1])
    }

    #[inline(always)]
    fn raise_if(&mut self, c: bool, vector: Vector) -> Result<(), Stop> {
        if c {
            let fault = match vector {
                Vector::GeneralProtection | Vector::Stack | Vector::Alignment => {
                    Fault::with_code(vector, 0)
                }
                _ => Fault::new(vector),
            };
            return Err(self.raise(fault));
        }
        Ok(())
    }
    #[inline(always)]
    fn branch(&mut self, op: &Op, c: bool, rel: u64) {
        if c {
            self.jump_rel(op, rel);
        }
    }
    #[inline(always)]
    fn jump_rel(&mut self, op: &Op, rel: u64) {
        let target = self.state.rip().wrapping_add(rel) & op.width.mask();
        self.state.set_rip(target);
    }
    #[inline(always)]
    fn check_target(&mut self, op: &Op, target: u64) -> Result<(), Stop> {
        let bad = if op.has(OpFlags::LONG) {
            signed_48(target) != target
        } else {
            target > self.state.segment(Seg::Cs).limit as u64
        };
        if bad {
            return Err(self.raise(Fault::GP0));
        }
        Ok(())
    }
    #[inline(always)]
    fn jump_to(&mut self, _: &Op, target: u64) {
        self.state.set_rip(target);
    }

    #[inline(always)]
    fn x_const(&mut self, lo: u64, hi: u64) -> [u64; 2] {
        [lo, hi]
    }
    #[inline(always)]
    fn x_bin(&mut self, op: VecBin, a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
        eval_vec::x_bin(op, a, b)
    }
    #[inline(always)]
    fn x_un(&mut self, op: VecUn, a: [u64; 2]) -> [u64; 2] {
        eval_vec::x_un(op, a)
    }
    #[inline(always)]
    fn x_shift(&mut self, op: VecShift, a: [u64; 2], count: u64) -> [u64; 2] {
        eval_vec::x_shift(op, a, count)
    }
    #[inline(always)]
    fn x_shift_imm(&mut self, op: VecShift, a: [u64; 2], count: u8) -> [u64; 2] {
        eval_vec::x_shift(op, a, count as u64)
    }
    #[inline(always)]
    fn x_shuf(&mut self, op: VecShuf, a: [u64; 2], b: [u64; 2], imm: u8) -> [u64; 2] {
        eval_vec::x_shuf(op, a, b, imm)
    }
    #[inline(always)]
    fn x_lane(&mut self, w: Width, a: [u64; 2], i: u8) -> u64 {
        eval_vec::x_lane(w, a, i)
    }
    #[inline(always)]
    fn x_with_lane(&mut self, w: Width, a: [u64; 2], i: u8, v: u64) -> [u64; 2] {
        eval_vec::x_with_lane(w, a, i, v)
    }
    #[inline(always)]
    fn x_mask(&mut self, w: Width, a: [u64; 2]) -> u64 {
        eval_vec::x_mask(w, a)
    }
    #[inline(always)]
    fn x_is_zero(&mut self, a: [u64; 2]) -> bool {
        a == [0, 0]
    }
    #[inline(always)]
    fn x_blend(&mut self, w: Width, a: [u64; 2], b: [u64; 2], mask: [u64; 2]) -> [u64; 2] {
        eval_vec::x_blend(w, a, b, mask)
    }

    #[inline(always)]
    fn halves(
        &mut self,
        f: impl FnMut(&mut Cpu, usize) -> Result<[u64; 2], Stop>,
    ) -> Result<[[u64; 2]; 2], Stop> {
        eval_fp::halves(self, f)
    }
    fn fp_fma(
        &mut self,
        op: FpFma,
        fp: Fp,
        operands: [[u64; 2]; 3],
        keep: [u64; 2],
    ) -> Result<[u64; 2], Stop> {
        eval_fp::fp_fma(self, op, fp, operands, keep)
    }
    #[inline(always)]
    fn fp_bin(&mut self, op: FpBin, fp: Fp, a: [u64; 2], b: [u64; 2]) -> Result<[u64; 2], Stop> {
        eval_fp::fp_bin(self, op, fp, a, b)
    }
    #[inline(always)]
    fn fp_un(
        &mut self,
        op: FpUn,
        fp: Fp,
        a: [u64; 2],
        b: [u64; 2],
        imm: u8,
    ) -> Result<[u64; 2], Stop> {
        eval_fp::fp_un(self, op, fp, a, b, imm)
    }
    #[inline(always)]
    fn fp_cmp(
        &mut self,
        fp: Fp,
        a: [u64; 2],
        b: [u64; 2],
        predicate: u8,
    ) -> Result<[u64; 2], Stop> {
        eval_fp::fp_cmp(self, fp, a, b, predicate)
    }
    #[inline(always)]
    fn fp_comi(&mut self, fp: Fp, quiet: bool, a: [u64; 2], b: [u64; 2]) -> Result<u64, Stop> {
        eval_fp::fp_comi(self, fp, quiet, a, b)
    }
    #[inline(always)]
    fn fp_to_int(&mut self, fp: Fp, w: Width, truncate: bool, a: [u64; 2]) -> Result<u64, Stop> {
        eval_fp::fp_to_int(self, fp, w, truncate, a)
    }
    #[inline(always)]
    fn fp_from_int(&mut self, fp: Fp, w: Width, a: [u64; 2], v: u64) -> Result<[u64; 2], Stop> {
        eval_fp::fp_from_int(self, fp, w, a, v)
    }
    #[inline(always)]
    fn fp_convert(&mut self, op: FpCvt, a: [u64; 2], b: [u64; 2]) -> Result<[u64; 2], Stop> {
        eval_fp::fp_convert(self, op, a, b)
    }
}

/// Sign-extended from bit 47: equal to `a` if `a` is canonical.
#[inline(always)]
pub(crate) const fn signed_48(a: u64) -> u64 {
    ((a << 16) as i64 >> 16) as u64
}

#[inline(always)]
fn divide_unsigned(w: Width, hi: u64, lo: u64, d: u64) -> Option<(u64, u64)> {
    // A quotient that fits is one whose upper half is below the divisor, which also excludes zero.
    if hi >= d {
        return None;
    }
    if w == Width::Q {
        if hi == 0 {
            return Some((lo / d, lo % d));
        }
        let n = (hi as u128) << 64 | lo as u128;
        return Some(((n / d as u128) as u64, (n % d as u128) as u64));
    }
    let n = hi << w.bits() | lo;
    Some((n / d, n % d))
}

#[inline(always)]
fn divide_signed(w: Width, hi: u64, lo: u64, d: u64) -> Option<(u64, u64)> {
    let d = signed(w, d);
    if d == 0 {
        return None;
    }
    let (quotient, remainder) = if w == Width::Q {
        let n = ((hi as u128) << 64 | lo as u128) as i128;
        if let Ok(n) = i64::try_from(n)
            && n != i64::MIN
        {
            ((n / d) as i128, n % d)
        } else {
            // -2^127 / -1 overflows even this type.
            (n.checked_div(d as i128)?, (n % d as i128) as i64)
        }
    } else {
        let n = hi << w.bits() | lo;
        let shift = 64 - 2 * w.bits();
        let n = ((n << shift) as i64) >> shift;
        (n.checked_div(d)? as i128, n % d)
    };
    let q = quotient as i64;
    if q as i128 != quotient || signed(w, q as u64 & w.mask()) != q {
        return None;
    }
    Some((q as u64 & w.mask(), remainder as u64 & w.mask()))
}
