//! Guests that are one file of a package: other systems' kernels, firmware, and programs that run without either.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::apt::{AMD64, Apt};
use super::{KERNEL, Options};
use crate::host;

/// Where the file is.
#[derive(Debug)]
pub(super) struct Image {
    suite: &'static str,
    architecture: &'static str,
    package: &'static str,
    /// In the package; unpacked if its name ends in `.gz`.
    file: &'static str,
}

pub(super) const GNUMACH: Image = Image {
    suite: "trixie",
    architecture: "i386",
    package: "gnumach-image-1.8-486-up",
    file: "boot/gnumach-1.8-486-up.gz",
};
pub(super) const GNUMACH_BOOKWORM: Image = Image {
    suite: "bookworm",
    architecture: "i386",
    package: "gnumach-image-1.8-486",
    file: "boot/gnumach-1.8-486.gz",
};
pub(super) const GNUMACH_AMD64: Image = Image {
    suite: "trixie",
    architecture: AMD64,
    package: "gnumach-image-1.8-amd64-up",
    file: "boot/gnumach-1.8-amd64-up.gz",
};
pub(super) const MEMTEST_X64: Image = Image {
    suite: "bookworm",
    architecture: AMD64,
    package: "memtest86+",
    file: "boot/memtest86+x64.bin",
};
pub(super) const MEMTEST_IA32: Image = Image {
    file: "boot/memtest86+ia32.bin",
    ..MEMTEST_X64
};
pub(super) const XEN: Image = Image {
    suite: "bookworm",
    architecture: AMD64,
    package: "xen-hypervisor-4.17-amd64",
    file: "boot/xen-4.17-amd64.gz",
};

pub(super) const U_BOOT: Image = Image {
    suite: "bookworm",
    architecture: AMD64,
    package: "u-boot-qemu",
    file: "usr/lib/u-boot/qemu-x86/u-boot.rom",
};
pub(super) const U_BOOT_X64: Image = Image {
    file: "usr/lib/u-boot/qemu-x86_64/u-boot.rom",
    ..U_BOOT
};
pub(super) const SEABIOS: Image = Image {
    suite: "bookworm",
    architecture: AMD64,
    package: "seabios",
    file: "usr/share/seabios/bios-256k.bin",
};

impl Image {
    /// What it is made from.
    pub(super) fn text(&self) -> String {
        format!("{self:?}\n")
    }
}

/// Fetches the package and puts its file in the kernel's place; for firmware, too.
pub(super) fn build(dir: &Path, image: &Image, options: &Options) -> Result<()> {
    let tree = dir.join("tmp/image");
    Apt::open(image.suite, image.architecture, options.sources.as_deref())?
        .unpack(image.package, &tree)?;
    let file = tree.join(image.file);
    let bytes = if image.file.ends_with(".gz") {
        host::output_bytes(host::command("gzip").arg("-dc").arg(&file))
    } else {
        fs::read(&file).map_err(Into::into)
    };
    let bytes = bytes.with_context(|| format!("{} has no {}", image.package, image.file))?;
    fs::write(dir.join(KERNEL), bytes)?;
    fs::remove_dir_all(dir.join("tmp"))?;
    Ok(())
}
