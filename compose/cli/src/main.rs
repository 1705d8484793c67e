//! `atoll`: the command line.
//!
//! What it is: it reads what machine is wanted, hands it to a broker, is the console of the run, and
//! says how it ended. It holds the terminal, so that no process of the machine has to.
//!
//! What it is not: it touches no guest state, and no process of the machine waits for it except for
//! the console's bytes.
#![forbid(unsafe_code)]

mod diff;
mod end;
mod launch;
mod narrow;
mod owner;
mod preflight;
mod run;
mod trail;

use std::process::ExitCode;

/// What is shown for `atoll help`.
const USAGE: &str = "\
usage: atoll run [MACHINE.toml] [FLAGS]   run a machine
       atoll diff TRAIL TRAIL [-- FLAGS [-- FLAGS]]
                                          the first difference of two trails; with the flags of the
                                          runs (the second's, if they differ) down to the instruction
       atoll help                         this, all flags and all exit codes
       atoll --version
";

fn main() -> ExitCode {
    let arguments: Result<Vec<String>, _> = std::env::args_os()
        .skip(1)
        .map(std::ffi::OsString::into_string)
        .collect();
    let Ok(arguments) = arguments else {
        eprintln!("atoll: an argument is not UTF-8");
        return end::bad_config();
    };
    match arguments.split_first() {
        Some((command, rest)) if command == "run" => {
            if rest
                .iter()
                .any(|word| matches!(word.as_str(), "-h" | "-help" | "--help"))
            {
                print!("{}", help());
                return ExitCode::SUCCESS;
            }
            if let Some(choices) = machine_spec::choices(rest) {
                print!("{choices}");
                return ExitCode::SUCCESS;
            }
            run::run(rest)
        }
        Some((command, rest)) if command == "diff" => diff::diff(rest),
        Some((word, _)) if matches!(word.as_str(), "help" | "-h" | "-help" | "--help") => {
            print!("{}", help());
            ExitCode::SUCCESS
        }
        Some((word, _)) if matches!(word.as_str(), "--version" | "-version" | "-V") => {
            println!("atoll {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some((word, _)) => {
            eprint!("atoll: \"{word}\" is not understood here\n{USAGE}");
            end::bad_config()
        }
        None => {
            eprint!("{USAGE}");
            end::bad_config()
        }
    }
}

fn help() -> String {
    format!(
        "{USAGE}\n\
         Flags are QEMU's own, with one dash or two. A machine file holds the same settings by name;\n\
         flags override it. Sizes are such as 512M, times such as 1.5s (a bare number: seconds).\n\n\
         {}\n\
         On the console: Ctrl-A h for help, Ctrl-A x to quit. SIGTERM presses the power button; SIGUSR1\n\
         starts a machine that -S holds.\n\n\
         exit codes of atoll run:\n{}\n\
         exit codes of atoll diff:\n   0  the trails are equal\n   1  they differ\n   2  a trail cannot be read\n",
        machine_spec::flags_help(),
        end::codes(),
    )
}
