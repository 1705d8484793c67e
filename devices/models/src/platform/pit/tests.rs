//! The interval timer by register traces, each mode to the tick.

use super::*;
use device_core::conformance;
use device_core::rig::Rig;

fn rig() -> Rig {
    Rig::new(Box::new(Pit::new()))
}

/// Moves to the beginning of the tick `ticks` from the present one.
fn advance_ticks(rig: &mut Rig, ticks: i64) {
    let target = time_of_tick((tick(rig.now_ns) + ticks) as u64, TICKS, TICKS_NS);
    rig.advance(target - rig.now_ns);
}

fn program(rig: &mut Rig, control: u8, count: u16) {
    let channel = u64::from(control >> 6);
    rig.write(0, 3, 1, u64::from(control));
    rig.write(0, channel, 1, u64::from(count & 0xFF));
    rig.write(0, channel, 1, u64::from(count >> 8));
}

fn read_count(rig: &mut Rig, channel: u64) -> u64 {
    rig.write(0, 3, 1, channel << 6);
    rig.read(0, channel, 1) | rig.read(0, channel, 1) << 8
}

fn rising_edges(rig: &mut Rig) -> usize {
    std::mem::take(&mut rig.edges)
        .iter()
        .filter(|(_, level)| *level)
        .count()
}

#[test]
fn it_conforms() {
    for seed in 0..8 {
        conformance::check(&|| Box::new(Pit::new()), seed, 2000);
    }
}

#[test]
fn the_rate_generator_of_an_operating_systems_tick() {
    let mut rig = rig();
    program(&mut rig, 0x34, 11_932); // 100 Hz
    assert!(rig.lines[0]);
    rising_edges(&mut rig);
    rig.advance(1_000_000_000);
    assert_eq!(
        rising_edges(&mut rig),
        99,
        "and the hundredth 15 microseconds later, for 11932 is rounded up"
    );
    rig.advance(20_000);
    assert_eq!(rising_edges(&mut rig), 1);
}

#[test]
fn a_new_rate_begins_when_the_old_period_ends() {
    let mut rig = rig();
    program(&mut rig, 0x34, 1000);
    advance_ticks(&mut rig, 501);
    rig.write(0, 0, 1, 100);
    rig.write(0, 0, 1, 0);
    rising_edges(&mut rig);
    assert_eq!(read_count(&mut rig, 0), 500);
    advance_ticks(&mut rig, 499);
    assert_eq!(rising_edges(&mut rig), 0);
    advance_ticks(&mut rig, 1);
    assert_eq!((rising_edges(&mut rig), read_count(&mut rig, 0)), (1, 100));
    advance_ticks(&mut rig, 100);
    assert_eq!(rising_edges(&mut rig), 1);
}

#[test]
fn an_interrupt_on_terminal_count_comes_once_and_the_counter_runs_on() {
    let mut rig = rig();
    program(&mut rig, 0x30, 50);
    assert!(!rig.lines[0]);
    advance_ticks(&mut rig, 50);
    assert!(!rig.lines[0]);
    advance_ticks(&mut rig, 1);
    assert!(rig.lines[0]);
    advance_ticks(&mut rig, 10);
    assert_eq!(read_count(&mut rig, 0), 0xFFF6);
    assert_eq!(rig.next_due(), None);
}

#[test]
fn a_software_strobe_is_one_edge_after_its_count() {
    let mut rig = rig();
    program(&mut rig, 0x38, 10);
    rising_edges(&mut rig);
    advance_ticks(&mut rig, 11);
    assert_eq!(rising_edges(&mut rig), 0);
    advance_ticks(&mut rig, 1);
    assert_eq!(rising_edges(&mut rig), 1);
    rig.advance(1_000_000_000);
    assert_eq!(rising_edges(&mut rig), 0);
}

#[test]
fn a_square_wave_is_high_for_the_longer_half() {
    let mut rig = rig();
    program(&mut rig, 0x36, 5);
    let mut levels = Vec::new();
    advance_ticks(&mut rig, 1);
    for _ in 0..10 {
        levels.push(u8::from(rig.lines[0]));
        advance_ticks(&mut rig, 1);
    }
    assert_eq!(levels, [1, 1, 1, 0, 0, 1, 1, 1, 0, 0]);
}

#[test]
fn channel_2_is_gated_and_seen_through_port_61() {
    let mut rig = rig();
    // As a kernel calibrates its time-stamp counter.
    rig.write(1, 0, 1, 1);
    program(&mut rig, 0xB0, 1000);
    assert_eq!(rig.read(1, 0, 1) & 0x21, 1);
    advance_ticks(&mut rig, 1001);
    assert_eq!(rig.read(1, 0, 1) & 0x21, 0x21);
    program(&mut rig, 0xB0, 1000);
    advance_ticks(&mut rig, 101);
    rig.write(1, 0, 1, 0);
    assert_eq!(read_count(&mut rig, 2), 900);
    advance_ticks(&mut rig, 500);
    assert_eq!(read_count(&mut rig, 2), 900);
    rig.write(1, 0, 1, 1);
    advance_ticks(&mut rig, 100);
    assert_eq!(read_count(&mut rig, 2), 800);
}

#[test]
fn a_read_back_latches_status_then_count() {
    let mut rig = rig();
    program(&mut rig, 0x34, 1000);
    rig.write(0, 3, 1, 0xC2);
    advance_ticks(&mut rig, 11);
    assert_eq!(
        [rig.read(0, 0, 1), rig.read(0, 0, 1), rig.read(0, 0, 1)],
        [0xF4, 0xE8, 0x03],
        "not loaded yet"
    );
    rig.write(0, 3, 1, 0xC2);
    assert_eq!(
        [rig.read(0, 0, 1), rig.read(0, 0, 1), rig.read(0, 0, 1)],
        [0xB4, 0xDE, 0x03]
    );
}

#[test]
fn decimal_counters_count_in_decimal() {
    let mut rig = rig();
    program(&mut rig, 0x35, 0x1000);
    advance_ticks(&mut rig, 2);
    assert_eq!(read_count(&mut rig, 0), 0x0999);
}

#[test]
fn the_refresh_bit_toggles() {
    let mut rig = rig();
    let first = rig.read(1, 0, 1) & 0x10;
    rig.advance(REFRESH_NS);
    assert_ne!(rig.read(1, 0, 1) & 0x10, first);
}
