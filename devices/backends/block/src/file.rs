//! One file of an image chain: found, locked, and opened for imago.
//!
//! Two descriptors are opened. One is buffered, read-only and carries the locks; the image is
//! examined through it before anything else may happen. The other is what imago reads and writes,
//! with `O_DIRECT` where the cache mode says so.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::config::Locking;
use crate::error::{Error, Kind};
use crate::lock::{Use, lock};

/// A file that is locked and may be examined. Dropping it unlocks.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) length: u64,
    intent: Use,
}

impl Held {
    /// Finds the file at `path` and locks it for `intent`.
    pub(crate) fn take(path: &Path, intent: Use, locking: Locking) -> Result<Held, Error> {
        let found = fs::metadata(path).map_err(|source| Error::at("open image", path, source))?;
        let kind = found.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let what = if kind.is_dir() {
                "a directory"
            } else {
                "neither a file nor a block device"
            };
            return Err(Error::new(
                Kind::NotADisk,
                format!(
                    "'{}' is {what}, so it cannot be a disk; name an image file",
                    path.display()
                ),
            ));
        }
        let file = File::open(path).map_err(|source| Error::at("open image", path, source))?;
        if locking == Locking::On {
            lock(&file, path, intent)?;
        }
        let length = length_of(&file).map_err(|source| Error::at("measure image", path, source))?;
        Ok(Held {
            path: path.to_owned(),
            file,
            length,
            intent,
        })
    }

    /// Identifies the file whatever it is called.
    pub(crate) fn identity(&self) -> Result<(u64, u64), Error> {
        let data = self
            .file
            .metadata()
            .map_err(|source| Error::at("look at image", &self.path, source))?;
        Ok((data.dev(), data.ino()))
    }

    /// Opens the same file again for its data.
    pub(crate) fn open_data(&self, direct: bool) -> Result<imago::file::File, Error> {
        let failed = |source| Error::at("open image", &self.path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(self.intent == Use::Write);
        if direct {
            options.custom_flags(libc::O_DIRECT);
        }
        let data = options
            .open(&self.path)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EINVAL) if direct => {
                    Error::host(no_direct_io(&self.path), source).of_kind(Kind::NoDirectIo)
                }
                _ => failed(source),
            })?;
        let opened = data.metadata().map_err(failed)?;
        if (opened.dev(), opened.ino()) != self.identity()? {
            return Err(Error::new(
                Kind::Io,
                format!(
                    "image '{}' was replaced while it was being opened; try again",
                    self.path.display()
                ),
            ));
        }
        imago::file::File::try_from(data).map_err(failed)
    }
}

/// The length of a file, or of a block device, where the size in its inode is zero.
fn length_of(file: &File) -> std::io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::End(0))
}

fn no_direct_io(path: &Path) -> String {
    format!(
        "the file system of image '{}' does not do direct I/O, which cache=none and cache=directsync ask for; \
         use cache=writeback or writethrough, or move the image",
        path.display()
    )
}
