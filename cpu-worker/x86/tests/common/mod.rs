//! A CPU with RAM and a bus that records, and code from nasm or from bytes.
#![allow(dead_code, unreachable_pub, unused_macros)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use atoll_mmu::{Mmu, Ram};
use atoll_x86::bus::Clock;
use atoll_x86::interp::{Exit, Interpreter};
use atoll_x86::op::{RSP, Seg};
use atoll_x86::state::{Segment, attr, cr};
use atoll_x86::system::Model;
use atoll_x86::{Bus, Cpu};

pub const RAM_BYTES: u64 = 8 << 20;
/// Where code is put and starts.
pub const CODE: u64 = 0x10_0000;
/// The top of the stack.
pub const STACK: u64 = 0x20_0000;

/// A bus without devices: ports remember what was written, one interrupt can be made pending.
#[derive(Debug, Default)]
pub struct TestBus {
    pub written: Vec<(u16, u32, u32)>,
    pub mmio: Vec<(u64, u32, u64)>,
    pub pending: Option<u8>,
}

impl Bus for TestBus {
    fn mmio_read(&mut self, clock: &mut Clock, address: u64, _: u32) -> u64 {
        clock.charge_ns(100);
        address ^ 0x5a
    }
    fn mmio_write(&mut self, clock: &mut Clock, address: u64, bytes: u32, value: u64) {
        clock.charge_ns(100);
        self.mmio.push((address, bytes, value));
    }
    fn port_in(&mut self, clock: &mut Clock, port: u16, _: u32) -> u32 {
        clock.charge_ns(500);
        port as u32 + 1
    }
    fn port_out(&mut self, clock: &mut Clock, port: u16, bytes: u32, value: u32) {
        clock.charge_ns(500);
        if port == 0x70 {
            self.pending = Some(value as u8);
            clock.attention |= atoll_x86::bus::attention::INTERRUPT;
        }
        self.written.push((port, bytes, value));
    }
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
        self.pending.is_some()
    }
    fn acknowledge(&mut self, _: &mut Clock) -> Option<u8> {
        self.pending.take()
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

/// A CPU in 64-bit mode at CPL 0, paging on, the first 4 GiB mapped one to one by 2 MiB pages; code at [`CODE`].
pub struct Machine {
    pub cpu: Cpu,
    pub engine: Interpreter,
}

pub const FLAT_CODE_64: Segment = Segment {
    base: 0,
    limit: u32::MAX,
    attr: attr::P | attr::S | attr::L | attr::G | 0xb,
    selector: 8,
};
pub const FLAT_CODE_32: Segment = Segment {
    base: 0,
    limit: u32::MAX,
    attr: attr::P | attr::S | attr::DB | attr::G | 0xb,
    selector: 0x18,
};
pub const FLAT_DATA: Segment = Segment {
    base: 0,
    limit: u32::MAX,
    attr: attr::P | attr::S | attr::DB | attr::G | 3,
    selector: 0x10,
};

impl Machine {
    /// Without code, in real mode as after reset.
    pub fn bare() -> Machine {
        let ram = Ram::anonymous(RAM_BYTES);
        let cpu = Cpu::new(
            Model::default(),
            Mmu::new(ram),
            Box::new(TestBus::default()),
        );
        Machine {
            cpu,
            engine: Interpreter::default(),
        }
    }

    /// In 64-bit mode, with this code.
    pub fn long(code: &[u8]) -> Machine {
        let mut m = Machine::bare();
        m.identity_tables();
        let s = &mut m.cpu.state;
        s.cr0 = cr::CR0_PE | cr::CR0_ET | cr::CR0_NE | cr::CR0_WP | cr::CR0_PG;
        s.cr3 = 0x1000;
        s.cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT;
        s.efer = cr::EFER_LME | cr::EFER_LMA | cr::EFER_SCE | cr::EFER_NXE;
        s.seg[Seg::Cs as usize] = FLAT_CODE_64;
        m.flat(code);
        m
    }

    /// In flat 32-bit protected mode without paging.
    pub fn protected(code: &[u8]) -> Machine {
        let mut m = Machine::bare();
        m.cpu.state.cr0 = cr::CR0_PE | cr::CR0_ET | cr::CR0_NE;
        m.cpu.state.seg[Seg::Cs as usize] = FLAT_CODE_32;
        m.flat(code);
        m
    }

    /// In real mode at 0:7c00 with a stack below it.
    pub fn real(code: &[u8]) -> Machine {
        let mut m = Machine::bare();
        m.cpu.state.seg[Seg::Cs as usize].base = 0;
        m.cpu.state.seg[Seg::Cs as usize].selector = 0;
        m.write(0x7c00, code);
        m.cpu.state.gpr[RSP as usize] = 0x7c00;
        m.cpu.state.set_rip(0x7c00);
        m.cpu.update_mode();
        m
    }

    fn flat(&mut self, code: &[u8]) {
        let s = &mut self.cpu.state;
        for seg in [Seg::Ds, Seg::Es, Seg::Ss, Seg::Fs, Seg::Gs] {
            s.seg[seg as usize] = FLAT_DATA;
        }
        s.gpr[RSP as usize] = STACK;
        s.set_rip(CODE);
        self.write(CODE, code);
        self.cpu.update_mode();
    }

    fn identity_tables(&mut self) {
        self.write_u64(0x1000, 0x2007);
        for gib in 0..4u64 {
            self.write_u64(0x2000 + 8 * gib, 0x3007 + 0x1000 * gib);
            for n in 0..512 {
                let page = gib << 30 | n << 21;
                self.write_u64(0x3000 + 0x1000 * gib + 8 * n, page | 0x87);
            }
        }
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        assert!(self.cpu.mmu.ram().write(at, bytes));
    }
    pub fn write_u64(&mut self, at: u64, v: u64) {
        self.write(at, &v.to_le_bytes());
    }
    pub fn read_u64(&self, at: u64) -> u64 {
        self.cpu.mmu.ram().read_uint(at, 8).expect("RAM")
    }
    pub fn gpr(&self, n: u8) -> u64 {
        self.cpu.state.gpr[n as usize]
    }
    pub fn set(&mut self, n: u8, v: u64) -> &mut Machine {
        self.cpu.state.gpr[n as usize] = v;
        self
    }
    pub fn bus(&mut self) -> &mut TestBus {
        self.cpu.bus.as_any().downcast_mut().expect("the test bus")
    }

    /// Runs for at most `n` units of virtual time.
    pub fn run_for(&mut self, n: u64) -> Exit {
        let now = self.cpu.state.clock.now_ns();
        self.cpu.state.clock.set_deadline(now, now + n);
        self.engine.run(&mut self.cpu)
    }

    /// Runs until HLT or shutdown.
    pub fn run(&mut self) -> Exit {
        let exit = self.run_for(100_000_000);
        assert_ne!(exit, Exit::Budget, "at {:#x}", self.cpu.state.rip());
        exit
    }
}

/// Assembles with nasm for code at [`CODE`]; None where nasm is not installed.
pub fn assemble(text: &str) -> Option<Vec<u8>> {
    assemble_at(text, 64, CODE)
}

pub fn assemble_at(text: &str, bits: u32, origin: u64) -> Option<Vec<u8>> {
    let dir = std::env::temp_dir();
    let name = format!(
        "atoll-x86-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let (source, output) = (
        dir.join(format!("{name}.asm")),
        dir.join(format!("{name}.bin")),
    );
    let mut file = std::fs::File::create(&source).expect("a temporary file");
    write!(file, "bits {bits}\norg {origin:#x}\n{text}\n").expect("written");
    let done = Command::new("nasm")
        .args(["-f", "bin", "-o"])
        .arg(&output)
        .arg(&source)
        .stderr(Stdio::inherit())
        .status();
    let code = match done {
        Err(_) => None,
        Ok(status) => {
            assert!(status.success(), "nasm accepts:\n{text}");
            Some(std::fs::read(&output).expect("nasm wrote it"))
        }
    };
    let _ = std::fs::remove_file(source);
    let _ = std::fs::remove_file(output);
    code
}

/// A 64-bit machine with this assembly; returns from the test where there is no nasm.
#[macro_export]
macro_rules! long {
    ($text:expr) => {
        match common::assemble($text) {
            Some(code) => common::Machine::long(&code),
            None => return,
        }
    };
}
