//! What can go wrong with an image, told so that its owner can act.
//!
//! A message says what was asked, of which file, why it failed and what helps. The source error is
//! never repeated in the message: whoever prints an [`Error`] prints its chain.

use std::fmt;
use std::io;
use std::path::Path;

/// A failed call on an image.
pub struct Error {
    kind: Kind,
    context: String,
    source: Option<io::Error>,
}

/// The reason of an [`Error`], for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// No file has this name.
    NotFound,
    /// The file's permissions forbid what was asked.
    Permission,
    /// The name leads to something that cannot be a disk (a directory, a pipe).
    NotADisk,
    /// The file is not of the format that was asked for, or of one that is not served.
    Format,
    /// A feature of the format that is not served.
    Unsupported,
    /// The metadata contradict themselves.
    Corrupt,
    /// The file ends before its metadata do.
    Truncated,
    /// The content is encrypted.
    Encrypted,
    /// Another process uses the image.
    Locked,
    /// The image leans on a file that the configuration does not allow.
    BackingDenied,
    /// The file system cannot do what the cache mode promises.
    NoDirectIo,
    /// The host has no room left for the image.
    NoSpace,
    /// A request that goes past the end of the disk.
    OutOfRange,
    /// A write to a disk that is read-only.
    ReadOnly,
    /// A write that would turn a disk of guessed format into one of another format.
    ProbeGuard,
    /// The host failed to read or write.
    Io,
}

impl Error {
    pub(crate) fn new(kind: Kind, context: impl Into<String>) -> Self {
        Error {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// An error of the host, its kind told by the system's own error number.
    pub(crate) fn host(context: impl Into<String>, source: io::Error) -> Self {
        Error {
            kind: kind_of(&source),
            context: context.into(),
            source: Some(source),
        }
    }

    /// An error of the host while `verb`-ing `path`, with the advice that its kind allows.
    pub(crate) fn at(verb: &str, path: &Path, source: io::Error) -> Self {
        let kind = kind_of(&source);
        let advice = match kind {
            Kind::NotFound => "; check the name, or create the image with `qemu-img create`",
            Kind::Permission => "; give the user who runs this process access to the file",
            Kind::NoSpace => "; free some space on the file system that holds it",
            Kind::Corrupt => "; `qemu-img check -r all` may repair it (keep a copy)",
            _ => "",
        };
        Error {
            kind,
            context: format!("cannot {verb} '{}'{advice}", path.display()),
            source: Some(source),
        }
    }

    /// The same error under a reason that its caller knows better.
    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error, met on the way to something else.
    pub(crate) fn inside(mut self, whose: &str) -> Self {
        self.context = format!("{whose}: {}", self.context);
        self
    }

    /// The reason.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The system's error number beneath, if there is one.
    pub fn os_error(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

fn kind_of(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Permission,
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Kind::NotADisk,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Kind::NoSpace
        }
        // This is what imago says of metadata that it cannot make sense of.
        io::ErrorKind::InvalidData => Kind::Corrupt,
        io::ErrorKind::Unsupported => Kind::Unsupported,
        _ => Kind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
