//! The three functions of an i440FX chipset that an operating system expects to find.
//!
//! Sources: Intel 82441FX (PMC) datasheet (290549); Intel 82371AB (PIIX4) datasheet (290562). Each is only a configuration
//! space: the devices behind the ISA and power-management functions are models of their own in [`crate::platform`].
//!
//! Not modelled: memory attributes (PAM registers keep what is written; there is no shadow RAM), DRAM row boundaries, PIIX4's
//! IDE and USB functions, device monitors and SMBus.

use device_core::{ConfigByte, PciFunction};

/// 00:00.0, the 82441FX: PCI to memory.
pub fn host_bridge() -> PciFunction {
    // PAM0 to PAM6 and the SMRAM register: written by firmware, read back by it.
    let pam = (0x59..=0x5F).map(|offset| ConfigByte {
        offset,
        value: 0,
        writable: 0xFF,
    });
    let smram = ConfigByte {
        offset: 0x72,
        value: 0x02,
        writable: 0x7F,
    };
    function(0x1237, 0x06_00_00, 2, pam.chain([smram]).collect())
}

/// 00:01.0, the PIIX3-compatible PCI-to-ISA bridge. Its PIRQ registers (0x60 to 0x63) route INTA to INTD to ISA interrupts;
/// bit 7 is "not routed".
pub fn isa_bridge() -> PciFunction {
    let pirq = (0x60..=0x63).map(|offset| ConfigByte {
        offset,
        value: 0x80,
        writable: 0x8F,
    });
    let byte = |offset, value, writable| ConfigByte {
        offset,
        value,
        writable,
    };
    let others = [
        // Several functions share the device number: an enumerator looks for the others only if this says so.
        byte(0x0E, 0x80, 0),
        byte(0x4E, 0x03, 0xFF),
        // Passive release and delayed transactions, which Linux turns on.
        byte(0x82, 0x00, 0x0F),
    ];
    function(0x7000, 0x06_01_00, 0, pirq.chain(others).collect())
}

/// 00:01.3, the PIIX4 power-management function. Its registers decode at `pm_base` (64 ports, fixed by the machine version, as
/// firmware would have set it) and stay there.
pub fn acpi_pm(pm_base: u16) -> PciFunction {
    assert!(
        pm_base.is_multiple_of(64),
        "the PIIX4 decodes its 64 ports naturally aligned"
    );
    let [low, high] = (pm_base | 1).to_le_bytes();
    let byte = |offset, value| ConfigByte {
        offset,
        value,
        writable: 0,
    };
    let registers = vec![
        byte(0x40, low),
        byte(0x41, high),
        // PMREGMISC: decoding enabled.
        byte(0x80, 1),
        // The SCI is interrupt 9.
        byte(0x3C, 9),
        byte(0x3D, 1),
    ];
    function(0x7113, 0x06_80_00, 3, registers)
}

fn function(device: u16, class: u32, revision: u8, registers: Vec<ConfigByte>) -> PciFunction {
    PciFunction {
        vendor: 0x8086,
        device,
        revision,
        class,
        subsystem_vendor: 0x1AF4,
        subsystem: 0x1100,
        bars: Vec::new(),
        capabilities: Vec::new(),
        msix: None,
        intx: false,
        registers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::{ConfigRead, ConfigSpace};

    #[test]
    fn the_power_management_base_cannot_be_moved() {
        let mut config = ConfigSpace::new(&acpi_pm(0x600));
        config.write(0x40, 4, 0xB001, &mut Vec::new());
        assert_eq!(config.read(0x40, 4), ConfigRead::Value(0x601));
    }

    #[test]
    fn interrupt_routes_are_kept() {
        let mut config = ConfigSpace::new(&isa_bridge());
        assert_eq!(config.read(0x60, 4), ConfigRead::Value(0x8080_8080));
        config.write(0x60, 2, 0xFF0B, &mut Vec::new());
        assert_eq!(config.read(0x60, 4), ConfigRead::Value(0x8080_8F0B));
    }
}
