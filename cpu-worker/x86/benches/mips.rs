//! Instructions per second of the interpreter on small integer kernels: `cargo bench -p atoll-x86`.
//!
//! A kernel is 64-bit code that runs for a fixed amount of virtual time; one virtual nanosecond is one instruction.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

const KERNELS: [(&str, &str); 5] = [
    (
        "sum",
        "xor eax, eax\n.l: add rax, rcx\n xor rax, rdx\n dec rcx\n jnz .l\n jmp .l",
    ),
    (
        "sieve",
        "mov rdi, 0x300000
         .again: mov ebx, 2
         .p: mov eax, ebx
         add eax, ebx
         .m: mov byte [rdi + rax], 1
         add eax, ebx
         cmp eax, 100000
         jb .m
         inc ebx
         cmp ebx, 300
         jb .p
         jmp .again",
    ),
    (
        "calls",
        ".l: mov edi, 20
         call fib
         jmp .l
         fib: cmp edi, 2
         jae .r
         mov eax, edi
         ret
         .r: push rbx
         push rdi
         dec edi
         call fib
         mov ebx, eax
         pop rdi
         sub edi, 2
         call fib
         add eax, ebx
         pop rbx
         ret",
    ),
    (
        "hash",
        "mov rsi, 0x300000
         .again: xor ecx, ecx
         mov eax, 0x811c9dc5
         .l: movzx edx, byte [rsi + rcx]
         xor eax, edx
         imul eax, eax, 0x01000193
         rol eax, 5
         shr edx, 3
         lea ecx, [ecx + 1]
         test ecx, 0xffff
         jnz .l
         jmp .again",
    ),
    (
        "sort",
        "mov rdi, 0x300000
         .outer: xor ecx, ecx
         .l: mov eax, [rdi + rcx*4]
         mov edx, [rdi + rcx*4 + 4]
         cmp eax, edx
         jbe .n
         mov [rdi + rcx*4], edx
         mov [rdi + rcx*4 + 4], eax
         .n: inc ecx
         cmp ecx, 1000
         jne .l
         add dword [rdi + 40], 12345
         jmp .outer",
    ),
];

fn main() {
    for (name, text) in KERNELS {
        let Some(code) = common::assemble(text) else {
            return;
        };
        let mut m = common::Machine::long(&code);
        m.run_for(100_000);
        let n = 20_000_000;
        let start = Instant::now();
        m.run_for(n);
        let mips = n as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{name:8} {mips:7.1} MIPS");
    }
}
