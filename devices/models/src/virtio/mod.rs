//! Virtio devices over the modern PCI transport.
//!
//! [`pci::VirtioPci`] is the transport and a `Model`; a device under it implements [`Device`] and sees queues and completions.
//! Source for all of this: Virtual I/O Device (VIRTIO) Version 1.2, OASIS committee specification 01.
//!
//! Not modelled: legacy and transitional interfaces, packed queues, queue reset, access through an IOMMU.

mod block;
mod chain;
mod device;
pub mod hostile;
mod pci;
mod queue;
mod rng;

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;

pub use block::{Block, BlockConfig};
pub use device::Device;
pub use pci::VirtioPci;
pub use rng::Rng;

/// A virtio block device as a PCI function.
pub type VirtioBlock = VirtioPci<Block>;
/// A virtio entropy device as a PCI function.
pub type VirtioRng = VirtioPci<Rng>;
