//! The three functions of an i440FX chipset that an operating system expects to find.
//!
//! Sources: Intel 82441FX (PMC) datasheet (290549); Intel 82371AB (PIIX4) datasheet (290562). Each is only a configuration
//! space: the devices behind the ISA and power-management functions are models of their own in [`crate::platform`].
//!
//! The registers that steer the rest of the machine (memory attributes, the base of the power-management ports) are plain bytes here;
//! the board reads them after each write and does what they say.
//!
//! Not modelled: DRAM row boundaries, SMRAM, PIIX4's IDE and USB functions, device monitors and SMBus.

use device_core::{ConfigByte, PciFunction};

/// The first of the seven PAM registers of [`host_bridge`].
pub const PAM: u8 = 0x59;
/// The first of the four PIRQ registers of [`isa_bridge`].
pub const PIRQ: u8 = 0x60;
/// The PIIX4's register with the base of its ports, and the one whose bit 0 enables them.
pub const PM_BASE: u8 = 0x40;
pub const PM_ENABLE: u8 = 0x80;

/// 00:00.0, the 82441FX: PCI to memory. `pam` is what each PAM register has after a reset: zero on hardware, something else where there
/// is no firmware to open the shadow RAM.
pub fn host_bridge(pam: u8) -> PciFunction {
    let pam = (PAM..PAM + 7).map(|offset| ConfigByte {
        offset,
        value: pam,
        writable: 0x33,
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
    let pirq = (PIRQ..PIRQ + 4).map(|offset| ConfigByte {
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

/// 00:01.3, the PIIX4 power-management function. Its 64 ports decode at `pm_base` after a reset, or nowhere until firmware gives them a
/// base.
pub fn acpi_pm(pm_base: Option<u16>) -> PciFunction {
    let base = pm_base.unwrap_or(0);
    assert!(
        base.is_multiple_of(64),
        "the PIIX4 decodes its 64 ports naturally aligned"
    );
    let [low, high] = (base | 1).to_le_bytes();
    let byte = |offset, value, writable| ConfigByte {
        offset,
        value,
        writable,
    };
    let registers = vec![
        byte(PM_BASE, low, 0xC0),
        byte(PM_BASE + 1, high, 0xFF),
        byte(PM_ENABLE, u8::from(pm_base.is_some()), 0x01),
        // DEVACTB's APMC_EN: a write of the SMI command port has an effect, as it has without system management mode. Firmware takes
        // it for the sign that a handler is in place.
        byte(0x5B, 0x02, 0x02),
        // The SCI is interrupt 9.
        byte(0x3C, 9, 0),
        byte(0x3D, 1, 0),
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
    fn the_power_management_base_is_a_multiple_of_64() {
        let mut config = ConfigSpace::new(&acpi_pm(Some(0x600)));
        assert_eq!(config.read(0x40, 4), ConfigRead::Value(0x601));
        config.write(0x40, 4, 0xB03E, &mut Vec::new());
        assert_eq!(config.read(0x40, 4), ConfigRead::Value(0xB001));
        assert_eq!(
            ConfigSpace::new(&acpi_pm(None)).read(0x80, 1),
            ConfigRead::Value(0)
        );
    }

    #[test]
    fn interrupt_routes_are_kept() {
        let mut config = ConfigSpace::new(&isa_bridge());
        assert_eq!(config.read(0x60, 4), ConfigRead::Value(0x8080_8080));
        config.write(0x60, 2, 0xFF0B, &mut Vec::new());
        assert_eq!(config.read(0x60, 4), ConfigRead::Value(0x8080_8F0B));
    }
}
