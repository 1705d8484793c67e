//! kvmclock: the paravirtual clock page (Linux `Documentation/virt/kvm/x86/msr.rst`, MSRs 0x4b564d00, 0x4b564d01, 0x11, 0x12).
//!
//! The time-stamp counter is exact virtual time at one tick a nanosecond, so the page is written once, when the guest names
//! it, says "stable", and never changes again.

use atoll_mmu::Ram;

const MSR_WALL_CLOCK_OLD: u32 = 0x11;
const MSR_SYSTEM_TIME_OLD: u32 = 0x12;
const MSR_WALL_CLOCK: u32 = 0x4b56_4d00;
const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;

/// PVCLOCK_TSC_STABLE_BIT: readings of all vCPUs are monotonic.
const TSC_STABLE: u8 = 1;

/// What the guest wrote to the MSRs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvmClock {
    wall_clock: u64,
    system_time: u64,
}

impl KvmClock {
    pub fn msr_read(&self, msr: u32) -> Option<u64> {
        match msr {
            MSR_WALL_CLOCK | MSR_WALL_CLOCK_OLD => Some(self.wall_clock),
            MSR_SYSTEM_TIME | MSR_SYSTEM_TIME_OLD => Some(self.system_time),
            _ => None,
        }
    }

    /// A write; false if the MSR is not one of ours. `epoch_s` is the wall clock at virtual time zero. A page outside of RAM is
    /// not written, and the guest reads whatever is there.
    pub fn msr_write(
        &mut self,
        msr: u32,
        value: u64,
        now_ns: u64,
        epoch_s: i64,
        ram: &Ram,
    ) -> bool {
        match msr {
            MSR_WALL_CLOCK | MSR_WALL_CLOCK_OLD => {
                self.wall_clock = value;
                let address = value & !3;
                // struct pvclock_wall_clock { u32 version, sec, nsec }: the wall clock at boot.
                let mut page = [0u8; 12];
                page[0..4].copy_from_slice(&2u32.to_le_bytes());
                page[4..8].copy_from_slice(&(epoch_s as u32).to_le_bytes());
                ram.write(address, &page);
                true
            }
            MSR_SYSTEM_TIME | MSR_SYSTEM_TIME_OLD => {
                self.system_time = value;
                if value & 1 != 0 {
                    ram.write(value & !1, &time_page(now_ns));
                }
                true
            }
            _ => false,
        }
    }

    pub fn reset(&mut self) {
        *self = KvmClock::default();
    }
}

/// `struct pvclock_vcpu_time_info`: ns = system_time + ((tsc - tsc_timestamp) << shift) * mul >> 32, here exactly tsc.
fn time_page(now_ns: u64) -> [u8; 32] {
    let mut page = [0u8; 32];
    page[0..4].copy_from_slice(&2u32.to_le_bytes());
    page[8..16].copy_from_slice(&now_ns.to_le_bytes());
    page[16..24].copy_from_slice(&now_ns.to_le_bytes());
    page[24..28].copy_from_slice(&(1u32 << 31).to_le_bytes());
    page[28] = 1;
    page[29] = TSC_STABLE;
    page
}
