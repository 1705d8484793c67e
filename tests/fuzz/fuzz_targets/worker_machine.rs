//! Arbitrary bytes as what the worker is told of the machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| machine_spec::hostile::worker_machine(bytes));
