//! Configuration space as an enumerating system, a driver and a hostile guest use it.

use super::*;
use device_core::{Capability, Msix};

fn function() -> PciFunction {
    let bar = |index, kind, size| Bar {
        index,
        kind,
        prefetchable: kind == BarKind::Memory64,
        size,
        granule: 4,
    };
    let mut window = vec![20, 5, 0, 0, 0, 0];
    window.resize(18, 0);
    let writable = [&[0, 0, 0xFF, 0, 0, 0][..], &[0xFF; 12][..]].concat();
    PciFunction {
        vendor: 0x1AF4,
        device: 0x1042,
        revision: 1,
        class: 0x01_00_00,
        subsystem_vendor: 0x1AF4,
        subsystem: 2,
        bars: vec![
            bar(0, BarKind::Io, 64),
            bar(1, BarKind::Memory32, 0x1000),
            bar(4, BarKind::Memory64, 0x4000),
        ],
        capabilities: vec![Capability {
            id: 9,
            body: window,
            writable,
            bar_window: true,
        }],
        msix: Some(Msix {
            vectors: 3,
            table_bar: 1,
            table_offset: 0,
            pba_bar: 1,
            pba_offset: 0x800,
        }),
        intx: true,
        registers: Vec::new(),
    }
}

fn value(config: &ConfigSpace, offset: u8, size: u8) -> u32 {
    match config.read(offset, size) {
        ConfigRead::Value(value) => value,
        ConfigRead::Access(access) => panic!("{access:?}"),
    }
}

fn write(config: &mut ConfigSpace, offset: u8, size: u8, value: u32) -> Vec<Event> {
    let mut events = Vec::new();
    config.write(offset, size, value, &mut events);
    events
}

fn write_msix(config: &mut ConfigSpace, offset: u64, value: u32) -> Vec<Event> {
    let mut events = Vec::new();
    config.access_msix(Access::write(1, offset, 4, u64::from(value)), &mut events);
    events
}

#[test]
fn the_header_reads_as_the_manifest_says() {
    let config = ConfigSpace::new(&function());
    assert_eq!(value(&config, 0, 4), 0x1042_1AF4);
    assert_eq!(value(&config, 8, 4), 0x0100_0001);
    assert_eq!(value(&config, 0x2C, 4), 0x0002_1AF4);
    assert_eq!(value(&config, 0x3D, 1), 1);
    assert_eq!(value(&config, 6, 2), 0x10);
    assert_eq!(
        [
            value(&config, 0x34, 1),
            value(&config, 0x41, 1),
            value(&config, 0x55, 1)
        ],
        [0x40, 0x54, 0]
    );
    assert_eq!(value(&config, 0x54, 4), 0x0002_0011);
}

#[test]
fn sizing_and_placing_bars_as_an_operating_system_does() {
    let mut config = ConfigSpace::new(&function());
    for (offset, expected) in [
        (0x10, 0xFFFF_FFC1),
        (0x14, 0xFFFF_F000),
        (0x18, 0),
        (0x20, 0xFFFF_C00C),
        (0x24, u32::MAX),
    ] {
        write(&mut config, offset, 4, u32::MAX);
        assert_eq!(value(&config, offset, 4), expected, "{offset:#x}");
    }
    write(&mut config, 0x10, 4, 0xC000);
    write(&mut config, 0x14, 4, 0xFEBF_0000);
    write(&mut config, 0x20, 4, 0x8000);
    write(&mut config, 0x24, 4, 0x38);
    assert_eq!(
        config.bars().count(),
        0,
        "nothing decodes before the command register says so"
    );
    assert_eq!(write(&mut config, 4, 2, 0x7), [Event::BarsChanged]);
    let bars: Vec<_> = config.bars().map(|b| (b.region, b.base, b.len)).collect();
    assert_eq!(
        bars,
        [
            (0, 0xC000, 64),
            (1, 0xFEBF_0000, 0x1000),
            (4, 0x38_0000_8000, 0x4000)
        ]
    );
    assert!(config.is_bus_master());
}

#[test]
fn a_vector_waits_while_it_is_masked() {
    let mut config = ConfigSpace::new(&function());
    write(&mut config, 4, 2, 0x6);
    assert_eq!(config.fire(1), None, "disabled: lost");
    write(&mut config, 0x56, 2, 0x8000);
    for (offset, value) in [(0x10, 0xFEE0_0000), (0x18, 0x41)] {
        write_msix(&mut config, offset, value);
    }
    assert_eq!(config.fire(1), None, "masked: pending");
    let pending = config.access_msix(Access::read(1, 0x800, 8), &mut Vec::new());
    assert_eq!(pending, 2);
    let sent = [Event::Message {
        address: 0xFEE0_0000,
        data: 0x41,
    }];
    assert_eq!(write_msix(&mut config, 0x1C, 0), sent);
    assert_eq!(config.fire(1), Some((0xFEE0_0000, 0x41)));
    write(&mut config, 0x56, 2, 0xC000);
    assert_eq!(config.fire(1), None);
    assert_eq!(write(&mut config, 0x56, 2, 0x8000), sent, "all unmasked");
    assert_eq!(config.fire(7), None, "no such vector");
}

#[test]
fn intx_is_seen_only_without_msix_and_while_it_is_not_disabled() {
    let mut config = ConfigSpace::new(&function());
    assert!(config.set_intx(true));
    assert_eq!(value(&config, 6, 1), 0x18);
    assert_eq!(write(&mut config, 4, 2, 0x400), [Event::Intx(false)]);
    assert_eq!(write(&mut config, 4, 2, 0), [Event::Intx(true)]);
    assert_eq!(write(&mut config, 0x56, 2, 0x8000), [Event::Intx(false)]);
    assert!(!config.set_intx(true));
}

#[test]
fn the_bar_window_makes_accesses_of_the_width_it_is_told() {
    let mut config = ConfigSpace::new(&function());
    write(&mut config, 0x44, 1, 4);
    write(&mut config, 0x48, 4, 0x14);
    write(&mut config, 0x4C, 4, 2);
    assert_eq!(
        config.read(0x50, 2),
        ConfigRead::Access(Access::read(4, 0x14, 2))
    );
    assert_eq!(
        write(&mut config, 0x50, 2, 0xABCD),
        [Event::Access(Access::write(4, 0x14, 2, 0xABCD))]
    );
    write(&mut config, 0x48, 4, 0x3FFF);
    assert_eq!(config.read(0x50, 2), ConfigRead::Value(0), "misaligned");
    write(&mut config, 0x44, 1, 2);
    assert_eq!(config.read(0x50, 4), ConfigRead::Value(0), "no such BAR");
}

#[test]
fn the_state_survives_a_section_and_only_for_its_own_function() {
    let mut config = ConfigSpace::new(&function());
    write(&mut config, 4, 2, 0x6);
    write_msix(&mut config, 0x1C, 0);
    let mut copy = ConfigSpace::new(&function());
    copy.load(&config.save()).unwrap();
    assert_eq!(copy.state, config.state);
    let other = PciFunction {
        device: 0x1044,
        ..function()
    };
    assert!(ConfigSpace::new(&other).load(&config.save()).is_err());
}

#[test]
fn random_configuration_cycles_are_survived() {
    let mut rng = device_core::SplitMix64::new(1);
    let mut config = ConfigSpace::new(&function());
    let mut events = Vec::new();
    for _ in 0..20_000 {
        let size = 1 << rng.below(3);
        let offset = (rng.below(256) as u8) & !(size - 1);
        let fixed = value(&ConfigSpace::new(&function()), 0, 4);
        match rng.below(6) {
            0 => drop(config.read(offset, size)),
            1 => drop(config.fire(rng.below(8) as u16)),
            2 => drop(config.set_intx(rng.below(2) == 0)),
            3 => {
                let access = Access::write(1, rng.below(0x1000), 4, rng.next_u64());
                if config.is_msix(&access) {
                    config.access_msix(access, &mut events);
                }
            }
            _ => config.write(offset, size, rng.next_u64() as u32, &mut events),
        }
        events.clear();
        assert_eq!(value(&config, 0, 4), fixed);
        assert!(config.bars().all(|bar| bar.base.is_multiple_of(bar.len)));
    }
}
