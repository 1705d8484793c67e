//! The broker's decisions, without I/O.
