//! The guest's memory: one segment, shared with the broker and with nobody else.
//!
//! The host commits a page when the guest first touches it (MAP_NORESERVE); whether the whole fits is the broker's
//! question at start. Generated code and the software MMU address it by [`GuestRam::as_ptr`]; everybody else copies
//! through the bounded methods here. Addresses are offsets into RAM, not guest-physical ones: the hole below 4 GiB is
//! the bus's business.

use crate::{Bytes, Error, Result, Segment};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::SeekFrom;
use rustix::mm::{Advice, MapFlags};
use std::sync::Arc;

const FLAGS: MapFlags = MapFlags::SHARED.union(MapFlags::NORESERVE);

#[derive(Clone, Debug)]
pub struct GuestRam {
    segment: Arc<Segment>,
    bytes: Bytes,
}

impl GuestRam {
    /// Fresh zeroed RAM.
    pub fn create(len: usize) -> Result<Self> {
        Self::of(Segment::create_mapped("atoll-ram", len, FLAGS)?)
    }

    /// RAM that the broker handed over.
    pub fn from_fd(fd: OwnedFd, len: usize) -> Result<Self> {
        Self::of(Segment::from_fd_mapped(fd, len, FLAGS)?)
    }

    /// RAM in a segment that is mapped already, such as a named one.
    pub fn of(segment: Arc<Segment>) -> Result<Self> {
        let bytes = segment.bytes(0, segment.len())?;
        Ok(Self { segment, bytes })
    }

    /// The ranges that hold data, as (offset, length): everything outside of them was never touched and reads as zeros.
    /// Looking at a page that was never touched would make the host commit it, so whoever reads all of RAM asks here first.
    pub fn data_ranges(&self) -> Vec<(u64, u64)> {
        let all = vec![(0, self.len() as u64)];
        let Some(fd) = self.fd() else { return all };
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Ok(start) = rustix::fs::seek(fd, SeekFrom::Data(at)) {
            let Ok(end) = rustix::fs::seek(fd, SeekFrom::Hole(start)) else {
                return all;
            };
            let (start, end) = (start.min(self.len() as u64), end.min(self.len() as u64));
            if start >= end {
                break;
            }
            ranges.push((start, end - start));
            at = end;
        }
        ranges
    }

    /// Asks for huge pages: fewer host TLB misses, coarser commitment. Kernels that give none say nothing.
    pub fn advise_huge(&self) {
        // SAFETY: advice about a mapping of our own changes no byte of it.
        let _ = unsafe {
            rustix::mm::madvise(
                self.segment.as_ptr().cast(),
                self.segment.len(),
                Advice::LinuxHugepage,
            )
        };
    }

    /// Base address, for generated code and the MMU. The guest, and the broker when it inspects, touch the same bytes:
    /// form no reference to them.
    pub fn as_ptr(&self) -> *mut u8 {
        self.segment.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.segment.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.segment.fd()
    }

    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Copies `to.len()` bytes at `offset` out of RAM.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.bytes.read(self.index(offset, to.len())?, to)
    }

    /// Copies `from` into RAM.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<()> {
        self.bytes.write(self.index(offset, from.len())?, from)
    }

    /// Zeroes a range. Whole pages go back to the host.
    pub fn zero(&self, offset: u64, len: usize) -> Result<()> {
        let at = self.index(offset, len)?;
        self.segment.check(at, len)?;
        // SAFETY: the range lies inside the mapping, and no reference to RAM exists.
        unsafe { std::ptr::write_bytes(self.segment.as_ptr().add(at), 0, len) };
        Ok(())
    }

    /// Gives the host's memory below everything back: RAM reads as zeros again.
    pub fn discard_all(&self) -> Result<()> {
        // SAFETY: MADV_REMOVE punches a hole in the memfd; the mapping stays, its bytes become zero.
        let done = unsafe {
            rustix::mm::madvise(
                self.segment.as_ptr().cast(),
                self.segment.len(),
                Advice::LinuxRemove,
            )
        };
        done.or_else(|_| {
            self.zero(0, self.len())
                .map_err(|_| rustix::io::Errno::INVAL)
        })
        .map_err(Error::os("madvise"))
    }

    fn index(&self, offset: u64, len: usize) -> Result<usize> {
        let limit = self.len() as u64;
        usize::try_from(offset).map_err(|_| Error::OutOfRange {
            offset,
            len: len as u64,
            limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_and_ram_starts_zeroed() {
        let ram = GuestRam::create(1 << 20).unwrap();
        let mut byte = [1];
        ram.read((1 << 20) - 1, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        ram.write((1 << 20) - 4, &[1, 2, 3, 4]).unwrap();
        assert!(ram.write((1 << 20) - 3, &[1, 2, 3, 4]).is_err());
        assert!(ram.read(u64::MAX, &mut byte).is_err());
        ram.zero((1 << 20) - 4, 2).unwrap();
        let mut four = [9; 4];
        ram.read((1 << 20) - 4, &mut four).unwrap();
        assert_eq!(four, [0, 0, 3, 4]);
        assert!(ram.zero(1, 1 << 20).is_err());
        assert_eq!(
            ram.data_ranges(),
            [((1 << 20) - 4096, 4096)],
            "what was never touched is no data"
        );
        ram.discard_all().unwrap();
        ram.read((1 << 20) - 4, &mut four).unwrap();
        assert_eq!(four, [0; 4]);
    }
}
