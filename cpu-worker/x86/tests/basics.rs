//! Integer programs, faults, interrupts and self-modifying code in 64-bit mode.

mod common;

use atoll_x86::interp::Exit;
use atoll_x86::op::{RAX, RBX, RCX, RDI, RDX, RSI, RSP};
use common::{CODE, STACK};

/// An IDT at 0x8000 whose 64 vectors lead to 16-byte stubs at 0x9000, and a GDT at 0x7000; loaded by the assembly `setup`.
const SETUP: &str = "
    jmp start
    align 16
gdt: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
     dq 0x00cff3000000ffff, 0x00affb000000ffff, 0x0000890000007fff | ((0x5000 & 0xffffff) << 16), 0
gdtr: dw 63
     dq gdt
idtr: dw 0x3ff
     dq 0x8000
setup:
    lgdt [gdtr]
    lidt [idtr]
    mov rdi, 0x8000
    lea rax, [stubs]
    mov ecx, 64
.next:
    mov [rdi], ax
    mov word [rdi+2], 8
    mov word [rdi+4], 0x8e00
    mov rbx, rax
    shr rbx, 16
    mov [rdi+6], bx
    mov dword [rdi+8], 0
    mov dword [rdi+12], 0
    add rax, 16
    add rdi, 16
    dec ecx
    jnz .next
    ret
    align 16
stubs:
%assign i 0
%rep 64
    align 16
    mov r15d, i
    mov r14, [rsp]
    mov r13, [rsp+8]
    hlt
%assign i i+1
%endrep
start:
    call setup
";

fn with_idt(body: &str) -> String {
    format!("{SETUP}\n{body}\n")
}

#[test]
fn arithmetic_loop() {
    let mut m = long!("xor eax, eax\n mov ecx, 1000\n.l: add rax, rcx\n dec ecx\n jnz .l\n hlt");
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(RAX), 500_500);
}

#[test]
fn the_budget_is_exact() {
    let mut m = long!("xor eax, eax\n.l: inc rax\n jmp .l");
    for n in [1u64, 2, 3, 5, 1000, 7] {
        let before = m.cpu.state.clock.now_ns();
        assert_eq!(m.run_for(n), Exit::Budget);
        assert_eq!(m.cpu.state.clock.now_ns() - before, n);
        assert_eq!(m.cpu.state.clock.budget, 0);
    }
    // 1018 instructions: one XOR, then INC and JMP in turn.
    assert_eq!(m.gpr(RAX), 509);
}

#[test]
fn partial_registers_and_flags() {
    let mut m = long!(
        "mov rax, 0x1122334455667788
         mov ah, 0x99
         mov bl, ah
         mov cx, ax
         mov edx, eax
         stc
         mov esi, 0xffffffff
         adc esi, 0
         setc dil
         sbb r8, r8
         mov r9d, 0x80000000
         add r9d, r9d
         seto r10b
         hlt"
    );
    m.run();
    assert_eq!(m.gpr(RAX), 0x1122_3344_5566_9988);
    assert_eq!(m.gpr(RBX) & 0xff, 0x99);
    assert_eq!(m.gpr(RCX) & 0xffff, 0x9988);
    assert_eq!(m.gpr(RDX), 0x5566_9988);
    assert_eq!(m.gpr(RSI), 0);
    assert_eq!(m.gpr(RDI) & 0xff, 1);
    assert_eq!(m.gpr(8), u64::MAX);
    assert_eq!(m.gpr(10) & 0xff, 1);
}

#[test]
fn multiplication_and_division() {
    let mut m = long!(
        "mov rax, 0xfffffffffffffffe
         mov rbx, 3
         mul rbx
         mov r8, rax
         mov r9, rdx
         mov rax, -7
         cqo
         mov rcx, 2
         idiv rcx
         mov r10, rax
         mov r11, rdx
         mov ax, 1000
         mov bl, 7
         div bl
         movzx r12d, ax
         imul r13, r10, -100
         hlt"
    );
    m.run();
    assert_eq!((m.gpr(8), m.gpr(9)), (0xffff_ffff_ffff_fffa, 2));
    assert_eq!((m.gpr(10) as i64, m.gpr(11) as i64), (-3, -1));
    assert_eq!(m.gpr(12), 142 | (1000 % 7) << 8);
    assert_eq!(m.gpr(13) as i64, 300);
}

#[test]
fn divide_error_leaves_the_state_before_it() {
    let mut m = long!(&with_idt(
        "mov eax, 5\n xor edx, edx\n xor ebx, ebx\nfault: div ebx\n hlt\n dq fault"
    ));
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(15), 0);
    assert_eq!(m.gpr(RAX), 5);
    let at = m.gpr(14);
    assert_eq!(m.cpu.mmu.ram().read_uint(at, 2), Some(0xf3f7));
}

#[test]
fn page_fault_with_code_and_cr2() {
    let mut m = long!(&with_idt(
        "mov qword [0x3000 + 8*2], 0\n mov rax, cr3\n mov cr3, rax\n mov byte [0x412345], 1\n hlt"
    ));
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(15), 14);
    // The error code is on top of the stack: not present, write.
    assert_eq!(m.gpr(14), 2);
    assert_eq!(m.cpu.state.cr2, 0x41_2345);
}

#[test]
fn non_canonical_addresses() {
    let mut m = long!(&with_idt("mov rax, 0x800000000000\n mov rbx, [rax]\n hlt"));
    m.run();
    assert_eq!((m.gpr(15), m.gpr(14)), (13, 0));
    let mut m = long!(&with_idt("mov rbp, 0x800000000000\n mov rbx, [rbp]\n hlt"));
    m.run();
    assert_eq!((m.gpr(15), m.gpr(14)), (12, 0));
}

#[test]
fn undefined_opcodes_and_lock() {
    for bytes in [
        "0x0f, 0x0b",
        "0xf0, 0x90",
        "0xf0, 0x01, 0xc0",
        "0xc5, 0xf8, 0x77",
    ] {
        let mut m = long!(&with_idt(&format!("db {bytes}\n hlt")));
        m.run();
        assert_eq!(m.gpr(15), 6, "{bytes}");
    }
}

#[test]
fn interrupts_wait_for_if_and_the_shadow() {
    // OUT to port 0x70 makes the vector in AL pending.
    let mut m = long!(&with_idt(
        "cli\n mov al, 0x31\n out 0x70, al\n mov ebx, 1\n sti\n mov ebx, 2\n mov ebx, 3\n hlt"
    ));
    m.run();
    assert_eq!(m.gpr(15), 0x31);
    assert_eq!(m.gpr(RBX), 2);
}

#[test]
fn halt_wakes_with_an_interrupt() {
    let mut m = long!(&with_idt("sti\n hlt\n mov ebx, 7\n hlt"));
    assert_eq!(m.run(), Exit::Halt);
    assert!(m.cpu.is_idle());
    m.bus().pending = Some(0x20);
    assert!(!m.cpu.is_idle());
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(15), 0x20);
}

#[test]
fn software_interrupt_and_iret() {
    let mut m = long!(&with_idt(
        "lea rax, [handler]
         mov [0x8000 + 16*0x30], ax
         shr rax, 16
         mov [0x8000 + 16*0x30 + 6], ax
         stc
         int 0x30
         setc cl
         hlt
         handler:
         clc
         mov ebx, 42
         iretq"
    ));
    m.run();
    assert_eq!(m.gpr(RBX), 42);
    assert_eq!(m.gpr(RCX) & 0xff, 1);
    assert_eq!(m.gpr(RSP), STACK);
}

#[test]
fn user_mode_and_back_by_syscall() {
    let mut m = long!(&with_idt(
        "mov ecx, 0xc0000081
         mov edx, (0x18 << 16) | 8
         xor eax, eax
         wrmsr
         mov ecx, 0xc0000082
         lea rax, [entry]
         mov rdx, rax
         shr rdx, 32
         wrmsr
         mov ecx, 0xc0000084
         mov eax, 0x200
         xor edx, edx
         wrmsr
         mov ax, 0x30
         ltr ax
         mov qword [0x5004], 0x1f0000
         lea rcx, [user]
         mov r11, 0x202
         mov rsp, 0x180000
         o64 sysret
         user:
         mov ebx, 1
         mov ax, cs
         movzx r8d, ax
         syscall
         mov ebx, 3
         cli
         hlt
         entry:
         inc ebx
         mov ax, cs
         movzx r9d, ax
         mov r10, rsp
         o64 sysret"
    ));
    m.run();
    assert_eq!(m.gpr(8), 0x2b);
    assert_eq!(m.gpr(9), 8);
    assert_eq!(m.gpr(10), 0x18_0000);
    // CLI at CPL 3 is #GP(0), on the stack of the TSS.
    assert_eq!((m.gpr(15), m.gpr(14)), (13, 0));
    assert_eq!(m.gpr(RBX), 3);
    assert_eq!(m.gpr(RSP), 0x1f_0000 - 48);
}

#[test]
fn code_that_changes_itself() {
    // The store changes the immediate of the next instruction of the same block, then of one in the loop already run.
    let mut m = long!(
        "mov byte [next + 1], 7
         next: mov eax, 1
         xor edx, edx
         mov ecx, 3
         .l: mov ebx, 5
         add edx, ebx
         inc byte [.l + 1]
         loop .l
         hlt"
    );
    m.run();
    assert_eq!(m.gpr(RAX), 7);
    assert_eq!(m.gpr(RDX), 5 + 6 + 7);
}

#[test]
fn an_instruction_over_two_pages() {
    let mut m = long!("jmp 0x101ffe\n times 0x1ffe-($-$$) nop\n mov eax, 0x12345678\n hlt");
    m.run();
    assert_eq!(m.gpr(RAX), 0x1234_5678);
}

#[test]
fn repeated_strings() {
    let mut m = long!(
        "mov rdi, 0x300ff0
         mov ecx, 0x4000
         mov al, 0x5a
         rep stosb
         mov rsi, 0x300ff0
         mov rdi, 0x400003
         mov ecx, 0x4000
         rep movsb
         mov rsi, 0x300ff0
         mov rdi, 0x400003
         mov ecx, 0x4000
         repe cmpsb
         sete bl
         mov rdi, 0x400003
         mov al, 0
         mov ecx, -1
         repne scasb
         hlt"
    );
    let before = m.cpu.state.clock.now_ns();
    m.run();
    assert_eq!(m.gpr(RBX) & 0xff, 1);
    assert_eq!(m.gpr(RDI), 0x40_0003 + 0x4001);
    let expected = 3 + 0x4000 + 3 + 0x4000 + 3 + 0x4000 + 1 + 3 + 0x4001 + 1;
    assert_eq!(m.cpu.state.clock.now_ns() - before, expected);
}

#[test]
fn a_repeated_string_stops_at_the_budget() {
    let mut m = long!("mov edi, 0x300000\n mov ecx, 1000\n mov al, 1\n rep stosb\n hlt");
    assert_eq!(m.run_for(3 + 10), Exit::Budget);
    assert_eq!(m.gpr(RCX), 990);
    assert_eq!(m.gpr(RDI), 0x30_000a);
    assert_eq!(m.cpu.state.clock.budget, 0);
    assert_eq!(m.run_for(990 + 1), Exit::Halt);
    assert_eq!(m.gpr(RCX), 0);
}

#[test]
fn a_fault_in_a_string_keeps_the_element() {
    let mut m = long!(&with_idt(
        "mov qword [0x3000 + 8*2], 0\n mov rax, cr3\n mov cr3, rax
         mov rdi, 0x3fffe0\n mov ecx, 100\n rep stosb\n hlt"
    ));
    m.run();
    assert_eq!(m.gpr(15), 14);
    assert_eq!(m.cpu.state.cr2, 0x40_0000);
}

#[test]
fn single_step_traps_after_each_instruction() {
    let mut m = long!(&with_idt(
        "pushfq\n or qword [rsp], 0x100\n popfq\n mov ebx, 1\n mov ebx, 2\n hlt"
    ));
    m.run();
    assert_eq!(m.gpr(15), 1);
    assert_eq!(m.gpr(RBX), 1);
    assert_eq!(m.cpu.state.dr[6] >> 14 & 1, 1);
}

#[test]
fn triple_fault_is_shutdown() {
    let mut m = long!("lidt [rsp]\n ud2");
    assert_eq!(m.run(), Exit::Shutdown);
}

#[test]
fn cpuid_and_time() {
    let mut m = long!(
        "xor eax, eax\n cpuid\n mov r8d, ebx\n mov eax, 1\n cpuid\n mov r9d, ecx\n rdtsc\n mov r10d, eax\n rdtsc\n sub eax, r10d\n hlt"
    );
    m.run();
    assert_eq!(m.gpr(8) as u32, u32::from_le_bytes(*b"Genu"));
    assert_eq!(m.gpr(9) >> 31 & 1, 1);
    assert_eq!(m.gpr(RAX), 2);
}

#[test]
fn ports_and_devices() {
    let mut m = long!(
        "mov dx, 0x3f8\n mov al, 'x'\n out dx, al\n in eax, 0x42\n mov ebx, 0xfee00000\n mov dword [rbx], 9\n mov ecx, [rbx+4]\n hlt"
    );
    m.run();
    assert_eq!(m.bus().written, vec![(0x3f8, 1, u32::from(b'x'))]);
    assert_eq!(m.gpr(RAX), 0x43);
    assert_eq!(m.bus().mmio, vec![(0xfee0_0000, 4, 9)]);
    assert_eq!(m.gpr(RCX), 0xfee0_005e);
}

#[test]
fn atomics_and_wide_exchange() {
    let mut m = long!(
        "mov rdi, 0x300000
         mov qword [rdi], 5
         mov qword [rdi+8], 6
         mov eax, 5
         mov ebx, 9
         lock cmpxchg [rdi], rbx
         setz r8b
         mov ecx, 1
         lock xadd [rdi], rcx
         mov rax, 10
         mov rdx, 6
         mov rbx, 100
         mov rcx, 200
         lock cmpxchg16b [rdi]
         setz r9b
         xchg rsp, [rdi]
         hlt"
    );
    m.run();
    assert_eq!((m.gpr(8) & 1, m.gpr(9) & 1), (1, 1));
    assert_eq!(m.gpr(RSP), 100);
    assert_eq!(m.read_u64(0x30_0008), 200);
}

#[test]
fn enter_leave_and_calls() {
    let mut m = long!("mov rbp, rsp\n call f\n hlt\nf: enter 32, 2\n mov rax, rbp\n leave\n ret");
    m.run();
    assert_eq!(m.gpr(RAX), STACK - 16);
    assert_eq!(m.gpr(RSP), STACK);
    assert_eq!(m.cpu.state.rip(), CODE + 9);
}

#[test]
fn a_tag_stops_the_loop_also_at_a_block_decoded_later() {
    let mut m = long!("mov ecx, 3\n.l: dec ecx\n jnz .l\n hlt");
    let mode = m.cpu.state.mode;
    m.engine.cache.set_tag(CODE + 5, mode, 7);
    let now = m.cpu.state.clock.now_ns();
    m.cpu.state.clock.set_deadline(now, now + 100);
    // The first block runs over the tagged place; the branch back comes to it.
    assert_eq!(
        m.engine.cache.run(&mut m.cpu, u32::MAX, false),
        Exit::Tagged(7)
    );
    assert_eq!(m.gpr(RCX), 2);
    assert_eq!(
        m.engine.cache.run(&mut m.cpu, u32::MAX, true),
        Exit::Tagged(7)
    );
    m.engine.cache.set_tag(CODE + 5, mode, 0);
    assert_eq!(m.engine.cache.run(&mut m.cpu, u32::MAX, true), Exit::Halt);
}

#[test]
fn sti_without_a_waiting_interrupt_costs_nothing_but_holds_at_a_deadline() {
    let mut m = long!(&with_idt(
        "cli\n sti\n nop\n mov ebx, 4\n cli\n sti\n mov ebx, 5\n mov ebx, 6\n hlt"
    ));
    while m.gpr(RBX) != 4 {
        assert_eq!(m.run_for(1), Exit::Budget);
    }
    // CLI and STI: the boundary after them is one at which an event makes an interrupt pending.
    assert_eq!(m.run_for(2), Exit::Budget);
    m.bus().pending = Some(0x22);
    m.run();
    assert_eq!(m.gpr(15), 0x22);
    assert_eq!(m.gpr(RBX), 5);
}

#[test]
fn a_saved_state_goes_on_the_same() {
    let mut m = long!("mov ecx, 50\n.l: add rax, rcx\n rol rax, 3\n dec ecx\n jnz .l\n hlt");
    assert_eq!(m.run_for(30), Exit::Budget);
    let saved = postcard::to_allocvec(&m.cpu.state).expect("plain data");
    assert_eq!(m.run(), Exit::Halt);
    let hash = |m: &common::Machine| {
        let mut bytes = Vec::new();
        m.cpu
            .state
            .hash_registers(&mut |b| bytes.extend_from_slice(b));
        bytes
    };
    let first = hash(&m);
    m.cpu.state = postcard::from_bytes(&saved).expect("what was written");
    m.cpu.update_mode();
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(first, hash(&m));
}

#[test]
fn mwait_waits_where_monitor_armed_and_an_interrupt_can_end_it() {
    let mut m = long!(
        "xor ecx, ecx\n xor edx, edx\n mov eax, 0x3000\n mwait\n mov ebx, 1\n monitor\n mwait\n mov ebx, 2\n\
         monitor\n sti\n mwait\n mov ebx, 3\n hlt"
    );
    m.cpu.model.features |= atoll_x86::features::Features::MONITOR;
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(RBX), 2, "unarmed and masked ones went on");
    m.cpu.state.halted = 0;
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(RBX), 3, "the wait was the MWAIT's");
}
