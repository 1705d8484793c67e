//! The CPU worker process: it attaches to a broker, builds the machine that it is told, and runs it.
//!
//! It maps what the broker hands over and opens nothing itself: no file, no directory, no outside socket, no terminal.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cpu_worker::process;

fn main() -> ExitCode {
    match process::main(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The broker has the reason already; standard error is for whoever starts a worker by hand.
            eprintln!("cpu-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
