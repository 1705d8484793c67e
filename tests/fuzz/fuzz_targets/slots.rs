//! Arbitrary bytes as each message that a slot can be.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_transport::hostile::slots(bytes));
