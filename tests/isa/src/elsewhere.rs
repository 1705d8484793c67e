//! System instructions: what they do for a kernel cannot be seen from user mode, where most of them are only refused. For each, where it
//! is tested instead; `tests/coverage.rs` looks whether that names it.

use iced_x86::Mnemonic;

/// A mnemonic, and the files whose text has it, as paths from the repository's root.
pub const TESTS: &[(Mnemonic, &str)] = {
    use Mnemonic::*;
    const GATES: &str = "tests/sim/hand/gates.asm";
    const TASKS: &str = "tests/sim/hand/tasks.asm";
    const SEGMENTS: &str = "tests/sim/hand/segments.asm";
    const PAGING: &str = "tests/sim/hand/paging.asm";
    const V86: &str = "tests/sim/hand/v86.asm";
    const INTERRUPTS: &str = "tests/sim/hand/interrupts.asm";
    const DEBUG: &str = "tests/sim/hand/debug.asm";
    const SYSTEM: &str = "tests/sim/hand/system.asm";
    const BASICS: &str = "cpu-worker/x86/tests/basics.rs";
    &[
        (Cli, V86),
        (Sti, INTERRUPTS),
        (Hlt, INTERRUPTS),
        (Lgdt, GATES),
        (Lidt, GATES),
        (Sgdt, GATES),
        (Sidt, SYSTEM),
        (Lldt, SEGMENTS),
        (Sldt, SYSTEM),
        (Ltr, TASKS),
        (Str, TASKS),
        (Smsw, GATES),
        (Lmsw, SYSTEM),
        (Clts, TASKS),
        (Invlpg, PAGING),
        (Invpcid, SYSTEM),
        (Wbinvd, SYSTEM),
        (Invd, SYSTEM),
        (Rdmsr, PAGING),
        (Wrmsr, PAGING),
        (Xsetbv, SYSTEM),
        (In, V86),
        (Out, PAGING),
        (Clac, PAGING),
        (Stac, PAGING),
        (Int, GATES),
        (Int1, GATES),
        (Iret, V86),
        (Iretd, GATES),
        (Iretq, BASICS),
        (Retf, GATES),
        (Call, GATES),
        (Jmp, GATES),
        (Syscall, BASICS),
        (Sysret, BASICS),
        (Sysenter, GATES),
        (Sysexit, GATES),
        (Monitor, BASICS),
        (Mwait, BASICS),
        (Cpuid, SYSTEM),
        (Rdtsc, SYSTEM),
        (Rdtscp, SYSTEM),
        (Rdpmc, SYSTEM),
        (Rdpid, SYSTEM),
        (Rdrand, SYSTEM),
        (Rdseed, SYSTEM),
        (Mov, DEBUG),
    ]
};

/// Where this instruction's work for a kernel is tested.
pub fn tested(mnemonic: Mnemonic) -> Option<&'static str> {
    TESTS
        .iter()
        .find(|(m, _)| *m == mnemonic)
        .map(|&(_, file)| file)
}
