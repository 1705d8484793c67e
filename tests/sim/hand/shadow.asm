; The shadow of MOV SS and POP SS: what it hides from the next instruction, and what it only puts off, although that instruction may lead
; into the kernel (SDM vol. 3A, 6.8.3; vol. 3B, 18.3.1).
%include "lib.inc"
%include "long.inc"
%include "debug.inc"

; PENDING: a POP SS that meets a data breakpoint, whose trap waits for the instruction that follows.
%macro PENDING 0
    push dword DATA
    BREAK 0, esp, B_RW, 3
    pop ss
%endmacro
; The same in ring 3, with the label where it begins.
%macro PENDING3 1
    mov dword [USTACK], UDATA
    BREAK 0, USTACK, B_RW, 3
    USER %1
%1:
    pop ss
%endmacro

test_main:
    call long_tables
    xor eax, eax
    mov dr7, eax
;> a code breakpoint behind pop ss: ok
    PROBE
    push dword DATA
    BREAK 0, %$here, B_EXEC, 0
    pop ss
    HERE
    nop
    nop
    END "a code breakpoint behind pop ss"
;> the one behind that counts: #01(0000)+00
    PROBE
    push dword DATA
    BREAK 0, %$here, B_EXEC, 0
    pop ss
    nop
    HERE
    nop
    END "the one behind that counts"
;> lss has no shadow: #01(0000)+00
    PROBE
    mov [SCRATCH], esp
    mov dword [SCRATCH + 4], DATA
    BREAK 0, %$here, B_EXEC, 0
    lss esp, [SCRATCH]
    HERE
    nop
    END "lss has no shadow"
;> nor has sti for this: #01(0000)+00
    PROBE
    BREAK 0, %$here, B_EXEC, 0
    sti
    HERE
    cli
    END "nor has sti for this"
;> lss and a step: ok
    PROBE
    mov [SCRATCH], esp
    TRACE
    lss esp, [SCRATCH]
    UNTRACE
    END "lss and a step"
;>   traps=00000003
    SHOW "traps", [traps]
;> sti and a step: ok
    PROBE
    TRACE
    sti
    cli
    UNTRACE
    END "sti and a step"
;>   traps=00000004
    SHOW "traps", [traps]
;> a load of SS, then int n: ok
    PROBE
    GATE idt + 0x55 * 8, CODE, AT(just_return), 0x8e, 0
    mov ecx, DATA
    TRACE
    mov ss, ecx
    int 0x55
    UNTRACE
    END "a load of SS, then int n"
;>   traps=00000002
    SHOW "traps", [traps]
;> a data breakpoint met by pop ss: #01(0000)+00
    PROBE
    PENDING
    nop
    HERE
    nop
    END "a data breakpoint met by pop ss"
;>   dr6=00000001
    SHOW_DR6
;> that, a step and a code breakpoint that is hidden: #01(0000)+00
    PROBE
    push dword DATA
    push dword 0x102
    lea ebx, [esp + 4]
    BREAK 0, ebx, B_RW, 3
    mov eax, .hidden
    mov dr1, eax
    mov eax, dr7
    or eax, 8
    mov dr7, eax
    popfd
    pop ss
.hidden:
    nop
    HERE
    nop
    END "that, a step and a code breakpoint that is hidden"
;>   dr6=00004001
    SHOW_DR6
;> hlt ends by the trap that waited: #01(0000)+00
    PROBE
    PENDING
    hlt
    HERE
    nop
    END "hlt ends by the trap that waited"
;> hlt ends by a step: #01(0000)+00
    PROBE
    push dword 0x102
    popfd
    hlt
    HERE
    nop
    END "hlt ends by a step"
;>   dr6=00004000
    SHOW_DR6

; The instruction behind may enter the kernel: the trap comes before the first instruction there, which has not asked for it.
;> int3: #01(0000)+00
    PROBE
    PENDING
    HERE_AT stubs + 3 * 16
    int3
    END "int3"
;>   dr6=00000001
    SHOW_DR6
;> int n in ring 3: #01(0000)+00
    PROBE
    HERE_AT stubs + 0x80 * 16
    PENDING3 .u1
    int 0x80
    END "int n in ring 3"
;>   cs=00000008
    SHOW "cs", [f_cs]
;>   frame=0007ffd8
    SHOW "frame", [f_frame]
;> sysenter: #01(0000)+00
    PROBE
    ENTRY entered, KSTACK
    HERE_AT entered
    PENDING3 .u2
    sysenter
    END "sysenter"
;>   cs=00000008
    SHOW "cs", [f_cs]
;> syscall: #01(0000)+00
    PROBE
    mov word [SCRATCH], UDATA64
    BREAK 0, SCRATCH, B_RW, 1
    LONG
    MSR EFER, 0x901
    MSR STAR, 0, CODE64 | (UCODE32 & ~3) << 16
    MSR LSTAR, AT(entered)
    MSR SFMASK, 0x300
    HERE_AT entered
    USER64 .u3, UCODE64, 0x202
.u3:
    mov ss, [abs SCRATCH]
    syscall
    bits 32
    END "syscall"
;>   cs=00000040
    SHOW "cs", [f_cs]
;>   dr6=00000001
    SHOW_DR6
;> int n of 64-bit code: #01(0000)+00
    PROBE
    BREAK 0, SCRATCH, B_RW, 1
    LONG
    HERE_AT stubs64 + 0x80 * 16
    USER64 .u4, UCODE64, 0x202
.u4:
    mov ss, [abs SCRATCH]
    int 0x80
    bits 32
    END "int n of 64-bit code"
;>   cs=00000040
    SHOW "cs", [f_cs]
;> a step in the shadow, and syscall whose mask has TF: #80(0000)+00
    PROBE
    LONG
    MSR EFER, 0x901
    MSR STAR, 0, CODE64 | (UCODE32 & ~3) << 16
    MSR LSTAR, AT(entered)
    MSR SFMASK, 0x300
    USER64 .u5, UCODE64, 0x302
.u5:
    mov ss, [abs SCRATCH]
    syscall
    HERE_AT entered.behind
    bits 32
    END "a step in the shadow, and syscall whose mask has TF"
    ret

just_return:
    iretd
entered:
    int 0x80
.behind:
