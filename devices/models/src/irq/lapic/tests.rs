//! The local APIC by register traces: reset values, priorities, timers, both interfaces, errors.

use super::*;

/// Enabled, as an operating system leaves it.
fn enabled() -> Lapic {
    let mut lapic = Lapic::new(0);
    lapic.mmio_write(0xF0, 0x1FF, 0);
    lapic
}

fn x2apic() -> Lapic {
    let mut lapic = Lapic::new(0);
    lapic.set_base(0xFEE0_0D00).unwrap();
    lapic.msr_write(0x80F, 0x1FF, 0).unwrap();
    lapic
}

#[test]
fn reset_values_are_those_of_the_manual() {
    let mut lapic = Lapic::new(0);
    let read = [
        0x20, 0x30, 0x80, 0xD0, 0xE0, 0xF0, 0x280, 0x300, 0x320, 0x350, 0x380, 0x390, 0x3E0,
    ];
    let expected = [
        0,
        0x5_0014,
        0,
        0,
        0xFFFF_FFFF,
        0xFF,
        0,
        0,
        0x1_0000,
        0x1_0000,
        0,
        0,
        0,
    ];
    assert_eq!(read.map(|offset| lapic.mmio_read(offset, 0)), expected);
    assert_eq!(lapic.base(), 0xFEE0_0900);
}

#[test]
fn interrupts_nest_by_class_and_end_in_order() {
    let mut lapic = enabled();
    lapic.accept(0x31, Trigger::Edge);
    lapic.accept(0x41, Trigger::Edge);
    assert_eq!(lapic.ack(), 0x41);
    assert_eq!(
        lapic.pending(),
        None,
        "0x31 is of a lower class than what is in service"
    );
    lapic.accept(0x4F, Trigger::Edge);
    assert_eq!(lapic.pending(), None, "and 0x4F of the same");
    lapic.accept(0x51, Trigger::Level);
    assert_eq!(lapic.ack(), 0x51);
    assert_eq!(lapic.mmio_read(0xA0, 0), 0x50);
    assert_eq!(lapic.mmio_write(0xB0, 0, 0), Some(Signal::Eoi(0x51)));
    assert_eq!(
        lapic.mmio_write(0xB0, 0, 0),
        None,
        "an edge's EOI is not broadcast"
    );
    assert_eq!(lapic.ack(), 0x4F);
}

#[test]
fn the_task_priority_holds_back_its_own_class() {
    let mut lapic = enabled();
    lapic.set_cr8(4);
    lapic.accept(0x4F, Trigger::Edge);
    assert_eq!(lapic.pending(), None);
    assert_eq!(lapic.ack(), 0xFF, "spurious");
    lapic.set_cr8(3);
    assert_eq!(lapic.pending(), Some(0x4F));
    assert_eq!(lapic.mmio_read(0x80, 0), 0x30);
}

#[test]
fn a_disabled_apic_takes_nothing_and_masks_its_entries() {
    let mut lapic = enabled();
    lapic.mmio_write(0x320, 0x30, 0);
    lapic.mmio_write(0xF0, 0xFF, 0);
    assert_eq!(lapic.mmio_read(0x320, 0), 0x1_0030);
    lapic.accept(0x30, Trigger::Edge);
    assert_eq!(lapic.pending(), None);
    assert!(!lapic.takes_extint());
    lapic.set_base(0xFEE0_0000).unwrap();
    assert!(lapic.takes_extint(), "the pin goes straight to the CPU");
}

#[test]
fn a_one_shot_timer_counts_down_once() {
    let mut lapic = enabled();
    lapic.mmio_write(0x3E0, 0x3, 0); // by 16
    lapic.mmio_write(0x320, 0xEC, 0);
    lapic.mmio_write(0x380, 100, 1000);
    assert_eq!(lapic.next_timer_ns(), Some(1000 + 1600));
    assert_eq!(lapic.mmio_read(0x390, 1000 + 160), 90);
    lapic.timer_due(2599);
    assert_eq!(lapic.pending(), None);
    lapic.timer_due(2600);
    assert_eq!(lapic.ack(), 0xEC);
    assert_eq!(
        (lapic.next_timer_ns(), lapic.mmio_read(0x390, 3000)),
        (None, 0)
    );
}

#[test]
fn a_periodic_timer_keeps_its_phase() {
    let mut lapic = enabled();
    lapic.mmio_write(0x3E0, 0xB, 0); // by 1
    lapic.mmio_write(0x320, 0x2_00EC, 0);
    lapic.mmio_write(0x380, 100, 0);
    lapic.timer_due(103);
    assert_eq!(lapic.next_timer_ns(), Some(200));
    assert_eq!(lapic.mmio_read(0x390, 150), 50);
    lapic.timer_due(555);
    assert_eq!(lapic.next_timer_ns(), Some(600));
}

#[test]
fn a_tsc_deadline_fires_once_and_reads_zero_afterwards() {
    let mut lapic = enabled();
    lapic.set_tsc_deadline(5000, 2500);
    assert_eq!(lapic.next_timer_ns(), None, "not in this mode");
    lapic.mmio_write(0x320, 0x4_00EC, 0);
    lapic.set_tsc_deadline(5000, 2500);
    assert_eq!(
        (lapic.tsc_deadline(), lapic.next_timer_ns()),
        (5000, Some(2500))
    );
    lapic.timer_due(2500);
    assert_eq!((lapic.ack(), lapic.tsc_deadline()), (0xEC, 0));
    lapic.set_tsc_deadline(9000, 4500);
    lapic.mmio_write(0x320, 0xEC, 0);
    assert_eq!(lapic.next_timer_ns(), None, "leaving the mode disarms");
}

#[test]
fn x2apic_mode_is_entered_and_left_by_the_book() {
    let mut lapic = Lapic::new(0x21);
    assert_eq!(
        lapic.set_base(0xFEE0_0400),
        Err(Gp),
        "x2APIC without enable"
    );
    assert_eq!(lapic.set_base(0xFEE0_0C00), Ok(()));
    assert_eq!(lapic.set_base(0xFEE0_0800), Err(Gp), "back to xAPIC");
    assert_eq!(
        lapic.msr_read(0x80D, 0),
        Ok(0x2_0002),
        "the logical id follows from the id"
    );
    assert_eq!(lapic.mmio_read(0x30, 0), 0, "the page is gone");
    assert_eq!(lapic.set_base(0xFEE0_0000), Ok(()));
    assert_eq!(
        lapic.set_base(0xFEE0_0C00),
        Err(Gp),
        "disabled straight to x2APIC"
    );
    assert_eq!(lapic.set_base(0xFEE0_0900), Ok(()));
    assert_eq!(lapic.msr_read(0x802, 0), Err(Gp));
}

#[test]
fn x2apic_registers_fault_on_what_they_do_not_have() {
    let mut lapic = x2apic();
    assert_eq!(lapic.msr_write(0x80B, 1, 0), Err(Gp));
    assert_eq!(lapic.msr_write(0x808, 1 << 32, 0), Err(Gp));
    assert_eq!(lapic.msr_read(0x80B, 0), Err(Gp));
    assert_eq!(lapic.msr_read(0x80E, 0), Err(Gp));
    assert_eq!(lapic.msr_write(0x802, 0, 0), Err(Gp));
    assert_eq!(lapic.msr_write(0x83F, 0x55, 0), Ok(None));
    assert_eq!(lapic.ack(), 0x55);
    let all = Message {
        vector: 0xFD,
        delivery: Delivery::Fixed,
        destination: Destination::Physical(0x100),
        trigger: Trigger::Edge,
    };
    assert_eq!(
        lapic.msr_write(0x830, 0x100_0000_00FD, 0),
        Ok(Some(Signal::Ipi(all)))
    );
    assert_eq!(lapic.msr_read(0x830, 0), Ok(0x100_0000_00FD));
}

#[test]
fn destinations_match_by_id_flat_set_and_cluster() {
    let mut lapic = enabled();
    lapic.mmio_write(0xD0, 0x0100_0000, 0);
    assert!(lapic.matches(Destination::Physical(0)) && !lapic.matches(Destination::Physical(1)));
    assert!(lapic.matches(Destination::Physical(0xFF)));
    assert!(
        lapic.matches(Destination::Logical(0x03)) && !lapic.matches(Destination::Logical(0x02))
    );
    lapic.mmio_write(0xE0, 0x0FFF_FFFF, 0);
    lapic.mmio_write(0xD0, 0x2100_0000, 0);
    assert!(
        lapic.matches(Destination::Logical(0x21)) && !lapic.matches(Destination::Logical(0x31))
    );
    assert!(lapic.matches(Destination::Logical(0xF1)));
}

#[test]
fn errors_are_latched_by_a_write_and_raise_their_own_vector() {
    let mut lapic = enabled();
    lapic.mmio_write(0x370, 0xFE, 0);
    lapic.accept(3, Trigger::Edge);
    assert_eq!(lapic.mmio_read(0x280, 0), 0, "not before the write");
    lapic.mmio_write(0x280, 0, 0);
    assert_eq!(lapic.mmio_read(0x280, 0), 0x40);
    assert_eq!(lapic.ack(), 0xFE);
    lapic.mmio_write(0x280, 0, 0);
    assert_eq!(lapic.mmio_read(0x280, 0), 0);
}

#[test]
fn the_state_survives_a_section() {
    let mut lapic = enabled();
    lapic.accept(0x77, Trigger::Level);
    lapic.mmio_write(0x380, 5, 9);
    let mut copy = Lapic::new(0);
    copy.load(&lapic.save()).unwrap();
    assert_eq!(copy, lapic);
    assert!(Lapic::new(1).load(&lapic.save()).is_err());
}
