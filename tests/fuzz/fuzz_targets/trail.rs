//! Arbitrary bytes as two trails.
#![no_main]
#![allow(dead_code, reason = "the command line, whose module this is, does more with a trail")]

#[path = "../../../compose/cli/src/trail.rs"]
mod trail;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trail::hostile(bytes));
