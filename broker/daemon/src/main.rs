//! The broker process: it creates the segments of a machine, starts or accepts its processes, supervises and fences them, and steers
//! virtual time by nothing but the clock page.
//!
//! It takes the machine from its owner (the command line's process, or whoever plays it) over a session and tells him how the run ended:
//!
//! ```text
//! owner                                broker
//!   Hello{role: Cli}            --->
//!                               <---   Welcome
//!   Run{machine, images, files} --->
//!                               <---   MonitorReply::Log ...
//!   Monitor(request)            --->
//!                               <---   MonitorReply, one for each request
//!                               <---   MonitorReply::Ended, once all processes are gone
//! ```
//!
//! When the owner hangs up, the machine ends at once and in good order. The exit code of the broker is that of the machine.
//!
//! Every decision is `broker-core`'s; this is its hands: one thread, one `poll`. It stands on the path of no access, no DMA and no
//! interrupt. An idle machine costs it the heartbeats of its peers.
//!
//! Invariants:
//! * Nothing outlives it but by its own decision: segments are anonymous, the overlay of a snapshot has no name, children notice the
//!   hang-up and the worker is killed by the kernel.
//! * What a peer sends is judged before it is used; one that sends what its role may not is lost, not trusted.
#![forbid(unsafe_code)]

mod args;
mod attach;
mod daemon;
mod debug;
mod ends;
mod listen;
mod memory;
mod messages;
mod peers;
mod request;
mod sessions;
mod signals;
mod sources;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(args::Command::Run(args)) => args,
        Ok(args::Command::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("broker: {mistake}");
            return ExitCode::from(2);
        }
    };
    match daemon::run(&args) {
        Ok(reason) => ExitCode::from(reason.code()),
        Err(why) => {
            eprintln!("broker: {why}");
            ExitCode::FAILURE
        }
    }
}
