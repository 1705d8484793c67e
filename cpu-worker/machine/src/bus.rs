//! The board as the CPU sees it: port and memory accesses, the MSRs of the local APIC and of kvmclock, interrupts.
//!
//! Every access is charged, then carried out at the virtual time that follows, and tells the engine to leave when it raised an
//! interrupt, moved the next event nearer, wrote RAM or ended the machine.

use std::any::Any;

use atoll_x86::bus::{Bus, Clock, attention};
use device_core::Access;

use crate::board::Board;
use crate::map;
use crate::pci::Asked;
use crate::watch::Space;

/// What an access costs, in virtual ns (DESIGN of the machine, version 1).
const PORT_NS: u64 = 500;
const MMIO_NS: u64 = 100;

/// Ports of the PIC pair.
const PIC_PORTS: [u16; 6] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];

const MSR_APIC_BASE: u32 = 0x1b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const MSR_X2APIC: std::ops::Range<u32> = 0x800..0x900;

fn is_pci_config(port: u16) -> bool {
    (map::PCI_CONFIG..map::PCI_CONFIG + 8).contains(&port)
        && port != device_models::platform::RESET_PORT
}

fn all_ones(bytes: u32) -> u64 {
    if bytes >= 8 {
        u64::MAX
    } else {
        (1 << (8 * bytes)) - 1
    }
}

impl Board {
    /// Tells the engine what an access changed.
    fn settle(&mut self, clock: &mut Clock) {
        if let Some(at) = self.nearer_ns.take() {
            clock.pull_deadline(at);
        }
        if self.irq.is_pending() || self.irq.nmi_is_pending() {
            clock.attention |= attention::INTERRUPT;
        }
        if self.ram.code_written() {
            clock.attention |= attention::CODE;
        }
        if self.is_halted() {
            clock.attention |= attention::MACHINE;
        }
    }

    /// Whether there is anything at a port.
    pub(crate) fn answers_port(&self, port: u16) -> bool {
        PIC_PORTS.contains(&port) || is_pci_config(port) || self.decode.port(port).is_some()
    }

    /// Whether there is anything at an address that is not RAM.
    pub(crate) fn answers_memory(&self, address: u64) -> bool {
        self.lapic_page(address).is_some()
            || address & !0xfff == map::IOAPIC
            || self.decode.memory(address).is_some()
    }

    fn lapic_page(&self, address: u64) -> Option<u64> {
        let base = self.irq.lapic.base() & !0xfff & 0xf_ffff_f000;
        (self.irq.lapic.is_enabled() && !self.irq.lapic.is_x2apic() && address & !0xfff == base)
            .then_some(address & 0xfff)
    }

    fn device_access(&mut self, now_ns: u64, device: usize, access: Access) -> u64 {
        if let Some((value, asked)) = self.pci.msix_access(device, access) {
            self.pci_asked(now_ns, asked);
            return value;
        }
        let bytes = u32::from(access.size);
        self.call(now_ns, device, |model, cx| model.access(access, cx))
            .unwrap_or(all_ones(bytes))
            & all_ones(bytes)
    }

    fn port_access(&mut self, now_ns: u64, port: u16, bytes: u32, write: Option<u32>) -> u64 {
        if PIC_PORTS.contains(&port) {
            return match write {
                Some(value) => {
                    self.irq.pic_write(port, value as u8);
                    0
                }
                None => u64::from(self.irq.pic_read(port)) | (all_ones(bytes) & !0xff),
            };
        }
        if is_pci_config(port) {
            return self.pci_config(now_ns, port, bytes, write);
        }
        let Some(claim) = self.decode.port(port) else {
            return all_ones(bytes);
        };
        let (device, region, offset) = (
            claim.device,
            claim.region,
            u64::from(port) - claim.range.start,
        );
        let left = claim.range.end - u64::from(port);
        if u64::from(bytes) > left {
            // It runs over the end of the window: byte by byte, each to its own claim.
            return self.port_bytes(now_ns, port, bytes, write);
        }
        let access = match write {
            Some(value) => Access::write(region, offset, bytes as u8, u64::from(value)),
            None => Access::read(region, offset, bytes as u8),
        };
        self.device_access(now_ns, device, access)
    }

    fn port_bytes(&mut self, now_ns: u64, port: u16, bytes: u32, write: Option<u32>) -> u64 {
        (0..bytes).fold(0, |value, i| {
            let byte = write.map(|v| (v >> (8 * i)) & 0xff);
            value | self.port_access(now_ns, port.wrapping_add(i as u16), 1, byte) << (8 * i)
        })
    }

    fn pci_config(&mut self, now_ns: u64, port: u16, bytes: u32, write: Option<u32>) -> u64 {
        let offset = port - map::PCI_CONFIG;
        let asked = match write {
            Some(value) => self.pci.config_write(offset, bytes, value),
            None => self.pci.config_read(offset, bytes),
        };
        u64::from(self.pci_asked(now_ns, asked)) & all_ones(bytes)
    }

    /// Does what an access to configuration space or to an MSI-X table asks; gives its value.
    fn pci_asked(&mut self, now_ns: u64, asked: Asked) -> u32 {
        if asked.bars_changed {
            self.decode.rebuild_bars(&self.pci);
        }
        if asked.chipset {
            self.follow_chipset();
        }
        asked
            .messages
            .into_iter()
            .for_each(|(address, data)| self.irq.msi(address, data));
        asked
            .gsis
            .into_iter()
            .for_each(|(gsi, level)| self.irq.set_gsi(gsi, level));
        self.route_interrupts();
        match asked.access {
            Some((device, access)) => self.device_access(now_ns, device, access) as u32,
            None => asked.value,
        }
    }

    fn memory_access(&mut self, now_ns: u64, address: u64, bytes: u32, write: Option<u64>) -> u64 {
        if let Some(offset) = self.lapic_page(address) {
            let value = match write {
                Some(value) => {
                    let signal = self.irq.lapic.mmio_write(offset, value as u32, now_ns);
                    self.irq.signal(signal);
                    0
                }
                None => u64::from(self.irq.lapic.mmio_read(offset, now_ns)),
            };
            self.sync_lapic_timer();
            return value;
        }
        if address & !0xfff == map::IOAPIC {
            return match write {
                Some(value) => {
                    self.irq.ioapic_write(address & 0xfff, value as u32);
                    0
                }
                None => u64::from(self.irq.ioapic_read(address & 0xfff)),
            };
        }
        let Some(claim) = self.decode.memory(address) else {
            return all_ones(bytes);
        };
        let (device, region, offset) = (claim.device, claim.region, address - claim.range.start);
        if u64::from(bytes) > claim.range.end - address {
            return all_ones(bytes);
        }
        let access = match write {
            Some(value) => Access::write(region, offset, bytes as u8, value),
            None => Access::read(region, offset, bytes as u8),
        };
        self.device_access(now_ns, device, access)
    }
}

impl Bus for Board {
    fn mmio_read(&mut self, clock: &mut Clock, address: u64, bytes: u32) -> u64 {
        clock.charge_ns(MMIO_NS);
        let value = self.memory_access(clock.now_ns(), address, bytes, None);
        self.show(
            clock.now_ns(),
            (Space::Memory, address),
            bytes,
            value,
            false,
        );
        self.settle(clock);
        value
    }

    fn mmio_write(&mut self, clock: &mut Clock, address: u64, bytes: u32, value: u64) {
        clock.charge_ns(MMIO_NS);
        self.memory_access(clock.now_ns(), address, bytes, Some(value));
        self.show(clock.now_ns(), (Space::Memory, address), bytes, value, true);
        self.settle(clock);
    }

    fn port_in(&mut self, clock: &mut Clock, port: u16, bytes: u32) -> u32 {
        clock.charge_ns(PORT_NS);
        let value = self.port_access(clock.now_ns(), port, bytes, None);
        let at = (Space::Port, u64::from(port));
        self.show(clock.now_ns(), at, bytes, value, false);
        self.settle(clock);
        value as u32
    }

    fn port_out(&mut self, clock: &mut Clock, port: u16, bytes: u32, value: u32) {
        clock.charge_ns(PORT_NS);
        self.port_access(clock.now_ns(), port, bytes, Some(value));
        let at = (Space::Port, u64::from(port));
        self.show(clock.now_ns(), at, bytes, u64::from(value), true);
        self.settle(clock);
    }

    fn msr_read(&mut self, clock: &mut Clock, msr: u32) -> Option<u64> {
        match msr {
            MSR_APIC_BASE => Some(self.irq.lapic.base()),
            MSR_TSC_DEADLINE => Some(self.irq.lapic.tsc_deadline()),
            _ if MSR_X2APIC.contains(&msr) => self.irq.lapic.msr_read(msr, clock.now_ns()).ok(),
            _ => self.kvmclock.msr_read(msr),
        }
    }

    fn msr_write(&mut self, clock: &mut Clock, msr: u32, value: u64) -> bool {
        let now_ns = clock.now_ns();
        let done = match msr {
            MSR_APIC_BASE => self.irq.lapic.set_base(value).is_ok(),
            MSR_TSC_DEADLINE => {
                // One tick is one ns, so the deadline is a virtual time.
                self.irq.lapic.set_tsc_deadline(value, value);
                true
            }
            _ if MSR_X2APIC.contains(&msr) => match self.irq.lapic.msr_write(msr, value, now_ns) {
                Ok(signal) => {
                    self.irq.signal(signal);
                    true
                }
                Err(_) => false,
            },
            _ => self
                .kvmclock
                .msr_write(msr, value, now_ns, self.epoch_s, &self.ram),
        };
        self.sync_lapic_timer();
        self.settle(clock);
        done
    }

    fn tpr(&mut self) -> u8 {
        self.irq.lapic.cr8()
    }

    fn set_tpr(&mut self, clock: &mut Clock, tpr: u8) {
        self.irq.lapic.set_cr8(tpr);
        self.settle(clock);
    }

    fn interrupt_pending(&mut self, _clock: &mut Clock) -> bool {
        self.irq.is_pending()
    }

    fn acknowledge(&mut self, _clock: &mut Clock) -> Option<u8> {
        self.irq.acknowledge()
    }

    fn a20_is_open(&mut self) -> bool {
        self.a20_open
    }

    fn nmi_pending(&mut self) -> bool {
        self.irq.nmi_is_pending()
    }

    fn take_nmi(&mut self) -> bool {
        self.irq.take_nmi()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
