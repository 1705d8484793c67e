//! Far CALL, JMP and RET, through code segments, call gates, task gates and TSSs (SDM vol. 3A, 5.8; vol. 2A, CALL, JMP, RET).

use super::descriptor::{Descriptor, kind, selector_code};
use super::interrupt::Ext;
use super::iret::{Outer, Popper, set_outer_stack};
use super::task::Why;
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop, Vector};
use crate::interp::signed_48;
use crate::op::{Arg, Op, RSP, Seg, Width};
use crate::semantics::stack::push_value;
use crate::state::{Segment, attr, mode};

/// Selector and offset: `imm` holds selector << 32 | offset, or they are in memory, two accesses of which the first, the offset's, has to be
/// aligned.
fn operand(cpu: &mut Cpu, op: &Op) -> Result<(u16, u64), Stop> {
    if op.src_arg != Arg::Mem {
        return Ok((
            (op.imm >> 32) as u16,
            op.imm & 0xffff_ffff & op.width.mask(),
        ));
    }
    let at = cpu.ea(op, op.width.bytes())?;
    let offset = cpu.load(op.width, at)?;
    let at = cpu.lane_address(op, op.width.bytes().into(), 2)?;
    let selector = cpu.load(Width::W, at)?;
    Ok((selector as u16, offset))
}

pub(crate) fn jmp_far(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    transfer(cpu, op, false)
}

pub(crate) fn call_far(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    transfer(cpu, op, true)
}

fn transfer(cpu: &mut Cpu, op: &Op, call: bool) -> Result<(), Stop> {
    let (selector, offset) = operand(cpu, op)?;
    if cpu.real_segments() {
        let s = cpu.fetch_segment(Seg::Cs, selector)?;
        return to_segment(cpu, op, s, offset, call);
    }
    if selector & 0xfffc == 0 {
        return Err(cpu.gp(0));
    }
    let d = cpu.read_descriptor(selector, Vector::GeneralProtection)?;
    if d.is_segment() {
        let s = cpu.fetch_code_segment(selector, d)?;
        return to_segment(cpu, op, s, offset, call);
    }
    let lma = cpu.state.mode & mode::LMA != 0;
    let rights = d.dpl() >= cpu.state.cpl() && d.dpl() >= selector as u8 & 3;
    match d.system_type() {
        kind::CALL32 | kind::CALL16 if rights && !(lma && d.system_type() == kind::CALL16) => {
            if !d.present() {
                return Err(cpu.not_present(selector));
            }
            through_gate(cpu, selector, d, call)
        }
        kind::TASK if rights && !lma => {
            if !d.present() {
                return Err(cpu.not_present(selector));
            }
            cpu.switch_task(d.gate().0, why(call), 0)
        }
        kind::TSS16 | kind::TSS32 if rights && !lma => cpu.switch_task(selector, why(call), 0),
        _ => Err(cpu.gp(selector_code(selector))),
    }
}

fn why(call: bool) -> Why {
    if call { Why::Call } else { Why::Jump }
}

/// A direct transfer to a code segment at the same privilege.
fn to_segment(cpu: &mut Cpu, op: &Op, cs: Segment, offset: u64, call: bool) -> Result<(), Stop> {
    cpu.check_return_target(&cs, offset)?;
    if call {
        let sp = cpu.state.gpr[RSP as usize];
        let old = cpu.state.segment(Seg::Cs).selector as u64;
        let next = cpu.state.rip() & op.width.mask();
        let pushed =
            push_value(cpu, op, op.width, old).and_then(|()| push_value(cpu, op, op.width, next));
        if let Err(stop) = pushed {
            cpu.state.gpr[RSP as usize] = sp;
            if cpu.fault.non_canonical {
                cpu.fault = Fault::SS0;
            }
            return Err(stop);
        }
    }
    cpu.set_segment(Seg::Cs, cs);
    cpu.state.set_rip(offset);
    cpu.update_mode();
    Ok(())
}

/// Through a call gate; a CALL to a more privileged, non-conforming segment switches stacks.
fn through_gate(
    cpu: &mut Cpu,
    gate_selector: u16,
    gate: Descriptor,
    call: bool,
) -> Result<(), Stop> {
    let lma = cpu.state.mode & mode::LMA != 0;
    let (selector, low) = gate.gate();
    let mut target = low as u64;
    if lma {
        let high = cpu.read_descriptor_high(gate_selector)?;
        if high >> 40 & 0x1f != 0 {
            return Err(cpu.gp(selector_code(gate_selector)));
        }
        target |= high << 32;
    }
    if selector & 0xfffc == 0 {
        return Err(cpu.gp(0));
    }
    let d = cpu.read_descriptor(selector, Vector::GeneralProtection)?;
    let cpl = cpu.state.cpl();
    let same_only = !call && !d.is_conforming();
    if !d.is_code() || d.dpl() > cpl || same_only && d.dpl() != cpl {
        return Err(cpu.gp(selector_code(selector)));
    }
    if lma && (!d.is_long() || d.attr() & attr::DB != 0) {
        return Err(cpu.gp(selector_code(selector)));
    }
    if !d.present() {
        return Err(cpu.not_present(selector));
    }
    let new_cpl = if d.is_conforming() { cpl } else { d.dpl() };
    let beyond = if lma {
        signed_48(target) != target
    } else {
        target > d.limit() as u64
    };
    if beyond {
        return Err(cpu.gp(0));
    }
    if call {
        push_gate_frame(cpu, gate, new_cpl)?;
    }
    cpu.mark_accessed(selector, d)?;
    cpu.set_segment(Seg::Cs, d.segment(selector & !3 | new_cpl as u16));
    cpu.state.set_rip(target);
    cpu.update_mode();
    Ok(())
}

/// What a CALL through a gate pushes: with a change of privilege SS:SP, the parameters, then CS:IP; else CS:IP alone.
fn push_gate_frame(cpu: &mut Cpu, gate: Descriptor, new_cpl: u8) -> Result<(), Stop> {
    let lma = cpu.state.mode & mode::LMA != 0;
    let bytes: u32 = if lma {
        8
    } else if gate.system_type() == kind::CALL32 {
        4
    } else {
        2
    };
    let (old_ss, old_sp) = cpu.state.clone_stack();
    let cs = cpu.state.segment(Seg::Cs).selector as u64;
    let rip = cpu.state.rip();
    let inner = new_cpl < cpu.state.cpl();
    if lma {
        return push_long_gate_frame(cpu, new_cpl, inner, cs, rip);
    }
    let mut frame = Vec::with_capacity(36);
    let (ss, sp) = if inner {
        let stack = cpu.task_stack(new_cpl, 0)?;
        frame.extend([old_ss.selector as u64, old_sp]);
        let parameters = (gate.0 >> 32) & 31;
        let mask = if old_ss.attr & attr::DB != 0 {
            0xffff_ffff
        } else {
            0xffff
        };
        for n in (0..parameters).rev() {
            let offset = old_sp.wrapping_add(n * bytes as u64) & mask;
            let at = cpu.linear(Seg::Ss, offset, bytes, false)?;
            frame.push(cpu.read_memory(at, bytes)?);
        }
        stack
    } else {
        (old_ss, old_sp)
    };
    frame.extend([cs, rip]);
    let sp = cpu.push_values(ss, sp, bytes, &frame, new_cpl, Ext(0))?;
    cpu.set_segment(Seg::Ss, ss);
    cpu.state.gpr[RSP as usize] = sp;
    Ok(())
}

fn push_long_gate_frame(
    cpu: &mut Cpu,
    new_cpl: u8,
    inner: bool,
    cs: u64,
    rip: u64,
) -> Result<(), Stop> {
    let (old_ss, old_sp) = cpu.state.clone_stack();
    let sp = if inner {
        let stack = cpu.long_stack(4 + 8 * new_cpl as u64, Ext(0))?;
        let frame = [rip, cs, old_sp, old_ss.selector as u64].map(Some);
        cpu.push_frame(stack, &frame, new_cpl, Ext(0))?
    } else {
        cpu.push_frame(old_sp, &[Some(rip), Some(cs)], new_cpl, Ext(0))?
    };
    if inner {
        let mut ss = super::segments::null_segment(new_cpl as u16);
        ss.attr = (new_cpl as u16) << attr::DPL_SHIFT;
        cpu.set_segment(Seg::Ss, ss);
    }
    cpu.state.gpr[RSP as usize] = sp;
    Ok(())
}

/// RETF, with `imm` bytes of parameters to drop on each stack.
pub(crate) fn ret_far(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let mut stack = Popper::new(cpu, op);
    let [rip, selector] = stack.pop(cpu, op)?;
    let selector = selector as u16;
    stack.skip(op, op.imm);
    let cpl = cpu.state.cpl();
    let (cs, new_cpl, popped) = if cpu.real_segments() {
        (cpu.fetch_segment(Seg::Cs, selector)?, cpl, None)
    } else {
        let new_cpl = selector as u8 & 3;
        let popped = if new_cpl != cpl {
            Some(stack.pop(cpu, op)?)
        } else {
            None
        };
        (cpu.fetch_return_segment(selector)?, new_cpl, popped)
    };
    cpu.check_return_target(&cs, rip)?;
    let outer = cpu.fetch_outer(&cs, popped)?;
    match outer {
        None => stack.commit(cpu, op),
        Some(Outer { ss, sp }) => {
            let sp = sp.wrapping_add(op.imm);
            set_outer_stack(cpu, &cs, Outer { ss, sp });
        }
    }
    cpu.set_segment(Seg::Cs, cs);
    cpu.state.set_rip(rip);
    if new_cpl > cpl {
        cpu.drop_inner_segments(new_cpl);
    }
    cpu.update_mode();
    Ok(())
}
