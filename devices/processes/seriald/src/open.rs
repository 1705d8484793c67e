//! From a configuration to the host's end of the line.

use atoll_abi::config::{CharConfig, CharKind};
use atoll_transport::LinkMemory;
use char_backend::{Endpoint, listen, open_pty};
use device_sdk::{Attachment, Fault, FaultKind, fault};
use std::io;
use std::path::Path;

use crate::notes;

/// Files that a broker may hand over, so that they outlive one seriald.
const CONSOLE: &str = "console";
const PTY: &str = "pty";
const LISTENER: &str = "listener";
const TERMINAL_IN: &str = "terminal-in";
const TERMINAL_OUT: &str = "terminal-out";

/// The endpoint that `config` names.
pub(crate) fn endpoint(
    config: &CharConfig,
    attachment: &mut Attachment,
    link: &LinkMemory,
) -> Result<Endpoint, Fault> {
    let opened = match &config.kind {
        CharKind::Null => Ok(Endpoint::null()),
        CharKind::Stdio { .. } => stdio(attachment),
        CharKind::Pty => pty(config, attachment),
        CharKind::UnixServer { path, .. } => match attachment.take_file(LISTENER) {
            Some(listener) => Ok(Endpoint::unix(listener)),
            None => listen(Path::new(path)).map(Endpoint::unix),
        },
        CharKind::File { path, append } => {
            let base = notes::file_base(link);
            Endpoint::file(Path::new(path), *append, base).map(|(endpoint, base)| {
                notes::set_file_base(link, base);
                endpoint
            })
        }
    };
    opened.map_err(|error| fault(FaultKind::Config, describe(config, &error)))
}

fn describe(config: &CharConfig, error: &io::Error) -> String {
    let what = match &config.kind {
        CharKind::UnixServer { path, .. } | CharKind::File { path, .. } => format!(" '{path}'"),
        _ => String::new(),
    };
    format!("serial line {}: cannot open{what}: {error}", config.label)
}

fn stdio(attachment: &mut Attachment) -> io::Result<Endpoint> {
    if let Some(socket) = attachment.take_file(CONSOLE) {
        return Ok(Endpoint::console(socket));
    }
    let own = |file: Option<_>, standard: io::Result<_>| file.map_or(standard, Ok);
    let input = attachment.take_file(TERMINAL_IN);
    let input = own(input, rustix::stdio::stdin().try_clone_to_owned())?;
    let output = attachment.take_file(TERMINAL_OUT);
    let output = own(output, rustix::stdio::stdout().try_clone_to_owned())?;
    Endpoint::terminal(input, output)
}

fn pty(config: &CharConfig, attachment: &mut Attachment) -> io::Result<Endpoint> {
    if let Some(master) = attachment.take_file(PTY) {
        return Ok(Endpoint::pty(master));
    }
    let (master, name) = open_pty()?;
    println!("char device redirected to {name} (label {})", config.label);
    Ok(Endpoint::pty(master))
}
