//! Files that a machine is made of, and broken ones.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A fresh, empty qcow2 image.
pub fn empty_disk(dir: &Path) -> PathBuf {
    let image = dir.join("disk.qcow2");
    let template = crate::guest(xtask::guest::DEFAULT)
        .disk()
        .expect("a shell guest has a disk");
    std::fs::copy(template, &image).expect("there is room for an empty disk");
    image
}

/// A qcow2 image over a raw one.
pub fn make_overlay(image: &Path, base: &Path) {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .args([base, image])
        .status()
        .expect("qemu-img is installed (qemu-utils)");
    assert!(made.success(), "{} cannot be made", image.display());
}

/// Whether qemu-img finds the image sound; fails with what it says if not.
#[track_caller]
pub fn expect_sound(image: &Path) {
    let check = Command::new("qemu-img")
        .arg("check")
        .arg(image)
        .output()
        .expect("qemu-img is installed (qemu-utils)");
    let text = String::from_utf8_lossy(&check.stdout).into_owned()
        + &String::from_utf8_lossy(&check.stderr);
    assert!(
        check.status.success() && text.contains("No errors were found"),
        "{}: {text}",
        image.display()
    );
}

/// A bzImage whose 64-bit entry runs `code` (Linux, Documentation/arch/x86/boot.rst): a boot sector with the
/// setup header, one sector of setup, and the code at its 64-bit entry, 0x200 into the protected-mode part.
pub fn bzimage(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x400 + 0x200 + 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1f4, &u32::to_le_bytes((0x200 + 4096) / 16)); // syssize, in paragraphs
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x66]); // a jump over the header, whose offset tells the header's length
    put(0x202, b"HdrS");
    put(0x206, &u16::to_le_bytes(0x020f)); // boot protocol 2.15
    put(0x211, &[1]); // loadflags: loaded high
    put(0x214, &u32::to_le_bytes(0x10_0000)); // code32_start
    put(0x22c, &u32::to_le_bytes(0x7fff_ffff)); // initrd_addr_max
    put(0x230, &u32::to_le_bytes(0x20_0000)); // kernel_alignment
    put(0x234, &[1, 21]); // relocatable_kernel, min_alignment
    put(0x236, &u16::to_le_bytes(1)); // xloadflags: has a 64-bit entry
    put(0x238, &u32::to_le_bytes(2047)); // cmdline_size
    put(0x258, &u64::to_le_bytes(0x100_0000)); // pref_address
    put(0x260, &u32::to_le_bytes(0x10_0000)); // init_size
    put(0x400 + 0x200, code);
    image
}
