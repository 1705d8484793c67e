//! Our machine, one instruction at a time, in QEMU's footsteps: it starts with QEMU's registers and memory, takes interrupts where QEMU
//! took them, and may be told what a device answered.

use std::any::Any;

use anyhow::{Result, ensure};
use atoll_machine::Board;
use atoll_x86::bus::{Bus, Clock, attention};
use atoll_x86::flags::{ARITH, RF};
use atoll_x86::interp::{Exit, Interpreter};
use atoll_x86::op::Seg;
use atoll_x86::state::{self, TableReg, cr};
use atoll_x86::{Cpu, Fault, State, Vector};

use super::registers::{Registers, Segment};

/// What no instruction raises.
const NO_FAULT: Fault = Fault {
    vector: Vector::MachineCheck,
    code: Some(u32::MAX),
    cr2: 0,
    non_canonical: false,
    ends_nmi: false,
};

/// The longest instruction (SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;

/// An access that left the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    PortIn(u16),
    PortOut(u16),
    MmioRead(u64),
    MmioWrite(u64),
    Msr(u32),
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Access::PortIn(port) => write!(f, "IN from port {port:#x}"),
            Access::PortOut(port) => write!(f, "OUT to port {port:#x}"),
            Access::MmioRead(address) => write!(f, "a read of the device at {address:#x}"),
            Access::MmioWrite(address) => write!(f, "a write to the device at {address:#x}"),
            Access::Msr(msr) => write!(f, "MSR {msr:#x}"),
        }
    }
}

/// Between CPU and board: it notes what goes through, and holds back all interrupts but those that QEMU took.
struct Tap {
    board: Box<dyn Bus>,
    accesses: Vec<Access>,
    vector: Option<u8>,
}

impl Bus for Tap {
    fn mmio_read(&mut self, clock: &mut Clock, address: u64, bytes: u32) -> u64 {
        self.accesses.push(Access::MmioRead(address));
        self.board.mmio_read(clock, address, bytes)
    }
    fn mmio_write(&mut self, clock: &mut Clock, address: u64, bytes: u32, value: u64) {
        self.accesses.push(Access::MmioWrite(address));
        self.board.mmio_write(clock, address, bytes, value);
    }
    fn port_in(&mut self, clock: &mut Clock, port: u16, bytes: u32) -> u32 {
        self.accesses.push(Access::PortIn(port));
        self.board.port_in(clock, port, bytes)
    }
    fn port_out(&mut self, clock: &mut Clock, port: u16, bytes: u32, value: u32) {
        self.accesses.push(Access::PortOut(port));
        self.board.port_out(clock, port, bytes, value);
    }
    fn msr_read(&mut self, clock: &mut Clock, msr: u32) -> Option<u64> {
        self.accesses.push(Access::Msr(msr));
        self.board.msr_read(clock, msr)
    }
    fn msr_write(&mut self, clock: &mut Clock, msr: u32, value: u64) -> bool {
        self.accesses.push(Access::Msr(msr));
        self.board.msr_write(clock, msr, value)
    }
    fn tpr(&mut self) -> u8 {
        self.board.tpr()
    }
    fn set_tpr(&mut self, clock: &mut Clock, tpr: u8) {
        self.board.set_tpr(clock, tpr);
    }
    fn interrupt_pending(&mut self, _clock: &mut Clock) -> bool {
        self.vector.is_some()
    }
    fn acknowledge(&mut self, clock: &mut Clock) -> Option<u8> {
        // Our controllers go through the same motions, if they hold one.
        if self.vector.is_some() && self.board.interrupt_pending(clock) {
            self.board.acknowledge(clock);
        }
        self.vector.take()
    }
    fn a20_is_open(&mut self) -> bool {
        self.board.a20_is_open()
    }
    fn nmi_pending(&mut self) -> bool {
        false
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Our CPU on its board.
pub(super) struct Follower {
    cpu: Cpu,
    interpreter: Interpreter,
    with_float: bool,
}

impl Follower {
    /// The CPU of a machine that was made for the same kernel.
    pub(super) fn new(cpu: Cpu, with_float: bool) -> Follower {
        let Cpu {
            state,
            mmu,
            model,
            bus,
            ..
        } = cpu;
        let tap = Tap {
            board: bus,
            accesses: Vec::new(),
            vector: None,
        };
        let mut cpu = Cpu::new(model, mmu, Box::new(tap));
        cpu.state = state;
        // As `-icount` has it.
        cpu.state.clock.charges = 0;
        cpu.update_mode();
        Follower {
            cpu,
            interpreter: Interpreter::default(),
            with_float,
        }
    }

    fn tap(&mut self) -> &mut Tap {
        let tap = self.cpu.bus.as_any().downcast_mut();
        tap.expect("it was put there above")
    }

    pub(super) fn registers(&self) -> Registers {
        Registers::of(&self.cpu.state, self.with_float)
    }

    /// Memory as QEMU has it.
    pub(super) fn set_memory(&mut self, memory: &[u8]) -> Result<()> {
        let ram = self.cpu.mmu.ram();
        for (base, len, _) in ram.regions().collect::<Vec<_>>() {
            let part = usize::try_from(base)?..usize::try_from(base + len)?;
            let part = memory.get(part);
            ensure!(
                part.is_some_and(|bytes| ram.write(base, bytes)),
                "QEMU has less memory"
            );
        }
        Ok(())
    }

    /// All registers that QEMU shows, and the MSRs that it does not.
    pub(super) fn set_registers(&mut self, qemu: &Registers, msrs: &[(u32, u64)]) {
        let state = &mut self.cpu.state;
        set_general(state, qemu, u64::MAX);
        state.set_rip(qemu.rip);
        for (ours, theirs) in state.seg.iter_mut().zip(&qemu.seg) {
            *ours = segment(theirs);
        }
        let table = |(base, limit): (u64, u32)| TableReg {
            base,
            limit: limit as u16,
        };
        (state.gdtr, state.idtr) = (table(qemu.gdt), table(qemu.idt));
        (state.cr0, state.cr2, state.cr3, state.cr4) = (qemu.cr0, qemu.cr2, qemu.cr3, qemu.cr4);
        (state.dr, state.efer) = (qemu.dr, qemu.efer);
        (state.halted, state.shadow) = (qemu.halted.into(), qemu.shadow.into());
        for (msr, value) in msrs {
            set_hidden(state, *msr, *value);
        }
        self.cpu.update_mode();
        let paged = cr::CR0_PG | cr::CR0_PE;
        let is_pae = qemu.cr4 & cr::CR4_PAE != 0 && qemu.efer & cr::EFER_LMA == 0;
        if qemu.cr0 & paged == paged && is_pae {
            self.cpu.state.pdpte = self.cpu.mmu.read_pdptes(qemu.cr3).unwrap_or_default();
            self.cpu.update_mode();
        }
        self.cpu.mmu.flush_all();
    }

    /// The result of one instruction as QEMU had it: general registers, arithmetic flags, x87 and SSE.
    pub(super) fn adopt_result(&mut self, qemu: &Registers) {
        set_general(&mut self.cpu.state, qemu, ARITH);
    }

    /// Flags that the last instruction left undefined.
    pub(super) fn adopt_flags(&mut self, qemu: &Registers, mask: u64) {
        set_flags(&mut self.cpu.state, qemu.flags, mask);
    }

    /// Goes back to an instruction that repeats itself, with nothing left to do.
    pub(super) fn repeat(&mut self, rip: u64) {
        self.cpu.state.set_rip(rip);
    }

    /// The bytes of the instruction at RIP, as far as they can be read.
    pub(super) fn code(&mut self) -> Vec<u8> {
        let at = self.cpu.linear_rip();
        let mut bytes = vec![0; LONGEST];
        // The instruction is fetched next in any case.
        let Ok(pa) = self.cpu.mmu.fetch(at) else {
            return Vec::new();
        };
        let first = self.cpu.mmu.code_bytes(pa, &mut bytes);
        bytes.truncate(first);
        bytes
    }

    /// Executes one instruction, or one iteration of a repeated one; what it faults with is delivered.
    pub(super) fn step(&mut self) -> Exit {
        self.cpu.fault = NO_FAULT;
        let clock = &mut self.cpu.state.clock;
        let now_ns = clock.now_ns();
        clock.set_deadline(now_ns, now_ns + (1 << clock.shift));
        clock.attention &= !attention::MACHINE;
        let tap = self.tap();
        tap.accesses.clear();
        let board = tap.board.as_any().downcast_mut::<Board>();
        board.expect("machines have boards").run_due(now_ns);
        self.interpreter.run(&mut self.cpu)
    }

    /// What the last instruction raised.
    pub(super) fn fault(&self) -> Option<Fault> {
        (self.cpu.fault != NO_FAULT).then_some(self.cpu.fault)
    }

    /// Clears RF in the image of the flags that the last instruction's fault pushed, `flags` having been what they were. It should be
    /// set (SDM vol. 3B, 17.3.1.1), QEMU leaves it clear, and handlers that look at the image would differ.
    pub(super) fn clear_pushed_rf(&mut self, fault: &Fault, flags: u64) {
        let state = &self.cpu.state;
        let (slot, stack) = match state.efer & cr::EFER_LMA {
            0 => (
                4,
                state.segment(Seg::Ss).base + (state.gpr[4] & 0xffff_ffff),
            ),
            _ => (8, state.gpr[4]),
        };
        // The error code, if there is one, the address and CS lie below it.
        let at = stack + slot * (2 + u64::from(fault.code.is_some()));
        let mmu = &mut self.cpu.mmu;
        if mmu
            .load(at, 4)
            .is_ok_and(|image| image & RF != 0 && image & !RF == flags & !RF)
        {
            mmu.try_store(at, 4, flags & !RF);
        }
    }

    /// What the last instruction accessed outside of the CPU and RAM.
    pub(super) fn accesses(&mut self) -> &[Access] {
        &self.tap().accesses
    }

    /// Takes an interrupt; false if the CPU would not now.
    pub(super) fn interrupt(&mut self, vector: u8) -> bool {
        self.tap().vector = Some(vector);
        let taken = self.cpu.try_interrupt() == Ok(true);
        self.tap().vector = None;
        taken
    }

    /// RAM at a linear address through the data TLB, for a report.
    pub(super) fn peek(&mut self, linear: u64, bytes: usize) -> Vec<Option<u8>> {
        let byte = |n: usize| self.cpu.mmu.load(linear.wrapping_add(n as u64), 1);
        (0..bytes)
            .map(byte)
            .map(|b| b.ok().map(|b| b as u8))
            .collect()
    }
}

/// Sets general registers and, of the flags, `mask`; x87 and SSE if QEMU shows them.
fn set_general(state: &mut State, qemu: &Registers, mask: u64) {
    for (n, value) in qemu.gpr.iter().enumerate() {
        match qemu.wide {
            true => state.gpr[n] = *value,
            // Upper halves do not show, and come back with 64-bit code.
            false if n < 8 => state.gpr[n] = state.gpr[n] & !0xffff_ffff | value,
            false => {}
        }
    }
    set_flags(state, qemu.flags, mask);
    if let Some(float) = &qemu.float {
        state.x87.control = float.control;
        state.x87.status = float.status;
        state.x87.tags = float.tags;
        state.x87.regs = float
            .st
            .map(|(significand, high)| [significand, high.into()]);
        state.mxcsr = float.mxcsr;
        let known = if qemu.wide { 16 } else { 8 };
        state.xmm[..known].copy_from_slice(&float.xmm[..known]);
    }
}

fn set_flags(state: &mut State, flags: u64, mask: u64) {
    state.set_eflags(state.eflags() & !mask | flags & mask);
}

fn set_hidden(state: &mut State, msr: u32, value: u64) {
    let place = match msr {
        0x174 => &mut state.sysenter_cs,
        0x175 => &mut state.sysenter_esp,
        0x176 => &mut state.sysenter_eip,
        0xc000_0081 => &mut state.star,
        0xc000_0082 => &mut state.lstar,
        0xc000_0083 => &mut state.cstar,
        0xc000_0084 => &mut state.sfmask,
        0xc000_0102 => &mut state.kernel_gs_base,
        0xc000_0103 => &mut state.tsc_aux,
        _ => return,
    };
    *place = value;
}

fn segment(qemu: &Segment) -> state::Segment {
    state::Segment {
        base: qemu.base,
        limit: qemu.limit,
        attr: qemu.attr,
        selector: qemu.selector,
    }
}
