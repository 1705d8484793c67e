; Faults in loading a new task's segments, which belong to the new task (SDM vol. 3A, 8.3, table 8-1), and its T bit. A bad stack or LDT
; leaves the handler without a stack, unless that is a task too.
%include "lib.inc"

OTHER   equ FREE                ; a 32-bit TSS

; NEW_TASK tss, eip: what a 32-bit TSS holds at first.
%macro NEW_TASK 2
    mov esi, %1
    mov ecx, %2
    call make_task
%endmacro

test_main:
;> bad data segment of a task: #0a(fff8)+00
    PROBE
    NEW_TASK other, %$here
    mov word [other + 0x54], 0xfff8
    jmp OTHER:0
    HERE
    nop
    END "bad data segment of a task"
    call reset_tss
;> absent code segment of a task: #0b(0070)+00
    PROBE
    NEW_TASK other, %$here
    DESCRIPTOR FREE7, 0, 0xfffff, R_CODE & 0x7f, BIG | PAGES
    mov word [other + 0x4c], FREE7
    jmp OTHER:0
    HERE
    nop
    END "absent code segment of a task"
    call reset_tss
;> the T bit: #01(0000)+00
    PROBE
    NEW_TASK other, %$here
    mov byte [other + 0x64], 1
    jmp OTHER:0
    HERE
    nop
    END "the T bit"
    mov eax, [f_dr6]
    and eax, 0xe00f
;>   dr6=00008000
    SHOW "dr6", eax
    call reset_tss
    clts
    ret

; A TSS at ESI that starts at ECX in ring 0, and its descriptor.
make_task:
    push ecx
    mov edi, esi
    mov ecx, 0x68
    xor eax, eax
    rep stosb
    pop dword [esi + 0x20]
    mov dword [esi + 0x24], 2
    mov dword [esi + 0x38], 0x60000
    mov dword [esi + 0x48], DATA
    mov dword [esi + 0x4c], CODE
    mov dword [esi + 0x50], DATA
    mov dword [esi + 0x54], DATA
    mov dword [esi + 0x58], DATA
    mov dword [esi + 0x5c], DATA
    DESCRIPTOR OTHER, AT(other), 0x67, 0x89, 0
    ret

    align 4096
other:      times 0x68 db 0
    align 4096
