//! The initial RAM disks: busybox with a shell on the console, and what is added to it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::cpio::{Node, Tree};
use super::modules;
use crate::host;

/// Modules for the devices that a machine may have, and for the Debian disk's file system. The init
/// loads them only when a virtio device is there. ext4 asks the kernel's crypto layer for crc32c by an
/// alias that no module's name shows.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// Runs as process 1: mounts what programs expect, loads the disk's drivers if there is a virtio device (PCI
/// vendor 1af4), then keeps a shell with job control on the console.
const INIT: &str = include_str!("init.sh");

/// What of this repository goes into every RAM disk.
pub(super) fn recipe_text() -> String {
    format!("{}\n{INIT}", MODULES.join(" "))
}

/// `/dev/console`, which the kernel opens for process 1 before anything is mounted.
const CONSOLE: Node = Node::CharDevice { major: 5, minor: 1 };

/// A busybox shell on the console.
pub(super) fn shell(busybox: &[u8], kernel_tree: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.dirs(&[
        "proc", "sys", "dev", "tmp", "root", "mnt", "run", "etc", "usr/bin", "usr/sbin", "sbin",
    ]);
    tree.file("init", 0o755, INIT);
    tree.file("bin/busybox", 0o755, busybox);
    tree.add("bin/sh", Node::Symlink("busybox".into()));
    tree.add("dev/console", CONSOLE);
    tree.file("etc/passwd", 0o644, "root::0:0:root:/root:/bin/sh\n");
    tree.file("etc/group", 0o644, "root:x:0:\n");
    add_modules(&mut tree, kernel_tree)?;
    Ok(tree)
}

/// Alpine's user space, unpacked at `root`, under the same init.
pub(super) fn alpine(root: &Path, kernel_tree: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.add_host_dir(root, "")?;
    tree.dirs(&["proc", "sys", "dev", "tmp", "run"]);
    tree.file("init", 0o755, INIT);
    tree.add("dev/console", CONSOLE);
    add_modules(&mut tree, kernel_tree)?;
    Ok(tree)
}

/// Adds the modules and the list of them in load order.
fn add_modules(tree: &mut Tree, kernel_tree: &Path) -> Result<()> {
    let mut list = String::new();
    for module in modules::closure(kernel_tree, MODULES)? {
        let path = format!("lib/modules/{}.ko", module.name);
        list += &format!("/{path}\n");
        tree.file(&path, 0o644, module.data);
    }
    tree.file("lib/modules/load-order", 0o644, list);
    Ok(())
}

/// Writes the tree as a gzipped cpio archive.
pub(super) fn write_gzip(tree: &Tree, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut gzip = host::command("gzip")
        .args(["-n", "-6"])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .context("cannot run gzip")?;
    let mut pipe = BufWriter::new(gzip.stdin.take().expect("gzip's standard input is a pipe"));
    tree.write(&mut pipe)?;
    pipe.flush()?;
    drop(pipe);
    ensure!(gzip.wait()?.success(), "gzip failed");
    Ok(())
}
