; SMEP and SMAP with four levels: which accesses of a supervisor to a user's pages are refused, explicit ones and those that the
; processor makes for itself, and that a change of CR4 or EFLAGS.AC counts at once (SDM vol. 3A, 4.6.1, 4.7, 4.10.4.1).
%include "lib.inc"
%include "long.inc"

WP      equ 1 << 16             ; CR0
SMEP    equ 1 << 20             ; CR4
SMAP    equ 1 << 21
AC      equ 1 << 18             ; EFLAGS

; Pages of HIGH.
OPEN    equ HIGH                ; its frame holds RET at 10h and a far pointer at 20h
SUPER   equ HIGH + 0x1000
RO_USER equ HIGH + 0x2000
RO_SUPER equ HIGH + 0x3000
UCODE_PAGE equ HIGH + 0x4000    ; `user_page`
USTACK_TOP equ HIGH + 0x6000
PAIR    equ HIGH + 0x7000       ; a supervisor's page, and behind it a user's
TRIPLE  equ HIGH + 0xa000       ; a user's, a supervisor's, a user's
FRAMES  equ 0x310000

; RUN3 label of `user_page`, flags: in ring 3.
%macro RUN3 1-2 2
    push UDATA64
    push USTACK_TOP
    push %2
    push UCODE64
    push UCODE_PAGE + %1 - user_page
    iretq
%endmacro
%macro SET_CR4 1
    mov rax, cr4
    or rax, %1
    mov cr4, rax
%endmacro
%macro SET_CR0 1
    mov rax, cr0
    or rax, %1
    mov cr0, rax
%endmacro
%macro SHOW_CR2 0
    SHOW "cr2", [f_cr2]
%endmacro
; SYSTEM_CALL mask: SYSCALL leads to `kernel`, under SMAP.
%macro SYSTEM_CALL 1
    SET_CR4 SMAP
    MSR EFER, 0x901
    MSR STAR, 0, CODE64 | (UCODE32 & ~3) << 16
    MSR LSTAR, AT(kernel)
    MSR SFMASK, %1
%endmacro
; MAP page of HIGH, frame of FRAMES, bits
%macro MAP 3
    mov dword [PT64 + ((%1) - HIGH) / 512], FRAMES + (%2) * 0x1000 + (%3)
%endmacro

test_main:
    call long_tables
    ; All of the first 64 MiB is the supervisor's here.
    mov edi, PD64
    mov ecx, 32
.narrow:
    and byte [edi], ~4
    add edi, 8
    loop .narrow
    MAP OPEN, 0, 7
    MAP SUPER, 1, 3
    MAP RO_USER, 0, 5
    MAP RO_SUPER, 1, 1
    mov dword [PT64 + 4 * 8], user_page + 7
    MAP HIGH + 0x5000, 2, 7
    MAP PAIR, 3, 3
    MAP PAIR + 0x1000, 4, 7
    MAP TRIPLE, 5, 7
    MAP TRIPLE + 0x1000, 6, 3
    MAP TRIPLE + 0x2000, 7, 7
    mov edi, FRAMES
    mov ecx, 0x8000 / 4
    xor eax, eax
    rep stosd
    mov byte [FRAMES + 0x10], 0xc3
    mov dword [FRAMES + 0x20], 0
    mov word [FRAMES + 0x24], GATE64 | 3
    ; A page fault has a stack of its own, should the present one be the user's.
    mov byte [idt64 + 14 * 16 + 4], 1

; SMEP.
;> a fetch from a user's page: #0e(0011)+00
    PROBE
    LONG
    SET_CR4 SMEP
    mov eax, OPEN + 0x10
    HERE_AT OPEN + 0x10
    call rax
    LEGACY
    END "a fetch from a user's page"
;>   cr2=40000010
    SHOW_CR2
;> the same without SMEP: ok
    PROBE
    LONG
    mov eax, OPEN + 0x10
    call rax
    LEGACY
    END "the same without SMEP"
;> SMEP does not concern the user: #80(0000)+00
    PROBE
    LONG
    SET_CR4 SMEP
    RUN3 u_end
    HERE_AT UCODE_PAGE + u_end.behind - user_page
    bits 32
    END "SMEP does not concern the user"
;> code that has run often before SMEP comes on: #0e(0011)+00
    PROBE
    LONG
    mov ebx, 20
.warm:
    mov eax, OPEN + 0x10
    call rax
    dec ebx
    jnz .warm
    bts qword [abs turned], 0
    jc .again
    SET_CR4 SMEP
    inc ebx
    jmp .warm
.again:
    LEGACY
    HERE_AT OPEN + 0x10
    END "code that has run often before SMEP comes on"
    mov dword [turned], 0
;> SMEP and an absent page: #0e(0010)+00
    PROBE
    LONG
    SET_CR4 SMEP
    MSR EFER, 0x101             ; no NXE: the bit for a fetch is SMEP's
    mov eax, HIGH + 0x9000
    HERE_AT HIGH + 0x9000
    call rax
    LEGACY
    END "SMEP and an absent page"
;> an absent page with neither SMEP nor NXE: #0e(0000)+00
    PROBE
    LONG
    MSR EFER, 0x101
    mov eax, HIGH + 0x9000
    HERE_AT HIGH + 0x9000
    call rax
    LEGACY
    END "an absent page with neither SMEP nor NXE"

;> an instruction that goes on in a user's page: #0e(0011)+00
    PROBE
    mov byte [FRAMES + 3 * 0x1000 + 0xfff], 0x48
    LONG
    SET_CR4 SMEP
    mov eax, PAIR + 0xfff
    HERE_AT PAIR + 0xfff
    jmp rax
    bits 32
    END "an instruction that goes on in a user's page"
;>   cr2=40008000
    SHOW_CR2

; SMAP, explicit accesses.
;> a read: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    HERE
    mov al, [abs OPEN + 5]
    LEGACY
    END "a read"
;>   cr2=40000005
    SHOW_CR2
;> a write: #0e(0003)+00
    PROBE
    LONG
    SET_CR4 SMAP
    HERE
    mov [abs OPEN + 5], al
    LEGACY
    END "a write"
;> a locked read-modify-write: #0e(0003)+00
;q> a locked read-modify-write: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    HERE
    lock inc dword [abs OPEN]
    LEGACY
    END "a locked read-modify-write"
;> a push: #0e(0003)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov esp, USTACK_TOP
    HERE
    push rax
    LEGACY
    END "a push"
;>   cr2=40005ff8
    SHOW_CR2
;> a fetch is not SMAP's business: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov eax, OPEN + 0x10
    call rax
    LEGACY
    END "a fetch is not SMAP's business"
;> a supervisor's page: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov [abs SUPER], al
    mov [abs RO_SUPER], al      ; CR0.WP is off
    LEGACY
    END "a supervisor's page"
;> over a supervisor's and a user's page: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    HERE
    mov eax, [abs PAIR + 0xffe]
    LEGACY
    END "over a supervisor's and a user's page"
;>   cr2=40008000
    SHOW_CR2
;> a write over both leaves the supervisor's: #0e(0003)+00
    PROBE
    mov dword [FRAMES + 3 * 0x1000 + 0xffc], 0x12345678
    LONG
    SET_CR4 SMAP
    HERE
    mov [abs PAIR + 0xffc], rax
    LEGACY
    END "a write over both leaves the supervisor's"
;>   memory=12345678
    SHOW "memory", [FRAMES + 3 * 0x1000 + 0xffc]
;> stac and clac: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    stac
    mov al, [abs OPEN]
    mov [abs OPEN + 1], al
    mov [abs RO_USER + 1], al
    clac
    HERE
    mov al, [abs OPEN]
    LEGACY
    END "stac and clac"
;> stac does not lift WP: #0e(0003)+00
    PROBE
    LONG
    SET_CR4 SMAP
    SET_CR0 WP
    stac
    mov al, [abs RO_USER]
    HERE
    mov [abs RO_USER], al
    LEGACY
    END "stac does not lift WP"
;> a read-only user's page, with WP and without AC: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    SET_CR0 WP
    HERE
    mov al, [abs RO_USER]
    LEGACY
    END "a read-only user's page, with WP and without AC"
;> popf sets and clears AC: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    push AC | 2
    popfq
    mov al, [abs OPEN]
    push 2
    popfq
    HERE
    mov al, [abs OPEN]
    LEGACY
    END "popf sets and clears AC"
;> iret sets AC: ok
    PROBE
    LONG
    SET_CR4 SMAP
    push SDATA
    push LSTACK
    push AC | 2
    push CODE64
    push .returned
    iretq
.returned:
    mov al, [abs OPEN]
    LEGACY
    END "iret sets AC"
;> stac in ring 3: #06(0000)+00
    PROBE
    LONG
    SET_CR4 SMAP
    RUN3 u_stac
    HERE_AT UCODE_PAGE + u_stac - user_page
    bits 32
    END "stac in ring 3"
;> SMAP does not concern the user, whatever AC is: #80(0000)+00
    PROBE
    LONG
    SET_CR4 SMAP
    RUN3 u_read
    HERE_AT UCODE_PAGE + u_read.behind - user_page
    bits 32
    END "SMAP does not concern the user, whatever AC is"
;> a string stops where the user's page begins: #0e(0003)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov edi, PAIR + 0xff0
    mov ecx, 0x20
    HERE
    rep stosb
    LEGACY
    END "a string stops where the user's page begins"
;>   left=00000010
    SHOW "left", [r_rcx]
;> the same with AC: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov edi, PAIR + 0xff0
    mov ecx, 0x20
    stac
    rep stosb
    LEGACY
    END "the same with AC"
;> read often before SMAP comes on: #0e(0001)+00
    PROBE
    LONG
    mov ebx, 20
.read:
    HERE
    mov al, [abs OPEN]
    dec ebx
    jnz .read
    SET_CR4 SMAP
    inc ebx
    jmp .read
    bits 32
    END "read often before SMAP comes on"
;> and written: #0e(0003)+00
    PROBE
    LONG
    mov ebx, 20
.write:
    HERE
    mov [abs OPEN], al
    dec ebx
    jnz .write
    SET_CR4 SMAP
    inc ebx
    jmp .write
    bits 32
    END "and written"
;> one piece of code with AC and without, in turn: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], skip
    mov dword [abs refused], 0
    mov ebx, 40
.turn:
    test bl, 1
    jz .without
    stac
    call peek
    clac
    jmp .next
.without:
    call peek
.next:
    dec ebx
    jnz .turn
    LEGACY
    END "one piece of code with AC and without, in turn"
;>   refused=00000014
    SHOW "refused", [refused]
;> a user's code pages do not become readable by being executed: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov eax, OPEN + 0x10
    call rax
    HERE
    mov al, [abs OPEN + 0x10]
    LEGACY
    END "a user's code pages do not become readable by being executed"

; AC across system calls and interrupts.
;> syscall keeps AC: ok
    PROBE
    LONG
    SYSTEM_CALL 0
    RUN3 u_syscall, AC | 2
    bits 32
    END "syscall keeps AC"
;> syscall whose mask has AC: #0e(0001)+00
    PROBE
    LONG
    SYSTEM_CALL AC
    RUN3 u_syscall, AC | 2
    HERE_AT kernel
    bits 32
    END "syscall whose mask has AC"
;> an interrupt keeps AC: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], kernel
    RUN3 u_end, AC | 2
    bits 32
    END "an interrupt keeps AC"
;> an interrupt without: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], kernel_once
    RUN3 u_end, 2
    HERE_AT kernel
    bits 32
    END "an interrupt without"
;> a handler on the user's page: #0e(0011)+00
    PROBE
    mov dword [idt64 + 0x55 * 16], (OPEN + 0x10) & 0xffff | CODE64 << 16
    mov dword [idt64 + 0x55 * 16 + 4], (OPEN + 0x10) & 0xffff0000 | 0xee00
    LONG
    SET_CR4 SMEP
    HERE_AT OPEN + 0x10
    int 0x55
    bits 32
    END "a handler on the user's page"

; The other bits that rights depend on, with a warm TLB and warm code.
;> WP comes on: #0e(0003)+00
    PROBE
    LONG
    mov ebx, 20
.wp:
    HERE
    mov [abs RO_SUPER], al
    dec ebx
    jnz .wp
    SET_CR0 WP
    inc ebx
    jmp .wp
    bits 32
    END "WP comes on"
;> NXE comes on: #0e(0011)+00
    PROBE
    LONG
    MSR EFER, 0x101
    mov ebx, 20
.nxe:
    mov eax, OPEN + 0x10
    call rax
    dec ebx
    jnz .nxe
    mov dword [abs PT64 + 4], 1 << 31
    MSR EFER, 0x901
    invlpg [abs OPEN]
    mov ebx, 1
    jmp .nxe
    bits 32
    HERE_AT OPEN + 0x10
    END "NXE comes on"
;> and goes off, so that its bit is reserved: #0e(0019)+00
;q> and goes off, so that its bit is reserved: #0e(0018)+00
    PROBE
    LONG
    mov al, [abs OPEN]
    MSR EFER, 0x101
    invlpg [abs OPEN]
    SET_CR4 SMEP                ; for the bit of the error code
    mov eax, OPEN + 0x10
    HERE_AT OPEN + 0x10
    call rax
    bits 32
    END "and goes off, so that its bit is reserved"
    mov dword [PT64 + 4], 0

; Implicit accesses: those to descriptor tables and task state are a supervisor's whatever CPL is, and AC does not help. QEMU lets
; AC help below CPL 3.
; The GDT ends in a user's page: SPARE and SPARE2 are there.
    mov esi, gdt
    mov edi, FRAMES + 3 * 0x1000 + 0x1000 - SPARE
    mov ecx, SPARE
    rep movsb
    mov dword [FRAMES + 4 * 0x1000], 0xffff
    mov dword [FRAMES + 4 * 0x1000 + 4], 0x00cf9300
    mov dword [FRAMES + 4 * 0x1000 + 8], 0xffff
    mov dword [FRAMES + 4 * 0x1000 + 12], 0x00cff300
;> a descriptor in a user's page, without SMAP: ok
    PROBE
    LONG
    lgdt [abs high_gdtr]
    mov eax, SPARE
    mov fs, eax
    lgdt [abs low_gdtr]
    LEGACY
    END "a descriptor in a user's page, without SMAP"
;> with SMAP: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], restore
    lgdt [abs high_gdtr]
    mov eax, SPARE
    HERE
    mov fs, eax
    lgdt [abs low_gdtr]
    LEGACY
    END "with SMAP"
;>   cr2=40008000
    SHOW_CR2
;> with SMAP and AC: #0e(0001)+00
;q> with SMAP and AC: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], restore
    lgdt [abs high_gdtr]
    mov eax, SPARE
    stac
    HERE
    mov fs, eax
    lgdt [abs low_gdtr]
    LEGACY
    END "with SMAP and AC"
;> lar looks there too: #0e(0001)+00
;q> lar looks there too: ok
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], restore
    lgdt [abs high_gdtr]
    mov eax, SPARE
    stac
    HERE
    lar eax, eax
    lgdt [abs low_gdtr]
    LEGACY
    END "lar looks there too"
;> in ring 3: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov dword [abs hook64], restore
    lgdt [abs high_gdtr]
    RUN3 u_load, AC | 2
    HERE_AT UCODE_PAGE + u_load.at - user_page
    bits 32
    END "in ring 3"
;>   cr2=40008008
    SHOW_CR2

; The IDT ends there: vectors from 40 on.
    mov esi, idt64
    mov edi, FRAMES + 3 * 0x1000 + 0x1000 - 0x400
    mov ecx, 0x1000
    rep movsb
;> a gate in a user's page: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    lidt [abs high_idtr]
    HERE
    int 0x80
    LEGACY
    END "a gate in a user's page"
;>   cr2=40008400
    SHOW_CR2
;> and from ring 3: #0e(0001)+00
    PROBE
    LONG
    SET_CR4 SMAP
    lidt [abs high_idtr]
    RUN3 u_end, AC | 2
    HERE_AT UCODE_PAGE + u_end - user_page
    bits 32
    END "and from ring 3"

;> an interrupt's frame on the user's page, in the same ring: #0e(0003)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov esp, USTACK_TOP
    HERE
    int 0x80
    LEGACY
    END "an interrupt's frame on the user's page, in the same ring"
;>   cr2=40005ff8
    SHOW_CR2
; The manual's list of implicit accesses has descriptor tables and task state, not stacks, and all others below CPL 3 are explicit.
;> with AC: #80(0000)+00
    PROBE
    LONG
    SET_CR4 SMAP
    mov esp, USTACK_TOP
    stac
    int 0x80
    HERE
    bits 32
    END "with AC"
;> the stack for ring 0 on a user's page: #0e(0003)+00
    PROBE
    mov dword [tss64 + 4], USTACK_TOP - 0x100
    LONG
    SET_CR4 SMAP
    RUN3 u_end, AC | 2
    HERE_AT UCODE_PAGE + u_end - user_page
    bits 32
    END "the stack for ring 0 on a user's page"
;>   cr2=40005ef8
    SHOW_CR2
;> by a call gate: #0e(0003)+00
    PROBE
    mov dword [gdt + GATE64], (AT(inner) & 0xffff) | CODE64 << 16
    mov dword [gdt + GATE64 + 4], (AT(inner) & 0xffff0000) | 0xec00
    mov dword [gdt + GATE64 + 8], 0
    mov dword [gdt + GATE64 + 12], 0
    LONG
    SET_CR4 SMAP
    RUN3 u_gate, AC | 2
    HERE_AT UCODE_PAGE + u_gate - user_page
    bits 32
    END "by a call gate"
;>   cr2=40005ef8
    SHOW_CR2
    mov dword [tss64 + 4], KSTACK

; A task state over a user's, a supervisor's and a user's page: RSP0 in the first, the rest in the second, the ports in the third.
    mov edi, FRAMES + 5 * 0x1000 + 0xfe0
    mov esi, tss64
    mov ecx, 0x68
    rep movsb
    mov word [FRAMES + 5 * 0x1000 + 0xfe0 + 0x66], 0x1020
;> RSP0 in a user's page: #0e(0001)+00
    PROBE
    DESCRIPTOR TSS64, TRIPLE + 0xfe0, 0x1fff, 0x89, 0
    LONG
    SET_CR4 SMAP
    RUN3 u_end, AC | 2
    HERE_AT UCODE_PAGE + u_end - user_page
    bits 32
    END "RSP0 in a user's page"
;>   cr2=4000afe4
    SHOW_CR2
;> the permission of a port in a user's page: #0e(0001)+00
    PROBE
    DESCRIPTOR TSS64, TRIPLE + 0xfe0, 0x1fff, 0x89, 0
    LONG
    SET_CR4 SMAP
    RUN3 u_port, AC | 2
    HERE_AT UCODE_PAGE + u_port - user_page
    bits 32
    END "the permission of a port in a user's page"
;>   cr2=4000c010
    SHOW_CR2
;> without SMAP it is read: #80(0000)+00
    PROBE
    DESCRIPTOR TSS64, TRIPLE + 0xfe0, 0x1fff, 0x89, 0
    mov dword [FRAMES + 5 * 0x1000 + 0xfe4], KSTACK
    LONG
    RUN3 u_port, AC | 2
    HERE_AT UCODE_PAGE + u_port.behind - user_page
    bits 32
    END "without SMAP it is read"
    ret

    bits 64
; Reads the user's page.
peek:
    mov al, [abs OPEN]
.behind:
    ret
; Counts, and skips the read.
skip:
    inc dword [abs refused]
    add qword [rsp + 16], peek.behind - peek
    jmp resume64
; The kernel reads the user's page, and is content.
kernel:
    mov al, [abs OPEN]
    mov dword [abs f_vector], -1
    jmp arrive64.end
kernel_once:
    mov dword [abs hook64], 0
    jmp kernel
; A fault with the GDT in HIGH: back to the one that protected mode knows.
restore:
    lgdt [abs low_gdtr]
    jmp arrive64.end
inner:
    retfq
    bits 32

    align 8
turned: dq 0
refused: dd 0
high_gdtr:
    dw SPARE + 15
    dq PAIR + 0x1000 - SPARE
low_gdtr:
    dw gdt_end - gdt - 1
    dq gdt
high_idtr:
    dw 0xfff
    dq PAIR + 0x1000 - 0x400

    align 4096
    bits 64
; What ring 3 does, at UCODE_PAGE.
user_page:
u_end:
    int 0x80
.behind:
u_stac:
    stac
u_read:
    mov al, [abs OPEN]
    mov [abs OPEN + 1], al
    int 0x80
.behind:
u_load:
    mov eax, SPARE2 | 3
.at:
    mov fs, eax
u_port:
    in al, 0x80
    int 0x80
.behind:
u_syscall:
    syscall
u_gate:
    db 0xff, 0x1c, 0x25         ; CALL by a pointer with an offset of 32 bits
    dd OPEN + 0x20
    bits 32
    align 4096
