//! The broker's command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where owner and peers come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    /// The owner's session, inherited.
    pub(crate) session_fd: Option<i32>,
    /// Where an owner, peers that others started, and monitors may connect.
    pub(crate) listen: Option<PathBuf>,
    /// The peers that others start. Empty with `listen` and without an inherited session: all of them.
    pub(crate) external: Vec<String>,
}

impl Args {
    /// Does somebody else start the peer of this name?
    pub(crate) fn is_external(&self, name: &str) -> bool {
        let all = self.external.is_empty() && self.session_fd.is_none();
        all || self.external.iter().any(|external| external == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run(Args),
    Print(String),
}

const USAGE: &str = "usage: broker --session-fd N [--listen PATH] [--external NAME]...\n\
    \x20      broker --listen PATH [--external NAME]...\n\
    \n\
    Runs one machine, which its owner describes over the session.\n\
    \n\
    \x20 --session-fd N    the owner's session, inherited as descriptor N\n\
    \x20 --listen PATH     also accept an owner, peers and monitors at this socket\n\
    \x20 --external NAME   this process of the machine ('worker', 'serial0', a drive's id) is started by somebody else;\n\
    \x20                   without --session-fd and --external, all are\n\
    \x20 --version         print the version";

/// Reads the arguments, without the program's name. The error is for the user.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut args = Args::default();
    let mut arguments = arguments.into_iter();
    while let Some(flag) = arguments.next() {
        let flag = flag.to_string_lossy().into_owned();
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{flag} needs a value"))
        };
        match flag.as_str() {
            "--session-fd" => {
                let number = value()?
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .filter(|&fd| fd > 2);
                args.session_fd =
                    Some(number.ok_or("--session-fd needs the number of a descriptor above 2")?);
            }
            "--listen" => args.listen = Some(value()?.into()),
            "--external" => args.external.push(
                value()?
                    .into_string()
                    .map_err(|_| "--external needs text")?,
            ),
            "--version" => {
                return Ok(Command::Print(format!(
                    "broker {}",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            "-h" | "--help" => return Ok(Command::Print(USAGE.into())),
            other => return Err(format!("unknown argument '{other}'\n{USAGE}")),
        }
    }
    if args.session_fd.is_none() && args.listen.is_none() {
        return Err(format!("there is nobody to take a machine from\n{USAGE}"));
    }
    if args.listen.is_none() && !args.external.is_empty() {
        return Err(
            "--external needs --listen: somebody else's process has to reach the broker".into(),
        );
    }
    Ok(Command::Run(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn an_owner_comes_by_inheritance_or_by_the_socket() {
        let Ok(Command::Run(args)) = check("--session-fd 5 --listen /s --external vda") else {
            panic!()
        };
        assert!(args.is_external("vda") && !args.is_external("worker"));
        let Ok(Command::Run(args)) = check("--listen /s") else {
            panic!()
        };
        assert!(args.is_external("worker"));
        let Ok(Command::Run(args)) = check("--session-fd 5") else {
            panic!()
        };
        assert!(!args.is_external("worker"));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("", "nobody"),
            ("--session-fd 2", "above 2"),
            ("--listen", "needs a value"),
            ("--session-fd 5 --external vda", "needs --listen"),
            ("--lisetn /s", "unknown argument"),
        ] {
            let error = check(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
