//! The fixed devices of the chipset: timer, clock, power management, keyboard controller, and what firmware is told.

mod acpi_pm;
mod fw_cfg;
mod i8042;
mod pit;
mod rtc;

pub use acpi_pm::{
    ACPI_DISABLE, ACPI_ENABLE, AcpiPm, RESET_PORT, RESET_VALUE, S5_SLEEP_TYPE, SMI_COMMAND_PORT,
};
pub use fw_cfg::{FW_CFG_PORT, FwCfg, FwCfgFile, FwCfgItem};
pub use i8042::I8042;
pub use pit::Pit;
pub use rtc::Rtc;

/// How many whole periods of a clock of `numerator / denominator` ticks a nanosecond have passed at `now_ns`, without
/// overflow for any time and any ratio whose terms are below 2^32.
fn ticks_at(now_ns: u64, numerator: u64, denominator: u64) -> u64 {
    now_ns / denominator * numerator + now_ns % denominator * numerator / denominator
}

/// The first nanosecond at which [`ticks_at`] is at least `ticks`.
fn time_of_tick(ticks: u64, numerator: u64, denominator: u64) -> u64 {
    (ticks / numerator)
        .saturating_mul(denominator)
        .saturating_add((ticks % numerator * denominator).div_ceil(numerator))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tick_begins_exactly_at_its_time(now_ns in 0..u64::MAX / 2, ratio in 0usize..3) {
            let (n, d) = [(105, 88_000), (63, 17_600), (32_768, 1_000_000_000)][ratio];
            let ticks = ticks_at(now_ns, n, d);
            prop_assert!(time_of_tick(ticks, n, d) <= now_ns);
            prop_assert!(time_of_tick(ticks + 1, n, d) > now_ns);
        }
    }
}
