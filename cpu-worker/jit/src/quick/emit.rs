//! From the items of an instruction to host code.
//!
//! First pass: which values are wanted, and until when. Second pass: each wanted item in order, in two-address code with the registers of
//! [`Hosts`]. Constants stay constants as long as an instruction takes them. RCX, RSI and RDI are scratch within one item.

use atoll_mmu::DATA_ENTRIES;
use atoll_x86::Op;
use atoll_x86::flags::{CF, DF, FlagOp, OF, PF, SF, ZF, read_by};
use atoll_x86::op::{AH, Cond, Kind, Reg, Width, ZERO};

use super::asm::{
    Alu, Asm, CC_B, CC_E, CC_NE, CC_O, CC_S, Cc, Host, Label, Mem, R13, R15, RCX, RDI, RSI, RSP,
    Turn,
};
use super::hosts::{FlagPart, Hosts};
use super::items::{B, Item, Items, Test, V};
use super::region::{Cold, Exit};
use crate::abi::{self, Helper};

/// There is no register left: the instruction is left to its function.
#[derive(Debug)]
pub(super) struct Full;

type Done<T = ()> = Result<T, Full>;

/// What is known of the flags in the state at this place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    op: FlagOp,
    w: Width,
    /// ADC or SBB: the carry is not that of the operands alone.
    carried: bool,
}

/// How an instruction transfers control, after its code.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transfer {
    None,
    /// If this condition of the host's flags holds.
    If(Cc),
    /// To the address in RSI.
    Rsi,
}

/// A field of the vCPU.
pub(super) fn field(offset: i32) -> Mem {
    Mem::At(R15, offset)
}

/// The code of one region, and where in it we are.
#[derive(Debug, Default)]
pub(super) struct Code {
    pub(super) asm: Asm,
    pub(super) hosts: Hosts,
    pub(super) cold: Vec<Cold>,
    pub(super) known: Option<Known>,
    /// What the words of the state say that tell how to read its flags.
    pub(super) words: Option<(FlagOp, Width)>,
    /// 64-bit mode.
    pub(super) long: bool,
    /// The present instruction: its place, the next one's, and how many of the block came before it.
    pub(super) at: i64,
    pub(super) next: i64,
    pub(super) spent: i64,
    /// The exit before the present instruction, once something branches there.
    pub(super) exit: Option<Label>,
    pub(super) items: Items,
    places: Vec<Option<Host>>,
    last: Vec<u16>,
}

const UNUSED: u16 = 0;

impl Code {
    pub(super) fn new(long: bool) -> Code {
        Code {
            long,
            ..Code::default()
        }
    }

    /// Emits the instruction whose items are in `items`; `flags` says whether somebody looks at the flags it sets.
    pub(super) fn instruction(&mut self, op: &Op, flags: bool) -> Done<Transfer> {
        let items = std::mem::take(&mut self.items);
        let done = self.all(&items, op, flags);
        self.items = items;
        done
    }

    fn all(&mut self, items: &Items, op: &Op, flags: bool) -> Done<Transfer> {
        self.lives(items, flags);
        let mut transfer = Transfer::None;
        for (j, item) in items.list.iter().enumerate() {
            if !wanted(item, flags) && self.last[j] == UNUSED {
                continue;
            }
            match self.item(items, j as V, *item, op)? {
                Transfer::None => {}
                t => transfer = t,
            }
            self.free(items, j as V, item);
        }
        Ok(transfer)
    }

    /// Until which item each value is used.
    fn lives(&mut self, items: &Items, flags: bool) {
        let n = items.list.len();
        self.places.clear();
        self.places.resize(n, None);
        self.last.clear();
        self.last.resize(n, UNUSED);
        for j in (0..n).rev() {
            let item = &items.list[j];
            if !wanted(item, flags) && self.last[j] == UNUSED {
                continue;
            }
            let last = &mut self.last;
            uses(items, item, &mut |v| {
                last[v as usize] = last[v as usize].max(j as u16);
            });
        }
    }

    /// Frees what the item used for the last time, and its result if nobody wants it.
    fn free(&mut self, items: &Items, j: V, item: &Item) {
        let (last, places, hosts) = (&self.last, &mut self.places, &mut self.hosts);
        uses(items, item, &mut |v| {
            if last[v as usize] == j
                && let Some(h) = places[v as usize].take()
            {
                hosts.release(h);
            }
        });
        if last[j as usize] == UNUSED
            && let Some(h) = places[j as usize].take()
        {
            hosts.release(h);
        }
    }

    /// A new register for an item's value.
    fn fresh(&mut self, j: V) -> Done<Host> {
        let h = self.hosts.take().ok_or(Full)?;
        self.places[j as usize] = Some(h);
        Ok(h)
    }

    /// A register with the value of `a`, to be changed into the value of item `j`.
    fn copy(&mut self, items: &Items, j: V, a: V) -> Done<Host> {
        if let Some(c) = items.constant(a) {
            let h = self.fresh(j)?;
            self.asm.mov_imm(h, c);
            return Ok(h);
        }
        let from = self.places[a as usize].ok_or(Full)?;
        if self.last[a as usize] == j && self.hosts.is_alone(from) {
            self.places[a as usize] = None;
            self.places[j as usize] = Some(from);
            self.hosts.overwrite(from);
            return Ok(from);
        }
        let h = self.fresh(j)?;
        self.asm.mov(8, h, from);
        Ok(h)
    }

    /// Where a value is; a constant is put into the scratch register.
    fn host(&mut self, items: &Items, v: V, scratch: Host) -> Done<Host> {
        if let Some(c) = items.constant(v) {
            self.asm.mov_imm(scratch, c);
            return Ok(scratch);
        }
        self.places[v as usize].ok_or(Full)
    }

    fn item(&mut self, items: &Items, j: V, item: Item, op: &Op) -> Done<Transfer> {
        match item {
            Item::Imm(_) => {}
            Item::Reg(w, r) => self.read(j, w, r)?,
            Item::SegBase(s) => {
                let h = self.fresh(j)?;
                self.asm.load(8, h, field(abi::seg_base(s as u8)));
            }
            Item::NextRip => {
                let h = self.fresh(j)?;
                self.rip(h, self.next);
            }
            Item::Lea(base, index, scale, d) => self.lea(items, j, base, index, scale, d)?,
            Item::Alu(alu, w, a, b) => self.alu(items, j, alu, w, a, b)?,
            Item::Mul(w, a, b) => {
                let h = self.copy(items, j, a)?;
                let b = if b == a { h } else { self.host(items, b, RSI)? };
                self.asm.imul(w.bytes(), h, b);
                self.narrow(w, h);
            }
            Item::Not(w, a) => {
                let h = self.copy(items, j, a)?;
                self.asm.not(w.bytes(), h);
                self.narrow(w, h);
            }
            Item::Turn(turn, w, a, count) => self.turn(items, j, turn, w, a, count)?,
            Item::Bswap(w, a) => {
                let h = self.copy(items, j, a)?;
                self.asm.bswap(w.bytes(), h);
            }
            Item::Sext(from, to, a) => {
                let a = self.host(items, a, RSI)?;
                let h = self.fresh(j)?;
                self.asm.sext(from.bytes(), to == Width::Q, h, a);
                self.narrow(to, h);
            }
            Item::Trunc(to, a) => {
                let a = self.host(items, a, RSI)?;
                let h = self.fresh(j)?;
                self.asm.zext(to.bytes(), h, a);
            }
            Item::Truth(b) => {
                let h = self.fresh(j)?;
                let cc = self.test(items, b)?;
                self.asm.setcc(cc, RCX);
                self.asm.zext(1, h, RCX);
            }
            Item::Select(c, a, b) => self.select(items, j, c, a, b)?,
            Item::FlagBits => {
                self.flag_bits();
                let h = self.fresh(j)?;
                self.asm.load(8, h, field(abi::ANSWER));
            }
            Item::Load(w, address) => {
                let a = self.host(items, address, RDI)?;
                self.check(a, w, false);
                let h = self.fresh(j)?;
                self.asm.load(w.bytes(), h, Mem::Sum(a, RCX));
            }
            Item::Place(w, address) => {
                let a = self.host(items, address, RDI)?;
                self.check(a, w, true);
                let h = self.fresh(j)?;
                self.asm.lea(8, h, Mem::Sum(a, RCX));
            }
            Item::Peek(w, place) => {
                let p = self.host(items, place, RDI)?;
                let h = self.fresh(j)?;
                self.asm.load(w.bytes(), h, Mem::At(p, 0));
            }
            Item::Store(w, address, v) => {
                let a = self.host(items, address, RDI)?;
                self.check(a, w, true);
                self.put(items, w, Mem::Sum(a, RCX), v)?;
            }
            Item::Poke(w, place, v) => {
                let p = self.host(items, place, RDI)?;
                self.put(items, w, Mem::At(p, 0), v)?;
            }
            Item::SetReg(w, r, v) => self.write(items, w, r, v)?,
            Item::Flags(flag_op, w, a, b, r) => {
                self.flags(items, flag_op, w, [a, b, r])?;
                self.known = Some(Known {
                    op: flag_op,
                    w,
                    carried: matches!(op.kind, Kind::Adc | Kind::Sbb),
                });
            }
            Item::FlagsIf(c, flag_op, w, a, b, r) => {
                let skip = self.asm.label();
                let cc = self.test(items, c)?;
                self.asm.jcc(cc ^ 1, skip);
                self.words = None;
                self.flags(items, flag_op, w, [a, b, r])?;
                self.asm.bind(skip);
                self.known = None;
                self.words = None;
                for part in [FlagPart::A, FlagPart::B, FlagPart::Result] {
                    self.hosts.set_flag(part, None);
                }
            }
            Item::SetDf(on) => {
                let (alu, mask) = match on {
                    true => (Alu::Or, DF as i32),
                    false => (Alu::And, !(DF as i32)),
                };
                self.asm.alu_imm_mem(alu, 8, field(abi::RFLAGS), mask);
            }
            Item::LeaveIf(b) => {
                let exit = self.exit();
                let cc = self.test(items, b)?;
                self.asm.jcc(cc, exit);
            }
            Item::CheckTarget(v) => {
                let exit = self.exit();
                let h = self.host(items, v, RSI)?;
                self.asm.mov(8, RCX, h);
                self.asm.turn_imm(Turn::Shl, 8, RCX, 16);
                self.asm.turn_imm(Turn::Sar, 8, RCX, 16);
                self.asm.alu(Alu::Cmp, 8, RCX, h);
                self.asm.jcc(CC_NE, exit);
            }
            Item::Branch(b) => return Ok(Transfer::If(self.test(items, b)?)),
            Item::JumpTo(v) => {
                let h = self.host(items, v, RSI)?;
                if h != RSI {
                    self.asm.mov(8, RSI, h);
                }
                return Ok(Transfer::Rsi);
            }
        }
        Ok(Transfer::None)
    }

    /// The address of a place, as RIP has it. Changes no flags.
    pub(super) fn rip(&mut self, to: Host, at: i64) {
        let bytes = if self.long { 8 } else { 4 };
        // A branch of nearly 2 GiB may end further from the page's start than a displacement reaches.
        let near = at.clamp(i32::MIN.into(), i32::MAX.into());
        self.asm.lea(bytes, to, Mem::At(R13, near as i32));
        if near != at {
            self.asm.lea(bytes, to, Mem::At(to, (at - near) as i32));
        }
    }

    fn narrow(&mut self, w: Width, h: Host) {
        if w < Width::D {
            self.asm.zext(w.bytes(), h, h);
        }
    }

    fn read(&mut self, j: V, w: Width, r: Reg) -> Done {
        if r >= AH {
            let h = self.fresh(j)?;
            self.asm.load(1, h, field(abi::gpr(r - AH) + 1));
            return Ok(());
        }
        let copy = if r < ZERO { self.hosts.guest(r) } else { None };
        match (copy, w) {
            (Some((from, _)), Width::Q) | (Some((from, true)), Width::D) => {
                self.hosts.share(from);
                self.places[j as usize] = Some(from);
            }
            (Some((from, _)), _) => {
                // The copy must not be taken for the new value while it is read.
                self.hosts.share(from);
                let h = self.fresh(j);
                self.hosts.release(from);
                self.asm.zext(w.bytes(), h?, from);
            }
            (None, _) => {
                let h = self.fresh(j)?;
                self.asm.load(w.bytes(), h, field(abi::gpr(r)));
                if w == Width::Q && r < ZERO {
                    self.hosts.note_guest(r, h);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, items: &Items, w: Width, r: Reg, v: V) -> Done {
        if r >= AH {
            self.put(items, w, field(abi::gpr(r - AH) + 1), v)?;
            self.hosts.set_guest(r - AH, None);
            return Ok(());
        }
        let whole = if w == Width::D { Width::Q } else { w };
        self.put(items, whole, field(abi::gpr(r)), v)?;
        let copy = match w {
            Width::Q | Width::D => self.places[v as usize].map(|h| (h, w == Width::D)),
            _ => None,
        };
        self.hosts.set_guest(r, copy);
        Ok(())
    }

    /// Stores a value.
    fn put(&mut self, items: &Items, w: Width, to: Mem, v: V) -> Done {
        if let Some(c) = items.constant(v).and_then(|c| immediate(w, c)) {
            self.asm.store_imm(w.bytes(), to, c);
            return Ok(());
        }
        let h = self.host(items, v, RSI)?;
        self.asm.store(w.bytes(), to, h);
        Ok(())
    }

    fn lea(&mut self, items: &Items, j: V, base: V, index: Option<V>, scale: u8, d: i32) -> Done {
        let base = self.host(items, base, RSI)?;
        match index {
            None => {
                let h = self.fresh(j)?;
                self.asm.lea(8, h, Mem::At(base, d));
            }
            Some(i) => {
                let i = self.host(items, i, RDI)?;
                let h = self.fresh(j)?;
                self.asm.lea_scaled(h, base, i, scale, d);
            }
        }
        Ok(())
    }

    fn alu(&mut self, items: &Items, j: V, alu: Alu, w: Width, a: V, b: V) -> Done {
        let bytes = w.bytes().max(4);
        if let Some(c) = items.constant(b).and_then(|c| immediate(w, c)) {
            let h = self.copy(items, j, a)?;
            self.asm.alu_imm(alu, bytes, h, c);
            self.narrow(w, h);
            return Ok(());
        }
        let h = self.copy(items, j, a)?;
        let b = if b == a { h } else { self.host(items, b, RSI)? };
        self.asm.alu(alu, bytes, h, b);
        self.narrow(w, h);
        Ok(())
    }

    fn turn(&mut self, items: &Items, j: V, turn: Turn, w: Width, a: V, count: V) -> Done {
        if let Some(n) = items.constant(count) {
            let h = self.copy(items, j, a)?;
            self.asm.turn_imm(turn, w.bytes(), h, n as u8);
        } else {
            let n = self.host(items, count, RCX)?;
            self.asm.mov(4, RCX, n);
            let h = self.copy(items, j, a)?;
            self.asm.turn(turn, w.bytes(), h);
        }
        Ok(())
    }

    fn select(&mut self, items: &Items, j: V, c: B, a: V, b: V) -> Done {
        let h = self.fresh(j)?;
        let yes = match items.constant(a) {
            // Both scratch registers of constants may be needed by the test.
            Some(c) => {
                let t = self.hosts.take().ok_or(Full)?;
                self.hosts.release(t);
                self.asm.mov_imm(t, c);
                t
            }
            None => self.host(items, a, RSI)?,
        };
        let b = self.host(items, b, RSI)?;
        self.asm.mov(8, h, b);
        let cc = self.test(items, c)?;
        self.asm.cmov(cc, h, yes);
        Ok(())
    }

    /// Emits a test; the truth is this condition of the host's flags.
    fn test(&mut self, items: &Items, b: B) -> Done<Cc> {
        let cc = match items.tests[b.test as usize] {
            Test::Compare(cc, w, x, y) => {
                let x = self.host(items, x, RCX)?;
                match items.constant(y).and_then(|c| immediate(w, c)) {
                    Some(0) if cc == CC_E => self.asm.test(w.bytes(), x, x),
                    Some(c) => self.asm.alu_imm(Alu::Cmp, w.bytes(), x, c),
                    None => {
                        let y = self.host(items, y, RSI)?;
                        self.asm.alu(Alu::Cmp, w.bytes(), x, y);
                    }
                }
                cc
            }
            Test::Cond(c) => self.cond(c),
            Test::And(x, y) => self.both(items, Alu::And, x, y)?,
            Test::Or(x, y) => self.both(items, Alu::Or, x, y)?,
        };
        Ok(cc ^ u8::from(b.negated))
    }

    fn both(&mut self, items: &Items, join: Alu, x: B, y: B) -> Done<Cc> {
        let cc = self.test(items, x)?;
        self.asm.setcc(cc, RDI);
        let cc = self.test(items, y)?;
        self.asm.setcc(cc, RCX);
        self.asm.alu(join, 1, RCX, RDI);
        // AND and OR of bytes set ZF by the result.
        Ok(CC_NE)
    }

    /// Emits a condition on the guest's flags.
    fn cond(&mut self, c: Cond) -> Cc {
        let (even, odd) = (c as u8 & !1, c as u8 & 1);
        let of_result = matches!(even, CC_E | CC_S | 10);
        let Some(k) = self.known else {
            return self.cond_of_bits(c);
        };
        match k.op {
            FlagOp::Sub | FlagOp::Add if !k.carried => {
                self.operate_again(k);
                c as u8
            }
            FlagOp::Logic => {
                self.result_against_zero(k.w);
                c as u8
            }
            FlagOp::Sub | FlagOp::Add | FlagOp::Szp | FlagOp::Inc | FlagOp::Dec if of_result => {
                self.result_against_zero(k.w);
                c as u8
            }
            FlagOp::Szp | FlagOp::Inc | FlagOp::Dec
                if matches!(even, CC_O | CC_B) && k.op.packed() & read_by(c) != 0 =>
            {
                let bit = if even == CC_O { OF } else { CF };
                self.asm.test_imm_mem(field(abi::FLAG_A), bit as i32);
                CC_NE ^ odd
            }
            FlagOp::Real if even < 12 => {
                let bits = match even {
                    CC_O => OF,
                    CC_B => CF,
                    CC_E => ZF,
                    6 => CF | ZF,
                    CC_S => SF,
                    _ => PF,
                };
                self.asm.test_imm_mem(field(abi::FLAG_RESULT), bits as i32);
                CC_NE ^ odd
            }
            _ => self.cond_of_bits(c),
        }
    }

    /// The host's flags become those of the addition or subtraction that was last.
    fn operate_again(&mut self, k: Known) {
        let a = self.hosts.flag(FlagPart::A);
        let b = self.hosts.flag(FlagPart::B);
        let alu = if k.op == FlagOp::Sub {
            Alu::Cmp
        } else {
            Alu::Add
        };
        let left = match a {
            Some(h) if alu == Alu::Cmp => h,
            Some(h) => {
                self.asm.mov(8, RCX, h);
                RCX
            }
            None => {
                self.asm.load(8, RCX, field(abi::FLAG_A));
                RCX
            }
        };
        match b {
            Some(h) => self.asm.alu(alu, k.w.bytes(), left, h),
            None => self.asm.alu_mem(alu, k.w.bytes(), left, field(abi::FLAG_B)),
        }
    }

    fn result_against_zero(&mut self, w: Width) {
        match self.hosts.flag(FlagPart::Result) {
            Some(h) => self.asm.test(w.bytes(), h, h),
            None => self
                .asm
                .alu_imm_mem(Alu::Cmp, w.bytes(), field(abi::FLAG_RESULT), 0),
        }
    }

    fn cond_of_bits(&mut self, c: Cond) -> Cc {
        self.flag_bits();
        self.asm.load(8, RCX, field(abi::ANSWER));
        self.asm.load_flags(RCX);
        c as u8
    }

    /// The guest's arithmetic flags as bits, in `Mmu::answer`.
    fn flag_bits(&mut self) {
        self.call(Helper::FlagBits);
    }

    /// Calls a helper; the region's frame leaves the stack eight bytes off.
    pub(super) fn call(&mut self, helper: Helper) {
        self.asm.lea(8, RSP, Mem::At(RSP, -8));
        self.asm.call_mem(field(abi::helper(helper)));
        self.asm.lea(8, RSP, Mem::At(RSP, 8));
    }

    /// Stores the lazy flags.
    fn flags(&mut self, items: &Items, op: FlagOp, w: Width, [a, b, r]: [V; 3]) -> Done {
        if self.words.is_none_or(|(o, _)| o != op) {
            self.asm.store_imm(4, field(abi::FLAG_OP), op as i32);
        }
        if self.words.is_none_or(|(_, x)| x != w) {
            self.asm.store_imm(4, field(abi::FLAG_WIDTH), w as i32);
        }
        self.words = Some((op, w));
        let parts = [
            (FlagPart::A, abi::FLAG_A, a),
            (FlagPart::B, abi::FLAG_B, b),
            (FlagPart::Result, abi::FLAG_RESULT, r),
        ];
        for (part, offset, v) in parts {
            if reads_part(op, part) {
                self.put(items, Width::Q, field(offset), v)?;
                let copy = self.places[v as usize];
                self.hosts.set_flag(part, copy);
            }
        }
        Ok(())
    }

    /// The exit before the present instruction.
    fn exit(&mut self) -> Label {
        if let Some(l) = self.exit {
            return l;
        }
        let l = self.asm.label();
        self.exit = Some(l);
        self.cold.push(Cold::Exit(Exit {
            label: l,
            at: self.at,
            spent: self.spent,
            why: abi::Leave::Interpret,
        }));
        l
    }

    /// Looks an address up in the TLB: afterwards the host address is its sum with RCX. Uses RSI.
    fn check(&mut self, address: Host, w: Width, write: bool) {
        let exit = self.exit();
        let (miss, back) = (self.asm.label(), self.asm.label());
        self.asm.mov(4, RCX, address);
        self.asm.turn_imm(Turn::Shr, 4, RCX, 7);
        let mask = (DATA_ENTRIES as i32 - 1) * 32;
        self.asm.alu_imm(Alu::And, 4, RCX, mask);
        self.asm.alu_mem(Alu::Add, 8, RCX, field(abi::DATA_SET));
        self.asm.lea(8, RSI, Mem::At(address, w.bytes() as i32 - 1));
        self.asm.alu_imm(Alu::And, 8, RSI, -4096);
        let tag = Mem::At(RCX, if write { 8 } else { 0 });
        self.asm.alu_mem(Alu::Cmp, 8, RSI, tag);
        self.asm.jcc(CC_NE, miss);
        self.asm.load(8, RCX, Mem::At(RCX, 16));
        self.asm.bind(back);
        self.cold.push(Cold::Miss {
            label: miss,
            back,
            exit,
            address,
            what: i32::from(write) << 8 | w.bytes() as i32,
        });
    }
}

/// Whether an item is emitted although nobody uses its value.
fn wanted(item: &Item, flags: bool) -> bool {
    use Item::*;
    match item {
        Load(..) | Place(..) | Store(..) | Poke(..) | SetReg(..) | SetDf(_) | LeaveIf(_)
        | CheckTarget(_) | Branch(_) | JumpTo(_) => true,
        Flags(..) | FlagsIf(..) => flags,
        _ => false,
    }
}

/// Whether flags of this form follow from the part.
fn reads_part(op: FlagOp, part: FlagPart) -> bool {
    match part {
        FlagPart::A => op.reads_a(),
        FlagPart::B => op.reads_b(),
        FlagPart::Result => true,
    }
}

/// A constant of a width as the immediate of an instruction of that width.
fn immediate(w: Width, c: u64) -> Option<i32> {
    match w {
        Width::Q => i32::try_from(c as i64).ok(),
        Width::D => Some(c as i32),
        Width::W => Some(i32::from(c as i16)),
        Width::B => Some(i32::from(c as i8)),
    }
}

/// The values that an item uses.
fn uses(items: &Items, item: &Item, f: &mut impl FnMut(V)) {
    use Item::*;
    match *item {
        Imm(_) | Reg(..) | SegBase(_) | NextRip | FlagBits | SetDf(_) => {}
        Lea(base, index, ..) => {
            f(base);
            index.into_iter().for_each(f);
        }
        Alu(_, _, a, b) | Mul(_, a, b) | Turn(_, _, a, b) | Store(_, a, b) | Poke(_, a, b) => {
            f(a);
            f(b);
        }
        Not(_, a)
        | Bswap(_, a)
        | Sext(_, _, a)
        | Trunc(_, a)
        | Peek(_, a)
        | Load(_, a)
        | Place(_, a)
        | SetReg(_, _, a)
        | CheckTarget(a)
        | JumpTo(a) => f(a),
        Truth(b) | LeaveIf(b) | Branch(b) => test_uses(items, b, f),
        Select(c, a, b) => {
            test_uses(items, c, f);
            f(a);
            f(b);
        }
        Flags(op, _, a, b, r) => flag_uses(op, [a, b, r], f),
        FlagsIf(c, op, _, a, b, r) => {
            test_uses(items, c, f);
            flag_uses(op, [a, b, r], f);
        }
    }
}

fn flag_uses(op: FlagOp, [a, b, r]: [V; 3], f: &mut impl FnMut(V)) {
    for (part, v) in [(FlagPart::A, a), (FlagPart::B, b), (FlagPart::Result, r)] {
        if reads_part(op, part) {
            f(v);
        }
    }
}

fn test_uses(items: &Items, b: B, f: &mut impl FnMut(V)) {
    match items.tests[b.test as usize] {
        Test::Compare(_, _, x, y) => {
            f(x);
            f(y);
        }
        Test::Cond(_) => {}
        Test::And(x, y) | Test::Or(x, y) => {
            test_uses(items, x, f);
            test_uses(items, y, f);
        }
    }
}
