; Firmware of 64 KiB that looks at the board as firmware does, once after power-on and once after each kind of reset, and prints a letter
; for each thing that is as it should be:
;   a  it runs below 1 MiB, and the same bytes are below 4 GiB
;   b  a store to the ROM is dropped
;   c  0xC0000 is no memory until its shadow RAM is opened, and a display's memory never is
;   d  shadow RAM takes stores, e  does not while it is read-only, and f  keeps what it has
;   g  A20 is open, and port 0x92 closes it
; then the number of the pass, and the next kind of reset: port 0xCF9, the keyboard controller, port 0x92, a triple fault. In the last
; pass it gives the power-management ports a base and switches off.
bits 16
org 0

COM1   equ 0x3f8
PASS   equ 0x500              ; RAM keeps it through resets

start:
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000

; a: big-real mode, to see 4 GiB through FS.
    cs lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov fs, bx
    and al, 0xfe
    mov cr0, eax
    cs mov ebx, [mark]
    cmp [fs:dword 0xffff0000 + mark], ebx
    mov al, 'a'
    call say_if_equal

; b
    mov dword [fs:dword 0xf0000 + mark], 0
    mov dword [fs:dword 0xffff0000 + mark], 0
    cs cmp ebx, [mark]
    mov al, 'b'
    call say_if_equal

; c
    mov dword [fs:dword 0xc0000], 0x12345678
    mov dword [fs:dword 0xb8000], 0x12345678
    mov ecx, [fs:dword 0xc0000]
    and ecx, [fs:dword 0xb8000]
    cmp ecx, -1
    mov al, 'c'
    call say_if_equal

; d
    mov al, 0x33
    call pam1
    mov dword [fs:dword 0xc0000], 0x12345678
    cmp dword [fs:dword 0xc0000], 0x12345678
    mov al, 'd'
    call say_if_equal

; e
    mov al, 0x11
    call pam1
    mov dword [fs:dword 0xc0000], 0
    cmp dword [fs:dword 0xc0000], 0x12345678
    mov al, 'e'
    call say_if_equal

; f
    mov al, 0
    call pam1
    mov ecx, [fs:dword 0xc0000]
    mov al, 0x33
    call pam1
    add ecx, [fs:dword 0xc0000]
    cmp ecx, 0x12345677
    mov al, 'f'
    call say_if_equal

; g
    mov dword [0x600], 1
    mov dword [fs:dword 0x100600], 2
    mov ecx, [0x600]
    in al, 0x92
    and al, 0xfc
    out 0x92, al
    mov dword [fs:dword 0x100600], 3
    add ecx, [0x600]
    or al, 2
    out 0x92, al
    cmp ecx, 4
    mov al, 'g'
    call say_if_equal

    mov al, ' '
    call say
    inc byte [PASS]
    mov al, [PASS]
    cmp al, 5
    je off
    add al, '0'
    call say
    mov al, ' '
    call say
    mov al, [PASS]
    cmp al, 1
    jne .keyboard
    mov dx, 0xcf9
    mov al, 6
    out dx, al
.keyboard:
    cmp al, 2
    jne .fast
    mov al, 0xfe
    out 0x64, al
.fast:
    cmp al, 3
    jne .triple
    mov al, 3
    out 0x92, al
.triple:
    cmp al, 4
    jne $
    cs lidt [no_idt]
    int3

off:
    mov al, 'o'
    call say
    mov al, 'f'
    call say
    call say
    mov eax, 0x80000b40       ; 00:01.3, PMBA
    mov dx, 0xcf8
    out dx, eax
    mov dl, 0xfc
    mov eax, 0xb001
    out dx, eax
    mov eax, 0x80000b80       ; PMREGMISC
    mov dl, 0xf8
    out dx, eax
    mov dl, 0xfc
    mov al, 1
    out dx, al
    mov dx, 0xb004            ; PM1 control: S5
    mov ax, 0x2000
    out dx, ax
    jmp $

; PAM1, register 0x5a of 00:00.0, gets AL.
pam1:
    push eax
    mov eax, 0x80000058
    mov dx, 0xcf8
    out dx, eax
    mov dl, 0xfe
    pop eax
    out dx, al
    ret

say_if_equal:
    je say
    mov al, '-'
say:
    mov dx, COM1
    out dx, al
    ret

mark:
    dd 0x61746f6c
gdt:
    dq 0, 0x00cf93000000ffff
gdt_pointer:
    dw 15
    dd 0xf0000 + gdt
no_idt:
    dw 0
    dd 0

    times 0xfff0 - ($ - $$) db 0xff
    jmp 0xf000:start
    times 0x10000 - ($ - $$) db 0xff
