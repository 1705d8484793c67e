//! `atoll diff`, on two real runs that differ in one instruction.

use std::fs;
use std::path::Path;
use std::process::Command;

use guest_tests::{Boot, Outcome, image, program};

/// Counts ECX down from 1000, reads the capacity of the disk in PCI slot 2, and waits for ever: 64-bit code.
const CODE: &[u8] = &[
    0xb9, 0xe8, 0x03, 0x00, 0x00, // mov ecx,1000
    0xff, 0xc9, // dec ecx
    0x75, 0xfc, // jnz to the instruction before
    0x66, 0xba, 0xf8, 0x0c, // mov dx,0xcf8
    0xb8, 0x04, 0x10, 0x00, 0x80, // mov eax,0x80001004: the command register of slot 2
    0xef, // out dx,eax
    0xb2, 0xfc, // mov dl,0xfc
    0xb8, 0x02, 0x00, 0x00, 0x00, // mov eax,2: memory space
    0x66, 0xef, // out dx,ax
    0xb2, 0xf8, // mov dl,0xf8
    0xb8, 0x10, 0x10, 0x00, 0x80, // mov eax,0x80001010: BAR 0
    0xef, // out dx,eax
    0xb2, 0xfc, // mov dl,0xfc
    0xed, // in eax,dx
    0x83, 0xe0, 0xf0, // and eax,-16
    0x48, 0x8b, 0x80, 0x00, 0x20, 0x00, 0x00, // mov rax,[rax+0x2000]: virtio-blk's capacity
    0xeb, 0xfe, // jmp to itself
];

/// The flags of a run with a disk of so many bytes.
fn flags(folder: &Path, bytes: usize) -> Vec<String> {
    let (kernel, disk) = (folder.join("kernel"), folder.join(format!("{bytes}.img")));
    fs::write(&kernel, image::bzimage(CODE)).unwrap();
    fs::write(&disk, vec![0; bytes]).unwrap();
    let drive = format!("file={},format=raw", disk.display());
    let limits = ["--hash-every", "2us", "--vtime-limit", "10us", "-m", "64"];
    let files = [
        "-kernel".into(),
        kernel.display().to_string(),
        "-drive".into(),
        drive,
    ];
    files
        .into_iter()
        .chain(limits.map(str::to_owned))
        .chain(["-serial", "null"].map(str::to_owned))
        .collect()
}

fn run(flags: &[String]) -> Outcome {
    let boot = flags.iter().fold(Boot::bare(), Boot::arg);
    boot.run().expect_code(16)
}

fn diff(trails: [&Outcome; 2], flags: &[&[String]]) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    command
        .arg("diff")
        .args(trails.map(|run| run.path("trail")));
    for flags in flags {
        command.arg("--").args(*flags);
    }
    let output = command.output().expect("the program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn the_first_different_instruction_is_named() {
    let folder = Boot::bare();
    let (small, large) = (
        flags(&folder.path(""), 1 << 20),
        flags(&folder.path(""), 2 << 20),
    );
    let (a, b) = (run(&small), run(&large));
    assert_eq!(diff([&a, &run(&small)], &[]).0, Some(0));
    let (code, text) = diff([&a, &b], &[&small, &large]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("first different at virtual time"), "{text}");
    // The instruction of seven bytes that reads the capacity.
    let rip = |of: &str| {
        let line = text.lines().find(|line| line.contains(of)).expect(of);
        let (_, rest) = line.split_once("\"rip\":\"").expect("a record names RIP");
        let (hex, _) = rest.split_once('"').expect("it is quoted");
        u64::from_str_radix(hex, 16).expect("it is hexadecimal")
    };
    assert_eq!(rip("  second:") - rip("  before:"), 7, "{text}");
}
