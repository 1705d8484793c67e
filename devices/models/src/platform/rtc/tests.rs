//! The clock by register traces: time, setting it, its three interrupts, its memory.

use super::*;
use device_core::conformance;
use device_core::rig::Rig;

/// 2026-11-21 05:06:07 UTC, a Saturday.
const START: i64 = 1_795_237_567;

fn rig() -> Rig {
    Rig::new(Box::new(Rtc::new(START, 512 << 20, 1 << 30)))
}

fn read(rig: &mut Rig, index: u64) -> u64 {
    rig.write(0, 0, 1, index);
    rig.read(0, 1, 1)
}

fn write(rig: &mut Rig, index: u64, value: u64) {
    rig.write(0, 0, 1, index);
    rig.write(0, 1, 1, value);
}

fn time(rig: &mut Rig) -> [u64; 8] {
    [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| read(rig, index))
}

#[test]
fn it_conforms() {
    for seed in 0..8 {
        conformance::check(&|| Box::new(Rtc::new(START, 512 << 20, 0)), seed, 2000);
    }
}

#[test]
fn it_shows_the_start_plus_virtual_time() {
    let mut rig = rig();
    assert_eq!(
        time(&mut rig),
        [0x20, 0x26, 0x11, 0x21, 0x07, 0x05, 0x06, 0x07]
    );
    rig.advance(3600 * SECOND_NS);
    write(&mut rig, 0x0B, 0x06);
    assert_eq!(time(&mut rig), [20, 26, 11, 21, 7, 6, 6, 7]);
    rig.advance(12 * 3600 * SECOND_NS);
    write(&mut rig, 0x0B, 0x00);
    assert_eq!(read(&mut rig, 4), 0x86);
}

#[test]
fn an_update_is_announced() {
    let mut rig = rig();
    assert_eq!(read(&mut rig, 0x0A), 0x26);
    rig.advance(SECOND_NS - 244_000);
    assert_eq!(read(&mut rig, 0x0A), 0xA6);
    rig.advance(244_000);
    assert_eq!((read(&mut rig, 0x0A), read(&mut rig, 0)), (0x26, 0x08));
}

#[test]
fn setting_the_clock_holds_it_until_it_is_released() {
    let mut rig = rig();
    write(&mut rig, 0x0B, 0x82);
    rig.advance(10 * SECOND_NS);
    assert_eq!(read(&mut rig, 0), 0x07);
    for (index, value) in [
        (0x32, 0x19),
        (9, 0x99),
        (8, 0x12),
        (7, 0x31),
        (4, 0x23),
        (2, 0x59),
        (0, 0x59),
    ] {
        write(&mut rig, index, value);
    }
    write(&mut rig, 0x0B, 0x02);
    rig.advance(SECOND_NS);
    assert_eq!(time(&mut rig), [0x20, 0x00, 0x01, 0x01, 0x07, 0, 0, 0]);
}

#[test]
fn a_write_to_the_running_clock_keeps_the_place_within_the_second() {
    let mut rig = rig();
    rig.advance(SECOND_NS / 2);
    write(&mut rig, 0, 0x30);
    rig.advance(SECOND_NS / 2 - 1);
    assert_eq!(read(&mut rig, 0), 0x30);
    rig.advance(1);
    assert_eq!(read(&mut rig, 0), 0x31);
}

#[test]
fn periodic_interrupts_wait_for_register_c() {
    let mut rig = rig();
    write(&mut rig, 0x0A, 0x26); // 1024 Hz
    read(&mut rig, 0x0C);
    write(&mut rig, 0x0B, 0x42);
    rig.advance(976_562);
    assert!(!rig.lines[0]);
    rig.advance(1);
    assert!(rig.lines[0]);
    rig.advance(SECOND_NS / 2);
    assert_eq!(rig.edges, [(0, true)], "one edge until C is read");
    assert_eq!(read(&mut rig, 0x0C), 0xC0);
    assert_eq!((rig.lines[0], read(&mut rig, 0x0C)), (false, 0));
    rig.advance(976_563);
    assert!(rig.lines[0]);
}

#[test]
fn flags_are_set_without_interrupts_too() {
    let mut rig = rig();
    read(&mut rig, 0x0C);
    rig.advance(SECOND_NS);
    assert_eq!(rig.next_due(), None);
    assert_eq!(read(&mut rig, 0x0C), 0x50);
}

#[test]
fn an_alarm_matches_its_fields_and_not_the_others() {
    let mut rig = rig();
    for (index, value) in [(1, 0x05), (3, 0x07), (5, 0xFF)] {
        write(&mut rig, index, value);
    }
    read(&mut rig, 0x0C);
    write(&mut rig, 0x0B, 0x22);
    rig.advance(57 * SECOND_NS);
    assert!(!rig.lines[0]);
    rig.advance(SECOND_NS);
    assert!(rig.lines[0]);
    assert_eq!(
        (time(&mut rig)[5..].to_vec(), read(&mut rig, 0x0C)),
        (vec![0x05, 0x07, 0x05], 0xF0)
    );
    rig.advance(3600 * SECOND_NS);
    assert!(rig.lines[0], "every hour");
}

#[test]
fn update_interrupts_come_each_second() {
    let mut rig = rig();
    write(&mut rig, 0x0B, 0x12);
    read(&mut rig, 0x0C);
    for _ in 0..3 {
        rig.advance(SECOND_NS);
        assert_eq!(read(&mut rig, 0x0C) & 0x90, 0x90);
    }
    assert_eq!(rig.edges.len(), 6);
}

#[test]
fn memory_sizes_are_where_firmware_puts_them() {
    let mut rig = rig();
    let word = |rig: &mut Rig, at| read(rig, at) | read(rig, at + 1) << 8;
    assert_eq!(
        [
            word(&mut rig, 0x15),
            word(&mut rig, 0x17),
            word(&mut rig, 0x34)
        ],
        [640, 0xFFFF, 496 << 4]
    );
    assert_eq!(word(&mut rig, 0x5B), (1 << 30) >> 16);
    write(&mut rig, 0x0F, 0x0A);
    assert_eq!(read(&mut rig, 0x0F), 0x0A);
}

#[test]
fn a_reset_keeps_the_clock_and_clears_the_interrupts() {
    let mut rig = rig();
    write(&mut rig, 0x0B, 0x72);
    write(&mut rig, 0x40, 0x5A);
    rig.advance(SECOND_NS);
    rig.reset();
    assert_eq!(
        (
            read(&mut rig, 0x0B),
            read(&mut rig, 0x40),
            read(&mut rig, 0)
        ),
        (0x02, 0x5A, 0x08)
    );
    assert_eq!(rig.next_due(), None);
}
