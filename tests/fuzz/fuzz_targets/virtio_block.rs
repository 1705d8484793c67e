//! A hostile driver of a virtio disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| device_models::virtio::hostile::virtio_block(bytes));
