//! Arbitrary bytes as a command line.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| machine_spec::hostile::flags(bytes));
