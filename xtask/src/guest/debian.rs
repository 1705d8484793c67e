//! The Debian 12 disk: minbase with systemd, python3 and gcc, as an ext4 file system without a
//! partition table in a qcow2 image, its kernel and initial RAM disk beside it.
//!
//! mmdebstrap gives a tar archive, mke2fs makes the file system from the unpacked tree, and
//! neither needs root: mmdebstrap uses user namespaces, and fakeroot remembers owners and device
//! nodes from tar to mke2fs.
//!
//! The disk boots with `root=/dev/vda console=ttyS0`; the login is `root`, the password `atoll`.
//!
//! [`WORKLOADS`] is the same with programs that check the computer they run on, which would only slow the
//! other one's making.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::apt::{AMD64, Apt};
use super::{DISK, INITRD, KERNEL, Options};
use crate::host::{self, output, progress, run};

/// What stands on a disk.
#[derive(Debug)]
pub(super) struct Contents {
    /// Beside minbase: what boots, what logs in, what the tests run.
    packages: &'static str,
    /// The size of the file system; the image file only holds what is used.
    size: &'static str,
}

pub(super) const SYSTEM: Contents = Contents {
    packages: "linux-image-cloud-amd64,systemd-sysv,udev,kmod,e2fsprogs,procps,python3,gcc,libc6-dev",
    size: "3G",
};

pub(super) const WORKLOADS: Contents = Contents {
    packages: "linux-image-cloud-amd64,systemd-sysv,udev,kmod,e2fsprogs,procps,python3,\
        stress-ng,openssl,libpython3.11-testsuite",
    size: "3G",
};

/// Done inside the new system, whose root is `$1`.
const SETUP: &str = r#"
echo debian > "$1/etc/hostname"
echo "127.0.0.1 localhost debian" > "$1/etc/hosts"
echo "/dev/vda / ext4 errors=remount-ro 0 1" > "$1/etc/fstab"
echo root:atoll | chroot "$1" chpasswd
# chpasswd's backup has no permission bits at all, and mke2fs without root could not read it.
rm -f "$1/etc/shadow-"
chroot "$1" systemd-machine-id-setup
chroot "$1" systemctl enable serial-getty@ttyS0.service
"#;

impl Contents {
    /// What of this repository goes into the disk.
    pub(super) fn recipe_text(&self) -> String {
        [self.packages, self.size, SETUP].join("\n")
    }
}

/// Makes the disk and its kernel in `dir`.
pub(super) fn disk(dir: &Path, contents: &Contents, options: &Options) -> Result<()> {
    host::need(&[
        ("apt-get", "apt"),
        ("mmdebstrap", "mmdebstrap"),
        ("mke2fs", "e2fsprogs"),
        ("qemu-img", "qemu-utils"),
    ])?;
    let root = is_root()?;
    if !root {
        host::need(&[("fakeroot", "fakeroot"), ("newuidmap", "uidmap")])?;
    }
    let apt = Apt::open("bookworm", AMD64, options.sources.as_deref())?;
    let tar = dir.join("tmp/root.tar");
    fs::create_dir_all(dir.join("tmp/tree"))?;
    bootstrap(&tar, contents.packages, &apt.sources()?)?;
    let raw = dir.join("tmp/disk.raw");
    make_file_system(dir, &tar, &raw, contents.size, root)?;
    progress("converting the disk to qcow2");
    run(host::command("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .arg(&raw)
        .arg(dir.join(DISK)))?;
    fs::remove_dir_all(dir.join("tmp"))?;
    Ok(())
}

/// Runs mmdebstrap, which chooses root's own rights or a user namespace.
fn bootstrap(tar: &Path, packages: &str, sources: &Path) -> Result<()> {
    progress("installing Debian (a few minutes)");
    run(host::command("mmdebstrap")
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--include={packages}"))
        // Documentation and translations would be half of the files.
        .args([
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
        ])
        .args([
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ])
        .arg(format!("--customize-hook={SETUP}"))
        .arg("bookworm")
        .arg(tar)
        .arg(sources))
    .context(
        "mmdebstrap failed; it needs root, or user namespaces that ordinary users may create \
         together with a range for the user in /etc/subuid and /etc/subgid",
    )
}

/// Unpacks the archive and makes the ext4 image of it; copies the kernel out on the way.
fn make_file_system(dir: &Path, tar: &Path, raw: &Path, size: &str, root: bool) -> Result<()> {
    progress("making the ext4 file system");
    let tree = dir.join("tmp/tree");
    let mke2fs = host::find("mke2fs").context("mke2fs was here a moment ago")?;
    let script = format!(
        "set -e; tar -xpf '{tar}' -C '{tree}' --numeric-owner; '{mke2fs}' -q -t ext4 -L root -d '{tree}' '{raw}' {size}",
        tar = tar.display(),
        tree = tree.display(),
        mke2fs = mke2fs.display(),
        raw = raw.display(),
    );
    let mut shell = if root {
        Command::new("sh")
    } else {
        host::command("fakeroot")
    };
    if !root {
        shell.arg("sh");
    }
    File::create(raw)?;
    run(shell.args(["-c", &script]))?;
    for (prefix, name) in [("vmlinuz-", KERNEL), ("initrd.img-", INITRD)] {
        fs::copy(boot_file(&tree, prefix)?, dir.join(name))?;
    }
    Ok(())
}

/// The one file in `/boot` that begins with `prefix`.
fn boot_file(tree: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(tree.join("boot"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    ensure!(
        found.len() == 1,
        "one {prefix}* was expected in the new system's /boot, there are {}",
        found.len()
    );
    Ok(found.remove(0))
}

fn is_root() -> Result<bool> {
    Ok(output(host::command("id").arg("-u"))?.trim() == "0")
}
