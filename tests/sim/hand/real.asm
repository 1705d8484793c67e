; Real-address mode: exceptions through the vectors below 1 KiB, 64 KiB limits, wrapping addresses, the A20 gate, what is not recognised
; there (SDM vol. 3B, 21.1), and limits beyond 64 KiB that protected mode left behind.
%include "lib.inc"
%include "real.inc"

test_main:
;> a word at the limit: #0d(0000)+00
    PROBE
    REAL
    HERE
    mov ax, [0xffff]
    REAL_END
    END "a word at the limit"
;> a word at the limit of the stack: #0c(0000)+00
    PROBE
    REAL
    mov bp, 0xffff
    HERE
    mov ax, [bp]
    REAL_END
    END "a word at the limit of the stack"
;> an offset of 32 bits beyond the limit: #0d(0000)+00
    PROBE
    REAL
    mov ebx, 0x10000
    HERE
    mov al, [ebx]
    REAL_END
    END "an offset of 32 bits beyond the limit"
;> offsets of 16 bits wrap: ok
    PROBE
    REAL
    mov ax, 0x900
    mov ds, ax
    mov byte [1], 0x5a
    mov bx, 0xffff
    mov si, 2
    xor eax, eax
    mov al, [bx + si]
    REAL_END
    END "offsets of 16 bits wrap"
;>   value=0000005a
    SHOW "value", [r_eax]
;> a segment is its selector times sixteen: ok
    PROBE
    REAL
    mov byte [0x9005], 0xa5
    mov ax, 0x8ff
    mov es, ax
    xor eax, eax
    mov al, [es:0x15]
    REAL_END
    END "a segment is its selector times sixteen"
;>   value=000000a5
    SHOW "value", [r_eax]
;> ud2: #06(0000)+00
    PROBE
    REAL
    HERE
    ud2
    REAL_END
    END "ud2"
;> divide by zero: #00(0000)+00
    PROBE
    REAL
    xor cx, cx
    HERE
    div cx
    REAL_END
    END "divide by zero"
;> int n goes by the vectors and clears IF: #31(0000)+00
    PROBE
    REAL
    sti
    int 0x31
    HERE
    REAL_END
    END "int n goes by the vectors and clears IF"
;>   saved if=00000200
    mov eax, [f_flags]
    and eax, 0x200
    SHOW "saved if", eax
;> int3: #03(0000)+00
    PROBE
    REAL
    int3
    HERE
    REAL_END
    END "int3"
;> into: #04(0000)+00
    PROBE
    REAL
    mov al, 0x7f
    inc al
    into
    HERE
    REAL_END
    END "into"
;> bound: #05(0000)+00
    PROBE
    REAL
    mov dword [0x9000], 0x00050001
    mov ax, 6
    HERE
    bound ax, [0x9000]
    REAL_END
    END "bound"
;> a vector beyond the limit: #0d(0000)+00
    PROBE
    REAL
    mov word [0x9000], 0x3f
    mov dword [0x9002], 0
    lidt [0x9000]
    HERE
    int 0x10
    REAL_END
    END "a vector beyond the limit"
;> single step: #01(0000)+00
    PROBE
    REAL
    pushf
    pop ax
    or ah, 1
    push ax
    popf
    nop
    HERE
    nop
    REAL_END
    END "single step"
;> arpl is not recognised: #06(0000)+00
    PROBE
    REAL
    HERE
    arpl ax, bx
    REAL_END
    END "arpl is not recognised"
;> lldt is not recognised: #06(0000)+00
    PROBE
    REAL
    xor ax, ax
    HERE
    lldt ax
    REAL_END
    END "lldt is not recognised"
;> verr is not recognised: #06(0000)+00
    PROBE
    REAL
    HERE
    verr ax
    REAL_END
    END "verr is not recognised"
;> lock before what has no memory: #06(0000)+00
    PROBE
    REAL
    HERE
    db 0xf0
    inc ax
    REAL_END
    END "lock before what has no memory"
;> sixteen bytes: #0d(0000)+00
    PROBE
    REAL
    HERE
    times 15 db 0x2e
    nop
    REAL_END
    END "sixteen bytes"
;> sysenter: #0d(0000)+00
    PROBE
    REAL
    HERE
    sysenter
    REAL_END
    END "sysenter"
;> paging without protection: #0d(0000)+00
    PROBE
    REAL
    mov eax, cr0
    or eax, 1 << 31
    HERE
    mov cr0, eax
    REAL_END
    END "paging without protection"
;> popf sets IOPL and NT: ok
    PROBE
    REAL
    push word 0x7002
    popf
    pushf
    pop ax
    movzx eax, ax
    push word 2
    popf
    REAL_END
    END "popf sets IOPL and NT"
;>   flags=00007002
    SHOW "flags", [r_eax]
;> a far call and its return: ok
    PROBE
    REAL
    mov byte [0x9010], 0xcb
    mov cx, sp
    call 0x901:0
    sub cx, sp
    movzx ecx, cx
    REAL_END
    END "a far call and its return"
;>   sp=00000000
    SHOW "sp", [r_ecx]
;> a string of 16 bits wraps within its segment: ok
    PROBE
    REAL
    mov ax, 0x900
    mov es, ax
    mov di, 0xfffe
    mov cx, 4
    mov al, 0x77
    cld
    rep stosb
    xor eax, eax
    mov ax, [es:0]
    movzx edi, di
    REAL_END
    END "a string of 16 bits wraps within its segment"
;>   at zero=00007777
    SHOW "at zero", [r_eax]
;>   di=00000002
    SHOW "di", [r_edi]
;> the A20 gate: ok
    PROBE
    REAL
    mov ax, 0xffff
    mov fs, ax
    mov byte [0x9500], 0x11
    mov al, [fs:0x9510]
    mov bl, al
    in al, 0x92
    and al, ~2
    out 0x92, al
    mov byte [fs:0x9510], 0x22
    mov cl, [0x9500]
    in al, 0x92
    or al, 2
    out 0x92, al
    mov byte [0x9500], 0x33
    mov dl, [fs:0x9510]
    cmp dl, bl
    sete dl
    movzx ecx, cl
    movzx edx, dl
    REAL_END
    END "the A20 gate"
;>   closed, the same byte=00000022
    SHOW "closed, the same byte", [r_ecx]
;>   open, another one=00000001
    SHOW "open, another one", [r_edx]

;> a limit of 4 GiB stays: ok
    PROBE
    mov dword [SCRATCH], 0x13572468
    mov dword [real_fs], DATA
    REAL
    mov eax, [fs:dword SCRATCH]
    REAL_END
    END "a limit of 4 GiB stays"
;>   value=13572468
    SHOW "value", [r_eax]
;> and a load does not change it: ok
    PROBE
    REAL
    mov ax, 0x10
    mov fs, ax
    mov eax, [fs:dword SCRATCH - 0x100]
    REAL_END
    END "and a load does not change it"
;>   value=13572468
    SHOW "value", [r_eax]
    mov dword [real_fs], DATA16
;> the same limit, got on the way: ok
    PROBE
    REAL
    lgdt [cs:STUB + (low_gdtr - real_stub)]
    mov eax, cr0
    inc ax
    mov cr0, eax
    mov bx, DATA
    mov gs, bx
    dec ax
    mov cr0, eax
    xor bx, bx
    mov gs, bx
    mov eax, [gs:dword SCRATCH]
    REAL_END
    END "the same limit, got on the way"
;>   value=13572468
    SHOW "value", [r_eax]
;> a stack of 32 bits stays one: ok
    PROBE
    mov dword [SCRATCH + 0x1000], 0
    REAL
    lgdt [cs:STUB + (low_gdtr - real_stub)]
    mov eax, cr0
    inc ax
    mov cr0, eax
    mov bx, DATA
    mov ss, bx
    dec ax
    mov cr0, eax
    mov esp, SCRATCH + 0x1004
    mov eax, 0x2468ace0
    push eax
    mov ecx, esp
    xor bx, bx
    mov ss, bx
    mov esp, 0x7000
    REAL_END
    END "a stack of 32 bits stays one"
;>   esp=00201000
    SHOW "esp", [r_ecx]
;>   pushed=2468ace0
    SHOW "pushed", [SCRATCH + 0x1000]
    ret
