//! This crate is the broker process: it creates the segments of a machine,
//! starts or accepts its processes, supervises and fences them, and steers
//! virtual time by nothing but the horizon and the pace. It takes the machine
//! from the command line's process over an inherited session and tells it how
//! the run ended. Every decision is `broker-core`'s; this is its hands.

fn main() {}
