//! Arbitrary bytes as a script for the serial ports.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| machine_spec::hostile::script(bytes));
