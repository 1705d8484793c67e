; A fault in the delivery of an event: which pairs make a double fault and which are handled one after the other (SDM vol. 3A, 6.15,
; interrupt 8, table 6-5).
%include "lib.inc"

PD      equ 0x300000
VA      equ 0x40000000          ; not there
EDGE    equ 0x310f9c            ; a table of vectors here has 0 to 11 in one page and the rest in the next
EDGE_VA equ 0x40400f9c          ; where it is mapped, without the next page
PT      equ 0x301000

; GATE_OF vector: puts it in order. ABSENT vector, NULL vector: out of order.
%macro GATE_OF 1
    GATE idt + (%1) * 8, CODE, AT(stubs + (%1) * 16), 0x8e, 0
%endmacro
%macro ABSENT 1
    and byte [idt + (%1) * 8 + 5], 0x7f
%endmacro
%macro NULL 1
    mov word [idt + (%1) * 8 + 2], 0
%endmacro

test_main:
;> contributory after benign: #0b(0033)+00
;q> contributory after benign: #0b(0032)+00
    PROBE
    ABSENT 6
    HERE
    ud2
    END "contributory after benign"
    GATE_OF 6
;> contributory after contributory, #DE and #NP: #08(0000)+00
    PROBE
    ABSENT 0
    xor ecx, ecx
    HERE
    div ecx
    END "contributory after contributory, #DE and #NP"
    GATE_OF 0
;> #GP and #NP: #08(0000)+00
    PROBE
    ABSENT 13
    mov eax, 0xfff8
    HERE
    mov ds, eax
    END "#GP and #NP"
;> #NP and #GP: #08(0000)+00
    PROBE
    GATE_OF 13
    NULL 11
    DESCRIPTOR FREE, 0, 0xfffff, R_DATA & 0x7f, BIG | PAGES
    mov eax, FREE
    HERE
    mov ds, eax
    END "#NP and #GP"
    GATE_OF 11
;> #SS and #NP: #08(0000)+00
    PROBE
    ABSENT 12
    mov eax, FREE
    HERE
    mov ss, eax
    END "#SS and #NP"
    GATE_OF 12
;> #TS and #GP: #08(0000)+00
    PROBE
    NULL 10
    ; A stack of the wrong ring in the TSS.
    DESCRIPTOR FREE3, 0, 0xfffff, R_CODE | DPL1, BIG | PAGES
    GATE idt + 0x53 * 8, FREE3, AT(stubs), 0xee, 0
    mov dword [tss + 0x0c], KSTACK
    mov dword [tss + 0x10], UDATA
    USER .user
.user:
    HERE
    int 0x53
    END "#TS and #GP"
    GATE_OF 10
    call reset_tss
;> an interrupt is benign: #0b(0302)+00
    PROBE
    ABSENT 0x60
    HERE
    int 0x60
    END "an interrupt is benign"
    GATE_OF 0x60
;> #DB is benign: #0b(000b)+00
;q> #DB is benign: #0b(000a)+00
    PROBE
    ABSENT 1
    push dword 0x102
    popfd
    nop
    HERE
    nop
    END "#DB is benign"
    GATE_OF 1

; With paging.
    mov edi, PD
    mov ecx, 0x2000 / 4
    xor eax, eax
    rep stosd
    mov dword [PD], 0x83
    mov dword [PD + EDGE_VA / 0x400000 * 4], PT + 3
    mov dword [PT], EDGE - 0xf9c + 3
    mov eax, cr4
    or eax, 0x10
    mov cr4, eax
    mov eax, PD
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax
;> #PF after benign: #0e(0000)+00
    PROBE
    DESCRIPTOR FREE2, VA, 0xff, 0x82, 0
    mov eax, FREE2
    lldt ax
    mov word [idt + 6 * 8 + 2], 0xc
    HERE
    ud2
    END "#PF after benign"
    GATE_OF 6
;>   cr2=40000008
    SHOW "cr2", [f_cr2]
;> #PF after contributory: #0e(0000)+00
    PROBE
    mov word [idt + 0 * 8 + 2], 0xc
    xor ecx, ecx
    HERE
    div ecx
    END "#PF after contributory"
    GATE_OF 0
;>   cr2=40000008
    SHOW "cr2", [f_cr2]
;> contributory after #PF: #08(0000)+00
    PROBE
    ABSENT 14
    HERE
    mov al, [VA + 0x123]
    END "contributory after #PF"
    GATE_OF 14
;>   cr2=40000123
    SHOW "cr2", [f_cr2]
;> #PF after #PF: #08(0000)+00
    PROBE
    mov word [idt + 14 * 8 + 2], 0xc
    HERE
    mov al, [VA + 0x123]
    END "#PF after #PF"
    GATE_OF 14
;>   cr2=40000008
    SHOW "cr2", [f_cr2]
;> the table of vectors itself: #08(0000)+00
    PROBE
    mov esi, idt
    mov edi, EDGE
    mov ecx, 12 * 8 / 4
    rep movsd
    lidt [edge_idtr]
    HERE
    mov al, [VA + 0x123]
    END "the table of vectors itself"
    lidt [idtr]
;>   cr2=4040100c
    SHOW "cr2", [f_cr2]
    xor eax, eax
    lldt ax
    mov eax, cr0
    and eax, ~(1 << 31)
    mov cr0, eax
    mov eax, cr4
    and eax, ~0x10
    mov cr4, eax
    ret

edge_idtr:
    dw 0x7ff
    dd EDGE_VA
