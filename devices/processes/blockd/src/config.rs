//! From the broker's words to the back end's, and back.

use std::error::Error as _;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use atoll_abi::Status;
use atoll_abi::block::{DiskFlags, DiskInfo};
use atoll_abi::config::{BlockConfig, CacheMode, ImageFormat};
use block_backend::{
    Backing, Cache, Config, Discard, Error, Format, Info, Kind, Locking, Snapshot,
};
use device_sdk::{Fault, FaultKind, fault};

/// Guests address disks in blocks of this size, whatever the host's disk prefers: what a guest can
/// see must not depend on the host.
const BLOCK_BYTES: u32 = 512;

/// The name of the file, in the attach message, that takes the writes of a snapshot. Whoever hands
/// it over keeps it open, so that a successor finds there what its predecessor wrote.
pub(crate) const OVERLAY: &str = "overlay";

pub(crate) fn to_backend(config: &BlockConfig, overlay: Option<OwnedFd>) -> Config {
    Config {
        path: PathBuf::from(&config.path),
        format: match config.format {
            ImageFormat::Probe => None,
            ImageFormat::Raw => Some(Format::Raw),
            ImageFormat::Qcow2 => Some(Format::Qcow2),
        },
        read_only: config.read_only,
        cache: match config.cache {
            CacheMode::Writeback => Cache::Writeback,
            CacheMode::Writethrough => Cache::Writethrough,
            CacheMode::None => Cache::None,
            CacheMode::Directsync => Cache::Directsync,
            CacheMode::Unsafe => Cache::Unsafe,
        },
        discard: if config.discard {
            Discard::Unmap
        } else {
            Discard::Ignore
        },
        detect_zeroes: config.detect_zeroes,
        backing: match config.backing_allowed.as_slice() {
            [] => Backing::Deny,
            allowed => Backing::Within(allowed.iter().map(PathBuf::from).collect()),
        },
        locking: if config.lock {
            Locking::On
        } else {
            Locking::Off
        },
        snapshot: match (config.snapshot, overlay) {
            (false, _) => Snapshot::Off,
            (true, Some(file)) => Snapshot::Overlay(File::from(file)),
            (true, None) => Snapshot::Temporary,
        },
    }
}

pub(crate) fn to_wire(info: &Info) -> DiskInfo {
    let mut flags = DiskFlags::empty();
    flags.set(DiskFlags::READ_ONLY, info.read_only);
    flags.set(DiskFlags::WRITEBACK, info.writeback);
    flags.set(DiskFlags::DISCARD, info.discards && !info.read_only);
    flags.set(DiskFlags::WRITE_ZEROES, !info.read_only);
    DiskInfo {
        size_bytes: info.size,
        block_bytes: BLOCK_BYTES,
        flags,
    }
}

/// The whole of an error, for a log or a fault.
pub(crate) fn describe(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Why a disk cannot be served. The broker knows which.
pub(crate) fn to_fault(error: &Error) -> Fault {
    let kind = match error.kind() {
        Kind::Locked => FaultKind::Locked,
        Kind::Io | Kind::NoSpace => FaultKind::Host,
        _ => FaultKind::Config,
    };
    fault(kind, describe(error))
}

/// How the guest is told of a failed request.
pub(crate) fn to_status(kind: Kind) -> Status {
    match kind {
        Kind::OutOfRange => Status::OutOfRange,
        Kind::ReadOnly => Status::ReadOnly,
        Kind::Unsupported => Status::Unsupported,
        Kind::ProbeGuard | Kind::Permission => Status::Denied,
        Kind::NoSpace => Status::NoSpace,
        _ => Status::Io,
    }
}
