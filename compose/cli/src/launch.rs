//! Starting a broker and handing the machine over to it.

use anyhow::{Context, bail};
use atoll_abi::ABI_VERSION;
use atoll_abi::control::{Control, FileDesc, Hello, MonitorRequest, Role, RunRequest};
use atoll_transport::attach::Outgoing;
use atoll_transport::{Segment, Session, process};
use char_backend::{Console, socket_pair};
use machine_spec::{Machine, Resolved};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::owner::{Owner, Signals};
use crate::run::{BIOS_BLOB, boot_files, has_console};

/// How long a broker may take to greet.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file in a segment of its own.
struct Image {
    segment: Arc<Segment>,
    length: usize,
}

/// Starts everything, up to the moment from which the broker is in charge.
pub(crate) fn launch(machine: &Machine, mut resolved: Resolved) -> anyhow::Result<Owner> {
    let signals = Signals::block()?;
    // Processes whose broker was killed become our children, so that we see them end.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("subreaper")?;
    let image = |path: &Option<PathBuf>, what| {
        let path = path.as_deref();
        path.map(|path| read(path, what)).transpose()
    };
    let bios = image(&machine.boot.bios, "firmware")?;
    let kernel = image(&machine.boot.kernel, "kernel")?;
    let modules = boot_files(machine)
        .iter()
        .map(|file| read(&file.path, "initrd"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for (blob, image) in [(&mut resolved.bios, &bios), (&mut resolved.kernel, &kernel)] {
        if let (Some(blob), Some(image)) = (blob, image) {
            blob.len = image.length as u64;
        }
    }
    for ((blob, _), image) in resolved.modules.iter_mut().zip(&modules) {
        blob.len = image.length as u64;
    }

    let mut session = start_broker()?;
    greet(&mut session)?;
    let (console, far) = match has_console(machine) {
        true => socket_pair().map(|(near, far)| (Some(Console::new(near)), Some(far)))?,
        false => (None, None),
    };
    let terminal = console.is_some().then(terminal).flatten();
    let mut outgoing = Outgoing::default();
    for (which, image) in [(BIOS_BLOB, &bios), (0, &kernel)] {
        if let Some(image) = image {
            outgoing.blob(which, image.length, &image.segment)?;
        }
    }
    for (which, image) in (1..).zip(&modules) {
        outgoing.blob(which, image.length, &image.segment)?;
    }
    let mut files = Vec::new();
    for (name, file) in [("terminal", &terminal), ("console", &far)] {
        if let Some(file) = file {
            files.push(FileDesc {
                name: name.into(),
                fd: outgoing.fd(file.as_fd())?,
            });
        }
    }
    let request = RunRequest {
        machine: machine
            .to_bytes()
            .context("a path of the machine is not UTF-8")?,
        resolved: resolved.to_bytes(),
        segments: outgoing.segments,
        files,
    };
    session.send_with(&Control::Run(request), &outgoing.fds)?;
    // Its answer tells that the broker has taken note of what the terminal is like.
    session.send(&Control::Monitor(MonitorRequest::Status))?;
    Owner::new(session, console, signals, machine)
}

/// The terminal that the console is on, if it is on one.
fn terminal() -> Option<OwnedFd> {
    let input = rustix::stdio::stdin();
    rustix::termios::isatty(input)
        .then(|| input.try_clone_to_owned().ok())
        .flatten()
}

/// Reads a file into a sealed segment.
fn read(path: &Path, what: &str) -> anyhow::Result<Image> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the {what} '{}'", path.display()))?;
    let segment = Segment::create(&format!("atoll-{what}"), bytes.len())?;
    segment.bytes(0, bytes.len())?.write(0, &bytes)?;
    Ok(Image {
        segment,
        length: bytes.len(),
    })
}

/// The broker's program: it lies beside this one.
fn broker_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("broker");
    if !program.is_file() {
        bail!(
            "'{}' is missing; it belongs beside atoll",
            program.display()
        );
    }
    Ok(program)
}

fn start_broker() -> anyhow::Result<Session> {
    let (near, far) = Session::pair()?;
    let program = broker_program()?;
    let mut command = Command::new(&program);
    let numbers = process::inherit(&mut command, vec![far.into_fd()]);
    command
        .arg("--session-fd")
        .arg(numbers[0].to_string())
        .stdin(Stdio::null());
    // It is waited for with everything else that the run leaves: see `owner`.
    command
        .spawn()
        .with_context(|| format!("cannot start '{}'", program.display()))?;
    Ok(near)
}

fn greet(session: &mut Session) -> anyhow::Result<()> {
    session.send(&Control::Hello(Hello {
        abi_version: ABI_VERSION,
        role: Role::Cli,
        pid: std::process::id(),
        binary: format!("atoll {}", env!("CARGO_PKG_VERSION")),
        name: String::new(),
    }))?;
    let answer = session
        .recv(Some(Instant::now() + PATIENCE))
        .context("the broker is gone")?;
    match answer.map(|message| message.control) {
        Some(Control::Welcome {
            abi_version: ABI_VERSION,
            ..
        }) => Ok(()),
        Some(Control::Welcome { abi_version, .. }) => {
            bail!("the broker speaks version {abi_version} of the wire, atoll {ABI_VERSION}")
        }
        Some(Control::Refused { reason }) => bail!("the broker refused: {reason}"),
        Some(_) => bail!("the broker did not answer the greeting"),
        None => bail!("the broker said nothing for {} s", PATIENCE.as_secs()),
    }
}
