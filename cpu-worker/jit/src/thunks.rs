//! The bridges between Rust and emitted code, in assembly, and the Rust functions behind them.
//!
//! MXCSR: while emitted code runs, it holds the default control (regions are made for that alone, see `mode::MXCSR`) and
//! gathers the guest's sticky flags. They are added to the state before Rust runs an instruction and at every exit; the host's control is
//! the same, and its sticky flags are nobody's.
//!
//! x87: emitted code loads the guest's unit into the host's when it first needs it. It is taken back into the state before Rust runs an
//! instruction and at every exit; behind a failed look-up Rust needs none of it, and finds it put aside.

use std::arch::naked_asm;

use atoll_hostfp::live::{IMAGE_BYTES, Image, Unit, stubs};
use atoll_mmu::Intent;
use atoll_x86::bus::{attention, rehearsal};
use atoll_x86::op::{Kind, OpFlags};
use atoll_x86::state::mode;
use atoll_x86::{Cpu, Op, Stop};

use crate::abi::{self, Helper, Leave, ran};

const DEFAULT_MXCSR: u32 = 0x1f80;
const X87_LOADED: i32 = abi::helper(Helper::X87Loaded);

/// Enters a region: `enter(cpu, code, entry) -> Leave`.
///
/// # Safety
/// `cpu` is valid and not referenced otherwise until the return; `code` is the start of an installed region that has the entry `entry`.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(cpu: *mut Cpu, code: usize, entry: u64) -> i32 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 24",
        // Most often nothing has left a sticky flag, and LDMXCSR is slow.
        "mov dword ptr [rsp], {mxcsr_default}",
        "stmxcsr [rsp + 4]",
        "cmp dword ptr [rsp + 4], {mxcsr_default}",
        "je 2f",
        "ldmxcsr [rsp]",
        "2:",
        "mov r15, rdi",
        "mov rax, rsi",
        "mov rdi, [r15 + {budget}]",
        "mov rsi, [r15 + {rip}]",
        "xor ecx, ecx",
        "call rax",
        "cmp qword ptr [r15 + {x87_loaded}], 0",
        "je 3f",
        "mov ebx, eax",
        "call {take_x87}",
        "mov eax, ebx",
        "3:",
        "stmxcsr [rsp + 4]",
        "mov ecx, [rsp + 4]",
        "and ecx, 0x3f",
        "je 4f",
        "or [r15 + {mxcsr}], ecx",
        "ldmxcsr [rsp]",
        "4:",
        "add rsp, 24",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        mxcsr_default = const DEFAULT_MXCSR,
        budget = const abi::BUDGET,
        rip = const abi::RIP_AT,
        mxcsr = const abi::MXCSR,
        x87_loaded = const X87_LOADED,
        take_x87 = sym take_x87_thunk,
    )
}

/// What an unlinked [`abi::Link`] leads to: a region's signature, leaves with [`Leave::Link`].
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn unlinked() {
    naked_asm!(
        "mov [r15 + {budget}], rdi",
        "mov [r15 + {rip}], rsi",
        "mov [r15 + {answer}], rcx",
        "mov eax, {leave}",
        "ret",
        budget = const abi::BUDGET,
        rip = const abi::RIP_AT,
        answer = const abi::ANSWER,
        leave = const Leave::Link as i32,
    )
}

/// Saves all registers that Rust may change around a call of `$function(cpu, image)`; the result goes to `Mmu::answer`.
/// `$before` and `$after` are instructions on the x87 unit and the image at RSP + 256.
macro_rules! preserving {
    ($name:ident, $function:ident, [$($before:literal),*], [$($after:literal),*]) => {
        #[unsafe(naked)]
        pub(crate) unsafe extern "sysv64" fn $name() {
            naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "push rax",
                "push rcx",
                "push rdx",
                "push rsi",
                "push rdi",
                "push r8",
                "push r9",
                "push r10",
                "push r11",
                "sub rsp, {frame}",
                "movups [rsp], xmm0",
                "movups [rsp + 16], xmm1",
                "movups [rsp + 32], xmm2",
                "movups [rsp + 48], xmm3",
                "movups [rsp + 64], xmm4",
                "movups [rsp + 80], xmm5",
                "movups [rsp + 96], xmm6",
                "movups [rsp + 112], xmm7",
                "movups [rsp + 128], xmm8",
                "movups [rsp + 144], xmm9",
                "movups [rsp + 160], xmm10",
                "movups [rsp + 176], xmm11",
                "movups [rsp + 192], xmm12",
                "movups [rsp + 208], xmm13",
                "movups [rsp + 224], xmm14",
                "movups [rsp + 240], xmm15",
                $($before,)*
                "mov rdi, r15",
                "lea rsi, [rsp + 256]",
                "call {function}",
                $($after,)*
                "mov [r15 + {answer}], rax",
                "movups xmm0, [rsp]",
                "movups xmm1, [rsp + 16]",
                "movups xmm2, [rsp + 32]",
                "movups xmm3, [rsp + 48]",
                "movups xmm4, [rsp + 64]",
                "movups xmm5, [rsp + 80]",
                "movups xmm6, [rsp + 96]",
                "movups xmm7, [rsp + 112]",
                "movups xmm8, [rsp + 128]",
                "movups xmm9, [rsp + 144]",
                "movups xmm10, [rsp + 160]",
                "movups xmm11, [rsp + 176]",
                "movups xmm12, [rsp + 192]",
                "movups xmm13, [rsp + 208]",
                "movups xmm14, [rsp + 224]",
                "movups xmm15, [rsp + 240]",
                "add rsp, {frame}",
                "pop r11",
                "pop r10",
                "pop r9",
                "pop r8",
                "pop rdi",
                "pop rsi",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "pop rbp",
                "ret",
                function = sym $function,
                answer = const abi::ANSWER,
                x87_loaded = const X87_LOADED,
                frame = const FRAME,
            )
        }
    };
}

/// The vector registers and an [`Image`]; what makes the stack a multiple of 16 with the eleven words before it.
const FRAME: usize = 256 + IMAGE_BYTES.next_multiple_of(16) + 8;

/// Puts the guest's x87 unit aside if it is loaded, and loads it again.
macro_rules! preserving_x87 {
    ($name:ident, $function:ident) => {
        preserving!(
            $name,
            $function,
            [
                "cmp qword ptr [r15 + {x87_loaded}], 0",
                "je 2f",
                "fnsave [rsp + 256]",
                "2:"
            ],
            [
                "cmp qword ptr [r15 + {x87_loaded}], 0",
                "je 3f",
                "frstor [rsp + 256]",
                "3:"
            ]
        );
    };
}

preserving_x87!(memory_thunk, memory);
preserving_x87!(flag_bits_thunk, flag_bits);
preserving!(
    load_x87_thunk,
    load_x87,
    [],
    [
        "frstor [rsp + 256]",
        "mov qword ptr [r15 + {x87_loaded}], 1"
    ]
);

/// Takes the guest's x87 unit, which is loaded, back into the state. The host's is left as the ABI wants it. As a function of the
/// System V ABI, but for the pinned register.
#[unsafe(naked)]
unsafe extern "sysv64" fn take_x87_thunk() {
    naked_asm!(
        "sub rsp, {frame}",
        "fnsave [rsp]",
        "mov qword ptr [r15 + {x87_loaded}], 0",
        "mov rdi, r15",
        "mov rsi, rsp",
        "call {function}",
        "add rsp, {frame}",
        "ret",
        frame = const IMAGE_BYTES.next_multiple_of(16) + 8,
        x87_loaded = const X87_LOADED,
        function = sym take_x87,
    )
}

/// Adds the sticky flags so far to the state, runs the instruction, and starts with clean flags again.
#[unsafe(naked)]
unsafe extern "sysv64" fn run_op_thunk() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "sub rsp, 16",
        "stmxcsr [rsp]",
        "mov eax, [rsp]",
        "and eax, 0x3f",
        "je 2f",
        "or [r15 + {mxcsr}], eax",
        "2:",
        "cmp qword ptr [r15 + {x87_loaded}], 0",
        "je 3f",
        "mov [rsp + 8], rdi",
        "call {take_x87}",
        "mov rdi, [rsp + 8]",
        "3:",
        "mov rsi, rdi",
        "mov rdi, r15",
        "call {function}",
        "stmxcsr [rsp]",
        "cmp dword ptr [rsp], {mxcsr_default}",
        "je 4f",
        "mov dword ptr [rsp], {mxcsr_default}",
        "ldmxcsr [rsp]",
        "4:",
        "leave",
        "ret",
        mxcsr = const abi::MXCSR,
        mxcsr_default = const DEFAULT_MXCSR,
        x87_loaded = const X87_LOADED,
        take_x87 = sym take_x87_thunk,
        function = sym run_op,
    )
}

/// Behind a failed inline lookup.
extern "sysv64" fn memory(cpu: *mut Cpu, _: *mut Image) -> u64 {
    // SAFETY: the pinned register is the `&mut Cpu` that `enter` got; emitted code holds no reference.
    let cpu = unsafe { &mut *cpu };
    let [va, what] = cpu.mmu.asked;
    let intent = if what & 0x100 == 0 {
        Intent::Read
    } else {
        Intent::Write
    };
    let host = cpu.mmu.host_for(va, (what & 0xff) as u32, intent) as u64;
    if cpu.mmu.ram().code_written() {
        // An accessed bit changed code: the interpreter does the instruction, and what was dropped is seen to after it.
        cpu.state.clock.attention |= attention::CODE;
        return 0;
    }
    host
}

extern "sysv64" fn flag_bits(cpu: *mut Cpu, _: *mut Image) -> u64 {
    // SAFETY: as in `memory`.
    unsafe { &*cpu }.state.flags.bits()
}

/// The guest's x87 unit, for FRSTOR.
extern "sysv64" fn load_x87(cpu: *mut Cpu, image: *mut Image) {
    // SAFETY: as in `memory`; the thunk has room for the image, and nobody else knows it.
    let (s, image) = unsafe { (&(*cpu).state.x87, &mut *image) };
    *image = Image::of(&Unit {
        regs: s.regs,
        control: s.control,
        status: s.status,
        tags: s.tags,
    });
}

/// What FNSAVE saved, into the state. Emitted code has kept the control word there, and the pointers.
extern "sysv64" fn take_x87(cpu: *mut Cpu, image: *const Image) {
    // SAFETY: as in `load_x87`.
    let (s, image) = unsafe { (&mut (*cpu).state.x87, &*image) };
    let unit = image.unit();
    (s.regs, s.status, s.tags) = (unit.regs, unit.status, unit.tags);
}

/// Runs an instruction that is a function of `Cpu`. Everything it may read is in the state, RIP already past it.
extern "sysv64" fn run_op(cpu: *mut Cpu, op: *const Op) -> i64 {
    // SAFETY: as in `memory`; the region that the call comes from keeps its `Op`s.
    let (cpu, op) = unsafe { (&mut *cpu, &*op) };
    if cpu.state.clock.rehearsal == rehearsal::NONE {
        perform(cpu, op)
    } else {
        rehearse(cpu, op)
    }
}

/// [`perform`] where the outcome will be taken back: what reaches for what cannot be is left to the interpreter.
#[cold]
fn rehearse(cpu: &mut Cpu, op: &Op) -> i64 {
    if op.has(OpFlags::TRANSFERS) {
        // The TLB's present sets follow the privilege.
        return ran::AGAIN;
    }
    let (before, mark) = (cpu.state.clone(), cpu.mmu.mark());
    let ran = perform(cpu, op);
    if cpu.state.clock.rehearsal != rehearsal::REFUSED {
        return ran;
    }
    cpu.state = before;
    cpu.mmu.roll_back_to(mark);
    ran::AGAIN
}

fn perform(cpu: &mut Cpu, op: &Op) -> i64 {
    match (op.run)(cpu, op) {
        // The function may have flushed the translation that the region was entered by: the next fetch is the interpreter's.
        Ok(()) if op.kind == Kind::Helper && !fetched(cpu) => ran::LEAVE,
        Ok(()) if cpu.state.clock.attention == 0 && !cpu.mmu.ram().code_written() => ran::ON,
        Ok(()) => ran::LEAVE,
        Err(Stop::Again) => {
            // The boundary is between two iterations: RIP stays at the instruction.
            let rip = cpu.state.rip().wrapping_sub(u64::from(op.len));
            let long = cpu.state.mode & mode::LONG != 0;
            cpu.state
                .set_rip(if long { rip } else { rip & 0xffff_ffff });
            ran::LEAVE
        }
        Err(_) => ran::AGAIN,
    }
}

/// Whether the code TLB holds the page of the next instruction.
fn fetched(cpu: &mut Cpu) -> bool {
    let va = cpu.linear_rip();
    cpu.mmu.peek_fetch(va).is_some()
}

/// Tells emitted code where its helpers are.
pub(crate) fn install(cpu: &mut Cpu, table: usize) {
    let h = &mut cpu.mmu.helpers;
    h[Helper::Memory as usize] = memory_thunk as *const () as usize;
    h[Helper::FlagBits as usize] = flag_bits_thunk as *const () as usize;
    h[Helper::RunOp as usize] = run_op_thunk as *const () as usize;
    h[Helper::Table as usize] = table;
    h[Helper::X87Loaded as usize] = 0;
    h[Helper::LoadX87 as usize] = load_x87_thunk as *const () as usize;
    h[Helper::X87Stubs as usize] = stubs();
}
