//! A local APIC: xAPIC through its memory page, x2APIC through MSRs.
//!
//! Source: Intel SDM volume 3, chapter 11 (Advanced Programmable Interrupt Controller).
//!
//! Not modelled: the legacy arbitration protocol (APR reads 0), remote reads, SMIs (no system management mode), performance
//! counter and thermal interrupts (their LVT entries only keep what is written), EOI-broadcast suppression (not advertised),
//! relocation of the memory page (the base field is fixed).
//!
//! The board moves messages: a write returns at most one [`Signal`] for it to route, and `pending` says what the CPU may take.
//! Time comes in with each call; the next expiry is [`Lapic::next_timer_ns`], a function of the state.
//!
//! Invariants: IRR and ISR hold no vector below 16; a vector in ISR got there from IRR by `ack`.

use device_core::{LoadError, Section};
use serde::{Deserialize, Serialize};

use super::message::{Delivery, Destination, Message, Trigger};

mod timer;
mod vectors;

pub use timer::TIMER_HZ;
use timer::{Mode, Timer};
use vectors::Vectors;

const KIND: &str = "lapic";
const VERSION: u16 = 1;

/// Integrated APIC, six LVT entries.
const VERSION_REGISTER: u32 = 0x0005_0014;

const LVT_MASKED: u32 = 1 << 16;
const SVR_ENABLED: u32 = 1 << 8;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_BSP: u64 = 1 << 8;
const BASE_ADDRESS: u64 = 0xFEE0_0000;

/// Error status bits.
const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// The LVT entries, in register order from 0x320.
const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_LINT1: usize = 4;
const LVT_ERROR: usize = 5;
/// What the guest may set in each: delivery mode, polarity and trigger only where the entry has them.
const LVT_WRITABLE: [u32; 6] = [0x7_00FF, 0x1_07FF, 0x1_07FF, 0x1_A7FF, 0x1_A7FF, 0x1_00FF];

/// A general-protection fault: the MSR access is refused and changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gp;

/// What a register write asks of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The EOI of a level-triggered vector, for the I/O APICs.
    Eoi(u8),
    /// An inter-processor interrupt. `Destination` may name this APIC too; a self-interrupt by shorthand was already accepted.
    Ipi(Message),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lapic {
    id: u32,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    /// Errors since the last write of ESR, and what that write latched.
    errors: u32,
    esr: u32,
    icr: u64,
    lvt: [u32; 6],
    timer: Timer,
}

impl Lapic {
    /// The APIC of the processor with this id; id 0 is the bootstrap processor.
    pub fn new(id: u32) -> Lapic {
        let bsp = if id == 0 { BASE_BSP } else { 0 };
        Lapic {
            id,
            base: BASE_ADDRESS | BASE_ENABLED | bsp,
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: 0xFF,
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            errors: 0,
            esr: 0,
            icr: 0,
            lvt: [LVT_MASKED; 6],
            timer: Timer::default(),
        }
    }

    /// Power-on and system reset.
    pub fn reset(&mut self) {
        *self = Lapic::new(self.id);
    }

    /// INIT: as a reset, but the base MSR, the mode and the id stay.
    pub fn init(&mut self) {
        *self = Lapic {
            base: self.base,
            ..Lapic::new(self.id)
        };
        self.derive_logical_id();
    }

    // Interrupts in and out.

    /// An interrupt with this vector arrives. While the APIC is disabled it is dropped.
    pub fn accept(&mut self, vector: u8, trigger: Trigger) {
        if !self.is_software_enabled() {
            return;
        }
        if vector < 16 {
            self.error(ESR_RECEIVE_ILLEGAL);
            return;
        }
        self.irr.set(vector);
        match trigger {
            Trigger::Edge => self.tmr.clear(vector),
            Trigger::Level => self.tmr.set(vector),
        }
    }

    /// The vector that the CPU would take now: the highest request whose class is above the processor priority.
    #[inline]
    pub fn pending(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (vector >> 4 > self.ppr() >> 4 && self.is_enabled()).then_some(vector)
    }

    /// The CPU takes the pending interrupt: it goes from request to service. With none pending any more (the task priority
    /// rose in between) it is the spurious vector, which needs no EOI.
    pub fn ack(&mut self) -> u8 {
        let Some(vector) = self.pending() else {
            return self.svr as u8;
        };
        self.irr.clear(vector);
        self.isr.set(vector);
        vector
    }

    /// Whether a message for `destination` is for this APIC. Shorthands are the board's: it knows who sent.
    pub fn matches(&self, destination: Destination) -> bool {
        match destination {
            // An 8-bit broadcast, as an I/O APIC sends it, reaches everybody in either mode.
            Destination::Physical(0xFF | u32::MAX) => true,
            Destination::Physical(id) => id == self.id,
            Destination::Logical(set) if self.is_x2apic() => {
                set == u32::MAX || (set >> 16 == self.ldr >> 16 && set & self.ldr & 0xFFFF != 0)
            }
            Destination::Logical(set) => {
                let mine = self.ldr >> 24;
                if self.dfr >> 28 == 0xF {
                    set & mine & 0xFF != 0
                } else {
                    // Cluster model: the high four bits name a cluster, 15 all of them.
                    (set >> 4 & 0xF == mine >> 4 || set >> 4 & 0xF == 0xF) && set & mine & 0xF != 0
                }
            }
            Destination::AllButSelf | Destination::All => true,
        }
    }

    /// Whether the 8259A's INTR, wired to LINT0, reaches the CPU: LINT0 is open with delivery mode ExtINT, or the APIC is
    /// off and the pin goes straight to the CPU.
    pub fn takes_extint(&self) -> bool {
        let lint0 = self.lvt[LVT_LINT0];
        !self.is_enabled()
            || (lint0 & LVT_MASKED == 0 && Delivery::from_bits(lint0 >> 8) == Delivery::ExtInt)
    }

    /// The level of LINT0 rose: with fixed delivery it is an interrupt like any other (a "virtual wire" of the PIT).
    pub fn lint0_rose(&mut self) {
        let lint0 = self.lvt[LVT_LINT0];
        if lint0 & LVT_MASKED == 0 && Delivery::from_bits(lint0 >> 8) == Delivery::Fixed {
            self.accept(lint0 as u8, Trigger::Edge);
        }
    }

    /// Whether an NMI on LINT1 reaches the CPU.
    pub fn takes_nmi(&self) -> bool {
        let lint1 = self.lvt[LVT_LINT1];
        !self.is_enabled()
            || (lint1 & LVT_MASKED == 0 && Delivery::from_bits(lint1 >> 8) == Delivery::Nmi)
    }

    // The timer.

    /// When the timer expires next, if it runs. The board asks again after each call that took time.
    #[inline]
    pub fn next_timer_ns(&self) -> Option<u64> {
        self.timer.next_expiry_ns()
    }

    /// The time of [`next_timer_ns`](Lapic::next_timer_ns) has come.
    pub fn timer_due(&mut self, now_ns: u64) {
        if self.timer.expire(now_ns) && self.lvt[LVT_TIMER] & LVT_MASKED == 0 {
            self.accept(self.lvt[LVT_TIMER] as u8, Trigger::Edge);
        }
    }

    /// IA32_TSC_DEADLINE: 0 when disarmed.
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    /// Writes IA32_TSC_DEADLINE: `tsc` is what the guest wrote, `at_ns` when its time-stamp counter will have that value. In
    /// another timer mode the write does nothing. 0 disarms.
    pub fn set_tsc_deadline(&mut self, tsc: u64, at_ns: u64) {
        if self.timer_mode() == Mode::TscDeadline {
            self.timer.set_tsc_deadline(tsc, at_ns);
        }
    }

    fn timer_mode(&self) -> Mode {
        Mode::from_lvt(self.lvt[LVT_TIMER])
    }

    // IA32_APIC_BASE and CR8.

    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. The transitions of SDM 11.12.5: x2APIC mode is left only by disabling.
    pub fn set_base(&mut self, value: u64) -> Result<(), Gp> {
        let mode = |base: u64| base & (BASE_X2APIC | BASE_ENABLED);
        let (old, new) = (mode(self.base), mode(value));
        let legal = match new {
            BASE_X2APIC => false,
            BASE_ENABLED => old != BASE_ENABLED | BASE_X2APIC,
            0 => true,
            _ => old != 0,
        };
        let address = value & !(BASE_X2APIC | BASE_ENABLED | BASE_BSP);
        if !legal || address != BASE_ADDRESS {
            return Err(Gp);
        }
        if new == 0 && old != 0 {
            *self = Lapic {
                base: self.base,
                ..Lapic::new(self.id)
            };
        }
        self.base = BASE_ADDRESS | self.base & BASE_BSP | new;
        if new & !old & BASE_X2APIC != 0 {
            self.icr = 0;
            self.derive_logical_id();
        }
        Ok(())
    }

    /// Globally enabled, in either mode.
    pub fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0
    }

    pub fn is_x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    fn is_software_enabled(&self) -> bool {
        self.is_enabled() && self.svr & SVR_ENABLED != 0
    }

    /// The task priority class, as CR8 shows it.
    pub fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    pub fn set_cr8(&mut self, class: u8) {
        self.tpr = class << 4;
    }

    fn ppr(&self) -> u8 {
        let service = self.isr.highest().unwrap_or(0);
        if self.tpr >> 4 >= service >> 4 {
            self.tpr
        } else {
            service & 0xF0
        }
    }

    fn derive_logical_id(&mut self) {
        if self.is_x2apic() {
            self.ldr = (self.id >> 4) << 16 | 1 << (self.id & 0xF);
        }
    }

    // The memory page.

    /// A read in the APIC's page. Registers are 32 bits wide at multiples of 16; anything else is undefined and reads 0.
    pub fn mmio_read(&mut self, offset: u64, now_ns: u64) -> u32 {
        if offset & 0xF != 0 || offset >= 0x1000 || self.is_x2apic() {
            return 0;
        }
        match (offset >> 4) as u32 {
            0x02 => self.id << 24,
            0x0D => self.ldr,
            0x0E => self.dfr,
            0x30 => self.icr as u32,
            0x31 => (self.icr >> 32) as u32,
            0x09 | 0x0C => 0,
            register => self.register(register, now_ns).unwrap_or_else(|| {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }),
        }
    }

    /// A write in the APIC's page.
    pub fn mmio_write(&mut self, offset: u64, value: u32, now_ns: u64) -> Option<Signal> {
        if offset & 0xF != 0 || offset >= 0x1000 || self.is_x2apic() {
            return None;
        }
        match (offset >> 4) as u32 {
            // The id is read-only here, as on current processors. The others below have no writable bit.
            0x02 | 0x03 | 0x09 | 0x0A | 0x0C | 0x10..=0x27 | 0x39 => None,
            0x0B => self.end_of_interrupt(),
            0x0D => {
                self.ldr = value & 0xFF00_0000;
                None
            }
            0x0E => {
                self.dfr = value | 0x0FFF_FFFF;
                None
            }
            0x28 => {
                self.latch_errors();
                None
            }
            0x30 => {
                self.icr = self.icr & !0xFFFF_FFFF | u64::from(value & !(1 << 12));
                let id = (self.icr >> 56) as u32;
                self.send(id)
            }
            0x31 => {
                self.icr = self.icr & 0xFFFF_FFFF | u64::from(value & 0xFF00_0000) << 32;
                None
            }
            register => {
                if !self.set_register(register, value, now_ns) {
                    self.error(ESR_ILLEGAL_REGISTER);
                }
                None
            }
        }
    }

    // The MSRs 0x800 to 0x8FF.

    /// RDMSR of an x2APIC register.
    pub fn msr_read(&mut self, msr: u32, now_ns: u64) -> Result<u64, Gp> {
        if !self.is_x2apic() {
            return Err(Gp);
        }
        match msr.wrapping_sub(0x800) {
            0x02 => Ok(u64::from(self.id)),
            0x0D => Ok(u64::from(self.ldr)),
            0x30 => Ok(self.icr),
            // Write-only, and what exists in xAPIC mode alone.
            0x0B | 0x0E | 0x31 | 0x3F => Err(Gp),
            register => self.register(register, now_ns).map(u64::from).ok_or(Gp),
        }
    }

    /// WRMSR of an x2APIC register.
    pub fn msr_write(&mut self, msr: u32, value: u64, now_ns: u64) -> Result<Option<Signal>, Gp> {
        if !self.is_x2apic() {
            return Err(Gp);
        }
        let register = msr.wrapping_sub(0x800);
        if register == 0x30 {
            self.icr = value & !(1 << 12);
            return Ok(self.send((value >> 32) as u32));
        }
        let low = u32::try_from(value).map_err(|_| Gp)?;
        match register {
            0x0B if low == 0 => Ok(self.end_of_interrupt()),
            0x28 if low == 0 => {
                self.latch_errors();
                Ok(None)
            }
            0x3F if low <= 0xFF => {
                self.accept(low as u8, Trigger::Edge);
                Ok(None)
            }
            0x0B | 0x28 | 0x3F => Err(Gp),
            _ => self
                .set_register(register, low, now_ns)
                .then_some(None)
                .ok_or(Gp),
        }
    }

    // Registers that both interfaces share, numbered as the MSRs are.

    fn register(&mut self, register: u32, now_ns: u64) -> Option<u32> {
        let value = match register {
            0x03 => VERSION_REGISTER,
            0x08 => u32::from(self.tpr),
            0x0A => u32::from(self.ppr()),
            0x0F => self.svr,
            0x10..=0x17 => self.isr.word(register - 0x10),
            0x18..=0x1F => self.tmr.word(register - 0x18),
            0x20..=0x27 => self.irr.word(register - 0x20),
            0x28 => self.esr,
            0x32..=0x37 => self.lvt[(register - 0x32) as usize],
            0x38 => self.timer.initial_count(),
            0x39 => self.timer.current_count(now_ns),
            0x3E => self.timer.divide_configuration(),
            _ => return None,
        };
        Some(value)
    }

    /// False if there is no such writable register.
    fn set_register(&mut self, register: u32, value: u32, now_ns: u64) -> bool {
        match register {
            0x08 => self.tpr = value as u8,
            0x0F => {
                self.svr = value & 0x1FF;
                if self.svr & SVR_ENABLED == 0 {
                    self.lvt.iter_mut().for_each(|entry| *entry |= LVT_MASKED);
                }
            }
            0x32..=0x37 => self.set_lvt((register - 0x32) as usize, value),
            0x38 if self.timer_mode() != Mode::TscDeadline => {
                self.timer
                    .set_initial_count(value, self.timer_mode(), now_ns);
            }
            // "In TSC-deadline mode, writes to the initial-count register are ignored" (11.5.4.1).
            0x38 => {}
            0x3E => self.timer.set_divide_configuration(value, now_ns),
            _ => return false,
        }
        true
    }

    fn set_lvt(&mut self, entry: usize, value: u32) {
        let masked = if self.is_software_enabled() {
            0
        } else {
            LVT_MASKED
        };
        self.lvt[entry] = value & LVT_WRITABLE[entry] | masked;
        if entry == LVT_TIMER {
            self.timer.set_mode(Mode::from_lvt(value));
        }
    }

    fn end_of_interrupt(&mut self) -> Option<Signal> {
        let vector = self.isr.highest()?;
        self.isr.clear(vector);
        self.tmr.is_set(vector).then_some(Signal::Eoi(vector))
    }

    /// Sends what the ICR holds; `id` is its destination field in the width of the mode.
    fn send(&mut self, id: u32) -> Option<Signal> {
        let low = self.icr as u32;
        let (vector, delivery) = (low as u8, Delivery::from_bits(low >> 8));
        let level_assert = low & 1 << 14 != 0;
        let trigger = if low & 1 << 15 != 0 {
            Trigger::Level
        } else {
            Trigger::Edge
        };
        if delivery == Delivery::Init && trigger == Trigger::Level && !level_assert {
            // The INIT level de-assert of old multiprocessor start-up only synchronised arbitration ids.
            return None;
        }
        let carries_vector = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
        if carries_vector && vector < 16 {
            self.error(ESR_SEND_ILLEGAL);
            return None;
        }
        let destination = match low >> 18 & 3 {
            0 if low & 1 << 11 != 0 => Destination::Logical(id),
            0 => Destination::Physical(id),
            1 => {
                if carries_vector {
                    self.accept(vector, Trigger::Edge);
                }
                return None;
            }
            2 => Destination::All,
            _ => Destination::AllButSelf,
        };
        // An inter-processor interrupt is an edge whatever its trigger bit says (11.6.1).
        Some(Signal::Ipi(Message {
            vector,
            delivery,
            destination,
            trigger: Trigger::Edge,
        }))
    }

    fn error(&mut self, bit: u32) {
        let first = self.errors & bit == 0;
        self.errors |= bit;
        let entry = self.lvt[LVT_ERROR];
        // An illegal vector in the error entry itself would raise the same error again: once is enough.
        if first && entry & LVT_MASKED == 0 && entry as u8 >= 16 {
            self.accept(entry as u8, Trigger::Edge);
        }
    }

    fn latch_errors(&mut self) {
        self.esr = std::mem::take(&mut self.errors);
    }

    pub fn save(&self) -> Section {
        Section::of(KIND, VERSION, self)
    }

    pub fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: Lapic = section.state(KIND, VERSION)?;
        if state.id != self.id {
            return Err(
                section.malformed(format!("APIC id {} where {} belongs", state.id, self.id))
            );
        }
        *self = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
