//! The board during a rehearsal: out of reach.
//!
//! Lockstep runs each region twice in effect, once to be taken back. What a device saw or gave cannot be taken back, so during a
//! rehearsal ([`atoll_x86::bus::rehearsal`]) a curtain hangs before the board: an instruction that reaches for it is void, and
//! left to the interpreter. What changes nothing passes.

use std::any::Any;

use atoll_x86::Cpu;
use atoll_x86::bus::{Bus, Clock, rehearsal};

/// The board behind it; none only while it is hung up.
struct Curtain(Option<Box<dyn Bus>>);

/// Hangs it before the vCPU's board.
pub(crate) fn hang_curtain(cpu: &mut Cpu) {
    let board = std::mem::replace(&mut cpu.bus, Box::new(Curtain(None)));
    if let Some(curtain) = cpu.bus.as_any().downcast_mut::<Curtain>() {
        curtain.0 = Some(board);
    }
}

impl Curtain {
    fn board(&mut self) -> &mut dyn Bus {
        self.0.as_deref_mut().expect("hung before a board")
    }

    /// The board, unless this is a rehearsal; then the present instruction is void.
    fn open(&mut self, clock: &mut Clock) -> Option<&mut dyn Bus> {
        if clock.rehearsal != rehearsal::NONE {
            clock.rehearsal = rehearsal::REFUSED;
            return None;
        }
        Some(self.board())
    }
}

impl Bus for Curtain {
    fn mmio_read(&mut self, clock: &mut Clock, address: u64, bytes: u32) -> u64 {
        self.open(clock)
            .map_or(0, |b| b.mmio_read(clock, address, bytes))
    }
    fn mmio_write(&mut self, clock: &mut Clock, address: u64, bytes: u32, value: u64) {
        if let Some(b) = self.open(clock) {
            b.mmio_write(clock, address, bytes, value);
        }
    }
    fn port_in(&mut self, clock: &mut Clock, port: u16, bytes: u32) -> u32 {
        self.open(clock)
            .map_or(0, |b| b.port_in(clock, port, bytes))
    }
    fn port_out(&mut self, clock: &mut Clock, port: u16, bytes: u32, value: u32) {
        if let Some(b) = self.open(clock) {
            b.port_out(clock, port, bytes, value);
        }
    }
    fn msr_read(&mut self, clock: &mut Clock, msr: u32) -> Option<u64> {
        self.open(clock)?.msr_read(clock, msr)
    }
    fn msr_write(&mut self, clock: &mut Clock, msr: u32, value: u64) -> bool {
        self.open(clock)
            .is_some_and(|b| b.msr_write(clock, msr, value))
    }
    fn tpr(&mut self) -> u8 {
        self.board().tpr()
    }
    fn set_tpr(&mut self, clock: &mut Clock, tpr: u8) {
        if let Some(b) = self.open(clock) {
            b.set_tpr(clock, tpr);
        }
    }
    fn interrupt_pending(&mut self, clock: &mut Clock) -> bool {
        self.board().interrupt_pending(clock)
    }
    fn acknowledge(&mut self, clock: &mut Clock) -> Option<u8> {
        self.open(clock)?.acknowledge(clock)
    }
    fn a20_is_open(&mut self) -> bool {
        self.board().a20_is_open()
    }
    fn nmi_pending(&mut self) -> bool {
        self.board().nmi_pending()
    }
    fn take_nmi(&mut self) -> bool {
        self.board().take_nmi()
    }
    fn as_any(&mut self) -> &mut dyn Any {
        if self.0.is_none() {
            return self;
        }
        self.board().as_any()
    }
}
