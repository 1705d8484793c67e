//! The state that a case begins and ends with. `repr(C)`, plain integers: parent and child share it.

use crate::layout::{CODE, DATA_LEN};
use crate::segments::{self, CODE_64, CS, SS, USER_DATA};

/// The stack pointer's place in [`Machine::gpr`].
const RSP: usize = 4;

/// The part of the FXSAVE image (64-bit format, SDM vol. 1, table 10-2) that holds state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Fx {
    pub fcw: u16,
    pub fsw: u16,
    /// One bit per physical register: 1 = in use.
    pub ftw: u8,
    pub reserved: u8,
    pub fop: u16,
    pub fip: u64,
    pub fdp: u64,
    pub mxcsr: u32,
    pub mxcsr_mask: u32,
    /// ST(0) to ST(7), relative to the top.
    pub st: [[u64; 2]; 8],
    pub xmm: [[u64; 2]; 16],
}

impl Default for Fx {
    /// As after FNINIT and with the default MXCSR.
    fn default() -> Fx {
        Fx {
            fcw: 0x37f,
            fsw: 0,
            ftw: 0,
            reserved: 0,
            fop: 0,
            fip: 0,
            fdp: 0,
            mxcsr: 0x1f80,
            mxcsr_mask: 0,
            st: [[0; 2]; 8],
            xmm: [[0; 2]; 16],
        }
    }
}

/// The user-visible machine: registers, and the writable memory at [`crate::layout::DATA`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Machine {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: the encoding's order.
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS: the encoding's order.
    pub selectors: [u16; 6],
    pub fs_base: u64,
    pub gs_base: u64,
    pub fx: Fx,
    /// Upper halves of YMM0 to YMM15.
    pub ymm_high: [[u64; 2]; 16],
    pub memory: [u8; DATA_LEN],
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            gpr: [0; 16],
            rip: 0,
            rflags: 2,
            selectors: [USER_DATA, CODE_64, USER_DATA, USER_DATA, 0, 0],
            fs_base: 0,
            gs_base: 0,
            fx: Fx::default(),
            ymm_high: [[0; 2]; 16],
            memory: [0; DATA_LEN],
        }
    }
}

impl Machine {
    /// The linear address that RIP names: of 32 bits but in 64-bit code.
    pub fn linear_rip(&self) -> u64 {
        match self.selectors[CS] {
            CODE_64 => self.rip,
            cs => segments::base(cs).wrapping_add(self.rip) & u64::from(u32::MAX),
        }
    }

    /// The linear address of the top of the stack, of which SP alone counts where the stack is one of 16 bits.
    pub fn stack_top(&self) -> u64 {
        let (rsp, selector) = (self.gpr[RSP], self.selectors[SS]);
        let offset = match segments::descriptor(selector) {
            Some(d) if !d.big => rsp & 0xffff,
            _ => rsp,
        };
        offset.wrapping_add(segments::base(selector))
    }
}

/// How the instruction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Event {
    /// [`Event::PENDING`] and its neighbours.
    pub state: u32,
    /// The exception's vector; 1 is the single-step trap, which means that the instruction completed.
    pub vector: u32,
    /// The error code, of the exceptions that have one.
    pub error: u64,
    /// CR2, for a page fault.
    pub cr2: u64,
}

impl Event {
    /// The case was not run.
    pub const PENDING: u32 = 0;
    /// The case is being run.
    pub const RUNNING: u32 = 1;
    /// The case was run.
    pub const DONE: u32 = 2;
    /// The child died of the case.
    pub const LOST: u32 = 3;
}

/// A case and its outcome.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Slot {
    pub before: Machine,
    pub after: Machine,
    /// The instruction, which lies at `before.rip` of the code segment.
    pub code: [u8; 16],
    /// How many bytes of `code` count; what would lie behind the code pages is cut off.
    pub code_len: u32,
    /// The instruction is repeated: single-step traps with RIP still at it go on, so that the case is the whole of it.
    pub repeats: u32,
    pub event: Event,
}

impl Slot {
    /// Where the instruction lies, seen from the start of the code pages.
    pub fn code_offset(&self) -> u64 {
        self.before.linear_rip().wrapping_sub(CODE)
    }
}
