//! Storage that counts writes and syncs and can stop, as a process that is killed stops.
//!
//! imago's `Storage` trait has unsafe methods (whoever calls them promises alignment and no
//! overlapping requests); here each passes its caller's promise on to the file beneath.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::PreallocateMode;
use imago::storage::drivers::CommonStorageHelper;
use imago::{DynStorage, Storage, file::File};

/// What happened to a file, and how much more may.
#[derive(Debug)]
pub struct Meter {
    pub writes: AtomicU64,
    pub syncs: AtomicU64,
    limit: AtomicU64,
    error: fn() -> io::Error,
}

impl Meter {
    /// Lets `limit` writes through and fails every later call.
    pub fn stopping_after(limit: u64) -> Arc<Meter> {
        Meter::new(limit, || io::Error::other("killed"))
    }

    /// A file system that is full after `limit` writes, until [`Meter::make_room`].
    pub fn full_after(limit: u64) -> Arc<Meter> {
        Meter::new(limit, || io::ErrorKind::StorageFull.into())
    }

    pub fn make_room(&self) {
        self.limit.store(u64::MAX, Relaxed);
    }

    fn new(limit: u64, error: fn() -> io::Error) -> Arc<Meter> {
        Arc::new(Meter {
            writes: 0.into(),
            syncs: 0.into(),
            limit: limit.into(),
            error,
        })
    }

    pub fn unlimited() -> Arc<Meter> {
        Meter::stopping_after(u64::MAX)
    }

    /// Puts the meter in front of `file`.
    pub fn wrap(self: &Arc<Meter>, file: File) -> Box<dyn DynStorage> {
        Box::new(Metered {
            file,
            meter: Arc::clone(self),
        })
    }

    fn count_write(&self) -> io::Result<()> {
        self.alive()?;
        self.writes.fetch_add(1, Relaxed);
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.writes.load(Relaxed) >= self.limit.load(Relaxed) {
            return Err((self.error)());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Metered {
    file: File,
    meter: Arc<Meter>,
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metered {}", self.file)
    }
}

impl Storage for Metered {
    fn mem_align(&self) -> usize {
        self.file.mem_align()
    }

    fn req_align(&self) -> usize {
        self.file.req_align()
    }

    fn zero_align(&self) -> usize {
        self.file.zero_align()
    }

    fn discard_align(&self) -> usize {
        self.file.discard_align()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn resolve_relative_path<P: AsRef<Path>>(&self, relative: P) -> io::Result<PathBuf> {
        self.file.resolve_relative_path(relative)
    }

    unsafe fn pure_readv(&self, buffers: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        // SAFETY: the caller's promise is the callee's demand.
        unsafe { self.file.pure_readv(buffers, offset) }
    }

    unsafe fn pure_writev(&self, buffers: IoVector<'_>, offset: u64) -> io::Result<()> {
        self.meter.count_write()?;
        // SAFETY: the caller's promise is the callee's demand.
        unsafe { self.file.pure_writev(buffers, offset) }
    }

    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.meter.count_write()?;
        // SAFETY: the caller's promise is the callee's demand.
        unsafe { self.file.pure_write_zeroes(offset, length) }
    }

    unsafe fn pure_write_allocated_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.meter.count_write()?;
        // SAFETY: the caller's promise is the callee's demand.
        unsafe { self.file.pure_write_allocated_zeroes(offset, length) }
    }

    unsafe fn pure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.meter.count_write()?;
        // SAFETY: the caller's promise is the callee's demand.
        unsafe { self.file.pure_discard(offset, length) }
    }

    fn flush(&self) -> io::Result<()> {
        self.meter.alive()?;
        self.file.flush()
    }

    fn sync(&self) -> io::Result<()> {
        self.meter.alive()?;
        self.meter.syncs.fetch_add(1, Relaxed);
        self.file.sync()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        // SAFETY: the caller's promise is the callee's demand.
        unsafe { self.file.invalidate_cache() }
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        self.file.get_storage_helper()
    }

    fn resize(&self, new_size: u64, mode: PreallocateMode) -> io::Result<()> {
        self.meter.count_write()?;
        self.file.resize(new_size, mode)
    }
}
