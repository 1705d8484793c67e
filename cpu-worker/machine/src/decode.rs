//! Address decoding: which device claims a port or a guest-physical address.
//!
//! Ports are a table of 65,536 entries, so that a port access costs one look-up. Memory windows are few and searched in order: fixed ones
//! first, then the BARs that are enabled now.

use std::ops::Range;

use device_core::{Attach, Space};

use crate::map;
use crate::pci::PciRoot;
use crate::seat::Seat;

/// A claimed range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) range: Range<u64>,
    pub(crate) device: usize,
    /// The window's index, or the BAR's number.
    pub(crate) region: u16,
}

/// No claim, in the port table.
const NOBODY: u16 = u16::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Decode {
    fixed_ports: Vec<Claim>,
    fixed_memory: Vec<Claim>,
    bar_ports: Vec<Claim>,
    bar_memory: Vec<Claim>,
    /// Index into `fixed_ports`, then `bar_ports`.
    ports: Vec<u16>,
    serial: [Option<usize>; 4],
}

impl Decode {
    pub(crate) fn new(seats: &[Seat]) -> Decode {
        let mut decode = Decode {
            fixed_ports: Vec::new(),
            fixed_memory: Vec::new(),
            bar_ports: Vec::new(),
            bar_memory: Vec::new(),
            ports: Vec::new(),
            serial: [None; 4],
        };
        for (device, seat) in seats.iter().enumerate() {
            let Attach::Fixed(windows) = &seat.manifest.attach else {
                continue;
            };
            for (region, window) in windows.iter().enumerate() {
                let claim = Claim {
                    range: window.base..window.base + window.len,
                    device,
                    region: region as u16,
                };
                if let Some(port) = map::COM
                    .iter()
                    .position(|(base, _)| u64::from(*base) == window.base)
                    && window.space == Space::Port
                {
                    decode.serial[port] = Some(device);
                }
                match window.space {
                    Space::Port => decode.fixed_ports.push(claim),
                    Space::Memory => decode.fixed_memory.push(claim),
                }
            }
        }
        decode.rebuild_ports();
        decode
    }

    /// The guest moved, enabled or disabled a BAR.
    pub(crate) fn rebuild_bars(&mut self, pci: &PciRoot) {
        (self.bar_ports, self.bar_memory) = pci.claims();
        self.rebuild_ports();
    }

    /// A window of ports of the chipset decodes at `base` from now on, or nowhere.
    pub(crate) fn move_ports(&mut self, device: usize, region: u16, len: u64, base: Option<u16>) {
        let of = |claim: &&mut Claim| (claim.device, claim.region) == (device, region);
        let start = base.map_or(0, u64::from);
        let range = start..start + base.map_or(0, |_| len);
        if let Some(claim) = self.fixed_ports.iter_mut().find(of)
            && claim.range != range
        {
            claim.range = range;
            self.rebuild_ports();
        }
    }

    fn rebuild_ports(&mut self) {
        self.ports.clear();
        self.ports.resize(0x1_0000, NOBODY);
        // BARs first, so that a fixed device keeps its ports whatever the guest programs.
        let claims = self
            .bar_ports
            .iter()
            .enumerate()
            .map(|(i, c)| (i + self.fixed_ports.len(), c));
        for (i, claim) in claims.chain(self.fixed_ports.iter().enumerate()) {
            for port in claim.range.start..claim.range.end.min(0x1_0000) {
                self.ports[port as usize] = i as u16;
            }
        }
    }

    pub(crate) fn port(&self, port: u16) -> Option<&Claim> {
        let index = usize::from(self.ports[usize::from(port)]);
        match index.checked_sub(self.fixed_ports.len()) {
            None => self.fixed_ports.get(index),
            Some(bar) => self.bar_ports.get(bar),
        }
    }

    pub(crate) fn memory(&self, address: u64) -> Option<&Claim> {
        self.fixed_memory
            .iter()
            .chain(&self.bar_memory)
            .find(|claim| claim.range.contains(&address))
    }

    /// The devices at COM1 to COM4.
    pub(crate) fn serial_ports(&self) -> [Option<usize>; 4] {
        self.serial
    }
}
