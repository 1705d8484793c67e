; LAR, LSL, VERR and VERW on descriptors of every type, DPL and presence, by every RPL and CPL, in protected and in long mode (SDM vol. 2,
; their pages; vol. 3A, 5.10).
;
; A row is a type: S and the type field. The two halves are of CPL 0 and of CPL 3. In each half two digits are what LAR found, two LSL,
; two VERR, two VERW: bits 0 to 3 of an absent descriptor, 4 to 7 of a present one; of four bits, 0 is DPL 0 and RPL 0, 1 is DPL 0
; and RPL 3, 2 is DPL 3 and RPL 0, 3 is DPL 3 and RPL 3. So 55 is "RPL 0 alone", f0 "present alone".
%include "lib.inc"
%include "long.inc"

; What the descriptor is, but for its type, DPL and presence: base 12345678h, limit 9abcdh in pages.
LOW     equ 0x5678abcd
MIDDLE  equ 0x12890034
RIGHTS  equ 0x00f0ff00          ; what LAR gives of it, but for the limit, which is undefined
LIMIT   equ 0x9abcdfff

; EXAMINE: all rows at this CPL, into the four bytes at EDI and each sixteen on; the fifth is not zero where a value was
; wrong. The same in 32-bit and in 64-bit code.
%macro EXAMINE 0
    xor esi, esi                ; the type
%%type:
    xor ebp, ebp                ; P, DPL and RPL
    mov dword [edi], 0
%%one:
    mov eax, esi
    shl eax, 8
    or eax, MIDDLE
    test ebp, 2
    jz %%better
    or eax, 3 << 13
%%better:
    test ebp, 4
    jz %%absent
    or eax, 1 << 15
%%absent:
    mov [abs gdt + SPARE + 4], eax
    mov ebx, ebp
    and ebx, 1
    imul ebx, ebx, 3
    or ebx, SPARE
    mov ecx, ebp
    mov edx, 1                  ; its bit in the row
    shl edx, cl
    mov ecx, eax                ; what LAR has to give
    and ecx, RIGHTS
    mov eax, 0x55555555
    lar eax, ebx
    jnz %%nolar
    or [edi], dl
    and eax, RIGHTS
    cmp eax, ecx
    je %%lsl
    or byte [edi + 4], 1
    jmp %%lsl
%%nolar:
    cmp eax, 0x55555555
    je %%lsl
    or byte [edi + 4], 2
%%lsl:
    mov eax, 0x55555555
    lsl eax, ebx
    jnz %%nolsl
    or [edi + 1], dl
    cmp eax, LIMIT
    je %%verr
    or byte [edi + 4], 4
    jmp %%verr
%%nolsl:
    cmp eax, 0x55555555
    je %%verr
    or byte [edi + 4], 8
%%verr:
    verr bx
    jnz %%verw
    or [edi + 2], dl
%%verw:
    verw bx
    jnz %%next
    or [edi + 3], dl
%%next:
    inc ebp
    cmp ebp, 8
    jne %%one
    add edi, 16
    inc esi
    cmp esi, 32
    jne %%type
%endmacro

test_main:
    call long_tables
    call clear
    mov dword [gdt + SPARE], LOW
    mov dword [gdt + SPARE2], 0
    mov dword [gdt + SPARE2 + 4], 0
;> protected mode: #80(0000)+00
    PROBE
    mov edi, results
    EXAMINE
    USER .ring3
.ring3:
    mov edi, results + 8
    EXAMINE
    int 0x80
    HERE
    END "protected mode"
;> 00: 00000000 00000000
;> 01: dddd0000 cccc0000
;> 02: dddd0000 cccc0000
;> 03: dddd0000 cccc0000
;> 04: dd000000 cc000000
;> 05: dd000000 cc000000
;> 06: 00000000 00000000
;> 07: 00000000 00000000
;> 08: 00000000 00000000
;> 09: dddd0000 cccc0000
;> 0a: 00000000 00000000
;> 0b: dddd0000 cccc0000
;> 0c: dd000000 cc000000
;> 0d: 00000000 00000000
;> 0e: 00000000 00000000
;> 0f: 00000000 00000000
;> 10: dddddd00 cccccc00
;> 11: dddddd00 cccccc00
;> 12: dddddddd cccccccc
;> 13: dddddddd cccccccc
;> 14: dddddd00 cccccc00
;> 15: dddddd00 cccccc00
;> 16: dddddddd cccccccc
;> 17: dddddddd cccccccc
;> 18: dddd0000 cccc0000
;> 19: dddd0000 cccc0000
;> 1a: dddddd00 cccccc00
;> 1b: dddddd00 cccccc00
;> 1c: ffff0000 ffff0000
;> 1d: ffff0000 ffff0000
;> 1e: ffffff00 ffffff00
;> 1f: ffffff00 ffffff00
    call print_rows
    call clear
;> long mode: #80(0000)+00
    PROBE
    LONG
    mov edi, results
    EXAMINE
    USER64 .user, UCODE64
.user:
    mov edi, results + 8
    EXAMINE
    int 0x80
    HERE
    bits 32
    END "long mode"
;> 00: 00000000 00000000
;> 01: 00000000 00000000
;q> 01: dddd0000 cccc0000
;> 02: dddd0000 cccc0000
;> 03: 00000000 00000000
;q> 03: dddd0000 cccc0000
;> 04: 00000000 00000000
;q> 04: dd000000 cc000000
;> 05: 00000000 00000000
;q> 05: dd000000 cc000000
;> 06: 00000000 00000000
;> 07: 00000000 00000000
;> 08: 00000000 00000000
;> 09: dddd0000 cccc0000
;> 0a: 00000000 00000000
;> 0b: dddd0000 cccc0000
;> 0c: dd000000 cc000000
;> 0d: 00000000 00000000
;> 0e: 00000000 00000000
;> 0f: 00000000 00000000
;> 10: dddddd00 cccccc00
;> 11: dddddd00 cccccc00
;> 12: dddddddd cccccccc
;> 13: dddddddd cccccccc
;> 14: dddddd00 cccccc00
;> 15: dddddd00 cccccc00
;> 16: dddddddd cccccccc
;> 17: dddddddd cccccccc
;> 18: dddd0000 cccc0000
;> 19: dddd0000 cccc0000
;> 1a: dddddd00 cccccc00
;> 1b: dddddd00 cccccc00
;> 1c: ffff0000 ffff0000
;> 1d: ffff0000 ffff0000
;> 1e: ffffff00 ffffff00
;> 1f: ffffff00 ffffff00
    call print_rows
    call clear
;> in compatibility code: #80(0000)+00
    PROBE
    LONG
    USER64 .compatible, UCODE32
    bits 32
.compatible:
    mov eax, UDATA64
    mov ds, eax
    mov es, eax
    mov edi, results + 8
    EXAMINE
    int 0x80
    HERE
    END "in compatibility code"
;>   call gate=000000cc
    movzx eax, byte [results + 0xc * 16 + 8]
    SHOW "call gate", eax
;>   small TSS=00000000
;q>   small TSS=000000cc
    movzx eax, byte [results + 16 + 8]
    SHOW "small TSS", eax
;> other sizes: ok
    PROBE
    mov dword [gdt + SPARE + 4], MIDDLE | 0x9200
    LONG
    mov rax, -1
    mov rdx, rax
    mov ebx, SPARE
    lar ax, bx
    lsl dx, bx
    mov [abs r_rax], rax
    mov [abs r_rdx], rdx
    mov rax, -1
    mov rdx, rax
    lar rax, ebx
    lsl rdx, ebx
    mov [abs r_rbx], rdx
    shr rax, 32
    shr rdx, 32
    or rax, rdx
    mov [abs r_rcx], rax
    LEGACY
    END "other sizes"
;>   lar of 16 bits=ffff9200
    SHOW "lar of 16 bits", [r_rax]
;>   lsl of 16 bits=ffffdfff
    SHOW "lsl of 16 bits", [r_rdx]
;>   lsl of 64 bits=9abcdfff
    SHOW "lsl of 64 bits", [r_rbx]
;>   upper halves=00000000
    SHOW "upper halves", [r_rcx]
;> null: ok
    PROBE
    xor ecx, ecx
    mov eax, 3
    lar ebx, eax
    setz cl
    verr ax
    setz ch
    END "null"
;>   found=00000000
    SHOW "found", ecx
;> lar in ring 3 of a selector in memory: #80(0000)+00
    PROBE
    mov dword [SCRATCH], UDATA
    USER .memory
.memory:
    lar ecx, [SCRATCH]
    int 0x80
    HERE
    END "lar in ring 3 of a selector in memory"
    mov eax, [r_ecx]
    and eax, 0xff00
;>   rights=0000f300
    SHOW "rights", eax
    ret

clear:
    mov edi, results
    mov ecx, 32 * 4
    xor eax, eax
    rep stosd
    ret

; A row "type: CPL 0, CPL 3", and an exclamation mark where a value was wrong.
print_rows:
    mov esi, results
    xor edi, edi
.row:
    mov eax, edi
    mov ecx, 2
    call print_hex
    call print_text
    db ": ", 0
    call .half
    mov al, ' '
    call print_char
    call .half
    mov al, 10
    call print_char
    inc edi
    cmp edi, 32
    jne .row
    ret
.half:
    mov eax, [esi]
    bswap eax
    mov ecx, 8
    call print_hex
    cmp byte [esi + 4], 0
    je .right
    mov al, '!'
    call print_char
.right:
    add esi, 8
    ret

    align 4096
results: times 32 * 4 dd 0
    align 4096
