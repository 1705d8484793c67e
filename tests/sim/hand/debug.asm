; Single steps, hardware breakpoints, RF, and what holds traps off (SDM vol. 3B, 18.2, 18.3; vol. 3A, 6.8.3).
%include "lib.inc"
%include "debug.inc"

test_main:
    xor eax, eax
    mov dr7, eax
;> single step: #01(0000)+00
    PROBE
    push dword 0x102
    popfd
    nop
    HERE
    nop
    END "single step"
;>   dr6=00004000
    SHOW_DR6
;>   flags=00000102
    SHOW "flags", [f_flags]
;> steps: ok
    PROBE
    TRACE
    nop
    inc eax
    push eax
    pop eax
    UNTRACE
    END "steps"
;>   traps=00000006
    SHOW "traps", [traps]
;> a load of SS holds the trap off: ok
    PROBE
    mov ecx, DATA
    TRACE
    nop
    mov ss, ecx
    nop
    nop
    UNTRACE
    END "a load of SS holds the trap off"
;>   traps=00000005
    SHOW "traps", [traps]
;> each iteration of a string instruction is a step: ok
    PROBE
    mov esi, SCRATCH
    mov edi, SCRATCH + 0x100
    mov ecx, 5
    TRACE
    rep movsb
    UNTRACE
    END "each iteration of a string instruction is a step"
;>   traps=00000007
    SHOW "traps", [traps]
;> int n swallows the trap: ok
    PROBE
    GATE idt + 0x55 * 8, CODE, AT(just_return), 0x8e, 0
    TRACE
    int 0x55
    UNTRACE
    END "int n swallows the trap"
;>   traps=00000002
    SHOW "traps", [traps]
;> iret sets TF for the next instruction: #01(0000)+00
    PROBE
    push dword 0x102
    push dword CODE
    push dword .next
    iretd
.next:
    nop
    HERE
    nop
    END "iret sets TF for the next instruction"
;> a fault comes before the trap: #0d(0000)+00
;q> a fault comes before the trap: #01(0000)+06
    PROBE
    xor eax, eax
    mov fs, eax
    push dword 0x102
    popfd
    HERE
    mov al, [fs:0]
    END "a fault comes before the trap"
;> loop traps each time: ok
    PROBE
    mov ecx, 3
    TRACE
.loop:
    loop .loop
    UNTRACE
    END "loop traps each time"
;>   traps=00000005
    SHOW "traps", [traps]
;> call and return trap: ok
    PROBE
    TRACE
    call near_return
    UNTRACE
    END "call and return trap"
;>   traps=00000004
    SHOW "traps", [traps]

;> code breakpoint: #01(0000)+00
    PROBE
    BREAK 0, %$here, B_EXEC, 0
    nop
    HERE
    inc ecx
    END "code breakpoint"
;>   dr6=00000001
    SHOW_DR6
;> code breakpoint that is not enabled: ok
    PROBE
    BREAK 0, %$here, B_EXEC, 0
    mov ebx, 0x400
    mov dr7, ebx
    nop
    HERE
    nop
    END "code breakpoint that is not enabled"
;> RF lets one instruction pass: ok
    PROBE
    mov dword [hook], skip
    mov dword [traps], 0
    BREAK 1, .here, B_EXEC, 0
    mov ecx, 3
.here:
    nop
    loop .here
    END "RF lets one instruction pass"
;>   traps=00000003
    SHOW "traps", [traps]
;> a fault keeps RF: #0d(0000)+00
;q> a fault keeps RF: ok
    PROBE
    BREAK 1, %$here, B_EXEC, 0
    mov dword [hook], once
    xor eax, eax
    mov fs, eax
    HERE
    mov al, [fs:0]
    END "a fault keeps RF"
;>   flags=00010046
;q>   flags=00000046
    SHOW "flags", [f_flags]
;> code breakpoint after a load of SS: ok
;q> code breakpoint after a load of SS: #01(0000)+00
    PROBE
    BREAK 0, %$here, B_EXEC, 0
    mov ecx, DATA
    mov ss, ecx
    HERE
    nop
    nop
    END "code breakpoint after a load of SS"

;> data breakpoint on a write: #01(0000)+00
    PROBE
    BREAK 2, SCRATCH, B_WRITE, 3
    mov eax, [SCRATCH]
    mov [SCRATCH + 4], eax
    mov [SCRATCH + 3], al
    HERE
    nop
    END "data breakpoint on a write"
;>   dr6=00000004
    SHOW_DR6
;> data breakpoint on a read: #01(0000)+00
    PROBE
    BREAK 3, SCRATCH + 8, B_RW, 0
    mov eax, [SCRATCH + 4]
    mov eax, [SCRATCH + 6]
    HERE
    nop
    END "data breakpoint on a read"
;>   dr6=00000008
    SHOW_DR6
;> data breakpoint on a push: #01(0000)+00
    PROBE
    lea ebx, [esp - 4]
    BREAK 0, ebx, B_WRITE, 3
    push ecx
    HERE
    nop
    END "data breakpoint on a push"
;> data breakpoint on a pop: #01(0000)+00
;q> data breakpoint on a pop: #01(0000)+fe
    PROBE
    push ecx
    BREAK 0, esp, B_RW, 3
    pop ecx
    HERE
    nop
    END "data breakpoint on a pop"
;> data breakpoint on pusha: #01(0000)+00
    PROBE
    lea ebx, [esp - 20]
    BREAK 0, ebx, B_WRITE, 3
    pushad
    HERE
    nop
    END "data breakpoint on pusha"
;> data breakpoint on a read-modify-write: #01(0000)+00
    PROBE
    BREAK 0, SCRATCH, B_WRITE, 3
    lock inc dword [SCRATCH]
    HERE
    nop
    END "data breakpoint on a read-modify-write"
;> data breakpoint within a string instruction: #01(0000)+fe
    PROBE
    BREAK 0, SCRATCH + 0x12, B_WRITE, 0
    mov edi, SCRATCH + 0x10
    mov ecx, 8
    rep stosb
    HERE
    nop
    END "data breakpoint within a string instruction"
;>   left=00000005
    SHOW "left", [r_ecx]
;> data breakpoint of eight bytes over two pages: #01(0000)+00
    PROBE
    BREAK 0, SCRATCH + 0x1000, B_WRITE, 0
    mov dword [SCRATCH + 0xffe], 0x12345678
    HERE
    nop
    END "data breakpoint of eight bytes over two pages"
;> data breakpoint on a load of SS waits: #01(0000)+00
;q> data breakpoint on a load of SS waits: #01(0000)+ff
    PROBE
    mov dword [SCRATCH], DATA
    BREAK 0, SCRATCH, B_RW, 1
    mov ss, [SCRATCH]
    nop
    HERE
    nop
    END "data breakpoint on a load of SS waits"
;>   dr6=00000001
    SHOW_DR6
;> data breakpoint on x87: #01(0000)+00
    PROBE
    fninit
    BREAK 0, SCRATCH + 0x20, B_RW, 0
    fild dword [SCRATCH + 0x1e]
    HERE
    nop
    END "data breakpoint on x87"
;> data breakpoint and a step: #01(0000)+00
;q> data breakpoint and a step: #01(0000)+e8
    PROBE
    BREAK 0, SCRATCH, B_RW, 0
    push dword 0x102
    popfd
    mov eax, [SCRATCH]
    HERE
    nop
    END "data breakpoint and a step"
;>   dr6=00004001
    SHOW_DR6
;> port breakpoint: #01(0000)+00
    PROBE
    mov eax, cr4
    or eax, 8
    mov cr4, eax
    BREAK 1, 0x84, B_PORT, 1
    in al, 0x83
    in al, 0x85
    HERE
    nop
    END "port breakpoint"
;>   dr6=00000002
    SHOW_DR6
;> port breakpoint on a wider access: #01(0000)+00
    PROBE
    BREAK 1, 0x84, B_PORT, 0
    mov edx, 0x82
    in eax, dx
    HERE
    nop
    END "port breakpoint on a wider access"
;> port breakpoint on outs: #01(0000)+00
    PROBE
    BREAK 1, 0x84, B_PORT, 0
    mov edx, 0x84
    mov esi, SCRATCH
    outsb
    HERE
    nop
    END "port breakpoint on outs"
;> port breakpoint without CR4.DE: ok
;q> port breakpoint without CR4.DE: #01(0000)+ff
    PROBE
    mov eax, cr4
    and eax, ~8
    mov cr4, eax
    BREAK 1, 0x84, B_PORT, 0
    in al, 0x84
    nop
    END "port breakpoint without CR4.DE"
    xor eax, eax
    mov dr7, eax

;> dr4 is dr6: ok
    PROBE
    mov eax, 0xffff4ff1
    mov dr4, eax
    mov ecx, dr6
    END "dr4 is dr6"
;>   dr6=ffff4ff1
    SHOW "dr6", ecx
;> dr4 with CR4.DE: #06(0000)+00
    PROBE
    mov eax, cr4
    or eax, 8
    mov cr4, eax
    HERE
    mov eax, dr4
    END "dr4 with CR4.DE"
    mov eax, cr4
    and eax, ~8
    mov cr4, eax
;> general detect: #01(0000)+00
;q> general detect: ok
    PROBE
    mov eax, 0x2400
    mov dr7, eax
    HERE
    mov eax, dr0
    END "general detect"
;>   dr6=00002000
;q>   dr6=00000000
    SHOW_DR6
;> debug registers in ring 3: #0d(0000)+00
    PROBE
    USER .ring3
.ring3:
    HERE
    mov eax, dr0
    END "debug registers in ring 3"
    ret

near_return:
    ret
just_return:
    iretd

; Counts, and lets the instruction at the breakpoint pass.
skip:
    inc dword [traps]
    or dword [esp + 16], 1 << 16
    jmp resume
; Lets the instruction at the breakpoint pass the first time, then ends the probe.
once:
    mov dword [hook], 0
    or dword [esp + 16], 1 << 16
    jmp resume
