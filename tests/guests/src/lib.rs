//! Real guests, booted.
#![forbid(unsafe_code)]
