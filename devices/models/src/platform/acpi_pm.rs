//! ACPI power management as a PIIX4 has it: PM1a, the PM timer, GPE0, the SMI command port and the reset control register.
//!
//! Sources: ACPI 6.4, 4.8.3 (fixed hardware registers); Intel 82371AB datasheet (290562), 7.2 and 8.6; reset control register
//! 0xCF9: 82371FB datasheet, 2.5.4.
//!
//! The power button comes in as an input. Without system management mode the SMI command port does what firmware's handler
//! would: it turns ACPI mode on and off at once.
//!
//! Not modelled: sleep states other than S5, processor power states, SMBus, wake events, the real-time clock's alarm in PM1.
//!
//! Invariant: line 0, the SCI, is high exactly while an enabled event is set in ACPI mode.

use device_core::{
    Access, Attach, Cx, Input, Kind, LoadError, Manifest, Model, Ports, PowerEvent, Section, Space,
    Window,
};
use serde::{Deserialize, Serialize};

use super::{ticks_at, time_of_tick};
use crate::pin::Pin;

const KIND: &str = "acpi-pm";
const VERSION: u16 = 1;

pub const SMI_COMMAND_PORT: u16 = 0xB2;
/// What to write to the SMI command port to enter and to leave ACPI mode.
pub const ACPI_ENABLE: u8 = 0xF1;
pub const ACPI_DISABLE: u8 = 0xF0;
/// The sleep type that, written to PM1 control with sleep enable, turns the machine off.
pub const S5_SLEEP_TYPE: u8 = 0;
pub const RESET_PORT: u16 = 0xCF9;
/// What to write to the reset port for a full reset.
pub const RESET_VALUE: u8 = 0x0E;

/// 3.579545 MHz = 315/88 MHz.
const TICKS: u64 = 63;
const TICKS_NS: u64 = 17_600;
/// The timer has 24 bits, and an event whenever the highest of them changes.
const TIMER_BITS: u64 = 24;
const TIMER_HALF: u64 = 1 << (TIMER_BITS - 1);

const REGION_REGISTERS: u16 = 0;
const REGION_SMI: u16 = 1;
const TIMER_OVERFLOW: u16 = 0;
const LINE_SCI: u16 = 0;

const EVENT_TIMER: u16 = 1 << 0;
const EVENT_POWER_BUTTON: u16 = 1 << 8;
/// Timer, global lock, power button, sleep button, RTC.
const EVENTS: u16 = 0x0721;
const CONTROL_SCI: u16 = 1;
const CONTROL_SLEEP: u16 = 1 << 13;
/// SCI enable, bus master reload, sleep type.
const CONTROL_KEPT: u16 = 0x1C03;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// PM1 status but for the timer's bit, which is computed.
    status: u16,
    enable: u16,
    control: u16,
    gpe_status: u16,
    gpe_enable: u16,
    smi: [u8; 2],
    reset: u8,
    /// Changes of the timer's highest bit up to the last time that its status was cleared.
    overflows_seen: u64,
    armed: bool,
    sci: Pin,
}

/// 64 ports at a base of the machine's choice, the SMI command port and the reset control register. Line 0 is the SCI.
#[derive(Clone, Debug)]
pub struct AcpiPm {
    base: u16,
    state: State,
}

impl AcpiPm {
    pub fn new(base: u16) -> AcpiPm {
        AcpiPm {
            base,
            state: State::default(),
        }
    }

    /// PM1 status and enable are at offset 0 and 2, PM1 control at 4, the timer at 8, GPE0 status and enable at 0xC and 0xE.
    fn read(&self, offset: u64, now_ns: u64) -> u8 {
        let s = &self.state;
        let timer = ticks_at(now_ns, TICKS, TICKS_NS) & ((1 << TIMER_BITS) - 1);
        let word = match offset & !1 {
            0x0 => self.status(now_ns),
            0x2 => s.enable,
            0x4 => s.control,
            0x8 => timer as u16,
            0xA => (timer >> 16) as u16,
            0xC => s.gpe_status,
            0xE => s.gpe_enable,
            _ => 0,
        };
        (word >> (8 * (offset & 1))) as u8
    }

    fn write(&mut self, offset: u64, value: u8, cx: &mut Cx<'_>) {
        let shift = 8 * (offset & 1);
        let (bits, mask) = (u16::from(value) << shift, 0xFF << shift);
        let s = &mut self.state;
        match offset & !1 {
            0x0 => {
                s.status &= !bits;
                if bits & EVENT_TIMER != 0 {
                    s.overflows_seen = overflows(cx.now_ns);
                }
            }
            0x2 => s.enable = s.enable & !mask | bits & mask & EVENTS,
            0x4 => {
                s.control = s.control & !mask | bits & mask & CONTROL_KEPT;
                if bits & CONTROL_SLEEP != 0 && s.control >> 10 & 7 == u16::from(S5_SLEEP_TYPE) {
                    cx.effects.power(PowerEvent::Off);
                }
            }
            0xC => s.gpe_status &= !bits,
            0xE => s.gpe_enable = s.gpe_enable & !mask | bits & mask,
            _ => {}
        }
    }

    fn status(&self, now_ns: u64) -> u16 {
        let overflowed = overflows(now_ns) != self.state.overflows_seen;
        self.state.status | if overflowed { EVENT_TIMER } else { 0 }
    }

    fn write_smi(&mut self, offset: u64, value: u8) {
        self.state.smi[(offset & 1) as usize] = value;
        match (offset, value) {
            (0, ACPI_ENABLE) => self.state.control |= CONTROL_SCI,
            (0, ACPI_DISABLE) => self.state.control &= !CONTROL_SCI,
            _ => {}
        }
    }

    /// Bit 2 resets the machine when it rises. Bit 1 chooses between the CPU and the whole; here both are the whole.
    fn write_reset(&mut self, value: u8, cx: &mut Cx<'_>) {
        if value & !self.state.reset & 4 != 0 {
            cx.effects.power(PowerEvent::Reset);
        }
        self.state.reset = value & 0x0E;
    }

    /// The SCI follows the events, and the timer is armed while its next overflow would be one.
    fn update(&mut self, cx: &mut Cx<'_>) {
        let status = self.status(cx.now_ns);
        let s = &mut self.state;
        let event = status & s.enable != 0 || s.gpe_status & s.gpe_enable != 0;
        s.sci
            .set(LINE_SCI, event && s.control & CONTROL_SCI != 0, cx);
        let wanted = s.enable & EVENT_TIMER != 0 && status & EVENT_TIMER == 0;
        if wanted && !s.armed {
            let at = (overflows(cx.now_ns) + 1) * TIMER_HALF;
            cx.effects
                .set_timer(TIMER_OVERFLOW, time_of_tick(at, TICKS, TICKS_NS));
        } else if !wanted && s.armed {
            cx.effects.cancel_timer(TIMER_OVERFLOW);
        }
        s.armed = wanted;
    }
}

/// How often the timer's highest bit has changed.
fn overflows(now_ns: u64) -> u64 {
    ticks_at(now_ns, TICKS, TICKS_NS) / TIMER_HALF
}

impl Model for AcpiPm {
    fn manifest(&self) -> Manifest {
        let window = |base: u16, len| Window {
            space: Space::Port,
            base: u64::from(base),
            len,
            granule: 1,
        };
        Manifest {
            kind: KIND.into(),
            attach: Attach::Fixed(vec![
                window(self.base, 64),
                window(SMI_COMMAND_PORT, 2),
                window(RESET_PORT, 1),
            ]),
            lines: 1,
            timers: 1,
            ports: Ports::default(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        access.by_granule(1, |a| match (a.region, a.kind) {
            (REGION_REGISTERS, Kind::Read) => u64::from(self.read(a.offset, cx.now_ns)),
            (REGION_SMI, Kind::Read) => u64::from(self.state.smi[(a.offset & 1) as usize]),
            (_, Kind::Read) => u64::from(self.state.reset),
            (region, Kind::Write(value)) => {
                match region {
                    REGION_REGISTERS => self.write(a.offset, value as u8, cx),
                    REGION_SMI => self.write_smi(a.offset, value as u8),
                    _ => self.write_reset(value as u8, cx),
                }
                self.update(cx);
                0
            }
        })
    }

    fn timer(&mut self, _timer: u16, cx: &mut Cx<'_>) {
        self.state.armed = false;
        self.update(cx);
    }

    fn input(&mut self, input: &Input<'_>, cx: &mut Cx<'_>) -> usize {
        let Input::PowerButton = input else { return 0 };
        self.state.status |= EVENT_POWER_BUTTON;
        self.update(cx);
        1
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.state = State {
            overflows_seen: overflows(cx.now_ns),
            ..State::default()
        };
    }

    fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.state = section.state(KIND, VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::conformance;
    use device_core::rig::Rig;

    fn rig() -> Rig {
        Rig::new(Box::new(AcpiPm::new(0x600)))
    }

    #[test]
    fn it_conforms() {
        for seed in 0..8 {
            conformance::check(&|| Box::new(AcpiPm::new(0x600)), seed, 2000);
        }
    }

    #[test]
    fn the_timer_runs_at_its_rate_and_wraps_at_24_bits() {
        let mut rig = rig();
        rig.advance(1_000_000_000);
        assert_eq!(rig.read(0, 8, 4), 3_579_545);
        rig.advance(4_000_000_000);
        assert_eq!(rig.read(0, 8, 4), 17_897_727 - (1 << 24));
    }

    #[test]
    fn acpi_mode_is_entered_through_the_smi_port() {
        let mut rig = rig();
        assert_eq!(rig.read(0, 4, 2), 0);
        rig.write(1, 0, 1, u64::from(ACPI_ENABLE));
        assert_eq!(rig.read(0, 4, 2), 1);
        rig.write(1, 0, 1, u64::from(ACPI_DISABLE));
        assert_eq!(rig.read(0, 4, 2), 0);
    }

    #[test]
    fn the_power_button_is_an_event_until_it_is_cleared() {
        let mut rig = rig();
        rig.write(1, 0, 1, u64::from(ACPI_ENABLE));
        rig.input(Input::PowerButton);
        assert_eq!((rig.read(0, 0, 2), rig.lines[0]), (0x100, false));
        rig.write(0, 2, 2, 0x120);
        assert!(rig.lines[0]);
        rig.write(0, 0, 2, 0x100);
        assert_eq!((rig.read(0, 0, 2), rig.lines[0]), (0, false));
    }

    #[test]
    fn the_timers_event_comes_when_its_highest_bit_changes() {
        let mut rig = rig();
        rig.write(1, 0, 1, u64::from(ACPI_ENABLE));
        rig.write(0, 2, 2, 1);
        let half_ns = time_of_tick(TIMER_HALF, TICKS, TICKS_NS);
        for _ in 0..3 {
            rig.advance(half_ns - rig.now_ns % half_ns - 10_000);
            assert!(!rig.lines[0]);
            rig.advance(20_000);
            assert!(rig.lines[0]);
            rig.write(0, 0, 2, 1);
            assert!(!rig.lines[0]);
        }
    }

    #[test]
    fn soft_off_and_reset_are_power_events() {
        let mut rig = rig();
        rig.write(0, 4, 2, 0x2001);
        rig.write(2, 0, 1, 0x02);
        assert_eq!(rig.power, [PowerEvent::Off]);
        rig.write(2, 0, 1, u64::from(RESET_VALUE));
        rig.write(2, 0, 1, 0x06);
        assert_eq!(
            rig.power,
            [PowerEvent::Off, PowerEvent::Reset],
            "only when the bit rises"
        );
        rig.write(0, 4, 2, 0x3401);
        assert_eq!(rig.power.len(), 2, "no other sleep type turns it off");
    }
}
