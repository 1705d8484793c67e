; What each level of 4-level paging takes away, alone, from a read, a write and a fetch (SDM vol. 3A, 4.5, 4.6, 4.7).
;
; A row is what is wrong with one level. Its three numbers are of ring 0 without CR0.WP, of ring 0 with it, and of ring 3: a byte each for
; a read, a write and a fetch, the error code of the page fault or ff where there was none.
%include "lib.inc"
%include "long.inc"

VA      equ 1 << 39             ; its tables are all its own
PAGE    equ 0x310000            ; RET, and a place to write

; DAMAGE bits to clear, to set in the lower and in the upper half of an entry, name
%macro DAMAGE 4
    dd ~(%1), %2, %3
    db %4
    times 32 - 12 - %strlen(%4) db 0
%endmacro

test_main:
    call long_tables
    mov dword [PML4 + 8], AT(table3) + 7
    mov dword [table3], AT(table2) + 7
    mov dword [table2], AT(table1) + 7
    mov dword [table1], PAGE + 7
    mov byte [PAGE], 0xc3
;> nothing is wrong: ok
    PROBE
    LONG
    mov dword [abs hook64], fault
    mov edi, results
    call three_ways
    mov ebx, entries
.level:
    mov ebp, damages
.damage:
    mov edx, [rbx]
    mov rsi, [rdx]
    mov eax, [rbp]
    and [rdx], eax
    mov eax, [rbp + 4]
    or [rdx], eax
    mov eax, [rbp + 8]
    or [rdx + 4], eax
    call three_ways
    mov [rdx], rsi
    add ebp, 32
    cmp ebp, damages_end
    jne .damage
    add ebx, 4
    cmp ebx, entries_end
    jne .level
    mov dword [abs f_vector], -1
    mov eax, SDATA              ; the interrupt from ring 3 left none
    mov ss, eax
    LEGACY
    END "nothing is wrong"
;> ffffff ffffff ffffff
    mov esi, results
    call print_ways
    mov edi, 4
.row:
    mov ebp, damages
.kind:
    mov eax, edi
    mov ecx, 1
    call print_hex
    mov al, ' '
    call print_char
    lea ebx, [ebp + 12]
.name:
    mov al, [ebx]
    inc ebx
    test al, al
    jz .named
    call print_char
    jmp .name
.named:
    call print_text
    db ": ", 0
    call print_ways
    add ebp, 32
    cmp ebp, damages_end
    jne .kind
    dec edi
    jnz .row
;> 4 read-only: ffffff ff03ff ff07ff
;> 4 supervisor's: ffffff ffffff 050715
;> 4 not executable: ffff11 ffff11 ffff15
;> 4 absent: 000210 000210 040614
;> 4 reserved: 090b19 090b19 0d0f1d
;q> 4 reserved: 080a18 080a18 0c0e1c
;> 3 read-only: ffffff ff03ff ff07ff
;> 3 supervisor's: ffffff ffffff 050715
;> 3 not executable: ffff11 ffff11 ffff15
;> 3 absent: 000210 000210 040614
;> 3 reserved: 090b19 090b19 0d0f1d
;q> 3 reserved: 080a18 080a18 0c0e1c
;> 2 read-only: ffffff ff03ff ff07ff
;> 2 supervisor's: ffffff ffffff 050715
;> 2 not executable: ffff11 ffff11 ffff15
;> 2 absent: 000210 000210 040614
;> 2 reserved: 090b19 090b19 0d0f1d
;q> 2 reserved: 080a18 080a18 0c0e1c
;> 1 read-only: ffffff ff03ff ff07ff
;> 1 supervisor's: ffffff ffffff 050715
;> 1 not executable: ffff11 ffff11 ffff15
;> 1 absent: 000210 000210 040614
;> 1 reserved: 090b19 090b19 0d0f1d
;q> 1 reserved: 080a18 080a18 0c0e1c
    ret

; Three numbers at ESI, and the end of the line.
print_ways:
    mov ebx, 3
.number:
    mov eax, [esi]
    mov ecx, 6
    call print_hex
    add esi, 4
    mov al, ' '
    dec ebx
    jnz .space
    mov al, 10
.space:
    call print_char
    test ebx, ebx
    jnz .number
    ret

    bits 64
; Tries all, three times, into the dwords at RDI.
three_ways:
    mov rax, VA
    invlpg [rax]
    mov [abs kept], rsp
    mov dword [abs after], .first
    jmp try
.first:
    mov [rdi], r13d
    mov rax, cr0
    bts rax, 16
    mov cr0, rax
    mov dword [abs after], .second
    jmp try
.second:
    mov [rdi + 4], r13d
    mov rax, cr0
    btr rax, 16
    mov cr0, rax
    mov dword [abs after], .third
    USER64 try, UCODE64
.third:
    mov [rdi + 8], r13d
    add edi, 12
    ret

; A read, a write and a call at VA: three bytes in R13. R14 is where a fault leads, with the stack in R15.
try:
    xor r13d, r13d
    mov r15, rsp
    mov rcx, VA
    mov r12d, 0xff
    mov r14d, .read
    mov al, [rcx]
.read:
    shl r13d, 8
    or r13d, r12d
    mov r12d, 0xff
    mov r14d, .written
    mov [rcx + 8], al
.written:
    shl r13d, 8
    or r13d, r12d
    mov r12d, 0xff
    mov r14d, .called
    call rcx
.called:
    shl r13d, 8
    or r13d, r12d
    int 0x80

; A page fault's code goes to R12, and the program goes on; INT 80h is the end.
fault:
    cmp dword [rsp], 14
    jne .other
    mov r12d, [rsp + 8]
    mov [rsp + 16], r14
    mov [rsp + 40], r15
    jmp resume64
.other:
    cmp dword [rsp], 0x80
    jne arrive64.end
    mov rsp, [abs kept]
    mov eax, [abs after]
    jmp rax
    bits 32

entries:
    dd PML4 + 8, table3, table2, table1
entries_end:
damages:
    DAMAGE 2, 0, 0, "read-only"
    DAMAGE 4, 0, 0, "supervisor's"
    DAMAGE 0, 0, 1 << 31, "not executable"
    DAMAGE 1, 0, 0, "absent"
    DAMAGE 0, 0, 1 << 19, "reserved"
damages_end:
    align 8
kept:   dq 0
after:  dd 0
    align 4096
results: times 3 * 21 dd 0
    align 4096
table3: times 512 dq 0
table2: times 512 dq 0
table1: times 512 dq 0
