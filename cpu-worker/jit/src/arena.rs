//! The code arena: one memfd mapped twice, writable and executable, with a free list.
//!
//! Regions come and go one by one, which no JIT memory of Cranelift allows. Free pieces are kept sorted and merged; the first that fits
//! is taken.

use std::ffi::c_void;
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Installed code. Freed through [`Arena::free`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    at: usize,
    len: usize,
}

/// Memory for code.
#[derive(Debug)]
pub(crate) struct Arena {
    write: NonNull<c_void>,
    execute: NonNull<c_void>,
    size: usize,
    /// Free pieces as (start, length), by start.
    free: Vec<(usize, usize)>,
    used: usize,
}

// SAFETY: the mappings belong to this value alone.
unsafe impl Send for Arena {}

impl Arena {
    /// An arena of `size` bytes, touched only where used.
    pub(crate) fn new(size: usize) -> rustix::io::Result<Arena> {
        let fd = memfd_create("atoll-code", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, size as u64)?;
        let map = |protection| {
            // SAFETY: a new mapping at an address of the kernel's choice touches nobody else's memory.
            let at = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    size,
                    protection,
                    MapFlags::SHARED,
                    &fd,
                    0,
                )
            }?;
            Ok(NonNull::new(at).expect("mmap gives no null"))
        };
        Ok(Arena {
            write: map(ProtFlags::READ | ProtFlags::WRITE)?,
            execute: map(ProtFlags::READ | ProtFlags::EXEC)?,
            size,
            free: vec![(0, size)],
            used: 0,
        })
    }

    /// Copies code in. None if there is no room.
    pub(crate) fn install(&mut self, code: &[u8]) -> Option<Piece> {
        let len = code.len().next_multiple_of(64);
        let i = self.free.iter().position(|&(_, n)| n >= len)?;
        let (at, n) = self.free[i];
        if n == len {
            self.free.remove(i);
        } else {
            self.free[i] = (at + len, n - len);
        }
        // SAFETY: the piece lies inside the mapping, belongs to nobody, and no emitted code is running while `self` is borrowed.
        unsafe {
            let to = self.write.as_ptr().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(code.as_ptr(), to, code.len());
        }
        self.used += len;
        Some(Piece { at, len })
    }

    /// Where the code of a piece runs.
    pub(crate) fn address(&self, piece: Piece) -> usize {
        self.execute.as_ptr() as usize + piece.at
    }

    /// Takes a piece back.
    pub(crate) fn free(&mut self, piece: Piece) {
        self.used -= piece.len;
        let i = self.free.partition_point(|&(at, _)| at < piece.at);
        self.free.insert(i, (piece.at, piece.len));
        self.merge(i);
        if i > 0 {
            self.merge(i - 1);
        }
    }

    fn merge(&mut self, i: usize) {
        if let [(a, n), (b, m), ..] = self.free[i..]
            && a + n == b
        {
            self.free[i].1 = n + m;
            self.free.remove(i + 1);
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: both mappings are ours, of this size, and unmapped once; a failure leaves them, which harms nobody.
        unsafe {
            let _ = munmap(self.write.as_ptr(), self.size);
            let _ = munmap(self.execute.as_ptr(), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_merge_when_freed() {
        let mut a = Arena::new(4096).unwrap();
        let p: Vec<_> = (0..4).map(|_| a.install(&[0xc3; 1000]).unwrap()).collect();
        assert!(a.install(&[0; 64]).is_none());
        for i in [1, 3, 2, 0] {
            a.free(p[i]);
        }
        assert_eq!(a.free, [(0, 4096)]);
        assert_eq!(a.used(), 0);
        assert!(a.install(&[0; 4096]).is_some());
    }
}
