//! Exceptions and the other reasons for which an instruction does not simply complete.

/// Exception vectors (Intel SDM vol. 3A, table 6-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Vector {
    Divide = 0,
    Debug = 1,
    Nmi = 2,
    Breakpoint = 3,
    Overflow = 4,
    Bound = 5,
    InvalidOpcode = 6,
    DeviceNotAvailable = 7,
    DoubleFault = 8,
    InvalidTss = 10,
    NotPresent = 11,
    Stack = 12,
    GeneralProtection = 13,
    Page = 14,
    X87 = 16,
    Alignment = 17,
    MachineCheck = 18,
    Simd = 19,
}

/// A fault: the state is as before the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub vector: Vector,
    /// The error code, for the vectors that push one.
    pub code: Option<u32>,
    /// What CR2 becomes (#PF only; the faulting linear address).
    pub cr2: u64,
    /// #GP(0) for an address that is not canonical: #SS(0) if the access went through SS, which who knows the instruction sees to.
    pub non_canonical: bool,
    /// IRET met it.
    pub ends_nmi: bool,
}

impl Fault {
    /// A fault without an error code.
    pub const fn new(vector: Vector) -> Fault {
        Fault {
            vector,
            code: None,
            cr2: 0,
            non_canonical: false,
            ends_nmi: false,
        }
    }
    /// A fault with an error code.
    pub const fn with_code(vector: Vector, code: u32) -> Fault {
        Fault {
            vector,
            code: Some(code),
            cr2: 0,
            non_canonical: false,
            ends_nmi: false,
        }
    }
    /// #UD.
    pub const UD: Fault = Fault::new(Vector::InvalidOpcode);
    /// #NM.
    pub const NM: Fault = Fault::new(Vector::DeviceNotAvailable);
    /// #GP(0).
    pub const GP0: Fault = Fault::with_code(Vector::GeneralProtection, 0);
    /// #SS(0).
    pub const SS0: Fault = Fault::with_code(Vector::Stack, 0);
}

/// Why an instruction did not simply complete. Small on purpose: the details of a fault lie in `Cpu::fault`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stop {
    /// `Cpu::fault` holds it; nothing was committed.
    Fault,
    /// HLT completed.
    Halt,
    /// A triple fault: the CPU is in shutdown.
    Shutdown,
    /// A repeated string instruction used up the budget or was told to leave between two iterations; RIP is still at it.
    Again,
}
