//! The board: buses, event wheel, interrupt controllers, firmware and the seats of device models.
//!
//! It is everything of the machine but the CPU and the back ends: the CPU reaches it through `atoll_x86::Bus`, back ends serve it
//! through [`board::Backends`]. It opens nothing and knows no clock of the host.
#![forbid(unsafe_code)]

pub mod board;
mod bus;
mod chipset;
mod decode;
pub mod firmware;
pub mod hostile;
pub mod irq;
pub mod kvmclock;
pub mod map;
pub mod pc;
pub mod pci;
pub mod script;
pub mod seat;
pub mod watch;
pub mod wheel;

pub use board::{Backends, Board, Halt, Lost};
