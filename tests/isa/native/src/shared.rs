//! The slots that parent and child share: one memfd, mapped in both.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::machine::{Event, Slot};

/// How many cases a turn of the child runs at most.
pub(crate) const SLOTS: usize = 256;
const BYTES: usize = SLOTS * size_of::<Slot>();

/// A mapping of the slots.
#[derive(Debug)]
pub(crate) struct Shared {
    slots: *mut Slot,
}

// SAFETY: the mapping belongs to the value alone; nothing of it is bound to a thread.
unsafe impl Send for Shared {}

impl Shared {
    /// New slots, and the descriptor that a child inherits.
    pub(crate) fn create() -> io::Result<(Shared, OwnedFd)> {
        // SAFETY: the name is a C string. The descriptor is to be inherited, so it is not close-on-exec.
        let fd = unsafe { libc::memfd_create(c"isa-slots".as_ptr(), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no memory is involved.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), BYTES as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((Shared::map(fd.as_raw_fd())?, fd))
    }

    /// The slots behind an inherited descriptor.
    pub(crate) fn map(fd: RawFd) -> io::Result<Shared> {
        // SAFETY: the kernel chooses a free place; a descriptor that is none, or too short a file, is an error or SIGBUS at
        // the first access, never another's memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared { slots: at.cast() })
    }

    /// The first slot, for the signal handler.
    pub(crate) fn as_ptr(&self) -> *mut Slot {
        self.slots
    }

    /// The slots. To be called only by the side whose turn it is.
    pub(crate) fn slots(&mut self) -> &mut [Slot] {
        // SAFETY: the mapping is `SLOTS` slots long and lives as long as `self`; every bit pattern is a slot. The other process
        // waits for its turn while this side holds the reference (the protocol of `Witness::run` and `serve`).
        unsafe { std::slice::from_raw_parts_mut(self.slots, SLOTS) }
    }

    /// The index of the case that was being run when the child died.
    pub(crate) fn running(&mut self, count: usize) -> Option<usize> {
        self.slots()[..count]
            .iter()
            .position(|slot| slot.event.state == Event::RUNNING)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, unmapped once.
        unsafe { libc::munmap(self.slots.cast(), BYTES) };
    }
}
