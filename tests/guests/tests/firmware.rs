//! Machines that start in firmware, at the reset vector.

use std::process::Command;

use guest_tests::{Boot, Outcome, guest};

/// `atoll run` in the firmware of this guest.
fn firmware(name: &str) -> Boot {
    Boot::bare()
        .args(["-m", "128"])
        .arg("-bios")
        .arg(guest(name).kernel())
}

/// U-Boot, stopped before it looks for something to boot, and asked for what it sees.
fn u_boot(name: &str) -> Boot {
    firmware(name).script(
        "expect \"Hit any key\"\nsend \" \"\n\
         expect \"=> \"\nsend \"version\\n\"\n\
         expect \"=> \"\nsend \"pci\\n\"\n\
         expect \"=> \"\nsend \"reset\\n\"\n",
    )
}

/// U-Boot up to its prompt, in one engine.
fn u_boot_in(engine: &str) -> Outcome {
    u_boot("u-boot")
        .args(["--engine", engine])
        .run()
        // The guest's reset, under -no-reboot.
        .expect_code(10)
        .expect_console("GNU ld")
        .expect_console("00.01.03   0x8086     0x7113")
        .expect_console("resetting ...")
}

#[test]
fn u_boot_reaches_its_prompt_in_both_engines() {
    assert_eq!(u_boot_in("jit").hash(), u_boot_in("interp").hash());
}

#[test]
#[ignore = "takes long; make lockstep"]
fn u_boots_start_shows_no_difference_in_lockstep() {
    u_boot_in("lockstep");
}

#[test]
fn u_boot_of_64_bits_reaches_its_prompt() {
    u_boot("u-boot-x64")
        .run()
        .expect_code(10)
        .expect_console("GNU ld");
}

/// A ROM of our own says what it finds; the letters are explained there.
#[test]
fn resets_shadow_ram_and_rom_are_as_firmware_finds_them() {
    let hashes = ["interp", "jit"].map(|engine| {
        let boot = Boot::rebooting();
        let rom = boot.path("rom");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/rom.asm");
        let assembled = Command::new("nasm")
            .args(["-f", "bin", "-o"])
            .args([rom.as_os_str(), source.as_ref()])
            .status()
            .expect("nasm is installed");
        assert!(assembled.success());
        boot.args(["-m", "16", "--engine", engine])
            .arg("-bios")
            .arg(rom)
            .run()
            .expect_code(0)
            .expect_console("abcdefg 1 abcdefg 2 abcdefg 3 abcdefg 4 abcdefg off")
            .hash()
    });
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn what_cannot_be_firmware() {
    for bytes in [0, 100_000, (16 << 20) + (64 << 10)] {
        let boot = Boot::bare();
        let rom = boot.path("rom");
        std::fs::write(&rom, vec![0; bytes]).unwrap();
        boot.arg("-bios")
            .arg(rom)
            .run()
            .expect_code(2)
            .expect_errors(&["multiple of 64 KiB"]);
    }
}

/// Invalid instructions, and an interrupt table of zeroes.
#[test]
fn a_rom_without_an_entry() {
    let boot = Boot::bare();
    let rom = boot.path("rom");
    std::fs::write(&rom, vec![0xff; 64 << 10]).unwrap();
    boot.args(["-m", "16"])
        .arg("-bios")
        .arg(rom)
        .run()
        .expect_code(11);
}
