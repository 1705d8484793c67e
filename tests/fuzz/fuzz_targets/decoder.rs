//! Arbitrary bytes as x86 instructions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    atoll_x86::hostile::decoder(bytes);
});
