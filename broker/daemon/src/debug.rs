//! Where the worker's `-d` log goes: `-D`'s file, or standard error.

use machine_spec::Debug;
use std::fs::File;
use std::io::{self, Write};

pub(crate) struct DebugLog {
    file: Option<File>,
    /// Standard error may be a terminal in raw mode, where a line needs its own carriage return.
    raw: bool,
}

impl DebugLog {
    pub(crate) fn open(debug: &Debug, has_terminal: bool) -> Result<Self, String> {
        let create = |path: &std::path::PathBuf| {
            File::create(path)
                .map_err(|error| format!("cannot write the log to '{}': {error}", path.display()))
        };
        Ok(Self {
            file: debug.file.as_ref().map(create).transpose()?,
            raw: has_terminal,
        })
    }

    /// Writes a piece of the log. One that cannot be written is lost: the log is for whoever reads it, and the guest does not wait for it.
    pub(crate) fn write(&mut self, text: &str) {
        let _ = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None if self.raw => io::stderr().write_all(text.replace('\n', "\r\n").as_bytes()),
            None => io::stderr().write_all(text.as_bytes()),
        };
    }
}
