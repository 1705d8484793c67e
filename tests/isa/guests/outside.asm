; Asks clocks, devices and CPUID, is interrupted by the timer, repeats, faults, and uses flags that are left undefined: all that two right
; machines may do differently, and no more.
%include "lib.inc"

main:
    OUTB 0x43, 0x34             ; the timer: every 64th of its clocks
    OUTB 0x40, 0x40
    OUTB 0x40, 0x00
    sti
    mov ebp, 1000
.round:
    rdtsc
    mov [room], eax
    xor eax, eax
    cpuid
    mov [room + 4], ebx
    OUTB 0x43, 0
    in al, 0x40
    mov [room + 8], al
    in al, 0x40
    in al, 0x61
    mov esi, room
    mov edi, room + 64
    mov ecx, 20
    rep movsb
    mov esi, room
    mov edi, room + 64
    mov ecx, 20
    repe cmpsb
    jne stop
    mov ecx, 0
    rep stosd
    mov eax, ebp
    mul eax
    pushfd                      ; with flags that MUL leaves undefined
    pop dword [room + 12]
    mov ecx, 7
    shl eax, cl
    lahf
    mov ecx, 0
    div ecx                     ; #DE
    bsf edx, ebp
    mov eax, DATA
    mov ss, eax
    push eax
    pop ss
    test ebp, 63
    jnz .no_halt
    hlt
.no_halt:
    dec ebp
    jnz .round
    cli
    cmp dword [ticks], 10
    jb stop
    mov edx, 0x604              ; PM1a control: S5
    mov eax, 0x2000
    out dx, ax
    jmp stop

    align 64
room:
    times 128 db 0
