//! One instruction as a list of items: `impl Eval` that writes down what its one meaning asks for.
//!
//! Values are the numbers of the items that give them; truths are compared only where they are used. Effects stand in the list in the
//! order in which the meaning has them, so that emitting the list from the front keeps its promise: read, check and fault first.

use atoll_x86::Vector;
use atoll_x86::eval::{Eval, Fp, FpBin, FpCvt, FpFma, FpUn, VecBin, VecShift, VecShuf, VecUn};
use atoll_x86::flags::FlagOp;
use atoll_x86::op::{AddrSize, Cond, Op, OpFlags, RIP, Reg, Seg, Width, ZERO};

use super::asm::{Alu, CC_B, CC_E, CC_L, Cc, Turn};

/// The number of an item that gives a value: zero-extended to 64 bits, whatever its width.
pub(super) type V = u16;

/// A truth: the number of its test, perhaps to be read negated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct B {
    pub(super) test: u16,
    pub(super) negated: bool,
}

/// What a truth compares.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Compare(Cc, Width, V, V),
    /// A condition on the flags as they are before the instruction.
    Cond(Cond),
    And(B, B),
    Or(B, B),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    // Values.
    Imm(u64),
    Reg(Width, Reg),
    SegBase(Seg),
    NextRip,
    /// base + (index << scale) + displacement.
    Lea(V, Option<V>, u8, i32),
    Alu(Alu, Width, V, V),
    Mul(Width, V, V),
    Not(Width, V),
    Turn(Turn, Width, V, V),
    Bswap(Width, V),
    Sext(Width, Width, V),
    Trunc(Width, V),
    Truth(B),
    Select(B, V, V),
    FlagBits,
    /// What is at a place that was checked.
    Peek(Width, V),
    // Values with an effect: they may leave.
    Load(Width, V),
    /// The host address of a place that may be written.
    Place(Width, V),
    // Effects.
    Store(Width, V, V),
    Poke(Width, V, V),
    SetReg(Width, Reg, V),
    Flags(FlagOp, Width, V, V, V),
    FlagsIf(B, FlagOp, Width, V, V, V),
    SetDf(bool),
    LeaveIf(B),
    CheckTarget(V),
    Branch(B),
    JumpTo(V),
}

/// The list of one instruction.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) list: Vec<Item>,
    pub(super) tests: Vec<Test>,
    /// Something that this translator does not do was asked for.
    pub(super) beyond: bool,
}

impl Items {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.tests.clear();
        self.beyond = false;
    }

    fn push(&mut self, i: Item) -> V {
        self.list.push(i);
        self.list.len() as V - 1
    }

    fn test(&mut self, t: Test) -> B {
        self.tests.push(t);
        B {
            test: self.tests.len() as u16 - 1,
            negated: false,
        }
    }

    /// The constant that an item is.
    pub(super) fn constant(&self, v: V) -> Option<u64> {
        match self.list[v as usize] {
            Item::Imm(c) => Some(c),
            _ => None,
        }
    }

    fn turn(&mut self, op: Turn, w: Width, a: V, count: V) -> V {
        if self.constant(count) == Some(0) {
            return a;
        }
        self.push(Item::Turn(op, w, a, count))
    }

    fn compound(&mut self, a: B, b: B, join: fn(B, B) -> Test) -> B {
        let nested = |t: B| matches!(self.tests[t.test as usize], Test::And(..) | Test::Or(..));
        self.beyond |= nested(a) || nested(b);
        self.test(join(a, b))
    }

    fn beyond(&mut self) -> V {
        self.beyond = true;
        self.push(Item::Imm(0))
    }

    fn wide_reg(&mut self, r: Reg) -> V {
        match r {
            RIP => self.push(Item::NextRip),
            _ => self.push(Item::Reg(Width::Q, r)),
        }
    }
}

impl Eval for Items {
    type V = V;
    type X = ();
    type B = B;
    type Loc = V;
    type Stop = ();

    fn imm(&mut self, w: Width, value: u64) -> V {
        self.push(Item::Imm(value & w.mask()))
    }
    fn reg(&mut self, w: Width, r: Reg) -> V {
        self.push(Item::Reg(w, r))
    }
    fn set_reg(&mut self, w: Width, r: Reg, v: V) {
        self.push(Item::SetReg(w, r, v));
    }
    fn xmm(&mut self, _: Reg) {
        self.beyond = true;
    }
    fn set_xmm(&mut self, _: Reg, (): ()) {
        self.beyond = true;
    }
    fn xmm_high(&mut self, _: Reg) {
        self.beyond = true;
    }
    fn set_xmm_high(&mut self, _: Reg, (): ()) {
        self.beyond = true;
    }
    fn seg_base(&mut self, seg: Seg) -> V {
        self.push(Item::SegBase(seg))
    }
    fn next_rip(&mut self, _: &Op) -> V {
        self.push(Item::NextRip)
    }
    fn set_df(&mut self, on: bool) {
        self.push(Item::SetDf(on));
    }

    fn add(&mut self, w: Width, a: V, b: V) -> V {
        self.push(Item::Alu(Alu::Add, w, a, b))
    }
    fn sub(&mut self, w: Width, a: V, b: V) -> V {
        self.push(Item::Alu(Alu::Sub, w, a, b))
    }
    fn and(&mut self, w: Width, a: V, b: V) -> V {
        if a == b {
            return a;
        }
        if let (Some(x), Some(y)) = (self.constant(a), self.constant(b)) {
            return self.push(Item::Imm(x & y));
        }
        self.push(Item::Alu(Alu::And, w, a, b))
    }
    fn or(&mut self, w: Width, a: V, b: V) -> V {
        self.push(Item::Alu(Alu::Or, w, a, b))
    }
    fn xor(&mut self, w: Width, a: V, b: V) -> V {
        self.push(Item::Alu(Alu::Xor, w, a, b))
    }
    fn mul(&mut self, w: Width, a: V, b: V) -> V {
        self.push(Item::Mul(w, a, b))
    }
    fn mul_hi(&mut self, _: Width, _: bool, _: V, _: V) -> V {
        self.beyond()
    }
    fn div_rem(&mut self, _: Width, _: bool, _: V, _: V, _: V) -> Result<(V, V), ()> {
        Ok((self.beyond(), self.beyond()))
    }
    fn not(&mut self, w: Width, a: V) -> V {
        self.push(Item::Not(w, a))
    }
    fn shl(&mut self, w: Width, a: V, count: V) -> V {
        self.turn(Turn::Shl, w, a, count)
    }
    fn shr(&mut self, w: Width, a: V, count: V) -> V {
        self.turn(Turn::Shr, w, a, count)
    }
    fn sar(&mut self, w: Width, a: V, count: V) -> V {
        self.turn(Turn::Sar, w, a, count)
    }
    fn rotl(&mut self, w: Width, a: V, count: V) -> V {
        self.turn(Turn::Rol, w, a, count)
    }
    fn rotr(&mut self, w: Width, a: V, count: V) -> V {
        self.turn(Turn::Ror, w, a, count)
    }
    fn clz(&mut self, _: Width, _: V) -> V {
        self.beyond()
    }
    fn ctz(&mut self, _: Width, _: V) -> V {
        self.beyond()
    }
    fn popcnt(&mut self, _: Width, _: V) -> V {
        self.beyond()
    }
    fn bswap(&mut self, w: Width, a: V) -> V {
        if w < Width::D {
            return self.beyond();
        }
        self.push(Item::Bswap(w, a))
    }
    fn zext(&mut self, _: Width, _: Width, a: V) -> V {
        a
    }
    fn sext(&mut self, from: Width, to: Width, a: V) -> V {
        if from == to {
            return a;
        }
        self.push(Item::Sext(from, to, a))
    }
    fn trunc(&mut self, from: Width, to: Width, a: V) -> V {
        match self.constant(a) {
            _ if from == to => a,
            Some(c) => self.push(Item::Imm(c & to.mask())),
            None => self.push(Item::Trunc(to, a)),
        }
    }

    fn eq(&mut self, w: Width, a: V, b: V) -> B {
        self.test(Test::Compare(CC_E, w, a, b))
    }
    fn ult(&mut self, w: Width, a: V, b: V) -> B {
        self.test(Test::Compare(CC_B, w, a, b))
    }
    fn slt(&mut self, w: Width, a: V, b: V) -> B {
        self.test(Test::Compare(CC_L, w, a, b))
    }
    fn b_not(&mut self, a: B) -> B {
        B {
            negated: !a.negated,
            ..a
        }
    }
    fn b_and(&mut self, a: B, b: B) -> B {
        self.compound(a, b, Test::And)
    }
    fn b_or(&mut self, a: B, b: B) -> B {
        self.compound(a, b, Test::Or)
    }
    fn b_to(&mut self, _: Width, a: B) -> V {
        self.push(Item::Truth(a))
    }
    fn select(&mut self, _: Width, c: B, a: V, b: V) -> V {
        self.push(Item::Select(c, a, b))
    }

    fn flags(&mut self, op: FlagOp, w: Width, a: V, b: V, result: V) {
        self.push(Item::Flags(op, w, a, b, result));
    }
    fn flags_if(&mut self, c: B, op: FlagOp, w: Width, a: V, b: V, result: V) {
        self.push(Item::FlagsIf(c, op, w, a, b, result));
    }
    fn cond(&mut self, cond: Cond) -> B {
        self.test(Test::Cond(cond))
    }
    fn flag_bits(&mut self) -> V {
        self.push(Item::FlagBits)
    }

    fn ea(&mut self, op: &Op, _: u32) -> Result<V, ()> {
        let short = i32::try_from(op.disp);
        let mut a = match (op.base, op.index, short) {
            (ZERO, ZERO, _) => self.push(Item::Imm(op.disp as u64)),
            (_, ZERO, Ok(0)) => self.wide_reg(op.base),
            (_, ZERO, Ok(d)) => {
                let base = self.wide_reg(op.base);
                self.push(Item::Lea(base, None, 0, d))
            }
            (_, _, Ok(d)) => {
                let base = match op.base {
                    ZERO => self.push(Item::Imm(0)),
                    _ => self.wide_reg(op.base),
                };
                let index = self.wide_reg(op.index);
                self.push(Item::Lea(base, Some(index), op.scale, d))
            }
            (_, _, Err(_)) => self.beyond(),
        };
        if op.has(OpFlags::ADDR_CUT) {
            a = match op.addr {
                AddrSize::A16 => self.push(Item::Trunc(Width::W, a)),
                AddrSize::A32 => self.push(Item::Trunc(Width::D, a)),
                AddrSize::A64 => a,
            };
        }
        if op.has(OpFlags::SEG_BASE) {
            let base = self.seg_base(op.seg);
            a = self.push(Item::Alu(Alu::Add, Width::Q, a, base));
        }
        Ok(a)
    }
    fn stack_ea(&mut self, _: &Op, sp: V, _: u32, _: bool) -> Result<V, ()> {
        Ok(sp)
    }
    fn load(&mut self, w: Width, address: V) -> Result<V, ()> {
        Ok(self.push(Item::Load(w, address)))
    }
    fn store(&mut self, w: Width, address: V, value: V) -> Result<(), ()> {
        self.push(Item::Store(w, address, value));
        Ok(())
    }
    fn load_rmw(&mut self, w: Width, address: V) -> Result<(V, V), ()> {
        let place = self.push(Item::Place(w, address));
        Ok((self.push(Item::Peek(w, place)), place))
    }
    fn store_rmw(&mut self, w: Width, loc: V, value: V) {
        self.push(Item::Poke(w, loc, value));
    }
    fn load_x(&mut self, _: V, _: bool) -> Result<(), ()> {
        self.beyond = true;
        Ok(())
    }
    fn store_x(&mut self, _: V, _: bool, (): ()) -> Result<(), ()> {
        self.beyond = true;
        Ok(())
    }

    fn load_y(&mut self, _: V, _: bool) -> Result<[(); 2], ()> {
        self.beyond = true;
        Ok([(); 2])
    }
    fn store_y(&mut self, _: V, _: bool, _: [(); 2]) -> Result<(), ()> {
        self.beyond = true;
        Ok(())
    }

    fn raise_if(&mut self, c: B, _: Vector) -> Result<(), ()> {
        self.push(Item::LeaveIf(c));
        Ok(())
    }
    fn branch(&mut self, _: &Op, c: B, _: u64) {
        self.push(Item::Branch(c));
    }
    fn jump_rel(&mut self, _: &Op, _: u64) {}
    fn check_target(&mut self, op: &Op, target: V) -> Result<(), ()> {
        if op.has(OpFlags::LONG) {
            self.push(Item::CheckTarget(target));
        }
        Ok(())
    }
    fn jump_to(&mut self, _: &Op, target: V) {
        self.push(Item::JumpTo(target));
    }

    // Vectors are left to the interpreter's functions.
    fn x_const(&mut self, _: u64, _: u64) {
        self.beyond = true;
    }
    fn x_bin(&mut self, _: VecBin, (): (), (): ()) {
        self.beyond = true;
    }
    fn x_un(&mut self, _: VecUn, (): ()) {
        self.beyond = true;
    }
    fn x_shift(&mut self, _: VecShift, (): (), _: V) {
        self.beyond = true;
    }
    fn x_shift_imm(&mut self, _: VecShift, (): (), _: u8) {
        self.beyond = true;
    }
    fn x_shuf(&mut self, _: VecShuf, (): (), (): (), _: u8) {
        self.beyond = true;
    }
    fn x_lane(&mut self, _: Width, (): (), _: u8) -> V {
        self.beyond()
    }
    fn x_with_lane(&mut self, _: Width, (): (), _: u8, _: V) {
        self.beyond = true;
    }
    fn x_mask(&mut self, _: Width, (): ()) -> V {
        self.beyond()
    }
    fn x_is_zero(&mut self, (): ()) -> B {
        self.beyond = true;
        self.test(Test::Cond(Cond::E))
    }
    fn x_blend(&mut self, _: Width, (): (), (): (), (): ()) {
        self.beyond = true;
    }
    fn halves(
        &mut self,
        mut f: impl FnMut(&mut Items, usize) -> Result<(), ()>,
    ) -> Result<[(); 2], ()> {
        f(self, 0)?;
        f(self, 1)?;
        Ok([(); 2])
    }
    fn fp_fma(&mut self, _: FpFma, _: Fp, _: [(); 3], (): ()) -> Result<(), ()> {
        Err(())
    }
    fn fp_bin(&mut self, _: FpBin, _: Fp, (): (), (): ()) -> Result<(), ()> {
        Err(())
    }
    fn fp_un(&mut self, _: FpUn, _: Fp, (): (), (): (), _: u8) -> Result<(), ()> {
        Err(())
    }
    fn fp_cmp(&mut self, _: Fp, (): (), (): (), _: u8) -> Result<(), ()> {
        Err(())
    }
    fn fp_comi(&mut self, _: Fp, _: bool, (): (), (): ()) -> Result<V, ()> {
        Err(())
    }
    fn fp_to_int(&mut self, _: Fp, _: Width, _: bool, (): ()) -> Result<V, ()> {
        Err(())
    }
    fn fp_from_int(&mut self, _: Fp, _: Width, (): (), _: V) -> Result<(), ()> {
        Err(())
    }
    fn fp_convert(&mut self, _: FpCvt, (): (), (): ()) -> Result<(), ()> {
        Err(())
    }
}
