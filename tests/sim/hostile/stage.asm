; The stage of hostile programs: brings each in turn to the mode that it wants, and takes the machine back at whatever ends it.
;
; A Multiboot image, behind which stand a count and as many records (`src/hostile/mod.rs` writes them): a mode, changes of the tables, the
; registers and the code. Before each the tables below 1 MiB are made anew. An exception, an interrupt or a call that arrives anywhere
; ends the program or, for a few of them, is counted; what never ends is ended by the 8254. Programs may break any of this.

BASE    equ 0x100000
COUNT   equ BASE + 0x10000      ; then the records
RECORD  equ 0x800
KEPT    equ 0x130000            ; the tables as they should be
END     equ 0x200000            ; of RAM

IDT     equ 0x9000
IDT64   equ 0xa000
GDT     equ 0x8000
LDT     equ 0x8200
TSS     equ 0xb000
TSS64   equ 0xb400
LOW     equ 0x6000              ; code that real mode can reach
KSTACK  equ 0x7ff0
HOME    equ 0xfff0              ; stack of this program
CODE    equ 0x10000             ; 0x400 bytes for each program
DATA    equ 0x30000             ; 64 KiB for all
PD      equ 0x20000             ; two levels
PT      equ 0x21000
POINTERS equ 0x22000            ; PAE
PD0     equ 0x23000             ; PAE and four levels
PT0     equ 0x24000
PML4    equ 0x25000
PDPT    equ 0x26000
PD3     equ 0x27000

; Fields of a record.
MODE    equ 0
FLAGS   equ 4
CHANGES equ 8                   ; how many
REGS    equ 0x10
CHANGE  equ 0x90                ; address and value, 32 bits each; with bit 31 of the address the value is put there, else XORed
BYTES   equ 0x400

PATIENCE equ 24                 ; events that are counted before a program ends

    org BASE
    bits 32
header:
    dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
    dd header, header, 0, 0, start

start:
    cli
    cld
    mov esp, END                ; the tables are cleared first
    lgdt [gdtr_at_first]
    jmp 8:.reload
.reload:
    call segments
    ; What strays into memory without a sense shall end soon: it is UD2.
    mov ebp, senseless
.fill:
    mov edi, [ebp]
    mov ecx, [ebp + 4]
    mov eax, 0x0b0f0b0f
    rep stosd
    add ebp, 8
    cmp ebp, senseless_end
    jb .fill
    call make_tables
    mov esi, 0
    mov edi, KEPT
    mov ecx, 0x30000 / 4
    rep movsd
    mov dword [program], 0
    jmp home

segments:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    ret

; Whatever ended a program, from 32-bit code of ring 0 anywhere.
home32:
    cli
    cld
    mov eax, 0x10
    mov ds, eax
    mov ss, eax
    mov esp, HOME
    xor eax, eax
    mov dr7, eax
    mov eax, 0x11
    mov cr0, eax
    mov eax, 0x600
    mov cr4, eax
    mov ecx, 0xc0000080
    xor eax, eax
    xor edx, edx
    wrmsr
home:
    mov esp, HOME
    call segments
    push dword 2
    popfd
    ; The tables anew: vectors, this program's low code, descriptors, page tables.
    mov ebp, ranges
.range:
    mov edi, [ebp]
    mov ecx, [ebp + 4]
    lea esi, [edi + KEPT]
    rep movsd
    add ebp, 8
    cmp ebp, ranges_end
    jb .range
    lgdt [gdtr]
    jmp 8:.reload
.reload:
    call segments
    xor eax, eax
    lldt ax
    mov eax, 0x48
    ltr ax
    call devices
    mov dword [ticks], 0
    mov eax, [program]
    cmp eax, [COUNT]
    jae power_off
    inc dword [program]
    imul esi, eax, RECORD
    add esi, COUNT + 16
    ; Its code.
    imul edi, eax, 0x400
    add edi, CODE
    push esi
    add esi, BYTES
    mov ecx, 0x100
    rep movsd
    pop esi
    mov dword [start_at], edi
    sub dword [start_at], 0x400
    mov ecx, [esi + CHANGES]
    lea edi, [esi + CHANGE]
.change:
    jecxz .changed
    mov eax, [edi]
    mov edx, [edi + 4]
    btr eax, 31
    jc .put
    xor edx, [eax]
.put:
    mov [eax], edx
    add edi, 8
    dec ecx
    jmp .change
.changed:
    mov eax, [esi + MODE]
    cmp eax, MODES
    jae home
    jmp [modes + eax * 4]

power_off:
    mov edx, 0x604
    mov eax, 0x2000
    out dx, ax
    cli
    hlt
    jmp power_off

; The PIC pair at 0x20, its timer alone, every 25 us.
devices:
    mov al, 0x11
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0xff
    out 0xa1, al
    mov al, 0x34
    out 0x43, al
    mov al, 30
    out 0x40, al
    xor eax, eax
    out 0x40, al
    ; Where SYSENTER and SYSCALL lead.
    mov ecx, 0x174
    xor edx, edx
    mov eax, 8
    wrmsr
    inc ecx
    mov eax, KSTACK
    wrmsr
    inc ecx
    mov eax, home32
    wrmsr
    mov ecx, 0xc0000081
    mov edx, 0x00300008
    xor eax, eax
    wrmsr
    inc ecx
    xor edx, edx
    mov eax, home64
    wrmsr
    inc ecx
    wrmsr
    inc ecx
    mov eax, 0x4700
    wrmsr
    ret

; Turns paging on: CR3 %1, bits of CR4 %2.
%macro PAGING 2
    mov eax, %1
    mov cr3, eax
    mov eax, cr4
    or eax, %2
    mov cr4, eax
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax
%endmacro
%macro LOAD_REGISTERS 0
    mov eax, [esi + REGS]
    mov ecx, [esi + REGS + 8]
    mov edx, [esi + REGS + 16]
    mov ebx, [esi + REGS + 24]
    mov ebp, [esi + REGS + 40]
    mov edi, [esi + REGS + 56]
    mov esi, [esi + REGS + 48]
%endmacro

modes:
    dd real, prot32, paged32, prot16, pae32, long64, compat32, user64, user32, v86, user_compat, big_real
MODES   equ ($ - modes) / 4

big_real:
    call to_low
    jmp 0x18:LOW + to_real_big - low
real:
    call to_low
    jmp 0x18:LOW + to_real - low

; What real mode needs of the record.
to_low:
    lidt [vectors]
    mov eax, [esi + FLAGS]
    mov [LOW + low_flags - low], ax
    mov eax, [start_at]
    sub eax, CODE
    mov [LOW + low_ip - low], ax
    xor ecx, ecx
.next:
    mov eax, [esi + REGS + ecx * 8]
    mov [LOW + low_regs - low + ecx * 4], eax
    inc ecx
    cmp ecx, 8
    jb .next
    ret

paged32:
    PAGING PD, 0x90
prot32:
    lidt [idtr]
    mov esp, [esi + REGS + 32]
    push dword [esi + FLAGS]
    push dword 8
    push dword [start_at]
    LOAD_REGISTERS
    iretd
pae32:
    PAGING POINTERS, 0xa0
    jmp prot32

prot16:
    lidt [idtr]
    mov eax, 0x20
    mov ss, eax
    mov esp, [esi + REGS + 32]
    push word [esi + FLAGS]
    push word 0xa0              ; 16-bit code at CODE
    mov eax, [start_at]
    sub eax, CODE
    push ax
    LOAD_REGISTERS
    iretw

user32:
    PAGING PD, 0x90
    lidt [idtr]
    push dword 0x33
    push dword [esi + REGS + 32]
    push dword [esi + FLAGS]
    push dword 0x2b
    push dword [start_at]
user_segments:
    mov eax, 0x33
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    LOAD_REGISTERS
    iretd

v86:
    lidt [idtr]
    mov eax, cr4
    or eax, 1
    mov cr4, eax
    push dword DATA >> 4
    push dword DATA >> 4
    push dword DATA >> 4
    push dword DATA >> 4
    push dword 0
    push dword [esi + REGS + 32]
    mov eax, [esi + FLAGS]
    or eax, 1 << 17
    push eax
    push dword CODE >> 4
    mov eax, [start_at]
    sub eax, CODE
    push eax
    LOAD_REGISTERS
    iretd

; Long mode: %1 is an interrupt frame's CS, %2 its SS.
%macro LONG 2
    call long_mode
    jmp 0x38:%%in
    bits 64
%%in:
    mov ecx, %2
    push rcx
    push qword [rsi + REGS + 32]
    mov eax, [rsi + FLAGS]
    push rax
    mov ecx, %1
    push rcx
    mov eax, [start_at]
    push rax
    jmp load64
    bits 32
%endmacro
long64:
    LONG 0x38, 0x10
compat32:
    LONG 8, 0x10
user64:
    LONG 0x43, 0x33
user_compat:
    LONG 0x2b, 0x33

long_mode:
    lidt [idtr64]
    mov ecx, 0x176
    xor edx, edx
    mov eax, home64
    wrmsr
    mov eax, PML4
    mov cr3, eax
    mov eax, cr4
    or eax, 0x100a0
    mov cr4, eax
    mov ecx, 0xc0000080
    mov eax, 0x901
    xor edx, edx
    wrmsr
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax
    mov eax, 0x50
    ltr ax
    ret

    bits 64
load64:
    mov rax, [rsi + REGS]
    mov rcx, [rsi + REGS + 8]
    mov rdx, [rsi + REGS + 16]
    mov rbx, [rsi + REGS + 24]
    mov rbp, [rsi + REGS + 40]
    mov rdi, [rsi + REGS + 56]
%assign n 8
%rep 8
    mov r %+ n, [rsi + REGS + 8 * n]
    %assign n n + 1
%endrep
    mov rsi, [rsi + REGS + 48]
    iretq

home64:
    cli
    mov esp, HOME
    push 8
    push home32
    retfq

; Events that are counted.
tick64:
    push rax
    inc dword [abs ticks]
    cmp dword [abs ticks], PATIENCE
    jae home64
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq
    bits 32
tick32:
    push eax
    push ds
    mov eax, 0x10
    mov ds, eax
    inc dword [ticks]
    cmp dword [ticks], PATIENCE
    jae home32
    mov al, 0x20
    out 0x20, al
    pop ds
    pop eax
    iretd

; What is copied to LOW.
low:
    bits 16
to_real:
    mov ax, 0x20
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
to_real_big:
    mov ax, 0x20
    mov ss, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp 0:LOW + .real - low
.real:
    xor ax, ax
    mov ss, ax
    mov esp, [cs:LOW + low_regs - low + 16]
    push word [cs:LOW + low_flags - low]
    push word CODE >> 4
    push word [cs:LOW + low_ip - low]
    mov ax, DATA >> 4
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov eax, [cs:LOW + low_regs - low]
    mov ecx, [cs:LOW + low_regs - low + 4]
    mov edx, [cs:LOW + low_regs - low + 8]
    mov ebx, [cs:LOW + low_regs - low + 12]
    mov ebp, [cs:LOW + low_regs - low + 20]
    mov esi, [cs:LOW + low_regs - low + 24]
    mov edi, [cs:LOW + low_regs - low + 28]
    iret
home16:
    cli
    lgdt [cs:LOW + low_gdtr - low]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 8:home32
tick16:
    push eax
    inc dword [cs:LOW + low_ticks - low]
    cmp dword [cs:LOW + low_ticks - low], PATIENCE
    jae home16
    mov al, 0x20
    out 0x20, al
    pop eax
    iret
    align 8
low_gdtr:
    dw 0xff
    dd GDT
low_ticks: dd 0
low_flags: dw 0
low_ip:    dw 0
low_regs:  times 8 dd 0
low_end:
    bits 32

; The tables as they should be.
make_tables:
    xor eax, eax
    mov edi, GDT
    mov ecx, 0x4000 / 4
    rep stosd
    mov edi, PD
    mov ecx, 0x8000 / 4
    rep stosd
    mov esi, low
    mov edi, LOW
    mov ecx, low_end - low
    rep movsb
    mov esi, gdt
    mov edi, GDT
    mov ecx, gdt_end - gdt
    rep movsb
    mov dword [LDT], 0x0000ffff
    mov dword [LDT + 4], 0x00cff300
    mov dword [LDT + 8], 0x0000ffff
    mov dword [LDT + 12], 0x00cffb00
    mov dword [TSS + 4], KSTACK
    mov dword [TSS + 8], 0x10
    mov dword [TSS + 0x64], 0x880000
    mov dword [TSS64 + 4], KSTACK
    mov dword [TSS64 + 0x24], KSTACK - 0x200
    mov dword [TSS64 + 0x64], 0x680000
    ; Vectors: 1 to 4 and the lines' are counted, every other one ends the program.
    xor ecx, ecx
.vector:
    mov eax, home32
    mov edx, home64
    mov ebx, LOW + home16 - low
    lea ebp, [ecx - 1]
    cmp ebp, 4
    jb .counted
    lea ebp, [ecx - 0x20]
    cmp ebp, 16
    jae .ends
.counted:
    mov eax, tick32
    mov edx, tick64
    mov ebx, LOW + tick16 - low
.ends:
    mov [ecx * 4], ebx
    mov [IDT + ecx * 8], eax
    mov dword [IDT + ecx * 8 + 4], eax
    mov word [IDT + ecx * 8 + 2], 8
    mov word [IDT + ecx * 8 + 4], 0xee00
    mov edi, ecx
    shl edi, 4
    mov [IDT64 + edi], edx
    mov [IDT64 + edi + 4], edx
    mov word [IDT64 + edi + 2], 0x38
    mov word [IDT64 + edi + 4], 0xee00
    inc ecx
    cmp ecx, 256
    jb .vector
    ; Everything one to one and for everybody: the first 4 MiB by small pages, the rest by large ones.
    mov edi, PD
    mov eax, 0xe7
    mov ecx, 1024
.pd:
    stosd
    add eax, 0x400000
    loop .pd
    mov dword [PD], PT + 7
    mov eax, 7
    mov ecx, 1024
.pt:
    stosd
    add eax, 0x1000
    loop .pt
    mov edi, PT0
    mov eax, 7
    mov ecx, 512
.pt0:
    mov [edi], eax
    add eax, 0x1000
    add edi, 8
    loop .pt0
    xor ecx, ecx
.pd0:
    mov eax, ecx
    shl eax, 21
    add eax, 0x87
    mov [PD0 + ecx * 8], eax
    or eax, 0xc0000000
    mov [PD3 + ecx * 8], eax
    inc ecx
    cmp ecx, 512
    jb .pd0
    mov dword [PD0], PT0 + 7
    mov dword [PML4], PDPT + 7
    xor ecx, ecx
.pointers:
    mov dword [PDPT + ecx * 8], PD0 + 7
    mov dword [POINTERS + ecx * 8], PD0 + 1
    inc ecx
    cmp ecx, 3
    jb .pointers
    mov dword [PDPT + 24], PD3 + 7
    mov dword [POINTERS + 24], PD3 + 1
    ret

    align 8
gdt:
    dq 0
    dq 0x00cf9b000000ffff       ; 08 code of ring 0
    dq 0x00cf93000000ffff       ; 10 data of ring 0
    dq 0x00009b000000ffff       ; 18 16-bit code
    dq 0x000093000000ffff       ; 20 16-bit data
    dq 0x00cffb000000ffff       ; 28 code of ring 3
    dq 0x00cff3000000ffff       ; 30 data of ring 3
    dq 0x00af9b000000ffff       ; 38 64-bit code of ring 0
    dq 0x00affb000000ffff       ; 40 64-bit code of ring 3
    dq 0x0000890000000400 | TSS << 16        ; 48
    dq 0x0000890000000400 | TSS64 << 16      ; 50
    dq 0
    dq 0x000082000000003f | LDT << 16        ; 60
    dw home32 - BASE, 8, 0xec00, BASE >> 16  ; 68 call gate
    dw home64 - BASE, 0x38, 0xec00, BASE >> 16, 0, 0, 0, 0    ; 70 in long mode
    dq 0x00cf9f000000ffff       ; 80 conforming code
    dq 0x00cf97000000ffff       ; 88 data that expands downwards
    dq 0x0000e50000480000       ; 90 task gate
    dq 0x0000890000000067 | DATA << 16       ; 98 a TSS of whatever there is
    dq 0x00009b000000ffff | CODE << 16       ; a0 16-bit code at CODE
    dq 0x0000f3000000ffff | DATA << 16       ; a8 small data
gdt_end:
gdtr_at_first:
    dw 0xff
    dd gdt
gdtr:
    dw 0xff
    dd GDT
idtr:
    dw 0x7ff
    dd IDT
idtr64:
    dw 0xfff
    dq IDT64
vectors:
    dw 0x3ff
    dd 0
    align 4
ranges:
    dd 0, 0x400 / 4, LOW, 0x800 / 4, GDT, 0x4000 / 4, PD, 0x8000 / 4
ranges_end:
senseless:
    dd 0, GDT / 4, 0xc000, (PD - 0xc000) / 4, 0x28000, (0x9f000 - 0x28000) / 4
    dd KEPT + 0x30000, (END - KEPT - 0x30000 - 0x1000) / 4
senseless_end:
program:  dd 0
start_at: dd 0
ticks:    dd 0
    align 2
    times (0x10000 - ($ - $$)) / 2 dw 0x0b0f
