//! Guests by name: what each is made of, where it is kept, and making it once.
//!
//! A guest is a directory of files ([`Guest::files`]) under [`guests_dir`]. It is built beside its
//! place and renamed into it, so a directory that exists is complete, and asking for it again
//! costs nothing.

mod apt;
mod cpio;
mod debian;
mod initramfs;
mod modules;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::{self, progress};
use apt::Apt;

/// The guest that `make run` boots.
pub const DEFAULT: &str = "linux-cloud";

/// The files of a guest.
const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd.img";
const DISK: &str = "disk.qcow2";

/// What the command line may say about how guests are made.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// An apt source list to use instead of the machine's own.
    pub sources: Option<PathBuf>,
    /// Alpine's mini root file system.
    pub alpine_tarball: Option<PathBuf>,
    /// Build what is already there.
    pub force: bool,
}

/// A guest that is ready to boot.
#[derive(Debug, Clone)]
pub struct Guest {
    dir: PathBuf,
}

impl Guest {
    /// The kernel, a bzImage.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(KERNEL)
    }

    /// The initial RAM disk.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join(INITRD)
    }

    /// The disk image, for guests that have one.
    pub fn disk(&self) -> Option<PathBuf> {
        Some(self.dir.join(DISK)).filter(|file| file.exists())
    }

    /// Each file with its role.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![("kernel", self.kernel()), ("initrd", self.initrd())];
        files.extend(self.disk().map(|disk| ("disk", disk)));
        files
    }
}

/// Where guests are kept: `$ATOLL_GUESTS`, else `.atoll/guests` in the workspace.
pub fn guests_dir() -> PathBuf {
    std::env::var_os("ATOLL_GUESTS")
        .map_or_else(|| host::workspace().join(".atoll/guests"), PathBuf::from)
}

/// The guest `name` if it was made already.
pub fn existing(name: &str) -> Option<Guest> {
    let dir = guests_dir().join(name);
    dir.is_dir().then_some(Guest { dir })
}

/// Makes the guest `name` unless it is there already.
pub fn prepare(name: &str, options: &Options) -> Result<Guest> {
    let build: fn(&Path, &Options) -> Result<()> = match name {
        "linux-cloud" => {
            |dir, options| linux_shell(dir, "linux-image-cloud-amd64", "bookworm", options)
        }
        "linux-generic" => {
            |dir, options| linux_shell(dir, "linux-image-amd64", "bookworm", options)
        }
        "linux-cloud-trixie" => {
            |dir, options| linux_shell(dir, "linux-image-cloud-amd64", "trixie", options)
        }
        "alpine" => alpine,
        "debian" => debian::disk,
        other => bail!("there is no guest {other:?}; `cargo xtask help` lists them"),
    };
    if let (Some(guest), false) = (existing(name), options.force) {
        return Ok(guest);
    }
    let place = guests_dir().join(name);
    let making = guests_dir().join(format!("{name}.making"));
    recreate(&making)?;
    eprintln!("making the guest {name} (once)");
    build(&making, options).with_context(|| format!("cannot make the guest {name}"))?;
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(&making, &place)
        .with_context(|| format!("cannot move {} into place", place.display()))?;
    Ok(Guest { dir: place })
}

/// A stock kernel with the busybox shell.
fn linux_shell(dir: &Path, kernel_package: &str, suite: &str, options: &Options) -> Result<()> {
    let kernel_tree = unpack_kernel(dir, kernel_package, suite, options)?;
    let busybox = busybox(dir, options)?;
    progress("packing the initial RAM disk");
    let tree = initramfs::shell(&busybox, &kernel_tree)?;
    initramfs::write_gzip(&tree, &dir.join(INITRD))?;
    fs::remove_dir_all(dir.join("tmp"))?;
    Ok(())
}

/// The cloud kernel with Alpine's user space.
fn alpine(dir: &Path, options: &Options) -> Result<()> {
    let tarball = options.alpine_tarball.as_deref().context(
        "Alpine's user space is not a Debian package: give its mini root file system with --alpine-tarball FILE",
    )?;
    let kernel_tree = unpack_kernel(dir, "linux-image-cloud-amd64", "bookworm", options)?;
    let root = dir.join("tmp/alpine");
    recreate(&root)?;
    progress("unpacking Alpine");
    host::run(
        host::command("tar")
            .arg("-xzf")
            .arg(tarball)
            .arg("-C")
            .arg(&root)
            .arg("--exclude=./dev/*"),
    )?;
    initramfs::write_gzip(&initramfs::alpine(&root, &kernel_tree)?, &dir.join(INITRD))?;
    fs::remove_dir_all(dir.join("tmp"))?;
    Ok(())
}

/// Fetches and unpacks a kernel, puts its bzImage in place, and gives the unpacked tree.
fn unpack_kernel(
    dir: &Path,
    kernel_package: &str,
    suite: &str,
    options: &Options,
) -> Result<PathBuf> {
    host::need(&[
        ("apt-get", "apt"),
        ("dpkg-deb", "dpkg"),
        ("gzip", "gzip"),
        ("xz", "xz-utils"),
    ])?;
    let apt = Apt::open(suite, options.sources.as_deref())?;
    let package = apt.real_kernel(kernel_package)?;
    let tree = dir.join("tmp/kernel");
    apt.unpack(&package, &tree)?;
    let version = package.trim_start_matches("linux-image-");
    let vmlinuz = tree.join(format!("boot/vmlinuz-{version}"));
    fs::copy(&vmlinuz, dir.join(KERNEL))
        .with_context(|| format!("{package} has no {}", vmlinuz.display()))?;
    Ok(tree)
}

/// Fetches the static busybox.
fn busybox(dir: &Path, options: &Options) -> Result<Vec<u8>> {
    let tree = dir.join("tmp/busybox");
    Apt::open("bookworm", options.sources.as_deref())?.unpack("busybox-static", &tree)?;
    fs::read(tree.join("bin/busybox"))
        .or_else(|_| fs::read(tree.join("usr/bin/busybox")))
        .context("busybox-static has no busybox")
}

/// Makes an empty directory, whatever was there.
fn recreate(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}
