; Virtual-8086 mode, its extensions (CR4.VME) and protected-mode virtual interrupts (CR4.PVI) (SDM vol. 3B, chapter 21).
%include "lib.inc"

; Virtual-8086 code is copied to 2000:0000, its stack is 3000:1000.
VCODE   equ 0x2000
VSTACK  equ 0x3000
VIF     equ 1 << 19
VIP     equ 1 << 20

; V86 label, flags: enters the code between the label and `label_end` in virtual-8086 mode.
%macro V86 2
    mov esi, %1
    mov edi, VCODE * 16
    mov ecx, %1_end - %1
    rep movsb
    push dword 0x6666           ; GS, FS, DS, ES
    push dword 0x5555
    push dword 0x2000
    push dword 0x4444
    push dword VSTACK
    push dword 0x1000
    push dword (%2) | 1 << 17
    push dword VCODE
    push dword 0
    iretd
%endmacro

; Where in the virtual-8086 code the exception came.
%macro AT_V86 0
    %define %$placed
    %$here equ VBASE
%endmacro
VBASE   equ 0

%macro VME 1
    mov eax, cr4
    and eax, ~3
    or eax, %1
    mov cr4, eax
%endmacro

test_main:
    VME 0
;> int with IOPL 3: #80(0000)+06
    PROBE
    AT_V86
    V86 plain, 0x3202
    END "int with IOPL 3"
;>   flags=00023202
    SHOW "flags", [f_flags]
;>   cs=00002000
    SHOW "cs", [f_cs]
;>   ss=00003000
    SHOW "ss", [f_ss]
;>   esp=00000ffe
    SHOW "esp", [f_esp]
    mov eax, [f_frame]
    mov ecx, [eax + 28]
    mov edx, [eax + 36]
;>   es=00004444
    SHOW "es", ecx
;>   fs=00005555
    SHOW "fs", edx
    movzx ecx, word [VSTACK * 16 + 0xffe]
;>   pushed=00002000
    SHOW "pushed", ecx
;>   ax=00001234
    SHOW "ax", [r_eax]
;> int with IOPL 0: #0d(0000)+04
    PROBE
    AT_V86
    V86 plain, 0x202
    END "int with IOPL 0"
;> int3 with IOPL 0: #03(0000)+01
    PROBE
    AT_V86
    V86 trap3, 0x202
    END "int3 with IOPL 0"
;> hlt: #0d(0000)+00
    PROBE
    AT_V86
    V86 halt, 0x3202
    END "hlt"
;> lldt: #06(0000)+00
    PROBE
    AT_V86
    V86 system, 0x3202
    END "lldt"
;> cli with IOPL 0: #0d(0000)+00
    PROBE
    AT_V86
    V86 interrupts, 0x202
    END "cli with IOPL 0"
;> pushf with IOPL 0: #0d(0000)+00
    PROBE
    AT_V86
    V86 flags16, 0x202
    END "pushf with IOPL 0"
;> cli and sti with IOPL 3: #80(0000)+08
    PROBE
    AT_V86
    V86 interrupts, 0x3002
    END "cli and sti with IOPL 3"
;>   after cli=00003002
    SHOW "after cli", [r_ebx]
;>   after sti=00003202
    SHOW "after sti", [r_ecx]
;> beyond 64 KiB: #0d(0000)+06
;q> beyond 64 KiB: #80(0000)+0a
    PROBE
    AT_V86
    V86 limit, 0x3202
    END "beyond 64 KiB"
;> a port that the bitmap forbids, IOPL 3: #0d(0000)+02
    PROBE
    AT_V86
    V86 port, 0x3202
    END "a port that the bitmap forbids, IOPL 3"
;> iret with IOPL 3: #80(0000)+08
    PROBE
    AT_V86
    V86 return, 0x3202
    END "iret with IOPL 3"
;>   flags=00023002
    SHOW "flags", [f_flags]
    ret

    bits 16
plain:
    mov ax, 0x1234
    push cs
    int 0x80
    nop
plain_end:
trap3:
    int3
trap3_end:
halt:
    hlt
halt_end:
system:
    lldt ax
system_end:
interrupts:
    cli
    pushf
    pop bx
    sti
    pushf
    pop cx
    int 0x80
interrupts_end:
flags16:
    pushf
    int 0x80
flags16_end:
limit:
    mov bx, 0xffff
    mov al, [bx]
    nop
    mov ax, [bx]
    int 0x80
limit_end:
port:
    in al, 0x80
    in al, 0x60
port_end:
return:
    push word 0x0002
    push cs
    push word 6
    iret
    int 0x80
return_end:
    bits 32
