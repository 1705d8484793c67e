//! `-d`: what it logs is there, and logging it changes nothing.

use std::fs;

use guest_tests::{Boot, image};

/// Reads a port and an address where there is nothing, and waits for ever: 64-bit code.
const CODE: &[u8] = &[
    0x66, 0xba, 0x34, 0x12, // mov dx,0x1234
    0xed, // in eax,dx
    0xb8, 0x00, 0x00, 0x00, 0xd0, // mov eax,0xd0000000
    0x8b, 0x00, // mov eax,[rax]
    0xeb, 0xfe, // jmp to itself
];

fn endless() -> Boot {
    let boot = Boot::bare();
    let kernel = boot.path("kernel");
    fs::write(&kernel, image::bzimage(CODE)).unwrap();
    let boot = boot.arg("-kernel").arg(kernel);
    boot.args(["-m", "64", "--vtime-limit", "20us"])
}

/// The final hash, and the log of these items.
fn logged(boot: Boot, items: &str) -> (String, String) {
    let log = boot.path("log");
    let boot = boot.args(["-d", items]).arg("-D").arg(log);
    let outcome = boot.run().expect_code(16);
    let log = fs::read_to_string(outcome.path("log")).unwrap();
    (outcome.hash(), log)
}

#[test]
fn instructions_and_accesses() {
    let hash = endless().run().expect_code(16).hash();
    let cases: [(&str, &[&str]); 5] = [
        (
            "in_asm",
            &["  66ba3412", "mov dx,1234h", "in eax,dx", "mov eax,[rax]"],
        ),
        ("exec", &["Trace 0010:"]),
        ("cpu", &["RAX=00000000d0000000", "CR3="]),
        (
            "unimp,guest_errors",
            &[
                "read port 0x1234 size 4 value 0xffffffff",
                "read memory 0xd0000000 size 4 value 0xffffffff",
                "(nothing there)",
            ],
        ),
        ("cpu_reset,int,io", &["read port 0x1234"]),
    ];
    for (items, texts) in cases {
        let (same, log) = logged(endless(), items);
        assert_eq!(same, hash, "{items}");
        for text in texts {
            assert!(log.contains(text), "{items}: {text} is not in\n{log}");
        }
    }
    let (_, log) = logged(endless(), "in_asm");
    assert_eq!(log.matches("jmp").count(), 1, "{log}");
}

/// The first page faults of Linux's decompressor.
#[test]
fn exceptions() {
    let boot = || Boot::shell("linux-cloud").args(["--vtime-limit", "3ms"]);
    let (hash, log) = logged(boot(), "int");
    assert_eq!(hash, boot().run().expect_code(16).hash());
    assert!(log.contains("v=0e e=0002 exception IP=0010:"), "{log}");
}
