//! The addresses of the machine, version 1: what stands where in memory, in port space and among the interrupt inputs.
//!
//! They are part of what the guest sees, so a change of one is a new machine version.

/// RAM below this address is contiguous from zero; the rest of RAM starts at [`HIGH_RAM`].
pub const LOW_RAM_END: u64 = 0xc000_0000;
/// Where RAM continues above the 32-bit hole.
pub const HIGH_RAM: u64 = 0x1_0000_0000;
/// Where the host bridge chooses between RAM, ROM and nothing: the display's memory, option ROMs and BIOS.
pub const SHADOW: std::ops::Range<u64> = 0xa_0000..0x10_0000;
/// The most of a firmware image's end that is seen below 1 MiB too.
pub const BIOS_BELOW_1M: u64 = 0x2_0000;
/// The window in which PCI memory BARs are placed.
pub const PCI_WINDOW: std::ops::Range<u64> = LOW_RAM_END..0xfec0_0000;
/// The I/O APIC's registers.
pub const IOAPIC: u64 = 0xfec0_0000;
/// The local APIC's registers at reset.
pub const LAPIC: u64 = 0xfee0_0000;
/// Where the ACPI tables lie; the RSDP comes first, so a scan of the BIOS area finds it.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// End of the area kept for ACPI tables.
pub const ACPI_TABLES_END: u64 = 0x10_0000;
/// The extended BIOS data area and above, not usable as RAM.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;

/// ACPI PM1a event block (4 bytes); control (2) at +4, PM timer (4) at +8, GPE0 (4) at +0xc.
pub const PM_BASE: u16 = 0x600;
/// PCI configuration address and data ports.
pub const PCI_CONFIG: u16 = 0xcf8;

/// Base ports and ISA interrupts of COM1 to COM4.
pub const COM: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// ISA interrupt of the RTC.
pub const RTC_IRQ: u8 = 8;
/// The ACPI interrupt: level, active high.
pub const SCI_IRQ: u8 = 9;
/// The I/O APIC input of the PIT (ISA interrupt 0 is rerouted, as on every PC).
pub const PIT_GSI: u8 = 2;

/// The I/O APIC input of pin `pin` (0 = INTA) of PCI device `device`.
pub const fn pci_gsi(device: u8, pin: u8) -> u8 {
    16 + ((device + pin) & 7)
}

/// How much RAM lies below the hole and above 4 GiB, for `memory_bytes` in all.
pub const fn split_ram(memory_bytes: u64) -> (u64, u64) {
    if memory_bytes <= LOW_RAM_END {
        (memory_bytes, 0)
    } else {
        (LOW_RAM_END, memory_bytes - LOW_RAM_END)
    }
}
