; Reads beyond the limit of a segment. QEMU's translator has no limits and reads; the manual wants #GP.
%include "lib.inc"

main:
    mov ecx, 5
.loop:
    loop .loop
    mov eax, SMALL
    mov fs, eax
    mov ebx, [fs:0xffc]
planted:
    mov ebx, [fs:0x1000]
    jmp stop
