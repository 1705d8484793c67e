// For i386: an SSE instruction, a word on standard output, then an SSE2 instruction, which raises #UD where there is no SSE2.
        .globl _start
_start: addps   %xmm0, %xmm0
        mov     $4, %eax                // write
        mov     $1, %ebx
        mov     $text, %ecx
        mov     $4, %edx
        int     $0x80
        paddq   %xmm0, %xmm0
        mov     $1, %eax                // exit
        xor     %ebx, %ebx
        int     $0x80
text:   .ascii  "sse\n"
