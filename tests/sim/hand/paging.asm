; Paging with two levels, 4 MiB pages, PSE-36 and PAE: rights, WP, SMEP, SMAP, NX, accessed and dirty bits, error codes
; (SDM vol. 3A, 4.3 to 4.8, 4.10).
%include "lib.inc"

PD      equ 0x300000            ; page directory, or PAE's pointers
PT      equ 0x301000            ; table for VA..
PD0     equ 0x302000            ; PAE: directories of the first, second ... GiB
VA      equ 0x40000000
PAGE    equ 0x310000            ; what VA is mapped to

P       equ 1
W       equ 2
U       equ 4
A       equ 0x20
D       equ 0x40
PS      equ 0x80

CR4_PSE equ 0x10
CR4_PAE equ 0x20
CR4_SMEP equ 1 << 20
CR4_SMAP equ 1 << 21

; FLAGS4 bits: the paging bits of CR4.
%macro CR4 1
    mov eax, cr4
    and eax, ~(CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP)
    or eax, %1
    mov cr4, eax
%endmacro
; PTE value: the entry of VA.
%macro PTE 1
    mov dword [PT], %1
    invlpg [VA]
%endmacro
; What CR2 and the error code were.
%macro SHOW_CR2 0
    SHOW "cr2", [f_cr2]
%endmacro

test_main:
    mov byte [PAGE], 0x5a
    mov dword [PAGE + 0x10], 0xc3c3c3c3
    CR4 CR4_PSE
    call two_levels
    mov eax, PD
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31
    and eax, ~(1 << 16)
    mov cr0, eax

;> read of an absent page: #0e(0000)+00
    PROBE
    PTE 0
    HERE
    mov al, [VA + 5]
    END "read of an absent page"
;>   cr2=40000005
    SHOW_CR2
;> write to an absent page: #0e(0002)+00
    PROBE
    HERE
    mov [VA + 5], al
    END "write to an absent page"
;> read by a user of a supervisor's page: #0e(0005)+00
    PROBE
    PTE PAGE | P | W
    USER .u1
.u1:
    HERE
    mov al, [VA]
    END "read by a user of a supervisor's page"
;> read by a user of an absent page: #0e(0004)+00
    PROBE
    PTE 0
    USER .u2
.u2:
    HERE
    mov al, [VA]
    END "read by a user of an absent page"
;> write by a user to a read-only page: #0e(0007)+00
    PROBE
    PTE PAGE | P | U
    USER .u3
.u3:
    mov al, [VA]
    HERE
    mov [VA], al
    END "write by a user to a read-only page"
;> the directory's rights count too: #0e(0007)+00
    PROBE
    PTE PAGE | P | W | U
    mov dword [PD + VA / 0x100000], PT | P | U
    invlpg [VA]
    USER .u4
.u4:
    HERE
    mov [VA], al
    END "the directory's rights count too"
    mov dword [PD + VA / 0x100000], PT | P | W | U
;> write by a supervisor to a read-only page: ok
    PROBE
    PTE PAGE | P
    mov byte [VA + 1], 1
    END "write by a supervisor to a read-only page"
;> the same with WP: #0e(0003)+00
    PROBE
    mov eax, cr0
    or eax, 1 << 16
    mov cr0, eax
    PTE PAGE | P
    mov al, [VA]
    HERE
    mov byte [VA + 1], 1
    END "the same with WP"
;> read-modify-write that fails leaves the flags: #0e(0003)+00
    PROBE
    xor ecx, ecx
    HERE
    sub byte [VA + 1], 0xff
    END "read-modify-write that fails leaves the flags"
;>   flags=00010046
;q>   flags=00000046
    SHOW "flags", [f_flags]
;> accessed and dirty bits: ok
    PROBE
    PTE PAGE | P | W
    mov ecx, [PT]
    mov al, [VA]
    mov edx, [PT]
    mov [VA], al
    mov ebx, [PT]
    END "accessed and dirty bits"
;>   before=00310003
    SHOW "before", ecx
;>   read=00310023
    SHOW "read", edx
;>   written=00310063
    SHOW "written", ebx
;> a fault sets no accessed bit: #0e(0003)+00
    PROBE
    PTE PAGE | P
    HERE
    mov [VA], al
    END "a fault sets no accessed bit"
;>   entry=00310001
    SHOW "entry", [PT]
;> invlpg is needed: ok
    PROBE
    PTE PAGE | P | W
    mov al, [VA]
    mov dword [PT], 0
    invlpg [VA]
    mov dword [hook], absent
    mov bl, [VA]
    mov ecx, [seen]
    END "invlpg is needed"
;>   faults=00000001
    SHOW "faults", ecx
    mov dword [seen], 0
;> fetch from an absent page: #0e(0000)+00
    PROBE
    PTE 0
    %define %$placed
    %$here equ VA + 0x10
    call VA + 0x10
    END "fetch from an absent page"
;> an instruction over two pages, the second absent: #0e(0000)+00
    PROBE
    PTE PAGE | P | W
    mov dword [PAGE + 0xffd], 0xb8
    mov dword [PT + 4], 0
    invlpg [VA + 0x1000]
    %define %$placed
    %$here equ VA + 0xffd
    call VA + 0xffd
    END "an instruction over two pages, the second absent"
;>   cr2=40001000
    SHOW_CR2
;> a read over two pages, the second absent: #0e(0000)+00
    PROBE
    HERE
    mov eax, [VA + 0xffe]
    END "a read over two pages, the second absent"
;>   cr2=40001000
    SHOW_CR2
;> a write over two pages, the second read-only: #0e(0003)+00
    PROBE
    mov dword [PAGE + 0xffc], 0x11111111
    mov dword [PT + 4], (PAGE + 0x1000) | P
    invlpg [VA + 0x1000]
    mov eax, 0x22222222
    HERE
    mov [VA + 0xffe], eax
    END "a write over two pages, the second read-only"
;>   memory=11111111
    SHOW "memory", [PAGE + 0xffc]
;> pages out of order: ok
    PROBE
    mov dword [PT + 4], (PAGE + 0x3000) | P | W
    invlpg [VA + 0x1000]
    mov dword [VA + 0xffe], 0x44332211
    movzx ecx, word [PAGE + 0xffe]
    movzx edx, word [PAGE + 0x3000]
    END "pages out of order"
;>   low=00002211
    SHOW "low", ecx
;>   high=00004433
    SHOW "high", edx
;> a string that runs into an absent page: #0e(0002)+00
    PROBE
    PTE PAGE | P | W
    mov dword [PT + 4], 0
    invlpg [VA + 0x1000]
    mov esi, SCRATCH
    mov edi, VA + 0xff0
    mov ecx, 8
    HERE
    rep movsd
    END "a string that runs into an absent page"
;>   ecx=00000004
    SHOW "ecx", [r_ecx]
;>   edi=40001000
    SHOW "edi", [r_edi]
;>   esi=00200010
    SHOW "esi", [r_esi]
;> a string downwards into an absent page: #0e(0002)+00
    PROBE
    mov dword [PT + 4], (PAGE + 0x1000) | P | W
    mov dword [PT], 0
    invlpg [VA]
    invlpg [VA + 0x1000]
    mov edi, VA + 0x1004
    mov ecx, 8
    std
    HERE
    rep stosw
    END "a string downwards into an absent page"
    cld
;>   ecx=00000005
    SHOW "ecx", [r_ecx]
;>   edi=40000ffe
    SHOW "edi", [r_edi]
;> a comparison that runs into an absent page: #0e(0000)+00
    PROBE
    PTE PAGE | P | W
    mov dword [PT + 4], 0
    invlpg [VA + 0x1000]
    mov esi, PAGE + 0xffc
    mov edi, VA + 0xffc
    mov ecx, 8
    HERE
    repe cmpsb
    END "a comparison that runs into an absent page"
;>   ecx=00000004
    SHOW "ecx", [r_ecx]
;> pusha over the edge moves nothing: #0e(0006)+00
    PROBE
    GATE idt + 14 * 8, CODE, AT(stubs + 14 * 16), 0x8e, 0
    mov dword [PT], 0
    mov dword [PT + 4], (PAGE + 0x1000) | P | W | U
    invlpg [VA]
    invlpg [VA + 0x1000]
    mov dword [PAGE + 0x1000], 0x77777777
    USER .pusha
.pusha:
    mov esp, VA + 0x1010
    HERE
    pushad
    END "pusha over the edge moves nothing"
;>   esp=40001010
    SHOW "esp", [f_esp]
;> call over the edge: #0e(0006)+00
    PROBE
    USER .call
.call:
    mov esp, VA + 0x1002
    HERE
    call .call
    END "call over the edge"
;>   esp=40001002
    SHOW "esp", [f_esp]
;> enter over the edge: #0e(0006)+00
;q> enter over the edge: #0d(0010)+04
    PROBE
    USER .enter
.enter:
    mov esp, VA + 0x1010
    mov ebp, 0x1234
    HERE
    enter 0x20, 0
    END "enter over the edge"
;>   esp=40001010
;q>   esp=40000fec
    SHOW "esp", [f_esp]
;>   ebp=00001234
;q>   ebp=4000100c
    SHOW "ebp", [r_ebp]

; 4 MiB pages and PSE-36.
;> a large page: ok
    PROBE
    mov dword [PD + (VA + 0x400000) / 0x100000], P | W | U | PS
    mov ecx, [VA + 0x400000 + PAGE + 0x10]
    mov edx, [PD + (VA + 0x400000) / 0x100000]
    mov [VA + 0x400000 + PAGE + 0x14], ecx
    mov ebx, [PD + (VA + 0x400000) / 0x100000]
    END "a large page"
;>   value=c3c3c3c3
    SHOW "value", ecx
;>   read=000000a7
    SHOW "read", edx
;>   written=000000e7
    SHOW "written", ebx
;> a large page above 4 GiB is not there: ok
    PROBE
    mov dword [PD + (VA + 0x800000) / 0x100000], 0x2000 | P | W | U | PS
    mov ecx, [VA + 0x800000 + PAGE + 0x10]
    cmp ecx, 0xc3c3c3c3
    setne cl
    movzx ecx, cl
    END "a large page above 4 GiB is not there"
;>   differs=00000001
    SHOW "differs", ecx
;> SMEP: #0e(0011)+00
    PROBE
    PTE PAGE | P | U
    CR4 CR4_PSE
    mov dword [PD], P | W | PS
    CR4 CR4_PSE | CR4_SMEP
    %define %$placed
    %$here equ VA + 0x10
    call VA + 0x10
    END "SMEP"
;> SMAP, read: #0e(0001)+00
    PROBE
    CR4 CR4_PSE | CR4_SMAP
    clac
    HERE
    mov al, [VA]
    END "SMAP, read"
;> SMAP with AC: ok
    PROBE
    stac
    mov al, [VA]
    clac
    END "SMAP with AC"
;> SMAP, write: #0e(0003)+00
    PROBE
    PTE PAGE | P | W | U
    HERE
    mov [VA], al
    END "SMAP, write"
    CR4 CR4_PSE
    mov eax, cr0
    and eax, ~(1 << 31 | 1 << 16)
    mov cr0, eax

; PAE.
    call pae_tables
    CR4 CR4_PAE
    mov eax, PD
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 1 << 11
    wrmsr
    mov eax, cr0
    or eax, 1 << 31 | 1 << 16
    mov cr0, eax
;> PAE: ok
    PROBE
    mov ecx, [VA + 0x10]
    mov edx, [PT]
    END "PAE"
;>   value=c3c3c3c3
    SHOW "value", ecx
;>   entry=00310027
    SHOW "entry", edx
;> no execution: #0e(0011)+00
    PROBE
    mov dword [PT + 4], 0x80000000
    invlpg [VA]
    %define %$placed
    %$here equ VA + 0x10
    call VA + 0x10
    END "no execution"
;> reserved bits: #0e(0009)+00
;q> reserved bits: #0e(0008)+00
    PROBE
    mov dword [PT + 4], 0x00100000
    invlpg [VA]
    HERE
    mov al, [VA]
    END "reserved bits"
    mov dword [PT + 4], 0
;> the pointers are read when CR3 is loaded: ok
;q> the pointers are read when CR3 is loaded: #0e(0000)+f0
    PROBE
    invlpg [VA]
    mov dword [PD + 8], 0
    invlpg [VA]
    mov ecx, [VA + 0x10]
    mov dword [PD + 8], (PD0 + 0x1000) | P
    END "the pointers are read when CR3 is loaded"
;>   value=c3c3c3c3
;q>   value=00000018
    SHOW "value", ecx
;> absent pointer: #0e(0000)+00
    PROBE
    HERE
    mov al, [0x80000000]
    END "absent pointer"
    mov eax, cr0
    and eax, ~(1 << 31 | 1 << 16)
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    and eax, ~(1 << 11)
    wrmsr
    CR4 0
    ret

; PAE: the first GiB by 2 MiB pages one to one, VA by a table.
pae_tables:
    mov edi, PD
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
    mov dword [PD], PD0 | P
    mov dword [PD + 8], (PD0 + 0x1000) | P
    mov dword [PD0 + 0x1000], PT | P | W | U
    mov dword [PT], PAGE | P | W | U
    mov edi, PD0
    mov eax, P | W | U | PS
    mov ecx, 32
.next:
    mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop .next
    ret

two_levels:
    mov edi, PD
    mov ecx, 0x2000 / 4
    xor eax, eax
    rep stosd
    ; The first 16 MiB and the APIC's 4 MiB one to one, for all.
    mov dword [PD], P | W | U | PS
    mov dword [PD + 4], 0x400000 | P | W | U | PS
    mov dword [PD + VA / 0x100000], PT | P | W | U
    ret

; Makes the page present and tries again.
absent:
    inc dword [seen]
    mov dword [PT], PAGE | P | W
    jmp resume

    align 4096
seen:   dd 0
    align 4096
