//! A hostile guest's accesses to the board: ports, registers in memory, configuration space, MSRs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_machine::hostile::accesses(bytes));
