//! What an instruction reads and writes, found by evaluating its one meaning over nothing.
//!
//! [`Effects::of`] runs `semantics::execute` on an evaluator whose values are empty and which only notes the verbs. So liveness
//! can never disagree with what the translator does with the same instruction.

use atoll_hostfp::live::{self, Form};
use atoll_x86::Vector;
use atoll_x86::eval::{Eval, Fp, FpBin, FpCvt, FpFma, FpUn, VecBin, VecShift, VecShuf, VecUn};
use atoll_x86::flags::{ARITH, FlagOp, read_by};
use atoll_x86::op::{Arg, Cond, Kind, Op, OpFlags, RAX, Reg, Seg, Width};
use atoll_x86::semantics;
use atoll_x86::state::mode;

/// Sets of general (bits 0 to 15) and vector registers (bits 16 to 31).
pub(crate) type Regs = u32;

/// How an instruction is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// From its meaning.
    Lifted,
    /// As the host's own x87 instruction.
    Host(Form),
    /// A call of its function, all state in memory.
    Call,
    /// Not at all: the region ends before it.
    Leave,
}

/// How an instruction is translated in code of this mode.
pub(crate) fn class(op: &Op, mode: u32) -> Class {
    use Kind::*;
    if op.has(OpFlags::SEG_CHECK) {
        return Class::Leave;
    }
    let fpu_off = mode & mode::FPU_OFF != 0;
    if op.kind == X87
        && mode & (mode::FPU_OFF | mode::X87) == 0
        && let Some(form) = live::form(op.imm as u16)
    {
        return Class::Host(form);
    }
    match op.kind {
        Jcc | Jmp | Call | Loop | Ret | CallInd | JmpInd if narrow_transfer(op) => Class::Leave,
        MovX | MovPart | VecBin | VecShiftImm | VecShiftReg | VecShuffle | VecUnary
        | VecExtract | VecInsert | VecMask | VecTest | VecBlend | VecYmm | FpFma
            if fpu_off =>
        {
            Class::Leave
        }
        FpBin | FpUnary | FpCompare | FpConvert if fpu_off => Class::Leave,
        _ if op.kind.is_lifted() => {
            if crate::emit::translates(op, mode) {
                Class::Lifted
            } else {
                Class::Call
            }
        }
        X87 | Mmx | SseHelper if fpu_off => Class::Leave,
        String | X87 | Mmx | SseHelper | Helper | Time if !op.has(OpFlags::ENDS_BLOCK) => {
            Class::Call
        }
        System if op.has(OpFlags::TRANSFERS) => Class::Call,
        _ => Class::Leave,
    }
}

/// Whether a near transfer cuts its target to 16 bits, or moves the stack by a 16-bit pointer.
fn narrow_transfer(op: &Op) -> bool {
    let wide = if op.has(OpFlags::LONG) {
        Width::Q
    } else {
        Width::D
    };
    op.width != wide || !op.has(OpFlags::STACK_WIDE)
}

/// What an instruction reads before it writes it, writes in whole, and writes at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) reads: Regs,
    pub(crate) defines: Regs,
    pub(crate) writes: Regs,
    /// The arithmetic flags that it looks at.
    pub(crate) reads_flags: u64,
    pub(crate) writes_flags: bool,
    /// It may leave the flags as they were: a shift whose count may be zero.
    pub(crate) keeps_flags: bool,
    /// It may leave before it commits anything.
    pub(crate) may_leave: bool,
}

impl Effects {
    /// The effects of a lifted instruction.
    pub(crate) fn of(op: &Op) -> Effects {
        let mut e = Effects::default();
        // The evaluator never stops.
        let _ = semantics::execute(&mut e, op);
        e
    }

    /// The effects of an x87 instruction of the host's, besides those on the unit.
    pub(crate) fn of_host(op: &Op, form: Form) -> Effects {
        let mut e = Effects::default();
        match form {
            Form::Stack | Form::Clear | Form::Wait => {}
            Form::Flags => e.writes_flags = true,
            Form::Move => e.reads_flags = read_by(Cond::from_bits(op.sub)),
            Form::StoreStatus if op.dst_arg == Arg::Reg => e.set_reg(Width::W, RAX, ()),
            Form::Load(_)
            | Form::Store(_)
            | Form::LoadControl
            | Form::StoreControl
            | Form::StoreStatus => {
                e.read(gpr_bit(op.base) | gpr_bit(op.index));
                e.may_leave = true;
            }
        }
        e
    }

    fn read(&mut self, r: Regs) {
        self.reads |= r & !self.defines;
    }
    fn write(&mut self, r: Regs, whole: bool) {
        if whole {
            self.defines |= r;
        } else {
            self.read(r);
        }
        self.writes |= r;
    }
    fn read_flags(&mut self, flags: u64) {
        if !self.writes_flags {
            self.reads_flags |= flags;
        }
    }
    fn fp(&mut self) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
}

/// Whether what the instruction does apart from the flags depends on the flags. Of the others (INC, shifts, BT ...) only the new flags
/// depend on the old.
pub(crate) fn needs_flags(op: &Op) -> bool {
    use Kind::*;
    match op.kind {
        // Of x87, FCMOVcc alone reads flags.
        Adc | Sbb | Rcl | Rcr | Cmovcc | Setcc | Jcc | Lahf | X87 => true,
        Loop => op.sub < 2,
        _ => false,
    }
}

/// The bit of a general register, its high byte included.
pub(crate) fn gpr_bit(r: Reg) -> Regs {
    match r {
        0..=15 => 1 << r,
        32..=35 => 1 << (r - 32),
        _ => 0,
    }
}

impl Eval for Effects {
    type V = ();
    type X = ();
    type B = ();
    type Loc = ();
    type Stop = ();

    fn imm(&mut self, _: Width, _: u64) {}
    fn reg(&mut self, _: Width, r: Reg) {
        self.read(gpr_bit(r));
    }
    fn set_reg(&mut self, w: Width, r: Reg, (): ()) {
        self.write(gpr_bit(r), w >= Width::D);
    }
    fn xmm(&mut self, r: Reg) {
        self.read(1 << (16 + r));
    }
    fn set_xmm(&mut self, r: Reg, (): ()) {
        self.write(1 << (16 + r), true);
    }
    // Upper halves are in memory between and within instructions.
    fn xmm_high(&mut self, _: Reg) {}
    fn set_xmm_high(&mut self, _: Reg, (): ()) {}
    fn seg_base(&mut self, _: Seg) {}
    fn next_rip(&mut self, _: &Op) {}
    fn set_df(&mut self, _: bool) {}
    fn add(&mut self, _: Width, (): (), (): ()) {}
    fn sub(&mut self, _: Width, (): (), (): ()) {}
    fn and(&mut self, _: Width, (): (), (): ()) {}
    fn or(&mut self, _: Width, (): (), (): ()) {}
    fn xor(&mut self, _: Width, (): (), (): ()) {}
    fn mul(&mut self, _: Width, (): (), (): ()) {}
    fn mul_hi(&mut self, _: Width, _: bool, (): (), (): ()) {}
    fn div_rem(&mut self, _: Width, _: bool, (): (), (): (), (): ()) -> Result<((), ()), ()> {
        self.may_leave = true;
        Ok(((), ()))
    }
    fn not(&mut self, _: Width, (): ()) {}
    fn shl(&mut self, _: Width, (): (), (): ()) {}
    fn shr(&mut self, _: Width, (): (), (): ()) {}
    fn sar(&mut self, _: Width, (): (), (): ()) {}
    fn rotl(&mut self, _: Width, (): (), (): ()) {}
    fn rotr(&mut self, _: Width, (): (), (): ()) {}
    fn clz(&mut self, _: Width, (): ()) {}
    fn ctz(&mut self, _: Width, (): ()) {}
    fn popcnt(&mut self, _: Width, (): ()) {}
    fn bswap(&mut self, _: Width, (): ()) {}
    fn zext(&mut self, _: Width, _: Width, (): ()) {}
    fn sext(&mut self, _: Width, _: Width, (): ()) {}
    fn trunc(&mut self, _: Width, _: Width, (): ()) {}
    fn eq(&mut self, _: Width, (): (), (): ()) {}
    fn ult(&mut self, _: Width, (): (), (): ()) {}
    fn slt(&mut self, _: Width, (): (), (): ()) {}
    fn b_not(&mut self, (): ()) {}
    fn b_and(&mut self, (): (), (): ()) {}
    fn b_or(&mut self, (): (), (): ()) {}
    fn b_to(&mut self, _: Width, (): ()) {}
    fn select(&mut self, _: Width, (): (), (): (), (): ()) {}
    fn flags(&mut self, _: FlagOp, _: Width, (): (), (): (), (): ()) {
        self.writes_flags = true;
    }
    fn flags_if(&mut self, (): (), _: FlagOp, _: Width, (): (), (): (), (): ()) {
        self.keeps_flags |= !self.writes_flags;
        self.writes_flags = true;
    }
    fn cond(&mut self, c: Cond) {
        self.read_flags(read_by(c));
    }
    fn flag_bits(&mut self) {
        self.read_flags(ARITH);
    }
    fn ea(&mut self, op: &Op, _: u32) -> Result<(), ()> {
        self.read(gpr_bit(op.base) | gpr_bit(op.index));
        Ok(())
    }
    fn stack_ea(&mut self, _: &Op, (): (), _: u32, _: bool) -> Result<(), ()> {
        Ok(())
    }
    fn load(&mut self, _: Width, (): ()) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn store(&mut self, _: Width, (): (), (): ()) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn load_rmw(&mut self, _: Width, (): ()) -> Result<((), ()), ()> {
        self.may_leave = true;
        Ok(((), ()))
    }
    fn store_rmw(&mut self, _: Width, (): (), (): ()) {}
    fn load_x(&mut self, (): (), _: bool) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn store_x(&mut self, (): (), _: bool, (): ()) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn load_y(&mut self, (): (), _: bool) -> Result<[(); 2], ()> {
        self.may_leave = true;
        Ok([(); 2])
    }
    fn store_y(&mut self, (): (), _: bool, _: [(); 2]) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn raise_if(&mut self, (): (), _: Vector) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn branch(&mut self, _: &Op, (): (), _: u64) {}
    fn jump_rel(&mut self, _: &Op, _: u64) {}
    fn check_target(&mut self, _: &Op, (): ()) -> Result<(), ()> {
        self.may_leave = true;
        Ok(())
    }
    fn jump_to(&mut self, _: &Op, (): ()) {}
    fn x_const(&mut self, _: u64, _: u64) {}
    fn x_bin(&mut self, _: VecBin, (): (), (): ()) {}
    fn x_un(&mut self, _: VecUn, (): ()) {}
    fn x_shift(&mut self, _: VecShift, (): (), (): ()) {}
    fn x_shift_imm(&mut self, _: VecShift, (): (), _: u8) {}
    fn x_shuf(&mut self, _: VecShuf, (): (), (): (), _: u8) {}
    fn x_lane(&mut self, _: Width, (): (), _: u8) {}
    fn x_with_lane(&mut self, _: Width, (): (), _: u8, (): ()) {}
    fn x_mask(&mut self, _: Width, (): ()) {}
    fn x_is_zero(&mut self, (): ()) {}
    fn x_blend(&mut self, _: Width, (): (), (): (), (): ()) {}
    fn halves(
        &mut self,
        mut f: impl FnMut(&mut Effects, usize) -> Result<(), ()>,
    ) -> Result<[(); 2], ()> {
        f(self, 0)?;
        f(self, 1)?;
        Ok([(); 2])
    }
    fn fp_fma(&mut self, _: FpFma, _: Fp, _: [(); 3], (): ()) -> Result<(), ()> {
        self.fp()
    }
    fn fp_bin(&mut self, _: FpBin, _: Fp, (): (), (): ()) -> Result<(), ()> {
        self.fp()
    }
    fn fp_un(&mut self, _: FpUn, _: Fp, (): (), (): (), _: u8) -> Result<(), ()> {
        self.fp()
    }
    fn fp_cmp(&mut self, _: Fp, (): (), (): (), _: u8) -> Result<(), ()> {
        self.fp()
    }
    fn fp_comi(&mut self, _: Fp, _: bool, (): (), (): ()) -> Result<(), ()> {
        self.fp()
    }
    fn fp_to_int(&mut self, _: Fp, _: Width, _: bool, (): ()) -> Result<(), ()> {
        self.fp()
    }
    fn fp_from_int(&mut self, _: Fp, _: Width, (): (), (): ()) -> Result<(), ()> {
        self.fp()
    }
    fn fp_convert(&mut self, _: FpCvt, (): (), (): ()) -> Result<(), ()> {
        self.fp()
    }
}
