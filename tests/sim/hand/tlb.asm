; What the TLB holds: global pages, PCIDs, INVLPG, INVPCID, and what ends it all (SDM vol. 3A, 4.10). A translation that may stay does
; stay in Atoll, so that the run does not depend on the host; QEMU drops more of them.
%include "lib.inc"
%include "long.inc"

CR4_PGE equ 1 << 7
CR4_PCIDE equ 1 << 17
ONE     equ 0x310000
OTHER   equ 0x311000

; MAP bits: HIGH is the page ONE, and is read; then the entry, not the TLB, says OTHER.
%macro MAP 1
    mov dword [abs PT64], ONE + (%1)
    mov al, [abs HIGH]
    mov dword [abs PT64], OTHER + (%1)
%endmacro
; SEEN: which page HIGH is now.
%macro SEEN 0
    movzx eax, byte [abs HIGH]
    mov [abs r_rax], rax
%endmacro
%macro SET_CR4 1
    mov rax, cr4
    or rax, %1
    mov cr4, rax
%endmacro
; LOADS_CR3 value: with bit 63.
%macro LOAD_CR3 1
    mov rax, %1
    mov cr3, rax
%endmacro
KEEP    equ 1 << 63

test_main:
    call long_tables
    mov byte [ONE], 1
    mov byte [OTHER], 2
;> a changed entry is not seen: ok
    PROBE
    LONG
    MAP 3
    SEEN
    LEGACY
    END "a changed entry is not seen"
;>   page=00000001
    SHOW "page", [r_rax]
;> invlpg: ok
    PROBE
    LONG
    MAP 3
    invlpg [abs HIGH + 0xfff]
    SEEN
    LEGACY
    END "invlpg"
;>   page=00000002
    SHOW "page", [r_rax]
;> a load of CR3: ok
    PROBE
    LONG
    MAP 3
    LOAD_CR3 PML4
    SEEN
    LEGACY
    END "a load of CR3"
;>   page=00000002
    SHOW "page", [r_rax]
;> a global page stays: ok
    PROBE
    LONG
    SET_CR4 CR4_PGE
    MAP 0x103
    LOAD_CR3 PML4
    SEEN
    LEGACY
    END "a global page stays"
;>   page=00000001
    SHOW "page", [r_rax]
;> invlpg takes a global page too: ok
    PROBE
    LONG
    SET_CR4 CR4_PGE
    MAP 0x103
    invlpg [abs HIGH]
    SEEN
    LEGACY
    END "invlpg takes a global page too"
;>   page=00000002
    SHOW "page", [r_rax]
;> a change of PGE takes all: ok
    PROBE
    LONG
    SET_CR4 CR4_PGE
    MAP 0x103
    mov rax, cr4
    btr rax, 7
    mov cr4, rax
    SEEN
    LEGACY
    END "a change of PGE takes all"
;>   page=00000002
    SHOW "page", [r_rax]
;> without PGE the bit is nothing: ok
    PROBE
    LONG
    MAP 0x103
    LOAD_CR3 PML4
    SEEN
    LEGACY
    END "without PGE the bit is nothing"
;>   page=00000002
    SHOW "page", [r_rax]
;> a PCID keeps what it had: ok
    PROBE
    LONG
    SET_CR4 CR4_PCIDE
    LOAD_CR3 PML4 + 1
    MAP 3
    LOAD_CR3 PML4 + 2
    SEEN
    mov [abs r_rbx], rax
    LOAD_CR3 PML4 + 1 + KEEP
    SEEN
    LEGACY
    END "a PCID keeps what it had"
;>   another's=00000002
    SHOW "another's", [r_rbx]
;>   its own=00000001
    SHOW "its own", [r_rax]
;> a load without bit 63 drops it: ok
    PROBE
    LONG
    SET_CR4 CR4_PCIDE
    LOAD_CR3 PML4 + 1
    MAP 3
    LOAD_CR3 PML4 + 2
    LOAD_CR3 PML4 + 1
    SEEN
    LEGACY
    END "a load without bit 63 drops it"
;>   page=00000002
    SHOW "page", [r_rax]
;> a global page, for another PCID: ok
    PROBE
    LONG
    SET_CR4 CR4_PCIDE | CR4_PGE
    LOAD_CR3 PML4 + 1
    MAP 0x103
    LOAD_CR3 PML4 + 2
    SEEN
    LEGACY
    END "a global page, for another PCID"
; It may be used there (4.10.2.4); Atoll keeps it to the PCID that it was met by.
;>   page=00000002
    SHOW "page", [r_rax]
;> bit 63 reads as zero: ok
    PROBE
    LONG
    SET_CR4 CR4_PCIDE
    LOAD_CR3 PML4 + 5 + KEEP
    mov rax, cr3
    mov [abs r_rbx], rax
    shr rax, 32
    mov [abs r_rax], rax
    LEGACY
    END "bit 63 reads as zero"
;>   cr3=00300005
    SHOW "cr3", [r_rbx]
;>   upper half=00000000
    SHOW "upper half", [r_rax]
;> bit 63 without PCIDs: #0d(0000)+00
    PROBE
    LONG
    mov rax, PML4 + KEEP
    HERE
    mov cr3, rax
    LEGACY
    END "bit 63 without PCIDs"
;> PCIDs come on with a PCID in CR3: #0d(0000)+00
    PROBE
    LONG
    LOAD_CR3 PML4 + 8
    mov rax, cr4
    bts rax, 17
    HERE
    mov cr4, rax
    LEGACY
    END "PCIDs come on with a PCID in CR3"
;> PCIDs outside of long mode: #0d(0000)+00
    PROBE
    mov eax, cr4
    bts eax, 17
    HERE
    mov cr4, eax
    END "PCIDs outside of long mode"

; INVPCID type, PCID, address
%macro INVPCID 3
    mov qword [abs description], %2
    mov rax, %3
    mov [abs description + 8], rax
    mov eax, %1
    db 0x66, 0x0f, 0x38, 0x82, 0x04, 0x25
    dd description
%endmacro
; Another PCID than the current one holds a page and a global one.
%macro HELD 0
    SET_CR4 CR4_PCIDE | CR4_PGE
    LOAD_CR3 PML4 + 1
    MAP 3
    mov dword [abs PT64 + 8], ONE + 0x103
    mov al, [abs HIGH + 0x1000]
    mov dword [abs PT64 + 8], OTHER + 0x103
    LOAD_CR3 PML4 + 2
%endmacro
; What is left: of the page, and of the global one.
%macro LEFT 0
    LOAD_CR3 PML4 + 1 + KEEP
    SEEN
    movzx eax, byte [abs HIGH + 0x1000]
    mov [abs r_rbx], rax
%endmacro
;> invpcid of an address: ok
    PROBE
    LONG
    HELD
    INVPCID 0, 1, HIGH
    LEFT
    LEGACY
    END "invpcid of an address"
;>   page=00000002
    SHOW "page", [r_rax]
;>   global=00000001
    SHOW "global", [r_rbx]
;> invpcid of another address: ok
    PROBE
    LONG
    HELD
    INVPCID 0, 1, HIGH + 0x2000
    LEFT
    LEGACY
    END "invpcid of another address"
;>   page=00000001
    SHOW "page", [r_rax]
;> invpcid of a PCID: ok
    PROBE
    LONG
    HELD
    INVPCID 1, 1, 0
    LEFT
    LEGACY
    END "invpcid of a PCID"
;>   page=00000002
    SHOW "page", [r_rax]
;>   global=00000001
    SHOW "global", [r_rbx]
;> invpcid of another PCID: ok
    PROBE
    LONG
    HELD
    INVPCID 1, 3, 0
    LEFT
    LEGACY
    END "invpcid of another PCID"
;>   page=00000001
    SHOW "page", [r_rax]
;> invpcid of all: ok
    PROBE
    LONG
    HELD
    INVPCID 2, 0, 0
    LEFT
    LEGACY
    END "invpcid of all"
;>   page=00000002
    SHOW "page", [r_rax]
;>   global=00000002
    SHOW "global", [r_rbx]
;> invpcid of all but global pages: ok
    PROBE
    LONG
    HELD
    INVPCID 3, 0, 0
    LEFT
    LEGACY
    END "invpcid of all but global pages"
;>   page=00000002
    SHOW "page", [r_rax]
;>   global=00000001
    SHOW "global", [r_rbx]
;> invpcid of no kind: #0d(0000)+00
    PROBE
    LONG
    mov eax, 4
    HERE
    invpcid rax, [abs description]
    LEGACY
    END "invpcid of no kind"
;> invpcid with reserved bits: #0d(0000)+00
    PROBE
    LONG
    mov qword [abs description], 0x1000
    mov eax, 1
    HERE
    invpcid rax, [abs description]
    LEGACY
    END "invpcid with reserved bits"
;> invpcid of an address that is not canonical: #0d(0000)+00
    PROBE
    LONG
    mov qword [abs description], 0
    mov rax, 0x800000000000
    mov [abs description + 8], rax
    xor eax, eax
    HERE
    invpcid rax, [abs description]
    LEGACY
    END "invpcid of an address that is not canonical"
;> invpcid in ring 3: #0d(0000)+00
    PROBE
    LONG
    USER64 .user, UCODE64
.user:
    mov eax, 2
    HERE
    invpcid rax, [abs description]
    bits 32
    END "invpcid in ring 3"
;> an entry that was absent is never kept: ok
    PROBE
    LONG
    mov dword [abs PT64], 0
    invlpg [abs HIGH]
    mov dword [abs hook64], absent
    mov al, [abs HIGH]
    SEEN
    mov rax, [abs faults]
    mov [abs r_rbx], rax
    mov qword [abs faults], 0
    LEGACY
    END "an entry that was absent is never kept"
;>   page=00000001
    SHOW "page", [r_rax]
;>   faults=00000001
    SHOW "faults", [r_rbx]
;> rights that were narrowed stay wide, as long as nothing drops them: ok
    PROBE
    LONG
    mov dword [abs PT64], ONE + 0x63
    invlpg [abs HIGH]
    mov rax, cr0
    bts rax, 16
    mov cr0, rax
    mov [abs HIGH + 8], al
    mov dword [abs PT64], ONE + 0x61
    mov [abs HIGH + 8], al
    LEGACY
    END "rights that were narrowed stay wide, as long as nothing drops them"
    ret

    bits 64
absent:
    inc qword [abs faults]
    mov dword [abs PT64], ONE + 3
    jmp resume64
    bits 32

    align 4096
description: dq 0, 0
faults: dq 0
    align 4096
