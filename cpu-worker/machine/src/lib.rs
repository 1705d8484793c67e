//! The board: buses, event wheel, interrupt controllers, firmware and the seats of device models.
#![forbid(unsafe_code)]

pub mod firmware;
pub mod map;
