//! The arithmetic flags at translation time: the last operation that set them, turned into bits or a condition only on demand.

use std::rc::Rc;

use atoll_x86::flags::{AF, ARITH, CF, FlagOp, OF, PF, SF, ZF, read_by};
use atoll_x86::op::{Cond, Kind, Width};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, Value, types};

use super::Emitter;
use super::eval::{Truth, ty};
use crate::abi;
use crate::effects::needs_flags;

/// How many operations that may leave the flags as they were are kept unevaluated, one behind another. Each exit evaluates them all, so that
/// a row of them would cost its length squared.
const CHAIN: usize = 4;

/// Where the flags are.
#[derive(Clone)]
pub(crate) enum Flags {
    /// In the state.
    Memory,
    /// In the state, and `which` of them as bits.
    Stored { bits: Value, which: u64 },
    /// Nowhere: nobody looks before they are set anew.
    Dead,
    /// In values, as `LazyFlags` has them.
    Lazy(Lazy),
    /// As an ordered floating-point comparison gives them.
    Float(Value, Value),
    /// One or the other.
    If(Truth, Rc<Flags>, Rc<Flags>),
}

/// A flag-setting operation that was not evaluated.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Lazy {
    op: FlagOp,
    w: Width,
    a: Value,
    b: Value,
    r: Value,
    /// ADC or SBB: the carry is not that of `a` and `b` alone.
    carried: bool,
    /// CMP: the result is used for nothing else, the operands compare better.
    compare: bool,
}

impl Flags {
    /// Whether an exit stores the same for both.
    pub(super) fn same(&self, other: &Flags) -> bool {
        match (self, other) {
            (
                Flags::Memory | Flags::Stored { .. } | Flags::Dead,
                Flags::Memory | Flags::Stored { .. } | Flags::Dead,
            ) => true,
            (Flags::Lazy(a), Flags::Lazy(b)) => a == b,
            (Flags::Float(a, b), Flags::Float(c, d)) => (a, b) == (c, d),
            (Flags::If(_, a, b), Flags::If(_, c, d)) => Rc::ptr_eq(a, c) && Rc::ptr_eq(b, d),
            _ => false,
        }
    }

    /// How many operations may have left the flags to the one before them.
    fn chain(&self) -> usize {
        match self {
            Flags::If(_, _, or) => 1 + or.chain(),
            _ => 0,
        }
    }

    /// Flags already in EFLAGS form, width Q.
    pub(super) fn bits(r: Value) -> Flags {
        Flags::Lazy(Lazy {
            op: FlagOp::Real,
            w: Width::Q,
            a: r,
            b: r,
            r,
            carried: false,
            compare: false,
        })
    }
}

impl Emitter<'_, '_> {
    /// Whether the flags that the present instruction computes, and those it computes them from, are nobody's concern.
    fn flags_unneeded(&self) -> bool {
        self.flags_after.is_dead() && !needs_flags(&self.op)
    }

    pub(super) fn set_flags(&mut self, op: FlagOp, w: Width, a: Value, b: Value, r: Value) {
        self.flags = self.new_flags(op, w, a, b, r);
    }

    fn new_flags(&self, op: FlagOp, w: Width, a: Value, b: Value, r: Value) -> Flags {
        if self.flags_after.is_dead() {
            return Flags::Dead;
        }
        if let Some((bits, x, y)) = self.compared
            && bits == r
        {
            return Flags::Float(x, y);
        }
        Flags::Lazy(Lazy {
            op,
            w,
            a,
            b,
            r,
            carried: matches!(self.op.kind, Kind::Adc | Kind::Sbb),
            compare: self.op.kind == Kind::Cmp,
        })
    }

    pub(super) fn set_flags_if(
        &mut self,
        c: Truth,
        op: FlagOp,
        w: Width,
        a: Value,
        b: Value,
        r: Value,
    ) {
        let new = self.new_flags(op, w, a, b, r);
        if matches!(new, Flags::Dead) {
            self.flags = new;
        } else {
            if self.flags.chain() >= CHAIN {
                let bits = self.flag_value(ARITH);
                self.flags = Flags::bits(bits);
            }
            let old = std::mem::replace(&mut self.flags, Flags::Dead);
            self.flags = Flags::If(c, Rc::new(new), Rc::new(old));
        }
    }

    /// Puts the flags into the state.
    pub(super) fn sync_flags(&mut self) {
        let lazy = match &self.flags {
            Flags::Memory | Flags::Stored { .. } | Flags::Dead => return,
            Flags::Lazy(l) => *l,
            Flags::If(..) | Flags::Float(..) => {
                let r = self.flag_value(ARITH);
                let Flags::Lazy(l) = Flags::bits(r) else {
                    unreachable!("bits are lazy flags")
                };
                l
            }
        };
        self.store_word(lazy.op as u32, abi::FLAG_OP);
        self.store_word(lazy.w as u32, abi::FLAG_WIDTH);
        if lazy.op.reads_a() {
            let is_packed = lazy.op.packed() != 0;
            let a = self.widen(if is_packed { Width::Q } else { lazy.w }, lazy.a);
            self.store_state(a, abi::FLAG_A);
        }
        if lazy.op.reads_b() {
            let b = self.widen(lazy.w, lazy.b);
            self.store_state(b, abi::FLAG_B);
        }
        let r = self.widen(lazy.w, lazy.r);
        self.store_state(r, abi::FLAG_RESULT);
        self.flags = Flags::Memory;
    }

    pub(super) fn widen(&mut self, w: Width, v: Value) -> Value {
        if w == Width::Q {
            v
        } else {
            self.b.ins().uextend(types::I64, v)
        }
    }

    /// The flags as EFLAGS bits, for an instruction.
    pub(super) fn flag_bits_value(&mut self) -> Value {
        if self.flags_unneeded() {
            return self.b.ins().iconst(types::I64, 0);
        }
        self.flag_value(ARITH)
    }

    /// The flags as EFLAGS bits, of which `which` are right.
    pub(super) fn flag_value(&mut self, which: u64) -> Value {
        let flags = self.flags.clone();
        self.bits_of(&flags, which)
    }

    fn bits_of(&mut self, flags: &Flags, wanted: u64) -> Value {
        match flags {
            Flags::Stored { bits, which } if wanted & !which == 0 => *bits,
            Flags::Memory | Flags::Stored { .. } => self.flag_bits_of_state(),
            Flags::Dead => self.b.ins().iconst(types::I64, 0),
            Flags::Lazy(l) => self.lazy_bits(*l, wanted),
            Flags::Float(x, y) => {
                let less = self.float_cond(*x, *y, Cond::B);
                let less = self.truth_bit(less, CF);
                let equal = self.float_cond(*x, *y, Cond::E);
                let equal = self.truth_bit(equal, ZF);
                self.b.ins().bor(less, equal)
            }
            Flags::If(c, then, or) => {
                let x = self.bits_of(then, wanted);
                let y = self.bits_of(or, wanted);
                self.choose(*c, x, y)
            }
        }
    }

    pub(super) fn choose(&mut self, c: Truth, x: Value, y: Value) -> Value {
        let (x, y) = if c.negated { (y, x) } else { (x, y) };
        self.b.ins().select(c.value, x, y)
    }

    fn lazy_bits(&mut self, l: Lazy, wanted: u64) -> Value {
        if l.op == FlagOp::Real {
            return l.r;
        }
        let clear = if l.op == FlagOp::Logic {
            CF | OF | AF
        } else {
            0
        };
        let packed = wanted & l.op.packed();
        let wanted = wanted & !(packed | clear);
        let mut all = (packed != 0).then_some(l.a);
        let conditions = [
            (Cond::B, CF),
            (Cond::O, OF),
            (Cond::E, ZF),
            (Cond::S, SF),
            (Cond::P, PF),
        ];
        for (c, flag) in conditions {
            if wanted & flag != 0 {
                let t = self.lazy_cond(l, c);
                let bit = self.truth_bit(t, flag);
                all = Some(self.with(all, bit));
            }
        }
        if wanted & AF != 0 {
            let bit = self.auxiliary(l);
            all = Some(self.with(all, bit));
        }
        all.unwrap_or_else(|| self.b.ins().iconst(types::I64, 0))
    }

    fn with(&mut self, bits: Option<Value>, more: Value) -> Value {
        match bits {
            Some(bits) => self.b.ins().bor(bits, more),
            None => more,
        }
    }

    /// AF: the carry out of bit 3, width Q.
    fn auxiliary(&mut self, l: Lazy) -> Value {
        if l.op.reads_b() {
            let af = self.b.ins().bxor(l.a, l.b);
            let af = self.b.ins().bxor(af, l.r);
            let af = self.widen(l.w, af);
            return self.b.ins().band_imm_s(af, AF as i64);
        }
        let edge = if l.op == FlagOp::Inc { 0 } else { 15 };
        let low = self.b.ins().band_imm_s(l.r, 15);
        let t = Truth::plain(self.b.ins().icmp_imm_s(IntCC::Equal, low, edge));
        self.truth_bit(t, AF)
    }

    /// The flag's bit where the truth holds, width Q.
    fn truth_bit(&mut self, t: Truth, flag: u64) -> Value {
        let v = self.truth_value(Width::Q, t);
        self.b.ins().ishl_imm_u(v, i64::from(flag.trailing_zeros()))
    }

    /// A condition on the flags, for an instruction.
    pub(super) fn condition(&mut self, c: Cond) -> Truth {
        if self.flags_unneeded() {
            let value = self.b.ins().iconst(types::I8, 0);
            return Truth::plain(value);
        }
        let flags = self.flags.clone();
        self.cond_of(&flags, c)
    }

    fn cond_of(&mut self, flags: &Flags, c: Cond) -> Truth {
        match flags {
            Flags::Lazy(l) => self.lazy_cond(*l, c),
            Flags::Float(x, y) => self.float_cond(*x, *y, c),
            Flags::If(t, then, or) => {
                let x = self.cond_of(then, c);
                let x = self.truth_value(Width::B, x);
                let y = self.cond_of(or, c);
                let y = self.truth_value(Width::B, y);
                Truth::plain(self.choose(*t, x, y))
            }
            Flags::Memory | Flags::Stored { .. } | Flags::Dead => {
                let bits = self.bits_of(flags, read_by(c));
                let Flags::Lazy(l) = Flags::bits(bits) else {
                    unreachable!("bits are lazy flags")
                };
                self.lazy_cond(l, c)
            }
        }
    }

    /// A condition on the flags of an ordered comparison: OF, SF, AF and PF are clear.
    fn float_cond(&mut self, x: Value, y: Value, c: Cond) -> Truth {
        let cc = match c {
            Cond::B => FloatCC::LessThan,
            Cond::Ae => FloatCC::GreaterThanOrEqual,
            Cond::E | Cond::Le => FloatCC::Equal,
            Cond::Ne | Cond::G => FloatCC::NotEqual,
            Cond::Be => FloatCC::LessThanOrEqual,
            Cond::A => FloatCC::GreaterThan,
            Cond::O | Cond::S | Cond::P | Cond::L => return self.constant(false),
            Cond::No | Cond::Ns | Cond::Np | Cond::Ge => return self.constant(true),
        };
        Truth::plain(self.b.ins().fcmp(cc, x, y))
    }

    fn icmp(&mut self, cc: IntCC, x: Value, y: Value) -> Truth {
        Truth::plain(self.b.ins().icmp(cc, x, y))
    }

    fn against_zero(&mut self, cc: IntCC, x: Value) -> Truth {
        Truth::plain(self.b.ins().icmp_imm_s(cc, x, 0))
    }

    /// Whether the result is `value`.
    fn is_value(&mut self, l: Lazy, value: u64) -> Truth {
        let shift = 64 - l.w.bits();
        let value = ((value << shift) as i64) >> shift;
        Truth::plain(self.b.ins().icmp_imm_s(IntCC::Equal, l.r, value))
    }

    fn constant(&mut self, on: bool) -> Truth {
        Truth::plain(self.b.ins().iconst(types::I8, i64::from(on)))
    }

    fn lazy_cond(&mut self, l: Lazy, c: Cond) -> Truth {
        // Each odd condition negates the even one before it.
        if c as u8 & 1 != 0 {
            let even = self.lazy_cond(l, Cond::from_bits(c as u8 & !1));
            return even.not();
        }
        if c == Cond::P {
            return if l.op == FlagOp::Real {
                self.bit(l.r, PF)
            } else {
                self.even_parity(l)
            };
        }
        match l.op {
            FlagOp::Real => self.real_cond(l.r, c),
            FlagOp::Logic => self.logic_cond(l, c),
            FlagOp::Sub if !l.carried => self.sub_cond(l, c),
            _ => self.other_cond(l, c),
        }
    }

    /// Whether a bit of EFLAGS bits is set.
    fn bit(&mut self, bits: Value, flag: u64) -> Truth {
        let v = self.b.ins().band_imm_s(bits, flag as i64);
        self.against_zero(IntCC::NotEqual, v)
    }

    fn either(&mut self, x: Truth, y: Truth) -> Truth {
        let x = self.truth_value(Width::B, x);
        let y = self.truth_value(Width::B, y);
        Truth::plain(self.b.ins().bor(x, y))
    }

    fn differ(&mut self, x: Truth, y: Truth) -> Truth {
        let x = self.truth_value(Width::B, x);
        let y = self.truth_value(Width::B, y);
        Truth::plain(self.b.ins().bxor(x, y))
    }

    fn real_cond(&mut self, bits: Value, c: Cond) -> Truth {
        match c {
            Cond::O => self.bit(bits, OF),
            Cond::B => self.bit(bits, CF),
            Cond::E => self.bit(bits, ZF),
            Cond::Be => {
                let v = self.b.ins().band_imm_s(bits, (CF | ZF) as i64);
                self.against_zero(IntCC::NotEqual, v)
            }
            Cond::S => self.bit(bits, SF),
            // SF is bit 7, OF bit 11.
            _ => {
                let moved = self.b.ins().ushr_imm_u(bits, 4);
                let x = self.b.ins().bxor(bits, moved);
                let less = self.bit(x, SF);
                if c == Cond::L {
                    return less;
                }
                let zero = self.bit(bits, ZF);
                self.either(less, zero)
            }
        }
    }

    fn logic_cond(&mut self, l: Lazy, c: Cond) -> Truth {
        match c {
            Cond::O | Cond::B => self.constant(false),
            Cond::E | Cond::Be => self.against_zero(IntCC::Equal, l.r),
            Cond::S | Cond::L => self.against_zero(IntCC::SignedLessThan, l.r),
            _ => self.against_zero(IntCC::SignedLessThanOrEqual, l.r),
        }
    }

    /// A subtraction without borrow: the operands compare.
    fn sub_cond(&mut self, l: Lazy, c: Cond) -> Truth {
        match c {
            Cond::B => self.icmp(IntCC::UnsignedLessThan, l.a, l.b),
            Cond::E if l.compare => self.icmp(IntCC::Equal, l.a, l.b),
            Cond::E => self.against_zero(IntCC::Equal, l.r),
            Cond::Be => self.icmp(IntCC::UnsignedLessThanOrEqual, l.a, l.b),
            Cond::L => self.icmp(IntCC::SignedLessThan, l.a, l.b),
            Cond::Le => self.icmp(IntCC::SignedLessThanOrEqual, l.a, l.b),
            _ => self.other_cond(l, c),
        }
    }

    /// Additions, borrows, and what packed flags say.
    fn other_cond(&mut self, l: Lazy, c: Cond) -> Truth {
        match c {
            Cond::O => self.overflow(l),
            Cond::B => self.carry(l),
            Cond::E => self.against_zero(IntCC::Equal, l.r),
            Cond::S => self.against_zero(IntCC::SignedLessThan, l.r),
            Cond::Be => {
                let b = self.carry(l);
                let z = self.against_zero(IntCC::Equal, l.r);
                self.either(b, z)
            }
            _ => {
                let s = self.against_zero(IntCC::SignedLessThan, l.r);
                let o = self.overflow(l);
                let less = self.differ(s, o);
                if c == Cond::L {
                    return less;
                }
                let z = self.against_zero(IntCC::Equal, l.r);
                self.either(less, z)
            }
        }
    }

    fn overflow(&mut self, l: Lazy) -> Truth {
        match l.op {
            FlagOp::Szp => return self.bit(l.a, OF),
            FlagOp::Inc => return self.is_value(l, l.w.sign()),
            FlagOp::Dec => return self.is_value(l, l.w.sign() - 1),
            _ => {}
        }
        let x = self.b.ins().bxor(l.a, l.r);
        let y = if l.op == FlagOp::Add { l.r } else { l.a };
        let y = self.b.ins().bxor(l.b, y);
        let both = self.b.ins().band(x, y);
        self.against_zero(IntCC::SignedLessThan, both)
    }

    fn carry(&mut self, l: Lazy) -> Truth {
        let (a, b, r) = (l.a, l.b, l.r);
        match l.op {
            FlagOp::Szp | FlagOp::Inc | FlagOp::Dec => self.bit(a, CF),
            FlagOp::Add if !l.carried => self.icmp(IntCC::UnsignedLessThan, r, a),
            FlagOp::Add => {
                // (a & b) | ((a | b) & !r)
                let both = self.b.ins().band(a, b);
                let any = self.b.ins().bor(a, b);
                let lost = self.b.ins().band_not(any, r);
                let c = self.b.ins().bor(both, lost);
                self.against_zero(IntCC::SignedLessThan, c)
            }
            _ => {
                // (!a & b) | ((!a | b) & r)
                let not = self.b.ins().bnot(a);
                let both = self.b.ins().band(not, b);
                let any = self.b.ins().bor(not, b);
                let kept = self.b.ins().band(any, r);
                let c = self.b.ins().bor(both, kept);
                self.against_zero(IntCC::SignedLessThan, c)
            }
        }
    }

    /// PF: the low byte of the result has an even number of ones.
    fn even_parity(&mut self, l: Lazy) -> Truth {
        let low = if l.w == Width::B {
            l.r
        } else {
            self.b.ins().ireduce(types::I8, l.r)
        };
        let x = self.b.ins().uextend(types::I32, low);
        let high = self.b.ins().ushr_imm_u(x, 4);
        let x = self.b.ins().bxor(x, high);
        let nibble = self.b.ins().band_imm_s(x, 15);
        // Bit n of the table is the parity of n.
        let table = self.b.ins().iconst(types::I32, 0x6996);
        let odd = self.b.ins().ushr(table, nibble);
        let odd = self.b.ins().band_imm_s(odd, 1);
        self.against_zero(IntCC::Equal, odd)
    }

    /// 1 or 0.
    pub(super) fn truth_value(&mut self, w: Width, t: Truth) -> Value {
        let to: ir::Type = ty(w);
        let v = if t.negated {
            self.b.ins().bxor_imm_s(t.value, 1)
        } else {
            t.value
        };
        if w == Width::B {
            v
        } else {
            self.b.ins().uextend(to, v)
        }
    }
}
