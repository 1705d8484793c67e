; Task switches by jump, call, gate, interrupt and return, with 32- and 16-bit TSSs (SDM vol. 3A, chapter 8).
%include "lib.inc"

OTHER   equ FREE                ; a 32-bit TSS
SMALL   equ FREE2               ; a 16-bit TSS
GATE1   equ FREE3               ; a task gate to OTHER

; NEW_TASK tss, eip: what a 32-bit TSS holds at first.
%macro NEW_TASK 2
    mov esi, %1
    mov ecx, %2
    call make_task
%endmacro

test_main:
;> jump to a task and back: ok
    PROBE
    NEW_TASK other, .jumped
    mov ebx, 0x1234
    jmp OTHER:0
    jmp .back
.jumped:
    mov edx, [gdt + TSS + 4]
    mov ecx, [gdt + OTHER + 4]
    str eax
    mov [other_saw], eax
    mov [other_saw + 4], ecx
    mov [other_saw + 8], edx
    pushfd
    pop dword [other_saw + 12]
    mov eax, cr0
    mov [other_saw + 16], eax
    clts
    mov ebx, 0x5678
    jmp TSS:0
.back:
    mov ecx, ebx
    END "jump to a task and back"
;>   ebx=00001234
    SHOW "ebx", ecx
;>   tr=00000040
    SHOW "tr", [other_saw]
    movzx eax, byte [other_saw + 5]
;>   new task's type=0000008b
    SHOW "new task's type", eax
    movzx eax, byte [other_saw + 9]
;>   old task's type=00000089
    SHOW "old task's type", eax
;>   flags=00000002
    SHOW "flags", [other_saw + 12]
    mov eax, [other_saw + 16]
    and eax, 8
;>   ts=00000008
    SHOW "ts", eax
;>   saved ebx=00005678
    SHOW "saved ebx", [other + 0x34]
;> call a task, which returns: ok
    PROBE
    NEW_TASK other, .called
    call OTHER:0
    jmp .returned
.called:
    pushfd
    pop dword [other_saw]
    movzx eax, word [other]
    mov [other_saw + 4], eax
    movzx eax, byte [gdt + TSS + 5]
    mov [other_saw + 8], eax
    iretd
.returned:
    movzx ecx, byte [gdt + OTHER + 5]
    mov edx, [other + 0x24]
    pushfd
    pop ebx
    END "call a task, which returns"
;>   nt inside=00004002
    SHOW "nt inside", [other_saw]
;>   back link=00000028
    SHOW "back link", [other_saw + 4]
;>   caller's type=0000008b
    SHOW "caller's type", [other_saw + 8]
;>   type after=00000089
    SHOW "type after", ecx
;>   saved flags=00000002
    SHOW "saved flags", edx
;>   flags=00000046
    SHOW "flags", ebx
;> a task that returned goes on: ok
    PROBE
    NEW_TASK other, .again
    xor edi, edi
    call OTHER:0
    call OTHER:0
    jmp .twice
.again:
    inc dword [SCRATCH]
    iretd
    inc dword [SCRATCH + 4]
    iretd
.twice:
    mov ecx, [SCRATCH]
    mov edx, [SCRATCH + 4]
    mov dword [SCRATCH], 0
    mov dword [SCRATCH + 4], 0
    END "a task that returned goes on"
;>   first=00000001
    SHOW "first", ecx
;>   second=00000001
    SHOW "second", edx
;> call through a task gate: ok
    PROBE
    NEW_TASK other, .gated
    mov dword [gdt + GATE1], OTHER << 16
    mov dword [gdt + GATE1 + 4], 0x8500
    call GATE1:0
    jmp .ungated
.gated:
    str ecx
    mov [other_saw], ecx
    iretd
.ungated:
    END "call through a task gate"
;>   tr=00000040
    SHOW "tr", [other_saw]
;> an interrupt through a task gate: ok
    PROBE
    NEW_TASK other, .interrupted
    mov dword [idt + 0x54 * 8], OTHER << 16
    mov dword [idt + 0x54 * 8 + 4], 0x8500
    int 0x54
.next:
    jmp .resumed
.interrupted:
    mov eax, [tss + 0x20]
    mov [other_saw], eax
    iretd
.resumed:
    mov ecx, [other_saw]
    sub ecx, .next
    END "an interrupt through a task gate"
;>   saved eip=00000000
    SHOW "saved eip", ecx
;> a fault through a task gate has its code: ok
    PROBE
    NEW_TASK other, .faulted
    mov eax, [idt + 13 * 8]
    mov [saved_gate], eax
    mov eax, [idt + 13 * 8 + 4]
    mov [saved_gate + 4], eax
    mov dword [idt + 13 * 8], OTHER << 16
    mov dword [idt + 13 * 8 + 4], 0x8500
    mov eax, 0xfff8
.faulter:
    mov ds, eax
.after:
    jmp .handled
.faulted:
    pop dword [other_saw]
    mov eax, [tss + 0x20]
    mov [other_saw + 4], eax
    mov dword [tss + 0x20], .after
    iretd
.handled:
    mov eax, [saved_gate]
    mov [idt + 13 * 8], eax
    mov eax, [saved_gate + 4]
    mov [idt + 13 * 8 + 4], eax
    mov ecx, [other_saw + 4]
    sub ecx, .faulter
    END "a fault through a task gate has its code"
;>   code=0000fff8
    SHOW "code", [other_saw]
;>   eip=00000000
    SHOW "eip", ecx

;> a 16-bit task: ok
    PROBE
    call make_small
    mov eax, 0xaaaabbbb
    call SMALL:0
    mov ecx, [small + 0x12]
    END "a 16-bit task"
;>   ax inside=00001111
    movzx eax, word [SCRATCH + 0x10]
    SHOW "ax inside", eax
;>   sp inside=00008000
    movzx eax, word [SCRATCH + 0x14]
    SHOW "sp inside", eax
;>   saved ax=00002222
    movzx ecx, cx
    SHOW "saved ax", ecx

;> jump to a busy task: #0d(0028)+00
    PROBE
    HERE
    jmp TSS:0
    END "jump to a busy task"
;> jump to an absent task: #0b(0040)+00
    PROBE
    NEW_TASK other, 0
    and byte [gdt + OTHER + 5], 0x7f
    HERE
    jmp OTHER:0
    END "jump to an absent task"
;> jump to a short task: #0a(0040)+00
    PROBE
    NEW_TASK other, 0
    mov byte [gdt + OTHER], 0x66
    HERE
    jmp OTHER:0
    END "jump to a short task"
;> return to an idle task: #0a(0040)+00
    PROBE
    NEW_TASK other, 0
    mov word [tss], OTHER
    push dword 0x4002
    popfd
    HERE
    iretd
    END "return to an idle task"
;> ltr of a busy task: #0d(0028)+00
    PROBE
    mov eax, TSS
    HERE
    ltr ax
    END "ltr of a busy task"
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

make_small:
    mov edi, small
    mov ecx, 0x2c
    xor eax, eax
    rep stosb
    DESCRIPTOR SMALL, AT(small), 0x2b, 0x81, 0
    DESCRIPTOR FREE4, AT(small_code), 0xffff, R_CODE, 0
    mov word [small + 0x10], 2
    mov word [small + 0x12], 0x1111
    mov word [small + 0x1a], 0x8000
    mov word [small + 0x22], DATA
    mov word [small + 0x24], FREE4
    mov word [small + 0x26], DATA
    mov word [small + 0x28], DATA
    ret

    bits 16
small_code:
    mov [dword SCRATCH + 0x10], eax
    mov [dword SCRATCH + 0x14], esp
    mov ax, 0x2222
    iretw
    bits 32

    align 4096
other:      times 0x68 db 0
small:      times 0x2c db 0
    align 8
other_saw:  times 8 dd 0
saved_gate: dq 0
    align 4096
