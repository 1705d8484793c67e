//! Plain queues whose other end wrote arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_transport::hostile::queues(bytes));
