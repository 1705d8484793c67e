; Interrupts and what holds them off: the shadows of STI and of loads of SS, NMI, HLT (SDM vol. 3A, 6.7.1, 6.8). The local APIC
; sends itself the interrupts.
%include "lib.inc"
%include "debug.inc"

APIC    equ 0xfee00000

; SELF n: asks for interrupt n. NMI asks for one.
%macro SELF 1
    mov dword [APIC + 0x300], 0x40000 | (%1)
%endmacro
%macro NMI 0
    mov dword [APIC + 0x310], 0
    mov dword [APIC + 0x300], 0x4400
%endmacro

test_main:
    mov dword [APIC + 0xf0], 0x1ff
    mov dword [APIC + 0x80], 0
    mov dword [idt + 0x60 * 8], AT(counter) & 0xffff | CODE << 16
    mov dword [idt + 0x60 * 8 + 4], AT(counter) & 0xffff0000 | 0x8e00
    mov dword [idt + 2 * 8], AT(nmi) & 0xffff | CODE << 16
    mov dword [idt + 2 * 8 + 4], AT(nmi) & 0xffff0000 | 0x8e00
    mov dword [nmi_inner], 0

;> an interrupt that IF holds off: ok
    PROBE
    xor ecx, ecx
    SELF 0x60
    nop
    nop
    mov ebx, ecx
    sti
    nop
    nop
    cli
    END "an interrupt that IF holds off"
;>   before=00000000
    SHOW "before", ebx
;>   after=00000001
    SHOW "after", ecx
;> sti and the next instruction: ok
    PROBE
    xor ecx, ecx
    SELF 0x60
    sti
    cli
    mov ebx, ecx
    sti
    nop
    nop
    cli
    END "sti and the next instruction"
;>   cli came first=00000000
    SHOW "cli came first", ebx
;>   then=00000001
    SHOW "then", ecx
;> a load of SS and the next instruction: ok
    PROBE
    xor ecx, ecx
    mov eax, DATA
    sti
    nop
    mov ss, eax
    mov dword [APIC + 0x300], 0x40060
    mov ss, eax
    mov ebx, ecx
    nop
    cli
    END "a load of SS and the next instruction"
;>   in the end=00000001
    SHOW "in the end", ecx
;> hlt ends with an interrupt: ok
    PROBE
    xor ecx, ecx
    SELF 0x60
    sti
    hlt
    cli
    END "hlt ends with an interrupt"
;>   interrupts=00000001
    SHOW "interrupts", ecx
;> popf lets it in at once: ok
    PROBE
    xor ecx, ecx
    SELF 0x60
    push dword 0x202
    popfd
    mov ebx, ecx
    cli
    END "popf lets it in at once"
;>   interrupts=00000001
    SHOW "interrupts", ebx
;> nmi whatever IF is: ok
    PROBE
    xor ecx, ecx
    xor edx, edx
    NMI
    nop
    nop
    END "nmi whatever IF is"
;>   nmis=00000001
    SHOW "nmis", ecx
;> nmi within nmi waits for iret: ok
    PROBE
    mov dword [nmi_inner], 1
    xor ecx, ecx
    xor edx, edx
    NMI
    nop
    nop
    nop
    END "nmi within nmi waits for iret"
;>   nmis=00000002
    SHOW "nmis", ecx
;>   nested=00000000
    SHOW "nested", edx
;> iret of any kind ends the block: ok
    PROBE
    mov dword [nmi_inner], 2
    xor ecx, ecx
    xor edx, edx
    NMI
    nop
    nop
    nop
    END "iret of any kind ends the block"
;>   nmis=00000002
    SHOW "nmis", ecx
;>   nested=00000001
    SHOW "nested", edx
; So is one that faults, and the NMI that waits comes before the first instruction of the fault's handler.
;> iret that faults ends the block: ok
    PROBE
    mov dword [nmi_inner], 3
    GATE idt + 13 * 8, CODE, AT(faulted), 0x8e, 0
    xor ecx, ecx
    xor edx, edx
    NMI
    nop
    nop
    ud2
faulted:
    mov ebx, ecx
    END "iret that faults ends the block"
    GATE idt + 13 * 8, CODE, AT(stubs + 13 * 16), 0x8e, 0
    mov dword [nmi_depth], 0
;>   nmis=00000002
;q>   nmis=00000001
    SHOW "nmis", ebx
;> sti, then a load of SS: ok
    PROBE
    xor ecx, ecx
    mov eax, DATA
    SELF 0x60
    sti
    mov ss, eax
    mov ebx, ecx
    mov edx, ecx
    cli
    END "sti, then a load of SS"
;>   in the shadow=00000000
;q>   in the shadow=00000002
    SHOW "in the shadow", ebx
;>   behind=00000001
;q>   behind=00000002
    SHOW "behind", edx
;> a load of SS, then sti: ok
    PROBE
    xor ecx, ecx
    mov eax, DATA
    SELF 0x60
    mov ss, eax
    sti
    mov ebx, ecx
    mov edx, ecx
    cli
    END "a load of SS, then sti"
;>   in the shadow=00000000
;q>   in the shadow=00000001
    SHOW "in the shadow", ebx
;>   behind=00000001
    SHOW "behind", edx
;> an nmi that is sent in the shadow: ok
    PROBE
    mov dword [nmi_inner], 0
    xor ecx, ecx
    xor edx, edx
    mov eax, DATA
    mov dword [APIC + 0x310], 0
    mov ss, eax
    mov dword [APIC + 0x300], 0x4400
    mov ebx, ecx
    END "an nmi that is sent in the shadow"
;>   nmis=00000001
    SHOW "nmis", ebx
; An interrupt between two iterations saves RF, so that a breakpoint at the string instruction is not met again (vol. 3B, 18.3.1.1).
;> an interrupt within a string instruction: ok
;>   rf=00010000
;q>   rf=00000000
    PROBE
    GATE idt + 0x61 * 8, CODE, AT(within), 0x8e, 0
    mov dword [APIC + 0x3e0], 0xb       ; divided by 1
    mov dword [APIC + 0x320], 0x61
    sti
    mov dword [APIC + 0x380], 2000
    mov edi, SCRATCH
    mov ecx, 0x40000
    rep stosb
    cli
    END "an interrupt within a string instruction"
    SHOW "rf", [within_flags]
;> and the breakpoint is met once: ok
    PROBE
    mov dword [traps], 0
    mov dword [hook], pass
    BREAK 0, .string, B_EXEC, 0
    sti
    mov dword [APIC + 0x380], 2000
    mov edi, SCRATCH
    mov ecx, 0x2000
.string:
    rep stosb
    cli
    xor eax, eax
    mov dr7, eax
    END "and the breakpoint is met once"
;>   traps=00000001
;q>   traps=00002000
    SHOW "traps", [traps]
;> the task priority holds off: ok
    PROBE
    xor ecx, ecx
    mov dword [APIC + 0x80], 0x60
    SELF 0x60
    sti
    nop
    nop
    mov ebx, ecx
    mov dword [APIC + 0x80], 0
    nop
    nop
    cli
    END "the task priority holds off"
;>   before=00000000
    SHOW "before", ebx
;>   after=00000001
;q>   after=00000000
    SHOW "after", ecx
    mov dword [APIC + 0xf0], 0xff
    call make_idt
    ret

; Counts, and lets the instruction at the breakpoint pass.
pass:
    inc dword [traps]
    or dword [esp + 16], 1 << 16
    jmp resume
; Notes RF.
within:
    push eax
    mov eax, [esp + 12]
    and eax, 0x10000
    mov [within_flags], eax
    mov dword [APIC + 0xb0], 0
    pop eax
    iretd
counter:
    inc ecx
    mov dword [APIC + 0xb0], 0
    iretd

; Counts in ECX; EDX counts those that came within another. The first may send another, and may make an IRET of its own,
; or one that faults.
nmi:
    inc ecx
    cmp dword [nmi_depth], 0
    je .outer
    inc edx
.outer:
    inc dword [nmi_depth]
    cmp ecx, 1
    jne .end
    cmp dword [nmi_inner], 0
    je .end
    NMI
    nop
    nop
    cmp dword [nmi_inner], 3
    jne .whole
    pushfd
    push dword 0xfff8
    push dword .end
    iretd
.whole:
    cmp dword [nmi_inner], 2
    jne .end
    pushfd
    push cs
    push dword .end
    iretd
.end:
    dec dword [nmi_depth]
    iretd

    align 4096
nmi_depth:  dd 0
nmi_inner:  dd 0
within_flags: dd 0
    align 4096
