//! The devices of a PC as pure state machines.
//!
//! Everything here obeys `device-core`: an access, a timer, a completion or an input goes in with its virtual time, and
//! effects come out. No file, socket, thread or clock; a guest's mistake is data, never an error or a panic.
//!
//! * [`irq`]: the interrupt controllers. They belong to the CPU and always sit in the worker, so they have typed calls of
//!   their own instead of the `Model` trait.
//! * [`pci`]: the one configuration space that the board uses for every function, and the bridges of the chipset.
//! * [`platform`]: timers, clock, power management and keyboard controller.
//! * [`uart`]: the 16550A.
//! * [`virtio`]: split queues, the PCI transport and the devices over it.
#![forbid(unsafe_code)]

pub mod irq;
pub mod pci;
mod pin;
pub mod platform;
pub mod uart;
pub mod virtio;
