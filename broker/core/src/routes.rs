//! The interrupt routes of the board: what each device may raise and where it goes.

use atoll_abi::PeerId;
use atoll_abi::route::{Route, RouteKind};

/// A device as far as its interrupts are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A 16550A at one of the four ISA positions.
    Serial { index: u8 },
    /// A PCI function with INTA# and so many MSI-X vectors.
    Pci { slot: u8, vectors: u16 },
}

/// The first input of the I/O APIC that PCI interrupt lines are wired to.
const FIRST_PCI_INPUT: u32 = 16;

/// The rows of the table, for devices in the order of their places. A model in a worker seat is
/// raised by the worker.
pub fn routes(devices: &[Source], owner: PeerId) -> Vec<Route> {
    let mut rows = Vec::new();
    for (device, source) in (0u16..).zip(devices) {
        let mut row = |kind, source, input| {
            rows.push(Route {
                kind,
                device,
                source,
                input,
                owner,
            })
        };
        match *source {
            // COM1 and COM3 share IRQ 4, COM2 and COM4 share IRQ 3.
            Source::Serial { index } => row(RouteKind::Edge, 0, if index % 2 == 0 { 4 } else { 3 }),
            Source::Pci { slot, vectors } => {
                row(RouteKind::Level, 0, FIRST_PCI_INPUT + u32::from(slot % 4));
                (1..=vectors).for_each(|vector| row(RouteKind::Msi, vector, 0));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_places() {
        let devices = [
            Source::Serial { index: 1 },
            Source::Pci {
                slot: 5,
                vectors: 2,
            },
        ];
        let rows = routes(&devices, PeerId::new(1, 0));
        let short: Vec<_> = rows
            .iter()
            .map(|r| (r.kind, r.device, r.source, r.input))
            .collect();
        let expected = [
            (RouteKind::Edge, 0, 0, 3),
            (RouteKind::Level, 1, 0, 17),
            (RouteKind::Msi, 1, 1, 0),
            (RouteKind::Msi, 1, 2, 0),
        ];
        assert_eq!(short, expected);
    }
}
