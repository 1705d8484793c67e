//! Arbitrary bytes as a machine file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| machine_spec::hostile::machine_file(bytes));
