//! `-chardev` and `-serial`: who is at the other end of a serial line.

use crate::machine::{CharBackend, Chardev};
use crate::options::Options;
use crate::problem::{Origin, Problems};
use std::path::Path;

/// What one `-serial` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SerialRequest {
    /// A chardev defined elsewhere.
    Named(String),
    /// A chardev of its own.
    Own(CharBackend),
    /// `none`: this port does not exist.
    Absent,
}

pub(crate) const KINDS: [(&str, &str); 5] = [
    ("stdio", "this terminal"),
    ("pty", "a pseudo-terminal, which is named at the start"),
    (
        "socket",
        "a Unix socket to listen on: path=PATH,server=on[,wait=off]",
    ),
    ("file", "path=PATH[,append=on]"),
    ("null", "nothing"),
];

pub(crate) fn parse_chardev(
    mut options: Options,
    base: &Path,
    problems: &mut Problems,
) -> Option<Chardev> {
    let origin = options.origin.clone();
    let kind = options.take("backend", problems).unwrap_or_default();
    let id = options.take("id", problems);
    options.ignore(&["mux", "signal", "logfile", "reconnect", "reconnect-ms"]);
    let backend = match kind.as_str() {
        "stdio" => Some(CharBackend::Stdio),
        "pty" => Some(CharBackend::Pty),
        "null" => Some(CharBackend::Null),
        "file" => take_file(&mut options, base, problems),
        "socket" | "unix" => take_socket(&mut options, base, problems),
        other => {
            let names = KINDS.map(|(name, _)| name);
            problems.unknown(&origin, "kind of chardev", other, names);
            return None;
        }
    };
    options.finish(problems);
    if id.is_none() {
        problems.add(&origin, "a chardev needs id=NAME");
    }
    Some(Chardev {
        id: id?,
        backend: backend?,
    })
}

fn take_file(options: &mut Options, base: &Path, problems: &mut Problems) -> Option<CharBackend> {
    let append = options.take_bool("append", problems).unwrap_or(false);
    let path = options.take("path", problems);
    if path.as_deref().is_none_or(str::is_empty) {
        problems.add(&options.origin, "file: path=PATH is missing");
        return None;
    }
    path.map(|path| CharBackend::File {
        path: base.join(path),
        append,
    })
}

fn take_socket(options: &mut Options, base: &Path, problems: &mut Problems) -> Option<CharBackend> {
    let server = options.take_bool("server", problems).unwrap_or(false);
    let wait = options.take_bool("wait", problems).unwrap_or(true);
    for key in ["host", "port", "telnet", "websocket"] {
        options.refuse(key, "only Unix sockets are served: path=PATH", problems);
    }
    let path = options.take("path", problems);
    if path.as_deref().is_none_or(str::is_empty) {
        problems.add(&options.origin, "socket: path=PATH is missing");
        return None;
    }
    if !server {
        problems.add(
            &options.origin,
            "socket: Atoll listens and does not connect; add server=on",
        );
    }
    path.map(|path| CharBackend::Unix {
        path: base.join(path),
        wait,
    })
}

/// QEMU's short forms: `stdio`, `mon:stdio`, `pty`, `unix:PATH,server,nowait`, `file:PATH`, `null`,
/// `none`, `chardev:ID`.
pub(crate) fn parse_serial(
    text: &str,
    base: &Path,
    origin: &Origin,
    problems: &mut Problems,
) -> Option<SerialRequest> {
    let text = text.strip_prefix("mon:").unwrap_or(text);
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let own = |backend| Some(SerialRequest::Own(backend));
    match (kind, rest.is_empty()) {
        ("none", true) => Some(SerialRequest::Absent),
        ("stdio", true) => own(CharBackend::Stdio),
        ("pty", true) => own(CharBackend::Pty),
        ("null", true) => own(CharBackend::Null),
        ("chardev", false) => Some(SerialRequest::Named(rest.to_owned())),
        // The whole rest is the path, commas included, as in QEMU.
        ("file", false) => own(CharBackend::File {
            path: base.join(rest),
            append: false,
        }),
        ("unix", false) => {
            let mut options = Options::from_commas(rest, Some("path"), origin);
            let backend = take_socket(&mut options, base, problems);
            options.finish(problems);
            backend.map(SerialRequest::Own)
        }
        ("file" | "unix" | "chardev", true) => {
            problems.add(origin, format!("\"{kind}:\" needs a name after it"));
            None
        }
        _ => {
            let known = ["stdio", "pty", "unix", "file", "null", "none", "chardev"];
            problems.unknown(origin, "serial back end", kind, known);
            None
        }
    }
}
