; What control registers refuse (SDM vol. 3A, 2.5, 4.4.1; vol. 2B, MOV CRn). QEMU lets most of it pass.
%include "lib.inc"

test_main:
;> bad pointer with paging on: #0d(0000)+00
    PROBE
    mov edi, 0x300000
    mov ecx, 8
    xor eax, eax
    rep stosd
    mov dword [0x300000], 0x301001
    mov dword [0x301000], 0x83
    mov dword [0x301004], 0
    mov dword [0x301008], 0x200083
    mov dword [0x30100c], 0
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, 0x300000
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax
    mov dword [0x300010], 3
    mov eax, 0x300000
    HERE
    mov cr3, eax
    END "bad pointer with paging on"
    mov eax, cr0
    and eax, ~(1 << 31)
    mov cr0, eax
;> bad pointer, paging comes on: #0d(0000)+00
    PROBE
    mov eax, cr0
    or eax, 1 << 31
    HERE
    mov cr0, eax
    END "bad pointer, paging comes on"
    mov eax, cr4
    and eax, ~0x20
    mov cr4, eax
;> paging without protection: #0d(0000)+00
    PROBE
    mov eax, cr0
    and eax, ~1
    or eax, 1 << 31
    HERE
    mov cr0, eax
    END "paging without protection"
;> NW without CD: #0d(0000)+00
    PROBE
    mov eax, cr0
    or eax, 1 << 29
    and eax, ~(1 << 30)
    HERE
    mov cr0, eax
    END "NW without CD"
;> unknown bits of CR4: #0d(0000)+00
    PROBE
    mov eax, cr4
    or eax, 1 << 15
    HERE
    mov cr4, eax
    END "unknown bits of CR4"
    ret
