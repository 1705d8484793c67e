//! A vCPU in 64-bit mode over flat RAM, without a board.
#![allow(unreachable_pub)]

use atoll_jit::{Engine, Exit, Mode, Tier};
use atoll_mmu::{Mmu, Ram};
use atoll_x86::Cpu;
use atoll_x86::bus::{Bus, Clock};
use atoll_x86::state::{attr, cr};
use atoll_x86::system::Model;

/// A board with nothing on it, which counts what is stored to it.
#[derive(Default)]
pub struct Empty {
    pub stores: u64,
}

impl Bus for Empty {
    fn mmio_read(&mut self, _: &mut Clock, _: u64, _: u32) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: &mut Clock, _: u64, _: u32, _: u64) {
        self.stores += 1;
    }
    fn port_in(&mut self, _: &mut Clock, _: u16, _: u32) -> u32 {
        u32::MAX
    }
    fn port_out(&mut self, _: &mut Clock, _: u16, _: u32, _: u32) {}
    fn msr_read(&mut self, _: &mut Clock, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: &mut Clock, _: u32, _: u64) -> bool {
        false
    }
    fn tpr(&mut self) -> u8 {
        0
    }
    fn set_tpr(&mut self, _: &mut Clock, _: u8) {}
    fn interrupt_pending(&mut self, _: &mut Clock) -> bool {
        false
    }
    fn acknowledge(&mut self, _: &mut Clock) -> Option<u8> {
        None
    }
    fn a20_is_open(&mut self) -> bool {
        true
    }
    fn nmi_pending(&mut self) -> bool {
        false
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

/// Where programs are put.
pub const CODE: u64 = 0x10_0000;
/// RAM for programs to work on.
pub const DATA: u64 = 0x20_0000;

/// A vCPU in 64-bit mode with `code` at [`CODE`], RSP below 0x80000 and no exception handlers: a fault shuts it down.
pub fn cpu(code: &[u8]) -> Cpu {
    let ram = Ram::anonymous(8 << 20);
    assert!(ram.write(CODE, code));
    let mut cpu = Cpu::new(Model::default(), Mmu::new(ram), Box::new(Empty::default()));
    let s = &mut cpu.state;
    s.cr0 = cr::CR0_PE | cr::CR0_NE | cr::CR0_ET;
    s.cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT;
    s.efer = cr::EFER_LMA | cr::EFER_LME | cr::EFER_NXE | cr::EFER_SCE;
    for seg in s.seg.iter_mut() {
        seg.base = 0;
        seg.limit = u32::MAX;
        seg.attr = attr::P | attr::S | attr::G | attr::DB | 3;
    }
    s.seg[1].attr = attr::P | attr::S | attr::G | attr::L | 0xb;
    s.idtr.limit = 0;
    s.gpr = [0; 32];
    s.gpr[4] = 0x8_0000;
    s.x87 = Default::default();
    s.mxcsr = 0x1f80;
    s.set_rip(CODE);
    cpu.update_mode();
    cpu
}

/// Runs for at most `budget` instructions, in this mode.
pub fn run(cpu: &mut Cpu, mode: Mode, budget: u64) -> (Exit, Engine) {
    let mut engine = match mode {
        Mode::Jit => Engine::inline(20, Tier::Optimised),
        _ => Engine::new(mode),
    };
    cpu.state.clock.set_deadline(0, budget);
    let exit = engine.run(cpu);
    (exit, engine)
}

/// All that a run left: registers, time, and RAM.
pub fn outcome(cpu: &Cpu) -> (Vec<u8>, Vec<u8>) {
    let mut registers = Vec::new();
    cpu.state
        .hash_registers(&mut |b| registers.extend_from_slice(b));
    let mut ram = vec![0; 8 << 20];
    assert!(cpu.mmu.ram().read(0, &mut ram));
    (registers, ram)
}
