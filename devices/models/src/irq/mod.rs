//! Interrupt controllers: the 8259A pair, the I/O APIC, the local APIC, and the messages between the last two.
//!
//! They are called directly by the worker (`Lapic::pending`, `Pic::ack`), not through the `Model` trait: an interrupt crosses
//! no seam on its way to the CPU. They are pure all the same, and their state is a `Section` like any model's.
//!
//! Levels of lines are logical: `true` is asserted, whatever polarity the guest programmed.

mod ioapic;
mod lapic;
mod message;
mod pic;

pub use ioapic::Ioapic;
pub use lapic::{Gp, Lapic, Signal, TIMER_HZ};
pub use message::{Delivery, Destination, Message, Trigger};
pub use pic::Pic;
