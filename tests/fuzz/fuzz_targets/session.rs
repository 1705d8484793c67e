//! Arbitrary bytes on a control session.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_transport::hostile::session(bytes));
