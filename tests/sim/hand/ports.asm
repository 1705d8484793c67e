; The I/O permission bitmap of a 64-bit TSS: its place, its end, the limit of the TSS, accesses of all sizes by 64-bit and by
; compatibility code, IOPL, strings (SDM vol. 1, 19.5.2; vol. 3A, 8.7).
%include "lib.inc"
%include "long.inc"

TASK    equ 0x310000            ; the TSS; the bitmap is said where each probe wants it
MAP     equ 0x68                ; of port 0; the eight ports from 80h on are byte MAP + 10h

; TASK_LIMIT limit: the TSS that the next LONG loads.
%macro TASK_LIMIT 1
    DESCRIPTOR TSS64, TASK, %1, 0x89, 0
%endmacro
; ALLOWS byte, bits: eight ports of the bitmap.
%macro ALLOWS 2
    mov byte [TASK + MAP + (%1)], %2
%endmacro
; PORT64 name, port, instruction, flags, memory: one instruction in ring 3, the port in DX; PORT32 in compatibility code.
%macro PORT64 4-5 TASK + 0x3000
    PROBE
    LONG
    mov edx, %2
    mov esi, %5
    mov edi, %5
    mov ecx, 5
    USER64 %%user, UCODE64, %4
%%user:
    HERE
    %3
    int 0x80
    bits 32
    END %1
%endmacro
%macro PORT32 4-5 TASK + 0x3000
    PROBE
    LONG
    mov edx, %2
    mov esi, %5
    mov edi, %5
    mov ecx, 5
    USER64 %%user, UCODE32, %4
    bits 32
%%user:
    HERE
    %3
    int 0x80
    END %1
%endmacro

test_main:
    call long_tables
    mov edi, TASK
    mov ecx, 0x68 / 4
    xor eax, eax
    rep stosd
    mov dword [TASK + 4], KSTACK
    mov dword [TASK + 0x64], MAP << 16
    mov ecx, 8192 + 1
    mov al, 0xff
    rep stosb

    ; Ports 80h to 87h; the byte behind them is the last one, all ones.
    ALLOWS 0x10, 0
    TASK_LIMIT MAP + 0x11
;> a byte: #80(0000)+03
    PORT64 "a byte", 0x80, {in al, dx}, 2
;> the last byte: #80(0000)+03
    PORT64 "the last byte", 0x87, {in al, dx}, 2
;> a word: #80(0000)+04
    PORT64 "a word", 0x86, {in ax, dx}, 2
;> a dword: #80(0000)+03
    PORT64 "a dword", 0x84, {in eax, dx}, 2
;> a word whose second port is forbidden: #0d(0000)+00
    PORT64 "a word whose second port is forbidden", 0x87, {in ax, dx}, 2
;> a dword whose last port is forbidden: #0d(0000)+00
    PORT64 "a dword whose last port is forbidden", 0x85, {in eax, dx}, 2
;> a byte that is forbidden: #0d(0000)+00
    PORT64 "a byte that is forbidden", 0x7f, {in al, dx}, 2
;> a word whose first port is forbidden: #0d(0000)+00
    PORT64 "a word whose first port is forbidden", 0x7f, {in ax, dx}, 2
;> out: #80(0000)+03
    PORT64 "out", 0x80, {out dx, al}, 2
;> out to a dword of which one is forbidden: #0d(0000)+00
    PORT64 "out to a dword of which one is forbidden", 0x7e, {out dx, eax}, 2
;> an immediate port: #80(0000)+04
    PORT64 "an immediate port", 0, {in al, 0x80}, 2
;> an immediate port that is forbidden: #0d(0000)+00
    PORT64 "an immediate port that is forbidden", 0, {in al, 0x88}, 2
;> in compatibility code: #80(0000)+03
    PORT32 "in compatibility code", 0x84, {in eax, dx}, 2
;> a word forbidden in compatibility code: #0d(0000)+00
    PORT32 "a word forbidden in compatibility code", 0x87, {in ax, dx}, 2

; Two bytes of the bitmap are read, whatever the size: the byte behind has to be within the limit.
    TASK_LIMIT MAP + 0x10
;> the byte behind is beyond the limit: #0d(0000)+00
    PORT64 "the byte behind is beyond the limit", 0x80, {in al, dx}, 2
;> and in compatibility code: #0d(0000)+00
    PORT32 "and in compatibility code", 0x80, {in al, dx}, 2
;> the eight ports before: #0d(0000)+00
    PORT64 "the eight ports before", 0x78, {in al, dx}, 2
    ALLOWS 0xf, 0
;> allowed, the byte behind is the last: #80(0000)+03
    PORT64 "allowed, the byte behind is the last", 0x78, {in al, dx}, 2
    ALLOWS 0xf, 0xff
; No byte of ones at the end is asked for.
    ALLOWS 0x11, 0
    TASK_LIMIT MAP + 0x11
;> a word over two bytes, the second the last: #80(0000)+04
    PORT64 "a word over two bytes, the second the last", 0x87, {in ax, dx}, 2
;> a port of the last byte: #0d(0000)+00
    PORT64 "a port of the last byte", 0x88, {in al, dx}, 2
    ALLOWS 0x11, 0xff

; The base of the bitmap.
    mov word [TASK + 0x66], MAP + 0x12
;> a base beyond the limit: #0d(0000)+00
    PORT64 "a base beyond the limit", 0, {in al, 0}, 2
    mov word [TASK + 0x66], 0xffff
;> a base of ffff: #0d(0000)+00
    PORT64 "a base of ffff", 0x80, {in al, dx}, 2
    mov word [TASK + 0x66], MAP - 8
;> a base within the TSS: #80(0000)+03
    ALLOWS 0x8, 0
    PORT64 "a base within the TSS", 0x80, {in al, dx}, 2
    mov word [TASK + 0x66], MAP
    ALLOWS 0x8, 0xff
    TASK_LIMIT 0x66
;> a TSS that ends before the base: #0d(0000)+00
    PORT64 "a TSS that ends before the base", 0x80, {in al, dx}, 2
    TASK_LIMIT 0x67
;> a TSS that ends behind the base: #0d(0000)+00
    PORT64 "a TSS that ends behind the base", 0x80, {in al, dx}, 2

; All 65536 ports.
    TASK_LIMIT MAP + 8192
    ALLOWS 8191, 0x7f
;> the last port: #80(0000)+03
    PORT64 "the last port", 0xffff, {in al, dx}, 2
;> a word at the last port: #0d(0000)+00
    PORT64 "a word at the last port", 0xffff, {in ax, dx}, 2
    ALLOWS 8191, 0xff
    TASK_LIMIT MAP + 0x11

; IOPL.
;> with IOPL 3 the bitmap does not count: #80(0000)+03
    PORT64 "with IOPL 3 the bitmap does not count", 0x88, {in al, dx}, 0x3002
;> nor in compatibility code: #80(0000)+03
    PORT32 "nor in compatibility code", 0x88, {in al, dx}, 0x3002
;> with IOPL 2 it does: #0d(0000)+00
    PORT64 "with IOPL 2 it does", 0x88, {in al, dx}, 0x2002
;> and allows: #80(0000)+03
    PORT64 "and allows", 0x80, {in al, dx}, 0x2002
;> ring 0: ok
    PROBE
    LONG
    in al, 0x88
    LEGACY
    END "ring 0"

; Strings. The bitmap is looked at before memory is.
;> ins: #80(0000)+04
    PORT64 "ins", 0x80, {rep insb}, 2
    mov eax, [r_rdi]
;>   rdi=00313005
    SHOW "rdi", eax
;> outs that is forbidden: #0d(0000)+00
    PORT64 "outs that is forbidden", 0x88, {outsb}, 2
;> ins of dwords over the end: #0d(0000)+00
    PORT64 "ins of dwords over the end", 0x85, {insd}, 2
;> forbidden, and nowhere to put it: #0d(0000)+00
    PORT64 "forbidden, and nowhere to put it", 0x88, {rep insb}, 2, HIGH
;> allowed, and nowhere to put it: #0e(0006)+00
    PORT64 "allowed, and nowhere to put it", 0x80, {rep insb}, 2, HIGH
;>   left=00000005
    SHOW "left", [r_rcx]
;> nothing to take it from: #0e(0004)+00
    PORT64 "nothing to take it from", 0x80, {outsd}, 2, HIGH
; Processors ask before they count.
;> forbidden, no times: #0d(0000)+00
    PROBE
    LONG
    mov edx, 0x88
    xor ecx, ecx
    USER64 .none, UCODE64
.none:
    HERE
    rep insb
    bits 32
    END "forbidden, no times"

; What allows is looked at each time.
;> taken away after often: #0d(0000)+00
    PROBE
    LONG
    USER64 .often, UCODE64
.often:
    mov ebx, 30
.in:
    HERE
    in al, 0x80
    dec ebx
    jnz .in
    mov byte [abs TASK + MAP + 0x10], 1
    inc ebx
    jmp .in
    bits 32
    END "taken away after often"
    ALLOWS 0x10, 0

; A bitmap over two pages, of which the second is absent: it is read as a supervisor.
    mov dword [PT64], TASK + 3
    mov dword [PT64 + 8], 0
    mov word [TASK + 0x66], 0xff0
;> a bitmap that goes on in an absent page: #0e(0000)+00
    PROBE
    DESCRIPTOR TSS64, HIGH, 0x1fff, 0x89, 0
    LONG
    USER64 .absent, UCODE64
.absent:
    HERE
    in al, 0x7f
    bits 32
    END "a bitmap that goes on in an absent page"
;>   cr2=40001000
    SHOW "cr2", [f_cr2]
;> one that begins there: #0e(0000)+00
    PROBE
    DESCRIPTOR TSS64, HIGH, 0x1fff, 0x89, 0
    LONG
    USER64 .begins, UCODE64
.begins:
    HERE
    in al, 0x88
    bits 32
    END "one that begins there"
;>   cr2=40001001
    SHOW "cr2", [f_cr2]
;> the bitmap of a page that is there: #80(0000)+00
    PROBE
    mov byte [TASK + 0xffe], 0
    DESCRIPTOR TSS64, HIGH, 0x1fff, 0x89, 0
    LONG
    USER64 .there, UCODE64
.there:
    in al, 0x70
    int 0x80
    HERE
    bits 32
    END "the bitmap of a page that is there"

; A 16-bit TSS has no bitmap.
;> a 16-bit TSS: #0d(0000)+00
    PROBE
    DESCRIPTOR SPARE, AT(small), 0x2b, 0x81, 0
    mov word [small + 2], 0xfff0
    mov word [small + 4], DATA
    mov eax, SPARE
    ltr ax
    USER .small
.small:
    HERE
    in al, 0x80
    END "a 16-bit TSS"
    call reset_tss
    ret

    align 4096
small:  times 0x2c db 0
    align 4096
