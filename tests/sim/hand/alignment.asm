; Alignment checks, and what CR4 takes from ring 3: RDTSC, RDPMC, SGDT and its like (SDM vol. 3A, 6.15 interrupt 17; 2.5).
%include "lib.inc"

; ALIGNED: CR0.AM on, and ring 3 with EFLAGS.AC.
%macro CHECKED 1
    mov eax, cr0
    or eax, 1 << 18
    mov cr0, eax
    USER %1, 0x40002
%endmacro

test_main:
    mov dword [SCRATCH], 0x11223344
;> a dword at 1: #11(0000)+00
    PROBE
    CHECKED .u1
.u1:
    HERE
    mov eax, [SCRATCH + 1]
    END "a dword at 1"
;> a dword at 2: #11(0000)+00
    PROBE
    CHECKED .u2
.u2:
    HERE
    mov eax, [SCRATCH + 2]
    END "a dword at 2"
;> a word at 2 and a byte anywhere: #80(0000)+00
    PROBE
    CHECKED .u3
.u3:
    mov ax, [SCRATCH + 2]
    mov al, [SCRATCH + 3]
    mov eax, [SCRATCH + 4]
    int 0x80
    HERE
    END "a word at 2 and a byte anywhere"
;> a word at 1, written: #11(0000)+00
    PROBE
    CHECKED .u4
.u4:
    HERE
    mov [SCRATCH + 1], ax
    END "a word at 1, written"
;> a push: #11(0000)+00
    PROBE
    CHECKED .u5
.u5:
    mov esp, USTACK - 2
    HERE
    push eax
    END "a push"
;> a string: #11(0000)+00
    PROBE
    CHECKED .u6
.u6:
    mov esi, SCRATCH
    mov edi, SCRATCH + 0x101
    mov ecx, 4
    HERE
    rep movsd
    END "a string"
;>   ecx=00000004
    SHOW "ecx", [r_ecx]
;> a double: #11(0000)+00
    PROBE
    fninit
    CHECKED .u7
.u7:
    fld qword [SCRATCH + 8]
    HERE
    fld qword [SCRATCH + 4]
    END "a double"
;> a read-modify-write: #11(0000)+00
    PROBE
    CHECKED .u8
.u8:
    HERE
    lock add dword [SCRATCH + 1], 1
    END "a read-modify-write"
;>   memory=11223344
    SHOW "memory", [SCRATCH]
;> without EFLAGS.AC: #80(0000)+00
    PROBE
    mov eax, cr0
    or eax, 1 << 18
    mov cr0, eax
    USER .u9
.u9:
    mov eax, [SCRATCH + 1]
    int 0x80
    HERE
    END "without EFLAGS.AC"
;> without CR0.AM: #80(0000)+00
    PROBE
    mov eax, cr0
    and eax, ~(1 << 18)
    mov cr0, eax
    USER .u10, 0x40002
.u10:
    mov eax, [SCRATCH + 1]
    int 0x80
    HERE
    END "without CR0.AM"
;> in ring 0: ok
    PROBE
    mov eax, cr0
    or eax, 1 << 18
    mov cr0, eax
    push dword 0x40002
    popfd
    mov eax, [SCRATCH + 1]
    push dword 2
    popfd
    END "in ring 0"
;> an interrupt's frame is the supervisor's: #80(0000)+00
    PROBE
    CHECKED .u11
.u11:
    mov esp, USTACK - 1
    int 0x80
    HERE
    END "an interrupt's frame is the supervisor's"
    mov eax, cr0
    and eax, ~(1 << 18)
    mov cr0, eax

;> rdtsc in ring 3: #80(0000)+00
    PROBE
    USER .u12
.u12:
    rdtsc
    int 0x80
    HERE
    END "rdtsc in ring 3"
;> rdtsc in ring 3 with TSD: #0d(0000)+00
    PROBE
    mov eax, cr4
    or eax, 4
    mov cr4, eax
    rdtsc
    USER .u13
.u13:
    HERE
    rdtsc
    END "rdtsc in ring 3 with TSD"
;> rdtscp likewise: #0d(0000)+00
    PROBE
    USER .u14
.u14:
    HERE
    rdtscp
    END "rdtscp likewise"
    mov eax, cr4
    and eax, ~4
    mov cr4, eax
;> rdpmc in ring 3 without PCE: #0d(0000)+00
    PROBE
    USER .u15
.u15:
    xor ecx, ecx
    HERE
    rdpmc
    END "rdpmc in ring 3 without PCE"
;> umip takes sidt, sldt, str and sgdt: #0d(0000)+00
    PROBE
    mov eax, cr4
    or eax, 1 << 11
    mov cr4, eax
    sidt [SCRATCH + 0x20]
    USER .u16
.u16:
    HERE
    sidt [SCRATCH + 0x20]
    END "umip takes sidt, sldt, str and sgdt"
;> umip and sldt: #0d(0000)+00
    PROBE
    USER .u17
.u17:
    HERE
    sldt ax
    END "umip and sldt"
;> umip and str: #0d(0000)+00
    PROBE
    USER .u18
.u18:
    HERE
    str ax
    END "umip and str"
    mov eax, cr4
    and eax, ~(1 << 11)
    mov cr4, eax
    ret
