//! The serial port by register traces: what drivers probe, each interrupt cause, both directions of flow.

use super::*;
use device_core::conformance;
use device_core::rig::Rig;

fn rig() -> Rig {
    let mut rig = Rig::new(Box::new(Uart::new(0x3F8)));
    rig.write(0, 4, 1, 0x0B);
    rig
}

fn read(rig: &mut Rig, register: u64) -> u64 {
    rig.read(0, register, 1)
}

#[test]
fn it_conforms() {
    for seed in 0..8 {
        conformance::check(&|| Box::new(Uart::new(0x3F8)), seed, 2000);
    }
}

#[test]
fn bytes_are_on_the_line_at_once() {
    let mut rig = rig();
    for byte in b"hello" {
        rig.write(0, 0, 1, u64::from(*byte));
        assert_eq!(read(&mut rig, 5), 0x60);
    }
    assert_eq!(rig.posted, b"hello");
}

#[test]
fn a_driver_finds_a_16550a_by_its_fifo_and_loopback() {
    let mut rig = rig();
    rig.write(0, 2, 1, 1);
    assert_eq!(read(&mut rig, 2), 0xC1);
    rig.write(0, 7, 1, 0xA5);
    assert_eq!(read(&mut rig, 7), 0xA5);
    rig.write(0, 4, 1, 0x1A);
    assert_eq!(read(&mut rig, 6) & 0xF0, 0x90);
    rig.write(0, 0, 1, 0x42);
    assert_eq!((read(&mut rig, 5), read(&mut rig, 0)), (0x61, 0x42));
    assert!(rig.posted.is_empty());
}

#[test]
fn enabling_the_empty_interrupt_raises_it_each_time() {
    let mut rig = rig();
    for _ in 0..2 {
        rig.write(0, 1, 1, 2);
        assert!(rig.lines[0]);
        assert_eq!(
            (read(&mut rig, 2), read(&mut rig, 2)),
            (0x02, 0x01),
            "reading the cause takes it back"
        );
        assert!(!rig.lines[0]);
        rig.write(0, 1, 1, 0);
    }
    rig.write(0, 1, 1, 2);
    read(&mut rig, 2);
    rig.write(0, 0, 1, 0);
    assert!(rig.lines[0], "and each byte raises it again");
}

#[test]
fn the_trigger_level_and_the_timeout_raise_different_causes() {
    let mut rig = rig();
    rig.write(0, 3, 1, 3); // 8N1: four characters are 40 bits
    rig.write(0, 2, 1, 0x81);
    rig.write(0, 1, 1, 1);
    assert_eq!(rig.input(Input::Char(b"1234567")), 7);
    assert!(!rig.lines[0]);
    rig.advance(347_221);
    assert!(!rig.lines[0]);
    rig.advance(1);
    assert_eq!(read(&mut rig, 2), 0xCC);
    assert_eq!(rig.input(Input::Char(b"8")), 1);
    assert_eq!(read(&mut rig, 2), 0xC4);
    for byte in b"12345678" {
        assert_eq!(read(&mut rig, 0), u64::from(*byte));
    }
    assert_eq!((read(&mut rig, 2), rig.next_due()), (0xC1, None));
}

#[test]
fn what_finds_no_room_is_asked_for_once_the_fifo_is_empty() {
    let mut rig = rig();
    rig.write(0, 2, 1, 1);
    assert_eq!(rig.input(Input::Char(&[7; 20])), 16);
    for left in (0..16).rev() {
        assert!(!rig.input_ready, "{left}");
        read(&mut rig, 0);
    }
    assert!(rig.input_ready);
    assert_eq!(read(&mut rig, 5), 0x60);
}

#[test]
fn the_far_end_waits_for_rts() {
    let mut rig = Rig::new(Box::new(Uart::new(0x3F8)));
    assert_eq!(rig.input(Input::Char(b"early")), 0);
    rig.write(0, 2, 1, 7);
    rig.write(0, 4, 1, 9);
    assert!(!rig.input_ready);
    rig.write(0, 4, 1, 0xB);
    assert!(rig.input_ready);
    assert_eq!(rig.input(Input::Char(b"early")), 5);
}

#[test]
fn an_interrupt_needs_out2() {
    let mut rig = rig();
    rig.write(0, 1, 1, 1);
    rig.input(Input::Char(b"x"));
    assert!(rig.lines[0]);
    rig.write(0, 4, 1, 3);
    assert!(!rig.lines[0]);
}

#[test]
fn an_overrun_happens_only_in_loopback_and_is_read_once() {
    let mut rig = rig();
    rig.write(0, 4, 1, 0x10);
    rig.write(0, 1, 1, 4);
    rig.write(0, 0, 1, 1);
    rig.write(0, 0, 1, 2);
    assert_eq!(read(&mut rig, 2), 0x06);
    assert_eq!((read(&mut rig, 5), read(&mut rig, 5)), (0x63, 0x61));
    assert_eq!(
        read(&mut rig, 0),
        2,
        "without FIFO the new byte replaces the old"
    );
}

#[test]
fn the_divisor_is_behind_dlab() {
    let mut rig = rig();
    rig.write(0, 3, 1, 0x80);
    rig.write(0, 0, 2, 0x0C01);
    assert_eq!(rig.read(0, 0, 2), 0x0C01);
    rig.write(0, 3, 1, 3);
    assert_eq!(read(&mut rig, 1), 0);
}
