//! The x87 unit: its stack, its exceptions, and what every instruction of it does first.
//!
//! The instructions are in `x87_arith` (arithmetic, comparisons, moves) and `x87_env` (control and environment). All are
//! functions of `Cpu`.
//!
//! Invariants:
//! - `status` has ES and B set exactly when an unmasked exception flag is set ([`update_summary`]).
//! - `opcode` is what the last unmasked exception was raised by, as on CPUs whose "fopcode compatibility" is off; the
//!   instruction pointer follows every non-control instruction, the data pointer every one with a memory operand.
//! - memory is read first and written last: a page fault leaves the unit as it was.
//!
//! Sources: Intel SDM vol. 1, chapter 8; vol. 3A, 14 and 23.18.

use atoll_hostfp::x87::{C0, C1, C2, C3, DE, Done, Env, F80, FLAGS, IE, OE, PE, UE, ZE};

use crate::cpu::Cpu;
use crate::exception::{Fault, Stop, Vector};
use crate::op::{Op, OpFlags};
use crate::state::{X87, X87_MASKS, cr, mode};

/// The stack top's bits in the status word.
pub const TOP: u16 = 7 << 11;
const TOP_SHIFT: u16 = 11;
/// Stack fault.
pub const SF: u16 = 1 << 6;
/// Exception summary, and its shadow, "busy".
pub const ES: u16 = 1 << 7;
const BUSY: u16 = 1 << 15;
/// The real indefinite: what masked invalid operations give.
pub const INDEFINITE: F80 = [0xc000_0000_0000_0000, 0xffff];

/// Begins a waiting instruction: #NM if the unit is off, #MF if an unmasked exception is pending.
#[inline(always)]
pub fn ready(cpu: &mut Cpu) -> Result<(), Stop> {
    if cpu.state.mode & mode::FPU_OFF != 0 || cpu.state.x87.status & ES != 0 {
        return not_ready(cpu);
    }
    Ok(())
}

#[cold]
fn not_ready(cpu: &mut Cpu) -> Result<(), Stop> {
    available(cpu)?;
    pending(cpu)
}

/// #NM if the unit is emulated or belongs to another task.
pub fn available(cpu: &mut Cpu) -> Result<(), Stop> {
    if cpu.state.cr0 & (cr::CR0_EM | cr::CR0_TS) != 0 {
        return Err(cpu.raise(Fault::NM));
    }
    Ok(())
}

/// #MF for a pending exception. With CR0.NE clear it would go out on FERR#, which this machine does not wire: ignored.
pub fn pending(cpu: &mut Cpu) -> Result<(), Stop> {
    if cpu.state.x87.status & ES != 0 && cpu.state.cr0 & cr::CR0_NE != 0 {
        return Err(cpu.raise(Fault::new(Vector::X87)));
    }
    Ok(())
}

/// FIP: notes that this instruction is the last non-control one.
#[inline(always)]
pub fn note(cpu: &mut Cpu, op: &Op) {
    cpu.state.x87.ip = cpu.state.rip().wrapping_sub(op.len.into());
}

/// FIP and FDP; `address` is linear, the pointer is an offset.
#[inline(always)]
pub fn note_data(cpu: &mut Cpu, op: &Op, address: u64) {
    note(cpu, op);
    cpu.state.x87.dp = address;
    if op.has(OpFlags::SEG_BASE) {
        let base = cpu.state.segment(op.seg).base;
        cpu.state.x87.dp = address.wrapping_sub(base);
    }
}

/// The environment in which the host computes.
#[inline(always)]
pub fn env(s: &X87) -> Env {
    Env {
        control: s.control,
        status: s.status,
    }
}

/// The physical register of ST(i).
#[inline(always)]
pub fn physical(s: &X87, i: u8) -> usize {
    usize::from(((s.status >> TOP_SHIFT) as u8 + i) & 7)
}

#[inline(always)]
pub fn st(s: &X87, i: u8) -> F80 {
    s.regs[physical(s, i)]
}

pub fn st_mut(s: &mut X87, i: u8) -> &mut F80 {
    let p = physical(s, i);
    &mut s.regs[p]
}

#[inline(always)]
pub fn is_empty(s: &X87, i: u8) -> bool {
    s.tags >> physical(s, i) & 1 == 0
}

/// Writes ST(i), which is then in use.
#[inline(always)]
pub fn set_st(s: &mut X87, i: u8, v: F80) {
    let p = physical(s, i);
    s.regs[p] = v;
    s.tags |= 1 << p;
}

/// Moves TOP by `by` (1 pops, 7 pushes).
#[inline(always)]
pub fn move_top(s: &mut X87, by: u16) {
    s.status = s.status & !TOP | s.status.wrapping_add(by << TOP_SHIFT) & TOP;
}

#[inline(always)]
pub fn pop(s: &mut X87) {
    s.tags &= !(1 << physical(s, 0));
    move_top(s, 1);
}

/// Pushes without a check.
#[inline(always)]
pub fn push_unchecked(s: &mut X87, v: F80) {
    move_top(s, 7);
    set_st(s, 0, v);
}

#[inline(always)]
pub fn set_c1(s: &mut X87, on: bool) {
    s.status = s.status & !C1 | if on { C1 } else { 0 };
}

/// ES and B follow from flags and masks.
pub fn update_summary(s: &mut X87) {
    let pending = s.status & !s.control & FLAGS != 0;
    s.status = s.status & !(ES | BUSY) | if pending { ES | BUSY } else { 0 };
}

/// What follows from a new control word, or a whole new state: ES and B, and the mode word, which knows whether all is masked.
pub fn adopt(cpu: &mut Cpu) {
    update_summary(&mut cpu.state.x87);
    let open = cpu.state.x87.control & X87_MASKS != X87_MASKS;
    if open != (cpu.state.mode & mode::X87 != 0) {
        cpu.update_mode_within();
    }
}

/// What the unit makes of a control word: bit 6 is always set, reserved bits are clear.
pub fn control_word(v: u16) -> u16 {
    v & 0x1f7f | 0x40
}

/// Sets flags; true if one of them is unmasked, so that the instruction's result is withheld (all but PE).
pub fn signal(cpu: &mut Cpu, op: &Op, flags: u16) -> bool {
    let s = &mut cpu.state.x87;
    s.status |= flags;
    let unmasked = flags & !s.control & FLAGS != 0;
    if unmasked {
        update_summary(s);
        // FOP: the low three bits of the opcode and the ModRM byte.
        s.opcode = op.imm as u16 & 0x7ff;
    }
    unmasked
}

/// A stack underflow (C1 clear) or overflow (C1 set); true if it is unmasked.
#[cold]
pub fn stack_fault(cpu: &mut Cpu, op: &Op, overflow: bool) -> bool {
    set_c1(&mut cpu.state.x87, overflow);
    signal(cpu, op, IE | SF)
}

/// Pushes, or handles the overflow: masked, the indefinite is pushed.
#[inline(always)]
pub fn push(cpu: &mut Cpu, op: &Op, v: F80) {
    if !is_empty(&cpu.state.x87, 7) {
        if !stack_fault(cpu, op, true) {
            push_unchecked(&mut cpu.state.x87, INDEFINITE);
        }
        return;
    }
    set_c1(&mut cpu.state.x87, false);
    push_unchecked(&mut cpu.state.x87, v);
}

/// Takes over what a computation raised. True if its result may be committed; then C1 and the flags are.
///
/// `biased` computes the result again with its exponent moved by 24576, which is what an unmasked overflow or underflow
/// stores in a register; without it such a result is withheld.
#[inline(always)]
pub fn accept(
    cpu: &mut Cpu,
    op: &Op,
    done: &mut Done,
    biased: impl FnOnce(Env, bool) -> Option<Done>,
) -> bool {
    let s = &mut cpu.state.x87;
    if s.control & FLAGS == FLAGS {
        s.status = s.status & !C1 | done.status & (C1 | FLAGS);
        return true;
    }
    accept_unmasked(cpu, op, done, biased)
}

#[inline(never)]
fn accept_unmasked(
    cpu: &mut Cpu,
    op: &Op,
    done: &mut Done,
    biased: impl FnOnce(Env, bool) -> Option<Done>,
) -> bool {
    let s = &mut cpu.state.x87;
    let open = !s.control & FLAGS;
    let mut raised = done.status & FLAGS;
    if raised & open & (IE | DE | ZE) != 0 {
        // Found before computing: the result, and what computing would have raised, do not exist.
        set_c1(s, false);
        signal(cpu, op, raised & (IE | DE | ZE));
        return false;
    }
    // An exact tiny result raises UE only if that is unmasked.
    if open & UE != 0 && is_tiny(done.value) {
        raised |= UE;
    }
    if raised & open & (OE | UE) != 0 {
        let overflow = raised & OE != 0;
        let Some(again) = biased(env(s), overflow) else {
            set_c1(s, false);
            signal(cpu, op, raised & !PE);
            return false;
        };
        raised = raised & !PE | again.status & PE;
        *done = again;
    }
    let s = &mut cpu.state.x87;
    s.status = s.status & !C1 | done.status & C1;
    signal(cpu, op, raised);
    true
}

/// A non-zero denormal.
pub fn is_tiny(v: F80) -> bool {
    v[1] & 0x7fff == 0 && v[0] != 0
}

/// Sets C0 to C3 from a comparison.
#[inline(always)]
pub fn set_cc(s: &mut X87, cc: u16) {
    const ALL: u16 = C0 | C1 | C2 | C3;
    s.status = s.status & !ALL | cc & ALL;
}
