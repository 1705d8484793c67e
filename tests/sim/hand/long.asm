; Long mode: the ways in and out, canonical addresses, interrupts and their stacks, call gates, far transfers between 64-bit and
; compatibility code, what is gone (SDM vol. 3A, 5.8.3, 6.14, 7.7, 9.8.5).
%include "lib.inc"
%include "long.inc"

test_main:
    call long_tables
;> there and back: ok
    PROBE
    LONG
    mov rcx, 0x123456789abcdef0
    mov rax, rcx
    shr rax, 32
    mov [abs r_rax], rax
    mov eax, cs
    mov [abs r_rcx], rax
    LEGACY
    END "there and back"
;>   upper half=12345678
    SHOW "upper half", [r_rax]
;>   cs=00000040
    SHOW "cs", [r_rcx]
;> an address that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov rbx, 0x0000800000000000
    HERE
    mov al, [rbx]
    LEGACY
    END "an address that is not canonical"
;> the same by the stack: #0c(0000)+00
    PROBE
    LONG
    mov rbp, 0x0000800000000000
    HERE
    mov al, [rbp]
    LEGACY
    END "the same by the stack"
;> a push there: #0c(0000)+00
    PROBE
    LONG
    mov r8, rsp
    ; The handler needs a stack of its own.
    mov byte [abs idt64 + 12 * 16 + 4], 1
    mov byte [abs idt64 + 13 * 16 + 4], 1
    mov rsp, 0xffff7ffffffffff8
    HERE
    push rax
    LEGACY
    END "a push there"
    mov byte [idt64 + 12 * 16 + 4], 0
    mov byte [idt64 + 13 * 16 + 4], 0
;> a jump there: #0d(0000)+00
    PROBE
    LONG
    mov rbx, 0x0000800000000000
    HERE
    jmp rbx
    LEGACY
    END "a jump there"
;> the stack is aligned: #80(0000)+00
    PROBE
    LONG
    lea rsp, [rsp - 5]
    int 0x80
    HERE
    LEGACY
    END "the stack is aligned"
;>   rsp=00077ffb
    SHOW "rsp", [f_rsp]
;>   frame=00077fb8
    SHOW "frame", [f_frame]
;> from ring 3 to the stack in the TSS: #80(0000)+00
    PROBE
    LONG
    USER64 .u1, UCODE64
.u1:
    int 0x80
    HERE
    bits 32
    END "from ring 3 to the stack in the TSS"
;>   cs=00000073
    SHOW "cs", [f_cs]
;>   ss=0000006b
    SHOW "ss", [f_ss]
;>   frame=0007ffc8
    SHOW "frame", [f_frame]
;>   ss inside=00000000
    SHOW "ss inside", [f_in_ss]
;> an IST: #80(0000)+00
    PROBE
    mov byte [idt64 + 0x80 * 16 + 4], 1
    LONG
    int 0x80
    HERE
    LEGACY
    END "an IST"
    mov byte [idt64 + 0x80 * 16 + 4], 0
;>   frame=00067fc8
    SHOW "frame", [f_frame]
;>   ss stays=00000010
    SHOW "ss stays", [f_in_ss]
;> a gate to code that is not 64-bit: #0d(0008)+00
    PROBE
    mov word [idt64 + 0x81 * 16 + 2], CODE
    LONG
    HERE
    int 0x81
    LEGACY
    END "a gate to code that is not 64-bit"
;> a gate of 32 bits: #0d(0412)+00
    PROBE
    mov byte [idt64 + 0x82 * 16 + 5], 0x85
    LONG
    HERE
    int 0x82
    LEGACY
    END "a gate of 32 bits"
;> compatibility code and back: ok
    PROBE
    LONG
    push CODE
    push .compat
    retfq
    bits 32
.compat:
    mov eax, -1
    inc eax
    dec eax
    mov ecx, cs
    jmp CODE64:.long
    bits 64
.long:
    mov [abs r_rax], rax
    mov [abs r_rcx], rcx
    LEGACY
    END "compatibility code and back"
;>   eax=ffffffff
    SHOW "eax", [r_rax]
;>   cs=00000008
    SHOW "cs", [r_rcx]
;> addresses of compatibility code wrap: ok
    PROBE
    mov dword [SCRATCH + 4], 0xfeedbeef
    LONG
    push CODE
    push .compat2
    retfq
    bits 32
.compat2:
    mov ebx, 0xfffffff0
    mov eax, [ebx + SCRATCH + 0x14]
    jmp CODE64:.long2
    bits 64
.long2:
    mov [abs r_rax], rax
    LEGACY
    END "addresses of compatibility code wrap"
;>   value=feedbeef
    SHOW "value", [r_rax]
;> segments have no limit in 64-bit code: ok
    PROBE
    DESCRIPTOR SPARE, 0x100000, 0xf, R_DATA, BIG
    mov dword [SCRATCH + 8], 0x600df00d
    LONG
    mov eax, SPARE
    mov ds, eax
    mov eax, [abs SCRATCH + 8]
    mov [abs r_rax], rax
    LEGACY
    END "segments have no limit in 64-bit code"
;>   value=600df00d
    SHOW "value", [r_rax]
;> but FS has a base: ok
    PROBE
    DESCRIPTOR SPARE, SCRATCH, 0xf, R_DATA, BIG
    mov dword [SCRATCH + 0x20], 0x0badcafe
    LONG
    mov eax, SPARE
    mov fs, eax
    mov eax, [fs:0x20]
    mov [abs r_rax], rax
    MSR 0xc0000100, SCRATCH - 0x10
    mov eax, [fs:0x18]
    mov [abs r_rcx], rax
    LEGACY
    END "but FS has a base"
;>   by descriptor=0badcafe
    SHOW "by descriptor", [r_rax]
;>   by MSR=600df00d
    SHOW "by MSR", [r_rcx]
;> an FS base that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov ecx, 0xc0000100
    xor eax, eax
    mov edx, 0x8000
    HERE
    wrmsr
    LEGACY
    END "an FS base that is not canonical"
;> null in SS of ring 0: ok
    PROBE
    LONG
    xor eax, eax
    mov ss, eax
    push rax
    pop rax
    mov eax, SDATA
    mov ss, eax
    LEGACY
    END "null in SS of ring 0"
;> null in SS of ring 3: #0d(0000)+00
    PROBE
    LONG
    USER64 .u2, UCODE64
.u2:
    mov eax, 3
    HERE
    mov ss, eax
    bits 32
    END "null in SS of ring 3"
;> iretq to an address that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov rax, 0x0000800000000000
    push SDATA
    push LSTACK
    push 2
    push CODE64
    push rax
    HERE
    iretq
    LEGACY
    END "iretq to an address that is not canonical"
;> iretq pops the stack in the same ring: ok
    PROBE
    LONG
    push SDATA
    push LSTACK - 0x100
    push 2
    push CODE64
    push .same
    iretq
.same:
    mov [abs r_rax], rsp
    LEGACY
    END "iretq pops the stack in the same ring"
;>   rsp=00077f00
    SHOW "rsp", [r_rax]

; Call gates, 16 bytes.
; A far call or jump by `far_gate`, as the ModRM byte says, with an offset of 32 bits.
%macro FAR 1
    db 0xff, %1, 0x25
    dd far_gate
%endmacro
%macro CALL_GATE 3
    mov dword [gdt + GATE64], ((%2) & 0xffff) | (%1) << 16
    mov dword [gdt + GATE64 + 4], ((%2) & 0xffff0000) | (%3) << 8
    mov dword [gdt + GATE64 + 8], 0
    mov dword [gdt + GATE64 + 12], 0
    mov dword [far_gate], 0
    mov word [far_gate + 4], GATE64 | 3
%endmacro
;> a call gate inwards: #80(0000)+00
    PROBE
    CALL_GATE CODE64, AT(inner64), 0xec
    LONG
    USER64 .u3, UCODE64
.u3:
    mov rdi, rsp
    FAR 0x1c
    sub rdi, rsp
    int 0x80
    HERE
    bits 32
    END "a call gate inwards"
;>   cs inside=00000040
    SHOW "cs inside", [r_rcx]
;>   rsp inside=0007ffe0
    SHOW "rsp inside", [r_rsi]
;>   ss inside=00000000
    SHOW "ss inside", [r_rdx]
;>   released=00000000
    SHOW "released", [r_rdi]
;> a call gate to 32-bit code: #0d(0008)+00
    PROBE
    CALL_GATE CODE, AT(inner64), 0xec
    LONG
    HERE
    FAR 0x1c
    LEGACY
    END "a call gate to 32-bit code"
;> a call gate whose upper type is not zero: #0d(0080)+00
    PROBE
    CALL_GATE CODE64, AT(inner64), 0xec
    mov dword [gdt + GATE64 + 12], 0x100
    LONG
    HERE
    FAR 0x1c
    LEGACY
    END "a call gate whose upper type is not zero"
;> a call gate to nowhere canonical: #0d(0000)+00
    PROBE
    CALL_GATE CODE64, AT(inner64), 0xec
    mov dword [gdt + GATE64 + 8], 0x8000
    LONG
    HERE
    FAR 0x1c
    LEGACY
    END "a call gate to nowhere canonical"
;> a jump to a TSS: #0d(0050)+00
    PROBE
    mov word [far_gate + 4], TSS64
    LONG
    HERE
    FAR 0x2c
    LEGACY
    END "a jump to a TSS"
;> both L and D: #0d(0090)+00
    PROBE
    FLAT SPARE, 0x00ef9b00
    mov word [far_gate + 4], SPARE
    LONG
    HERE
    FAR 0x2c
    LEGACY
    END "both L and D"
;> ltr with a base that is not canonical: #0d(0050)+00
    PROBE
    LONG
    and byte [abs gdt + TSS64 + 5], ~2
    mov dword [abs gdt + TSS64 + 8], 0x8000
    mov eax, TSS64
    HERE
    ltr ax
    LEGACY
    END "ltr with a base that is not canonical"
    mov dword [gdt + TSS64 + 8], 0

; What there is not.
%macro GONE 2+
    PROBE
    LONG
    HERE
    db %2
    nop
    nop
    LEGACY
    END %1
%endmacro
;> push es is gone: #06(0000)+00
    GONE "push es is gone", 0x06
;> daa is gone: #06(0000)+00
    GONE "daa is gone", 0x27
;> pusha is gone: #06(0000)+00
    GONE "pusha is gone", 0x60
;> a far call by immediate is gone: #06(0000)+00
    GONE "a far call by immediate is gone", 0x9a, 0, 0, 0, 0, 0, 0
;> into is gone: #06(0000)+00
    GONE "into is gone", 0xce
;> salc is gone: #06(0000)+00
    GONE "salc is gone", 0xd6

;> paging off in 64-bit code: #0d(0000)+00
    PROBE
    LONG
    mov rax, cr0
    btr rax, 31
    HERE
    mov cr0, rax
    LEGACY
    END "paging off in 64-bit code"
;> PAE off: #0d(0000)+00
    PROBE
    LONG
    mov rax, cr4
    btr rax, 5
    HERE
    mov cr4, rax
    LEGACY
    END "PAE off"
;> LME while paging is on: #0d(0000)+00
    PROBE
    LONG
    mov ecx, EFER
    rdmsr
    btr eax, 8
    HERE
    wrmsr
    LEGACY
    END "LME while paging is on"
; What is pushed by far calls: to a stack that is not canonical it is #SS(0), whatever segment the pointer is in (vol. 2A, CALL).
    mov byte [idt64 + 12 * 16 + 4], 1
    mov byte [idt64 + 13 * 16 + 4], 1
    mov word [far_gate + 4], CODE64
; STACK_OUT name, instruction: with RSP and RBP there.
%macro STACK_OUT 2+
    PROBE
    LONG
    mov rsp, 0x0000800000001000
    mov rbp, rsp
    HERE
    %2
    LEGACY
    END %1
%endmacro
;> a far call there: #0c(0000)+00
    PROBE
    LONG
    mov rsp, 0x0000800000001000
    HERE
    FAR 0x1c
    LEGACY
    END "a far call there"
    mov word [far_gate + 4], GATE64 | 3
;> through a gate: #0c(0000)+00
    PROBE
    CALL_GATE CODE64, AT(inner64), 0xec
    LONG
    mov rsp, 0x0000800000001000
    HERE
    FAR 0x1c
    LEGACY
    END "through a gate"
;> through a gate inwards: #0c(0000)+00
    PROBE
    mov dword [tss64 + 8], 0x8000
    LONG
    USER64 .outside, UCODE64
.outside:
    HERE
    FAR 0x1c
    bits 32
    END "through a gate inwards"
    mov dword [tss64 + 8], 0
;> pop fs: #0c(0000)+00
    STACK_OUT "pop fs", pop fs
;> push gs: #0c(0000)+00
    STACK_OUT "push gs", push gs
;> pushfq: #0c(0000)+00
    STACK_OUT "pushfq", pushfq
;> popfq: #0c(0000)+00
    STACK_OUT "popfq", popfq
;> enter: #0c(0000)+00
    STACK_OUT "enter", enter 8, 0
;> enter with levels: #0c(0000)+00
    STACK_OUT "enter with levels", enter 8, 3
;> leave: #0c(0000)+00
    STACK_OUT "leave", leave
;> iretq: #0c(0000)+00
    STACK_OUT "iretq", iretq
;> a far return: #0c(0000)+00
    STACK_OUT "a far return", retfq
;> push of memory: #0c(0000)+00
    STACK_OUT "push of memory", push qword [abs SCRATCH]
;> pop to memory: #0c(0000)+00
    STACK_OUT "pop to memory", pop qword [abs SCRATCH]
    mov dword [SCRATCH], AT(inner64)
    mov dword [SCRATCH + 4], 0
;> call through memory: #0c(0000)+00
    STACK_OUT "call through memory", call [abs SCRATCH]
;> a return: #0c(0000)+00
    STACK_OUT "a return", ret
;> int n: #0c(0000)+00
    STACK_OUT "int n", int 0x80
;> a pointer that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov rbx, 0x0000800000001000
    HERE
    call far [rbx]
    LEGACY
    END "a pointer that is not canonical"
;> lldt with a base that is not canonical: #0d(0090)+00
    PROBE
    DESCRIPTOR SPARE, 0, 0xff, 0x82, 0
    mov dword [gdt + SPARE + 8], 0x8000
    mov dword [gdt + SPARE + 12], 0
    LONG
    mov eax, SPARE
    HERE
    lldt ax
    LEGACY
    END "lldt with a base that is not canonical"
;> lar and lsl of what has 16 bytes: ok
    PROBE
    CALL_GATE CODE64, AT(inner64), 0xec
    LONG
    xor edx, edx
    mov eax, TSS64
    lsl ecx, eax
    setz dl
    mov eax, GATE64
    lar ebx, eax
    setz dh
    mov [abs r_rcx], rcx
    mov [abs r_rbx], rbx
    mov [abs r_rdx], rdx
    LEGACY
    END "lar and lsl of what has 16 bytes"
;>   limit=00000067
    SHOW "limit", [r_rcx]
;>   rights=0010ec00
    SHOW "rights", [r_rbx]
;>   both=00000101
    SHOW "both", [r_rdx]
;> nt in long mode: #0d(0000)+00
    PROBE
    LONG
    push 0x4002
    popfq
    push SDATA
    push LSTACK
    push 2
    push CODE64
    push .nt
    HERE
    iretq
.nt:
    LEGACY
    END "nt in long mode"
    push dword 2
    popfd
    ret

    bits 64
inner64:
    mov ecx, cs
    mov edx, ss
    mov rsi, rsp
    retfq
    bits 32

    align 16
far_gate:
    dd 0
    dw 0
