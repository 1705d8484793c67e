//! PCI bus 0: configuration mechanism 1, the functions on the bus, where their BARs decode and how their interrupts leave.
//!
//! Configuration space itself is `device_models::pci::ConfigSpace`, the same for every function. A function without a device is a
//! bridge whose registers are configuration space alone.
//!
//! Source: PCI Local Bus Specification 3.0, section 3.2.2.3.2 (mechanism 1), 2.2.6 (interrupt pins).

use device_core::{Access, Attach, BarKind, PciFunction, Space};
use device_models::pci::{ConfigRead, ConfigSpace, Event};

use crate::decode::Claim;
use crate::map;
use crate::seat::Seat;

/// One function.
#[derive(Debug)]
struct Function {
    /// Device number << 3 | function number.
    devfn: u8,
    config: ConfigSpace,
    /// The BARs' addresses as the firmware set them: (register offset, value).
    assigned: Vec<(u8, u32)>,
    /// Index of the seat that answers BAR accesses; none for a function of the chipset.
    device: Option<usize>,
    /// The level of its INTx pin as the machine sees it.
    intx: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct PciRoot {
    functions: Vec<Function>,
    /// The configuration address register.
    address: u32,
    events: Vec<Event>,
    /// Where the next BARs are placed; none if that is left to firmware.
    next: Option<Free>,
}

/// What is left of the space for BARs.
#[derive(Debug)]
struct Free {
    memory: u64,
    port: u64,
}

/// What an access to configuration space asks of the board.
#[derive(Debug, Default)]
pub struct Asked {
    pub value: u32,
    /// BARs moved.
    pub bars_changed: bool,
    /// A register of the chipset may have changed.
    pub chipset: bool,
    pub messages: Vec<(u64, u32)>,
    /// I/O APIC inputs whose level may have changed.
    pub gsis: Vec<(u8, bool)>,
    /// An access to the device through the window in configuration space.
    pub access: Option<(usize, Access)>,
}

const ENABLE: u32 = 1 << 31;

impl PciRoot {
    /// A bus whose functions get their addresses and interrupt lines here, as from firmware, or have none yet.
    pub fn new(assign: bool) -> PciRoot {
        PciRoot {
            next: assign.then_some(Free {
                memory: map::PCI_WINDOW.start,
                port: 0xc000,
            }),
            ..PciRoot::default()
        }
    }

    /// Adds a bridge, or a function whose registers are elsewhere.
    pub fn add_bridge(&mut self, devfn: u8, function: &PciFunction) {
        self.add(devfn, function, None);
    }

    /// Adds the PCI function of the seat with index `device`.
    pub fn add_device(&mut self, slot: u8, device: usize, seat: &Seat) {
        let Attach::Pci(function) = &seat.manifest.attach else {
            return;
        };
        self.add(slot << 3, function, Some(device));
    }

    fn add(&mut self, devfn: u8, function: &PciFunction, device: Option<usize>) {
        let assigned = self.assign(function);
        let mut config = ConfigSpace::new(function);
        place(&mut config, devfn, self.next.is_some(), &assigned);
        self.functions.push(Function {
            devfn,
            config,
            assigned,
            device,
            intx: false,
        });
    }

    /// Gives each BAR an address, as firmware does before an operating system starts.
    fn assign(&mut self, function: &PciFunction) -> Vec<(u8, u32)> {
        let mut assigned = Vec::new();
        let Some(free) = &mut self.next else {
            return assigned;
        };
        for bar in &function.bars {
            let next = if bar.kind == BarKind::Io {
                &mut free.port
            } else {
                &mut free.memory
            };
            let base = next.next_multiple_of(bar.size);
            *next = base + bar.size;
            let at = 0x10 + 4 * bar.index;
            let kind = match bar.kind {
                BarKind::Io => 1,
                BarKind::Memory32 => u32::from(bar.prefetchable) << 3,
                BarKind::Memory64 => 4 | u32::from(bar.prefetchable) << 3,
            };
            assigned.push((at, base as u32 | kind));
        }
        assigned
    }

    pub fn reset(&mut self) {
        self.address = 0;
        for function in &mut self.functions {
            function.config.reset();
            function.intx = false;
            let (devfn, assign) = (function.devfn, self.next.is_some());
            place(&mut function.config, devfn, assign, &function.assigned);
        }
    }

    /// A byte of a function's configuration space, if there is such a function.
    pub(crate) fn register(&self, devfn: u8, at: u8) -> Option<u8> {
        let function = self.functions.iter().find(|f| f.devfn == devfn)?;
        match function.config.read(at, 1) {
            ConfigRead::Value(value) => Some(value as u8),
            ConfigRead::Access(_) => None,
        }
    }

    fn selected(&self) -> Option<usize> {
        let on_bus_0 = self.address & 0x00ff_0000 == 0;
        let devfn = (self.address >> 8) as u8;
        (self.address & ENABLE != 0 && on_bus_0)
            .then(|| self.functions.iter().position(|f| f.devfn == devfn))
            .flatten()
    }

    /// A read of ports 0xCF8 to 0xCFF. Where `Asked::access` is set, the device's answer is the value.
    pub fn config_read(&mut self, offset: u16, bytes: u32) -> Asked {
        let mut asked = Asked {
            value: u32::MAX,
            ..Asked::default()
        };
        if offset < 4 {
            if offset == 0 && bytes == 4 {
                asked.value = self.address;
            }
            return asked;
        }
        let Some(index) = self.selected() else {
            return asked;
        };
        let Some(at) = register(self.address, offset, bytes) else {
            return asked;
        };
        match self.functions[index].config.read(at, bytes as u8) {
            ConfigRead::Value(value) => asked.value = value,
            ConfigRead::Access(access) => {
                asked.access = self.functions[index].device.map(|device| (device, access))
            }
        }
        asked
    }

    /// A write of ports 0xCF8 to 0xCFF.
    pub fn config_write(&mut self, offset: u16, bytes: u32, value: u32) -> Asked {
        if offset < 4 {
            if offset == 0 && bytes == 4 {
                self.address = value & 0x80ff_fffc;
            }
            return Asked::default();
        }
        let Some(index) = self.selected() else {
            return Asked::default();
        };
        let Some(at) = register(self.address, offset, bytes) else {
            return Asked::default();
        };
        let mut events = std::mem::take(&mut self.events);
        self.functions[index]
            .config
            .write(at, bytes as u8, value, &mut events);
        let mut asked = self.asked(index, &mut events);
        asked.chipset = self.functions[index].device.is_none();
        self.events = events;
        asked
    }

    fn asked(&mut self, index: usize, events: &mut Vec<Event>) -> Asked {
        let mut asked = Asked::default();
        for event in events.drain(..) {
            match event {
                Event::BarsChanged => asked.bars_changed = true,
                Event::Message { address, data } => asked.messages.push((address, data)),
                Event::Intx(level) => asked.gsis.push(self.set_pin(index, level)),
                Event::Access(access) => {
                    asked.access = self.functions[index].device.map(|device| (device, access))
                }
            }
        }
        asked
    }

    /// A function's pin takes a level; the I/O APIC input that it shares with others, and that input's level.
    fn set_pin(&mut self, index: usize, level: bool) -> (u8, bool) {
        self.functions[index].intx = level;
        let gsi = map::pci_gsi(self.functions[index].devfn >> 3, 0);
        let wired = |f: &&Function| map::pci_gsi(f.devfn >> 3, 0) == gsi;
        (gsi, self.functions.iter().filter(wired).any(|f| f.intx))
    }

    /// The model of `device` gives its INTx pin a level; None if it has no PCI function.
    pub fn set_intx(&mut self, device: usize, level: bool) -> Option<(u8, bool)> {
        let index = self.index_of(device)?;
        let seen = self.functions[index].config.set_intx(level);
        Some(self.set_pin(index, seen))
    }

    /// The levels of PIRQA to PIRQD: a PC's board wires INTA of device 1 to the first, of device 2 to the second, and so on.
    pub(crate) fn pirq_levels(&self) -> [bool; 4] {
        let mut levels = [false; 4];
        for function in self.functions.iter().filter(|f| f.intx) {
            levels[usize::from((function.devfn >> 3).wrapping_sub(1) & 3)] = true;
        }
        levels
    }

    /// The model of `device` fires an MSI-X vector: the message that goes out now.
    pub fn msix(&mut self, device: usize, vector: u16) -> Option<(u64, u32)> {
        let index = self.index_of(device)?;
        self.functions[index].config.fire(vector)
    }

    /// An access to a BAR that hits the MSI-X table or pending bits, which the model never sees; None for all others.
    pub fn msix_access(&mut self, device: usize, access: Access) -> Option<(u64, Asked)> {
        let index = self.index_of(device)?;
        if !self.functions[index].config.is_msix(&access) {
            return None;
        }
        let mut events = std::mem::take(&mut self.events);
        let value = self.functions[index]
            .config
            .access_msix(access, &mut events);
        let asked = self.asked(index, &mut events);
        self.events = events;
        Some((value, asked))
    }

    /// Whether the device may write RAM; true for one that is no PCI function.
    pub fn is_bus_master(&self, device: usize) -> bool {
        self.index_of(device)
            .is_none_or(|index| self.functions[index].config.is_bus_master())
    }

    fn index_of(&self, device: usize) -> Option<usize> {
        self.functions.iter().position(|f| f.device == Some(device))
    }

    /// The port and memory ranges that BARs claim now.
    pub(crate) fn claims(&self) -> (Vec<Claim>, Vec<Claim>) {
        let (mut ports, mut memory) = (Vec::new(), Vec::new());
        for function in &self.functions {
            let Some(device) = function.device else {
                continue;
            };
            for bar in function.config.bars() {
                let claim = Claim {
                    range: bar.base..bar.base + bar.len,
                    device,
                    region: bar.region,
                };
                match bar.space {
                    Space::Port => ports.push(claim),
                    Space::Memory => memory.push(claim),
                }
            }
        }
        (ports, memory)
    }
}

/// The register that an access to the data port addresses; None if it would cross a double word.
fn register(address: u32, offset: u16, bytes: u32) -> Option<u8> {
    let byte = u32::from(offset) & 3;
    (byte + bytes <= 4).then_some((address as u8 & 0xfc) | byte as u8)
}

/// What firmware does for a function: the interrupt line and the BARs' addresses.
fn place(config: &mut ConfigSpace, devfn: u8, assign: bool, assigned: &[(u8, u32)]) {
    if assign {
        config.set_byte(0x3c, map::pci_gsi(devfn >> 3, 0));
    }
    for (at, value) in assigned {
        set_dword(config, *at, *value);
    }
}

fn set_dword(config: &mut ConfigSpace, at: u8, value: u32) {
    for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
        config.set_byte(at + i as u8, byte);
    }
}
