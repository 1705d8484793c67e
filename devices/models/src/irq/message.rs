//! An interrupt message: what an I/O APIC, an MSI or an inter-processor interrupt says to the local APICs.
//!
//! Sources: Intel SDM volume 3, 11.6.1 (ICR), 11.11 (MSI); 82093AA datasheet, 3.2.4 (redirection entry).

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    Edge,
    Level,
}

/// Delivery modes, by their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    Fixed,
    LowestPriority,
    Smi,
    Nmi,
    Init,
    StartUp,
    /// The vector comes from the 8259A pair.
    ExtInt,
    Reserved,
}

impl Delivery {
    pub fn from_bits(bits: u32) -> Delivery {
        use Delivery::*;
        [
            Fixed,
            LowestPriority,
            Smi,
            Reserved,
            Nmi,
            Init,
            StartUp,
            ExtInt,
        ][(bits & 7) as usize]
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// The APIC of this id; 0xFF (0xFFFF_FFFF in x2APIC mode) is everybody.
    Physical(u32),
    /// The APICs whose logical destination register matches.
    Logical(u32),
    AllButSelf,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub vector: u8,
    pub delivery: Delivery,
    pub destination: Destination,
    pub trigger: Trigger,
}

impl Message {
    /// The message that a write of `data` to `address` in 0xFEEx_xxxx makes. The redirection hint changes nothing here: with
    /// fixed delivery it only allows, and does not ask, that one of several targets be chosen.
    pub fn from_msi(address: u64, data: u32) -> Message {
        let id = (address >> 12 & 0xFF) as u32;
        let destination = if address & 4 != 0 {
            Destination::Logical(id)
        } else {
            Destination::Physical(id)
        };
        let trigger = if data & 0x8000 != 0 {
            Trigger::Level
        } else {
            Trigger::Edge
        };
        Message {
            vector: data as u8,
            delivery: Delivery::from_bits(data >> 8),
            destination,
            trigger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_msi_reads_as_linux_writes_it() {
        let message = Message::from_msi(0xFEE0_1004, 0x0000_0931);
        let expected = Message {
            vector: 0x31,
            delivery: Delivery::LowestPriority,
            destination: Destination::Logical(1),
            trigger: Trigger::Edge,
        };
        assert_eq!(message, expected);
    }
}
