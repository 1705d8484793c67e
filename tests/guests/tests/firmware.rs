//! Machines that start in firmware, at the reset vector.

use std::fs::File;
use std::path::Path;
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
fn lockstep_of_u_boots_start_shows_no_difference() {
    u_boot_in("lockstep");
}

#[test]
fn u_boot_of_64_bits_reaches_its_prompt() {
    u_boot("u-boot-x64")
        .run()
        .expect_code(10)
        .expect_console("GNU ld");
}

/// A program for the bare machine, assembled.
fn assemble(name: &str, output: &Path) {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let assembled = Command::new("nasm")
        .args(["-f", "bin", "-o"])
        .args([output, &programs.join(name)])
        .status()
        .expect("nasm is installed");
    assert!(assembled.success(), "{name}");
}

/// A ROM of our own says what it finds; the letters are explained there.
#[test]
fn resets_shadow_ram_and_rom_are_as_firmware_finds_them() {
    let hashes = ["interp", "jit", "lockstep"].map(|engine| {
        let boot = Boot::rebooting();
        let rom = boot.path("rom");
        assemble("rom.asm", &rom);
        boot.args(["-m", "16", "--engine", engine])
            .arg("-bios")
            .arg(rom)
            .run()
            .expect_code(0)
            .expect_console("abcdefg 1 abcdefg 2 abcdefg 3 abcdefg 4 abcdefg off")
            .hash()
    });
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[test]
fn seabios_finds_nothing_to_boot() {
    let hashes = ["interp", "jit", "lockstep"].map(|engine| {
        firmware("seabios")
            .args(["--engine", engine, "--vtime-limit", "5s"])
            .run()
            .expect_code(16)
            .expect_console("SeaBIOS (version")
            .expect_console("No bootable device.")
            .hash()
    });
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// A boot sector that calls INT 10h, 13h and 15h.
#[test]
fn a_boot_sector_has_a_bios() {
    let hashes = ["interp", "jit"].map(|engine| {
        let boot = firmware("seabios").args(["--engine", engine]);
        let disk = boot.path("disk");
        assemble("boot.asm", &disk);
        // As large as the geometry of a small disk asks for.
        let file = File::options().write(true).open(&disk).unwrap();
        file.set_len(8 << 20).unwrap();
        let drive = format!("file={},format=raw,if=virtio", disk.display());
        boot.arg("-drive")
            .arg(drive)
            .run()
            .expect_code(0)
            .expect_console("the second sector")
            .expect_console("the first 639 KiB")
            .hash()
    });
    assert_eq!(hashes[0], hashes[1]);
}

/// A kernel's real-mode half finds out from SeaBIOS what it runs on.
fn boots_by_16_bits(guest_name: &str) {
    let linux = guest(guest_name);
    firmware("seabios")
        .args(["-m", "512", "-append", "console=ttyS0"])
        .arg("-kernel")
        .arg(linux.kernel())
        .arg("-initrd")
        .arg(linux.initrd())
        .commands(&["dmesg | grep 'BIOS-e820\\|DMI:'", "uname -m"])
        .run()
        .expect_code(0)
        .expect_console("Booting from ROM")
        .expect_console("DMI: Bochs")
        .expect_console("guest ready: Linux 6.1");
}

#[test]
fn an_i386_kernel_boots_by_its_16_bit_entry() {
    boots_by_16_bits("linux-686-pae");
}

#[test]
#[ignore = "takes long; make guests"]
fn other_kernels_boot_by_their_16_bit_entries() {
    for guest in ["linux-686", "linux-cloud"] {
        boots_by_16_bits(guest);
    }
}

#[test]
fn firmware_is_given_linux_or_nothing() {
    let boot = firmware("seabios");
    let file = boot.path("kernel");
    let mut multiboot = vec![0; 8192];
    multiboot[..12].copy_from_slice(&[0x02, 0xb0, 0xad, 0x1b, 0, 0, 0, 0, 0xfe, 0x4f, 0x52, 0xe4]);
    std::fs::write(&file, multiboot).unwrap();
    boot.arg("-kernel")
        .arg(file)
        .run()
        .expect_code(2)
        .expect_errors(&["firmware can only start a Linux kernel"]);
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
