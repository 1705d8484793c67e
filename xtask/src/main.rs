//! `cargo xtask`: the repository's chores by name.
//!
//! This file reads the command line and nothing else; the work is in the library, so that
//! bench and the guest tests prepare guests by the same code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use xtask::guest::{self, Options};
use xtask::{host, tidy};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  guest [NAME] [--sources FILE] [--alpine-tarball FILE] [--force]
        builds a guest once and prints the paths of its files; NAME is one of
          linux-cloud         Debian 12's cloud kernel with a busybox shell (the default)
          linux-generic       Debian 12's generic kernel, the same shell
          linux-cloud-trixie  Debian 13's cloud kernel, the same shell
          alpine              the cloud kernel with Alpine's user space from a tarball
          debian              a Debian 12 disk (qcow2) with systemd, python3 and gcc
          debian-workloads    the same with stress-ng, openssl and Python's own tests
          linux-686           Debian 12's i386 kernel without PAE, the same shell
          linux-686-pae       Debian 12's i386 kernel with PAE, the same shell
          gnumach             GNU Mach for i386 (Debian 13)
          gnumach-bookworm    the same of Debian 12
          gnumach-amd64       GNU Mach for amd64
          memtest86-x64       memtest86+ of 64 bits
          memtest86-ia32      memtest86+ of 32 bits
          xen                 the Xen hypervisor
          u-boot              U-Boot of 32 bits, as firmware
          u-boot-x64          U-Boot of 64 bits, as firmware
          seabios             SeaBIOS, the BIOS of QEMU's PC
          bench               the cloud kernel with the programs of bench/guest
        --sources FILE        an apt source list to use instead of the machine's own
        --alpine-tarball FILE Alpine's mini root file system (.tar.gz)
        --force               builds anew what is already there
  tidy  checks every file and manifest against the design's rules
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    match args.split_first() {
        Some((command, rest)) if command == "guest" => run_guest(rest),
        Some((command, rest)) if command == "tidy" && rest.is_empty() => run_tidy(),
        Some((command, _)) if command == "help" || command == "--help" || command == "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        Some((command, _)) => bail!("there is no command {command:?}\n{USAGE}"),
        None => bail!("which command?\n{USAGE}"),
    }
}

fn run_tidy() -> Result<()> {
    let faults = tidy::check(&host::workspace())?;
    ensure!(
        faults.is_empty(),
        "{}\n{} faults",
        faults.join("\n"),
        faults.len()
    );
    Ok(())
}

fn run_guest(args: &[String]) -> Result<()> {
    let mut options = Options::default();
    let mut name = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{arg} needs a file"));
        match arg.as_str() {
            "--sources" => options.sources = Some(value()?.into()),
            "--alpine-tarball" => options.alpine_tarball = Some(value()?.into()),
            "--force" => options.force = true,
            flag if flag.starts_with('-') => bail!("there is no option {flag}\n{USAGE}"),
            word if name.is_none() => name = Some(word),
            word => bail!("one guest at a time; {word:?} is a second name"),
        }
    }
    let guest = guest::prepare(name.unwrap_or(guest::DEFAULT), &options)?;
    for (role, path) in guest.files() {
        println!("{role} {}", path.display());
    }
    Ok(())
}
