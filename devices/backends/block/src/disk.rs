//! A disk that is open: reads and writes, and what is promised when they return.
//!
//! Three degrees of safety, each call says which it gives:
//! * **applied**: later reads through this `Disk` see it. Every call that returned is applied.
//! * **settled**: a successor that opens the image after this process was killed sees it.
//!   [`Disk::settle`]. For raw images every applied write is settled; qcow2 holds the tables that
//!   make new data reachable in a cache, which settling writes to the file. That costs no sync.
//! * **durable**: it outlives a loss of power. [`Disk::flush`], or a write with `fua`, or every
//!   write under the cache modes `writethrough` and `directsync`; never under `unsafe`.

use std::io;
use std::path::Path;

use crate::chain::SECTOR;
use crate::config::{Cache, Discard, Format};
use crate::error::{Error, Kind};
use crate::file::Held;
use crate::image::Image;
use crate::probe::{PROBE_BYTES, would_be_probed};

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    // Dropped before the locks are: imago writes its caches out when an image is closed.
    image: Image,
    held: Vec<Held>,
    info: Info,
    discard: Discard,
    detect_zeroes: bool,
    syncs: bool,
    guards_probe: bool,
    has_metadata: bool,
    unsettled: bool,
}

/// What the model in front must know of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Bytes that the guest can address: a multiple of 512.
    pub size: u64,
    /// The format of the image that the configuration names.
    pub format: Format,
    /// Writes are refused.
    pub read_only: bool,
    /// Writes are durable only after a flush.
    pub writeback: bool,
    /// Discarded ranges read as zeroes; otherwise discards do nothing.
    pub discards: bool,
    /// Requests that are multiples of this, at multiples of it, are served without a detour.
    pub alignment: u32,
}

/// A disk in pieces, from [`crate::chain`].
pub(crate) struct Parts {
    pub(crate) image: Image,
    pub(crate) held: Vec<Held>,
    pub(crate) size: u64,
    pub(crate) format: Format,
    pub(crate) read_only: bool,
    pub(crate) cache: Cache,
    pub(crate) discard: Discard,
    pub(crate) detect_zeroes: bool,
    pub(crate) syncs: bool,
    pub(crate) guards_probe: bool,
    pub(crate) has_metadata: bool,
}

impl Disk {
    pub(crate) fn new(parts: Parts) -> Disk {
        let alignment = u32::try_from(parts.image.alignment()).unwrap_or(u32::MAX);
        Disk {
            info: Info {
                size: parts.size,
                format: parts.format,
                read_only: parts.read_only,
                writeback: parts.cache.is_writeback(),
                discards: parts.discard == Discard::Unmap,
                alignment: alignment.max(SECTOR as u32),
            },
            image: parts.image,
            held: parts.held,
            discard: parts.discard,
            detect_zeroes: parts.detect_zeroes,
            syncs: parts.syncs,
            guards_probe: parts.guards_probe,
            has_metadata: parts.has_metadata,
            unsettled: false,
        }
    }

    /// What the model in front must know.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The files that this disk holds open, the image first.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.held.iter().map(|held| held.path.as_path())
    }

    /// Fills `data` from `offset`.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), Error> {
        self.check_range("read", offset, data.len() as u64)?;
        // Past the end of a raw file whose length is no multiple of a sector, imago fills zeroes.
        self.image
            .read(data, offset)
            .map_err(|source| self.failed("read", offset, source))
    }

    /// Writes `data` at `offset`; with `fua` the write is durable when this returns.
    pub fn write(&mut self, offset: u64, data: &[u8], fua: bool) -> Result<(), Error> {
        self.prepare("write", offset, data.len() as u64)?;
        if self.guards_probe && offset < PROBE_BYTES as u64 {
            self.check_head(offset, data)?;
        }
        let written = if self.detect_zeroes && data.iter().all(|&byte| byte == 0) {
            let free = self.discard == Discard::Unmap;
            self.image.zero(offset, data.len() as u64, free)
        } else {
            self.image.write(data, offset)
        };
        written.map_err(|source| self.failed("write", offset, source))?;
        self.finish(fua)
    }

    /// Makes a range read as zeroes. With `unmap` its space may be given back to the host.
    pub fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> Result<(), Error> {
        self.prepare("write zeroes", offset, length)?;
        let free = unmap && self.discard == Discard::Unmap;
        self.image
            .zero(offset, length, free)
            .map_err(|source| self.failed("write zeroes", offset, source))?;
        self.finish(false)
    }

    /// Tells that the guest no longer needs a range. See [`Discard`] for what it reads afterwards.
    pub fn discard(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.check_range("discard", offset, length)?;
        if self.discard == Discard::Ignore {
            return self.check_writable();
        }
        self.prepare("discard", offset, length)?;
        self.image
            .zero(offset, length, true)
            .map_err(|source| self.failed("discard", offset, source))?;
        self.finish(false)
    }

    /// Makes every call so far durable, as far as the cache mode goes.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.settle()?;
        if !self.syncs || self.info.read_only {
            return Ok(());
        }
        self.image
            .sync()
            .map_err(|source| self.failed("flush", 0, source))
    }

    /// Makes every call so far visible to a successor of this process. Cheap when nothing changed.
    pub fn settle(&mut self) -> Result<(), Error> {
        if self.unsettled {
            self.image
                .settle()
                .map_err(|source| self.failed("settle", 0, source))?;
            self.unsettled = false;
        }
        Ok(())
    }

    /// No call since the last [`Disk::settle`] needs one.
    pub fn is_settled(&self) -> bool {
        !self.unsettled
    }

    fn check_range(&self, verb: &str, offset: u64, length: u64) -> Result<(), Error> {
        if offset
            .checked_add(length)
            .is_some_and(|end| end <= self.info.size)
        {
            return Ok(());
        }
        Err(Error::new(
            Kind::OutOfRange,
            format!(
                "cannot {verb} {length} bytes at {offset}: the disk has {}",
                self.info.size
            ),
        ))
    }

    fn check_writable(&self) -> Result<(), Error> {
        if self.info.read_only {
            return Err(Error::new(
                Kind::ReadOnly,
                format!("disk '{}' is read-only", self.name().display()),
            ));
        }
        Ok(())
    }

    /// What every change of the disk begins with.
    fn prepare(&mut self, verb: &str, offset: u64, length: u64) -> Result<(), Error> {
        self.check_writable()?;
        self.check_range(verb, offset, length)?;
        self.unsettled = self.has_metadata;
        // A raw file may end within its last sector; the first write there completes it.
        if offset + length > self.image.size() {
            let grown = self.image.grow(self.info.size);
            grown.map_err(|source| self.failed("grow", offset, source))?;
        }
        Ok(())
    }

    /// What every change of the disk ends with.
    fn finish(&mut self, fua: bool) -> Result<(), Error> {
        if fua || !self.info.writeback {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// A disk whose format was guessed to be raw must go on looking raw.
    fn check_head(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut head = [0; PROBE_BYTES];
        let at = offset as usize;
        let count = data.len().min(PROBE_BYTES - at);
        if count < PROBE_BYTES {
            self.image
                .read(&mut head[..], 0)
                .map_err(|source| self.failed("read", 0, source))?;
        }
        head[at..at + count].copy_from_slice(&data[..count]);
        match would_be_probed(&head) {
            None => Ok(()),
            Some(format) => Err(Error::new(
                Kind::ProbeGuard,
                format!(
                    "disk '{}' was taken for raw because its format was not given, and the guest tried to make it \
                     look like {format}; say format=raw to allow that",
                    self.name().display()
                ),
            )),
        }
    }

    fn failed(&self, verb: &str, offset: u64, source: io::Error) -> Error {
        let name = self.name();
        Error::at(&format!("{verb} at {offset:#x} of disk"), name, source)
    }

    fn name(&self) -> &Path {
        self.held
            .first()
            .map_or(Path::new(""), |held| held.path.as_path())
    }
}
