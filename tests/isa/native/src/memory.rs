//! The memory shared by the process that asks and the child that runs: cases, outcomes, and the pages that cases see.

use std::io;
use std::ptr::null_mut;

use crate::{Case, Outcome};

const PAGE: usize = 4096;
/// The code page. Below 4 GiB, so that 32-bit addresses reach it.
pub const CODE: u64 = 0x1000_0000;
/// Where the instruction is.
pub const ENTRY: u64 = CODE + 0x800;
/// The data pages.
pub const DATA: u64 = 0x1010_0000;
/// All data pages.
pub const DATA_BYTES: usize = 3 * PAGE;
/// Those that can be written.
pub const WRITABLE_BYTES: usize = 2 * PAGE;

/// Cases that one child runs.
pub(crate) const BATCH: usize = 4096;

/// What both sides share. The child writes it from its signal handler, while the parent waits for its exit.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) count: u64,
    pub(crate) finished: u64,
    pub(crate) cases: [Case; BATCH],
    pub(crate) outcomes: [Outcome; BATCH],
    /// What the data pages hold before each case.
    pub(crate) pristine: [u8; DATA_BYTES],
}

/// The mappings. One at a time, as the addresses are fixed: see [`Arena::new`].
#[derive(Debug)]
pub struct Arena {
    pub(crate) shared: *mut Shared,
    /// The code page, writable, at an address that cases do not know.
    pub(crate) code_alias: *mut u8,
}

impl Arena {
    /// Maps everything. `pristine` is what the data pages hold before each case.
    ///
    /// # Panics
    /// If another arena lives in this process.
    pub fn new(pristine: &[u8; DATA_BYTES]) -> io::Result<Arena> {
        let code = memfd(PAGE)?;
        let data = memfd(DATA_BYTES)?;
        let (rx, rw) = (
            libc::PROT_READ | libc::PROT_EXEC,
            libc::PROT_READ | libc::PROT_WRITE,
        );
        map(CODE, PAGE, rx, code, 0)?;
        map(DATA, WRITABLE_BYTES, rw, data, 0)?;
        map(
            DATA + WRITABLE_BYTES as u64,
            PAGE,
            libc::PROT_READ,
            data,
            WRITABLE_BYTES,
        )?;
        let code_alias = map(0, PAGE, rw, code, 0)?;
        let data_alias = map(0, DATA_BYTES, rw, data, 0)?;
        let shared = map(0, size_of::<Shared>(), rw, -1, 0)?.cast::<Shared>();
        // SAFETY: all three mappings were just made with these lengths, are writable, and nobody refers to them yet. The
        // descriptors are ours and no longer needed; an alias that has served is unmapped once.
        unsafe {
            code_alias.write_bytes(0xcc, PAGE);
            data_alias.copy_from_nonoverlapping(pristine.as_ptr(), DATA_BYTES);
            (&raw mut (*shared).pristine).write(*pristine);
            libc::munmap(data_alias.cast(), DATA_BYTES);
            libc::close(code);
            libc::close(data);
        }
        Ok(Arena { shared, code_alias })
    }

    pub(crate) fn put_cases(&mut self, cases: &[Case]) {
        assert!(cases.len() <= BATCH);
        // SAFETY: `shared` is our live mapping, no child runs now, and the count was checked.
        unsafe {
            (*self.shared).count = cases.len() as u64;
            (*self.shared).finished = 0;
            (&raw mut (*self.shared).cases)
                .cast::<Case>()
                .copy_from_nonoverlapping(cases.as_ptr(), cases.len());
        }
    }

    pub(crate) fn finished(&self) -> usize {
        // SAFETY: `shared` is our live mapping and the child is gone.
        unsafe { (*self.shared).finished as usize }
    }

    pub(crate) fn outcome(&self, i: usize) -> Outcome {
        assert!(i < self.finished());
        // SAFETY: as above; the child wrote this entry before it counted it.
        unsafe {
            (&raw const (*self.shared).outcomes)
                .cast::<Outcome>()
                .add(i)
                .read()
        }
    }

    /// The writable data pages as the last case that ran left them.
    pub fn data(&self) -> Vec<u8> {
        // SAFETY: mapped readable at this address for the arena's life; the child is gone.
        unsafe { std::slice::from_raw_parts(DATA as *const u8, WRITABLE_BYTES) }.to_vec()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: these are our mappings, with these lengths, and no child runs.
        unsafe {
            libc::munmap(CODE as *mut _, PAGE);
            libc::munmap(DATA as *mut _, DATA_BYTES);
            libc::munmap(self.code_alias.cast(), PAGE);
            libc::munmap(self.shared.cast(), size_of::<Shared>());
        }
    }
}

fn memfd(len: usize) -> io::Result<i32> {
    // SAFETY: plain system calls on a name that is a constant and a descriptor that is ours.
    unsafe {
        let fd = libc::memfd_create(c"isa-native".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 || libc::ftruncate(fd, len as libc::off_t) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(fd)
    }
}

/// A shared mapping, at `at` exactly if that is not zero; anonymous without a descriptor.
fn map(at: u64, len: usize, protection: i32, fd: i32, offset: usize) -> io::Result<*mut u8> {
    let mut flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    if fd < 0 {
        flags |= libc::MAP_ANONYMOUS;
    }
    if at != 0 {
        flags |= libc::MAP_FIXED_NOREPLACE;
    }
    // SAFETY: without a fixed address nothing existing is touched, and with one MAP_FIXED_NOREPLACE sees to it.
    let p = unsafe {
        libc::mmap(
            at as *mut _,
            len,
            protection,
            flags,
            fd,
            offset as libc::off_t,
        )
    };
    if p == libc::MAP_FAILED || p.is_null() {
        return Err(io::Error::last_os_error());
    }
    Ok(if at == 0 {
        p.cast()
    } else {
        null_mut::<u8>().wrapping_add(at as usize)
    })
}
