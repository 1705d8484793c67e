//! Arbitrary bytes as a kernel image.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_machine::hostile::kernel(bytes));
