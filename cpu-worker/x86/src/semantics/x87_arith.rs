//! x87 arithmetic, comparisons and moves.
//!
//! Hot forms are functions of constants: the operation, where it reads and writes, whether it pops.

use atoll_hostfp::rebias;
use atoll_hostfp::x87::{
    self as host, Bin, C0, C2, C3, CC, Done, F80, FLAGS, IE, Mem, OE, Store, UE, Un,
};

use super::x87::{
    self as unit, INDEFINITE, accept, env, is_empty, note, note_data, pop, push, ready, set_c1,
    set_cc, set_st, signal, st, stack_fault,
};
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::flags::{CF, LazyFlags, PF, ZF};
use crate::op::{Cond, Op, Width};

type Result = core::result::Result<(), Stop>;

/// The number of a [`Bin`] back to the operation.
const fn bin_of(n: u8) -> Bin {
    [Bin::Add, Bin::Mul, Bin::Sub, Bin::Subr, Bin::Div, Bin::Divr][n as usize]
}

/// The number of a [`Mem`] back to the format.
pub const fn mem_of(n: u8) -> Mem {
    [Mem::F32, Mem::F64, Mem::I16, Mem::I32][n as usize]
}

const fn mem_width(m: Mem) -> Width {
    match m {
        Mem::I16 => Width::W,
        Mem::F32 | Mem::I32 => Width::D,
        Mem::F64 => Width::Q,
    }
}

/// Writes a result to ST(i) and pops, if it may be committed.
#[inline(always)]
pub(super) fn finish(
    cpu: &mut Cpu,
    op: &Op,
    i: u8,
    pops: bool,
    mut done: Done,
    biased: impl FnOnce(host::Env, bool) -> Option<Done>,
) -> bool {
    let accepted = accept(cpu, op, &mut done, biased);
    if accepted {
        let s = &mut cpu.state.x87;
        set_st(s, i, done.value);
        if pops {
            pop(s);
        }
    }
    accepted
}

/// A missing operand: masked, the indefinite is the result.
#[cold]
pub(super) fn underflow(cpu: &mut Cpu, op: &Op, i: u8, pops: bool) {
    if !stack_fault(cpu, op, false) {
        let s = &mut cpu.state.x87;
        set_st(s, i, INDEFINITE);
        if pops {
            pop(s);
        }
    }
}

/// FADD and its like between ST(0) and ST(src); `TO_I`: the destination is ST(src).
pub fn arith<const OP: u8, const TO_I: bool, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    let i = if TO_I { op.src } else { 0 };
    if is_empty(s, 0) || is_empty(s, op.src) {
        underflow(cpu, op, i, POP);
        return Ok(());
    }
    let (zero, other) = (st(s, 0), st(s, op.src));
    let (a, b) = if TO_I { (other, zero) } else { (zero, other) };
    let f = bin_of(OP);
    let done = host::bin(f, a, b, env(s));
    finish(cpu, op, i, POP, done, |env, over| {
        Some(rebias::bin(f, a, b, env, over))
    });
    Ok(())
}

/// FADD and its like of ST(0) with memory.
pub fn arith_mem<const OP: u8, const MEM: u8>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let (address, b) = operand(cpu, op, mem_of(MEM))?;
    note_data(cpu, op, address);
    let s = &cpu.state.x87;
    if is_empty(s, 0) {
        underflow(cpu, op, 0, false);
        return Ok(());
    }
    let a = st(s, 0);
    let f = bin_of(OP);
    let done = host::bin_mem(f, mem_of(MEM), a, b, env(s));
    finish(cpu, op, 0, false, done, |env, over| {
        let b = host::load(mem_of(MEM), b, env).value;
        Some(rebias::bin(f, a, b, env, over))
    });
    Ok(())
}

/// The address and value of a memory operand.
#[inline(always)]
fn operand(cpu: &mut Cpu, op: &Op, m: Mem) -> core::result::Result<(u64, u64), Stop> {
    let w = mem_width(m);
    let address = cpu.ea(op, w.bytes())?;
    Ok((address, cpu.load(w, address)?))
}

/// FSQRT, FRNDINT, FSCALE, FPREM, FPREM1: `op.sub` is the [`Un`].
pub fn unary(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let f = [Un::Sqrt, Un::Rndint, Un::Scale, Un::Prem, Un::Prem1][usize::from(op.sub)];
    let two = matches!(f, Un::Scale | Un::Prem | Un::Prem1);
    let s = &cpu.state.x87;
    if is_empty(s, 0) || two && is_empty(s, 1) {
        underflow(cpu, op, 0, false);
        if matches!(f, Un::Prem | Un::Prem1) {
            cpu.state.x87.status &= !C2;
        }
        return Ok(());
    }
    let (a, b) = (st(s, 0), if two { st(s, 1) } else { [0; 2] });
    let done = host::un(f, a, b, env(s));
    let accepted = finish(cpu, op, 0, false, done, |env, over| match f {
        Un::Scale => Some(rebias::scale(a, b, env, over)),
        Un::Prem | Un::Prem1 => Some(rebias::exact(done)),
        Un::Sqrt | Un::Rndint => None,
    });
    if matches!(f, Un::Prem | Un::Prem1) {
        // A NaN has no quotient: its bits stay, and the reduction counts as complete.
        let nan = done.value[1] & 0x7fff == 0x7fff && done.value[0] << 1 != 0;
        if accepted && !nan {
            set_cc(&mut cpu.state.x87, done.status);
        } else {
            cpu.state.x87.status &= !C2;
        }
    }
    Ok(())
}

/// FXTRACT: the exponent replaces ST(0), the significand is pushed.
pub fn fxtract(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let Some(a) = pushing_operand(cpu, op) else {
        return Ok(());
    };
    let done = host::xtract(a, env(&cpu.state.x87));
    let (exponent, significand) = done.value;
    let flags = done.status & FLAGS;
    set_c1(&mut cpu.state.x87, false);
    if !signal(cpu, op, flags) {
        let s = &mut cpu.state.x87;
        set_st(s, 0, exponent);
        unit::push_unchecked(s, significand);
    }
    Ok(())
}

/// ST(0) for an instruction that will push as well; None if a stack fault took its place.
pub(super) fn pushing_operand(cpu: &mut Cpu, op: &Op) -> Option<F80> {
    let s = &cpu.state.x87;
    let (missing, full) = (is_empty(s, 0), !is_empty(s, 7));
    if !missing && !full {
        return Some(st(s, 0));
    }
    if !stack_fault(cpu, op, !missing) {
        let s = &mut cpu.state.x87;
        set_st(s, 0, INDEFINITE);
        unit::push_unchecked(s, INDEFINITE);
    }
    None
}

/// FCHS (`op.sub` 0) and FABS (1): the sign alone, whatever the rest is.
pub fn sign(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    if is_empty(s, 0) {
        underflow(cpu, op, 0, false);
        return Ok(());
    }
    let [m, e] = st(s, 0);
    set_st(s, 0, [m, if op.sub == 0 { e ^ 0x8000 } else { e & 0x7fff }]);
    set_c1(s, false);
    Ok(())
}

/// FCOM and FUCOM of ST(0) with ST(src), and their popping forms.
pub fn compare<const QUIET: bool, const POPS: u8>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    let status = if is_empty(s, 0) || is_empty(s, op.src) {
        None
    } else {
        Some(host::compare(QUIET, st(s, 0), st(s, op.src), env(s)))
    };
    if compared(cpu, op, status) {
        for _ in 0..POPS {
            pop(&mut cpu.state.x87);
        }
    }
    Ok(())
}

/// FCOM and FICOM with memory; `op.sub` is the [`Mem`].
pub fn compare_mem<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let m = mem_of(op.sub);
    let (address, b) = operand(cpu, op, m)?;
    note_data(cpu, op, address);
    let s = &cpu.state.x87;
    let status = (!is_empty(s, 0)).then(|| host::compare_mem(m, st(s, 0), b, env(s)));
    if compared(cpu, op, status) && POP {
        pop(&mut cpu.state.x87);
    }
    Ok(())
}

/// Takes over a comparison's flags and condition bits (None: an operand is missing); false if it is withheld.
fn compared(cpu: &mut Cpu, op: &Op, status: Option<u16>) -> bool {
    let (withheld, cc) = match status {
        Some(status) => (signal(cpu, op, status & FLAGS), status & CC),
        None => (stack_fault(cpu, op, false), C0 | C2 | C3),
    };
    if withheld {
        set_c1(&mut cpu.state.x87, false);
    } else {
        set_cc(&mut cpu.state.x87, cc & !host::C1);
    }
    !withheld
}

/// FCOMI and FUCOMI: the result goes to ZF, PF and CF.
pub fn compare_flags<const QUIET: bool, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    let (withheld, cc) = if is_empty(s, 0) || is_empty(s, op.src) {
        (stack_fault(cpu, op, false), C0 | C2 | C3)
    } else {
        let status = host::compare(QUIET, st(s, 0), st(s, op.src), env(s));
        (signal(cpu, op, status & FLAGS), status)
    };
    if withheld {
        return Ok(());
    }
    let flag = |c: u16, f: u64| if cc & c != 0 { f } else { 0 };
    cpu.state.flags = LazyFlags::real(flag(C3, ZF) | flag(C2, PF) | flag(C0, CF));
    if POP {
        pop(&mut cpu.state.x87);
    }
    Ok(())
}

/// FTST.
pub fn test(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    let status = (!is_empty(s, 0)).then(|| host::test(st(s, 0), env(s)));
    compared(cpu, op, status);
    Ok(())
}

/// FXAM: the class into C3, C2 and C0, the sign into C1, also of an empty register.
pub fn examine(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    let [m, e] = st(s, 0);
    let integer = m >> 63 != 0;
    let class = match e & 0x7fff {
        _ if is_empty(s, 0) => C3 | C0,
        0 if m == 0 => C3,
        0 => C3 | C2,
        _ if !integer => 0,
        0x7fff if m << 1 == 0 => C2 | C0,
        0x7fff => C0,
        _ => C2,
    };
    set_cc(s, class);
    set_c1(s, e & 0x8000 != 0);
    Ok(())
}

/// FLD m32 and m64, FILD m16 and m32.
pub fn load_mem<const MEM: u8>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let m = mem_of(MEM);
    let (address, v) = operand(cpu, op, m)?;
    note_data(cpu, op, address);
    let done = host::load(m, v, env(&cpu.state.x87));
    if is_empty(&cpu.state.x87, 7) && done.status & FLAGS != 0 {
        set_c1(&mut cpu.state.x87, false);
        // A signalling NaN is withheld if that is unmasked; a denormal is loaded all the same.
        let invalid = done.status & IE & !cpu.state.x87.control != 0;
        signal(cpu, op, done.status & FLAGS);
        if invalid {
            return Ok(());
        }
    }
    push(cpu, op, done.value);
    Ok(())
}

/// FILD m64.
pub fn load_i64(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let (address, v) = operand(cpu, op, Mem::F64)?;
    note_data(cpu, op, address);
    push(cpu, op, host::load_i64(v as i64));
    Ok(())
}

/// FLD m80 (`op.sub` 0) and FBLD (1).
pub fn load_ten(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let address = cpu.ea(op, 10)?;
    let v = [
        cpu.load(Width::Q, address)?,
        cpu.load(Width::W, address.wrapping_add(8))?,
    ];
    note_data(cpu, op, address);
    push(cpu, op, if op.sub == 0 { v } else { host::load_bcd(v) });
    Ok(())
}

/// FLD ST(src).
pub fn load_st(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    if is_empty(s, op.src) {
        if !stack_fault(cpu, op, false) {
            unit::push_unchecked(&mut cpu.state.x87, INDEFINITE);
        }
    } else {
        let v = st(s, op.src);
        push(cpu, op, v);
    }
    Ok(())
}

/// FLD1 to FLDZ: `op.sub` counts from FLD1.
pub fn load_constant(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let v = host::constant(op.sub, cpu.state.x87.control);
    push(cpu, op, v);
    Ok(())
}

/// What FST, FIST and FISTTP can store, by number.
const STORES: [Store; 8] = [
    Store::F32,
    Store::F64,
    Store::I16,
    Store::I32,
    Store::I64,
    Store::T16,
    Store::T32,
    Store::T64,
];

const fn store_width(to: Store) -> Width {
    match to {
        Store::I16 | Store::T16 => Width::W,
        Store::F32 | Store::I32 | Store::T32 => Width::D,
        Store::F64 | Store::I64 | Store::T64 => Width::Q,
    }
}

/// The masked response to a missing operand.
const fn store_indefinite(to: Store) -> u64 {
    match to {
        Store::F32 => 0xffc0_0000,
        Store::F64 => 0xfff8 << 48,
        _ => store_width(to).sign(),
    }
}

/// FST, FSTP, FIST, FISTP and FISTTP to memory.
pub fn store_mem<const TO: u8, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let to = STORES[TO as usize];
    let w = store_width(to);
    let address = cpu.ea(op, w.bytes())?;
    let s = &cpu.state.x87;
    let empty = is_empty(s, 0);
    let done = if empty {
        Done {
            value: store_indefinite(to),
            status: IE | unit::SF,
        }
    } else {
        host::store(to, st(s, 0), env(s))
    };
    let raised = done.status & (FLAGS | unit::SF) | tiny_store(s.control, to, done);
    let withheld = raised & !s.control & FLAGS & !host::PE != 0;
    if withheld {
        // Nothing is stored, but it must be possible.
        cpu.load_rmw(w, address)?;
    } else {
        cpu.store(w, address, done.value)?;
    }
    note_data(cpu, op, address);
    set_c1(&mut cpu.state.x87, !withheld && done.status & host::C1 != 0);
    // A withheld result loses nothing.
    signal(cpu, op, if withheld { raised & !host::PE } else { raised });
    if !withheld && POP {
        pop(&mut cpu.state.x87);
    }
    Ok(())
}

/// UE of an exact denormal result, which is raised only if unmasked.
fn tiny_store(control: u16, to: Store, done: Done<u64>) -> u16 {
    let tiny = match to {
        Store::F32 => done.value & 0x7f80_0000 == 0 && done.value & 0x7f_ffff != 0,
        Store::F64 => done.value & (0x7ff << 52) == 0 && done.value << 12 != 0,
        _ => false,
    };
    if tiny && control & UE == 0 && done.status & OE == 0 {
        UE
    } else {
        0
    }
}

/// FSTP m80 (`op.sub` 0) and FBSTP (1).
pub fn store_ten(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let address = cpu.ea(op, 10)?;
    let s = &cpu.state.x87;
    let done = match (is_empty(s, 0), op.sub == 0) {
        (false, true) => Done {
            value: st(s, 0),
            status: 0,
        },
        (false, false) => host::store_bcd(st(s, 0), env(s)),
        (true, _) => Done {
            value: INDEFINITE,
            status: IE | unit::SF,
        },
    };
    let raised = done.status & (FLAGS | unit::SF);
    let withheld = raised & !s.control & FLAGS & !host::PE != 0;
    if withheld {
        probe_80(cpu, address)?;
    } else {
        store_80(cpu, address, done.value)?;
    }
    note_data(cpu, op, address);
    set_c1(&mut cpu.state.x87, !withheld && done.status & host::C1 != 0);
    signal(cpu, op, raised);
    if !withheld {
        pop(&mut cpu.state.x87);
    }
    Ok(())
}

/// Ten bytes, both parts or none.
pub(super) fn store_80(cpu: &mut Cpu, address: u64, v: F80) -> Result {
    let (low, high) = probe_80(cpu, address)?;
    cpu.store_rmw(Width::Q, low, v[0]);
    cpu.store_rmw(Width::W, high, v[1] & 0xffff);
    Ok(())
}

type Place = <Cpu as Eval>::Loc;

/// The two parts of ten bytes, checked for writing.
fn probe_80(cpu: &mut Cpu, address: u64) -> core::result::Result<(Place, Place), Stop> {
    let low = cpu.load_rmw(Width::Q, address)?.1;
    let high = cpu.load_rmw(Width::W, address.wrapping_add(8))?.1;
    Ok((low, high))
}

/// FST and FSTP to ST(src).
pub fn store_st<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    if is_empty(s, 0) {
        underflow(cpu, op, op.src, POP);
        return Ok(());
    }
    let v = st(s, 0);
    set_st(s, op.src, v);
    set_c1(s, false);
    if POP {
        pop(s);
    }
    Ok(())
}

/// FSTPNCE: FSTP ST(i) that knows no stack fault; from an empty register nothing is copied.
pub fn store_st_unchecked(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    if !is_empty(s, 0) {
        let v = st(s, 0);
        set_st(s, op.src, v);
    }
    set_c1(s, false);
    pop(s);
    Ok(())
}

/// FXCH: missing operands are filled with the indefinite first.
pub fn exchange(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let (a, b) = (
        is_empty(&cpu.state.x87, 0),
        is_empty(&cpu.state.x87, op.src),
    );
    if a || b {
        if stack_fault(cpu, op, false) {
            return Ok(());
        }
        let s = &mut cpu.state.x87;
        if a {
            set_st(s, 0, INDEFINITE);
        }
        if b {
            set_st(s, op.src, INDEFINITE);
        }
    }
    let s = &mut cpu.state.x87;
    let (x, y) = (st(s, 0), st(s, op.src));
    set_st(s, 0, y);
    set_st(s, op.src, x);
    set_c1(s, false);
    Ok(())
}

/// FCMOVcc: `op.sub` is the condition.
pub fn conditional_move(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    if is_empty(s, 0) || is_empty(s, op.src) {
        underflow(cpu, op, 0, false);
    } else if cpu.state.flags.cond(Cond::from_bits(op.sub)) {
        let v = st(s, op.src);
        set_st(s, 0, v);
    }
    Ok(())
}

/// FFREE (`op.sub` 0), and FFREEP (1), which pops as well.
pub fn free(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    s.tags &= !(1 << unit::physical(s, op.src));
    set_c1(s, false);
    if op.sub != 0 {
        pop(s);
    }
    Ok(())
}

/// FDECSTP (`op.sub` 7) and FINCSTP (1): TOP moves, tags stay.
pub fn turn(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &mut cpu.state.x87;
    unit::move_top(s, op.sub.into());
    set_c1(s, false);
    Ok(())
}

/// FNOP.
pub fn nothing(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    Ok(())
}
