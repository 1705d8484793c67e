; Code that writes code, in every form (SDM vol. 3A, 9.1.3, 12.6): a processor sees its own stores at once.
%include "lib.inc"

PD      equ 0x300000
PT      equ 0x301000
VA      equ 0x40000000
BUFFER  equ 0x320000            ; where programs are put
HANDLER equ 0x321000

; COPY from, to, bytes
%macro COPY 3
    mov esi, %1
    mov edi, %2
    mov ecx, %3
    rep movsb
%endmacro

test_main:
;> the next instruction: ok
    PROBE
    mov byte [.next + 1], 1
    mov byte [.next + 1], 7
.next:
    mov cl, 0
    movzx ecx, cl
    mov byte [.next + 1], 0
    END "the next instruction"
;>   cl=00000007
    SHOW "cl", ecx
;> the same block, further on: ok
    PROBE
    xor ecx, ecx
    mov dword [.later + 1], 0x11223344
    nop
    nop
    nop
.later:
    mov ecx, 0
    mov dword [.later + 1], 0
    END "the same block, further on"
;>   ecx=11223344
    SHOW "ecx", ecx
;> a loop that changes itself: ok
    PROBE
    xor ecx, ecx
    mov ebx, 10
.loop:
    add ecx, 1
    inc byte [.loop + 2]
    dec ebx
    jnz .loop
    mov byte [.loop + 2], 1
    END "a loop that changes itself"
;>   sum=00000037
    SHOW "sum", ecx
;> an instruction that is replaced by another: ok
    PROBE
    mov ebx, 2
    xor ecx, ecx
.again:
    inc ecx
    nop
    xor byte [.again], 8        ; inc ecx, dec ecx
    dec ebx
    jnz .again
    END "an instruction that is replaced by another"
;>   ecx=00000000
    SHOW "ecx", ecx
;> behind the program's back, in the middle of an instruction over two lines: ok
    PROBE
    COPY program, BUFFER + 0x3e, program_end - program
    mov ebx, 5
    xor edx, edx
.call:
    call BUFFER + 0x3e
    add edx, eax
    inc dword [BUFFER + 0x3f]
    dec ebx
    jnz .call
    END "behind the program's back, in the middle of an instruction over two lines"
;>   sum=0000000f
    SHOW "sum", edx
;> an instruction over two pages: ok
    PROBE
    COPY program, BUFFER + 0xffe, program_end - program
    mov ebx, 5
    xor edx, edx
.call2:
    call BUFFER + 0xffe
    add edx, eax
    inc byte [BUFFER + 0xfff]
    inc byte [BUFFER + 0x1000]
    dec ebx
    jnz .call2
    END "an instruction over two pages"
;>   sum=00000a0f
    SHOW "sum", edx
;> by a string instruction: ok
    PROBE
    COPY program, BUFFER + 0x100, program_end - program
    call BUFFER + 0x100
    mov edx, eax
    COPY other, BUFFER + 0x100, other_end - other
    call BUFFER + 0x100
    END "by a string instruction"
;>   first=00000001
    SHOW "first", edx
;>   then=00000002
    SHOW "then", eax
;> a string instruction over itself: ok
    PROBE
    COPY overrun, BUFFER + 0x200, overrun_end - overrun
    mov edi, BUFFER + 0x200
    mov ecx, 64
    mov al, 0x90
    mov byte [BUFFER + 0x240], 0xc3
    call BUFFER + 0x200
    END "a string instruction over itself"
;>   ecx=0000003f
    SHOW "ecx", ecx
;> by a locked exchange: ok
    PROBE
    COPY program, BUFFER + 0x300, program_end - program
    call BUFFER + 0x300
    mov edx, eax
    mov eax, 9
    lock xchg [BUFFER + 0x301], al
    call BUFFER + 0x300
    END "by a locked exchange"
;>   first=00000001
    SHOW "first", edx
;>   then=00000009
    SHOW "then", eax
;> by a push: ok
    PROBE
    COPY program, BUFFER + 0x400, program_end - program
    call BUFFER + 0x400
    mov edx, eax
    mov ebx, esp
    mov esp, BUFFER + 0x405
    push dword 0x77
    mov esp, ebx
    call BUFFER + 0x400
    END "by a push"
;>   first=00000001
    SHOW "first", edx
;>   then=00000077
    SHOW "then", eax
;> by x87 and SSE: ok
    PROBE
    mov eax, cr4
    or eax, 0x200
    mov cr4, eax
    COPY program, BUFFER + 0x500, program_end - program
    call BUFFER + 0x500
    mov edx, eax
    mov dword [SCRATCH], 0x33
    fninit
    fild dword [SCRATCH]
    fistp dword [BUFFER + 0x501]
    call BUFFER + 0x500
    mov ebx, eax
    mov dword [SCRATCH], 0x44
    movd xmm0, [SCRATCH]
    movd [BUFFER + 0x501], xmm0
    call BUFFER + 0x500
    END "by x87 and SSE"
;>   first=00000001
    SHOW "first", edx
;>   x87=00000033
    SHOW "x87", ebx
;>   sse=00000044
    SHOW "sse", eax
;> by a return address: ok
    PROBE
    COPY program, BUFFER + 0x600, program_end - program
    call BUFFER + 0x600
    mov edx, eax
    mov ebx, esp
    mov esp, BUFFER + 0x605
    call .pop                   ; pushes over the operand
.pop:
    mov esp, ebx
    call BUFFER + 0x600
    sub eax, .pop
    END "by a return address"
;>   difference=00000000
    SHOW "difference", eax

; Through another address of the same page.
    mov edi, PD
    mov ecx, 0x2000 / 4
    xor eax, eax
    rep stosd
    mov dword [PD], 0x83
    mov dword [PD + VA / 0x100000], PT | 3
    mov dword [PT], BUFFER | 3
    mov dword [PT + 4], HANDLER | 3
    mov dword [PT + 8], BUFFER | 3
    mov eax, cr4
    or eax, 0x10
    mov cr4, eax
    mov eax, PD
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31
    mov cr0, eax
;> through another address of the page: ok
    PROBE
    COPY program, BUFFER + 0x700, program_end - program
    call BUFFER + 0x700
    mov edx, eax
    mov byte [VA + 0x701], 0x21
    call BUFFER + 0x700
    mov ebx, eax
    mov byte [BUFFER + 0x701], 0x22
    call VA + 0x2700
    END "through another address of the page"
;>   first=00000001
    SHOW "first", edx
;>   second=00000021
    SHOW "second", ebx
;>   third=00000022
    SHOW "third", eax
;> another page at the same address: ok
    PROBE
    COPY program, BUFFER + 0x800, program_end - program
    COPY other, HANDLER + 0x800, other_end - other
    mov dword [PT], BUFFER | 3
    invlpg [VA]
    call VA + 0x800
    mov edx, eax
    mov dword [PT], HANDLER | 3
    invlpg [VA]
    call VA + 0x800
    mov ebx, eax
    mov dword [PT], BUFFER | 3
    invlpg [VA]
    call VA + 0x800
    END "another page at the same address"
;>   first=00000001
    SHOW "first", edx
;>   second=00000002
    SHOW "second", ebx
;>   third=00000001
    SHOW "third", eax
;> the second page of an instruction changes: ok
    PROBE
    COPY program, BUFFER + 0xffe, 2
    COPY program + 2, HANDLER, program_end - program - 2
    COPY program + 2, BUFFER + 0x2000, program_end - program - 2
    mov byte [BUFFER + 0x2000], 0x55
    mov dword [PT], BUFFER | 3
    mov dword [PT + 4], HANDLER | 3
    invlpg [VA]
    invlpg [VA + 0x1000]
    call VA + 0xffe
    mov edx, eax
    mov dword [PT + 4], (BUFFER + 0x2000) | 3
    invlpg [VA + 0x1000]
    call VA + 0xffe
    END "the second page of an instruction changes"
;>   first=00000001
    SHOW "first", edx
;>   second=00005501
    SHOW "second", eax
;> an accessed bit that falls into code: ok
    PROBE
    ; A page table that is a program: its entry 0 is "mov eax, imm32" from its second byte on, as the walk sees and changes it.
    mov edi, BUFFER + 0x3000
    mov ecx, 1024
    xor eax, eax
    rep stosd
    mov dword [BUFFER + 0x3000 + 4], HANDLER | 3
    mov byte [BUFFER + 0x3000 + 3], 0xb8
    mov dword [BUFFER + 0x3000 + 8], 0xc3
    mov dword [PD + VA / 0x100000 + 4], (BUFFER + 0x3000) | 3
    mov eax, PD
    mov cr3, eax
    call BUFFER + 0x3003
    mov edx, eax
    mov bl, [VA + 0x401000]
    call BUFFER + 0x3003
    END "an accessed bit that falls into code"
;>   before=00321003
    SHOW "before", edx
;>   after=00321023
    SHOW "after", eax
;> an accessed bit that a fetch sets: ok
    PROBE
    ; Its entry 3 maps the table itself, and is fetched through itself; its entry 4 is RET as code.
    mov byte [BUFFER + 0x3000 + 11], 0xb8
    mov dword [BUFFER + 0x3000 + 12], (BUFFER + 0x3000) | 3
    mov dword [BUFFER + 0x3000 + 16], 0xc3
    mov dword [BUFFER + 0x3000 + 4], HANDLER | 3
    mov eax, PD
    mov cr3, eax
    mov byte [HANDLER + 0x10], 0xc3
    call BUFFER + 0x3003
    mov ecx, eax
    call VA + 0x401010
    call BUFFER + 0x3003
    mov edx, eax
    call BUFFER + 0x300b
    mov ebx, eax
    call VA + 0x40300b
    END "an accessed bit that a fetch sets"
;>   before=00321003
    SHOW "before", ecx
;>   after=00321023
    SHOW "after", edx
;>   itself before=00323003
    SHOW "itself before", ebx
;>   itself after=00323023
    SHOW "itself after", eax
    mov eax, cr0
    and eax, ~(1 << 31)
    mov cr0, eax
    ret

program:
    mov eax, 1
    ret
program_end:
other:
    mov eax, 2
    ret
other_end:
; Fills itself with NOP: the first iteration makes itself end.
overrun:
    rep stosb
    ret
overrun_end:
