//! The block process.
fn main() {}
