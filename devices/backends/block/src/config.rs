//! What to open and how, in the words of QEMU's `-drive`.

use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;

/// One disk, as its owner asks for it.
#[derive(Debug)]
pub struct Config {
    /// The image.
    pub path: PathBuf,
    /// `format=`; none means that the file's own content is asked, as far as that is safe.
    pub format: Option<Format>,
    /// `readonly=on`.
    pub read_only: bool,
    /// `cache=`.
    pub cache: Cache,
    /// `discard=`.
    pub discard: Discard,
    /// `detect-zeroes=`: a write of zeroes alone becomes a request for zeroes.
    pub detect_zeroes: bool,
    /// Which backing files a qcow2 header may name.
    pub backing: Backing,
    /// `locking=`.
    pub locking: Locking,
    /// `snapshot=on`: the image stays as it is, changes go elsewhere.
    pub snapshot: Snapshot,
}

impl Config {
    /// `path` with QEMU's defaults, and no backing file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Config {
            path: path.into(),
            format: None,
            read_only: false,
            cache: Cache::default(),
            discard: Discard::default(),
            detect_zeroes: false,
            backing: Backing::default(),
            locking: Locking::default(),
            snapshot: Snapshot::default(),
        }
    }
}

/// An image format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The file is the disk.
    Raw,
    /// qcow2, versions 2 and 3.
    Qcow2,
}

impl Format {
    /// The name by which QEMU knows it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "raw" => Ok(Format::Raw),
            "qcow2" => Ok(Format::Qcow2),
            _ => Err(format!(
                "unknown disk format '{name}': raw and qcow2 are served"
            )),
        }
    }
}

/// `cache=`: three independent promises under QEMU's five names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// The host's page cache, flushed when the guest flushes.
    #[default]
    Writeback,
    /// The host's page cache, flushed before any write is answered.
    Writethrough,
    /// Past the host's page cache, flushed when the guest flushes.
    None,
    /// Past the host's page cache, flushed before any write is answered.
    Directsync,
    /// The host's page cache; the guest's flushes reach the file, but nothing is synced.
    Unsafe,
}

impl Cache {
    /// The guest is told of a write cache and must flush; otherwise each write is flushed.
    pub fn is_writeback(self) -> bool {
        !matches!(self, Cache::Writethrough | Cache::Directsync)
    }

    /// The host's page cache is bypassed (`O_DIRECT`).
    pub fn is_direct(self) -> bool {
        matches!(self, Cache::None | Cache::Directsync)
    }

    /// A flush asks the host to make its caches durable.
    pub fn syncs(self) -> bool {
        self != Cache::Unsafe
    }
}

impl FromStr for Cache {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "writeback" => Cache::Writeback,
            "writethrough" => Cache::Writethrough,
            "none" | "off" => Cache::None,
            "directsync" => Cache::Directsync,
            "unsafe" => Cache::Unsafe,
            _ => {
                return Err(format!(
                    "unknown cache mode '{name}': use writeback, writethrough, none, directsync or unsafe"
                ));
            }
        })
    }
}

/// `discard=`: what becomes of ranges that the guest no longer needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// Nothing: they keep their content.
    #[default]
    Ignore,
    /// They read as zeroes, and the host gets the space back where it can.
    ///
    /// The zeroes are a promise, kept on hosts that cannot free space as well: otherwise a guest
    /// could tell one host from another.
    Unmap,
}

impl FromStr for Discard {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "ignore" | "off" => Ok(Discard::Ignore),
            "unmap" | "on" => Ok(Discard::Unmap),
            _ => Err(format!(
                "unknown discard mode '{name}': use ignore or unmap"
            )),
        }
    }
}

/// Which backing files an image may name in its header.
///
/// An image from elsewhere can name any file of the host, and the guest would read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// None: an image that names one is refused.
    #[default]
    Deny,
    /// Those that, links resolved, are one of these files or lie within one of these directories.
    Within(Vec<PathBuf>),
    /// Any. For images that this host's owner made.
    Any,
}

/// Whether images are locked against other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// Yes, as QEMU does.
    #[default]
    On,
    /// No. Two writers of one image destroy it.
    Off,
}

/// `snapshot=on`.
#[derive(Debug, Default)]
pub enum Snapshot {
    /// Writes go to the image.
    #[default]
    Off,
    /// Writes go to an unlinked file in the directory for temporary files, and are gone when this
    /// process is. Whoever must survive this process's death passes a file of its own.
    Temporary,
    /// Writes go to this file. Empty, it is made an overlay; else it is one already, left by a
    /// predecessor, and is continued.
    Overlay(File),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_modes_keep_qemus_table() {
        // qemu(1), -drive cache=: cache.writeback, cache.direct, cache.no-flush.
        for (name, writeback, direct, no_flush) in [
            ("writeback", true, false, false),
            ("none", true, true, false),
            ("writethrough", false, false, false),
            ("directsync", false, true, false),
            ("unsafe", true, false, true),
        ] {
            let mode: Cache = name.parse().unwrap();
            assert_eq!(
                (mode.is_writeback(), mode.is_direct(), !mode.syncs()),
                (writeback, direct, no_flush),
                "{name}"
            );
        }
        assert!("write-back".parse::<Cache>().is_err());
    }
}
