//! `seriald`: the host's end of one serial line.
//!
//! What it is: a [`char_backend::Port`] behind a char link. One thread answers output requests,
//! another brings input; the life of the process is [`device_sdk`]'s.
//!
//! What it is not: it knows no UART and no escape sequence of the guest's.
//!
//! Invariants:
//! * Everything that a successor must know is in the link: the requests that are not settled, and the
//!   notes (see `notes`). So a kill at any instruction neither repeats nor drops a byte where the
//!   receiver numbers them, and repeats at most the last write elsewhere.
//! * An output request is answered when its bytes are delivered, or kept because nobody is attached;
//!   it is settled when they are delivered or given up.
#![forbid(unsafe_code)]

mod device;
mod notes;
mod open;

use std::process::ExitCode;

fn main() -> ExitCode {
    device_sdk::run::<device::SerialDevice>()
}
