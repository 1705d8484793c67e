//! The child's main: maps the fixed pages, installs the handler, and takes turns until the parent is gone.

use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use crate::layout::{CODE, CODE_LEN, DATA, DATA_LEN, FILL, PAGE, READ_ONLY, read_only_page};
use crate::segments::{Descriptor, LDT};
use crate::shared::{SLOTS, Shared};
use crate::signal;

/// No turn takes more than this many seconds of the CPU; a case that hangs ends the child, and so becomes a lost case.
const TURN_SECONDS: libc::time_t = 20;

/// Serves cases from the slots behind descriptor `fd` until standard input ends.
///
/// # Errors
/// If the fixed addresses are not free, or a system call fails.
pub fn serve(fd: RawFd) -> io::Result<()> {
    let mut shared = Shared::map(fd)?;
    let code = map_fixed_pages()?;
    install_descriptors()?;
    signal::install(shared.as_ptr(), code)?;
    let (mut orders, mut answers) = (io::stdin(), io::stdout());
    let mut order = [0; 4];
    loop {
        match orders.read_exact(&mut order) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let [from, to] = [0, 2].map(|at| u16::from_le_bytes([order[at], order[at + 1]]) as usize);
        if from > to || to > SLOTS {
            return Err(io::Error::other("an order names slots that there are not"));
        }
        let limit = libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            },
            it_value: libc::timeval {
                tv_sec: TURN_SECONDS,
                tv_usec: 0,
            },
        };
        // SAFETY: the timer is read and nothing written; its signal ends the process.
        check(unsafe { libc::setitimer(libc::ITIMER_PROF, &limit, std::ptr::null_mut()) })?;
        signal::run(shared.slots(), from, to);
        answers.write_all(&[1])?;
        answers.flush()?;
    }
}

/// Maps the pages of [`crate::layout`] and gives the address at which the code pages can be written.
fn map_fixed_pages() -> io::Result<*mut u8> {
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    map(DATA, DATA_LEN, read_write, private, -1)?;
    let page = map(READ_ONLY, PAGE as usize, read_write, private, -1)?;
    let content = read_only_page();
    // SAFETY: the page is new, writable and as long as the content; making it read-only afterwards invalidates no reference.
    unsafe {
        std::ptr::copy_nonoverlapping(content.as_ptr(), page, content.len());
        check(libc::mprotect(page.cast(), content.len(), libc::PROT_READ))?;
    }
    // SAFETY: the name is a C string; the descriptor stays open until the process ends.
    let fd = unsafe { libc::memfd_create(c"isa-code".as_ptr(), libc::MFD_CLOEXEC) };
    check(fd)?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::ftruncate(fd, CODE_LEN as libc::off_t) })?;
    let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
    map(
        CODE,
        CODE_LEN,
        libc::PROT_READ | libc::PROT_EXEC,
        shared,
        fd,
    )?;
    let writable = map(0, CODE_LEN, read_write, shared, fd)?;
    // SAFETY: the mapping is new, writable and this long.
    unsafe { writable.write_bytes(FILL, CODE_LEN) };
    Ok(writable)
}

/// Makes [`LDT`] the process's local descriptor table.
fn install_descriptors() -> io::Result<()> {
    /// modify_ldt(2): write an entry of the present format.
    const WRITE: libc::c_long = 0x11;
    for (n, d) in LDT.iter().enumerate() {
        let Some(d) = d else { continue };
        let entry = user_desc(n as u32, d);
        // SAFETY: the kernel reads the 16 bytes of `entry`; new descriptors change no memory and no register.
        let result = unsafe {
            libc::syscall(
                libc::SYS_modify_ldt,
                WRITE,
                entry.as_ptr(),
                size_of_val(&entry),
            )
        };
        check(result as i32)?;
    }
    Ok(())
}

/// The kernel's `struct user_desc` (arch/x86/include/uapi/asm/ldt.h): number, base, limit, flags.
fn user_desc(number: u32, d: &Descriptor) -> [u32; 4] {
    let contents = u32::from(d.code) << 1 | u32::from(d.down);
    let flags = u32::from(d.big)
        | contents << 1
        | u32::from(!d.open) << 3
        | u32::from(d.pages) << 4
        | u32::from(!d.present) << 5
        | u32::from(d.available) << 6;
    [number, d.base, d.limit, flags]
}

/// Maps `len` bytes at `at`, or anywhere if that is 0.
fn map(at: u64, len: usize, prot: i32, flags: i32, fd: RawFd) -> io::Result<*mut u8> {
    let fixed = if at == 0 {
        0
    } else {
        libc::MAP_FIXED_NOREPLACE
    };
    // SAFETY: a mapping that replaces none cannot break a reference.
    let got = unsafe { libc::mmap(at as *mut _, len, prot, flags | fixed, fd, 0) };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if at != 0 && got as u64 != at {
        return Err(io::Error::other("a fixed address is not free"));
    }
    Ok(got.cast())
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
