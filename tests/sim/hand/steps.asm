; Single steps and breakpoints where one instruction is many or leads elsewhere: strings, system calls, RF as it is saved, DR6 and DR7,
; the bytes that a breakpoint covers (SDM vol. 3B, 18.2, 18.3).
%include "lib.inc"
%include "long.inc"
%include "debug.inc"

; STEPPED: as TRACE, counting the traps that saved RF too.
%macro STEPPED 0
    mov dword [traps], 0
    mov dword [resumed], 0
    mov dword [hook], count_rf
    push dword 0x102
    popfd
%endmacro
%macro SHOW_STEPS 0
    SHOW "traps", [traps]
    SHOW "with RF", [resumed]
%endmacro
; LENGTH code: which bytes from -4 to 11 around SCRATCH a breakpoint at SCRATCH + 3 covers, by stores of one byte and of four.
%macro LENGTH 1
    BREAK 0, SCRATCH + 3, B_WRITE, %1
    call find_covered
    xor eax, eax
    mov dr7, eax
    SHOW "bytes", [covered]
    SHOW "dwords", [covered + 4]
%endmacro
; SYSCALL leads to %1, and clears the flags %2.
%macro CALLS 2
    MSR EFER, 0x901
    MSR STAR, 0, CODE64 | (UCODE32 & ~3) << 16
    MSR LSTAR, AT(%1)
    MSR SFMASK, %2
%endmacro

test_main:
    call long_tables
    xor eax, eax
    mov dr7, eax

; Strings: a trap after each iteration, and RF saved after each but the last (18.3.1.1).
;> rep movsb: ok
    PROBE
    mov esi, SCRATCH
    mov edi, SCRATCH + 0x100
    mov ecx, 5
    STEPPED
    rep movsb
    UNTRACE
    END "rep movsb"
;>   traps=00000007
;>   with RF=00000004
    SHOW_STEPS
;> no times: ok
    PROBE
    xor ecx, ecx
    STEPPED
    rep movsb
    UNTRACE
    END "no times"
;>   traps=00000003
;>   with RF=00000000
    SHOW_STEPS
;> repe cmpsb that ends early: ok
    PROBE
    mov dword [SCRATCH], 0x04030201
    mov dword [SCRATCH + 4], 0x09030201
    mov esi, SCRATCH
    mov edi, SCRATCH + 4
    mov ecx, 8
    STEPPED
    repe cmpsb
    UNTRACE
    END "repe cmpsb that ends early"
;>   traps=00000006
;>   with RF=00000003
    SHOW_STEPS
;>   left=00000004
    SHOW "left", ecx
;> a fault in the middle: #0d(0000)+00
    PROBE
    DESCRIPTOR SPARE, SCRATCH, 2, R_DATA, BIG
    mov dword [traps], 0
    mov dword [hook], count_until_fault
    mov eax, SPARE
    mov es, eax
    xor edi, edi
    mov ecx, 8
    push dword 0x102
    popfd
    HERE
    rep stosb
    UNTRACE
    END "a fault in the middle"
;>   traps=00000003
    SHOW "traps", [traps]
;>   left=00000005
    SHOW "left", [r_ecx]
    mov eax, [f_flags]
    and eax, 0x10100
;>   flags=00010100
    SHOW "flags", eax
;> a code breakpoint at a string instruction lets it go on: ok
    PROBE
    mov dword [traps], 0
    mov dword [hook], pass_code
    BREAK 0, .string, B_EXEC, 0
    mov edi, SCRATCH
    mov ecx, 6
    push dword 0x102
    popfd
.string:
    rep stosb
    UNTRACE
    xor eax, eax
    mov dr7, eax
    END "a code breakpoint at a string instruction lets it go on"
;>   traps=00000009
    SHOW "traps", [traps]
;> a port breakpoint in the middle: #01(0000)+fe
    PROBE
    mov eax, cr4
    or eax, 8
    mov cr4, eax
    BREAK 1, 0x84, B_PORT, 0
    mov edx, 0x84
    mov edi, SCRATCH
    mov ecx, 3
    rep insb
    HERE
    nop
    END "a port breakpoint in the middle"
;>   left=00000002
    SHOW "left", [r_ecx]
;>   dr6=00000002
    SHOW_DR6
    mov eax, [f_flags]
    and eax, 0x10000
;>   rf=00010000
    SHOW "rf", eax
    mov eax, cr4
    and eax, ~8
    mov cr4, eax

; What is saved of RF, and what DR6 and DR7 become.
;> int1: #01(0000)+00
    PROBE
    db 0xf1
    HERE
    END "int1"
;>   dr6=00000000
    SHOW_DR6
    mov eax, [f_flags]
    and eax, 0x10000
;>   rf=00000000
    SHOW "rf", eax
;> int1 swallows the step: ok
    PROBE
    TRACE
    db 0xf1
    UNTRACE
    END "int1 swallows the step"
;>   traps=00000003
    SHOW "traps", [traps]
;> a code breakpoint saves RF as it was: #01(0000)+00
    PROBE
    BREAK 0, %$here, B_EXEC, 0
    HERE
    nop
    END "a code breakpoint saves RF as it was"
    mov eax, [f_flags]
    and eax, 0x10000
;>   rf=00000000
    SHOW "rf", eax
;> general detect is a fault like others: #01(0000)+00
    PROBE
    mov eax, 0x2400
    mov dr7, eax
    HERE
    mov eax, dr6
    END "general detect is a fault like others"
;>   dr6=00002000
    SHOW_DR6
    mov eax, [f_flags]
    and eax, 0x10000
;>   rf=00010000
    SHOW "rf", eax
; The handler reads DR6 with the flag cleared.
;> a step clears general detect: #01(0000)+00
    PROBE
    mov dword [hook], see_dr7
    mov eax, 0x2400
    mov dr7, eax
    push dword 0x102
    popfd
    nop
    HERE
    nop
    END "a step clears general detect"
;>   dr6=00004000
    SHOW_DR6
;>   dr7=00000400
    SHOW "dr7", [resumed]
;> two breakpoints at one place, one not enabled: #01(0000)+00
    PROBE
    mov eax, SCRATCH
    mov dr1, eax
    mov dr2, eax
    mov dr3, eax
    mov eax, 0x400 | 0x88 | B_WRITE << 20 | B_WRITE << 24 | B_WRITE << 28
    mov dr7, eax
    mov [SCRATCH], al
    HERE
    nop
    END "two breakpoints at one place, one not enabled"
    mov eax, [f_dr6]
    and eax, 0xe00b
;>   dr6=0000000a
    SHOW "dr6", eax
;> enabled for the task alone: #01(0000)+00
    PROBE
    mov eax, SCRATCH
    mov dr1, eax
    mov eax, 0x704 | B_WRITE << 20
    mov dr7, eax
    mov [SCRATCH], al
    HERE
    nop
    END "enabled for the task alone"
;> a switch of tasks ends what is enabled for the task: ok
    PROBE
    DESCRIPTOR SPARE, AT(other), 0x67, 0x89, 0
    mov dword [other + 0x20], .there
    mov dword [other + 0x24], 2
    mov dword [other + 0x38], STACK - 0x2000
    mov dword [other + 0x48], DATA
    mov dword [other + 0x4c], CODE
    mov dword [other + 0x50], DATA
    mov dword [other + 0x54], DATA
    mov word [other + 0x64], 0
    mov eax, 0x400 | 0xff | 0x11110000
    mov dr7, eax
    jmp SPARE:0
    jmp .back
.there:
    mov ecx, dr7
    xor eax, eax
    mov dr7, eax
    clts
    jmp TSS:0
.back:
    END "a switch of tasks ends what is enabled for the task"
;>   dr7=111104aa
    SHOW "dr7", [other + 0x2c]
;> the trap of a task: #01(0000)+00
    PROBE
    DESCRIPTOR SPARE, AT(other), 0x67, 0x89, 0
    mov dword [other + 0x20], .trapped
    mov word [other + 0x64], 1
    HERE_AT .trapped
    jmp SPARE:0
.trapped:
    nop
    END "the trap of a task"
    clts
    call reset_tss
;>   dr6=00008000
    SHOW_DR6
;> what DR7 keeps: ok
    PROBE
    xor eax, eax
    mov dr7, eax
    mov ecx, dr7
    END "what DR7 keeps"
;>   none=00000400
    SHOW "none", ecx

; Code that has run often meets what is set later, and no more when it is taken away.
;> a data breakpoint under warm code: ok
    PROBE
    mov dword [traps], 0
    mov dword [hook], count
    mov ecx, 60
.warm:
    mov [SCRATCH], ecx
    cmp ecx, 40
    jne .on
    BREAK 0, SCRATCH, B_WRITE, 3
.on:
    cmp ecx, 15
    jne .off
    mov eax, 0x400
    mov dr7, eax
.off:
    loop .warm
    END "a data breakpoint under warm code"
;>   traps=00000019
    SHOW "traps", [traps]
;> a code breakpoint under warm code: ok
    PROBE
    mov dword [traps], 0
    mov dword [hook], pass_code
    mov ecx, 60
.again:
    cmp ecx, 40
    jne .set
    BREAK 0, .place, B_EXEC, 0
.set:
.place:
    nop
    cmp ecx, 15
    jne .kept
    mov eax, 0x400
    mov dr7, eax
.kept:
    loop .again
    END "a code breakpoint under warm code"
;>   traps=0000001a
    SHOW "traps", [traps]
;> steps through warm code: ok
    PROBE
    mov dword [traps], 0
    mov dword [hook], count
    mov ecx, 60
.round:
    push dword 2
    cmp ecx, 40
    jne .plain
    or dword [esp], 0x100
.plain:
    popfd
    inc eax
    inc ebx
    loop .round
    END "steps through warm code"
;>   traps=00000007
    SHOW "traps", [traps]

; The bytes that a breakpoint covers: the address is that of the last, cut to the length.
;> length 1: ok
    PROBE
    END "length 1"
;>   bytes=00000080
;>   dwords=000000f0
    LENGTH 0
;> length 2: ok
    PROBE
    END "length 2"
;>   bytes=000000c0
;>   dwords=000000f8
    LENGTH 1
;> length 4: ok
    PROBE
    END "length 4"
;>   bytes=000000f0
;>   dwords=000000fe
    LENGTH 3
;> length 8: ok
    PROBE
    END "length 8"
;>   bytes=00000ff0
;>   dwords=00000ffe
    LENGTH 2
;> at the end of the address space: #01(0000)+00
    PROBE
    mov dword [PML4 + 511 * 8], AT(top) + 3
    mov dword [top + 511 * 8], AT(top_directory) + 3
    mov dword [top_directory + 511 * 8], 0x83
    LONG
    mov rax, -8
    mov dr0, rax
    mov eax, 0x402 | B_WRITE << 16 | 2 << 18
    mov dr7, rax
    mov rbx, -5
    mov dword [rbx - 8], 0
    mov byte [rbx], 0
    HERE
    nop
    LEGACY
    END "at the end of the address space"
;>   dr6=00000001
    SHOW_DR6

; System calls. Whether SYSCALL and SYSRET trap is decided by TF as they leave it, so that a kernel that masks TF is not stepped into,
; and a program finds its trap right behind its SYSCALL. No manual says so, but kernels count on it, and QEMU does it too.
;> syscall whose mask has TF, sysret that brings it back: #01(0000)+00
    PROBE
    LONG
    CALLS target, 0x100
    USER64 .user1, UCODE64, 0x302
.user1:
    syscall
    HERE
    nop
    int 0x80
    bits 32
    END "syscall whose mask has TF, sysret that brings it back"
;>   cs=00000073
    SHOW "cs", [f_cs]
;>   dr6=00004000
    SHOW_DR6
;> syscall whose mask leaves TF: #01(0000)+00
    PROBE
    LONG
    CALLS target, 0
    USER64 .user2, UCODE64, 0x302
.user2:
    syscall
    HERE_AT target
    bits 32
    END "syscall whose mask leaves TF"
;>   cs=00000040
    SHOW "cs", [f_cs]
;> sysret that sets TF: #01(0000)+00
    PROBE
    LONG
    CALLS target, 0
    mov ecx, .user3
    mov r11d, 0x102
    o64 sysret
.user3:
    HERE
    nop
    int 0x80
    bits 32
    END "sysret that sets TF"
;> sysret to compatibility code that sets TF: #01(0000)+00
    PROBE
    LONG
    CALLS target, 0
    mov ecx, .user4
    mov r11d, 0x102
    sysret
    bits 32
.user4:
    HERE
    nop
    int 0x80
    END "sysret to compatibility code that sets TF"
;> sysenter leaves TF: #01(0000)+00
    PROBE
    LONG
    ENTRY AT(target), KSTACK, CODE64
    USER64 .user5, UCODE64, 0x302
.user5:
    sysenter
    HERE_AT target
    bits 32
    END "sysenter leaves TF"
;>   cs=00000040
    SHOW "cs", [f_cs]
;> iretq that sets TF: #01(0000)+00
    PROBE
    LONG
    USER64 .user6, UCODE64, 0x302
.user6:
    nop
    HERE
    nop
    int 0x80
    bits 32
    END "iretq that sets TF"
;> popfq that sets TF: #01(0000)+00
    PROBE
    LONG
    push 0x102
    popfq
    nop
    HERE
    nop
    LEGACY
    END "popfq that sets TF"
;> rep movsq: #80(0000)+00
    PROBE
    LONG
    mov dword [abs hook64], count64
    mov dword [abs traps], 0
    mov dword [abs resumed], 0
    mov esi, SCRATCH
    mov edi, SCRATCH + 0x100
    mov ecx, 5
    push 0x102
    popfq
    rep movsq
    int 0x80
    HERE
    bits 32
    END "rep movsq"
;>   traps=00000005
;>   with RF=00000004
    SHOW_STEPS
    ret

just_return:
    iretd
; Counts, and what has RF, and goes on.
count_rf:
    bt dword [esp + 16], 16
    adc dword [resumed], 0
    jmp count
count_until_fault:
    cmp dword [f_vector], 1
    jne arrive.end_probe
    jmp count
; Counts; a code breakpoint is left behind by RF.
pass_code:
    inc dword [traps]
    test byte [f_dr6], 1
    jz .step
    or dword [esp + 16], 1 << 16
    mov eax, 0xffff0ff0
    mov dr6, eax
.step:
    jmp resume
; Notes DR7, ends the probe.
see_dr7:
    mov eax, dr7
    mov [resumed], eax
    jmp arrive.end_probe
mark:
    mov byte [marked], 1
    jmp resume

; Bit n of `covered` for a byte at SCRATCH - 4 + n, of the next word for four bytes from there on.
find_covered:
    mov dword [hook], mark
    mov dword [covered], 0
    mov dword [covered + 4], 0
    xor ecx, ecx
.next:
    mov byte [marked], 0
    mov [SCRATCH - 4 + ecx], al
    movzx ebx, byte [marked]
    shl ebx, cl
    or [covered], ebx
    mov byte [marked], 0
    mov [SCRATCH - 4 + ecx], eax
    movzx ebx, byte [marked]
    shl ebx, cl
    or [covered + 4], ebx
    inc ecx
    cmp ecx, 16
    jne .next
    ret

    bits 64
target:
    o64 sysret
count64:
    cmp dword [rsp], 1
    jne arrive64.end
    inc dword [abs traps]
    bt dword [rsp + 32], 16
    adc dword [abs resumed], 0
    jmp resume64
    bits 32

    align 4096
resumed: dd 0
marked: dd 0
covered: dd 0, 0
    align 4096
other:  times 0x68 db 0
    align 4096
top:    times 512 dq 0
top_directory: times 512 dq 0
