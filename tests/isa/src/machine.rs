//! A case on the whole engine: fetched from memory, decoded or translated, its exception delivered through an IDT.
//!
//! Beside the user pages there is a small kernel: descriptor tables, a stack, and for each vector a handler that halts. Which
//! one did tells the vector, and the frame on its stack the rest. [`crate::engine::Interpreter`] runs only the meaning of
//! instructions and is faster.

pub use atoll_jit::Mode;
use atoll_jit::{Engine as Runner, Exit};
use atoll_mmu::Ram;
use atoll_x86::Cpu;
use atoll_x86::op::Seg;
use atoll_x86::state::{Segment, TableReg, attr};
use isa_native::{COMPLETED, Case, DATA_BYTES, ENTRY, Outcome, Registers, digest};

use crate::engine::{Engine, Guest, USER_TABLE, write_entry};

/// Linear addresses of the kernel's pages, and their physical ones.
const KERNEL: u64 = 0x2000_0000;
const KERNEL_PA: u64 = 0x11_0000;
const TSS: u64 = KERNEL + 0x800;
const IDT: u64 = KERNEL + 0x1000;
const HANDLERS: u64 = KERNEL + 0x2000;
const STACK_TOP: u64 = KERNEL + 0x4000;
const VECTORS: u64 = 32;
const HANDLER_BYTES: u64 = 16;

/// A vCPU with its engine.
#[derive(Debug)]
pub struct Machine {
    guest: Guest,
    runner: Runner,
}

impl Machine {
    /// A machine that executes in `mode`.
    pub fn new(pristine: &[u8; DATA_BYTES], mode: Mode) -> Machine {
        let guest = Guest::new(pristine);
        build_kernel(&guest.ram);
        Machine {
            guest,
            runner: Runner::new(mode),
        }
    }

    /// The word at a kernel address.
    fn kernel_word(&self, address: u64) -> u64 {
        self.guest
            .ram
            .read_uint(address - KERNEL + KERNEL_PA, 8)
            .expect("a kernel page")
    }
}

impl Engine for Machine {
    fn run(&mut self, case: &Case) -> Outcome {
        self.guest.prepare(case);
        let cpu = &mut self.guest.cpu;
        set_tables(cpu);
        cpu.state.set_rip(ENTRY);
        cpu.state.halted = 0;
        cpu.update_mode();
        cpu.state.clock.attention |= atoll_x86::bus::attention::MODE;
        cpu.state.clock.set_deadline(0, 1 << 40);
        let exit = self.runner.run(cpu);
        assert_eq!(
            exit,
            Exit::Halt,
            "every exception ends in a handler that halts"
        );
        self.outcome()
    }

    fn data(&self) -> Vec<u8> {
        self.guest.data()
    }
}

impl Machine {
    fn outcome(&self) -> Outcome {
        let state = &self.guest.cpu.state;
        let vector = ((state.rip() - HANDLERS) / HANDLER_BYTES) as u8;
        let has_code = matches!(vector, 8 | 10..=14 | 17);
        let frame = STACK_TOP - 40;
        let (rip, rflags, rsp) = (
            self.kernel_word(frame),
            self.kernel_word(frame + 16),
            self.kernel_word(frame + 24),
        );
        let mut after = self.guest.registers();
        after.gpr[4] = rsp;
        Outcome {
            vector,
            error: if has_code {
                self.kernel_word(frame - 8) as u32
            } else {
                0
            },
            cr2: if vector == 14 { state.cr2 } else { 0 },
            after: Registers {
                // INT3 is a trap.
                rip: rip - u64::from(vector == COMPLETED),
                rflags,
                ..after
            },
            memory: digest(&self.data()),
        }
    }
}

/// Maps the kernel's pages and fills them: GDT, TSS, IDT, handlers.
fn build_kernel(ram: &Ram) {
    const PRESENT_WRITABLE_USED: u64 = 0x63;
    write_entry(
        ram,
        2,
        KERNEL >> 21 & 511,
        (USER_TABLE + 0x1000) | PRESENT_WRITABLE_USED,
    );
    for page in 0..4 {
        let value = (KERNEL_PA + page * 0x1000) | PRESENT_WRITABLE_USED;
        write_entry(ram, 4, page, value);
    }
    let put = |address: u64, value: u64| {
        assert!(ram.write_uint(address - KERNEL + KERNEL_PA, 8, value));
    };
    put(KERNEL + 0x08, 0x00af_9b00_0000_ffff);
    put(KERNEL + 0x10, 0x00cf_9300_0000_ffff);
    put(KERNEL + 0x28, 0x00cf_f300_0000_ffff);
    put(KERNEL + 0x30, 0x00af_fb00_0000_ffff);
    // RSP0 is at offset 4 of the TSS.
    assert!(ram.write_uint(TSS + 4 - KERNEL + KERNEL_PA, 8, STACK_TOP));
    for v in 0..VECTORS {
        let handler = HANDLERS + v * HANDLER_BYTES;
        let dpl = if v == 3 { 3u64 } else { 0 };
        let gate = 0x8e00 | dpl << 13;
        put(
            IDT + 16 * v,
            handler & 0xffff | 8 << 16 | gate << 32 | (handler >> 16 & 0xffff) << 48,
        );
        put(IDT + 16 * v + 8, handler >> 32);
        // HLT, for as long as it takes.
        put(handler, 0x00fd_ebf4);
    }
}

fn set_tables(cpu: &mut Cpu) {
    let s = &mut cpu.state;
    s.gdtr = TableReg {
        base: KERNEL,
        limit: 0x37,
    };
    s.idtr = TableReg {
        base: IDT,
        limit: (16 * VECTORS - 1) as u16,
    };
    s.seg[Seg::Tr as usize] = Segment {
        base: TSS,
        limit: 0x67,
        attr: attr::P | 0xb,
        selector: 0x40,
    };
}
