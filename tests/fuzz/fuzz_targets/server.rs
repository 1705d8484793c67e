//! A back end whose client wrote arbitrary bytes into the link.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_transport::hostile::server(bytes));
