; Call, interrupt and trap gates, changes of privilege and the ways back (SDM vol. 3A, 5.8, 6.12, 6.13; vol. 2, CALL, RET, IRET, INT).
%include "lib.inc"

test_main:
;> int n through an interrupt gate: #80(0000)+00
    PROBE
    sti
    int 0x80
    HERE
    END "int n through an interrupt gate"
;>   if=00000200
    mov eax, [f_flags]
    and eax, 0x200
    SHOW "if", eax
;> int n from ring 3: #80(0000)+00
    PROBE
    USER .int80
.int80:
    int 0x80
    HERE
    END "int n from ring 3"
;>   cs=0000001b
    SHOW "cs", [f_cs]
;>   esp=00070000
    SHOW "esp", [f_esp]
;>   ss=00000023
    SHOW "ss", [f_ss]
;>   frame=0007ffe4
    SHOW "frame", [f_frame]
;> int n through a gate of ring 0: #0d(020a)+00
    PROBE
    USER .int41
.int41:
    HERE
    int 0x41
    END "int n through a gate of ring 0"
;> int3 from ring 3: #03(0000)+00
    PROBE
    USER .int3
.int3:
    int3
    HERE
    END "int3 from ring 3"
;> into without overflow: ok
    PROBE
    xor eax, eax
    into
    END "into without overflow"
;> into with overflow, from ring 3: #04(0000)+00
    PROBE
    USER .into
.into:
    mov al, 0x7f
    inc al
    into
    HERE
    END "into with overflow, from ring 3"
;> int1 needs no privilege: #01(0000)+00
;q> int1 needs no privilege: #06(0000)+ff
    PROBE
    USER .int1
.int1:
    db 0xf1
    HERE
    END "int1 needs no privilege"
;> bound: #05(0000)+00
    PROBE
    mov dword [SCRATCH], 5
    mov dword [SCRATCH + 4], 10
    mov eax, 10
    bound eax, [SCRATCH]
    inc eax
    HERE
    bound eax, [SCRATCH]
    END "bound"
;> divide by zero: #00(0000)+00
    PROBE
    xor ecx, ecx
    HERE
    div ecx
    END "divide by zero"
;> quotient too large: #00(0000)+00
    PROBE
    mov eax, 0x80000000
    cdq
    mov ecx, -1
    HERE
    idiv ecx
    END "quotient too large"
;> ud2: #06(0000)+00
    PROBE
    HERE
    ud2
    END "ud2"
;> absent gate: #0b(028a)+00
    PROBE
    and byte [idt + 0x51 * 8 + 5], 0x7f
    HERE
    int 0x51
    END "absent gate"
    or byte [idt + 0x51 * 8 + 5], 0x80
;> no gate at all: #0d(0292)+00
    PROBE
    mov byte [idt + 0x52 * 8 + 5], 0x92
    HERE
    int 0x52
    END "no gate at all"
    mov byte [idt + 0x52 * 8 + 5], 0x8e
;> vector beyond the table: #0d(0402)+00
    PROBE
    mov word [idtr], 0x3ff
    lidt [idtr]
    mov word [idtr], 0x7ff
    HERE
    int 0x80
    END "vector beyond the table"
    lidt [idtr]
;> gate to a data segment: #0d(0010)+00
    PROBE
    mov word [idt + 0x52 * 8 + 2], DATA
    HERE
    int 0x52
    END "gate to a data segment"
;> gate to an absent segment: #0b(0040)+00
    PROBE
    DESCRIPTOR FREE, 0, 0xfffff, R_CODE & 0x7f, BIG | PAGES
    mov word [idt + 0x52 * 8 + 2], FREE
    HERE
    int 0x52
    END "gate to an absent segment"
;> gate to a null selector: #0d(0000)+00
    PROBE
    mov word [idt + 0x52 * 8 + 2], 0
    HERE
    int 0x52
    END "gate to a null selector"
    mov word [idt + 0x52 * 8 + 2], CODE
;> a 16-bit gate pushes words: ok
    PROBE
    DESCRIPTOR FREE2, AT(small16), 0xffff, R_CODE, 0
    GATE idt + 0x53 * 8, FREE2, 0, 0x86, 0
    mov ecx, esp
    int 0x53
after16:
    sub ecx, esp
    END "a 16-bit gate pushes words"
;>   pushed=00000006
    SHOW "pushed", [SCRATCH + 0x100]
;>   left=00000000
    SHOW "left", ecx
;> a trap gate keeps IF: ok
    PROBE
    GATE idt + 0x53 * 8, CODE, AT(.trap), 0x8f, 0
    sti
    int 0x53
    cli
    jmp .trapped
.trap:
    pushfd
    pop ecx
    and ecx, 0x200
    iretd
.trapped:
    END "a trap gate keeps IF"
;>   if=00000200
    SHOW "if", ecx
;> TSS too short for a stack: #0a(0028)+00
    PROBE
    DESCRIPTOR FREE3, 0, 0xfffff, R_CODE | DPL1, BIG | PAGES
    GATE idt + 0x53 * 8, FREE3, AT(return), 0xee, 0
    DESCRIPTOR TSS, AT(tss), 16, 0x89, 0
    mov eax, TSS
    ltr ax
    USER .short
.short:
    HERE
    int 0x53
    END "TSS too short for a stack"
    call reset_tss
;> wrong stack in the TSS: #0a(0020)+00
    PROBE
    mov dword [tss + 0x0c], KSTACK
    mov dword [tss + 0x10], UDATA
    USER .wrong
.wrong:
    HERE
    int 0x53
    END "wrong stack in the TSS"
;> null stack in the TSS: #0a(0000)+00
    PROBE
    mov dword [tss + 0x10], 0
    USER .null
.null:
    HERE
    int 0x53
    END "null stack in the TSS"
; "If stack segment not present, then #SS(error_code(NewSS,0,EXT))": EXT is 0 for INT n (vol. 2A, INT n, inter-privilege-level-interrupt;
; vol. 3A, 6.13). #TS is for one that is of the wrong kind or ring, which is looked at before.
;> absent stack in the TSS: #0c(0038)+00
;q> absent stack in the TSS: #0a(0038)+00
    PROBE
    and byte [gdt + DATA16 + 5], 0x7f
    or byte [gdt + DATA16 + 5], DPL1
    mov dword [tss + 0x10], DATA16 | 1
    USER .absent
.absent:
    HERE
    int 0x53
    END "absent stack in the TSS"
    mov byte [gdt + DATA16 + 5], 0x93

;> call gate to the same ring: ok
    PROBE
    GATE gdt + FREE4, CODE, AT(return), 0x8c, 3
    mov ecx, esp
    call FREE4:0x12345678
    sub ecx, esp
    END "call gate to the same ring"
;>   esp=00000000
    SHOW "esp", ecx
;> call gate inwards with parameters: #80(0000)+00
    PROBE
    GATE gdt + FREE4, CODE, AT(inner), 0xec, 2
    USER .gate
.gate:
    push dword 0x1111
    push dword 0x2222
    mov edi, esp
    call FREE4 | 3:0
    sub edi, esp
    int 0x80
    HERE
    END "call gate inwards with parameters"
;>   first=00001111
    SHOW "first", [r_ebx]
;>   second=00002222
    SHOW "second", [r_edx]
;>   frame=0007ffe8
    SHOW "frame", [r_esi]
;>   released=fffffff8
    SHOW "released", [r_edi]
;>   cs inside=00000008
    SHOW "cs inside", [r_ecx]
;> call gate of a better ring: #0d(0058)+00
    PROBE
    GATE gdt + FREE4, CODE, AT(inner), 0x8c, 0
    USER .private
.private:
    HERE
    call FREE4 | 3:0
    END "call gate of a better ring"
;> absent call gate: #0b(0058)+00
    PROBE
    GATE gdt + FREE4, CODE, AT(inner), 0x0c, 0
    HERE
    call FREE4:0
    END "absent call gate"
;> jump through a gate does not change rings: #0d(0008)+00
    PROBE
    GATE gdt + FREE4, CODE, AT(inner), 0xec, 0
    USER .jump
.jump:
    HERE
    jmp FREE4 | 3:0
    END "jump through a gate does not change rings"
;> gate to a segment outwards: #0d(0018)+00
    PROBE
    GATE gdt + FREE4, 0x18, AT(inner), 0xec, 0
    HERE
    call FREE4:0
    END "gate to a segment outwards"
;> conforming code keeps the ring: #80(0000)+00
    PROBE
    DESCRIPTOR FREE5, 0, 0xfffff, R_CONF, BIG | PAGES
    USER .conform
.conform:
    call FREE5:.inside
    jmp .outside
.inside:
    mov ecx, cs
    retf
.outside:
    int 0x80
    HERE
    END "conforming code keeps the ring"
;>   cs=00000063
    SHOW "cs", [r_ecx]
;> call to better code: #0d(0008)+00
    PROBE
    USER .better
.better:
    HERE
    call CODE:0
    END "call to better code"
;> jump to data: #0d(0010)+00
    PROBE
    HERE
    jmp DATA:0
    END "jump to data"
;> jump to null: #0d(0000)+00
    PROBE
    HERE
    jmp 0:0
    END "jump to null"
;> return outwards drops better segments: #80(0000)+00
    PROBE
    mov eax, DATA
    mov fs, eax
    mov eax, UDATA
    mov gs, eax
    push dword UDATA
    push dword USTACK
    push dword UCODE
    push dword .outer
    retf
.outer:
    mov ecx, fs
    mov edx, gs
    int 0x80
    HERE
    END "return outwards drops better segments"
;>   fs=00000000
    SHOW "fs", [r_ecx]
;>   gs=00000023
    SHOW "gs", [r_edx]
;> return inwards: #0d(0008)+00
    PROBE
    USER .inwards
.inwards:
    push dword CODE
    push dword .inwards
    HERE
    retf
    END "return inwards"
; "If the new SS is not present, then #SS(SS selector)" (vol. 2A, IRET, return-to-outer-privilege-level). #NP is for the code segment.
;> iret to an absent stack: #0c(0068)+00
;q> iret to an absent stack: #0b(0068)+00
    PROBE
    DESCRIPTOR FREE6, 0, 0xfffff, (R_DATA | DPL3) & 0x7f, BIG | PAGES
    push dword FREE6 | 3
    push dword USTACK
    push dword 2
    push dword UCODE
    push dword after16
    HERE
    iretd
    END "iret to an absent stack"
;> iret does not raise privilege of flags: #80(0000)+00
    PROBE
    USER .flags
.flags:
    push dword 0x3202
    push dword UCODE
    push dword .flagged
    iretd
.flagged:
    pushfd
    pop ecx
    int 0x80
    HERE
    END "iret does not raise privilege of flags"
;>   flags=00000002
    SHOW "flags", [r_ecx]
;> popf in ring 3 leaves IF and IOPL: #80(0000)+00
    PROBE
    USER .popf
.popf:
    push dword 0x003032d7
    popfd
    pushfd
    pop ecx
    int 0x80
    HERE
    END "popf in ring 3 leaves IF and IOPL"
;>   flags=002000d7
    SHOW "flags", [r_ecx]
;> popf in ring 3 with IOPL 3 sets IF: #80(0000)+00
    PROBE
    USER .popf3, 0x3002
.popf3:
    push dword 0x202
    popfd
    pushfd
    pop ecx
    int 0x80
    HERE
    END "popf in ring 3 with IOPL 3 sets IF"
;>   flags=00003202
    SHOW "flags", [r_ecx]

;> hlt in ring 3: #0d(0000)+00
    PROBE
    USER .hlt
.hlt:
    HERE
    hlt
    END "hlt in ring 3"
;> cli in ring 3: #0d(0000)+00
    PROBE
    USER .cli
.cli:
    HERE
    cli
    END "cli in ring 3"
;> mov from cr0 in ring 3: #0d(0000)+00
    PROBE
    USER .cr0
.cr0:
    HERE
    mov eax, cr0
    END "mov from cr0 in ring 3"
;> lgdt in ring 3: #0d(0000)+00
    PROBE
    USER .lgdt
.lgdt:
    HERE
    lgdt [gdtr]
    END "lgdt in ring 3"
;> rdmsr in ring 3: #0d(0000)+00
    PROBE
    USER .rdmsr
.rdmsr:
    HERE
    rdmsr
    END "rdmsr in ring 3"
;> a port that the bitmap allows: #80(0000)+00
    PROBE
    USER .port
.port:
    in al, 0x80
    in eax, 0x84
    int 0x80
    HERE
    END "a port that the bitmap allows"
;> a port that it forbids: #0d(0000)+00
    PROBE
    USER .noport
.noport:
    mov edx, 0x3f8
    HERE
    in al, dx
    END "a port that it forbids"
;> ports of which it forbids one: #0d(0000)+00
    PROBE
    USER .mixed
.mixed:
    mov edx, 0x86
    HERE
    in eax, dx
    END "ports of which it forbids one"
;> sgdt in ring 3 with umip: #0d(0000)+00
    PROBE
    mov eax, cr4
    or eax, 1 << 11
    mov cr4, eax
    USER .umip
.umip:
    HERE
    sgdt [SCRATCH]
    END "sgdt in ring 3 with umip"
;> smsw in ring 3 with umip: #0d(0000)+00
    PROBE
    USER .smsw
.smsw:
    HERE
    smsw eax
    END "smsw in ring 3 with umip"
    mov eax, cr4
    and eax, ~(1 << 11)
    mov cr4, eax
;> str in ring 3 without: #80(0000)+00
    PROBE
    USER .str
.str:
    str ecx
    int 0x80
    HERE
    END "str in ring 3 without"
;>   tr=00000028
    SHOW "tr", [r_ecx]
;> sysenter and sysexit: #80(0000)+00
    PROBE
    ENTRY .entered, KSTACK
    USER .enter, 0x202
.enter:
    sysenter
.entered:
    pushfd
    pop ebx
    and ebx, 0x20200
    mov edi, ss
    mov edx, .back
    mov ecx, USTACK
    sysexit
.back:
    mov esi, cs
    int 0x80
    HERE
    END "sysenter and sysexit"
;>   flags=00000000
    SHOW "flags", [r_ebx]
;>   ss=00000010
    SHOW "ss", [r_edi]
;>   cs=0000001b
    SHOW "cs", [r_esi]
;> sysenter without a target: #0d(0000)+00
    PROBE
    mov ecx, 0x174
    xor eax, eax
    xor edx, edx
    wrmsr
    HERE
    sysenter
    END "sysenter without a target"
    ret

return:
    retf

inner:
    mov ebx, [esp + 12]
    mov edx, [esp + 8]
    mov esi, esp
    mov ecx, cs
    retf 8

    align 16
    bits 16
small16:
    mov eax, esp
    neg eax
    add eax, ecx
    mov [ss:dword SCRATCH + 0x100], eax
    add esp, 6
    jmp dword CODE:after16
    bits 32
