; Segmentation in protected mode: limits, rights, expand-down, null and absent segments (SDM vol. 3A, 5.2 to 5.5; 3.4.5).
%include "lib.inc"

test_main:
    DESCRIPTOR FREE, SCRATCH, 0xfff, R_DATA, BIG
;> last dword in the limit: ok
    PROBE
    mov eax, FREE
    mov fs, eax
    mov eax, [fs:0xffc]
    END "last dword in the limit"
;> dword over the limit: #0d(0000)+00
    PROBE
    mov eax, FREE
    mov fs, eax
    HERE
    mov eax, [fs:0xffd]
    END "dword over the limit"
;> word over the limit: #0d(0000)+00
    PROBE
    mov eax, FREE
    mov fs, eax
    HERE
    mov [fs:0xfff], ax
    END "word over the limit"
;> byte at 4 GiB: #0d(0000)+00
    PROBE
    mov eax, FREE
    mov fs, eax
    xor ebx, ebx
    HERE
    mov al, [fs:ebx - 1]
    END "byte at 4 GiB"
;> stack beyond its limit: #0c(0000)+00
    PROBE
    mov eax, FREE
    mov ss, eax
    mov esp, 0x900
    HERE
    mov eax, [esp + 0x800]
    END "stack beyond its limit"
;> push below zero of a 16-bit stack wraps: ok
    PROBE
    DESCRIPTOR FREE2, SCRATCH, 0xffff, R_DATA, 0
    mov eax, FREE2
    mov ss, eax
    mov esp, 0x12340000
    push dword 0x11223344
    mov ecx, esp
    END "push below zero of a 16-bit stack wraps"
;>   esp=1234fffc
    SHOW "esp", ecx
;> page granularity: ok
    PROBE
    DESCRIPTOR FREE2, SCRATCH, 1, R_DATA, BIG | PAGES
    mov eax, FREE2
    mov fs, eax
    mov eax, [fs:0x1ffc]
    END "page granularity"
;> page granularity, over: #0d(0000)+00
    PROBE
    mov eax, FREE2
    mov fs, eax
    HERE
    mov eax, [fs:0x2000]
    END "page granularity, over"

;> expand-down above its limit: ok
    PROBE
    DESCRIPTOR FREE3, SCRATCH, 0xfff, R_DOWN, BIG
    mov eax, FREE3
    mov fs, eax
    mov byte [fs:0x1000], 1
    mov eax, [fs:0x1000]
    END "expand-down above its limit"
;> expand-down at its limit: #0d(0000)+00
    PROBE
    mov eax, FREE3
    mov fs, eax
    HERE
    mov al, [fs:0xfff]
    END "expand-down at its limit"
;> 16-bit expand-down ends at 64 KiB: #0d(0000)+00
    PROBE
    DESCRIPTOR FREE3, SCRATCH, 0xfff, R_DOWN, 0
    mov eax, FREE3
    mov fs, eax
    mov al, [fs:0xffff]
    HERE
    mov ax, [fs:0xffff]
    END "16-bit expand-down ends at 64 KiB"

;> write to read-only data: #0d(0000)+00
    PROBE
    DESCRIPTOR FREE4, SCRATCH, 0xfff, R_RODATA, BIG
    mov eax, FREE4
    mov fs, eax
    mov eax, [fs:0]
    HERE
    mov [fs:0], eax
    END "write to read-only data"
;> read-modify-write of read-only data: #0d(0000)+00
    PROBE
    mov eax, FREE4
    mov fs, eax
    HERE
    add dword [fs:0], 1
    END "read-modify-write of read-only data"
;> compare with read-only data: ok
    PROBE
    mov eax, FREE4
    mov fs, eax
    cmp dword [fs:0], 1
    test dword [fs:0], 1
    bt dword [fs:0], 1
    END "compare with read-only data"
;> write to code: #0d(0000)+00
    PROBE
    HERE
    mov [cs:idt], eax
    END "write to code"
;> read of execute-only code: #0d(0000)+00
    PROBE
    DESCRIPTOR FREE5, 0, 0xfffff, R_XCODE, BIG | PAGES
    jmp FREE5:.x
.x: HERE
    mov eax, [cs:idt]
    END "read of execute-only code"
;> execute-only code in DS: #0d(0060)+00
    PROBE
    mov eax, FREE5
    HERE
    mov ds, eax
    END "execute-only code in DS"
;> readable code in DS: ok
    PROBE
    mov eax, CODE
    mov ds, eax
    END "readable code in DS"

;> null in DS: ok
    PROBE
    xor eax, eax
    mov ds, eax
    END "null in DS"
;> access through null: #0d(0000)+00
    PROBE
    mov eax, 3
    mov es, eax
    HERE
    mov eax, [es:0]
    END "access through null"
;> null in SS: #0d(0000)+00
    PROBE
    xor eax, eax
    HERE
    mov ss, eax
    END "null in SS"
;> selector beyond the table: #0d(fff8)+00
    PROBE
    mov eax, 0xfff8
    HERE
    mov ds, eax
    END "selector beyond the table"
;> selector of no LDT: #0d(0014)+00
    ; A reset leaves an LDT that begins at address 0 (SDM vol. 3A, table 9-1).
    xor eax, eax
    lldt ax
    PROBE
    mov eax, 0x17
    HERE
    mov ds, eax
    END "selector of no LDT"
;> TSS in DS: #0d(0028)+00
    PROBE
    mov eax, TSS
    HERE
    mov ds, eax
    END "TSS in DS"
;> absent data: #0b(0040)+00
    PROBE
    DESCRIPTOR FREE, SCRATCH, 0xfff, R_DATA & 0x7f, BIG
    mov eax, FREE
    HERE
    mov ds, eax
    END "absent data"
;> absent stack: #0c(0040)+00
    PROBE
    mov eax, FREE
    HERE
    mov ss, eax
    END "absent stack"
;> read-only stack: #0d(0058)+00
    PROBE
    mov eax, FREE4
    HERE
    mov ss, eax
    END "read-only stack"
;> stack of another ring: #0d(0020)+00
    PROBE
    mov eax, UDATA
    HERE
    mov ss, eax
    END "stack of another ring"
;> RPL over DPL: #0d(0010)+00
    PROBE
    mov eax, DATA | 3
    HERE
    mov ds, eax
    END "RPL over DPL"
;> a load marks the descriptor accessed: ok
    PROBE
    DESCRIPTOR FREE, SCRATCH, 0xfff, R_DATA, BIG
    mov eax, FREE
    mov gs, eax
    movzx ecx, byte [gdt + FREE + 5]
    END "a load marks the descriptor accessed"
;>   rights=00000093
    SHOW "rights", ecx
;> an LDT's selectors: ok
    PROBE
    DESCRIPTOR FREE6, AT(ldt), 7, 0x82, 0
    mov eax, FREE6
    lldt ax
    mov eax, 4
    mov fs, eax
    mov dword [SCRATCH], 0x12345678
    mov ecx, [fs:0]
    END "an LDT's selectors"
;>   value=12345678
    SHOW "value", ecx
;> beyond the LDT: #0d(000c)+00
    PROBE
    mov eax, 0xc
    HERE
    mov fs, eax
    END "beyond the LDT"
    xor eax, eax
    lldt ax

;> far pointer, segment faults first: #0d(fff8)+00
    PROBE
    mov dword [SCRATCH], 5
    mov word [SCRATCH + 4], 0xfff8
    mov ebx, 7
    HERE
    lfs ebx, [SCRATCH]
    END "far pointer, segment faults first"
;>   ebx=00000007
    SHOW "ebx", [r_ebx]
;> jump beyond the code limit: #0d(0000)+00
    PROBE
    DESCRIPTOR FREE7, 0, 0xffff, R_CODE, BIG
    HERE
    jmp FREE7:0x10000
    END "jump beyond the code limit"
;> running over the code limit: #0d(0000)+00
    PROBE
    mov dword [0x9ffc], 0x90909090
    mov dword [0xa000], 0x90909090
    DESCRIPTOR FREE7, 0, 0x9ffe, R_CODE, BIG
    mov dword [probe_here], 0x9fff
    jmp FREE7:0x9ffc
    END "running over the code limit"
;> an instruction over the code limit: #0d(0000)+00
    PROBE
    mov dword [0x9ffc], 0x00b89090
    mov dword [0xa000], 0x00000000
    mov dword [probe_here], 0x9ffe
    jmp FREE7:0x9ffc
    END "an instruction over the code limit"

;> verr and verw: ok
    PROBE
    xor ecx, ecx
    mov eax, FREE4
    verr ax
    setz cl
    verw ax
    setz ch
    mov eax, FREE5
    bswap ecx
    verr ax
    setz cl
    mov eax, 0xfff8
    verr ax
    setz ch
    END "verr and verw"
;>   bits=01000000
    SHOW "bits", ecx
;> lar and lsl: ok
    PROBE
    mov eax, FREE4
    lar ecx, eax
    mov eax, CODE
    lsl edx, eax
    mov ebx, -1
    mov eax, 0xfff8
    lar ebx, eax
    END "lar and lsl"
;>   lar=00409100
    SHOW "lar", ecx
;>   lsl=ffffffff
    SHOW "lsl", edx
;>   untouched=ffffffff
    SHOW "untouched", ebx
;> arpl: ok
    PROBE
    mov eax, 0x10
    mov ecx, 3
    arpl ax, cx
    setz bl
    arpl ax, cx
    setz bh
    movzx ebx, bx
    END "arpl"
;>   ax=00000013
    SHOW "ax", eax
;>   zf=00000001
    SHOW "zf", ebx
    ret

    align 8
ldt: dq 0x0040922000000fff      ; SCRATCH, 4 KiB
