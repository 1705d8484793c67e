//! PCI: the configuration space of every function, and the bridges of the chipset.

mod bridges;
mod config;
mod msix;

pub use bridges::{PAM, PIRQ, PM_BASE, PM_ENABLE, acpi_pm, host_bridge, isa_bridge};
pub use config::{BarRange, ConfigRead, ConfigSpace, Event};
