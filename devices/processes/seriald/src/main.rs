//! The serial process.
fn main() {}
