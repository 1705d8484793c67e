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

#[cfg(test)]
mod tests {
    //! Random register traffic against all three controllers: nothing panics, no vector appears that nobody sent, and a copy
    //! through a section goes on the same.

    use device_core::SplitMix64;

    use super::*;

    fn random_lapic(rng: &mut SplitMix64, lapic: &mut Lapic, now_ns: u64) -> u64 {
        let register = rng.below(0x40);
        match rng.below(12) {
            0 => lapic.accept(
                rng.next_u64() as u8,
                if rng.below(2) == 0 {
                    Trigger::Edge
                } else {
                    Trigger::Level
                },
            ),
            1 => return lapic.pending().map_or(0, u64::from),
            2 => return u64::from(lapic.ack()),
            3 => lapic.timer_due(now_ns),
            4 => lapic.set_tsc_deadline(rng.next_u64(), now_ns + rng.below(1000)),
            5 => lapic.set_cr8(rng.below(16) as u8),
            6 if rng.below(8) == 0 => drop(lapic.set_base(0xFEE0_0000 | rng.below(8) << 9)),
            7 => return lapic.msr_read(0x800 + register as u32, now_ns).unwrap_or(1),
            8 => drop(lapic.msr_write(0x800 + register as u32, rng.next_u64() & 0x7_03FF, now_ns)),
            9 => return u64::from(lapic.mmio_read(register << 4, now_ns)),
            _ => drop(lapic.mmio_write(register << 4, rng.next_u64() as u32 & 0x7_03FF, now_ns)),
        }
        lapic.next_timer_ns().unwrap_or(0)
    }

    fn random_pic(rng: &mut SplitMix64, pic: &mut Pic) -> u64 {
        let port = [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1][rng.below(6) as usize];
        match rng.below(8) {
            0..4 => pic.set_line(rng.below(16) as u8, rng.below(2) == 0),
            4 => return u64::from(pic.ack()),
            5 => return u64::from(pic.read(port)),
            _ => pic.write(port, rng.next_u64() as u8),
        }
        u64::from(pic.intr())
    }

    fn random_ioapic(rng: &mut SplitMix64, ioapic: &mut Ioapic) -> u64 {
        let mut sent = 0;
        let mut out = |message: Message| sent = sent * 256 + u64::from(message.vector) + 1;
        match rng.below(6) {
            0..3 => ioapic.set_line(rng.below(26) as usize, rng.below(2) == 0, &mut out),
            3 => ioapic.eoi(rng.below(64) as u8, &mut out),
            4 => ioapic.write(0, 0x10 + rng.below(0x32) as u32, &mut out),
            _ => ioapic.write(0x10, rng.next_u64() as u32 & 0x1_A03F, &mut out),
        }
        sent ^ u64::from(ioapic.read(0x10)) << 32
    }

    #[test]
    fn random_traffic_is_survived_and_a_loaded_copy_goes_on_the_same() {
        for seed in 0..16 {
            let mut rng = SplitMix64::new(seed);
            let (mut lapic, mut pic, mut ioapic) = (Lapic::new(0), Pic::new(), Ioapic::new());
            let (mut lapic2, mut pic2, mut ioapic2) = (Lapic::new(0), Pic::new(), Ioapic::new());
            for now_ns in (0..200_000).step_by(100) {
                let mut twin = rng;
                assert_eq!(
                    random_lapic(&mut rng, &mut lapic, now_ns),
                    random_lapic(&mut twin, &mut lapic2, now_ns)
                );
                assert_eq!(
                    random_pic(&mut rng, &mut pic),
                    random_pic(&mut twin, &mut pic2)
                );
                assert_eq!(
                    random_ioapic(&mut rng, &mut ioapic),
                    random_ioapic(&mut twin, &mut ioapic2)
                );
                assert!(lapic.pending().is_none_or(|vector| vector >= 16));
                if rng.below(16) == 0 {
                    (lapic2, pic2, ioapic2) = (Lapic::new(0), Pic::new(), Ioapic::new());
                    lapic2.load(&lapic.save()).unwrap();
                    pic2.load(&pic.save()).unwrap();
                    ioapic2.load(&ioapic.save()).unwrap();
                }
            }
        }
    }
}
