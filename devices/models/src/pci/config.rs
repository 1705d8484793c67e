//! The configuration space of one PCI function, built from its manifest.
//!
//! Sources: PCI Local Bus 3.0, chapter 6 (header, BARs, capabilities, MSI-X); virtio 1.2, 4.1.4.9 (the BAR window).
//!
//! The board has one of these for each function, whatever seat the model is in. It decodes BARs, filters interrupts (MSI-X or
//! INTx, never both) and keeps the MSI-X table; the model never sees an access to any of it.
//!
//! Not modelled: expansion ROMs, MSI (MSI-X only), parity and system errors, power states (there is no such capability), the
//! latency timer's effect, 64-bit BARs' prefetch semantics.
//!
//! Invariants: a bit that `writable` does not name never changes by a guest's write; BARs decode only while the command
//! register enables their space.

use device_core::{Access, Bar, BarKind, Kind, LoadError, PciFunction, Section, Space};
use serde::{Deserialize, Serialize};

use super::msix::Table;

const KIND: &str = "pci-config";
const VERSION: u16 = 1;
const LEN: usize = 256;

const COMMAND: usize = 0x04;
const COMMAND_IO: u16 = 1;
const COMMAND_MEMORY: u16 = 2;
const COMMAND_MASTER: u16 = 4;
const COMMAND_INTX_OFF: u16 = 0x400;
const STATUS: usize = 0x06;
const STATUS_INTERRUPT: u8 = 0x08;
const STATUS_CAPABILITIES: u8 = 0x10;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3C;
const INTERRUPT_PIN: usize = 0x3D;
const FIRST_CAPABILITY: usize = 0x40;

const MSIX_ID: u8 = 0x11;
const MSIX_ENABLE: u8 = 0x80;
const MSIX_MASK_ALL: u8 = 0x40;

/// What an access to configuration space asks of the board beyond the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// BARs moved, appeared or vanished: ask [`ConfigSpace::bars`].
    BarsChanged,
    /// An MSI-X message goes out.
    Message { address: u64, data: u32 },
    /// The function's INTx pin takes this level.
    Intx(bool),
    /// A write through the BAR window: the model gets this access.
    Access(Access),
}

/// What a read of configuration space gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigRead {
    Value(u32),
    /// A read through the BAR window: the model's answer to this access is the value.
    Access(Access),
}

/// Where a BAR decodes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRange {
    pub region: u16,
    pub space: Space,
    pub base: u64,
    pub len: u64,
}

/// A `Vec` where an array would do, because serde stops at 32 elements. Its length is always [`LEN`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    bytes: Vec<u8>,
    msix: Option<Table>,
    /// The level that the model gives its INTx pin.
    intx: bool,
}

#[derive(Clone, Debug)]
pub struct ConfigSpace {
    function: PciFunction,
    initial: Vec<u8>,
    writable: [u8; LEN],
    /// Where the MSI-X capability is, and where the one with the BAR window.
    msix_at: Option<usize>,
    window_at: Option<usize>,
    state: State,
}

impl ConfigSpace {
    /// The space after a reset.
    ///
    /// # Panics
    /// If the manifest is impossible (capabilities that do not fit, a BAR whose size is no power of two): that is the
    /// model author's mistake, found when the machine is built.
    pub fn new(function: &PciFunction) -> ConfigSpace {
        let mut builder = Builder {
            bytes: [0; LEN],
            writable: [0; LEN],
            next: FIRST_CAPABILITY,
            link: CAPABILITIES,
        };
        builder.header(function);
        for bar in &function.bars {
            builder.bar(bar);
        }
        let mut window_at = None;
        for capability in &function.capabilities {
            let at = builder.capability(capability.id, &capability.body, &capability.writable);
            if capability.bar_window {
                window_at = Some(at);
            }
        }
        let msix_at = function.msix.map(|msix| {
            let mut body = [0; 10];
            body[..2].copy_from_slice(&(msix.vectors - 1).to_le_bytes());
            body[2..6]
                .copy_from_slice(&(msix.table_offset | u32::from(msix.table_bar)).to_le_bytes());
            body[6..].copy_from_slice(&(msix.pba_offset | u32::from(msix.pba_bar)).to_le_bytes());
            builder.capability(MSIX_ID, &body, &[0, MSIX_ENABLE | MSIX_MASK_ALL])
        });
        for register in &function.registers {
            builder.bytes[usize::from(register.offset)] = register.value;
            builder.writable[usize::from(register.offset)] = register.writable;
        }
        let state = State {
            bytes: builder.bytes.to_vec(),
            msix: function.msix.as_ref().map(Table::new),
            intx: false,
        };
        ConfigSpace {
            function: function.clone(),
            initial: builder.bytes.to_vec(),
            writable: builder.writable,
            msix_at,
            window_at,
            state,
        }
    }

    /// As RST# does. The pin is low; the board asks the model again.
    pub fn reset(&mut self) {
        self.state = State {
            bytes: self.initial.clone(),
            msix: self.function.msix.as_ref().map(Table::new),
            intx: false,
        };
    }

    /// A byte set by the firmware before the guest runs (a BAR's address, the interrupt line), past all masks.
    pub fn set_byte(&mut self, offset: u8, value: u8) {
        self.state.bytes[usize::from(offset)] = value;
    }

    // Decoding.

    /// The BARs that decode now.
    pub fn bars(&self) -> impl Iterator<Item = BarRange> + '_ {
        let command = self.command();
        self.function.bars.iter().filter_map(move |bar| {
            let (space, enabled) = match bar.kind {
                BarKind::Io => (Space::Port, command & COMMAND_IO != 0),
                _ => (Space::Memory, command & COMMAND_MEMORY != 0),
            };
            let base = self.bar_base(bar);
            // While it is sized, a BAR holds an address of all ones, which must not decode over its neighbours' ranges.
            let fits = base != 0
                && base
                    .checked_add(bar.size)
                    .is_some_and(|end| space == Space::Memory || end <= 0x1_0000);
            (enabled && fits).then_some(BarRange {
                region: u16::from(bar.index),
                space,
                base,
                len: bar.size,
            })
        })
    }

    fn bar_base(&self, bar: &Bar) -> u64 {
        let at = BARS + usize::from(bar.index) * 4;
        let low = u64::from(self.dword(at)) & !(bar.size - 1);
        match bar.kind {
            BarKind::Io | BarKind::Memory32 => low & 0xFFFF_FFFF,
            BarKind::Memory64 => {
                low & 0xFFFF_FFFF | u64::from(self.dword(at + 4)) << 32 & !(bar.size - 1)
            }
        }
    }

    /// Whether the function may read and write RAM, and send messages.
    pub fn is_bus_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0
    }

    fn command(&self) -> u16 {
        u16::from_le_bytes([self.state.bytes[COMMAND], self.state.bytes[COMMAND + 1]])
    }

    // Configuration cycles.

    /// A configuration read of 1, 2 or 4 bytes that does not cross a double word.
    pub fn read(&self, offset: u8, size: u8) -> ConfigRead {
        if self.in_window(offset) {
            if let Some(access) = self.window_access(Kind::Read) {
                return ConfigRead::Access(access);
            }
            return ConfigRead::Value(0);
        }
        let shift = u32::from(offset & 3) * 8;
        let value = self.dword(usize::from(offset & !3)) >> shift;
        ConfigRead::Value(if size >= 4 {
            value
        } else {
            value & ((1 << (size * 8)) - 1)
        })
    }

    /// A configuration write of 1, 2 or 4 bytes that does not cross a double word. What it causes is added to `events`.
    pub fn write(&mut self, offset: u8, size: u8, value: u32, events: &mut Vec<Event>) {
        let before = (self.command(), self.msix_control(), self.effective_intx());
        let mut bars_touched = false;
        for (i, byte) in value
            .to_le_bytes()
            .iter()
            .take(usize::from(size.min(4)))
            .enumerate()
        {
            let at = usize::from(offset).saturating_add(i);
            if at >= LEN {
                break;
            }
            let writable = self.writable[at];
            let slot = &mut self.state.bytes[at];
            let new = *slot & !writable | byte & writable;
            bars_touched |= *slot != new && (BARS..BARS + 24).contains(&at);
            *slot = new;
        }
        if self.in_window(offset) {
            events.extend(
                self.window_access(Kind::Write(u64::from(value)))
                    .map(Event::Access),
            );
        }
        let decode = COMMAND_IO | COMMAND_MEMORY;
        if bars_touched || (before.0 ^ self.command()) & decode != 0 {
            events.push(Event::BarsChanged);
        }
        self.interrupts_after(before.1, before.2, events);
    }

    fn in_window(&self, offset: u8) -> bool {
        // The capability: id, next, length, type, bar, id, padding, offset, length, then four bytes of data.
        self.window_at
            .is_some_and(|at| (at + 16..at + 20).contains(&usize::from(offset)))
    }

    /// The access that the window's own fields describe, if they describe a legal one.
    fn window_access(&self, kind: Kind) -> Option<Access> {
        let at = self.window_at?;
        let region = u16::from(self.state.bytes[at + 4]);
        let (offset, size) = (u64::from(self.dword(at + 8)), self.dword(at + 12));
        let bar = self
            .function
            .bars
            .iter()
            .find(|bar| u16::from(bar.index) == region)?;
        let legal = matches!(size, 1 | 2 | 4)
            && offset.is_multiple_of(u64::from(size))
            && offset + u64::from(size) <= bar.size;
        legal.then(|| match kind {
            Kind::Read => Access::read(region, offset, size as u8),
            Kind::Write(value) => Access::write(region, offset, size as u8, value),
        })
    }

    // Interrupts.

    fn msix_control(&self) -> u8 {
        self.msix_at.map_or(0, |at| self.state.bytes[at + 3])
    }

    fn is_msix_enabled(&self) -> bool {
        self.msix_control() & MSIX_ENABLE != 0
    }

    /// The pin as the rest of the machine sees it.
    fn effective_intx(&self) -> bool {
        self.state.intx && !self.is_msix_enabled() && self.command() & COMMAND_INTX_OFF == 0
    }

    /// The model's pin takes a level. Returns the level that the machine sees.
    pub fn set_intx(&mut self, level: bool) -> bool {
        self.state.intx = level;
        let status = &mut self.state.bytes[STATUS];
        *status = if level {
            *status | STATUS_INTERRUPT
        } else {
            *status & !STATUS_INTERRUPT
        };
        self.effective_intx()
    }

    /// The model fires an MSI-X vector. Returns the message that goes out now, if any.
    pub fn fire(&mut self, vector: u16) -> Option<(u64, u32)> {
        if !self.is_msix_enabled() {
            return None;
        }
        let masked = self.msix_control() & MSIX_MASK_ALL != 0 || !self.is_bus_master();
        self.state.msix.as_mut()?.fire(vector, masked)
    }

    /// Follows a change of MSI-X control, command register or both.
    fn interrupts_after(&mut self, old_control: u8, old_intx: bool, events: &mut Vec<Event>) {
        let intx = self.effective_intx();
        if intx != old_intx {
            events.push(Event::Intx(intx));
        }
        if old_control != self.msix_control() || self.is_msix_enabled() {
            let vectors = self.state.msix.as_ref().map_or(0, Table::vectors);
            for vector in 0..vectors {
                self.send_pending(vector, events);
            }
        }
    }

    fn send_pending(&mut self, vector: u16, events: &mut Vec<Event>) {
        if self
            .state
            .msix
            .as_ref()
            .is_some_and(|table| table.is_pending(vector))
        {
            events.extend(
                self.fire(vector)
                    .map(|(address, data)| Event::Message { address, data }),
            );
        }
    }

    /// Whether an access to a BAR is one to the MSI-X table or pending bits, which the model never sees.
    pub fn is_msix(&self, access: &Access) -> bool {
        self.msix_part(access).is_some()
    }

    /// Does an access for which [`is_msix`](ConfigSpace::is_msix) holds. The table takes aligned accesses of 4 or 8 bytes;
    /// for others "the result is undefined", here: reads as zero, writes nothing.
    pub fn access_msix(&mut self, access: Access, events: &mut Vec<Event>) -> u64 {
        if access.size < 4 || !access.offset.is_multiple_of(u64::from(access.size)) {
            return 0;
        }
        access.by_granule(4, |a| {
            let Some((pending, offset)) = self.msix_part(&a) else {
                return 0;
            };
            let Some(table) = &mut self.state.msix else {
                return 0;
            };
            match a.kind {
                Kind::Read if pending => u64::from(table.read_pending(offset)),
                Kind::Read => u64::from(table.read(offset)),
                Kind::Write(_) if pending => 0,
                Kind::Write(value) => {
                    if let Some(vector) = table.write(offset, value as u32) {
                        self.send_pending(vector, events);
                    }
                    0
                }
            }
        })
    }

    /// The offset of an access within the table (false) or the pending bits (true).
    fn msix_part(&self, access: &Access) -> Option<(bool, u64)> {
        let (msix, table) = (self.function.msix.as_ref()?, self.state.msix.as_ref()?);
        let within = |bar: u8, start: u32, len: u64| {
            let offset = access.offset.checked_sub(u64::from(start))?;
            (u16::from(bar) == access.region && offset < len).then_some(offset)
        };
        let in_table =
            within(msix.table_bar, msix.table_offset, table.bytes()).map(|offset| (false, offset));
        in_table.or_else(|| {
            within(msix.pba_bar, msix.pba_offset, table.pending_bytes())
                .map(|offset| (true, offset))
        })
    }

    fn dword(&self, at: usize) -> u32 {
        let bytes = &self.state.bytes[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    pub fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    /// Takes the state of the same function. What the guest cannot write must be as the manifest has it.
    pub fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: State = section.state(KIND, VERSION)?;
        let shaped = state.bytes.len() == LEN
            && match (&state.msix, &self.function.msix) {
                (Some(table), Some(msix)) => table.fits(msix),
                (None, None) => true,
                _ => false,
            };
        let ids = 0..4;
        if !shaped || state.bytes[ids.clone()] != self.initial[ids] {
            return Err(section.malformed("not of this function"));
        }
        self.state = state;
        Ok(())
    }
}

/// Lays out header and capabilities.
struct Builder {
    bytes: [u8; LEN],
    writable: [u8; LEN],
    /// Where the next capability goes, and where the pointer to it is.
    next: usize,
    link: usize,
}

impl Builder {
    fn header(&mut self, function: &PciFunction) {
        self.bytes[0..2].copy_from_slice(&function.vendor.to_le_bytes());
        self.bytes[2..4].copy_from_slice(&function.device.to_le_bytes());
        self.bytes[8] = function.revision;
        self.bytes[9..12].copy_from_slice(&function.class.to_le_bytes()[..3]);
        self.bytes[0x2C..0x2E].copy_from_slice(&function.subsystem_vendor.to_le_bytes());
        self.bytes[0x2E..0x30].copy_from_slice(&function.subsystem.to_le_bytes());
        let mut command = COMMAND_MASTER | COMMAND_INTX_OFF;
        for bar in &function.bars {
            command |= if bar.kind == BarKind::Io {
                COMMAND_IO
            } else {
                COMMAND_MEMORY
            };
        }
        self.writable[COMMAND..COMMAND + 2].copy_from_slice(&command.to_le_bytes());
        self.writable[0x0C] = 0xFF;
        self.writable[0x0D] = 0xFF;
        self.writable[INTERRUPT_LINE] = 0xFF;
        self.bytes[INTERRUPT_PIN] = u8::from(function.intx);
    }

    fn bar(&mut self, bar: &Bar) {
        let wide = bar.kind == BarKind::Memory64;
        let least = if bar.kind == BarKind::Io { 4 } else { 16 };
        let fits = wide || bar.size <= 1 << 31;
        assert!(
            bar.size.is_power_of_two() && bar.size >= least && fits,
            "a BAR of {} bytes",
            bar.size
        );
        assert!(bar.index + u8::from(wide) < 6, "BAR {}", bar.index);
        let at = BARS + usize::from(bar.index) * 4;
        let flags = match bar.kind {
            BarKind::Io => 1,
            BarKind::Memory32 => 0,
            BarKind::Memory64 => 4,
        };
        self.bytes[at] = flags | if bar.prefetchable { 8 } else { 0 };
        let mask = (!(bar.size - 1)).to_le_bytes();
        let len = if wide { 8 } else { 4 };
        self.writable[at..at + len].copy_from_slice(&mask[..len]);
    }

    /// Appends a capability and returns its place. `writable` may be shorter than `body`.
    fn capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next;
        let end = at + 2 + body.len();
        assert!(
            end <= LEN && writable.len() <= body.len(),
            "capability {id:#x} does not fit"
        );
        self.bytes[self.link] = at as u8;
        self.bytes[at] = id;
        self.bytes[at + 2..end].copy_from_slice(body);
        self.writable[at + 2..at + 2 + writable.len()].copy_from_slice(writable);
        self.bytes[STATUS] |= STATUS_CAPABILITIES;
        self.link = at + 1;
        self.next = end.next_multiple_of(4);
        at
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
