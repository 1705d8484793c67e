//! MONITOR and MWAIT (SDM vol. 3A, 9.10.3): a processor that waits for a store, or for an interrupt.
//!
//! With one vCPU nobody stores while it waits but devices, and MWAIT may end at any time for no reason. So it waits as HLT does
//! where an interrupt will end that, and not at all otherwise. What comes between MONITOR and MWAIT disarms: an interrupt's handler may
//! have stored what is waited for.

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop};
use crate::flags::IF;
use crate::op::{Op, RCX, Width};

/// What an MWAIT that does not wait costs, as PAUSE does.
const SPURIOUS_NS: u64 = 40;
/// The one extension in RCX: a masked interrupt ends the wait too.
const BREAK_ON_MASKED: u64 = 1;

/// #UD outside of the kernel.
fn require_kernel(cpu: &mut Cpu) -> Result<(), Stop> {
    if cpu.state.cpl() != 0 {
        return Err(cpu.raise(Fault::UD));
    }
    Ok(())
}

pub(crate) fn monitor(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    require_kernel(cpu)?;
    if cpu.reg(Width::D, RCX) != 0 {
        return Err(cpu.gp(0));
    }
    let address = cpu.ea(op, 1)?;
    cpu.load(Width::B, address)?;
    cpu.state.monitor = 1;
    Ok(())
}

pub(crate) fn mwait(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    require_kernel(cpu)?;
    if cpu.reg(Width::D, RCX) & !BREAK_ON_MASKED != 0 {
        return Err(cpu.gp(0));
    }
    let armed = std::mem::take(&mut cpu.state.monitor) != 0;
    if armed && cpu.state.rflags & IF != 0 {
        return super::flags::hlt(cpu, op);
    }
    cpu.state.clock.charge_ns(SPURIOUS_NS);
    Ok(())
}
