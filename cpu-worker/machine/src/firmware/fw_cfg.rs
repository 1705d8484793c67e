//! What firmware is told through fw_cfg (QEMU, `docs/specs/fw_cfg.rst` and `include/standard-headers/linux/qemu_fw_cfg.h`): the machine, and
//! the kernel that it is to start.
//!
//! Not here: ACPI and SMBIOS tables. SeaBIOS brings its own for this board, U-Boot goes without.

use device_models::platform::{FwCfgFile, FwCfgItem};

use super::{Boot, LoadError, linux16};

/// Numbers of items.
mod key {
    pub(super) const RAM_SIZE: u16 = 0x03;
    pub(super) const NOGRAPHIC: u16 = 0x04;
    pub(super) const CPUS: u16 = 0x05;
    pub(super) const MAX_CPUS: u16 = 0x0f;
}

/// The items and files of a machine. A kernel is entered through its 16-bit entry (`linux16.rs`).
///
/// # Errors
/// [`LoadError`], when the kernel is none, is malformed or does not fit.
pub fn contents(boot: &Boot<'_>) -> Result<(Vec<FwCfgItem>, Vec<FwCfgFile>), LoadError> {
    let mut items = vec![
        item(key::RAM_SIZE, &boot.memory_bytes.to_le_bytes()),
        // The console is the serial line.
        item(key::NOGRAPHIC, &[1, 0]),
        item(key::CPUS, &[1, 0]),
        item(key::MAX_CPUS, &[1, 0]),
    ];
    let mut files = Vec::new();
    if !boot.kernel.is_empty() {
        linux16::offer(boot, &mut items, &mut files)?;
    }
    Ok((items, files))
}

pub(super) fn item(key: u16, bytes: &[u8]) -> FwCfgItem {
    FwCfgItem {
        key,
        bytes: bytes.to_vec(),
    }
}
