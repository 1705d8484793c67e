//! The machine file and QEMU's flags.
