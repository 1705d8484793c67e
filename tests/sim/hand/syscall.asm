; SYSCALL, SYSRET, SYSENTER and SYSEXIT in long mode (SDM vol. 2B, their pages; vol. 3A, 5.8.7, 5.8.8).
%include "lib.inc"
%include "long.inc"

; Where SYSCALL leads: %1 of 64-bit, %2 of compatibility code; flags to clear %3.
%macro TARGETS 2-3 0x200
    MSR EFER, 0x901
    MSR STAR, 0, CODE64 | (UCODE32 & ~3) << 16
    MSR LSTAR, %1
    MSR CSTAR, %2
    MSR SFMASK, %3
%endmacro

test_main:
    call long_tables
;> syscall and sysret: #80(0000)+00
    PROBE
    LONG
    TARGETS AT(target), AT(target), 0x300
    USER64 .user, UCODE64, 0xa03
.user:
    mov rbx, rsp
    syscall
.back:
    mov ecx, cs
    mov edx, ss
    pushfq
    pop rdi
    sub rbx, rsp
    int 0x80
    HERE
    bits 32
    END "syscall and sysret"
;>   flags inside=00000803
    SHOW "flags inside", [in_flags]
;>   cs inside=00000040
    SHOW "cs inside", [in_cs]
;>   ss inside=00000048
    SHOW "ss inside", [in_ss]
;>   rsp stays=00070000
    SHOW "rsp stays", [in_rsp]
;>   r11=00000a03
    SHOW "r11", [in_r11]
;>   cs back=00000073
    SHOW "cs back", [r_rcx]
;>   ss back=0000006b
    SHOW "ss back", [r_rdx]
;>   flags back=00000a03
    SHOW "flags back", [r_rdi]
;>   rsp back=00000000
    SHOW "rsp back", [r_rbx]
;> sysret to compatibility code: #80(0000)+00
    PROBE
    LONG
    TARGETS AT(to_compatibility), AT(target)
    mov dword [abs compatible], .compat
    USER64 .user2, UCODE64
.user2:
    mov rcx, -1
    syscall
    bits 32
.compat:
    mov ecx, cs
    mov eax, -1
    inc eax
    inc eax
    int 0x80
    HERE
    END "sysret to compatibility code"
;>   cs=00000063
    SHOW "cs", [r_rcx]
;>   rax=00000001
    SHOW "rax", [r_rax]
;> sysret takes RF and VM from nowhere: #80(0000)+00
    PROBE
    LONG
    TARGETS AT(with_flags), AT(target)
    USER64 .user3, UCODE64
.user3:
    syscall
    pushfq
    pop rdi
    int 0x80
    HERE
    bits 32
    END "sysret takes RF and VM from nowhere"
;>   flags=00047ed7
    mov eax, [r_rdi]
    SHOW "flags", eax
;> sysret to an address that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov rcx, 0x0000800000000000
    mov r11d, 2
    HERE
    o64 sysret
    LEGACY
    END "sysret to an address that is not canonical"
;>   cs=00000040
    SHOW "cs", [f_cs]
;> sysret in ring 3: #0d(0000)+00
    PROBE
    LONG
    USER64 .user4, UCODE64
.user4:
    HERE
    o64 sysret
    bits 32
    END "sysret in ring 3"
;> syscall without SCE: #06(0000)+00
    PROBE
    LONG
    MSR EFER, 0x900
    HERE
    syscall
    LEGACY
    END "syscall without SCE"
; Outside of 64-bit mode Intel's processors have neither.
;> syscall in compatibility code: #06(0000)+00
    PROBE
    LONG
    TARGETS AT(target), AT(target)
    USER64 .user8, UCODE32
    bits 32
.user8:
    HERE
    syscall
    END "syscall in compatibility code"
;> sysret in compatibility code: #06(0000)+00
    PROBE
    LONG
    TARGETS AT(target), AT(target)
    push CODE
    push .compatible0
    retfq
    bits 32
.compatible0:
    HERE
    db 0x0f, 0x07
    call from_long
    END "sysret in compatibility code"
;> sysret without SCE: #06(0000)+00
    PROBE
    LONG
    MSR EFER, 0x900
    HERE
    o64 sysret
    LEGACY
    END "sysret without SCE"
;> a target that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov ecx, LSTAR
    xor eax, eax
    mov edx, 0x8000
    HERE
    wrmsr
    LEGACY
    END "a target that is not canonical"
;> a mask of more than 32 bits: #0d(0000)+00
    PROBE
    LONG
    mov ecx, SFMASK
    xor eax, eax
    mov edx, 1
    HERE
    wrmsr
    LEGACY
    END "a mask of more than 32 bits"

; SYSENTER.
;> sysenter and sysexit with 64 bits: #80(0000)+00
    PROBE
    LONG
    ENTRY AT(entered), KSTACK - 0x100, CODE64
    ; CS + 32 is 64-bit code of ring 3, and + 40 its data.
    USER64 .user5, UCODE64, 0x203
.user5:
    mov r8d, .back5
    mov r9, rsp
    sysenter
.back5:
    mov ecx, cs
    mov edx, ss
    mov rdi, rsp
    int 0x80
    HERE
    bits 32
    END "sysenter and sysexit with 64 bits"
;>   flags inside=00000003
    SHOW "flags inside", [in_flags]
;>   cs inside=00000040
    SHOW "cs inside", [in_cs]
;>   ss inside=00000048
    SHOW "ss inside", [in_ss]
;>   rsp inside=0007ff00
    SHOW "rsp inside", [in_rsp]
;>   cs back=00000063
    SHOW "cs back", [r_rcx]
;>   ss back=0000006b
    SHOW "ss back", [r_rdx]
;>   rsp back=00070000
    SHOW "rsp back", [r_rdi]
;> sysexit to an address that is not canonical: #0d(0000)+00
    PROBE
    LONG
    MSR 0x174, CODE64
    mov rdx, 0x0000800000000000
    mov rcx, USTACK
    HERE
    o64 sysexit
    LEGACY
    END "sysexit to an address that is not canonical"
;> sysexit to a stack that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov rcx, 0x0000800000000000
    mov rdx, USTACK
    HERE
    o64 sysexit
    LEGACY
    END "sysexit to a stack that is not canonical"
;> sysexit in ring 3: #0d(0000)+00
    PROBE
    LONG
    USER64 .user6, UCODE64
.user6:
    HERE
    o64 sysexit
    bits 32
    END "sysexit in ring 3"
    ret

    bits 64
; Notes how it was entered, and returns.
target:
    mov [abs in_rsp], rsp
    mov [abs in_r11], r11
    mov esp, KSTACK - 0x1000
    mov [abs in_cs], cs
    mov [abs in_ss], ss
    pushfq
    pop rax
    mov [abs in_flags], rax
    mov rsp, [abs in_rsp]
    o64 sysret
to_compatibility:
    mov ecx, [abs compatible]
    mov rax, 0xffffffff00000000
    or rcx, rax
    mov r11d, 0x202
    sysret
with_flags:
    mov r11, 0xffffffff00077fd7 & ~0x100
    btr r11, 8
    o64 sysret
entered:
    mov [abs in_rsp], rsp
    mov [abs in_cs], cs
    mov [abs in_ss], ss
    pushfq
    pop rax
    mov [abs in_flags], rax
    ; To 64-bit code of ring 3 by a base of its own.
    MSR 0x174, CODE64
    mov rdx, r8
    mov rcx, r9
    o64 sysexit
    bits 32

    align 4096
in_rsp:   dq 0
in_r11:   dq 0
in_cs:    dq 0
in_ss:    dq 0
in_flags: dq 0
compatible: dd 0
    align 4096
