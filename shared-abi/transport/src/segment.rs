//! Shared memory: creating it, handing it over, accepting it, looking into it.
//!
//! The usual provider is a memfd sealed against shrinking, growing and further seals, so that no peer can truncate it
//! and kill the others with SIGBUS; a received one is mapped only after its size and seals were checked. The second
//! provider is a named object in /dev/shm for set-ups that share nothing else. It cannot be sealed: there, whoever may
//! open the name is trusted not to truncate it.

use crate::ring::{RingSlots, SlotWords};
use crate::{Error, Result};
use atoll_abi::PAGE;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// A piece of memory that several processes map, unmapped when the last handle of this process goes.
pub struct Segment {
    base: NonNull<u8>,
    len: usize,
    provider: Provider,
}

enum Provider {
    Memfd(OwnedFd),
    /// Unmaps, and unlinks the name if this process created it, when dropped.
    Named(shared_memory::Shmem),
}

// SAFETY: the mapping lives as long as the value and belongs to no thread; all access goes through atomics or through
// copies by raw pointer that assume concurrent writers. `Shmem` is only kept to be dropped.
unsafe impl Send for Segment {}
// SAFETY: as above; no method hands out a reference to plain bytes.
unsafe impl Sync for Segment {}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provider = match &self.provider {
            Provider::Memfd(_) => "memfd",
            Provider::Named(shmem) => shmem.get_os_id(),
        };
        f.debug_struct("Segment")
            .field("len", &self.len)
            .field("provider", &provider)
            .finish()
    }
}

impl Segment {
    /// A zeroed, sealed memfd of at least `len` bytes. `name` shows up in /proc/PID/maps.
    pub fn create(name: &str, len: usize) -> Result<Arc<Self>> {
        Self::create_mapped(name, len, MapFlags::SHARED)
    }

    /// A sealed memfd that holds a copy of `bytes`, for what the broker reads on behalf of a peer.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Arc<Self>> {
        let segment = Self::create(name, bytes.len())?;
        segment.bytes(0, bytes.len())?.write(0, bytes)?;
        Ok(segment)
    }

    pub(crate) fn create_mapped(name: &str, len: usize, flags: MapFlags) -> Result<Arc<Self>> {
        let len = len.max(1).next_multiple_of(PAGE);
        let fd = memfd(name)?;
        rustix::fs::ftruncate(&fd, len as u64).map_err(Error::os("ftruncate"))?;
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(Error::os("F_ADD_SEALS"))?;
        Self::map(fd, len, flags)
    }

    /// A segment that a peer handed over, if it is as large as announced and nobody can resize it.
    pub fn from_fd(fd: OwnedFd, len: usize) -> Result<Arc<Self>> {
        Self::from_fd_mapped(fd, len, MapFlags::SHARED)
    }

    pub(crate) fn from_fd_mapped(fd: OwnedFd, len: usize, flags: MapFlags) -> Result<Arc<Self>> {
        if len == 0 || !len.is_multiple_of(PAGE) {
            return Err(Error::Segment(format!(
                "length {len:#x} is not a multiple of the page"
            )));
        }
        let seals = rustix::fs::fcntl_get_seals(&fd)
            .map_err(|_| Error::Segment("it is not a memfd".to_owned()))?;
        if !seals.contains(SEALS) {
            return Err(Error::Segment(format!(
                "it is not sealed against resizing ({seals:?})"
            )));
        }
        let size = rustix::fs::fstat(&fd).map_err(Error::os("fstat"))?.st_size;
        if u64::try_from(size).unwrap_or(0) < len as u64 {
            return Err(Error::Segment(format!(
                "it has {size:#x} bytes instead of {len:#x}"
            )));
        }
        Self::map(fd, len, flags)
    }

    fn map(fd: OwnedFd, len: usize, flags: MapFlags) -> Result<Arc<Self>> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of this process.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                &fd,
                0,
            )
        }
        .map_err(Error::os("mmap"))?;
        let base = NonNull::new(base.cast()).ok_or(Error::Protocol("mmap returned null"))?;
        Ok(Arc::new(Self {
            base,
            len,
            provider: Provider::Memfd(fd),
        }))
    }

    /// A zeroed segment under a name (`"/atoll-..."`); the creator unlinks it when it drops the segment.
    pub fn create_named(name: &str, len: usize) -> Result<Arc<Self>> {
        let len = len.max(1).next_multiple_of(PAGE);
        let shmem = shared_memory::ShmemConf::new()
            .os_id(name)
            .size(len)
            .create();
        Self::from_shmem(
            shmem.map_err(|err| Error::Segment(format!("{name}: {err}")))?,
            len,
        )
    }

    /// Opens a segment that a peer created under a name.
    pub fn open_named(name: &str, len: usize) -> Result<Arc<Self>> {
        let shmem = shared_memory::ShmemConf::new().os_id(name).open();
        Self::from_shmem(
            shmem.map_err(|err| Error::Segment(format!("{name}: {err}")))?,
            len,
        )
    }

    fn from_shmem(shmem: shared_memory::Shmem, len: usize) -> Result<Arc<Self>> {
        if len == 0 || !len.is_multiple_of(PAGE) || shmem.len() < len {
            return Err(Error::Segment(format!(
                "it has {:#x} bytes instead of {len:#x}",
                shmem.len()
            )));
        }
        let base = NonNull::new(shmem.as_ptr()).ok_or(Error::Protocol("mapping at null"))?;
        Ok(Arc::new(Self {
            base,
            len,
            provider: Provider::Named(shmem),
        }))
    }

    /// The descriptor to hand to a peer; a named segment has none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.provider {
            Provider::Memfd(fd) => Some(fd.as_fd()),
            Provider::Named(_) => None,
        }
    }

    /// The name under which a peer opens it; a memfd has none.
    pub fn name(&self) -> Option<&str> {
        match &self.provider {
            Provider::Memfd(_) => None,
            Provider::Named(shmem) => Some(shmem.get_os_id()),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it is mapped: for generated code and for what this crate does not offer.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// A struct of atomics at `offset`.
    pub fn view<T: SharedPage>(self: &Arc<Self>, offset: usize) -> Result<View<T>> {
        self.check(offset, size_of::<T>())?;
        if !offset.is_multiple_of(align_of::<T>()) {
            return Err(Error::Protocol("misaligned view"));
        }
        // SAFETY: the range was checked, so the pointer stays inside the mapping.
        let at = unsafe { self.base.add(offset) }.cast();
        Ok(View {
            at,
            segment: self.clone(),
            of: PhantomData,
        })
    }

    /// A range of bytes to copy to and from.
    pub fn bytes(self: &Arc<Self>, offset: usize, len: usize) -> Result<Bytes> {
        self.check(offset, len)?;
        Ok(Bytes {
            segment: self.clone(),
            offset,
            len,
        })
    }

    pub(crate) fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::OutOfRange {
                offset: offset as u64,
                len: len as u64,
                limit: self.len as u64,
            }),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Provider::Memfd(_) = self.provider {
            // SAFETY: this is the mapping made by `map`, and views and ranges keep the segment alive by `Arc`.
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        }
    }
}

/// `MFD_NOEXEC_SEAL` exists since Linux 6.3; older kernels refuse it.
fn memfd(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        other => other,
    }
    .map_err(Error::os("memfd_create"))
}

/// Types that may lie in memory which another process writes at any time.
///
/// # Safety
/// Every field is an atomic, an array of atomics or padding that is never read, and every bit pattern is valid.
pub unsafe trait SharedPage {}

// SAFETY: `repr(C)`, all fields are atomics or unread padding.
unsafe impl SharedPage for atoll_abi::clock::ClockPage {}
// SAFETY: as above.
unsafe impl SharedPage for atoll_abi::link::LinkHeader {}
// SAFETY: as above.
unsafe impl SharedPage for atoll_abi::link::Bell {}
// SAFETY: as above.
unsafe impl SharedPage for atoll_abi::link::BellPage {}
// SAFETY: as above.
unsafe impl SharedPage for atoll_abi::route::RouteTable {}
// SAFETY: as above.
unsafe impl SharedPage for atoll_abi::stats::StatsPage {}
// SAFETY: as above.
unsafe impl SharedPage for atoll_abi::link::Cursor {}

/// A struct of atomics inside a segment, which it keeps mapped.
pub struct View<T> {
    at: NonNull<T>,
    segment: Arc<Segment>,
    of: PhantomData<T>,
}

// SAFETY: `T: SharedPage` is all atomics, and the segment is `Send` and `Sync`.
unsafe impl<T: SharedPage> Send for View<T> {}
// SAFETY: as above.
unsafe impl<T: SharedPage> Sync for View<T> {}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            segment: self.segment.clone(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "View<{}>({:?})",
            std::any::type_name::<T>(),
            self.segment
        )
    }
}

impl<T: SharedPage> View<T> {
    /// A zeroed one in a segment of its own.
    pub fn create(name: &str) -> Result<Self> {
        Segment::create(name, size_of::<T>())?.view(0)
    }

    /// What to hand over for others to see it.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// A part of the struct.
    pub fn map<U: SharedPage>(&self, part: impl FnOnce(&T) -> &U) -> View<U> {
        View {
            at: NonNull::from(part(self)),
            segment: self.segment.clone(),
            of: PhantomData,
        }
    }
}

impl<T: SharedPage> std::ops::Deref for View<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `at` is in bounds and aligned (checked in `Segment::view`), the mapping lives as long as `segment`,
        // and `SharedPage` promises that concurrent writers cannot break a reference to it.
        unsafe { self.at.as_ref() }
    }
}

/// The slots of a ring inside a segment.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    /// Keeps the mapping.
    _segment: Arc<Segment>,
    base: NonNull<SlotWords>,
    count: usize,
}

// SAFETY: slots are atomics, and the segment is `Send` and `Sync`.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    /// `count` slots, a power of two or none, at `offset`.
    pub(crate) fn new(segment: &Arc<Segment>, offset: usize, count: usize) -> Result<Self> {
        segment.check(offset, count * size_of::<SlotWords>())?;
        if !offset.is_multiple_of(size_of::<SlotWords>()) {
            return Err(Error::Protocol("misaligned ring"));
        }
        // SAFETY: the range was checked, so the pointer stays inside the mapping.
        let base = unsafe { segment.base.add(offset) }.cast();
        Ok(Self {
            _segment: segment.clone(),
            base,
            count,
        })
    }
}

impl RingSlots for Slots {
    fn slots(&self) -> u64 {
        self.count as u64
    }

    fn slot(&self, index: u64) -> &SlotWords {
        assert!(index < self.count as u64);
        // SAFETY: the index is in bounds of the range checked in `new`, atomics may be written by others at any time,
        // and `_segment` keeps the mapping.
        unsafe { self.base.add(index as usize).as_ref() }
    }
}

/// A range of a segment whose bytes are copied, never referenced.
#[derive(Clone, Debug)]
pub struct Bytes {
    segment: Arc<Segment>,
    offset: usize,
    len: usize,
}

impl Bytes {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `to.len()` bytes at `offset` out.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        self.check(offset, to.len())?;
        // SAFETY: the range is inside the mapping; a peer writing at the same time can only make the copy's bytes
        // arbitrary, and nothing is assumed of them.
        unsafe {
            let from = self.segment.base.add(self.offset + offset);
            std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len());
        }
        Ok(())
    }

    /// Copies `from` to `offset`.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<()> {
        self.check(offset, from.len())?;
        // SAFETY: the range is inside the mapping, and no reference to shared bytes exists that this could break.
        unsafe {
            let to = self.segment.base.add(self.offset + offset);
            std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len());
        }
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::OutOfRange {
                offset: offset as u64,
                len: len as u64,
                limit: self.len as u64,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_be_resized_by_whoever_holds_it() {
        let segment = Segment::create("test", 3 * PAGE).unwrap();
        let fd = segment.fd().unwrap();
        assert!(rustix::fs::ftruncate(fd, 0).is_err());
        assert!(rustix::fs::ftruncate(fd, 1 << 30).is_err());
        assert!(rustix::fs::fcntl_add_seals(fd, SealFlags::WRITE).is_err());
        let other = Segment::from_fd(fd.try_clone_to_owned().unwrap(), 3 * PAGE).unwrap();
        segment
            .bytes(0, 3 * PAGE)
            .unwrap()
            .write(PAGE - 1, b"both")
            .unwrap();
        let mut seen = [0; 4];
        other
            .bytes(PAGE - 1, 4)
            .unwrap()
            .read(0, &mut seen)
            .unwrap();
        assert_eq!(&seen, b"both");
    }

    #[test]
    fn what_could_be_truncated_is_refused() {
        let unsealed =
            rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
                .unwrap();
        rustix::fs::ftruncate(&unsealed, PAGE as u64).unwrap();
        assert!(matches!(
            Segment::from_fd(unsealed, PAGE),
            Err(Error::Segment(_))
        ));
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(matches!(
            Segment::from_fd(pipe, PAGE),
            Err(Error::Segment(_))
        ));
        let small = Segment::create("test", PAGE).unwrap();
        let fd = small.fd().unwrap().try_clone_to_owned().unwrap();
        assert!(matches!(
            Segment::from_fd(fd, 2 * PAGE),
            Err(Error::Segment(_))
        ));
    }

    #[test]
    fn named_segments_are_shared_and_vanish_with_their_creator() {
        let name = format!("/atoll-test-{}", std::process::id());
        let segment = Segment::create_named(&name, PAGE).unwrap();
        let other = Segment::open_named(&name, PAGE).unwrap();
        assert!(Segment::open_named(&name, 2 * PAGE).is_err());
        segment.bytes(0, PAGE).unwrap().write(7, b"x").unwrap();
        let mut seen = [0];
        other.bytes(0, PAGE).unwrap().read(7, &mut seen).unwrap();
        assert_eq!(&seen, b"x");
        drop(segment);
        assert!(Segment::open_named(&name, PAGE).is_err());
    }

    #[test]
    fn ranges_are_bounded() {
        let segment = Segment::create("test", PAGE).unwrap();
        assert!(segment.bytes(1, PAGE).is_err());
        assert!(segment.bytes(usize::MAX, 2).is_err());
        assert!(segment.view::<atoll_abi::link::Bell>(PAGE - 32).is_err());
        assert!(segment.view::<atoll_abi::link::Bell>(8).is_err());
        let bytes = segment.bytes(PAGE - 8, 8).unwrap();
        assert!(bytes.write(1, &[0; 8]).is_err());
        assert!(bytes.read(usize::MAX, &mut [0; 1]).is_err());
    }
}
