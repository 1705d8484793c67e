//! The ACPI tables (ACPI specification 6.5): RSDP, XSDT, FADT, FACS, MADT and the DSDT.
//!
//! The hardware is the fixed-feature PM block of [`crate::map::PM_BASE`] with power button, S5 and a reset register. PCI interrupt
//! pins are wired straight to I/O APIC inputs 16 to 23.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, Package,
    PackageBuilder, Path, ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, facs::FACS};

use device_models::platform;

use super::Chunk;
use crate::map;

const OEM: [u8; 6] = *b"ATOLL ";
const OEM_TABLE: [u8; 8] = *b"ATOLLPC ";
const REVISION: u32 = 1;

/// What of the machine the tables tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tables {
    /// Which of COM1 to COM4 exist.
    pub serial: [bool; 4],
}

impl Tables {
    /// The tables as one chunk, and the address of the RSDP.
    pub fn build(&self) -> (Chunk<'static>, u64) {
        let mut area = Area::default();
        let rsdp_at = area.reserve(Rsdp::len());
        let facs = area.place(&bytes_of(&FACS::new()));
        let dsdt = area.place(&self.dsdt());
        let fadt = area.place(&fadt(dsdt, facs));
        let madt = area.place(&madt());
        let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
        xsdt.add_entry(fadt);
        xsdt.add_entry(madt);
        let xsdt = area.place(&bytes_of(&xsdt));
        area.fill(rsdp_at, &bytes_of(&Rsdp::new(OEM, xsdt)));
        (Chunk::new(map::ACPI_TABLES, area.0), map::ACPI_TABLES)
    }

    fn dsdt(&self) -> Vec<u8> {
        let mut body = Vec::new();
        pci_root(&mut body);
        self.legacy_devices(&mut body);
        // SLP_TYPa and SLP_TYPb of S5.
        Name::new(
            Path::new("_S5_"),
            &Package::new(vec![
                &platform::S5_SLEEP_TYPE,
                &platform::S5_SLEEP_TYPE,
                &0u8,
                &0u8,
            ]),
        )
        .to_aml_bytes(&mut body);
        let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
        table.append_slice(&body);
        table.as_slice().to_vec()
    }

    fn legacy_devices(&self, body: &mut Vec<u8>) {
        for (i, (port, irq)) in map::COM
            .into_iter()
            .enumerate()
            .filter(|(i, _)| self.serial[*i])
        {
            let name = format!("_SB_.COM{}", i + 1);
            Device::new(
                Path::new(&name),
                vec![
                    &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
                    &Name::new(Path::new("_UID"), &(i as u8 + 1)),
                    &Name::new(
                        Path::new("_CRS"),
                        &ResourceTemplate::new(vec![
                            &IO::new(port, port, 1, 8),
                            &Interrupt::new(true, true, false, false, u32::from(irq)),
                        ]),
                    ),
                ],
            )
            .to_aml_bytes(body);
        }
        Device::new(
            Path::new("_SB_.RTC_"),
            vec![
                &Name::new(Path::new("_HID"), &EISAName::new("PNP0B00")),
                &Name::new(
                    Path::new("_CRS"),
                    &ResourceTemplate::new(vec![
                        &IO::new(0x70, 0x70, 1, 2),
                        &Interrupt::new(true, true, false, false, u32::from(map::RTC_IRQ)),
                    ]),
                ),
            ],
        )
        .to_aml_bytes(body);
    }
}

/// `\_SB.PCI0`: one root bus, its windows and the wiring of the interrupt pins.
fn pci_root(body: &mut Vec<u8>) {
    let mut routing = PackageBuilder::new();
    for device in 0..32u8 {
        for pin in 0..4u8 {
            let address = (u32::from(device) << 16) | 0xffff;
            let gsi = u32::from(map::pci_gsi(device, pin));
            routing.add_element(&Package::new(vec![&address, &pin, &0u8, &gsi]));
        }
    }
    let buses = AddressSpace::new_bus_number(0u16, 0u16);
    let config = IO::new(map::PCI_CONFIG, map::PCI_CONFIG, 1, 8);
    let ports_below = AddressSpace::new_io(0u16, map::PCI_CONFIG - 1, None);
    let ports_above = AddressSpace::new_io(map::PCI_CONFIG + 8, 0xffffu16, None);
    let (first, last) = (
        map::PCI_WINDOW.start as u32,
        (map::PCI_WINDOW.end - 1) as u32,
    );
    let memory =
        AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None);
    let windows = ResourceTemplate::new(vec![&buses, &config, &ports_below, &ports_above, &memory]);
    Scope::new(
        Path::new("_SB_"),
        vec![&Device::new(
            Path::new("PCI0"),
            vec![
                &Name::new(Path::new("_HID"), &EISAName::new("PNP0A03")),
                &Name::new(Path::new("_UID"), &0u8),
                &Name::new(Path::new("_BBN"), &0u8),
                &Name::new(Path::new("_CRS"), &windows),
                &Name::new(Path::new("_PRT"), &routing),
            ],
        )],
    )
    .to_aml_bytes(body);
}

fn fadt(dsdt: u64, facs: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .dsdt_64(dsdt)
        .firmware_ctrl_32(facs as u32)
        .gpe_info(u32::from(map::PM_BASE) + 0xc, 0, 4, 0, 0);
    // Kernels before ACPI 2.0 support read the 32-bit pointer, so both are given.
    fadt.dsdt = (dsdt as u32).into();
    fadt.sci_int = u16::from(map::SCI_IRQ).into();
    fadt.smi_cmd = u32::from(platform::SMI_COMMAND_PORT).into();
    fadt.acpi_enable = platform::ACPI_ENABLE;
    fadt.acpi_disable = platform::ACPI_DISABLE;
    fadt.pm1a_evt_blk = u32::from(map::PM_BASE).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(map::PM_BASE + 4).into();
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = u32::from(map::PM_BASE + 8).into();
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = 0xfff.into();
    fadt.p_lvl3_lat = 0xfff.into();
    fadt.century = 0x32;
    // Legacy devices on the LPC bus; no VGA; CMOS RTC present. The 8042 serves resets only, so it is not announced.
    fadt.iapc_boot_arch = 0x0005.into();
    fadt.reset_reg = GAS::new(
        GasSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(platform::RESET_PORT),
    );
    fadt.reset_value = platform::RESET_VALUE;
    bytes_of(&fadt.finalize())
}

/// Local APIC 0, one I/O APIC, the PIT on input 2, the SCI level-triggered, NMI on LINT1.
fn madt() -> Vec<u8> {
    let mut table = Sdt::new(*b"APIC", 36, 4, OEM, OEM_TABLE, REVISION);
    table.append_slice(&(map::LAPIC as u32).to_le_bytes());
    table.append_slice(&1u32.to_le_bytes()); // PCAT_COMPAT: a PIC pair exists as well
    table.append_slice(&[0, 8, 0, 0, 1, 0, 0, 0]);
    table.append_slice(&[1, 12, 1, 0]);
    table.append_slice(&(map::IOAPIC as u32).to_le_bytes());
    table.append_slice(&0u32.to_le_bytes());
    let mut source_override = |irq: u8, gsi: u8, flags: u16| {
        table.append_slice(&[2, 10, 0, irq, gsi, 0, 0, 0]);
        table.append_slice(&flags.to_le_bytes());
    };
    source_override(0, map::PIT_GSI, 0);
    source_override(map::SCI_IRQ, map::SCI_IRQ, 0x000d); // active high, level
    table.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    table.as_slice().to_vec()
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// The table area under construction; addresses are guest-physical.
#[derive(Default)]
struct Area(Vec<u8>);

impl Area {
    fn reserve(&mut self, len: usize) -> u64 {
        // The FACS must be aligned to 64 bytes; aligning all alike does no harm.
        self.0.resize(self.0.len().next_multiple_of(64), 0);
        let at = self.0.len();
        self.0.resize(at + len, 0);
        assert!(
            map::ACPI_TABLES + self.0.len() as u64 <= map::ACPI_TABLES_END,
            "the ACPI tables outgrew their area"
        );
        map::ACPI_TABLES + at as u64
    }
    fn fill(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - map::ACPI_TABLES) as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn place(&mut self, bytes: &[u8]) -> u64 {
        let address = self.reserve(bytes.len());
        self.fill(address, bytes);
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_sums_to_zero() {
        let (chunk, rsdp) = Tables {
            serial: [true, true, false, false],
        }
        .build();
        assert_eq!(rsdp, chunk.address);
        let at = |address: u64| (address - chunk.address) as usize;
        let u32_at = |i: usize| u32::from_le_bytes(chunk.bytes[i..i + 4].try_into().unwrap());
        let u64_at = |i: usize| u64::from_le_bytes(chunk.bytes[i..i + 8].try_into().unwrap());
        let sum = |i: usize, n: usize| {
            chunk.bytes[i..i + n]
                .iter()
                .fold(0u8, |s, b| s.wrapping_add(*b))
        };
        assert_eq!(&chunk.bytes[..8], b"RSD PTR ");
        assert_eq!(sum(0, 36), 0);
        let xsdt = at(u64_at(24));
        assert_eq!(sum(xsdt, u32_at(xsdt + 4) as usize), 0);
        for i in 0..2 {
            let table = at(u64_at(xsdt + 36 + i * 8));
            assert_eq!(sum(table, u32_at(table + 4) as usize), 0);
        }
    }
}
