//! The pair of 8259A interrupt controllers of a PC, the second cascaded on the first's line 2.
//!
//! Sources: Intel 8259A datasheet (231468); edge/level control registers at 0x4D0 and 0x4D1 as in the 82371FB (PIIX)
//! datasheet, 4.1.2.
//!
//! Not modelled: MCS-80/85 mode, buffered mode, special fully nested mode (ICW4 bit 4 is kept and does nothing), a cascade on
//! another line than 2.
//!
//! Invariant: `intr` is a function of the state, so the board asks after each call instead of being told.

use device_core::{LoadError, Section};
use serde::{Deserialize, Serialize};

const KIND: &str = "pic";
const VERSION: u16 = 1;
const CASCADE: u8 = 2;

/// Which initialisation word the data port takes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Init {
    #[default]
    Done,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    irr: u8,
    isr: u8,
    imr: u8,
    /// The levels of the input lines.
    lines: u8,
    /// Level-triggered inputs, by ELCR.
    elcr: u8,
    base: u8,
    /// The line of lowest priority; the next one has the highest.
    lowest: u8,
    init: Init,
    needs_icw4: bool,
    single: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    poll: bool,
    read_isr: bool,
}

impl Chip {
    fn reset(&mut self) {
        // Inputs and their trigger modes are not the chip's own.
        *self = Chip {
            lines: self.lines,
            elcr: self.elcr,
            lowest: 7,
            ..Chip::default()
        };
    }

    fn set_line(&mut self, line: u8, level: bool) {
        let bit = 1 << line;
        let rose = level && self.lines & bit == 0;
        self.lines = if level {
            self.lines | bit
        } else {
            self.lines & !bit
        };
        if self.elcr & bit != 0 {
            self.irr = if level {
                self.irr | bit
            } else {
                self.irr & !bit
            };
        } else if rose {
            self.irr |= bit;
        } else if !level {
            // An edge request is withdrawn if the line falls before it is acknowledged: what follows is a spurious 7.
            self.irr &= !bit;
        }
    }

    /// Lines from the highest priority down.
    fn by_priority(&self) -> impl Iterator<Item = u8> + use<> {
        let lowest = self.lowest;
        (1..=8).map(move |i| (lowest + i) & 7)
    }

    /// The line that would be acknowledged now.
    fn requested(&self) -> Option<u8> {
        let open = self.irr & !self.imr;
        if open == 0 {
            return None;
        }
        for line in self.by_priority() {
            let bit = 1 << line;
            // A line in service holds back itself and all lower ones; in special mask mode not while it is masked.
            if self.isr & bit != 0 && !(self.special_mask && self.imr & bit != 0) {
                return None;
            }
            if open & bit != 0 {
                return Some(line);
            }
        }
        None
    }

    /// Takes `line` in service.
    fn take(&mut self, line: u8) {
        let bit = 1 << line;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = line;
        }
    }

    fn read_command(&mut self) -> u8 {
        if self.read_isr { self.isr } else { self.irr }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.reset();
            // The edge detectors start anew: a line that is already high asks again only after it fell. Level lines ask on.
            self.irr = self.lines & self.elcr;
            self.init = Init::Icw2;
            self.needs_icw4 = value & 1 != 0;
            self.single = value & 2 != 0;
        } else if value & 0x08 != 0 {
            self.ocw3(value);
        } else {
            self.ocw2(value);
        }
    }

    fn ocw2(&mut self, value: u8) {
        let line = value & 7;
        match value >> 5 {
            0 => self.rotate_on_auto_eoi = false,
            4 => self.rotate_on_auto_eoi = true,
            // Non-specific: the line in service of the highest priority.
            command @ (1 | 5) => {
                if let Some(line) = self.by_priority().find(|line| self.isr & 1 << line != 0) {
                    self.isr &= !(1 << line);
                    if command == 5 {
                        self.lowest = line;
                    }
                }
            }
            3 => self.isr &= !(1 << line),
            6 => self.lowest = line,
            7 => {
                self.isr &= !(1 << line);
                self.lowest = line;
            }
            _ => {}
        }
    }

    fn ocw3(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        if value & 0x04 != 0 {
            self.poll = true;
        } else if value & 0x02 != 0 {
            self.read_isr = value & 1 != 0;
        }
    }

    fn write_data(&mut self, value: u8) {
        self.init = match self.init {
            Init::Done => {
                self.imr = value;
                Init::Done
            }
            Init::Icw2 => {
                self.base = value & 0xF8;
                if !self.single {
                    Init::Icw3
                } else if self.needs_icw4 {
                    Init::Icw4
                } else {
                    Init::Done
                }
            }
            Init::Icw3 if self.needs_icw4 => Init::Icw4,
            Init::Icw3 => Init::Done,
            Init::Icw4 => {
                self.auto_eoi = value & 2 != 0;
                Init::Done
            }
        };
    }
}

/// Both chips, and the lines 0 to 15 into them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pic {
    chips: [Chip; 2],
}

impl Default for Pic {
    fn default() -> Pic {
        Pic::new()
    }
}

impl Pic {
    pub fn new() -> Pic {
        let chip = Chip {
            lowest: 7,
            ..Chip::default()
        };
        Pic { chips: [chip; 2] }
    }

    /// As the reset pin does. Lines keep their levels; every line is edge-triggered.
    pub fn reset(&mut self) {
        for chip in &mut self.chips {
            chip.elcr = 0;
            chip.reset();
        }
    }

    /// One of the lines 0 to 15 takes a level. Line 2 is the cascade and has no pin.
    pub fn set_line(&mut self, line: u8, level: bool) {
        match line {
            CASCADE => {}
            0..=7 => self.chips[0].set_line(line, level),
            8..=15 => self.chips[1].set_line(line - 8, level),
            _ => {}
        }
        self.cascade();
    }

    /// The level of the INTR pin.
    pub fn intr(&self) -> bool {
        self.chips[0].requested().is_some()
    }

    /// The CPU's interrupt acknowledge cycle: the vector. With nothing requested it is the spurious 7 of the chip.
    pub fn ack(&mut self) -> u8 {
        let Some(line) = self.chips[0].requested() else {
            return self.chips[0].base | 7;
        };
        self.chips[0].take(line);
        let vector = if line != CASCADE {
            self.chips[0].base | line
        } else {
            let second = &mut self.chips[1];
            let requested = second.requested();
            if let Some(line) = requested {
                second.take(line);
            }
            second.base | requested.unwrap_or(7)
        };
        self.cascade();
        vector
    }

    /// A read of one of the ports 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1.
    pub fn read(&mut self, port: u16) -> u8 {
        if port & 0xFFFE == 0x4D0 {
            return self.chips[usize::from(port & 1)].elcr;
        }
        let chip = &mut self.chips[usize::from(port >= 0xA0)];
        if std::mem::take(&mut chip.poll) {
            // A poll acknowledges: the next read of either port is the answer.
            let requested = chip.requested();
            if let Some(line) = requested {
                chip.take(line);
            }
            self.cascade();
            return requested.map_or(0, |line| 0x80 | line);
        }
        if port & 1 != 0 {
            chip.imr
        } else {
            chip.read_command()
        }
    }

    /// A write to one of the same ports.
    pub fn write(&mut self, port: u16, value: u8) {
        if port & 0xFFFE == 0x4D0 {
            // Timer, keyboard and cascade, and RTC and coprocessor, are wired for edges.
            let fixed = if port & 1 == 0 { 0x07 } else { 0x21 };
            let chip = &mut self.chips[usize::from(port & 1)];
            chip.elcr = value & !fixed;
            chip.irr |= chip.lines & chip.elcr;
        } else {
            let chip = &mut self.chips[usize::from(port >= 0xA0)];
            if port & 1 != 0 {
                chip.write_data(value)
            } else {
                chip.write_command(value)
            }
        }
        self.cascade();
    }

    /// Line 2 of the first chip follows the second chip's INT pin.
    fn cascade(&mut self) {
        let asks = self.chips[1].requested().is_some();
        let first = &mut self.chips[0];
        let bit = 1 << CASCADE;
        first.lines = if asks {
            first.lines | bit
        } else {
            first.lines & !bit
        };
        // The second chip's pin falls and rises again at each acknowledge; following its level has the same result.
        first.irr = if asks {
            first.irr | bit
        } else {
            first.irr & !bit
        };
    }

    pub fn save(&self) -> Section {
        Section::of(KIND, VERSION, self)
    }

    pub fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: Pic = section.state(KIND, VERSION)?;
        if state.chips.iter().any(|chip| chip.lowest > 7) {
            return Err(section.malformed("a priority above 7"));
        }
        *self = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Initialised as Linux does: vectors 0x30 and 0x38, all lines open.
    fn linux() -> Pic {
        let mut pic = Pic::new();
        for (base, vector, icw3) in [(0x20, 0x30, 4), (0xA0, 0x38, 2)] {
            pic.write(base, 0x11);
            pic.write(base + 1, vector);
            pic.write(base + 1, icw3);
            pic.write(base + 1, 0x01);
        }
        pic
    }

    #[test]
    fn probing_the_mask_register_finds_it() {
        let mut pic = Pic::new();
        pic.write(0xA1, 0xFF);
        pic.write(0x21, 0xFB);
        assert_eq!([pic.read(0x21), pic.read(0xA1)], [0xFB, 0xFF]);
    }

    #[test]
    fn an_edge_is_acknowledged_once_and_blocks_lower_lines_until_eoi() {
        let mut pic = linux();
        pic.set_line(4, true);
        pic.set_line(7, true);
        assert!(pic.intr());
        assert_eq!(pic.ack(), 0x34);
        assert!(!pic.intr(), "line 7 waits for the end of line 4");
        pic.set_line(0, true);
        assert_eq!(pic.ack(), 0x30, "line 0 does not");
        pic.write(0x20, 0x20);
        assert!(!pic.intr());
        pic.write(0x20, 0x64);
        assert_eq!(pic.ack(), 0x37);
    }

    #[test]
    fn a_line_of_the_second_chip_comes_through_the_cascade() {
        let mut pic = linux();
        pic.set_line(8, true);
        assert_eq!(pic.ack(), 0x38);
        assert!(!pic.intr());
        pic.set_line(12, true);
        assert!(!pic.intr(), "lower in the second chip");
        pic.write(0xA0, 0x60);
        pic.write(0x20, 0x62);
        assert_eq!(pic.ack(), 0x3C);
    }

    #[test]
    fn a_request_that_is_withdrawn_is_a_spurious_seven() {
        let mut pic = linux();
        pic.set_line(3, true);
        pic.set_line(3, false);
        assert!(!pic.intr());
        assert_eq!(pic.ack(), 0x37);
        pic.write(0x20, 0x0B);
        assert_eq!(pic.read(0x20), 0, "nothing in service");
    }

    #[test]
    fn a_level_line_asks_until_it_falls() {
        let mut pic = linux();
        pic.write(0x4D1, 0xFF);
        assert_eq!(pic.read(0x4D1), 0xDE);
        pic.set_line(10, true);
        assert_eq!(pic.ack(), 0x3A);
        pic.write(0xA0, 0x62);
        pic.write(0x20, 0x62);
        assert!(pic.intr());
        pic.set_line(10, false);
        assert!(!pic.intr());
    }

    #[test]
    fn a_poll_acknowledges_and_automatic_eoi_leaves_nothing_in_service() {
        let mut pic = linux();
        pic.set_line(5, true);
        pic.write(0x20, 0x0C);
        assert_eq!(pic.read(0x20), 0x85);
        pic.write(0x20, 0x0C);
        assert_eq!(pic.read(0x20), 0);
        pic.write(0x20, 0x11);
        for word in [0x30, 4, 3] {
            pic.write(0x21, word);
        }
        pic.set_line(5, false);
        pic.set_line(5, true);
        assert_eq!(pic.ack(), 0x35);
        pic.write(0x20, 0x0B);
        assert_eq!(pic.read(0x20), 0);
    }

    #[test]
    fn the_state_survives_a_section() {
        let mut pic = linux();
        pic.set_line(9, true);
        pic.ack();
        let mut copy = Pic::new();
        copy.load(&pic.save()).unwrap();
        assert_eq!(copy, pic);
    }
}
