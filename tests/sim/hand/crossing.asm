; Accesses over two pages of which one refuses: nothing is written, the error code and CR2 tell of the page that refuses, and neither page
; is marked. What goes through marks both (SDM vol. 3A, 4.7, 4.8; vol. 1, 4.1.1).
%include "lib.inc"
%include "long.inc"

ONE     equ 0x310000            ; the frames of the two pages, which do not lie side by side
TWO     equ 0x313000
EDGE    equ HIGH + 0x1000
ABSENT  equ 0
RO      equ 1
RW      equ 3
NX      equ 1 << 63

; CROSS first, second: rights of the pages; then code of ring 0 with CR0.WP.
%macro CROSS 2
    PROBE
    mov edx, (%1) & 0xffffffff
    mov ecx, (%2) & 0xffffffff
    mov ebx, ((%1) >> 32) & 0xffffffff
    mov ebp, ((%2) >> 32) & 0xffffffff
    call two_pages
    LONG
    mov rax, cr0
    bts rax, 16
    mov cr0, rax
%endmacro
%macro CROSSED 1
    mov esp, LSTACK
    LEGACY
    END %1
    call report
%endmacro
; TRY name, first, second, instruction: with RDI four bytes before the edge.
%macro TRY 4+
    CROSS %2, %3
    mov edi, EDGE - 4
    mov rax, 0x2222222222222222
    mov rdx, rax
    mov rcx, rax
    mov ebx, 0x1000 * 8 + 1     ; bit numbers of BTS and its like
    mov rbp, -0x1000 * 8 + 1
    pcmpeqd xmm0, xmm0
    pcmpeqd xmm1, xmm1
    fninit
    fld1
    HERE
    %4
    CROSSED %1
%endmacro

; A line "state" is cr2's low half, or zero; two digits for what the pages are marked with, 1 accessed and 2 dirty; two for which of
; them were changed.
test_main:
    call long_tables
    mov byte [idt64 + 14 * 16 + 4], 1
    mov eax, cr4
    or eax, 0x40600
    mov cr4, eax
    xor ecx, ecx
    xor edx, edx
    mov eax, 7
    xsetbv
;> a store: ok
;>   state=00003311
    TRY "a store", RW, RW, mov [rdi], rax
;> a store, the second page absent: #0e(0002)+00
;>   state=10000000
    TRY "a store, the second page absent", RW, ABSENT, mov [rdi], rax
;> a store, the second page read-only: #0e(0003)+00
;>   state=10000000
    TRY "a store, the second page read-only", RW, RO, mov [rdi], rax
;> a store, the first page read-only: #0e(0003)+00
;>   state=0ffc0000
    TRY "a store, the first page read-only", RO, RW, mov [rdi], rax
;> a store, both absent: #0e(0002)+00
;>   state=0ffc0000
    TRY "a store, both absent", ABSENT, ABSENT, mov [rdi], rax
;> a store, the second page not executable: ok
;>   state=00003311
    TRY "a store, the second page not executable", RW, RW + NX, mov [rdi], rax
;> a load: ok
;>   state=00001100
    TRY "a load", RW, RO, mov rcx, [rdi]
;> a load, the second page absent: #0e(0000)+00
;>   state=10000000
    TRY "a load, the second page absent", RW, ABSENT, mov rcx, [rdi]
;> add: ok
;>   state=00003311
    TRY "add", RW, RW, add [rdi], rax
;> add, absent: #0e(0002)+00
;>   state=10000000
    TRY "add, absent", RW, ABSENT, add [rdi], rax
;> add, read-only: #0e(0003)+00
;>   state=10000000
    TRY "add, read-only", RW, RO, add [rdi], rax
;> lock add: ok
;>   state=00003311
    TRY "lock add", RW, RW, lock add [rdi], rax
;> lock add, absent: #0e(0002)+00
;>   state=10000000
    TRY "lock add, absent", RW, ABSENT, lock add [rdi], rax
;> lock add, read-only: #0e(0003)+00
;>   state=10000000
    TRY "lock add, read-only", RW, RO, lock add [rdi], rax
;> inc: ok
;>   state=00003310
    TRY "inc", RW, RW, inc qword [rdi]
;> inc, absent: #0e(0002)+00
;>   state=10000000
    TRY "inc, absent", RW, ABSENT, inc qword [rdi]
;> inc, read-only: #0e(0003)+00
;>   state=10000000
    TRY "inc, read-only", RW, RO, inc qword [rdi]
;> xadd: ok
;>   state=00003311
    TRY "xadd", RW, RW, xadd [rdi], rax
;> xadd, absent: #0e(0002)+00
;>   state=10000000
    TRY "xadd, absent", RW, ABSENT, xadd [rdi], rax
;> xadd, read-only: #0e(0003)+00
;>   state=10000000
    TRY "xadd, read-only", RW, RO, xadd [rdi], rax
;> lock xadd: ok
;>   state=00003311
    TRY "lock xadd", RW, RW, lock xadd [rdi], rax
;> lock xadd, absent: #0e(0002)+00
;>   state=10000000
    TRY "lock xadd, absent", RW, ABSENT, lock xadd [rdi], rax
;> lock xadd, read-only: #0e(0003)+00
;>   state=10000000
    TRY "lock xadd, read-only", RW, RO, lock xadd [rdi], rax
;> xchg: ok
;>   state=00003311
    TRY "xchg", RW, RW, xchg [rdi], rax
;> xchg, absent: #0e(0002)+00
;>   state=10000000
    TRY "xchg, absent", RW, ABSENT, xchg [rdi], rax
;> xchg, read-only: #0e(0003)+00
;>   state=10000000
    TRY "xchg, read-only", RW, RO, xchg [rdi], rax
;> shld: ok
;>   state=00003311
    TRY "shld", RW, RW, shld [rdi], rax, 5
;> shld, absent: #0e(0002)+00
;>   state=10000000
    TRY "shld, absent", RW, ABSENT, shld [rdi], rax, 5
;> shld, read-only: #0e(0003)+00
;>   state=10000000
    TRY "shld, read-only", RW, RO, shld [rdi], rax, 5
;> cmpxchg that differs: ok
;>   state=00003300
    TRY "cmpxchg that differs", RW, RW, cmpxchg [rdi], rcx
;> cmpxchg that differs, absent: #0e(0002)+00
;>   state=10000000
    TRY "cmpxchg that differs, absent", RW, ABSENT, cmpxchg [rdi], rcx
;> cmpxchg that differs, read-only: #0e(0003)+00
;>   state=10000000
    TRY "cmpxchg that differs, read-only", RW, RO, cmpxchg [rdi], rcx
;> lock cmpxchg that differs: ok
;>   state=00003300
    TRY "lock cmpxchg that differs", RW, RW, lock cmpxchg [rdi], rcx
;> lock cmpxchg that differs, absent: #0e(0002)+00
;>   state=10000000
    TRY "lock cmpxchg that differs, absent", RW, ABSENT, lock cmpxchg [rdi], rcx
;> lock cmpxchg that differs, read-only: #0e(0003)+00
;>   state=10000000
    TRY "lock cmpxchg that differs, read-only", RW, RO, lock cmpxchg [rdi], rcx
;> cmpxchg8b that differs: ok
;>   state=00003300
    TRY "cmpxchg8b that differs", RW, RW, cmpxchg8b [rdi]
;> cmpxchg8b that differs, absent: #0e(0002)+00
;>   state=10000000
    TRY "cmpxchg8b that differs, absent", RW, ABSENT, cmpxchg8b [rdi]
;> cmpxchg8b that differs, read-only: #0e(0003)+00
;>   state=10000000
    TRY "cmpxchg8b that differs, read-only", RW, RO, cmpxchg8b [rdi]
;> lock cmpxchg8b that differs: ok
;>   state=00003300
    TRY "lock cmpxchg8b that differs", RW, RW, lock cmpxchg8b [rdi]
;> lock cmpxchg8b that differs, absent: #0e(0002)+00
;>   state=10000000
    TRY "lock cmpxchg8b that differs, absent", RW, ABSENT, lock cmpxchg8b [rdi]
;> lock cmpxchg8b that differs, read-only: #0e(0003)+00
;>   state=10000000
    TRY "lock cmpxchg8b that differs, read-only", RW, RO, lock cmpxchg8b [rdi]
;> cmpxchg16b that is not aligned: #0d(0000)+00
;>   state=00000000
    TRY "cmpxchg16b that is not aligned", RW, ABSENT, cmpxchg16b [rdi]
;> bts far ahead: ok
;>   state=00003310
    TRY "bts far ahead", RW, RW, bts [rdi - 0x1000], rbx
;> bts far ahead, absent: #0e(0002)+00
;>   state=10000000
    TRY "bts far ahead, absent", RW, ABSENT, bts [rdi - 0x1000], rbx
;> bts far ahead, read-only: #0e(0003)+00
;>   state=10000000
    TRY "bts far ahead, read-only", RW, RO, bts [rdi - 0x1000], rbx
;> lock btc far ahead: ok
;>   state=00003310
    TRY "lock btc far ahead", RW, RW, lock btc [rdi - 0x1000], rbx
;> lock btc far ahead, absent: #0e(0002)+00
;>   state=10000000
    TRY "lock btc far ahead, absent", RW, ABSENT, lock btc [rdi - 0x1000], rbx
;> lock btc far ahead, read-only: #0e(0003)+00
;>   state=10000000
    TRY "lock btc far ahead, read-only", RW, RO, lock btc [rdi - 0x1000], rbx
;> bts far behind: ok
;>   state=00003310
    TRY "bts far behind", RW, RW, bts [rdi + 0x1000], rbp
;> bts far behind, absent: #0e(0002)+00
;>   state=10000000
    TRY "bts far behind, absent", RW, ABSENT, bts [rdi + 0x1000], rbp
;> bts far behind, read-only: #0e(0003)+00
;>   state=10000000
    TRY "bts far behind, read-only", RW, RO, bts [rdi + 0x1000], rbp
;> bt far ahead reads: ok
;>   state=00001100
    TRY "bt far ahead reads", RW, RO, bt [rdi - 0x1000], rbx
;> fstp of 80 bits: ok
;>   state=00003311
    TRY "fstp of 80 bits", RW, RW, fstp tword [rdi]
;> fstp of 80 bits, absent: #0e(0002)+00
;>   state=10000000
    TRY "fstp of 80 bits, absent", RW, ABSENT, fstp tword [rdi]
;> fstp of 80 bits, read-only: #0e(0003)+00
;>   state=10000000
    TRY "fstp of 80 bits, read-only", RW, RO, fstp tword [rdi]
;> fbstp: ok
;>   state=00003311
    TRY "fbstp", RW, RW, fbstp [rdi]
;> fbstp, absent: #0e(0002)+00
;>   state=10000000
    TRY "fbstp, absent", RW, ABSENT, fbstp [rdi]
;> fbstp, read-only: #0e(0003)+00
;>   state=10000000
    TRY "fbstp, read-only", RW, RO, fbstp [rdi]
;> fnstenv: ok
;>   state=00003311
    TRY "fnstenv", RW, RW, fnstenv [rdi]
;> fnstenv, absent: #0e(0002)+00
;>   state=10000000
    TRY "fnstenv, absent", RW, ABSENT, fnstenv [rdi]
;> fnstenv, read-only: #0e(0003)+00
;>   state=10000000
    TRY "fnstenv, read-only", RW, RO, fnstenv [rdi]
;> fnsave: ok
;>   state=00003311
    TRY "fnsave", RW, RW, fnsave [rdi]
;> fnsave, absent: #0e(0002)+00
;>   state=10000000
    TRY "fnsave, absent", RW, ABSENT, fnsave [rdi]
;> fnsave, read-only: #0e(0003)+00
;>   state=10000000
    TRY "fnsave, read-only", RW, RO, fnsave [rdi]
;> fxsave: ok
;>   state=00003311
    TRY "fxsave", RW, RW, fxsave [rdi - 0xfc]
;> fxsave, absent: #0e(0002)+00
;>   state=10000000
    TRY "fxsave, absent", RW, ABSENT, fxsave [rdi - 0xfc]
;> fxsave, read-only: #0e(0003)+00
;>   state=10000000
    TRY "fxsave, read-only", RW, RO, fxsave [rdi - 0xfc]
;> movdqu: ok
;>   state=00003311
    TRY "movdqu", RW, RW, movdqu [rdi], xmm0
;> movdqu, absent: #0e(0002)+00
;>   state=10000000
    TRY "movdqu, absent", RW, ABSENT, movdqu [rdi], xmm0
;> movdqu, read-only: #0e(0003)+00
;>   state=10000000
    TRY "movdqu, read-only", RW, RO, movdqu [rdi], xmm0
;> maskmovdqu: ok
;>   state=00003311
    TRY "maskmovdqu", RW, RW, maskmovdqu xmm0, xmm1
;> maskmovdqu, absent: #0e(0002)+00
;>   state=10000000
    TRY "maskmovdqu, absent", RW, ABSENT, maskmovdqu xmm0, xmm1
;> maskmovdqu, read-only: #0e(0003)+00
;>   state=10000000
    TRY "maskmovdqu, read-only", RW, RO, maskmovdqu xmm0, xmm1
;> sgdt: ok
;>   state=00003311
    TRY "sgdt", RW, RW, sgdt [rdi - 2]
;> sgdt, absent: #0e(0002)+00
;>   state=10000000
    TRY "sgdt, absent", RW, ABSENT, sgdt [rdi - 2]
;> sgdt, read-only: #0e(0003)+00
;>   state=10000000
    TRY "sgdt, read-only", RW, RO, sgdt [rdi - 2]
;> vmovdqu: ok
;>   state=00003311
    TRY "vmovdqu", RW, RW, vmovdqu [rdi], ymm0
;> vmovdqu, absent: #0e(0002)+00
;>   state=10000000
    TRY "vmovdqu, absent", RW, ABSENT, vmovdqu [rdi], ymm0
;> vmovdqu, read-only: #0e(0003)+00
;>   state=10000000
    TRY "vmovdqu, read-only", RW, RO, vmovdqu [rdi], ymm0
;> xsave: ok
;>   state=00003311
    TRY "xsave", RW, RW, xsave [rdi - 0x3c]
;> xsave, absent: #0e(0002)+00
;>   state=10000000
    TRY "xsave, absent", RW, ABSENT, xsave [rdi - 0x3c]
;> xsave, read-only: #0e(0003)+00
;>   state=10000000
    TRY "xsave, read-only", RW, RO, xsave [rdi - 0x3c]
;> vmaskmovps: ok
;>   state=00003311
    TRY "vmaskmovps", RW, RW, vmaskmovps [rdi], xmm1, xmm0
;> vmaskmovps, absent: #0e(0002)+00
;>   state=10000000
    TRY "vmaskmovps, absent", RW, ABSENT, vmaskmovps [rdi], xmm1, xmm0
;> vmaskmovps, read-only: #0e(0003)+00
;>   state=10000000
    TRY "vmaskmovps, read-only", RW, RO, vmaskmovps [rdi], xmm1, xmm0

;> maskmovdqu of bytes of the first page alone: ok
;>   state=00003010
    CROSS RW, RW
    mov edi, EDGE - 4
    pcmpeqd xmm0, xmm0
    pcmpeqd xmm1, xmm1
    psrldq xmm1, 12
    HERE
    maskmovdqu xmm0, xmm1
    CROSSED "maskmovdqu of bytes of the first page alone"
;> vmaskmovps of the first page alone, the second absent: ok
;>   state=00003010
    CROSS RW, ABSENT
    mov edi, EDGE - 4
    pcmpeqd xmm0, xmm0
    pcmpeqd xmm1, xmm1
    psrldq xmm1, 12
    HERE
    vmaskmovps [rdi], xmm1, xmm0
    CROSSED "vmaskmovps of the first page alone, the second absent"

; The stack. ENTER asks whether its new top can be written, and does not write it.
;> enter whose frame ends in the first page: ok
;>   state=00000301
    CROSS RW, RW
    mov esp, EDGE + 0x10
    enter 0x1000, 0
    CROSSED "enter whose frame ends in the first page"
;> enter whose frame ends in the first page, absent: #0e(0002)+00
;>   state=00080000
    CROSS ABSENT, RW
    mov esp, EDGE + 0x10
    HERE
    enter 0x1000, 0
    CROSSED "enter whose frame ends in the first page, absent"
;> push: #0e(0002)+00
;>   state=10000000
;>   rsp=40001004
    CROSS RW, ABSENT
    mov esp, EDGE + 4
    HERE
    push rax
    CROSSED "push"
    SHOW "rsp", [f_rsp]
;> call: #0e(0003)+00
;>   state=10000000
;>   rsp=40001004
    CROSS RW, RO
    mov esp, EDGE + 4
    HERE
    call report
    CROSSED "call"
    SHOW "rsp", [f_rsp]
;> enter: #0e(0002)+00
;>   state=10000000
;>   rsp=40001004
    CROSS RW, ABSENT
    mov esp, EDGE + 4
    HERE
    enter 0x10, 0
    CROSSED "enter"
    SHOW "rsp", [f_rsp]
;> pop to memory: #0e(0002)+00
;>   state=10000000
;>   rsp=00077ff8
    CROSS RW, ABSENT
    push rax
    HERE
    pop qword [abs EDGE - 4]
    CROSSED "pop to memory"
    SHOW "rsp", [f_rsp]
;> push from memory: #0e(0000)+00
;>   state=10000000
;>   rsp=00078000
    CROSS RW, ABSENT
    HERE
    push qword [abs EDGE - 4]
    CROSSED "push from memory"
    SHOW "rsp", [f_rsp]
; The frame is pushed value by value.
;> an interrupt's frame: #0e(0002)+00
;>   state=0ff80301
;>   rsp=40001020
    CROSS ABSENT, RW
    mov esp, EDGE + 0x20
    HERE
    int 0x80
    CROSSED "an interrupt's frame"
    SHOW "rsp", [f_rsp]

; Strings: what precedes the element over the edge is done.
;> rep movsb: #0e(0002)+00
;>   state=10003010
;>   left=00000004
    CROSS RW, ABSENT
    mov esi, SCRATCH
    mov edi, EDGE - 4
    mov ecx, 8
    HERE
    rep movsb
    CROSSED "rep movsb"
    SHOW "left", [r_rcx]
;> rep movsq: #0e(0003)+00
;>   state=10003010
;>   left=00000002
    CROSS RW, RO
    mov esi, SCRATCH
    mov edi, EDGE - 12
    mov ecx, 3
    HERE
    rep movsq
    CROSSED "rep movsq"
    SHOW "left", [r_rcx]
;> rep movsq downwards: #0e(0002)+00
;>   state=0ffc0000
;>   left=00000003
    CROSS ABSENT, RW
    mov esi, SCRATCH
    mov edi, EDGE - 4
    mov ecx, 3
    std
    HERE
    rep movsq
    CROSSED "rep movsq downwards"
    SHOW "left", [r_rcx]
;> rep movsd from there: #0e(0000)+00
;>   state=10001000
;>   left=00000002
    CROSS RO, ABSENT
    mov esi, EDGE - 6
    mov edi, SCRATCH + 0x100
    mov ecx, 3
    HERE
    rep movsd
    CROSSED "rep movsd from there"
    SHOW "left", [r_rcx]

; The user and a supervisor's page.
;> a user's store: #0e(0007)+00
;>   state=10000000
    CROSS RW + 4, RW
    USER64 .store, UCODE64
.store:
    HERE
    mov [abs EDGE - 4], rbx
    bits 32
    END "a user's store"
    call report
;> a user's load: #0e(0005)+00
;>   state=10000000
    CROSS RW + 4, RW
    USER64 .load, UCODE64
.load:
    HERE
    mov rbx, [abs EDGE - 4]
    bits 32
    END "a user's load"
    call report
;> a user's locked add: #0e(0007)+00
;>   state=10000000
    CROSS RW + 4, RW
    USER64 .add, UCODE64
.add:
    HERE
    lock add [abs EDGE - 4], rbx
    bits 32
    END "a user's locked add"
    call report
;> code over the edge: #0e(0010)+00
;>   state=10001000
    CROSS RW, ABSENT
    mov byte [abs ONE + 0xfff], 0x48
    mov eax, EDGE - 1
    HERE_AT EDGE - 1
    jmp rax
    bits 32
    END "code over the edge"
    mov byte [ONE + 0xfff], 0x11
    call report
;> code over the edge, not executable there: #0e(0011)+00
;>   state=10001000
    CROSS RW, RW + NX
    mov byte [abs ONE + 0xfff], 0x48
    mov eax, EDGE - 1
    HERE_AT EDGE - 1
    jmp rax
    bits 32
    END "code over the edge, not executable there"
    mov byte [ONE + 0xfff], 0x11
    call report
    ret

; The entries of HIGH: rights in EDX and ECX, upper halves in EBX and EBP; the frames full of 11h.
two_pages:
    mov eax, edx
    or eax, ONE
    mov [PT64], eax
    mov [PT64 + 4], ebx
    mov eax, ecx
    or eax, TWO
    mov [PT64 + 8], eax
    mov [PT64 + 12], ebp
    mov eax, 0x11111111
    mov edi, ONE
    mov ecx, 1024
    rep stosd
    mov edi, TWO
    mov ecx, 1024
    rep stosd
    xor eax, eax
    mov cr2, eax
    mov [f_cr2], eax
    ret

report:
    movzx ebx, word [f_cr2]
    mov eax, [PT64]
    call .marks
    mov eax, [PT64 + 8]
    call .marks
    mov edi, ONE
    call .changed
    mov edi, TWO
    call .changed
    SHOW "state", ebx
    ret
.marks:
    shl ebx, 4
    shr eax, 5
    and eax, 3
    or ebx, eax
    ret
.changed:
    shl ebx, 4
    mov eax, 0x11111111
    mov ecx, 1024
    repe scasd
    setne al
    or bl, al
    ret
