//! Real guests, booted.
