//! The CPU worker process.
fn main() {}
