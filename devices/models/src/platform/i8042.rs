//! The 8042 keyboard controller, with a keyboard that nobody types on, and port 0x92.
//!
//! Sources: Intel 8242 (PS/2 and EISA keyboard controller) datasheet; IBM PS/2 Hardware Interface Technical Reference, "Keyboard
//! and auxiliary device controller"; port 0x92: 82371FB datasheet, 2.5.5.
//!
//! It is here for what operating systems ask of it at start and at reset. There is no auxiliary port: its disable bit in the
//! command byte is stuck at one, which is how drivers find that out.
//!
//! Not modelled: key strokes, scan-code translation, timing of the keyboard's clock (an answer is in the output buffer at
//! once).
//!
//! Invariants: the A20 gate is as the output port's bit 1 says; line 0 (IRQ 1) is high exactly while the output buffer holds a byte of the keyboard and command byte bit 0 is set.

use std::collections::VecDeque;

use device_core::{
    Access, Attach, Cx, Kind, LoadError, Manifest, Model, Ports, PowerEvent, Section, Space, Window,
};
use serde::{Deserialize, Serialize};

use crate::pin::Pin;

const KIND: &str = "i8042";
const VERSION: u16 = 1;

const REGION_DATA: u16 = 0;
const REGION_COMMAND: u16 = 1;
const LINE_KEYBOARD: u16 = 0;
/// Answers that a driver does not fetch are lost beyond this.
const QUEUE_LEN: usize = 16;

const STATUS_OUTPUT_FULL: u8 = 0x01;
const STATUS_SYSTEM: u8 = 0x04;
const STATUS_COMMAND: u8 = 0x08;
const STATUS_UNLOCKED: u8 = 0x10;

const COMMAND_INTERRUPT: u8 = 0x01;
const COMMAND_SYSTEM: u8 = 0x04;
const COMMAND_KEYBOARD_OFF: u8 = 0x10;
const COMMAND_AUXILIARY_OFF: u8 = 0x20;

const OUTPUT_NO_RESET: u8 = 0x01;
const OUTPUT_A20: u8 = 0x02;

const ACK: u8 = 0xFA;

/// What the next byte at port 0x60 is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    #[default]
    Keyboard,
    CommandByte,
    OutputPort,
    /// To be put into the output buffer.
    Loop,
    /// For the auxiliary device, which is not there.
    Auxiliary,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Bytes for the host, and whether each is from the keyboard (and interrupts) or from the controller.
    queue: VecDeque<(u8, bool)>,
    /// What port 0x60 reads while nothing is in the queue: the byte before.
    last: u8,
    command_byte: u8,
    /// Whether the last write was to the command port.
    was_command: bool,
    expect: Expect,
    output_port: u8,
    /// The keyboard waits for this command's argument.
    keyboard_argument: Option<u8>,
    interrupt: Pin,
}

impl State {
    fn new() -> State {
        State {
            queue: VecDeque::new(),
            last: 0,
            command_byte: COMMAND_SYSTEM | COMMAND_AUXILIARY_OFF,
            was_command: false,
            expect: Expect::Keyboard,
            output_port: OUTPUT_NO_RESET | OUTPUT_A20,
            keyboard_argument: None,
            interrupt: Pin::default(),
        }
    }

    fn answer(&mut self, byte: u8, from_keyboard: bool) {
        if self.queue.len() < QUEUE_LEN {
            self.queue.push_back((byte, from_keyboard));
        }
    }
}

/// The controller at ports 0x60 and 0x64, and port 0x92. Line 0 is IRQ 1.
#[derive(Clone, Debug)]
pub struct I8042 {
    state: State,
}

impl Default for I8042 {
    fn default() -> I8042 {
        I8042::new()
    }
}

impl I8042 {
    pub fn new() -> I8042 {
        I8042 {
            state: State::new(),
        }
    }

    fn read(&mut self, region: u16, cx: &mut Cx<'_>) -> u8 {
        match region {
            REGION_DATA => self.take(cx),
            REGION_COMMAND => self.status(),
            _ => self.state.output_port & OUTPUT_A20,
        }
    }

    fn status(&self) -> u8 {
        let s = &self.state;
        let full = if s.queue.is_empty() {
            0
        } else {
            STATUS_OUTPUT_FULL
        };
        let command = if s.was_command { STATUS_COMMAND } else { 0 };
        full | command | STATUS_UNLOCKED | s.command_byte & STATUS_SYSTEM
    }

    fn take(&mut self, cx: &mut Cx<'_>) -> u8 {
        let s = &mut self.state;
        if let Some((byte, _)) = s.queue.pop_front() {
            s.last = byte;
            // Between two bytes the line falls, so that each is an edge.
            s.interrupt.set(LINE_KEYBOARD, false, cx);
        }
        s.last
    }

    fn write(&mut self, region: u16, value: u8, cx: &mut Cx<'_>) {
        match region {
            REGION_DATA => {
                self.state.was_command = false;
                self.data(value, cx);
            }
            REGION_COMMAND => {
                self.state.was_command = true;
                self.state.expect = Expect::Keyboard;
                self.command(value, cx);
            }
            _ => {
                if value & 1 != 0 {
                    cx.effects.power(PowerEvent::Reset);
                }
                let kept = self.state.output_port & !OUTPUT_A20;
                self.set_output_port(kept | value & OUTPUT_A20, cx);
            }
        }
    }

    fn set_output_port(&mut self, value: u8, cx: &mut Cx<'_>) {
        let changed = self.state.output_port ^ value;
        self.state.output_port = value;
        if changed & OUTPUT_A20 != 0 {
            cx.effects.a20(value & OUTPUT_A20 != 0);
        }
    }

    fn command(&mut self, command: u8, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        match command {
            0x20 => s.answer(s.command_byte, false),
            0x60 => s.expect = Expect::CommandByte,
            // The auxiliary port's test: its clock line is stuck low.
            0xA9 => s.answer(0x01, false),
            0xAA => s.answer(0x55, false),
            0xAB => s.answer(0x00, false),
            0xAD => s.command_byte |= COMMAND_KEYBOARD_OFF,
            0xAE => s.command_byte &= !COMMAND_KEYBOARD_OFF,
            // The input port: the keyboard is not locked.
            0xC0 => s.answer(0x80, false),
            0xD0 => s.answer(s.output_port, false),
            0xD1 => s.expect = Expect::OutputPort,
            0xD2 | 0xD3 => s.expect = Expect::Loop,
            0xD4 => s.expect = Expect::Auxiliary,
            0xDD => self.set_output_port(self.state.output_port & !OUTPUT_A20, cx),
            0xDF => self.set_output_port(self.state.output_port | OUTPUT_A20, cx),
            // Pulses the output lines whose bits are low; line 0 resets the machine.
            0xF0..=0xFF if command & 1 == 0 => cx.effects.power(PowerEvent::Reset),
            _ => {}
        }
    }

    fn data(&mut self, value: u8, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        match std::mem::take(&mut s.expect) {
            Expect::Keyboard => self.keyboard(value),
            Expect::CommandByte => s.command_byte = value | COMMAND_AUXILIARY_OFF,
            Expect::OutputPort => {
                if value & OUTPUT_NO_RESET == 0 {
                    cx.effects.power(PowerEvent::Reset);
                }
                self.set_output_port(value | OUTPUT_NO_RESET, cx);
            }
            Expect::Loop => s.answer(value, true),
            Expect::Auxiliary => {}
        }
    }

    /// A byte to the keyboard, which enables its port.
    fn keyboard(&mut self, value: u8) {
        let s = &mut self.state;
        s.command_byte &= !COMMAND_KEYBOARD_OFF;
        if let Some(command) = s.keyboard_argument.take() {
            s.answer(ACK, true);
            if command == 0xF0 && value == 0 {
                // Which scan-code set: set 2.
                s.answer(2, true);
            }
            return;
        }
        match value {
            // Echo.
            0xEE => s.answer(0xEE, true),
            // LEDs, scan-code set, typematic rate.
            0xED | 0xF0 | 0xF3 => {
                s.answer(ACK, true);
                s.keyboard_argument = Some(value);
            }
            0xF2 => [ACK, 0xAB, 0x83]
                .iter()
                .for_each(|&byte| s.answer(byte, true)),
            0xF4..=0xF6 => s.answer(ACK, true),
            0xFF => [ACK, 0xAA].iter().for_each(|&byte| s.answer(byte, true)),
            // Resend: as an unknown command is answered.
            _ => s.answer(0xFE, true),
        }
    }

    fn update_line(&mut self, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        let keyboard = s
            .queue
            .front()
            .is_some_and(|(_, from_keyboard)| *from_keyboard);
        s.interrupt.set(
            LINE_KEYBOARD,
            keyboard && s.command_byte & COMMAND_INTERRUPT != 0,
            cx,
        );
    }
}

impl Model for I8042 {
    fn manifest(&self) -> Manifest {
        let window = |base| Window {
            space: Space::Port,
            base,
            len: 1,
            granule: 1,
        };
        Manifest {
            kind: KIND.into(),
            attach: Attach::Fixed(vec![window(0x60), window(0x64), window(0x92)]),
            lines: 1,
            timers: 0,
            ports: Ports::default(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        access.by_granule(1, |a| {
            let value = match a.kind {
                Kind::Read => self.read(a.region, cx),
                Kind::Write(value) => {
                    self.write(a.region, value as u8, cx);
                    0
                }
            };
            self.update_line(cx);
            u64::from(value)
        })
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.state = State::new();
    }

    fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: State = section.state(KIND, VERSION)?;
        if state.queue.len() > QUEUE_LEN {
            return Err(section.malformed("more answers than the queue holds"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::conformance;
    use device_core::rig::Rig;

    fn rig() -> Rig {
        Rig::new(Box::new(I8042::new()))
    }

    /// Sends a command with its bytes and returns all answers.
    fn command(rig: &mut Rig, command: u64, data: &[u64]) -> Vec<u64> {
        rig.write(1, 0, 1, command);
        data.iter().for_each(|byte| rig.write(0, 0, 1, *byte));
        answers(rig)
    }

    fn answers(rig: &mut Rig) -> Vec<u64> {
        let mut answers = Vec::new();
        while rig.read(1, 0, 1) & 1 != 0 {
            answers.push(rig.read(0, 0, 1));
        }
        answers
    }

    #[test]
    fn it_conforms() {
        for seed in 0..8 {
            conformance::check(&|| Box::new(I8042::new()), seed, 2000);
        }
    }

    #[test]
    fn a_driver_finds_a_sound_controller_without_an_auxiliary_port() {
        let mut rig = rig();
        assert_eq!(command(&mut rig, 0xAA, &[]), [0x55]);
        assert_eq!(command(&mut rig, 0xAB, &[]), [0x00]);
        assert_eq!(command(&mut rig, 0x20, &[]), [0x24]);
        command(&mut rig, 0xA8, &[]);
        assert_eq!(command(&mut rig, 0x20, &[]), [0x24], "bit 5 does not clear");
        assert_eq!(command(&mut rig, 0xD3, &[0x5A]), [0x5A]);
        assert_eq!(command(&mut rig, 0xA9, &[]), [0x01]);
    }

    #[test]
    fn the_keyboard_answers_with_an_interrupt_a_byte() {
        let mut rig = rig();
        command(&mut rig, 0x60, &[0x05]);
        rig.write(0, 0, 1, 0xF2);
        assert_eq!(answers(&mut rig), [0xFA, 0xAB, 0x83]);
        assert_eq!(
            rig.edges,
            [
                (0, true),
                (0, false),
                (0, true),
                (0, false),
                (0, true),
                (0, false)
            ]
        );
        rig.write(0, 0, 1, 0xED);
        rig.write(0, 0, 1, 0x02);
        assert_eq!(answers(&mut rig), [0xFA, 0xFA]);
    }

    #[test]
    fn there_are_three_ways_to_reset_the_machine() {
        let mut rig = rig();
        rig.write(1, 0, 1, 0xFE);
        command(&mut rig, 0xD1, &[0xDE]);
        rig.write(2, 0, 1, 0x03);
        assert_eq!(rig.power, [PowerEvent::Reset; 3]);
        rig.write(1, 0, 1, 0xFF);
        assert_eq!(rig.power.len(), 3, "a pulse of no line");
    }

    #[test]
    fn a20_is_one_bit_in_two_places() {
        let mut rig = rig();
        rig.write(2, 0, 1, 0);
        assert_eq!(command(&mut rig, 0xD0, &[]), [0x01]);
        command(&mut rig, 0xDF, &[]);
        assert_eq!(rig.read(2, 0, 1), 2);
        command(&mut rig, 0xD1, &[0x01]);
        assert_eq!(rig.a20, [false, true, false], "each change is an effect");
    }
}
