//! `blockd`: one disk image, served to the machine over one request link.
//!
//! What it is: the seat of a [`block_backend::Disk`] in a process of its own, so that an image
//! format's parser can neither touch the guest nor take the machine down. The life of the process is
//! [`device_sdk`]'s.
//!
//! What it is not: it never sees guest RAM or a guest register, and it decides no time: when a reply
//! takes effect was fixed when its request was issued.
//!
//! Invariants:
//! * Requests take effect one after another, in issue order.
//! * A reply is a pure function of the requests so far and the image as it was at the start, unless
//!   the host fails: a broken disk is reported to the guest, a full one is not. On a full disk this
//!   process gives up before it answers, and a successor tries again; the guest sees only that time
//!   stands still.
#![forbid(unsafe_code)]

mod config;
mod device;

use std::process::ExitCode;

fn main() -> ExitCode {
    device_sdk::run::<device::BlockDevice>()
}
