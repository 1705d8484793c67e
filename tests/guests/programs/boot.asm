; A boot sector: reads the sector behind it by INT 13h, prints what stands there by INT 10h, asks INT 15h for the memory map's first
; range, and switches off through APM (INT 15h, AX=5307h).
bits 16
org 0x7c00

    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    mov ah, 0x42              ; extended read, from the drive in DL
    mov si, packet
    int 0x13
    jc failed
    mov si, 0x7e00
    call print

    mov eax, 0xe820
    mov edx, 'PAMS'           ; "SMAP", most significant byte first
    xor ebx, ebx
    mov ecx, 20
    mov di, 0x8000
    int 0x15
    cmp eax, 'PAMS'
    jne failed
    cmp dword [0x8008], 0x9fc00
    jne failed
    mov si, memory
    call print

    mov ax, 0x5301            ; APM: connect by the real-mode interface
    xor bx, bx
    int 0x15
    mov ax, 0x5307            ; all devices off
    mov bx, 1
    mov cx, 3
    int 0x15
failed:
    mov si, failure
    call print
    cli
    hlt

print:
    lodsb
    test al, al
    jz .done
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    jmp print
.done:
    ret

memory:  db "the first 639 KiB are RAM", 13, 10, 0
failure: db "failed", 13, 10, 0
packet:
    db 16, 0
    dw 1                      ; sectors
    dw 0x7e00, 0              ; to
    dq 1                      ; from

    times 510 - ($ - $$) db 0
    dw 0xaa55
    db "the second sector", 13, 10, 0
    times 65536 - ($ - $$) db 0
