//! One vCPU: architectural state, memory management, and its view of the board.

mod memory;
pub(crate) use memory::{cut, within};
mod reset;

use atoll_mmu::{MemStop, Mmu, PagingRegs};

use crate::bus::{Bus, attention, rehearsal};
use crate::exception::{Fault, Stop, Vector};
use crate::features::Features;
use crate::flags;
use crate::state::{State, mode};
use crate::system::Model;

/// [`State::shadow`] after STI: no interrupt before the next instruction is done.
pub const SHADOW_STI: u32 = 1;
/// [`State::shadow`] after a load of SS: no interrupt and no debug trap before the next instruction is done.
pub const SHADOW_SS: u32 = 2;

/// Added to [`SHADOW_SS`]: a data breakpoint was met, and its trap comes when the shadow ends.
pub(crate) const SHADOW_TRAP: u32 = 4;

/// [`State::shadow`] after SYSCALL and SYSRET that leave TF set: the single-step trap comes before the next instruction.
pub(crate) const SHADOW_STEP: u32 = 8;

/// DR7.GD: an access to a debug register is #DB.
pub(crate) const DR7_GD: u64 = 1 << 13;

/// The enable bits of DR7.
pub(crate) const DR7_ENABLED: u64 = 0xff;

/// A vCPU. `repr(C)` with the state first: the pinned register of emitted code points here.
#[repr(C)]
pub struct Cpu {
    pub state: State,
    pub mmu: Mmu,
    /// The details of the last [`Stop::Fault`].
    pub fault: Fault,
    pub model: Model,
    /// Counts what no single-step trap follows: entries of handlers, SYSCALL and SYSRET.
    pub(crate) no_step: u64,
    /// Port and bytes of the last access to a port, for breakpoints.
    pub(crate) last_port: Option<(u16, u32)>,
    pub bus: Box<dyn Bus>,
    /// Somebody wants to see what is delivered.
    pub watch: Option<Watch>,
}

/// Sees each interrupt and exception after it was delivered. Nothing that the guest sees may depend on it.
pub type Watch = Box<dyn FnMut(&State, &Delivery) + Send>;

/// An interrupt or exception that was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub vector: u8,
    pub code: Option<u32>,
    /// An interrupt line, an exception, or an instruction.
    pub origin: &'static str,
    /// CS and RIP as they were: of the instruction to return to.
    pub from: (u16, u64),
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("state", &self.state)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl Cpu {
    /// A vCPU as after power-on.
    pub fn new(model: Model, mmu: Mmu, bus: Box<dyn Bus>) -> Cpu {
        let mut cpu = Cpu {
            state: State::default(),
            mmu,
            fault: Fault::UD,
            model,
            no_step: 0,
            last_port: None,
            bus,
            watch: None,
        };
        cpu.reset();
        cpu
    }

    /// What instructions this model has.
    pub fn features(&self) -> Features {
        self.model.features
    }

    /// Notes the fault and gives the stop to return.
    #[cold]
    pub fn raise(&mut self, fault: Fault) -> Stop {
        self.fault = fault;
        Stop::Fault
    }

    /// #GP with a code.
    #[cold]
    pub fn gp(&mut self, code: u32) -> Stop {
        self.raise(Fault::with_code(Vector::GeneralProtection, code))
    }

    /// The fault that a memory access met; devices are not faults and never come here.
    #[cold]
    pub fn memory_fault(&mut self, stop: MemStop) -> Stop {
        let fault = match stop {
            MemStop::PageFault { va, code } => Fault {
                cr2: va,
                ..Fault::with_code(Vector::Page, code)
            },
            _ => Fault {
                non_canonical: true,
                ..Fault::GP0
            },
        };
        self.raise(fault)
    }

    /// As [`Cpu::update_mode`], for an instruction that does not end its block: the code that follows may take the old mode for
    /// granted, so the engine is told to look blocks up anew.
    pub(crate) fn update_mode_within(&mut self) {
        let before = self.state.mode;
        self.update_mode();
        if self.state.mode != before {
            self.state.clock.attention |= attention::MODE;
        }
    }

    /// Recomputes the mode word and tells the MMU, after any of their inputs changed, at the end of a block.
    pub fn update_mode(&mut self) {
        let s = &mut self.state;
        let word = s.compute_mode();
        s.mode = word;
        if word & mode::DEBUG != 0 || s.shadow != 0 {
            s.clock.attention |= attention::DEBUG;
        }
        let regs = PagingRegs {
            cr0: s.cr0,
            cr3: s.cr3,
            cr4: s.cr4,
            efer: s.efer,
            user: word & mode::USER != 0,
            ac: s.rflags & flags::AC != 0,
            long: word & mode::LONG != 0,
            flat: word & mode::FLAT != 0,
            pdpte: s.pdpte,
            a20_closed: s.a20 == 0,
        };
        if regs != *self.mmu.regs() {
            if s.clock.rehearsal != rehearsal::NONE && self.mmu.would_flush(&regs) {
                s.clock.rehearsal = rehearsal::REFUSED;
                return;
            }
            self.mmu.configure(&regs);
        }
        let watching = self.state.dr[7] & DR7_ENABLED != 0;
        self.mmu.set_watching(watching);
    }

    /// Holds interrupts off until the next instruction is done.
    pub(crate) fn begin_shadow(&mut self, kind: u32) {
        self.state.shadow = kind;
        self.state.clock.attention |= attention::DEBUG;
    }

    /// To be called when IF may have become set, or a shadow ended: a waiting interrupt is brought to the run loop's attention.
    pub(crate) fn interrupts_unmasked(&mut self) {
        let s = &mut self.state;
        if s.rflags & flags::IF != 0 && self.bus.interrupt_pending(&mut s.clock) {
            s.clock.attention |= attention::INTERRUPT;
        }
    }

    /// The handler of an NMI is over: the next one may come.
    pub(crate) fn end_nmi(&mut self) {
        if std::mem::take(&mut self.state.nmi_blocked) != 0 {
            self.nmi_unblocked();
        }
    }

    /// To be called when NMIs may have become unblocked: one that waits is brought to the run loop's attention.
    pub(crate) fn nmi_unblocked(&mut self) {
        if self.bus.nmi_pending() {
            self.state.clock.attention |= attention::INTERRUPT;
        }
    }

    /// Takes a pending interrupt or NMI, if the state allows one now: it is delivered, the CPU leaves HLT, and true comes back. Clears
    /// [`attention::INTERRUPT`] in any case; unmasking sets it again.
    ///
    /// # Errors
    /// [`Stop::Shutdown`] if the delivery ended in a triple fault.
    pub fn try_interrupt(&mut self) -> Result<bool, Stop> {
        self.state.clock.attention &= !attention::INTERRUPT;
        if self.state.shadow != 0 {
            return Ok(false);
        }
        if self.state.nmi_blocked == 0 && self.bus.take_nmi() {
            self.state.halted = 0;
            self.state.nmi_blocked = 1;
            self.deliver_nmi()?;
            return Ok(true);
        }
        if self.state.rflags & flags::IF == 0 || !self.bus.interrupt_pending(&mut self.state.clock)
        {
            return Ok(false);
        }
        let Some(vector) = self.bus.acknowledge(&mut self.state.clock) else {
            return Ok(false);
        };
        self.state.halted = 0;
        self.deliver_interrupt(vector)?;
        Ok(true)
    }
}
