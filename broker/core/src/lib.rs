//! The broker's decisions, without I/O.
//!
//! This crate is a state machine: events go in (a peer said Hello, a process
//! exited, a session hung up, a deadline passed), actions come out (spawn,
//! kill, attach, move the horizon, end). It knows no file, socket, process or
//! clock; the daemon beside it feeds it and carries its actions out. That is
//! what lets supervision, fencing and the order of an end be tested over
//! random sequences of events.
