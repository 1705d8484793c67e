; The system instructions that the other tests have no use for: tables, the machine status word, caches, extended state, counters,
; random numbers. In ring 3 most of them are refused.
%include "lib.inc"

CR4_TSD     equ 1 << 2
CR4_OSFXSR  equ 1 << 9
CR4_OSXSAVE equ 1 << 18
TSC_AUX     equ 0xc0000103

; CR4_SET bits / CR4_CLEAR bits
%macro CR4_SET 1
    mov eax, cr4
    or eax, %1
    mov cr4, eax
%endmacro
%macro CR4_CLEAR 1
    mov eax, cr4
    and eax, ~(%1)
    mov cr4, eax
%endmacro

test_main:
;> tables: ok
;>   limit of IDT=000007ff
;>   LDT=00000000
    PROBE
    sidt [SCRATCH]
    sldt ax
    movzx eax, ax
    mov [SCRATCH + 8], eax
    END "tables"
    movzx eax, word [SCRATCH]
    SHOW "limit of IDT", eax
    SHOW "LDT", [SCRATCH + 8]

;> lmsw: ok
;>   status=0000000d
    PROBE
    mov eax, 8                  ; TS, and an attempt to leave protected mode
    smsw ecx
    and ecx, 4
    or eax, ecx
    lmsw ax
    smsw eax
    and eax, 9
    or eax, 4
    mov [SCRATCH], eax
    clts
    END "lmsw"
    SHOW "status", [SCRATCH]
;> lmsw in ring 3: #0d(0000)+00
    PROBE
    USER .lmsw
.lmsw:
    HERE
    lmsw ax
    END "lmsw in ring 3"

;> caches: ok
    PROBE
    wbinvd
    invd
    END "caches"
;> wbinvd in ring 3: #0d(0000)+00
    PROBE
    USER .wbinvd
.wbinvd:
    HERE
    wbinvd
    END "wbinvd in ring 3"
;> invd in ring 3: #0d(0000)+00
    PROBE
    USER .invd
.invd:
    HERE
    invd
    END "invd in ring 3"
    xor eax, eax
    mov [SCRATCH], eax
    mov [SCRATCH + 4], eax
    mov [SCRATCH + 8], eax
    mov [SCRATCH + 12], eax
;> invpcid, all: ok
;q> invpcid, all: #06(0000)+f7
    PROBE
    mov eax, 2
    invpcid eax, [SCRATCH]
    END "invpcid, all"
;> invpcid of no type: #0d(0000)+00
;q> invpcid of no type: #06(0000)+00
    PROBE
    mov eax, 4
    HERE
    invpcid eax, [SCRATCH]
    END "invpcid of no type"
;> invpcid of a PCID that cannot be: #0d(0000)+00
;q> invpcid of a PCID that cannot be: #06(0000)+00
    PROBE
    mov eax, 1
    mov dword [SCRATCH], 0x1000
    HERE
    invpcid eax, [SCRATCH]
    END "invpcid of a PCID that cannot be"
;> invpcid in ring 3: #0d(0000)+00
;q> invpcid in ring 3: #06(0000)+00
    PROBE
    USER .invpcid
.invpcid:
    mov eax, 2
    HERE
    invpcid eax, [SCRATCH]
    END "invpcid in ring 3"

;> xsetbv without OSXSAVE: #06(0000)+00
    PROBE
    CR4_CLEAR CR4_OSXSAVE
    xor ecx, ecx
    xor edx, edx
    mov eax, 7
    HERE
    xsetbv
    END "xsetbv without OSXSAVE"
;> xgetbv without OSXSAVE: #06(0000)+00
    PROBE
    xor ecx, ecx
    HERE
    xgetbv
    END "xgetbv without OSXSAVE"
    CR4_SET CR4_OSXSAVE | CR4_OSFXSR
;> xsetbv: ok
;>   enabled=00000007
    PROBE
    xor ecx, ecx
    xor edx, edx
    mov eax, 7
    xsetbv
    xgetbv
    mov [SCRATCH], eax
    END "xsetbv"
    SHOW "enabled", [SCRATCH]
;> AVX without SSE: #0d(0000)+00
    PROBE
    xor ecx, ecx
    xor edx, edx
    mov eax, 5
    HERE
    xsetbv
    END "AVX without SSE"
;> no x87: #0d(0000)+00
    PROBE
    xor ecx, ecx
    xor edx, edx
    mov eax, 6
    HERE
    xsetbv
    END "no x87"
;> no such register: #0d(0000)+00
    PROBE
    mov ecx, 2
    xor edx, edx
    mov eax, 7
    HERE
    xsetbv
    END "no such register"
;> xsetbv in ring 3: #0d(0000)+00
    PROBE
    USER .xsetbv
.xsetbv:
    xor ecx, ecx
    xor edx, edx
    mov eax, 7
    HERE
    xsetbv
    END "xsetbv in ring 3"
;> compacted: ok
;q> compacted: #06(0000)+f9
;>   header=00000002
;q>   header=55555555
;>   form=80000000
;q>   form=55555555
    PROBE
    mov ecx, 0x340 / 4
    mov edi, SCRATCH
    mov eax, 0x55555555
    rep stosd
    fninit
    pcmpeqd xmm0, xmm0
    xor edx, edx
    mov eax, 2
    xsavec [SCRATCH]
    END "compacted"
    SHOW "header", [SCRATCH + 512]
    SHOW "form", [SCRATCH + 524]
    CR4_CLEAR CR4_OSXSAVE

;> cpuid: ok
    PROBE
    mov eax, 1
    cpuid
    and edx, 1 << 4             ; TSC
    cmp edx, 1 << 4
    je .counted
    ud2
.counted:
    END "cpuid"
;> rdtsc goes on: ok
    PROBE
    rdtsc
    mov esi, eax
    mov edi, edx
    mov ecx, 1000
.wait:
    loop .wait
    rdtsc
    sub eax, esi
    sbb edx, edi
    jc .backwards
    or eax, edx
    jnz .forwards
.backwards:
    ud2
.forwards:
    END "rdtsc goes on"
;> whose counter: ok
;>   rdtscp=00001234
    PROBE
    mov ecx, TSC_AUX
    mov eax, 0x1234
    xor edx, edx
    wrmsr
    rdtscp
    mov [SCRATCH], ecx
    END "whose counter"
    SHOW "rdtscp", [SCRATCH]
;> rdpid: ok
;q> rdpid: #06(0000)+f7
;>   rdpid=00001234
    PROBE
    rdpid eax
    mov [SCRATCH], eax
    END "rdpid"
    SHOW "rdpid", [SCRATCH]
    CR4_SET CR4_TSD
;> rdtsc in ring 3: #0d(0000)+00
    PROBE
    USER .rdtsc
.rdtsc:
    HERE
    rdtsc
    END "rdtsc in ring 3"
;> rdtscp in ring 3: #0d(0000)+00
    PROBE
    USER .rdtscp
.rdtscp:
    HERE
    rdtscp
    END "rdtscp in ring 3"
    CR4_CLEAR CR4_TSD
;> rdpmc in ring 3: #0d(0000)+00
    PROBE
    USER .rdpmc
.rdpmc:
    xor ecx, ecx
    HERE
    rdpmc
    END "rdpmc in ring 3"
;> random: ok
    PROBE
    rdrand eax
    jnc .unlucky
    rdrand ecx
    jnc .unlucky
    rdseed edx
    jnc .unlucky
    cmp eax, ecx
    jne .random
.unlucky:
    ud2
.random:
    END "random"
    ret
