; The virtual-8086 mode extensions (CR4.VME) and protected-mode virtual interrupts (CR4.PVI) (SDM vol. 3B, 21.3.3, 21.4).
; QEMU's translator has neither.
%include "lib.inc"

VCODE   equ 0x2000
VSTACK  equ 0x3000
VIF     equ 1 << 19
VIP     equ 1 << 20

%macro V86 2
    mov esi, %1
    mov edi, VCODE * 16
    mov ecx, %1_end - %1
    rep movsb
    push dword 0
    push dword 0
    push dword 0x2000
    push dword 0
    push dword VSTACK
    push dword 0x1000
    push dword (%2) | 1 << 17
    push dword VCODE
    push dword 0
    iretd
%endmacro

; A program of IOPL 0 ends by an INT that is not redirected, so by #GP. Exceptions are at offsets of the virtual-8086 code.
%macro AT_V86 0
    %define %$placed
    %$here equ 0
%endmacro

%macro CR4 1
    mov eax, cr4
    and eax, ~3
    or eax, %1
    mov cr4, eax
%endmacro

test_main:
    CR4 1
;> cli and sti with IOPL 0: #0d(0000)+06
    PROBE
    AT_V86
    V86 interrupts, 0x202
    END "cli and sti with IOPL 0"
;>   after cli=00003002
    SHOW "after cli", [r_ebx]
;>   after sti=00003202
    SHOW "after sti", [r_ecx]
;>   flags=000b0202
    SHOW "flags", [f_flags]
;> sti while one waits: #0d(0000)+03
    PROBE
    AT_V86
    V86 interrupts, 0x202 | VIP
    END "sti while one waits"
;> popf sets VIF: #0d(0000)+04
    PROBE
    AT_V86
    V86 popped, 0x2
    END "popf sets VIF"
;>   flags=000b0002
    SHOW "flags", [f_flags]
;> popf while one waits: #0d(0000)+03
    PROBE
    AT_V86
    V86 popped, 0x2 | VIP
    END "popf while one waits"
;> popf of TF: #0d(0000)+03
    PROBE
    AT_V86
    V86 traced, 0x2
    END "popf of TF"
;> pushfd with IOPL 0: #0d(0000)+00
    PROBE
    AT_V86
    V86 wide, 0x2
    END "pushfd with IOPL 0"
;> iret sets VIF: #0d(0000)+07
    PROBE
    AT_V86
    V86 returned, 0x2
    END "iret sets VIF"
;>   flags=000b0002
    SHOW "flags", [f_flags]

; Interrupt 0x55 is redirected to 2000:0010.
    mov dword [0x55 * 4], VCODE << 16 | 0x10
    mov byte [redirection + 0x55 / 8], ~(1 << (0x55 % 8)) & 0xff
;> int to its own handler, IOPL 0: #0d(0000)+1a
    PROBE
    AT_V86
    V86 own, 0x202 | VIF
    END "int to its own handler, IOPL 0"
;>   pushed flags=00003202
    SHOW "pushed flags", [r_ecx]
;>   pushed ip=00000002
    movzx eax, word [r_edx]
    SHOW "pushed ip", eax
;>   inside=00003002
    SHOW "inside", [r_ebx]
;>   after=000b0202
    SHOW "after", [f_flags]
;> int to its own handler, IOPL 3: #80(0000)+1c
    PROBE
    AT_V86
    V86 own, 0x3202
    END "int to its own handler, IOPL 3"
;>   pushed flags=00003202
    SHOW "pushed flags", [r_ecx]
;>   inside=00003002
    SHOW "inside", [r_ebx]
;> int that is kept, IOPL 0: #0d(0000)+00
    PROBE
    AT_V86
    V86 kept, 0x202
    END "int that is kept, IOPL 0"
;> int that is kept, IOPL 3: #80(0000)+02
    PROBE
    AT_V86
    V86 kept, 0x3202
    END "int that is kept, IOPL 3"
    mov byte [redirection + 0x55 / 8], 0xff

    CR4 2
;> pvi: sti and cli in ring 3: #80(0000)+00
    PROBE
    USER .pvi
.pvi:
    sti
    pushfd
    pop ecx
    cli
    pushfd
    pop edx
    int 0x80
    HERE
    END "pvi: sti and cli in ring 3"
;>   after sti=00080002
    SHOW "after sti", [r_ecx]
;>   after cli=00000002
    SHOW "after cli", [r_edx]
;> pvi: sti while one waits: #0d(0000)+00
    PROBE
    USER .waits, 0x2 | VIP
.waits:
    HERE
    sti
    END "pvi: sti while one waits"
;> pvi does not concern virtual-8086 mode: #0d(0000)+00
    PROBE
    AT_V86
    V86 interrupts, 0x202
    END "pvi does not concern virtual-8086 mode"
    CR4 0
    ret

    bits 16
interrupts:
    cli
    pushf
    pop bx
    sti
    pushf
    pop cx
    int 0x80
interrupts_end:
popped:
    push word 0x202
    popf
    int 0x80
popped_end:
traced:
    push word 0x102
    popf
traced_end:
wide:
    pushfd
wide_end:
returned:
    push word 0x202
    push cs
    push word 7
    iret
    int 0x80
returned_end:
own:
    int 0x55
    int 0x80
    times 0x10 - ($ - own) nop
    pop dx
    pop ax
    pop cx
    push cx
    push ax
    push word 0x1a
    pushf
    pop bx
    iret
    int 0x80
own_end:
kept:
    int 0x80
kept_end:
    bits 32
