; Code that a device writes: a virtio disk reads into the page that runs (SDM vol. 3A, 9.1.3, and 12.6: a processor sees what is
; written to its code by whomever). Sector n of the disk holds RET and then bytes of the value n. `tests/hand.rs` makes it.
%include "lib.inc"

BAR     equ 0xd0000000
RING    equ 0x330000            ; descriptors; the available ring one page on, the used ring two
HEADER  equ 0x334000
STATUS  equ 0x334100
BUFFER  equ 0x320000            ; where programs are put
VA      equ 0x40000000
PD      equ 0x300000
PT      equ 0x301000

; READ sector, to: asks for 512 bytes; WAIT waits for them.
%macro READ 2
    mov dword [HEADER + 8], %1
    mov dword [RING + 16], %2
    call submit
%endmacro
; Waits while used and available index differ.
%macro WAIT 0
%%wait:
    mov ax, [RING + 0x2002]
    cmp ax, [RING + 0x1002]
    jne %%wait
%endmacro

test_main:
    call start_disk
;> the page that was executed: ok
    PROBE
    mov dword [BUFFER], 0x000101b8
    mov dword [BUFFER + 4], 0xc300
    call BUFFER
    mov ebx, eax
    READ 5, BUFFER
    WAIT
    ; RET now: EAX stays.
    mov eax, 0x77
    call BUFFER
    movzx ecx, byte [BUFFER + 1]
    END "the page that was executed"
;>   before=00000101
    SHOW "before", ebx
;>   after=00000077
    SHOW "after", eax
;>   byte=00000005
    SHOW "byte", ecx
;> a loop that it is waited for in: ok
    PROBE
    ; The loop spins in the very sector that is read: the RET at its head ends it.
    mov esi, spin
    mov edi, BUFFER + 0x400
    mov ecx, spin_end - spin
    rep movsb
    READ 9, BUFFER + 0x400
    xor ecx, ecx
    call BUFFER + 0x400
    test ecx, ecx
    setnz cl
    movzx ecx, cl
    WAIT
    END "a loop that it is waited for in"
;>   waited=00000001
    SHOW "waited", ecx
;> straight on through what is read, wherever that happens: ok
    PROBE
    ; INC ECX all over the sector, which becomes PUSH DS behind RET, and behind the sector what goes round until something was pushed.
    mov edi, BUFFER + 0x2000
    mov ecx, 512
    mov al, 0x41
    rep stosb
    mov esi, around
    mov ecx, around_end - around
    rep movsb
    READ 0x1e, BUFFER + 0x2000
    xor ecx, ecx
    mov edx, BUFFER + 0x2000
    mov ebx, .out
    push dword .returned
    mov ebp, esp
    jmp edx
.out:
    mov eax, ebp
    sub eax, esp
    shr eax, 2
    add ecx, eax                ; each byte of the sector was executed as one or the other
    lea esp, [ebp + 4]
.returned:
    and ecx, 511
    WAIT
    END "straight on through what is read, wherever that happens"
;>   executed=00000000
    SHOW "executed", ecx
;> a string instruction that is replaced between two iterations: ok
    PROBE
    mov word [BUFFER + 0x2400], 0xaaf3
    mov byte [BUFFER + 0x2402], 0xc3
    READ 7, BUFFER + 0x2400
    mov edi, SCRATCH
    mov ecx, 0x80000
    xor eax, eax
    call BUFFER + 0x2400
    test ecx, ecx
    setnz cl
    movzx ecx, cl
    WAIT
    END "a string instruction that is replaced between two iterations"
;>   left=00000001
    SHOW "left", ecx
; Through another address of the page.
    mov edi, PD
    mov ecx, 0x2000 / 4
    xor eax, eax
    rep stosd
    mov dword [PD], 0x83
    mov dword [PD + BAR / 0x400000 * 4], BAR | 0x83
    mov dword [PD + VA / 0x400000 * 4], PT + 3
    mov dword [PT], BUFFER + 3
    mov eax, cr4
    or eax, 0x10
    mov cr4, eax
    mov eax, PD
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax
;> executed through another address: ok
    PROBE
    mov esi, spin
    mov edi, BUFFER + 0xa00
    mov ecx, spin_end - spin
    rep movsb
    READ 9, BUFFER + 0xa00
    xor ecx, ecx
    call VA + 0xa00
    test ecx, ecx
    setnz cl
    movzx ecx, cl
    WAIT
    END "executed through another address"
;>   waited=00000001
    SHOW "waited", ecx
    mov eax, cr0
    and eax, ~(1 << 31)
    mov cr0, eax
    mov eax, cr4
    and eax, ~0x10
    mov cr4, eax
    ret

around:
    cmp esp, ebp
    jne .pushed
    jmp edx
.pushed:
    jmp ebx
around_end:
spin:
    inc ecx
    jmp spin
spin_end:
; Available: the chain of header, data and status.
submit:
    movzx eax, word [RING + 0x1002]
    and eax, 7
    mov word [RING + 0x1004 + eax * 2], 0
    inc word [RING + 0x1002]
    mov word [BAR + 0x3000], 0
    ret

start_disk:
    mov edi, RING
    mov ecx, 0x5000 / 4
    xor eax, eax
    rep stosd
    mov dword [RING], HEADER
    mov dword [RING + 8], 16
    mov dword [RING + 12], 1 | 1 << 16
    mov dword [RING + 24], 512
    mov dword [RING + 28], 3 | 2 << 16
    mov dword [RING + 32], STATUS
    mov dword [RING + 40], 1
    mov dword [RING + 44], 2
    ; The BAR that the firmware set is moved, and memory and bus master are turned on: device 3.
    mov edx, 0xcf8
    mov eax, 0x80001810
    out dx, eax
    mov edx, 0xcfc
    mov eax, BAR
    out dx, eax
    mov edx, 0xcf8
    mov eax, 0x80001804
    out dx, eax
    mov edx, 0xcfc
    mov eax, 6
    out dx, eax
    mov byte [BAR + 0x14], 0
    mov byte [BAR + 0x14], 3
    mov dword [BAR + 0x08], 0
    mov dword [BAR + 0x0c], 0
    mov dword [BAR + 0x08], 1
    mov dword [BAR + 0x0c], 1
    mov byte [BAR + 0x14], 0xb
    mov word [BAR + 0x16], 0
    mov word [BAR + 0x18], 8
    mov word [BAR + 0x1a], 0xffff
    mov dword [BAR + 0x20], RING
    mov dword [BAR + 0x28], RING + 0x1000
    mov dword [BAR + 0x30], RING + 0x2000
    mov word [BAR + 0x1c], 1
    mov byte [BAR + 0x14], 0xf
    ret
