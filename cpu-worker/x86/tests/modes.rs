//! Real mode, the way into protected and long mode, segmentation, gates, tasks and virtual-8086 mode.

mod common;

use atoll_x86::interp::Exit;
use atoll_x86::op::{RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, Seg};
use atoll_x86::state::mode;
use common::Machine;

macro_rules! assembled {
    ($bits:expr, $origin:expr, $text:expr) => {
        match common::assemble_at($text, $bits, $origin) {
            Some(code) => code,
            None => return,
        }
    };
}

fn real(code: &[u8]) -> Machine {
    Machine::real(code)
}

#[test]
fn reset_state() {
    let mut m = Machine::bare();
    assert_eq!(m.cpu.linear_rip(), 0xffff_fff0);
    assert_eq!(m.cpu.state.mode & (mode::PROTECTED | mode::LONG), 0);
}

#[test]
fn real_mode_segments_and_interrupts() {
    let code = assembled!(
        16,
        0x7c00,
        "mov ax, 0x1000
         mov ds, ax
         mov word [0x20], 0xbeef
         mov bx, [ds:0x20]
         xor ax, ax
         mov es, ax
         mov word [es:0x80], handler
         mov word [es:0x82], 0
         int 0x20
         mov dx, 7
         hlt
         handler:
         mov cx, 5
         iret"
    );
    let mut m = real(&code);
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(RBX) & 0xffff, 0xbeef);
    assert_eq!(m.read_u64(0x1_0020) & 0xffff, 0xbeef);
    assert_eq!((m.gpr(RCX) & 0xffff, m.gpr(RDX) & 0xffff), (5, 7));
    assert_eq!(m.gpr(RSP), 0x7c00);
}

#[test]
fn binary_coded_decimals() {
    let code = assembled!(
        16,
        0x7c00,
        "mov al, 0x38
         add al, 0x45
         daa
         mov bl, al
         mov al, 0x12
         sub al, 0x05
         das
         mov cl, al
         mov ax, 0x0007
         add al, 8
         aaa
         mov si, ax
         mov al, 123
         aam
         mov di, ax
         aad
         mov bp, ax
         hlt"
    );
    let mut m = real(&code);
    m.run();
    assert_eq!(m.gpr(RBX) & 0xff, 0x83);
    assert_eq!(m.gpr(RCX) & 0xff, 0x07);
    assert_eq!(m.gpr(RSI) & 0xffff, 0x0105);
    assert_eq!(m.gpr(RDI) & 0xffff, 12 << 8 | 3);
    assert_eq!(m.gpr(RBP) & 0xffff, 123);
}

/// From real mode through protected mode to 64-bit mode, as a boot loader does.
#[test]
fn the_way_to_long_mode() {
    let code = assembled!(
        16,
        0x7c00,
        "cli
         lgdt [gdtr]
         mov eax, cr0
         or eax, 1
         mov cr0, eax
         jmp dword 0x18:protected
         bits 32
         protected:
         mov ax, 0x10
         mov ds, ax
         mov es, ax
         mov ss, ax
         mov esp, 0x9000
         mov ebx, 1
         mov dword [0x1000], 0x2003
         mov dword [0x2000], 0x3003
         mov dword [0x3000], 0x83
         mov eax, cr4
         or eax, 0x20
         mov cr4, eax
         mov eax, 0x1000
         mov cr3, eax
         mov ecx, 0xc0000080
         rdmsr
         or eax, 0x100
         wrmsr
         mov eax, cr0
         or eax, 0x80000000
         mov cr0, eax
         mov ebx, 2
         jmp 8:wide
         bits 64
         wide:
         mov rbx, 0x123456789abcdef0
         push rbx
         pop rcx
         hlt
         align 8
         gdt: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
         gdtr: dw 31
         dd gdt"
    );
    let mut m = real(&code);
    assert_eq!(m.run(), Exit::Halt);
    assert_ne!(m.cpu.state.mode & mode::LONG, 0);
    assert_eq!(m.gpr(RCX), 0x1234_5678_9abc_def0);
}

/// A 32-bit machine with a GDT at 0x7000, an IDT at 0x8000 whose vectors all lead to a stub that keeps vector and code.
const PROTECTED: &str = "
    jmp start
    align 8
gdt: dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff
     dq 0x00cff3000000ffff, 0x0000890050000067, 0x0040930060000fff, 0x0000890051000067
     dq 0x0000ec0000080000, 0x0040960060000fff
gdtr: dw 79
     dd gdt
idtr: dw 0x1ff
     dd 0x8000
setup:
    mov edi, 0x8000
    mov eax, stubs
    mov ecx, 64
.next:
    mov [edi], ax
    mov word [edi+2], 8
    mov word [edi+4], 0x8e00
    mov ebx, eax
    shr ebx, 16
    mov [edi+6], bx
    add eax, 16
    add edi, 8
    dec ecx
    jnz .next
    ret
    align 16
stubs:
%assign i 0
%rep 64
    align 16
    mov ebp, i
    mov edx, [esp]
    mov esi, [esp+4]
    hlt
%assign i i+1
%endrep
start:
    lgdt [gdtr]
    lidt [idtr]
    jmp 8:.cs
.cs:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov dword [0x5004], 0x180000
    mov word [0x5008], 0x10
    mov ax, 0x28
    ltr ax
    call setup
";

fn protected(body: &str) -> Option<Machine> {
    let code = common::assemble_at(&format!("{PROTECTED}\n{body}"), 32, common::CODE)?;
    Some(Machine::protected(&code))
}

macro_rules! protected {
    ($text:expr) => {
        match protected($text) {
            Some(m) => m,
            None => return,
        }
    };
}

#[test]
fn segment_limits_fault() {
    let mut m =
        protected!("mov ax, 0x30\n mov fs, ax\n mov eax, [fs:0xffc]\n mov eax, [fs:0xffd]\n hlt");
    m.run();
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 0));
}

#[test]
fn expand_down_segments() {
    let mut m = protected!(
        "mov ax, 0x48\n mov fs, ax\n mov byte [fs:0x1000], 1\n mov al, [fs:0xfff]\n hlt"
    );
    m.run();
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 0));
    assert_eq!(m.read_u64(0x7000) & 0xff, 1);
}

#[test]
fn bad_selectors_name_themselves() {
    let mut m = protected!("mov ax, 0x88\n mov ds, ax\n hlt");
    m.run();
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 0x88));
    let mut m = protected!("xor eax, eax\n mov ss, ax\n hlt");
    m.run();
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 0));
}

#[test]
fn user_mode_by_iret_and_back_by_a_gate() {
    let mut m = protected!(
        "mov word [0x8000 + 8*0x30 + 4], 0xee00
         push 0x23
         push 0x170000
         push 0x202
         push 0x1b
         push user
         iret
         user:
         mov ebx, 9
         int 0x30"
    );
    m.run();
    assert_eq!(m.gpr(RBP), 0x30);
    assert_eq!(m.gpr(RBX), 9);
    // The inner stack holds EIP, CS, EFLAGS, ESP, SS of the user.
    assert_eq!(m.gpr(RSP), 0x18_0000 - 20);
    assert_eq!(m.gpr(RSI), 0x1b);
    assert_eq!(m.read_u64(0x18_0000 - 8), 0x23 << 32 | 0x17_0000);
    assert_eq!(m.cpu.state.segment(Seg::Ss).selector, 0x10);
}

#[test]
fn privileged_instructions_fault_in_user_mode() {
    let mut m = protected!(
        "push 0x23\n push 0x170000\n push 0x202\n push 0x1b\n push user\n iret\n user: hlt"
    );
    m.run();
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 0));
}

#[test]
fn call_gates_switch_stacks_and_copy_parameters() {
    let mut m = protected!(
        "mov eax, target
         mov [gdt + 0x40], ax
         mov word [gdt + 0x42], 8
         mov word [gdt + 0x44], 0xec02
         shr eax, 16
         mov [gdt + 0x46], ax
         push 0x23
         push 0x170000
         push 0x202
         push 0x1b
         push user
         iret
         user:
         push 0x1111
         push 0x2222
         call 0x43:0
         mov ecx, esp
         int3
         target:
         mov ebx, [esp + 8]
         mov edi, [esp + 12]
         retf 8"
    );
    m.run();
    assert_eq!((m.gpr(RBX), m.gpr(RDI)), (0x2222, 0x1111));
    assert_eq!(m.gpr(RCX), 0x17_0000);
    // INT3 from user mode through a gate with DPL 0 is #GP with the gate's index.
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 3 << 3 | 2));
}

#[test]
fn task_switch_and_return() {
    let mut m = protected!(
        "mov dword [0x5120], task
         mov dword [0x5124], 2
         mov dword [0x5138], 0x160000
         mov dword [0x5148], 0x10
         mov dword [0x514c], 8
         mov dword [0x5150], 0x10
         mov dword [0x5154], 0x10
         mov dword [0x5158], 0x10
         mov dword [0x515c], 0x10
         mov ebx, 1
         call 0x38:0
         mov ecx, ebx
         hlt
         task:
         mov ebx, 77
         mov edi, 78
         mov [0x6100], ebx
         iret"
    );
    assert_eq!(m.run(), Exit::Halt);
    assert_eq!(m.gpr(RCX), 1);
    assert_eq!(m.read_u64(0x6100) & 0xffff_ffff, 77);
    assert_eq!(m.cpu.state.segment(Seg::Tr).selector, 0x28);
}

#[test]
fn virtual_8086_mode() {
    let mut m = protected!(
        "mov byte [0x20000], 0xb8
         mov word [0x20001], 0x1234
         mov byte [0x20003], 0x0e
         mov byte [0x20004], 0xf4
         push 0
         push 0
         push 0x2000
         push 0x3000
         push 0x2000
         push 0x800
         push 0x20202
         push 0x2000
         push 0
         iret"
    );
    m.run();
    // HLT in virtual-8086 mode is #GP(0); PUSH CS went to 2000:7fe.
    assert_eq!((m.gpr(RBP), m.gpr(RDX)), (13, 0));
    assert_eq!(m.gpr(RAX) & 0xffff, 0x1234);
    assert_eq!(m.read_u64(0x2_07fe) & 0xffff, 0x2000);
    assert_eq!(m.cpu.state.mode & mode::V86, 0);
}

#[test]
fn pusha_and_bound() {
    let mut m = protected!(
        "mov eax, 1\n mov ebx, 4\n pusha\n xor eax, eax\n xor ebx, ebx\n popa
         mov dword [0x6000], 5\n mov dword [0x6004], 10\n mov ecx, 5\n bound ecx, [0x6000]
         mov ecx, 11\n bound ecx, [0x6000]\n hlt"
    );
    m.run();
    assert_eq!((m.gpr(RAX), m.gpr(RBX)), (1, 4));
    assert_eq!(m.gpr(RBP), 5);
}
