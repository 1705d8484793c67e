//! x87 transcendental instructions. The functions are software, equal on every host (`atoll_hostfp::transcendental`);
//! here is how they use the stack.

use atoll_hostfp::transcendental as tr;
use atoll_hostfp::x87::{C2, Done, Env, F80};

use super::x87::{accept, env, is_empty, note, push_unchecked, ready, set_c1, set_st, st};
use super::x87_arith::{finish, pushing_operand, underflow};
use crate::cpu::Cpu;
use crate::exception::Stop;
use crate::op::Op;

type Result = core::result::Result<(), Stop>;

/// What the software functions with one operand and one result compute; `op.sub` is the index.
const FUNCTIONS: [fn(F80, Env) -> Done; 3] = [tr::f2xm1, tr::sin, tr::cos];

/// F2XM1, FSIN, FCOS.
pub fn function(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    if is_empty(s, 0) {
        underflow(cpu, op, 0, false);
        if op.sub != 0 {
            set_c2(cpu, 0);
        }
        return Ok(());
    }
    let done = FUNCTIONS[usize::from(op.sub)](st(s, 0), env(s));
    let c2 = done.status & C2;
    finish(cpu, op, 0, false, done, |_, _| None);
    if op.sub != 0 {
        set_c2(cpu, c2);
    }
    Ok(())
}

fn set_c2(cpu: &mut Cpu, c2: u16) {
    let s = &mut cpu.state.x87;
    s.status = s.status & !C2 | c2;
}

/// FYL2X, FYL2XP1, FPATAN: ST(1) = f(ST(0), ST(1)), then a pop.
const FUNCTIONS_OF_TWO: [fn(F80, F80, Env) -> Done; 3] = [tr::yl2x, tr::yl2xp1, tr::patan];

pub fn function_of_two(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let s = &cpu.state.x87;
    if is_empty(s, 0) || is_empty(s, 1) {
        underflow(cpu, op, 1, true);
        return Ok(());
    }
    let done = FUNCTIONS_OF_TWO[usize::from(op.sub)](st(s, 0), st(s, 1), env(s));
    finish(cpu, op, 1, true, done, |_, _| None);
    Ok(())
}

/// FSINCOS (`op.sub` 0) and FPTAN (1): a result replaces ST(0), another (the cosine; 1.0) is pushed.
pub fn function_pushing(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    note(cpu, op);
    let Some(a) = pushing_operand(cpu, op) else {
        set_c2(cpu, 0);
        return Ok(());
    };
    let e = env(&cpu.state.x87);
    let (mut done, second) = if op.sub == 0 {
        tr::sincos(a, e)
    } else {
        tr::ptan(a, e)
    };
    let c2 = done.status & C2;
    if c2 != 0 {
        // Out of range: nothing is computed, nothing pushed.
        set_c1(&mut cpu.state.x87, false);
    } else if accept(cpu, op, &mut done, |_, _| None) {
        let s = &mut cpu.state.x87;
        set_st(s, 0, done.value);
        push_unchecked(s, second);
    }
    set_c2(cpu, c2);
    Ok(())
}
