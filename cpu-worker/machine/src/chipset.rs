//! What the chipset's registers in configuration space do to the rest of the machine: the attributes of memory below 1 MiB, where
//! the power-management ports are, and which ISA interrupts PCI devices raise.
//!
//! Sources: Intel 82441FX datasheet (290549), 3.2.14 (PAM); Intel 82371AB datasheet (290562), 4.1.10 (PIRQRC), 7.2.1 and 7.2.9 (PMBA,
//! PMREGMISC).
//!
//! Not modelled: PAM's setting of writes to RAM with reads from PCI. It counts as RAM not shown; both kinds of firmware that we know
//! of copy themselves through the ROM at the top of memory instead.

use atoll_mmu::{SHADOW_BLOCK, Shown};
use device_models::pci as bridges;

use crate::board::Board;
use crate::map;

/// The PIIX4's power-management function has so many ports.
const PM_PORTS: u64 = 64;

const HOST_BRIDGE: u8 = 0;
const ISA_BRIDGE: u8 = 1 << 3;
const POWER_MANAGEMENT: u8 = 1 << 3 | 3;

/// The ISA interrupts that PIRQs may be routed to: all but 0, 1, 2, 8 and 13.
const PCI_INTERRUPTS: u16 = !0x2107;

/// The blocks whose attributes PAM1 to PAM6 have, two a register; PAM0's upper half has those of the 64 KiB behind.
const PAM_BLOCKS: std::ops::Range<u64> = 0xc_0000..0xf_0000;

impl Board {
    /// Does what the chipset's registers say now.
    pub(crate) fn follow_chipset(&mut self) {
        self.show_memory();
        self.place_power_management();
        self.route_interrupts();
    }

    /// PCI interrupts reach the I/O APIC by inputs of their own, and besides the ISA interrupts that the PIRQ registers name.
    pub(crate) fn route_interrupts(&mut self) {
        const NOT_ROUTED: u8 = 0x80;
        let levels = self.pci.pirq_levels();
        let mut routed = 0u16;
        for (at, _) in (bridges::PIRQ..).zip(levels).filter(|(_, level)| *level) {
            let route = self.pci.register(ISA_BRIDGE, at).unwrap_or(NOT_ROUTED);
            // Those that belong to the board itself are reserved values.
            if route & NOT_ROUTED == 0 && PCI_INTERRUPTS >> (route & 15) & 1 != 0 {
                routed |= 1 << (route & 15);
            }
        }
        let changed = routed ^ self.routed;
        self.routed = routed;
        for irq in (0..16u8).filter(|irq| changed >> irq & 1 != 0) {
            self.irq.set_isa(irq, routed >> irq & 1 != 0);
        }
    }

    fn show_memory(&self) {
        let pam = |n: u64| {
            self.pci
                .register(HOST_BRIDGE, bridges::PAM + n as u8)
                .unwrap_or(0)
        };
        let blocks = |range: std::ops::Range<u64>| range.step_by(SHADOW_BLOCK as usize);
        for at in blocks(map::SHADOW.start..PAM_BLOCKS.start) {
            // The display's memory, and there is no display.
            self.ram.show(at, Shown::Nothing);
        }
        for at in blocks(PAM_BLOCKS) {
            let half = (at - PAM_BLOCKS.start) / SHADOW_BLOCK;
            self.ram
                .show(at, shown(pam(1 + half / 2) >> (4 * (half % 2))));
        }
        for at in blocks(PAM_BLOCKS.end..map::SHADOW.end) {
            self.ram.show(at, shown(pam(0) >> 4));
        }
    }

    fn place_power_management(&mut self) {
        let register = |at| self.pci.register(POWER_MANAGEMENT, at).unwrap_or(0);
        let base = u16::from_le_bytes([
            register(bridges::PM_BASE) & 0xc0,
            register(bridges::PM_BASE + 1),
        ]);
        let on = register(bridges::PM_ENABLE) & 1 != 0 && base != 0;
        let device = self
            .seats
            .iter()
            .position(|seat| seat.manifest.kind == "acpi-pm");
        if let Some(device) = device {
            self.decode
                .move_ports(device, 0, PM_PORTS, on.then_some(base));
        }
    }
}

/// Bit 0 of an attribute lets reads go to RAM, bit 1 writes.
fn shown(attribute: u8) -> Shown {
    match attribute & 3 {
        3 => Shown::Ram,
        1 => Shown::ReadOnly,
        _ => Shown::Rom,
    }
}
