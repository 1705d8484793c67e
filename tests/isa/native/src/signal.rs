//! The signal handler that is the trampoline: saves the case that ended, loads the next one.
//!
//! Invariants:
//! - The handler and everything it calls touch no thread-local storage, allocate nothing and never panic: FS is the
//!   case's until [`swap_bases`] has put the process's own back.
//! - The handler runs on the alternate stack, which no case's memory overlaps.
//! - The kernel's frame holds XSAVE's standard format (its first 512 bytes are the FXSAVE image, then the header, then
//!   from byte 576 on the upper YMM halves: SDM vol. 1, 13.4). Bytes 464 to 511 are the kernel's own and stay.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::io;
use std::ptr::{addr_of, addr_of_mut, copy_nonoverlapping, write_bytes};

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use crate::layout::{CODE_LEN, DATA, DATA_LEN, FILL};
use crate::machine::{Event, Fx, Machine, Slot};
use crate::segments::{CS, DS, ES, FS, GS, SS, USER_DATA};

/// The signals that an instruction can raise.
const SIGNALS: [c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
];
const STACK: usize = 64 << 10;

/// The single-step trap.
const DEBUG: u32 = 1;
const TF: u64 = 1 << 8;
/// The flags that `rt_sigreturn` loads (FIX_EFLAGS in the kernel's arch/x86/kernel/signal_64.c).
const LOADED_FLAGS: u64 = 0x5_0dd5;
/// NT and ID, which stay as the handler leaves them.
const OWN_FLAGS: u64 = 0x20_4000;
/// The frame's SS is to be loaded, whatever CS is (the kernel's arch/x86/include/uapi/asm/ucontext.h: UC_SIGCONTEXT_SS and
/// UC_STRICT_RESTORE_SS).
const RESTORE_SS: u64 = 2 | 4;

/// Where the frame keeps RAX to R15 in the encoding's order.
const GREGS: [c_int; 16] = [
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

/// The header of the XSAVE area, and the upper YMM halves behind it, as offsets from the FXSAVE image.
const XSTATE_BV: usize = 512;
const YMM_HIGH: usize = 576;
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;

/// What the process was doing when it started a turn.
struct Home {
    gregs: [i64; 23],
    fx: Fx,
    bases: [u64; 2],
}

struct Server {
    slots: *mut Slot,
    /// Where the code pages can be written.
    code: *mut u8,
    at: usize,
    to: usize,
    /// A turn is going on.
    running: bool,
    home: Home,
}

struct Global(UnsafeCell<Server>);
// SAFETY: the child has one thread; it touches the server in `install` and `run` only while no turn is going on, and in
// the handler only while one is.
unsafe impl Sync for Global {}

static SERVER: Global = Global(UnsafeCell::new(Server {
    slots: std::ptr::null_mut(),
    code: std::ptr::null_mut(),
    at: 0,
    to: 0,
    running: false,
    home: Home {
        gregs: [0; 23],
        fx: Fx {
            fcw: 0x37f,
            fsw: 0,
            ftw: 0,
            reserved: 0,
            fop: 0,
            fip: 0,
            fdp: 0,
            mxcsr: 0x1f80,
            mxcsr_mask: 0,
            st: [[0; 2]; 8],
            xmm: [[0; 2]; 16],
        },
        bases: [0; 2],
    },
}));

/// Installs the handler.
pub(crate) fn install(slots: *mut Slot, code: *mut u8) -> io::Result<()> {
    // SAFETY: reading the auxiliary vector touches nothing of ours.
    let fsgsbase = unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 != 0;
    if !fsgsbase {
        return Err(io::Error::other("the host lacks FSGSBASE for user mode"));
    }
    let stack = vec![0u8; STACK].leak();
    // SAFETY: no turn is going on; the stack is leaked, so it stays; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let server = SERVER.0.get();
        (*server).slots = slots;
        (*server).code = code;
        let stack = libc::stack_t {
            ss_sp: stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: STACK,
        };
        if libc::sigaltstack(&stack, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for signal in SIGNALS {
            if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Runs the cases in the slots from `from` to below `to`. The slots are those that [`install`] was told.
pub(crate) fn run(slots: &mut [Slot], from: usize, to: usize) {
    if from == to {
        return;
    }
    // SAFETY: no turn is going on yet, and the range lies in the slots. The breakpoint enters the handler, which comes back here
    // with every register as it was, once the last case has ended; memory has changed, which `asm!` assumes by default.
    unsafe {
        let server = SERVER.0.get();
        (*server).slots = slots.as_mut_ptr();
        (*server).at = from;
        (*server).to = to;
        asm!("int3", clobber_abi("C"));
    }
}

extern "C" fn handler(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel calls this with its frame in `context`; see the invariants above for the rest.
    unsafe {
        // The kernel leaves AC as the case had it.
        asm!("push 2", "popfq");
        let mut bases = read_bases();
        let selectors = read_selectors();
        let server = &mut *SERVER.0.get();
        let context = &mut *context.cast::<ucontext_t>();
        if server.running {
            load_selectors([USER_DATA, USER_DATA, 0, 0]);
            write_bases(server.home.bases);
            if !end(server, context, bases, selectors) {
                load_selectors(selectors);
                write_bases(bases);
                return;
            }
        } else {
            server.home.bases = bases;
            save_home(server, context);
        }
        server.running = server.at < server.to;
        if server.running {
            bases = begin(server, context);
            let before = &(*server.slots.add(server.at)).before;
            load_selectors(others(&before.selectors));
            // NT, AC and ID are not the frame's to load.
            let flags = before.rflags & OWN_FLAGS | 0x202;
            asm!("push {}", "popfq", in(reg) flags);
            write_bases(bases);
        } else {
            restore_home(server, context);
        }
    }
}

/// Saves the outcome. False if the instruction is not done: it repeats.
unsafe fn end(
    server: &mut Server,
    context: &mut ucontext_t,
    bases: [u64; 2],
    [es, ds, fs, gs]: [u16; 4],
) -> bool {
    // SAFETY: `at` is below `to`, and so a slot.
    let slot = unsafe { &mut *server.slots.add(server.at) };
    let gregs = &context.uc_mcontext.gregs;
    let greg = |r: c_int| gregs[r as usize] as u64;
    let vector = greg(libc::REG_TRAPNO) as u32;
    if vector == DEBUG && slot.repeats != 0 && greg(libc::REG_RIP) == slot.before.rip {
        return false;
    }
    let after = &mut slot.after;
    for (value, &r) in after.gpr.iter_mut().zip(&GREGS) {
        *value = gregs[r as usize] as u64;
    }
    after.rip = greg(libc::REG_RIP);
    after.rflags = greg(libc::REG_EFL);
    [after.fs_base, after.gs_base] = bases;
    let packed = greg(libc::REG_CSGSFS);
    (after.selectors[CS], after.selectors[SS]) = (packed as u16, (packed >> 48) as u16);
    for (place, selector) in [(ES, es), (DS, ds), (FS, fs), (GS, gs)] {
        after.selectors[place] = selector;
    }
    // SAFETY: the frame holds an XSAVE area, the data pages are mapped, and the code pages' alias is writable.
    unsafe {
        save_vectors(after, context);
        copy_nonoverlapping(DATA as *const u8, after.memory.as_mut_ptr(), DATA_LEN);
        let (at, len) = code_place(slot);
        write_bytes(server.code.add(at), FILL, len);
    }
    slot.event = Event {
        state: Event::DONE,
        vector,
        error: greg(libc::REG_ERR),
        cr2: greg(libc::REG_CR2),
    };
    server.at += 1;
    true
}

/// Loads the case at `at` into the frame and gives its FS and GS bases.
unsafe fn begin(server: &mut Server, context: &mut ucontext_t) -> [u64; 2] {
    // SAFETY: `at` is below `to`, and so a slot.
    let slot = unsafe { &mut *server.slots.add(server.at) };
    slot.event.state = Event::RUNNING;
    let before = &slot.before;
    let gregs = &mut context.uc_mcontext.gregs;
    for (&value, &r) in before.gpr.iter().zip(&GREGS) {
        gregs[r as usize] = value as i64;
    }
    gregs[libc::REG_RIP as usize] = before.rip as i64;
    // Of the four selectors that share this place the kernel loads CS, the lowest, and SS, the highest.
    let [cs, ss] = [CS, SS].map(|place| before.selectors[place] as u64);
    gregs[libc::REG_CSGSFS as usize] = (cs | ss << 48) as i64;
    context.uc_flags |= RESTORE_SS;
    gregs[libc::REG_EFL as usize] = ((before.rflags & LOADED_FLAGS) | TF | 0x202) as i64;
    // SAFETY: as in `end`.
    unsafe {
        load_vectors(before, context);
        copy_nonoverlapping(before.memory.as_ptr(), DATA as *mut u8, DATA_LEN);
        let (at, len) = code_place(slot);
        copy_nonoverlapping(slot.code.as_ptr(), server.code.add(at), len);
    }
    [before.fs_base, before.gs_base]
}

/// Where the case's code goes, as offset and length that lie in the code pages.
fn code_place(slot: &Slot) -> (usize, usize) {
    let at = (slot.code_offset() as usize).min(CODE_LEN);
    let len = (slot.code_len as usize).min(slot.code.len());
    (at, len.min(CODE_LEN - at))
}

unsafe fn save_vectors(machine: &mut Machine, context: &ucontext_t) {
    // SAFETY: `fpregs` leads to the frame's XSAVE area.
    unsafe {
        let area = context.uc_mcontext.fpregs.cast::<u8>();
        machine.fx = area.cast::<Fx>().read_unaligned();
        let present = area.add(XSTATE_BV).cast::<u64>().read_unaligned();
        if present & X87 == 0 {
            let (mxcsr, xmm) = (machine.fx.mxcsr, machine.fx.xmm);
            machine.fx = Fx {
                mxcsr,
                xmm,
                ..Fx::default()
            };
        }
        if present & SSE == 0 {
            machine.fx.xmm = [[0; 2]; 16];
        }
        machine.ymm_high = match present & AVX {
            0 => [[0; 2]; 16],
            _ => area.add(YMM_HIGH).cast::<[[u64; 2]; 16]>().read_unaligned(),
        };
    }
}

unsafe fn load_vectors(machine: &Machine, context: &mut ucontext_t) {
    // SAFETY: `fpregs` leads to the frame's XSAVE area; `Fx` ends before the bytes that the kernel keeps for itself. A frame
    // whose XSAVE area has no room for AVX is one of a CPU without it, whose `ymm_high` is never set.
    unsafe {
        let area = context.uc_mcontext.fpregs.cast::<u8>();
        area.cast::<Fx>().write_unaligned(machine.fx);
        let header = area.add(XSTATE_BV).cast::<u64>();
        let mut present = header.read_unaligned() | X87 | SSE;
        if machine.ymm_high == [[0; 2]; 16] {
            present &= !AVX;
        } else {
            present |= AVX;
            let high = area.add(YMM_HIGH).cast::<[[u64; 2]; 16]>();
            high.write_unaligned(machine.ymm_high);
        }
        header.write_unaligned(present);
    }
}

unsafe fn save_home(server: &mut Server, context: &ucontext_t) {
    server.home.gregs = context.uc_mcontext.gregs;
    // SAFETY: `fpregs` leads to the frame's XSAVE area.
    server.home.fx = unsafe { context.uc_mcontext.fpregs.cast::<Fx>().read_unaligned() };
}

unsafe fn restore_home(server: &mut Server, context: &mut ucontext_t) {
    context.uc_mcontext.gregs = server.home.gregs;
    // SAFETY: `fpregs` leads to the frame's XSAVE area.
    unsafe {
        let area = context.uc_mcontext.fpregs.cast::<u8>();
        area.cast::<Fx>()
            .write_unaligned(addr_of!(server.home.fx).read());
        let header = area.add(XSTATE_BV).cast::<u64>();
        *addr_of_mut!(*header) |= X87 | SSE;
    }
}

/// ES, DS, FS and GS of a case's six.
fn others(selectors: &[u16; 6]) -> [u16; 4] {
    [ES, DS, FS, GS].map(|place| selectors[place])
}

/// ES, DS, FS and GS.
#[inline(always)]
fn read_selectors() -> [u16; 4] {
    let (es, ds, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reading selectors changes nothing.
    unsafe {
        asm!("mov {:x}, es", "mov {:x}, ds", "mov {:x}, fs", "mov {:x}, gs", out(reg) es, out(reg) ds, out(reg) fs, out(reg) gs,
             options(nomem, nostack, preserves_flags));
    }
    [es, ds, fs, gs]
}

/// Loads ES, DS, FS and GS; with the last two their bases change.
#[inline(always)]
unsafe fn load_selectors([es, ds, fs, gs]: [u16; 4]) {
    // SAFETY: the selectors are null, or of segments that there are ([`crate::segments`]); 64-bit code does not look at ES and
    // DS, and the caller uses no thread-local storage until it has set the bases.
    unsafe {
        asm!("mov es, {:x}", "mov ds, {:x}", "mov fs, {:x}", "mov gs, {:x}", in(reg) es, in(reg) ds, in(reg) fs, in(reg) gs,
             options(nostack, preserves_flags));
    }
}

/// The FS and GS bases.
#[inline(always)]
fn read_bases() -> [u64; 2] {
    let (fs, gs);
    // SAFETY: `install` found that user mode has the instruction, and reading a base changes nothing.
    unsafe {
        asm!("rdfsbase {}", "rdgsbase {}", out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
    }
    [fs, gs]
}

/// Sets the FS and GS bases, which must be canonical.
#[inline(always)]
unsafe fn write_bases([fs, gs]: [u64; 2]) {
    // SAFETY: the caller uses no thread-local storage while FS is not the process's own.
    unsafe {
        asm!("wrfsbase {}", "wrgsbase {}", in(reg) fs, in(reg) gs, options(nostack, preserves_flags));
    }
}
