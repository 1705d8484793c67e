//! The machine, version 1: which devices stand on the board, wired how, in which order.
//!
//! The chipset comes first, then the places of the machine file in their order; that order breaks ties between events of equal
//! time, so it is part of the machine's version.

use atoll_mmu::Ram;
use device_core::Model;
use device_models::pci as bridges;
use device_models::platform::{AcpiPm, FwCfg, I8042, Pit, Rtc};
use device_models::uart::Uart;
use device_models::virtio::{Block, BlockConfig, VirtioPci};
use machine_spec::{GuestMachine, PlaceKind};

use crate::board::{Backends, Board};
use crate::firmware::{Chunk, acpi::Tables, bios};
use crate::map;
use crate::pci::PciRoot;
use crate::script::Script;
use crate::seat::{LineTarget, Seat};

/// What a back end says of a disk before the machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub size_bytes: u64,
    pub block_bytes: u32,
    pub read_only: bool,
    pub discard: bool,
}

/// Builds the board of `guest`. `disks` tells of the disk at each place that has one, `fw_cfg` is for firmware, if it has any.
pub fn build(
    guest: &GuestMachine,
    ram: Ram,
    fw_cfg: Option<FwCfg>,
    backends: Box<dyn Backends>,
    disks: &[Option<Disk>],
) -> Board {
    // Without firmware, what it would do is done: all shadow RAM open, PCI functions with addresses.
    let (pam, pm_base) = if guest.bios {
        (0, None)
    } else {
        (0x33, Some(map::PM_BASE))
    };
    let mut pci = PciRoot::new(!guest.bios);
    pci.add_bridge(0, &bridges::host_bridge(pam));
    pci.add_bridge(1 << 3, &bridges::isa_bridge());
    pci.add_bridge(1 << 3 | 3, &bridges::acpi_pm(pm_base));

    let (low, high) = map::split_ram(guest.memory_bytes);
    let mut seats = vec![
        seat("pit", Pit::new(), &[LineTarget::Isa(0)], None),
        seat(
            "rtc",
            Rtc::new(guest.rtc_epoch, low, high),
            &[LineTarget::Isa(map::RTC_IRQ)],
            None,
        ),
        seat(
            "acpi-pm",
            AcpiPm::new(map::PM_BASE),
            &[LineTarget::Isa(map::SCI_IRQ)],
            None,
        ),
        seat("i8042", I8042::new(), &[LineTarget::Isa(1)], None),
    ];
    seats.extend(fw_cfg.map(|model| seat("fw-cfg", model, &[], None)));
    for (place, spec) in guest.places.iter().enumerate() {
        let at = Some(place as u16);
        match &spec.kind {
            PlaceKind::Serial { index } => {
                let (port, irq) = map::COM[usize::from(*index) % map::COM.len()];
                seats.push(seat(&spec.id, Uart::new(port), &[LineTarget::Isa(irq)], at));
            }
            PlaceKind::VirtioBlk {
                pci_slot,
                serial,
                readonly,
                write_cache,
                discard,
            } => {
                let found = disks
                    .get(place)
                    .copied()
                    .flatten()
                    .expect("a place with a disk was asked for it");
                let config = BlockConfig {
                    sectors: found.size_bytes / 512,
                    block_size: found.block_bytes.clamp(512, 4096),
                    physical_block_size: found.block_bytes.max(512),
                    read_only: *readonly || found.read_only,
                    writeback: *write_cache,
                    discard: *discard && found.discard,
                    serial: serial.clone(),
                };
                let device = seats.len();
                seats.push(seat(
                    &spec.id,
                    VirtioPci::new(Block::new(config)),
                    &[LineTarget::Pci],
                    at,
                ));
                pci.add_device(*pci_slot, device, &seats[device]);
            }
        }
    }
    Board::new(
        ram,
        seats,
        pci,
        guest.rtc_epoch,
        Script::new(&guest.script),
        backends,
    )
}

fn seat(id: &str, model: impl Model + 'static, lines: &[LineTarget], place: Option<u16>) -> Seat {
    Seat::new(id, Box::new(model), lines.to_vec(), place)
}

/// What a BIOS would have left in RAM for the devices of `guest`, and the address of the ACPI tables' root pointer.
pub fn firmware(guest: &GuestMachine) -> (Vec<Chunk<'static>>, u64) {
    let mut serial = [false; 4];
    for place in &guest.places {
        if let PlaceKind::Serial { index } = place.kind
            && let Some(present) = serial.get_mut(usize::from(index))
        {
            *present = true;
        }
    }
    let (tables, rsdp) = Tables { serial }.build();
    let mut chunks = vec![tables];
    chunks.extend(bios::areas(serial));
    (chunks, rsdp)
}
