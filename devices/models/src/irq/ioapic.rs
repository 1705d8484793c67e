//! The I/O APIC.
//!
//! Sources: Intel 82093AA datasheet (290566-001), 3.0 to 3.2; the EOI register and version 0x20 as in the ICH5 datasheet,
//! 9.5. Redirection entries turn lines into [`Message`]s.
//!
//! Not modelled: the APIC bus and its arbitration id, delivery status (always idle: a message arrives at once), polarity
//! (levels are logical).
//!
//! Invariant: an entry's remote IRR is set from a level message's delivery until the EOI of its vector, and no second message
//! goes out between the two.

use device_core::{LoadError, Section};
use serde::{Deserialize, Serialize};

use super::message::{Delivery, Destination, Message, Trigger};

/// Lines in, redirection entries out.
pub(super) const LINES: usize = 24;

const KIND: &str = "ioapic";
const VERSION: u16 = 1;

const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery mode, destination mode, polarity, trigger mode, mask, destination.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ioapic {
    id: u8,
    select: u8,
    entries: [u64; LINES],
    /// One bit a line.
    levels: u32,
}

impl Default for Ioapic {
    fn default() -> Ioapic {
        Ioapic::new()
    }
}

impl Ioapic {
    pub fn new() -> Ioapic {
        Ioapic {
            id: 0,
            select: 0,
            entries: [MASKED; LINES],
            levels: 0,
        }
    }

    /// As the reset pin does. The lines keep their levels: they belong to the devices.
    pub fn reset(&mut self) {
        *self = Ioapic {
            levels: self.levels,
            ..Ioapic::new()
        };
    }

    /// A line takes a level. Calls `out` with the message that this makes, if any.
    ///
    /// An edge on a masked entry is lost, as the datasheet has it ("ignored, not delivered or held pending").
    pub fn set_line(&mut self, line: usize, level: bool, out: &mut impl FnMut(Message)) {
        if line >= LINES {
            return;
        }
        let rose = level && self.levels >> line & 1 == 0;
        self.levels = self.levels & !(1 << line) | u32::from(level) << line;
        let is_level = self.entries[line] & LEVEL != 0;
        if rose && !is_level && self.entries[line] & MASKED == 0 {
            out(self.message(line));
        } else if is_level {
            self.serve_level(line, out);
        }
    }

    /// The EOI of a vector reached the local APIC and was broadcast.
    pub fn eoi(&mut self, vector: u8, out: &mut impl FnMut(Message)) {
        for line in 0..LINES {
            let entry = self.entries[line];
            if entry & LEVEL != 0 && entry & REMOTE_IRR != 0 && entry as u8 == vector {
                self.entries[line] &= !REMOTE_IRR;
                self.serve_level(line, out);
            }
        }
    }

    /// A read of the memory window, 32 bits wide.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => u32::from(self.select),
            0x10 => self.register(),
            _ => 0,
        }
    }

    /// A write to the memory window, 32 bits wide.
    pub fn write(&mut self, offset: u64, value: u32, out: &mut impl FnMut(Message)) {
        match offset {
            0x00 => self.select = value as u8,
            0x10 => self.set_register(value, out),
            0x40 => self.eoi(value as u8, out),
            _ => {}
        }
    }

    fn register(&self) -> u32 {
        match self.select {
            0 | 2 => u32::from(self.id) << 24,
            1 => ((LINES as u32 - 1) << 16) | 0x20,
            select => match self.entry_of(select) {
                Some((line, 0)) => self.entries[line] as u32,
                Some((line, _)) => (self.entries[line] >> 32) as u32,
                None => 0,
            },
        }
    }

    fn set_register(&mut self, value: u32, out: &mut impl FnMut(Message)) {
        if self.select == 0 {
            self.id = (value >> 24) as u8 & 0x0F;
            return;
        }
        let Some((line, half)) = self.entry_of(self.select) else {
            return;
        };
        let shift = half * 32;
        let mask = WRITABLE & (0xFFFF_FFFF << shift);
        let entry = &mut self.entries[line];
        *entry = *entry & !mask | (u64::from(value) << shift) & mask;
        if *entry & LEVEL == 0 {
            // Remote IRR has a meaning for level entries only. Linux relies on this to clear one that is stuck: it makes the
            // entry edge-triggered and level-triggered again.
            *entry &= !REMOTE_IRR;
        } else {
            self.serve_level(line, out);
        }
    }

    /// The entry and half that an index register value selects.
    fn entry_of(&self, select: u8) -> Option<(usize, u32)> {
        let index = usize::from(select.checked_sub(0x10)?);
        (index / 2 < LINES).then_some((index / 2, index as u32 % 2))
    }

    fn serve_level(&mut self, line: usize, out: &mut impl FnMut(Message)) {
        let asserted = self.levels >> line & 1 != 0;
        if asserted && self.entries[line] & (MASKED | REMOTE_IRR) == 0 {
            self.entries[line] |= REMOTE_IRR;
            out(self.message(line));
        }
    }

    fn message(&self, line: usize) -> Message {
        let entry = self.entries[line];
        let id = (entry >> 56) as u32;
        Message {
            vector: entry as u8,
            delivery: Delivery::from_bits((entry >> 8) as u32),
            destination: if entry & 1 << 11 != 0 {
                Destination::Logical(id)
            } else {
                Destination::Physical(id)
            },
            trigger: if entry & LEVEL != 0 {
                Trigger::Level
            } else {
                Trigger::Edge
            },
        }
    }

    pub fn save(&self) -> Section {
        Section::of(KIND, VERSION, self)
    }

    pub fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        *self = section.state(KIND, VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_entry(ioapic: &mut Ioapic, line: u32, entry: u64) -> Vec<u8> {
        let mut vectors = Vec::new();
        for half in [1, 0] {
            ioapic.write(0, 0x10 + line * 2 + half, &mut |m: Message| {
                vectors.push(m.vector)
            });
            ioapic.write(0x10, (entry >> (half * 32)) as u32, &mut |m: Message| {
                vectors.push(m.vector)
            });
        }
        vectors
    }

    fn line(ioapic: &mut Ioapic, n: usize, level: bool) -> Vec<u8> {
        let mut vectors = Vec::new();
        ioapic.set_line(n, level, &mut |m: Message| vectors.push(m.vector));
        vectors
    }

    fn eoi(ioapic: &mut Ioapic, vector: u8) -> Vec<u8> {
        let mut vectors = Vec::new();
        ioapic.eoi(vector, &mut |m: Message| vectors.push(m.vector));
        vectors
    }

    #[test]
    fn an_edge_is_one_message_and_a_masked_edge_is_none() {
        let mut ioapic = Ioapic::new();
        assert_eq!(line(&mut ioapic, 4, true), []);
        line(&mut ioapic, 4, false);
        assert_eq!(set_entry(&mut ioapic, 4, 0x31), []);
        assert_eq!(line(&mut ioapic, 4, true), [0x31]);
        assert_eq!(line(&mut ioapic, 4, true), []);
        assert_eq!(line(&mut ioapic, 4, false), []);
        assert_eq!(line(&mut ioapic, 4, true), [0x31]);
    }

    #[test]
    fn a_level_repeats_only_after_its_eoi_while_it_is_high() {
        let mut ioapic = Ioapic::new();
        line(&mut ioapic, 9, true);
        assert_eq!(set_entry(&mut ioapic, 9, LEVEL | 0x39), [0x39]);
        line(&mut ioapic, 9, false);
        assert_eq!(line(&mut ioapic, 9, true), []);
        assert_eq!(eoi(&mut ioapic, 0x40), []);
        assert_eq!(eoi(&mut ioapic, 0x39), [0x39]);
        line(&mut ioapic, 9, false);
        assert_eq!(eoi(&mut ioapic, 0x39), []);
    }

    #[test]
    fn an_entry_made_edge_and_level_again_loses_a_stuck_remote_irr() {
        let mut ioapic = Ioapic::new();
        line(&mut ioapic, 9, true);
        set_entry(&mut ioapic, 9, LEVEL | 0x39);
        set_entry(&mut ioapic, 9, MASKED | 0x39);
        assert_eq!(set_entry(&mut ioapic, 9, LEVEL | 0x39), [0x39]);
    }

    #[test]
    fn identity_registers_and_reserved_indices() {
        let mut ioapic = Ioapic::new();
        let mut read = |select: u32| {
            ioapic.write(0, select, &mut |_| {});
            ioapic.read(0x10)
        };
        assert_eq!(
            [
                read(0),
                read(1),
                read(2),
                read(0x3F),
                read(0x40),
                read(0xFF)
            ],
            [0, 0x0017_0020, 0, 0, 0, 0]
        );
    }

    #[test]
    fn the_state_survives_a_section() {
        let mut ioapic = Ioapic::new();
        line(&mut ioapic, 9, true);
        set_entry(&mut ioapic, 9, LEVEL | 0x39);
        let mut copy = Ioapic::new();
        copy.load(&ioapic.save()).unwrap();
        assert_eq!(copy, ioapic);
    }
}
