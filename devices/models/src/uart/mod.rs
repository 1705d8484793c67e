//! The 16550A serial port.
//!
//! Source: National Semiconductor PC16550D datasheet (June 1995).
//!
//! The transmitter takes no time: a byte written is on the line at once and the holding register is empty again (a constant of
//! the machine version; the divisor matters for the receiver's time-out alone). The line is a null modem: carrier, data set and
//! clear-to-send are always on. The far end honours RTS: what it sends waits there until the guest has opened the port and the
//! receiver has room, so nothing is overrun, and nothing that is typed during a boot is lost to a driver that clears its FIFO.
//!
//! Not modelled: parity, framing and break conditions, overruns from outside, ring indicator, DMA modes (the FCR bit is kept).
//!
//! Invariants: the interrupt line is a function of the registers and OUT2; the FIFO holds at most 16 bytes, 1 without FIFO mode.

use std::collections::VecDeque;

use device_core::{
    Access, Attach, Cx, Input, Kind, LoadError, Manifest, Model, Ports, Request, Section, Space,
    Window,
};
use serde::{Deserialize, Serialize};

use crate::pin::Pin;

const KIND: &str = "uart16550";
const VERSION: u16 = 1;

const FIFO_LEN: usize = 16;
const TIMER_TIMEOUT: u16 = 0;
const LINE_INTERRUPT: u16 = 0;
/// The crystal of a PC's serial port, by the 16 samples of a bit.
const BAUD_BASE: u64 = 115_200;

const IER_RECEIVED: u8 = 1;
const IER_EMPTY: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM: u8 = 0x00;
const IIR_EMPTY: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0C;
const IIR_FIFO: u8 = 0xC0;

const FCR_ENABLE: u8 = 1;
const FCR_CLEAR_RECEIVER: u8 = 2;
const LCR_DLAB: u8 = 0x80;

const MCR_RTS: u8 = 2;
const MCR_OUT2: u8 = 8;
const MCR_LOOP: u8 = 0x10;

const LSR_READY: u8 = 1;
const LSR_OVERRUN: u8 = 2;
const LSR_EMPTY: u8 = 0x60;

/// Clear to send, data set ready, carrier detect.
const MSR_CONNECTED: u8 = 0xB0;
const MSR_RING: u8 = 0x40;
const MSR_RING_ENDED: u8 = 0x04;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    received: VecDeque<u8>,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    msr: u8,
    scratch: u8,
    divisor: u16,
    overrun: bool,
    /// The holding register became empty, and nobody read that in IIR.
    empty_pending: bool,
    /// Bytes below the trigger level have waited for four characters' time.
    timed_out: bool,
    /// Input was turned away: the seat is told when there is room.
    turned_away: bool,
    interrupt: Pin,
}

impl State {
    fn new() -> State {
        State {
            received: VecDeque::new(),
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            msr: MSR_CONNECTED,
            scratch: 0,
            divisor: 1,
            overrun: false,
            empty_pending: false,
            timed_out: false,
            turned_away: false,
            interrupt: Pin::default(),
        }
    }

    fn is_looped(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    fn has_fifo(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    /// Whether the far end may send: the port asks for it and is not looped to itself.
    fn is_listening(&self) -> bool {
        self.mcr & (MCR_RTS | MCR_LOOP) == MCR_RTS
    }

    fn room(&self) -> usize {
        let capacity = if self.has_fifo() { FIFO_LEN } else { 1 };
        capacity.saturating_sub(self.received.len())
    }

    fn trigger(&self) -> usize {
        if self.has_fifo() {
            [1, 4, 8, 14][usize::from(self.fcr >> 6)]
        } else {
            1
        }
    }

    /// The cause of highest priority, as IIR shows it.
    fn cause(&self) -> u8 {
        let on = |bit: u8| self.ier & bit != 0;
        if on(IER_LINE) && self.overrun {
            IIR_LINE
        } else if on(IER_RECEIVED) && self.received.len() >= self.trigger() {
            IIR_RECEIVED
        } else if on(IER_RECEIVED) && self.timed_out {
            IIR_TIMEOUT
        } else if on(IER_EMPTY) && self.empty_pending {
            IIR_EMPTY
        } else if on(IER_MODEM) && self.msr & 0x0F != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    /// Four characters of start bit, data, parity and stop.
    fn timeout_ns(&self) -> u64 {
        let bits = 1
            + 5
            + u64::from(self.lcr & 3)
            + u64::from(self.lcr >> 3 & 1)
            + 1
            + u64::from(self.lcr >> 2 & 1);
        let divisor = if self.divisor == 0 {
            0x1_0000
        } else {
            u64::from(self.divisor)
        };
        4 * bits * divisor * 1_000_000_000 / BAUD_BASE
    }
}

/// A 16550A at a port, with line 0 for its interrupt.
#[derive(Clone, Debug)]
pub struct Uart {
    base: u16,
    state: State,
}

impl Uart {
    /// At eight ports from `base`: 0x3F8 for the first serial port of a PC.
    pub fn new(base: u16) -> Uart {
        Uart {
            base,
            state: State::new(),
        }
    }

    fn read(&mut self, register: u64, cx: &mut Cx<'_>) -> u8 {
        let s = &mut self.state;
        match register {
            0 if s.lcr & LCR_DLAB != 0 => s.divisor as u8,
            1 if s.lcr & LCR_DLAB != 0 => (s.divisor >> 8) as u8,
            0 => self.take_byte(cx),
            1 => s.ier,
            2 => {
                let cause = s.cause();
                if cause == IIR_EMPTY {
                    s.empty_pending = false;
                }
                cause | if s.has_fifo() { IIR_FIFO } else { 0 }
            }
            3 => s.lcr,
            4 => s.mcr,
            5 => {
                let ready = if s.received.is_empty() { 0 } else { LSR_READY };
                let overrun = if std::mem::take(&mut s.overrun) {
                    LSR_OVERRUN
                } else {
                    0
                };
                LSR_EMPTY | ready | overrun
            }
            6 => {
                let msr = s.msr;
                s.msr &= 0xF0;
                msr
            }
            _ => s.scratch,
        }
    }

    fn write(&mut self, register: u64, value: u8, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        match register {
            0 if s.lcr & LCR_DLAB != 0 => s.divisor = s.divisor & 0xFF00 | u16::from(value),
            1 if s.lcr & LCR_DLAB != 0 => s.divisor = s.divisor & 0x00FF | u16::from(value) << 8,
            0 => self.transmit(value, cx),
            1 => {
                // Enabling the interrupt of a holding register that is empty raises it, which drivers use to start up.
                s.empty_pending |= value & !s.ier & IER_EMPTY != 0;
                s.ier = value & 0x0F;
            }
            2 => self.set_fifo_control(value, cx),
            3 => s.lcr = value,
            4 => self.set_modem_control(value, cx),
            7 => s.scratch = value,
            _ => {}
        }
    }

    fn transmit(&mut self, byte: u8, cx: &mut Cx<'_>) {
        if self.state.is_looped() {
            self.loop_back(byte, cx);
        } else {
            cx.effects.post(Request::CharOut(&[byte]));
        }
        self.state.empty_pending = true;
    }

    fn loop_back(&mut self, byte: u8, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        if s.room() == 0 {
            s.overrun = true;
            if s.has_fifo() {
                return;
            }
            s.received.clear();
        }
        s.received.push_back(byte);
        self.restart_timeout(cx);
    }

    fn take_byte(&mut self, cx: &mut Cx<'_>) -> u8 {
        let Some(byte) = self.state.received.pop_front() else {
            return 0;
        };
        self.state.timed_out = false;
        self.restart_timeout(cx);
        self.offer_room(cx);
        byte
    }

    /// Each byte that comes or goes starts the receiver's time-out anew, if there is something to wait for.
    fn restart_timeout(&mut self, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        if s.received.is_empty() {
            s.timed_out = false;
            cx.effects.cancel_timer(TIMER_TIMEOUT);
        } else if s.has_fifo() {
            cx.effects
                .set_timer(TIMER_TIMEOUT, cx.now_ns.saturating_add(s.timeout_ns()));
        }
    }

    /// Tells the seat once the receiver is empty, so that it can fill a whole FIFO at a time.
    fn offer_room(&mut self, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        if s.turned_away && s.received.is_empty() && s.is_listening() {
            s.turned_away = false;
            cx.effects.input_ready();
        }
    }

    fn set_fifo_control(&mut self, value: u8, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        let switched = (value ^ s.fcr) & FCR_ENABLE != 0;
        // Without bit 0 no other bit is programmed.
        s.fcr = if value & FCR_ENABLE != 0 {
            value & 0xC9
        } else {
            0
        };
        if switched || (s.has_fifo() && value & FCR_CLEAR_RECEIVER != 0) {
            s.received.clear();
            self.restart_timeout(cx);
            self.offer_room(cx);
        }
    }

    fn set_modem_control(&mut self, value: u8, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        s.mcr = value & 0x1F;
        let lines = if s.is_looped() {
            // DTR, RTS, OUT1 and OUT2 come back as DSR, CTS, RI and DCD.
            (s.mcr & 1) << 5 | (s.mcr & 2) << 3 | (s.mcr & 4) << 4 | (s.mcr & 8) << 4
        } else {
            MSR_CONNECTED
        };
        let changed = (s.msr ^ lines) & 0xF0;
        let mut delta = changed >> 4;
        if changed & MSR_RING != 0 && lines & MSR_RING != 0 {
            // Only the end of a ring counts.
            delta &= !MSR_RING_ENDED;
        }
        s.msr = lines | s.msr & 0x0F | delta;
        self.offer_room(cx);
    }

    /// OUT2 connects the chip's interrupt to the bus, and loop-back disconnects OUT2.
    fn update_line(&mut self, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        let connected = s.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
        let level = connected && s.cause() != IIR_NONE;
        s.interrupt.set(LINE_INTERRUPT, level, cx);
    }
}

impl Model for Uart {
    fn manifest(&self) -> Manifest {
        let window = Window {
            space: Space::Port,
            base: u64::from(self.base),
            len: 8,
            granule: 1,
        };
        Manifest {
            kind: KIND.into(),
            attach: Attach::Fixed(vec![window]),
            lines: 1,
            timers: 1,
            ports: Ports::default(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        access.by_granule(1, |a| {
            let register = a.offset & 7;
            let value = match a.kind {
                Kind::Read => self.read(register, cx),
                Kind::Write(value) => {
                    self.write(register, value as u8, cx);
                    0
                }
            };
            self.update_line(cx);
            u64::from(value)
        })
    }

    fn timer(&mut self, _timer: u16, cx: &mut Cx<'_>) {
        self.state.timed_out = self.state.has_fifo() && !self.state.received.is_empty();
        self.update_line(cx);
    }

    fn input(&mut self, input: &Input<'_>, cx: &mut Cx<'_>) -> usize {
        let Input::Char(bytes) = input else { return 0 };
        let s = &mut self.state;
        let taken = if s.is_listening() {
            bytes.len().min(s.room())
        } else {
            0
        };
        s.received.extend(&bytes[..taken]);
        s.turned_away |= taken < bytes.len();
        if taken > 0 {
            self.restart_timeout(cx);
        }
        self.update_line(cx);
        taken
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        let turned_away = self.state.turned_away;
        self.state = State {
            turned_away,
            ..State::new()
        };
    }

    fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: State = section.state(KIND, VERSION)?;
        if state.received.len() > FIFO_LEN {
            return Err(section.malformed("more than 16 bytes in the FIFO"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
