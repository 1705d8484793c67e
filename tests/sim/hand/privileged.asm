; What system registers refuse, and who may touch them, in long mode: SWAPGS, MSRs, control and debug registers, INVPCID (SDM vol. 2, the
; instructions' pages; vol. 3A, 2.5, 10.8.5, 10.8.6; vol. 3B, 18.2; vol. 4).
%include "lib.inc"
%include "long.inc"

FS_BASE equ 0xc0000100
GS_BASE equ 0xc0000101
KERNEL_GS equ 0xc0000102
APIC    equ 0xfee00000

; REFUSED name, instruction: in ring 0, with a number that is not canonical in RAX and in EDX:EAX, and MSR ECX.
%macro REFUSED 3+
    PROBE
    LONG
    mov ecx, %2
    mov rax, 0x0000800000000000
    mov edx, 0x8000
    HERE
    %3
    LEGACY
    END %1
%endmacro
; REFUSED_MSR name, MSR, low, high: a WRMSR.
%macro REFUSED_MSR 4
    PROBE
    LONG
    mov ecx, %2
    mov eax, %3
    mov edx, %4
    HERE
    wrmsr
    LEGACY
    END %1
%endmacro
; USERS name, instruction: in ring 3.
%macro USERS 2+
    PROBE
    LONG
    USER64 %%user, UCODE64
%%user:
    HERE
    %2
    int 0x80
    bits 32
    END %1
%endmacro
; CR name, number, bits to set, bits to clear: a MOV to a control register.
%macro CR 4
    PROBE
    LONG
    mov rax, cr%2
    mov rbx, %4
    not rbx
    and rax, rbx
    mov rbx, %3
    or rax, rbx
    HERE
    mov cr%2, rax
    LEGACY
    END %1
%endmacro

test_main:
    call long_tables
;> swapgs: ok
    PROBE
    mov dword [SCRATCH], 1
    mov dword [SCRATCH + 0x100], 2
    LONG
    MSR GS_BASE, SCRATCH
    MSR KERNEL_GS, SCRATCH + 0x100
    mov ebx, 21
.swap:
    swapgs
    mov edi, [gs:0]
    dec ebx
    jnz .swap
    mov ecx, GS_BASE
    rdmsr
    mov esi, eax
    mov ecx, KERNEL_GS
    rdmsr
    mov [abs r_rax], rax
    mov [abs r_rsi], rsi
    mov [abs r_rdi], rdi
    LEGACY
    END "swapgs"
;>   read=00000002
    SHOW "read", [r_rdi]
;>   gs=00200100
    SHOW "gs", [r_rsi]
;>   kernel=00200000
    SHOW "kernel", [r_rax]
;> swapgs in ring 3: #0d(0000)+00
    USERS "swapgs in ring 3", swapgs
;> swapgs in compatibility code: #06(0000)+00
    PROBE
    LONG
    push CODE
    push .compatible
    retfq
    bits 32
.compatible:
    HERE
    db 0x0f, 0x01, 0xf8
    call from_long
    END "swapgs in compatibility code"

; MSRs that hold addresses.
;> FS_BASE: #0d(0000)+00
    REFUSED "FS_BASE", FS_BASE, wrmsr
;> GS_BASE: #0d(0000)+00
    REFUSED "GS_BASE", GS_BASE, wrmsr
;> KERNEL_GS_BASE: #0d(0000)+00
    REFUSED "KERNEL_GS_BASE", KERNEL_GS, wrmsr
;> CSTAR: #0d(0000)+00
    REFUSED "CSTAR", CSTAR, wrmsr
;> SYSENTER_ESP: #0d(0000)+00
    REFUSED "SYSENTER_ESP", 0x175, wrmsr
;> SYSENTER_EIP: #0d(0000)+00
    REFUSED "SYSENTER_EIP", 0x176, wrmsr
;> SYSENTER_CS takes anything: ok
    REFUSED "SYSENTER_CS takes anything", 0x174, wrmsr
;> TSC_AUX has 32 bits: #0d(0000)+00
    REFUSED "TSC_AUX has 32 bits", 0xc0000103, wrmsr
;> PAT has types that are none: #0d(0000)+00
    PROBE
    LONG
    mov ecx, 0x277
    mov eax, 0x00070402
    mov edx, 0x00070406
    HERE
    wrmsr
    LEGACY
    END "PAT has types that are none"
; Memory types and reserved bits of the MTRRs (vol. 3A, 12.11.2).
;> MTRRs, the default a reserved type: #0d(0000)+00
    REFUSED_MSR "MTRRs, the default a reserved type", 0x2ff, 0xc02, 0
;> a fixed range of a reserved type: #0d(0000)+00
    REFUSED_MSR "a fixed range of a reserved type", 0x250, 0x06060606, 0x06030606
;> a base of a reserved type: #0d(0000)+00
    REFUSED_MSR "a base of a reserved type", 0x200, 7, 0
;> a base with reserved bits: #0d(0000)+00
    REFUSED_MSR "a base with reserved bits", 0x200, 0x806, 0
;> a base that is too wide: #0d(0000)+00
    REFUSED_MSR "a base that is too wide", 0x200, 6, 1 << 8
;> a mask with reserved bits: #0d(0000)+00
    REFUSED_MSR "a mask with reserved bits", 0x201, 0x400, 0
;> a mask: ok
    REFUSED_MSR "a mask", 0x201, 0xfff00800, 0xff
    mov ecx, 0x201
    xor eax, eax
    xor edx, edx
    wrmsr
; Registers that are only read, and one that is locked.
;> MTRR_CAP: #0d(0000)+00
    REFUSED_MSR "MTRR_CAP", 0xfe, 0x508, 0
;> MCG_CAP: #0d(0000)+00
    REFUSED_MSR "MCG_CAP", 0x179, 0, 0
;> PLATFORM_ID: #0d(0000)+00
    REFUSED_MSR "PLATFORM_ID", 0x17, 0, 0
;> ARCH_CAPABILITIES: #0d(0000)+00
    REFUSED_MSR "ARCH_CAPABILITIES", 0x10a, 0, 0
;> FEATURE_CONTROL: #0d(0000)+00
    REFUSED_MSR "FEATURE_CONTROL", 0x3a, 5, 0
;> SPEC_CTRL and a reserved bit: #0d(0000)+00
    REFUSED_MSR "SPEC_CTRL and a reserved bit", 0x48, 1 << 30, 0
;> PRED_CMD is only written: #0d(0000)+00
    REFUSED "PRED_CMD is only written", 0x49, rdmsr
; The local APIC: x2APIC mode is entered from xAPIC mode alone, and left by turning the APIC off (vol. 3A, 11.12.5).
;> APIC_BASE and a reserved bit: #0d(0000)+00
    REFUSED_MSR "APIC_BASE and a reserved bit", 0x1b, APIC | 0xb00, 0
;> APIC_BASE, extended and off: #0d(0000)+00
    REFUSED_MSR "APIC_BASE, extended and off", 0x1b, APIC | 0x500, 0
;> a register of x2APIC mode in xAPIC mode: #0d(0000)+00
    REFUSED "a register of x2APIC mode in xAPIC mode", 0x802, rdmsr
;> an unknown MSR, read: #0d(0000)+00
    REFUSED "an unknown MSR, read", 0x12345678, rdmsr
;> an unknown MSR, written: #0d(0000)+00
    REFUSED "an unknown MSR, written", 0x12345678, wrmsr
;> an unknown MSR beside the known ones: #0d(0000)+00
    REFUSED "an unknown MSR beside the known ones", 0xc0000105, rdmsr
;> rdmsr in ring 3: #0d(0000)+00
    USERS "rdmsr in ring 3", rdmsr
;> wrmsr in ring 3: #0d(0000)+00
    USERS "wrmsr in ring 3", wrmsr
;> EFER and a reserved bit: #0d(0000)+00
    PROBE
    LONG
    mov ecx, EFER
    mov eax, 0xd03
    xor edx, edx
    HERE
    wrmsr
    LEGACY
    END "EFER and a reserved bit"
;> EFER without LME: #0d(0000)+00
    PROBE
    LONG
    mov ecx, EFER
    mov eax, 0xc01
    xor edx, edx
    HERE
    wrmsr
    LEGACY
    END "EFER without LME"
;> LMA is not written: ok
    PROBE
    LONG
    MSR EFER, 0x901
    rdmsr
    mov [abs r_rax], rax
    LEGACY
    END "LMA is not written"
;>   efer=00000d01
    SHOW "efer", [r_rax]

; WRFSBASE and WRGSBASE.
;> wrgsbase without its bit of CR4: #06(0000)+00
    REFUSED "wrgsbase without its bit of CR4", 0, wrgsbase rax
    mov eax, cr4
    or eax, 1 << 16
    mov cr4, eax
;> wrgsbase: #0d(0000)+00
    REFUSED "wrgsbase", 0, wrgsbase rax
;> wrfsbase: #0d(0000)+00
    REFUSED "wrfsbase", 0, wrfsbase rax
;> wrfsbase of 32 bits: ok
    REFUSED "wrfsbase of 32 bits", 0, wrfsbase eax
;> wrfsbase in ring 3: #80(0000)+07
    USERS "wrfsbase in ring 3", wrfsbase rsp
    mov eax, cr4
    and eax, ~(1 << 16)
    mov cr4, eax

; Control registers.
;> CR0 without PE: #0d(0000)+00
    CR "CR0 without PE", 0, 0, 1
;> CR0 with NW and without CD: #0d(0000)+00
    CR "CR0 with NW and without CD", 0, 1 << 29, 1 << 30
;> CR0 has 32 bits: #0d(0000)+00
    CR "CR0 has 32 bits", 0, 1 << 32, 0
;> reserved bits of CR0 are ignored: ok
    CR "reserved bits of CR0 are ignored", 0, 1 << 20, 0
;> CR3 and an address that is too wide: #0d(0000)+00
    CR "CR3 and an address that is too wide", 3, 1 << 51, 0
;> bit 62 of CR3: #0d(0000)+00
    CR "bit 62 of CR3", 3, 1 << 62, 0
;> reserved low bits of CR3 are ignored: ok
    CR "reserved low bits of CR3 are ignored", 3, 0xfe7, 0
;> CR4 without PAE: #0d(0000)+00
    CR "CR4 without PAE", 4, 0, 1 << 5
;> an unknown bit of CR4: #0d(0000)+00
    CR "an unknown bit of CR4", 4, 1 << 15, 0
;> bit 63 of CR4: #0d(0000)+00
    CR "bit 63 of CR4", 4, 1 << 63, 0
;> PCIDs and paging off: #0d(0000)+00
    PROBE
    LONG
    mov rax, cr4
    bts rax, 17
    mov cr4, rax
    push CODE
    push .compatible2
    retfq
    bits 32
.compatible2:
    mov eax, cr0
    btr eax, 31
    HERE
    mov cr0, eax
    call from_long
    END "PCIDs and paging off"
;> there is no CR1: #06(0000)+00
    PROBE
    LONG
    HERE
    db 0x0f, 0x22, 0xc8
    LEGACY
    END "there is no CR1"
;> cr3 in ring 3: #0d(0000)+00
    USERS "cr3 in ring 3", mov rax, cr3
;> a write to cr4 in ring 3: #0d(0000)+00
    USERS "a write to cr4 in ring 3", mov cr4, rax
;> clts in ring 3: #0d(0000)+00
    USERS "clts in ring 3", clts
;> invlpg in ring 3: #0d(0000)+00
    USERS "invlpg in ring 3", invlpg [rsp]
;> invlpg of an address that is not canonical: ok
    REFUSED "invlpg of an address that is not canonical", 0, invlpg [rax]
;> lmsw in ring 3: #0d(0000)+00
    USERS "lmsw in ring 3", lmsw ax

; CR8, which is the task priority's upper half.
    mov dword [PDPT + 3 * 8], AT(apic_directory) + 3
    mov dword [apic_directory + 0x1f7 * 8], APIC | 0x93
;> cr8: ok
    PROBE
    LONG
    mov eax, 0xd
    mov cr8, rax
    mov ecx, APIC
    mov ebx, [rcx + 0x80]
    mov dword [rcx + 0x80], 0x5f
    mov rdx, cr8
    mov [abs r_rbx], rbx
    mov [abs r_rdx], rdx
    xor eax, eax
    mov cr8, rax
    LEGACY
    END "cr8"
;>   task priority=000000d0
    SHOW "task priority", [r_rbx]
;>   back=00000005
    SHOW "back", [r_rdx]
;> cr8 lets an interrupt in: ok
    PROBE
    mov dword [APIC + 0xf0], 0x1ff
    LONG
    mov dword [abs hook64], counter
    xor r8d, r8d
    mov eax, 6
    mov cr8, rax
    mov ecx, APIC
    mov dword [rcx + 0x300], 0x40060
    sti
    nop
    nop
    mov r9d, r8d
    mov eax, 5
    mov cr8, rax
    nop
    cli
    mov [abs r_rax], r8
    mov [abs r_rbx], r9
    xor eax, eax
    mov cr8, rax
    LEGACY
    END "cr8 lets an interrupt in"
;>   before=00000000
    SHOW "before", [r_rbx]
;>   after=00000001
    SHOW "after", [r_rax]
    mov dword [APIC + 0xf0], 0xff
;> cr8 of 16: #0d(0000)+00
    PROBE
    LONG
    mov eax, 16
    HERE
    mov cr8, rax
    LEGACY
    END "cr8 of 16"
;> cr8 in ring 3: #0d(0000)+00
    USERS "cr8 in ring 3", mov rax, cr8

; Debug registers.
;> dr7 has 32 bits: #0d(0000)+00
    REFUSED "dr7 has 32 bits", 0, mov dr7, rax
;> dr6 has 32 bits: #0d(0000)+00
    REFUSED "dr6 has 32 bits", 0, mov dr6, rax
;> dr0 takes what is not canonical: ok
    REFUSED "dr0 takes what is not canonical", 0, mov dr0, rax

; INVPCID: reserved bits of the descriptor count for all types, the PCID for two of them (vol. 2A, INVPCID).
%macro INVPCID 3
    PROBE
    LONG
    mov rax, %2
    mov [abs description], rax
    mov qword [abs description + 8], 0
    mov eax, %3
    HERE
    invpcid rax, [abs description]
    LEGACY
    END %1
%endmacro
;> all, and a reserved bit: #0d(0000)+00
    INVPCID "all, and a reserved bit", 0x1000, 2
;> all but global, and a reserved bit: #0d(0000)+00
    INVPCID "all but global, and a reserved bit", 1 << 63, 3
;> an address of a PCID, without PCIDs: #0d(0000)+00
    INVPCID "an address of a PCID, without PCIDs", 1, 0
;> a PCID without PCIDs: #0d(0000)+00
    INVPCID "a PCID without PCIDs", 1, 1
;> PCID 0 without PCIDs: ok
    INVPCID "PCID 0 without PCIDs", 0, 1
;> all, whatever the PCID: ok
    INVPCID "all, whatever the PCID", 1, 2
;> a type of more than 32 bits: #0d(0000)+00
    PROBE
    LONG
    mov qword [abs description], 0
    mov rax, 1 << 32
    HERE
    invpcid rax, [abs description]
    LEGACY
    END "a type of more than 32 bits"

; IA-32e mode does not begin with a 16-bit TSS (10.8.5).
;> long mode with a 16-bit TSS: #0d(0000)+00
    PROBE
    DESCRIPTOR SPARE, AT(small), 0x2b, 0x81, 0
    mov eax, SPARE
    ltr ax
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, PML4
    mov cr3, eax
    MSR EFER, 0x901
    mov eax, cr0
    or eax, 1 << 31
    HERE
    mov cr0, eax
    call from_long
    END "long mode with a 16-bit TSS"
    MSR EFER, 0
    mov eax, cr4
    and eax, ~0x20
    mov cr4, eax
    call reset_tss
    ret

    bits 64
; Counts interrupts in R8.
counter:
    inc r8d
    mov eax, APIC
    mov dword [rax + 0xb0], 0
    jmp resume64
    bits 32

    align 16
description: dq 0, 0
small:  times 0x2c db 0
    align 4096
apic_directory: times 512 dq 0
    align 4096
