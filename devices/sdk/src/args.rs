//! The command line that all device processes share.
//!
//! ```text
//! blockd --session-fd N                 started by a broker, which passes the session down
//! blockd --socket PATH --name NAME      started by somebody else, serves NAME of the machine file
//! ```

use std::ffi::OsString;
use std::path::PathBuf;

/// Where the broker is, and what is asked of the process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    pub broker: Broker,
    /// By default the process gives up what it does not need.
    pub sandbox: bool,
}

/// How the broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// The session is this descriptor, which was inherited.
    Inherited(i32),
    /// The broker listens on `socket`; the machine file knows this process by `name`.
    Socket { socket: PathBuf, name: String },
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Serve(Args),
    /// Print this and end with success.
    Print(String),
}

/// Reads the arguments of `binary`, without its name. The error is for the user.
pub fn parse(
    binary: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Command, String> {
    let (mut fd, mut socket, mut name, mut sandbox) = (None, None, String::new(), true);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (flag, inline) = split(&argument);
        let mut value = || {
            let value = inline.clone().or_else(|| arguments.next());
            value.ok_or_else(|| format!("{flag} needs a value"))
        };
        match flag.as_str() {
            "--session-fd" => {
                let text = value()?;
                let number = text.to_str().and_then(|text| text.parse::<i32>().ok());
                fd = Some(
                    number
                        .filter(|&fd| fd > 2)
                        .ok_or("--session-fd needs the number of a descriptor above 2")?,
                );
            }
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--name" => {
                name = value()?
                    .into_string()
                    .map_err(|_| "--name needs text".to_owned())?
            }
            "--no-sandbox" => sandbox = false,
            "--version" => return Ok(Command::Print(format!("{binary} {}", crate::VERSION))),
            "-h" | "--help" => return Ok(Command::Print(usage(binary))),
            other => return Err(format!("unknown argument '{other}'\n{}", usage(binary))),
        }
    }
    let broker = match (fd, socket) {
        (Some(fd), None) => Broker::Inherited(fd),
        (None, Some(socket)) => Broker::Socket { socket, name },
        (None, None) => return Err(format!("no broker is named\n{}", usage(binary))),
        (Some(_), Some(_)) => return Err("--session-fd and --socket exclude each other".into()),
    };
    Ok(Command::Serve(Args { broker, sandbox }))
}

/// `--flag=value` in two.
fn split(argument: &OsString) -> (String, Option<OsString>) {
    let text = argument.to_string_lossy();
    match text.split_once('=') {
        Some((flag, value)) if text.starts_with("--") => (flag.to_owned(), Some(value.into())),
        _ => (text.into_owned(), None),
    }
}

fn usage(binary: &str) -> String {
    format!(
        "usage: {binary} --session-fd N | --socket PATH --name NAME\n\
         \n\
         One device process of a machine; its broker says what it serves.\n\
         \n\
         \x20 --session-fd N   the session with the broker, inherited as descriptor N\n\
         \x20 --socket PATH    the socket on which the broker listens\n\
         \x20 --name NAME      with --socket: the part of the machine file to serve\n\
         \x20 --no-sandbox     keep all rights of the user (for debugging)\n\
         \x20 --version        print the version"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Command, String> {
        parse("blockd", line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn both_ways_to_a_broker() {
        let inherited = Args {
            broker: Broker::Inherited(7),
            sandbox: true,
        };
        assert_eq!(
            check("--session-fd 7"),
            Ok(Command::Serve(inherited.clone()))
        );
        assert_eq!(check("--session-fd=7"), Ok(Command::Serve(inherited)));
        let socket = Broker::Socket {
            socket: "/run/a".into(),
            name: "disk0".into(),
        };
        let expected = Args {
            broker: socket,
            sandbox: false,
        };
        assert_eq!(
            check("--socket /run/a --name disk0 --no-sandbox"),
            Ok(Command::Serve(expected))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("", "no broker"),
            ("--session-fd", "needs a value"),
            ("--session-fd 1", "above 2"),
            ("--session-fd x", "above 2"),
            ("--session-fd 7 --socket /a", "exclude"),
            ("--sokcet /a", "unknown argument '--sokcet'"),
        ] {
            let error = check(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(
            matches!(check("--version"), Ok(Command::Print(text)) if text.starts_with("blockd "))
        );
    }
}
