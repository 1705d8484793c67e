; Prints a line, waits for timer interrupts of the local APIC, patches its own code, and powers off.
; Entered in 64-bit mode at the kernel's 64-bit entry point (Linux boot protocol), interrupts off, flat segments.
        bits 64
        org 0x1000200

start:  mov     rsp, 0x80000
        lea     rsi, [rel text]
        mov     dx, 0x3f8
.print: lodsb
        test    al, al
        jz      .ready
        out     dx, al
        jmp     .print

; An interrupt gate for vector 0x40.
.ready: lea     rax, [rel tick]
        lea     rdi, [rel idt + 0x40 * 16]
        mov     [rdi], ax
        mov     word [rdi + 2], 0x10
        mov     byte [rdi + 5], 0x8e
        shr     rax, 16
        mov     [rdi + 6], ax
        shr     rax, 16
        mov     [rdi + 8], eax
        lidt    [rel idtr]

; The APIC timer: periodic, vector 0x40, divide by 1, 100,000 ns.
        mov     ebx, 0xfee00000
        mov     dword [rbx + 0x3e0], 0xb
        mov     dword [rbx + 0x320], 0x20040
        mov     dword [rbx + 0x380], 100000
        sti

; Work between interrupts: a checksum over memory, in a loop hot enough to be translated.
        xor     r8, r8
work:  mov     ecx, 1000
        lea     rsi, [rel start]
.sum:   movzx   eax, byte [rsi + rcx]
        add     r8, rax
        rol     r8, 7
        imul    r8, r8, 0x1e3779b1
        dec     ecx
        jnz     .sum
; The patched instruction: its immediate changes at every turn.
        inc     dword [rel patched + 1]
patched:
        mov     eax, 0
        add     r8, rax
        mov     [rel result], r8
        cmp     dword [rel ticks], 20
        jb      work
        cli

; The checksum as hexadecimal digits.
        mov     rax, r8
        mov     ecx, 16
        mov     dx, 0x3f8
.digit: rol     rax, 4
        mov     rbx, rax
        and     eax, 15
        cmp     al, 10
        jb      .decimal
        add     al, 'a' - '0' - 10
.decimal:
        add     al, '0'
        out     dx, al
        mov     rax, rbx
        dec     ecx
        jnz     .digit
        mov     al, 10
        out     dx, al

; ACPI: sleep type 0 and sleep enable.
        mov     dx, 0x604
        mov     ax, 0x2000
        out     dx, ax
        hlt

tick:   push    rax
        inc     dword [rel ticks]
        mov     eax, 0xfee00000
        mov     dword [rax + 0xb0], 0
        pop     rax
        iretq

text:   db      "hello from the guest", 10, 0
        align   8
ticks:  dd      0
result: dq      0
idtr:   dw      0xfff
        dq      idt
        align   16
idt:    times 0x1000 db 0
