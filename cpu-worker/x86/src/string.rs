//! String instructions: MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, with and without REP.
//!
//! REP counts one instruction per iteration, one that faults included. The run loop has counted the first; the rest is charged here.
//! Between two iterations the instruction can be left ([`Stop::Again`], RIP at it, registers at the next element) when the budget is
//! used up or something wants attention. A fault leaves the registers at the faulting element.
//!
//! Plain MOVS and STOS upwards go through page-wise spans at memcpy speed. A span translates the source before the
//! destination, as one element would, so that the TLB fills in the same order.

use crate::cpu::{Cpu, cut};
use crate::eval::Eval;
use crate::exception::Stop;
use crate::flags::{self, FlagOp};
use crate::op::{AddrSize, Cond, Op, OpFlags, RAX, RCX, RDI, RDX, RSI, Reg, Seg, Width};
use crate::state::mode;

/// `Op::sub` of a string instruction.
pub(crate) mod form {
    pub(crate) const MOVS: u8 = 0;
    pub(crate) const CMPS: u8 = 1;
    pub(crate) const STOS: u8 = 2;
    pub(crate) const LODS: u8 = 3;
    pub(crate) const SCAS: u8 = 4;
    pub(crate) const INS: u8 = 5;
    pub(crate) const OUTS: u8 = 6;
}

/// The handler of every string instruction.
pub(crate) fn execute(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    if matches!(op.sub, form::INS | form::OUTS) {
        let port = cpu.reg(Width::W, RDX) as u16;
        cpu.check_port(port, op.width.bytes())?;
    }
    if !op.has(OpFlags::REP | OpFlags::REPNE) {
        return element(cpu, op);
    }
    repeat(cpu, op)
}

/// The width that counters and indexes have.
fn address_width(op: &Op) -> Width {
    match op.addr {
        AddrSize::A16 => Width::W,
        AddrSize::A32 => Width::D,
        AddrSize::A64 => Width::Q,
    }
}

fn repeat(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let w = address_width(op);
    let mut count = cpu.reg(w, RCX);
    let mut counted = 1;
    // Debug traps come after each iteration (SDM vol. 3B, 18.3.1.4).
    let stepping = cpu.state.mode & mode::DEBUG != 0;
    while count != 0 {
        let room = cpu.state.clock.budget.max(0) as u64 + counted;
        if room == 0 || counted == 0 && cpu.state.clock.attention != 0 {
            return Err(Stop::Again);
        }
        let most = if stepping { 1 } else { count.min(room) };
        let mut done = bulk(cpu, op, most)?;
        if done == 0 {
            // Counted before it runs, as every instruction is: should it fault, or look at the time.
            if counted == 0 {
                cpu.state.clock.budget -= 1;
                counted = 1;
            }
            element(cpu, op)?;
            done = 1;
        }
        cpu.state.clock.budget -= (done - counted) as i64;
        counted = 0;
        count -= done;
        cpu.set_reg(w, RCX, count);
        let over = count == 0 || ends(cpu, op);
        if over {
            cpu.state.between = 0;
            break;
        }
        cpu.state.between = place(cpu, op).wrapping_add(1);
        if stepping {
            return Err(Stop::Again);
        }
    }
    Ok(())
}

/// The RIP of the instruction that runs.
fn place(cpu: &Cpu, op: &Op) -> u64 {
    let rip = cpu.state.rip().wrapping_sub(op.len.into());
    if cpu.state.mode & mode::LONG != 0 {
        rip
    } else {
        rip & 0xffff_ffff
    }
}

/// Whether the comparison just made ends a REPE or REPNE.
fn ends(cpu: &mut Cpu, op: &Op) -> bool {
    if !matches!(op.sub, form::CMPS | form::SCAS) {
        return false;
    }
    let equal = cpu.cond(Cond::E);
    equal == op.has(OpFlags::REPNE)
}

/// Moves an index register by one element, or by `n` upwards.
fn advance(cpu: &mut Cpu, op: &Op, r: Reg, n: u64) {
    let w = address_width(op);
    let step = n * op.width.bytes() as u64;
    let v = cpu.reg(w, r);
    let v = if cpu.state.rflags & flags::DF != 0 {
        cpu.sub(w, v, step)
    } else {
        cpu.add(w, v, step)
    };
    cpu.set_reg(w, r, v);
}

/// The linear address of the element at an index register.
fn address(cpu: &mut Cpu, op: &Op, seg: Seg, r: Reg, write: bool) -> Result<u64, Stop> {
    let offset = cut(op.addr, cpu.state.gpr[r as usize]);
    if op.has(OpFlags::SEG_CHECK) {
        return cpu.linear(seg, offset, op.width.bytes(), write);
    }
    Ok(offset.wrapping_add(flat_base(cpu, seg)))
}

/// The base of a segment that needs no checks: zero but for FS and GS.
fn flat_base(cpu: &Cpu, seg: Seg) -> u64 {
    if matches!(seg, Seg::Fs | Seg::Gs) {
        cpu.state.segment(seg).base
    } else {
        0
    }
}

/// One element.
fn element(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let w = op.width;
    match op.sub {
        form::MOVS => {
            let from = address(cpu, op, op.seg, RSI, false)?;
            let v = cpu.load(w, from)?;
            let to = address(cpu, op, Seg::Es, RDI, true)?;
            cpu.store(w, to, v)?;
            advance(cpu, op, RSI, 1);
            advance(cpu, op, RDI, 1);
        }
        form::CMPS => {
            // The order shows where both operands fault: processors read the second one first.
            let b = address(cpu, op, Seg::Es, RDI, false)?;
            let b = cpu.load(w, b)?;
            let a = address(cpu, op, op.seg, RSI, false)?;
            let a = cpu.load(w, a)?;
            let r = cpu.sub(w, a, b);
            cpu.flags(FlagOp::Sub, w, a, b, r);
            advance(cpu, op, RSI, 1);
            advance(cpu, op, RDI, 1);
        }
        form::STOS => {
            let to = address(cpu, op, Seg::Es, RDI, true)?;
            let v = cpu.reg(w, RAX);
            cpu.store(w, to, v)?;
            advance(cpu, op, RDI, 1);
        }
        form::LODS => {
            let from = address(cpu, op, op.seg, RSI, false)?;
            let v = cpu.load(w, from)?;
            cpu.set_reg(w, RAX, v);
            advance(cpu, op, RSI, 1);
        }
        form::SCAS => {
            let b = address(cpu, op, Seg::Es, RDI, false)?;
            let b = cpu.load(w, b)?;
            let a = cpu.reg(w, RAX);
            let r = cpu.sub(w, a, b);
            cpu.flags(FlagOp::Sub, w, a, b, r);
            advance(cpu, op, RDI, 1);
        }
        form::INS => {
            // The destination is checked before the port is read, so that a fault loses no input.
            let to = address(cpu, op, Seg::Es, RDI, true)?;
            let place = cpu.mmu.prepare_write(to, w.bytes());
            cpu.note_code_writes();
            let place = place.map_err(|stop| cpu.memory_fault(stop))?;
            let port = cpu.reg(Width::W, RDX) as u16;
            let v = cpu.read_port(port, w.bytes());
            cpu.store_rmw(w, place, v as u64 & w.mask());
            advance(cpu, op, RDI, 1);
        }
        _ => {
            let from = address(cpu, op, op.seg, RSI, false)?;
            let v = cpu.load(w, from)?;
            let port = cpu.reg(Width::W, RDX) as u16;
            cpu.write_port(port, w.bytes(), v as u32);
            advance(cpu, op, RSI, 1);
        }
    }
    Ok(())
}

/// As many elements at once as the pages allow, at most `max`; 0 if the next one must go alone.
fn bulk(cpu: &mut Cpu, op: &Op, max: u64) -> Result<u64, Stop> {
    let upwards = cpu.state.rflags & flags::DF == 0;
    let plain = !op.has(OpFlags::SEG_CHECK) && op.addr != AddrSize::A16;
    let copies = matches!(op.sub, form::MOVS | form::STOS);
    if !upwards || !plain || !copies || max < 2 {
        return Ok(0);
    }
    let step = op.width.bytes();
    // Four gigabytes are far beyond a page; the cut only keeps the product in range.
    let bytes = max.min(4096) as u32 * step;
    let to = cut(op.addr, cpu.state.gpr[RDI as usize]);
    // One that writes over itself goes on by what it has written.
    let next = cpu.linear_rip();
    if to < next && next.wrapping_sub(op.len as u64) < to.wrapping_add(bytes as u64) {
        return Ok(0);
    }
    if op.sub == form::STOS {
        let Some(span) = writable(cpu, to, bytes) else {
            return Ok(0);
        };
        let n = span.len() / step;
        if n == 0 {
            return Ok(0);
        }
        let v = cpu.reg(op.width, RAX);
        cpu.mmu.fill(&span, v, step, n);
        cpu.note_code_writes();
        advance(cpu, op, RDI, n as u64);
        return Ok(n as u64);
    }
    let from = cut(op.addr, cpu.state.gpr[RSI as usize]).wrapping_add(flat_base(cpu, op.seg));
    let from = if cpu.state.mode & mode::LONG != 0 {
        from
    } else {
        from & 0xffff_ffff
    };
    let source = match cpu.mmu.span_read(from, bytes) {
        Ok(span) => span,
        Err(_) => return Ok(0),
    };
    if source.len() < step {
        return Ok(0);
    }
    let Some(target) = writable(cpu, to, bytes) else {
        return Ok(0);
    };
    let n = source.len().min(target.len()) / step;
    if n == 0 {
        return Ok(0);
    }
    cpu.mmu.copy(&target, &source, n * step, step);
    cpu.note_code_writes();
    advance(cpu, op, RSI, n as u64);
    advance(cpu, op, RDI, n as u64);
    Ok(n as u64)
}

/// A span for writing. None for a device, and for a fault: which one it is, the single element says that is left to run then.
fn writable(cpu: &mut Cpu, to: u64, bytes: u32) -> Option<atoll_mmu::Span> {
    cpu.mmu.span_write(to, bytes).ok()
}
