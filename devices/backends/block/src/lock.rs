//! Image locks that QEMU understands.
//!
//! QEMU's file-posix driver gives each permission on an image two bytes of the file: a shared lock
//! on byte 100 + p says "I use permission p", one on byte 200 + p says "I do not bear others using
//! p". Whoever opens an image takes the shared locks of his own uses and refusals, then tests
//! whether anybody else holds a lock that contradicts them. Nobody ever takes an exclusive lock,
//! so readers stack and the order of arrival decides. (docs/interop of QEMU does not number the
//! bytes; they were read from `/proc/locks` beside a running `qemu-io`, and a test compares.)
//!
//! The locks belong to an open file description of their own: the kernel drops them when the last
//! descriptor of it is closed, which is also what a kill does. A descriptor for the locks alone
//! keeps them independent of how the data are read.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Error, Kind};
use crate::holder::{Holder, holders};

/// First byte of the locks that say "used".
const USES: i64 = 100;
/// First byte of the locks that say "not shared".
const REFUSALS: i64 = 200;

/// Permissions of QEMU's block layer that matter between processes, with the name that QEMU's own
/// refusals use. Bits 2 (write unchanged) and 4 (graph) conflict with nothing we do.
const CONSISTENT_READ: (i64, &str) = (0, "consistent read");
const WRITE: (i64, &str) = (1, "write");
const RESIZE: (i64, &str) = (3, "resize");

/// What the holder of an image does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Reads it, and bears other readers.
    Read,
    /// Reads, writes and grows it, and bears nobody who does.
    Write,
}

impl Use {
    fn uses(self) -> &'static [(i64, &'static str)] {
        match self {
            Use::Read => &[CONSISTENT_READ],
            Use::Write => &[CONSISTENT_READ, WRITE, RESIZE],
        }
    }

    fn refusals() -> &'static [(i64, &'static str)] {
        &[WRITE, RESIZE]
    }
}

/// Locks `file`, the image at `path`, or says who stands in the way. Dropping `file` unlocks.
pub(crate) fn lock(file: &File, path: &Path, intent: Use) -> Result<(), Error> {
    let shared = |byte| set(file, byte).map_err(|source| cannot_lock(path, source));
    for (permission, _) in intent.uses() {
        shared(USES + permission)?;
    }
    for (permission, _) in Use::refusals() {
        shared(REFUSALS + permission)?;
    }
    for &(permission, name) in intent.uses() {
        check(file, path, REFUSALS + permission, intent, name)?;
    }
    for &(permission, name) in Use::refusals() {
        check(file, path, USES + permission, intent, name)?;
    }
    Ok(())
}

fn range(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0, // fcntl(2): must be zero for locks of an open file description.
    }
}

fn set(file: &File, byte: i64) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte)))?;
    Ok(())
}

/// Fails if anybody else holds a lock on `byte`, by asking whether an exclusive one could be had.
fn check(file: &File, path: &Path, byte: i64, intent: Use, permission: &str) -> Result<(), Error> {
    let mut probe = range(libc::F_WRLCK, byte);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))
        .map_err(|errno| cannot_lock(path, errno.into()))?;
    if i32::from(probe.l_type) == libc::F_UNLCK {
        return Ok(());
    }
    Err(refusal(file, path, byte, intent, permission))
}

fn refusal(file: &File, path: &Path, byte: i64, intent: Use, permission: &str) -> Error {
    let found = file
        .metadata()
        .map(|data| holders(data.dev(), data.ino(), byte, file.as_raw_fd()))
        .unwrap_or_default();
    let who = match found.as_slice() {
        [] => "another process (of another user or container; `lsof` as root names it)".to_owned(),
        some => some
            .iter()
            .map(Holder::to_string)
            .collect::<Vec<_>>()
            .join(" and "),
    };
    let (does, advice) = match (byte >= REFUSALS, intent) {
        (true, _) => (
            "does not share",
            "stop it first, or open the image read-only if it only reads",
        ),
        (false, Use::Read) => ("uses", "stop it first, or start from a copy"),
        (false, Use::Write) => (
            "uses",
            "stop it first, or give this disk an overlay of its own",
        ),
    };
    Error::new(
        Kind::Locked,
        format!(
            "image '{}' is locked: {who} {does} its \"{permission}\" permission; {advice}",
            path.display()
        ),
    )
}

fn cannot_lock(path: &Path, source: io::Error) -> Error {
    let context = format!(
        "cannot lock image '{}': its file system does not take byte-range locks; \
         move the image, or set locking=off if nothing else can open it",
        path.display()
    );
    Error::host(context, source)
}
