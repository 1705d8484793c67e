//! `atoll run`: from arguments to an exit code.

use anyhow::Context;
use machine_spec::{
    Blob, BootFile, CharBackend, Draft, Initrd, Machine, Origin, Problems, Resolved, RtcBase, Seed,
    parse_script,
};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::{end, launch, owner, preflight};

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let started = Instant::now();
    let (machine, mut problems) = machine(arguments);
    problems.extend(preflight::check(&machine));
    let resolved = resolve(&machine, &mut problems);
    if !problems.is_empty() {
        for problem in problems.iter() {
            eprintln!("atoll: {problem}");
        }
        return end::bad_config();
    }
    let report = match launch::launch(&machine, resolved).and_then(owner::Owner::follow) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("atoll: {error:#}");
            return ExitCode::from(atoll_abi::exit::ExitReason::Internal.code());
        }
    };
    eprint!("{}", end::message(&report));
    if let Some(path) = &machine.stats {
        let wall_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Err(error) = end::write_stats(path, &report, wall_ns) {
            eprintln!("atoll: cannot write '{}': {error}", path.display());
        }
    }
    ExitCode::from(report.reason.code())
}

/// The machine that the arguments and the machine file describe, as far as they can be understood.
fn machine(arguments: &[String]) -> (Machine, Problems) {
    let mut draft = Draft::new();
    let mut problems = Problems::default();
    // Flags are read after the file, because they override it; but first, to find it.
    let files = Draft::new().read_flags(arguments);
    if let [file, ..] = &files[..] {
        match std::fs::read_to_string(file) {
            Ok(text) => draft.read_file(Path::new(file), &text),
            Err(error) => problems.add(&Origin::Whole, format!("cannot read '{file}': {error}")),
        }
    }
    if let [_, second, ..] = &files[..] {
        let text = format!("a run has one machine file; \"{second}\" is a second");
        problems.add(&Origin::Whole, text);
    }
    draft.read_flags(arguments);
    let (machine, found) = draft.describe();
    problems.extend(found);
    (machine, problems)
}

/// What only this host at this moment can tell.
fn resolve(machine: &Machine, problems: &mut Problems) -> Resolved {
    let mut note = |error: anyhow::Error| problems.add(&Origin::Whole, format!("{error:#}"));
    let rtc_epoch = rtc_epoch(machine.rtc).unwrap_or_else(|error| {
        note(error);
        0
    });
    let seed = seed(machine.seed).unwrap_or_else(|error| {
        note(error);
        0
    });
    let script = match &machine.script {
        None => Ok(Vec::new()),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => parse_script(&path.display().to_string(), &text),
            Err(error) => {
                note(anyhow::anyhow!(
                    "cannot read the script '{}': {error}",
                    path.display()
                ));
                Ok(Vec::new())
            }
        },
    };
    let script = script.unwrap_or_else(|found| {
        problems.extend(found);
        Vec::new()
    });
    // Their lengths are known once they are read.
    let unread = |index| Blob { index, len: 0 };
    let module = |(n, file): (usize, BootFile)| (unread(1 + n as u16), file.text);
    Resolved {
        rtc_epoch,
        seed,
        policy: machine.policy(stdin_is_live()),
        script,
        bios: machine.boot.bios.as_ref().map(|_| unread(BIOS_BLOB)),
        kernel: machine.boot.kernel.as_ref().map(|_| unread(0)),
        modules: boot_files(machine)
            .into_iter()
            .enumerate()
            .map(module)
            .collect(),
    }
}

/// The number of the firmware's segment, behind those of the kernel and of all the modules that there can be.
pub(crate) const BIOS_BLOB: u16 = 1 + Initrd::MAX_FILES as u16;

/// The files that the kernel is given.
pub(crate) fn boot_files(machine: &Machine) -> Vec<BootFile> {
    let initrd = machine.boot.initrd.as_ref();
    initrd.map_or(Vec::new(), |initrd| initrd.files(std::path::Path::is_file))
}

/// Whether anybody can type: a terminal, a pipe or a socket, but not /dev/null and not a file.
fn stdin_is_live() -> bool {
    let Ok(input) = rustix::stdio::stdin().try_clone_to_owned() else {
        return false;
    };
    let Ok(data) = std::fs::File::from(input).metadata() else {
        return false;
    };
    let kind = data.file_type();
    let null = std::fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == data.rdev());
    kind.is_fifo() || kind.is_socket() || (kind.is_char_device() && !null)
}

fn rtc_epoch(base: RtcBase) -> anyhow::Result<i64> {
    let now = || -> anyhow::Result<i64> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the host's clock")?;
        Ok(i64::try_from(since.as_secs())?)
    };
    match base {
        RtcBase::Epoch(seconds) => Ok(seconds),
        RtcBase::HostUtc => now(),
        RtcBase::HostLocal => Ok(now()? + local_offset()?),
    }
}

/// The host's offset from UTC in seconds, by the program that knows its time zones.
fn local_offset() -> anyhow::Result<i64> {
    let output = Command::new("date")
        .arg("+%z")
        .output()
        .context("cannot run date +%z")?;
    let text = String::from_utf8(output.stdout)?;
    parse_offset(text.trim()).with_context(|| format!("date +%z says \"{}\"", text.trim()))
}

/// `+hhmm` or `-hhmm`.
fn parse_offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let seconds = hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60;
    (digits.len() == 4).then_some(sign * seconds)
}

fn seed(seed: Seed) -> anyhow::Result<u64> {
    match seed {
        Seed::Fixed(number) => Ok(number),
        Seed::Random => {
            let mut bytes = [0; 8];
            rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
                .context("cannot draw a seed")?;
            Ok(u64::from_ne_bytes(bytes))
        }
    }
}

/// Whether a serial line of the machine is on our own standard input and output.
pub(crate) fn has_console(machine: &Machine) -> bool {
    machine
        .serials
        .iter()
        .any(|serial| *machine.backend_of(serial) == CharBackend::Stdio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets() {
        let cases = [
            ("+0000", Some(0)),
            ("-0930", Some(-34_200)),
            ("+0545", Some(20_700)),
            ("0545", None),
            ("+5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_offset(text), expected, "{text}");
        }
    }
}
