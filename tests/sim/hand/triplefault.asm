; A fault in the delivery of a double fault: the processor shuts down, and nothing more is printed.
%include "lib.inc"

test_main:
    and byte [idt + 6 * 8 + 5], 0x7f
    and byte [idt + 8 * 8 + 5], 0x7f
    mov word [idt + 11 * 8 + 2], 0
    ud2
    ret
