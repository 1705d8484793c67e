//! One vCPU: architectural state, memory management, and its view of the board.

mod memory;

use atoll_mmu::{MemStop, Mmu};

use crate::bus::Bus;
use crate::exception::{Fault, Stop, Vector};
use crate::features::Features;
use crate::state::State;

/// A vCPU. `repr(C)` with the state first: the pinned register of emitted code points here.
#[repr(C)]
pub struct Cpu {
    pub state: State,
    pub mmu: Mmu,
    /// The details of the last [`Stop::Fault`].
    pub fault: Fault,
    pub features: Features,
    pub bus: Box<dyn Bus>,
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
}
