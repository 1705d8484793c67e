//! The MC146818 real-time clock with 128 bytes of CMOS memory.
//!
//! Source: Motorola MC146818A datasheet; the century byte at 0x32 and the memory sizes as PC firmware leaves them (IBM AT
//! Technical Reference; 0x34 and 0x5B as in SeaBIOS and Bochs).
//!
//! The time is that of the machine's start plus virtual time. Flags are worked out when somebody looks: a timer is armed only
//! for an interrupt that is enabled and not yet pending.
//!
//! Not modelled: divider reset (the divider bits are kept), the square-wave pin, daylight saving, times that no calendar has
//! (they are normalised when the clock runs on), battery failure.
//!
//! Invariant: between two calls nothing changes but what follows from the clock: line 0 is high exactly while register C has an
//! enabled flag.

use device_core::{
    Access, Attach, Cx, Kind, LoadError, Manifest, Model, Ports, Section, Space, Window,
};
use serde::{Deserialize, Serialize};

use super::{ticks_at, time_of_tick};
use crate::pin::Pin;

mod calendar;
use calendar::{Alarm, Date, Format};

const KIND: &str = "mc146818";
const VERSION: u16 = 1;

const NVRAM_LEN: usize = 128;
const SECOND_NS: u64 = 1_000_000_000;
/// An update is announced this long before it happens.
const UPDATE_NS: u64 = 244_000;
const CRYSTAL_HZ: u64 = 32_768;

const REGISTER_A: usize = 0x0A;
const REGISTER_B: usize = 0x0B;
const REGISTER_C: usize = 0x0C;
const REGISTER_D: usize = 0x0D;
const CENTURY: usize = 0x32;

const A_UPDATING: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_24_HOURS: u8 = 0x02;
const B_BINARY: u8 = 0x04;
/// Flags in C, and their enables in B, are the same bits.
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE: u8 = 0x10;
const C_REQUEST: u8 = 0x80;
const D_VALID: u8 = 0x80;

const TIMER_PERIODIC: u16 = 0;
const TIMER_SECONDS: u16 = 1;
const LINE_IRQ8: u16 = 0;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// All 128 bytes. Times are here only while SET holds the clock.
    bytes: Vec<u8>,
    index: u8,
    /// The clock's seconds since 1970 at virtual time `base_ns`, which is where a second begins.
    base_s: i64,
    base_ns: u64,
    /// Up to when the flags in register C are worked out.
    settled_ns: u64,
    armed: [Option<u64>; 2],
    irq8: Pin,
}

/// The clock at ports 0x70 and 0x71. Line 0 is IRQ 8.
#[derive(Clone, Debug)]
pub struct Rtc {
    state: State,
}

impl Rtc {
    /// A clock that shows `start_s` (seconds since 1970, UTC) at virtual time 0, in a machine with this much RAM.
    pub fn new(start_s: i64, ram_below_4g: u64, ram_above_4g: u64) -> Rtc {
        let nvram = firmware_bytes(ram_below_4g, ram_above_4g);
        // Times that no 4-digit year shows are of no use, and this keeps all arithmetic far from its limits.
        let start_s = start_s.clamp(0, calendar::LAST_SECOND);
        let state = State {
            bytes: nvram.to_vec(),
            index: 0,
            base_s: start_s,
            base_ns: 0,
            settled_ns: 0,
            armed: [None; 2],
            irq8: Pin::default(),
        };
        Rtc { state }
    }

    fn format(&self) -> Format {
        let b = self.state.bytes[REGISTER_B];
        Format {
            binary: b & B_BINARY != 0,
            hours_24: b & B_24_HOURS != 0,
        }
    }

    fn is_set(&self) -> bool {
        self.state.bytes[REGISTER_B] & B_SET != 0
    }

    /// Seconds since 1970, and nanoseconds into the second.
    fn clock(&self, now_ns: u64) -> (i64, u64) {
        let passed = now_ns.saturating_sub(self.state.base_ns);
        (
            self.state.base_s + (passed / SECOND_NS) as i64,
            passed % SECOND_NS,
        )
    }

    // Registers.

    fn read(&mut self, now_ns: u64) -> u8 {
        let index = usize::from(self.state.index);
        match index {
            REGISTER_A => {
                let updating = !self.is_set() && self.clock(now_ns).1 >= SECOND_NS - UPDATE_NS;
                self.state.bytes[REGISTER_A] | if updating { A_UPDATING } else { 0 }
            }
            REGISTER_C => {
                let flags = self.state.bytes[REGISTER_C];
                let request = if flags & self.state.bytes[REGISTER_B] != 0 {
                    C_REQUEST
                } else {
                    0
                };
                self.state.bytes[REGISTER_C] = 0;
                flags | request
            }
            REGISTER_D => D_VALID,
            _ if calendar::is_time(index) && !self.is_set() => {
                let date = Date::from_seconds(self.clock(now_ns).0);
                date.register(index, self.format())
            }
            _ => self.state.bytes[index],
        }
    }

    fn write(&mut self, value: u8, now_ns: u64) {
        let index = usize::from(self.state.index);
        match index {
            REGISTER_A => self.state.bytes[REGISTER_A] = value & !A_UPDATING,
            REGISTER_B => self.write_b(value, now_ns),
            REGISTER_C | REGISTER_D => {}
            _ if calendar::is_time(index) && !self.is_set() => {
                self.hold(now_ns);
                self.state.bytes[index] = value;
                self.release(now_ns, true);
            }
            _ => self.state.bytes[index] = value,
        }
    }

    fn write_b(&mut self, value: u8, now_ns: u64) {
        let was_set = self.is_set();
        if value & B_SET != 0 && !was_set {
            self.hold(now_ns);
        }
        // Setting the clock cancels the update interrupt.
        let cancelled = if value & B_SET != 0 { UPDATE } else { 0 };
        self.state.bytes[REGISTER_B] = value & !cancelled;
        if was_set && value & B_SET == 0 {
            self.release(now_ns, false);
        }
    }

    /// Puts the time into the registers, where it stays while SET holds it.
    fn hold(&mut self, now_ns: u64) {
        let (date, format) = (Date::from_seconds(self.clock(now_ns).0), self.format());
        for index in calendar::REGISTERS {
            self.state.bytes[index] = date.register(index, format);
        }
    }

    /// Lets the clock run on from the registers. A write to a running clock keeps the place within the second.
    fn release(&mut self, now_ns: u64, keep_phase: bool) {
        let phase = if keep_phase { self.clock(now_ns).1 } else { 0 };
        let date = Date::from_registers(&self.state.bytes, self.format());
        self.state.base_s = date.to_seconds();
        self.state.base_ns = now_ns - phase;
    }

    // Flags and interrupts.

    /// Works out which flags were set since the last look.
    fn settle(&mut self, now_ns: u64) {
        let from = std::mem::replace(&mut self.state.settled_ns, now_ns);
        for flag in [PERIODIC, UPDATE, ALARM] {
            let raised = self.next(flag, from).is_some_and(|at| at <= now_ns);
            self.state.bytes[REGISTER_C] |= if raised { flag } else { 0 };
        }
    }

    /// When a flag is set next, after `after_ns`.
    fn next(&self, flag: u8, after_ns: u64) -> Option<u64> {
        if flag == PERIODIC {
            let period = self.period_cycles()?;
            let cycle = ticks_at(after_ns, CRYSTAL_HZ, SECOND_NS);
            return Some(time_of_tick(
                (cycle / period + 1) * period,
                CRYSTAL_HZ,
                SECOND_NS,
            ));
        }
        if self.is_set() {
            return None;
        }
        let (second, _) = self.clock(after_ns);
        let at_s = match flag {
            UPDATE => second + 1,
            _ => Alarm::from_registers(&self.state.bytes, self.format()).next_after(second)?,
        };
        let passed_s = u64::try_from(at_s - self.state.base_s).ok()?;
        Some(
            passed_s
                .saturating_mul(SECOND_NS)
                .saturating_add(self.state.base_ns),
        )
    }

    /// Cycles of the crystal between two periodic flags.
    fn period_cycles(&self) -> Option<u64> {
        match self.state.bytes[REGISTER_A] & 0x0F {
            0 => None,
            // With this time base the two fastest rates are those of 8 and 9.
            rate @ (1 | 2) => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Sets the line, and arms a timer for each enabled flag that is not set.
    fn update(&mut self, cx: &mut Cx<'_>) {
        let (flags, enabled) = (self.state.bytes[REGISTER_C], self.state.bytes[REGISTER_B]);
        self.state.irq8.set(LINE_IRQ8, flags & enabled != 0, cx);
        let due = |flag: u8| {
            if enabled & !flags & flag != 0 {
                self.next(flag, cx.now_ns)
            } else {
                None
            }
        };
        let seconds = due(UPDATE).into_iter().chain(due(ALARM)).min();
        for (timer, at) in [(TIMER_PERIODIC, due(PERIODIC)), (TIMER_SECONDS, seconds)] {
            let armed = &mut self.state.armed[usize::from(timer)];
            if *armed != at {
                *armed = at;
                match at {
                    Some(at_ns) => cx.effects.set_timer(timer, at_ns),
                    None => cx.effects.cancel_timer(timer),
                }
            }
        }
    }
}

/// What firmware leaves in CMOS memory: a valid clock in decimal and 24 hours, no floppy, an FPU, and the memory sizes.
fn firmware_bytes(ram_below_4g: u64, ram_above_4g: u64) -> [u8; NVRAM_LEN] {
    let mut bytes = [0; NVRAM_LEN];
    bytes[REGISTER_A] = 0x26;
    bytes[REGISTER_B] = B_24_HOURS;
    bytes[0x14] = 0x02;
    let mut put = |at: usize, value: u64, len: usize| {
        let limit = (1 << (8 * len)) - 1;
        bytes[at..at + len].copy_from_slice(&value.min(limit).to_le_bytes()[..len]);
    };
    let above_1m_kib = ram_below_4g.saturating_sub(1 << 20) >> 10;
    put(0x15, 640, 2);
    put(0x17, above_1m_kib, 2);
    put(0x30, above_1m_kib, 2);
    put(0x34, ram_below_4g.saturating_sub(16 << 20) >> 16, 2);
    put(0x5B, ram_above_4g >> 16, 3);
    bytes
}

impl Model for Rtc {
    fn manifest(&self) -> Manifest {
        let window = Window {
            space: Space::Port,
            base: 0x70,
            len: 2,
            granule: 1,
        };
        Manifest {
            kind: KIND.into(),
            attach: Attach::Fixed(vec![window]),
            lines: 1,
            timers: 2,
            ports: Ports::default(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        self.settle(cx.now_ns);
        access.by_granule(1, |a| match (a.offset & 1, a.kind) {
            // The index register is write-only in a PC; reading it back is harmless and tells software what it wrote.
            (0, Kind::Read) => u64::from(self.state.index),
            (0, Kind::Write(value)) => {
                // Bit 7 masks NMIs, of which there are none.
                self.state.index = value as u8 & 0x7F;
                0
            }
            (_, Kind::Read) => {
                let value = self.read(cx.now_ns);
                self.update(cx);
                u64::from(value)
            }
            (_, Kind::Write(value)) => {
                self.write(value as u8, cx.now_ns);
                self.update(cx);
                0
            }
        })
    }

    fn timer(&mut self, timer: u16, cx: &mut Cx<'_>) {
        if let Some(armed) = self.state.armed.get_mut(usize::from(timer)) {
            *armed = None;
        }
        self.settle(cx.now_ns);
        self.update(cx);
    }

    /// The clock and its memory have a battery; a reset clears interrupt enables and flags alone.
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        let s = &mut self.state;
        s.bytes[REGISTER_B] &= !(PERIODIC | ALARM | UPDATE);
        s.bytes[REGISTER_C] = 0;
        s.armed = [None; 2];
        s.irq8 = Pin::default();
    }

    fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: State = section.state(KIND, VERSION)?;
        let times = 0..=calendar::LAST_SECOND * 2;
        if state.bytes.len() != NVRAM_LEN
            || usize::from(state.index) >= NVRAM_LEN
            || !times.contains(&state.base_s)
        {
            return Err(section.malformed("an impossible clock"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
