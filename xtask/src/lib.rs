//! What the repository does to itself: guest images for tests and bench, and the tidy rules.
//!
//! Nothing here is part of the emulator, and no crate of the emulator depends on it. It runs
//! the host's own programs (apt-get, dpkg-deb, gzip, gcc) rather than linking what they do.
#![forbid(unsafe_code)]

pub mod guest;
pub mod host;
pub mod tidy;
