//! The child process: a signal handler that ends one case and begins the next.
//!
//! Invariant: between `fork` and `_exit` the child calls nothing but system calls, so it does not matter what other
//! threads of the parent held.

use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::memory::{DATA_BYTES, Shared};
use crate::{Arena, CODE, DATA, ENTRY, Fx, Lost, Outcome, Registers, WRITABLE_BYTES, digest};

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());
static CODE_ALIAS: AtomicPtr<u8> = AtomicPtr::new(null_mut());
/// Whether a case is running, and which.
static RUNNING: AtomicBool = AtomicBool::new(false);
static CURRENT: AtomicUsize = AtomicUsize::new(0);

/// A case that runs for so long is ended by SIGALRM.
const SECONDS: u32 = 20;

/// XSAVE's header begins after the legacy region; its first word says which components are present.
const XSTATE_BV: usize = 512;

/// The signals that an exception becomes.
const SIGNALS: [i32; 5] = [
    libc::SIGTRAP,
    libc::SIGSEGV,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGBUS,
];

/// Runs the arena's cases in a child until all are done or one kills it.
pub(crate) fn run_batch(arena: &mut Arena) -> io::Result<Lost> {
    SHARED.store(arena.shared, Relaxed);
    CODE_ALIAS.store(arena.code_alias, Relaxed);
    // SAFETY: the child only calls functions that are safe to call in a signal handler, and never returns.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => run_child(),
        p if p < 0 => return Err(io::Error::last_os_error()),
        _ => {}
    }
    let mut status = 0;
    // SAFETY: waits for our own child; the pointer is to a local.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(Lost::Killed(if libc::WIFSIGNALED(status) {
        libc::WTERMSIG(status)
    } else {
        0
    }))
}

fn run_child() -> ! {
    const STACK: usize = 64 * 1024;
    // SAFETY: plain system calls: a fresh mapping becomes the stack of the handler, which is installed for the signals
    // that exceptions become; the last one starts the first case and does not return.
    unsafe {
        let stack = libc::mmap(
            null_mut(),
            STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        let alternate = libc::stack_t {
            ss_sp: stack,
            ss_flags: 0,
            ss_size: STACK,
        };
        libc::sigaltstack(&raw const alternate, null_mut());
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigdelset(&raw mut action.sa_mask, libc::SIGALRM);
        for signal in SIGNALS {
            libc::sigaction(signal, &raw const action, null_mut());
        }
        let mut default: libc::sigaction = zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGALRM, &raw const default, null_mut());
        libc::alarm(SECONDS);
        touch_pages();
        libc::raise(libc::SIGTRAP);
        libc::_exit(2)
    }
}

/// Maps the pages that cases only read: a page table entry made late would show in the error codes of page faults.
fn touch_pages() {
    for address in [CODE, DATA, DATA + 4096, DATA + 8192] {
        // SAFETY: the arena has mapped these pages to be read.
        unsafe { (address as *const u8).read_volatile() };
    }
}

/// Clears EFLAGS.AC, which a case may have set and the kernel leaves set in a handler.
fn allow_misalignment() {
    // SAFETY: changes one flag that compiled code takes for granted to be clear; the stack is as before.
    unsafe {
        core::arch::asm!("pushfq", "and dword ptr [rsp], {ac}", "popfq", ac = const !(1i32 << 18));
    }
}

extern "C" fn on_signal(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    allow_misalignment();
    let shared = SHARED.load(Relaxed);
    // SAFETY: the kernel gives the context of the interrupted code, valid until the handler returns. `shared` is the
    // arena's mapping; the parent does not look before this process has ended.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let mut current = CURRENT.load(Relaxed);
        if RUNNING.swap(true, Relaxed) {
            (&raw mut (*shared).outcomes)
                .cast::<Outcome>()
                .add(current)
                .write(outcome(context));
            current += 1;
            CURRENT.store(current, Relaxed);
            (*shared).finished = current as u64;
        }
        if current as u64 >= (*shared).count {
            libc::_exit(0);
        }
        begin(context, shared, current);
    }
}

/// The state in the signal frame.
///
/// # Safety
/// The context is the one that the kernel gave the running handler.
unsafe fn outcome(context: &libc::ucontext_t) -> Outcome {
    let g = &context.uc_mcontext.gregs;
    let word = |r: i32| g[r as usize] as u64;
    let vector = word(libc::REG_TRAPNO) as u8;
    // SAFETY: the kernel saved the x87 and SSE state there in FXSAVE's layout; the data pages are mapped.
    let (fx, data) = unsafe {
        (
            context.uc_mcontext.fpregs.cast::<Fx>().read_unaligned(),
            std::slice::from_raw_parts(DATA as *const u8, WRITABLE_BYTES),
        )
    };
    Outcome {
        vector,
        error: word(libc::REG_ERR) as u32,
        cr2: if vector == 14 { word(libc::REG_CR2) } else { 0 },
        after: Registers {
            gpr: GPRS.map(word),
            // INT3 is a trap: it reports the address after itself.
            rip: word(libc::REG_RIP) - u64::from(vector == crate::COMPLETED),
            rflags: word(libc::REG_EFL),
            fx,
        },
        memory: digest(data),
    }
}

/// The general registers of a signal frame in the encoding's order.
const GPRS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Prepares memory and the signal frame for a case.
///
/// # Safety
/// As for [`outcome`]; `shared` is the arena and `i` one of its cases.
unsafe fn begin(context: &mut libc::ucontext_t, shared: *mut Shared, i: usize) {
    // SAFETY: the case is in the arena; the code page's alias and the first data pages are writable mappings of the
    // lengths used here; patches are within them by the parent's word, checked again.
    unsafe {
        let case = &*(&raw const (*shared).cases).cast::<crate::Case>().add(i);
        let pristine = (&raw const (*shared).pristine).cast::<u8>();
        (DATA as *mut u8).copy_from_nonoverlapping(pristine, WRITABLE_BYTES);
        for &(address, value) in &case.patches[..case.patch_count as usize] {
            if address >= DATA && address + 8 <= DATA + WRITABLE_BYTES as u64 {
                (address as *mut u64).write_unaligned(value);
            }
        }
        let code = CODE_ALIAS.load(Relaxed).add((ENTRY & 0xfff) as usize);
        code.write_bytes(0xcc, 16);
        code.copy_from_nonoverlapping(case.code.as_ptr(), case.len as usize);
        let g = &mut context.uc_mcontext.gregs;
        for (r, v) in GPRS.into_iter().zip(case.before.gpr) {
            g[r as usize] = v as i64;
        }
        g[libc::REG_RIP as usize] = case.before.rip as i64;
        g[libc::REG_EFL as usize] = case.before.rflags as i64;
        let frame = context.uc_mcontext.fpregs.cast::<u8>();
        let old = frame.cast::<Fx>().read_unaligned();
        let fx = Fx {
            mxcsr_mask: old.mxcsr_mask,
            ..case.before.fx
        };
        frame.cast::<Fx>().write_unaligned(fx);
        // x87 and SSE are to be loaded from the frame, even if they were in their initial state when it was made.
        let present = frame.add(XSTATE_BV).cast::<u64>();
        present.write_unaligned(present.read_unaligned() | 3);
    }
}

const _: () = assert!(size_of::<Fx>() == 416 && DATA_BYTES >= WRITABLE_BYTES);
