//! Guests by name: what each is made of, where it is kept, and making it once.
//!
//! A guest is a directory of files ([`Guest::files`]) under [`guests_dir`]. It is built beside its
//! place and renamed into it, so a directory that exists is complete, and asking for it again
//! costs nothing.

mod apt;
mod cpio;
mod debian;
mod image;
mod initramfs;
mod modules;
mod qcow2;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::{self, progress};
use apt::{AMD64, Apt};

/// The guest that `make run` boots.
pub const DEFAULT: &str = "linux-cloud";

/// The files of a guest.
const KERNEL: &str = "vmlinuz";
const INITRD: &str = "initrd.img";
const DISK: &str = "disk.qcow2";
/// What the empty disk beside a shell guest could hold.
const SCRATCH_BYTES: u64 = 1 << 30;
/// What it was made from.
const RECIPE: &str = "recipe.txt";

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
    /// The kernel: a bzImage, an ELF or Multiboot image. Or what is started instead: firmware.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(KERNEL)
    }

    /// The initial RAM disk of guests that have one.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join(INITRD)
    }

    /// The disk image, for guests that have one.
    pub fn disk(&self) -> Option<PathBuf> {
        Some(self.dir.join(DISK)).filter(|file| file.exists())
    }

    /// Each file with its role.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![("kernel", self.kernel())];
        if self.initrd().exists() {
            files.push(("initrd", self.initrd()));
        }
        files.extend(self.disk().map(|disk| ("disk", disk)));
        files
    }
}

/// Programs as an archive that may stand behind an initial RAM disk: the kernel unpacks one after the other.
pub fn programs(files: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut tree = cpio::Tree::default();
    for (path, bytes) in files {
        tree.file(path, 0o755, bytes.clone());
    }
    let mut archive = Vec::new();
    tree.write(&mut archive)?;
    Ok(archive)
}

/// Where guests are kept: `$ATOLL_GUESTS`, else `.atoll/guests` in the workspace.
pub fn guests_dir() -> PathBuf {
    std::env::var_os("ATOLL_GUESTS")
        .map_or_else(|| host::workspace().join(".atoll/guests"), PathBuf::from)
}

/// How a guest is made.
struct Recipe {
    build: fn(&Path, &Options) -> Result<()>,
    /// All of this repository that goes into it; a guest made from other text is made anew.
    text: String,
}

fn recipe(name: &str) -> Result<Recipe> {
    let shell = || format!("{}\ndisk {SCRATCH_BYTES}\n", initramfs::recipe_text());
    Ok(match name {
        "linux-cloud" => Recipe {
            build: |dir, options| {
                linux_shell(dir, "linux-image-cloud-amd64", "bookworm", AMD64, options)
            },
            text: shell(),
        },
        "linux-generic" => Recipe {
            build: |dir, options| linux_shell(dir, "linux-image-amd64", "bookworm", AMD64, options),
            text: shell(),
        },
        "linux-cloud-trixie" => Recipe {
            build: |dir, options| {
                linux_shell(dir, "linux-image-cloud-amd64", "trixie", AMD64, options)
            },
            text: shell(),
        },
        "linux-686" => Recipe {
            build: |dir, options| linux_shell(dir, "linux-image-686", "bookworm", "i386", options),
            text: shell(),
        },
        "linux-686-pae" => Recipe {
            build: |dir, options| {
                linux_shell(dir, "linux-image-686-pae", "bookworm", "i386", options)
            },
            text: shell(),
        },
        "alpine" => Recipe {
            build: alpine,
            text: shell(),
        },
        "debian" => Recipe {
            build: |dir, options| debian::disk(dir, &debian::SYSTEM, options),
            text: debian::SYSTEM.recipe_text(),
        },
        "debian-workloads" => Recipe {
            build: |dir, options| debian::disk(dir, &debian::WORKLOADS, options),
            text: debian::WORKLOADS.recipe_text(),
        },
        "bench" => Recipe {
            build: bench,
            text: shell() + &bench_sources_text()?,
        },
        "gnumach" => Recipe {
            build: |dir, options| image::build(dir, &image::GNUMACH, options),
            text: image::GNUMACH.text(),
        },
        "gnumach-bookworm" => Recipe {
            build: |dir, options| image::build(dir, &image::GNUMACH_BOOKWORM, options),
            text: image::GNUMACH_BOOKWORM.text(),
        },
        "gnumach-amd64" => Recipe {
            build: |dir, options| image::build(dir, &image::GNUMACH_AMD64, options),
            text: image::GNUMACH_AMD64.text(),
        },
        "memtest86-x64" => Recipe {
            build: |dir, options| image::build(dir, &image::MEMTEST_X64, options),
            text: image::MEMTEST_X64.text(),
        },
        "memtest86-ia32" => Recipe {
            build: |dir, options| image::build(dir, &image::MEMTEST_IA32, options),
            text: image::MEMTEST_IA32.text(),
        },
        "xen" => Recipe {
            build: |dir, options| image::build(dir, &image::XEN, options),
            text: image::XEN.text(),
        },
        "u-boot" => Recipe {
            build: |dir, options| image::build(dir, &image::U_BOOT, options),
            text: image::U_BOOT.text(),
        },
        "u-boot-x64" => Recipe {
            build: |dir, options| image::build(dir, &image::U_BOOT_X64, options),
            text: image::U_BOOT_X64.text(),
        },
        "seabios" => Recipe {
            build: |dir, options| image::build(dir, &image::SEABIOS, options),
            text: image::SEABIOS.text(),
        },
        other => bail!("there is no guest {other:?}; `cargo xtask help` lists them"),
    })
}

/// The guest `name`, if it was made already and from this recipe.
fn existing(name: &str, recipe: &Recipe) -> Option<Guest> {
    let dir = guests_dir().join(name);
    let text = fs::read_to_string(dir.join(RECIPE)).ok()?;
    (text == recipe.text).then_some(Guest { dir })
}

/// Makes the guest `name` unless it is there already.
pub fn prepare(name: &str, options: &Options) -> Result<Guest> {
    let recipe = recipe(name)?;
    if let (Some(guest), false) = (existing(name, &recipe), options.force) {
        return Ok(guest);
    }
    // One process makes guests at a time; who waited may find its guest made.
    fs::create_dir_all(guests_dir())
        .with_context(|| format!("cannot make {}", guests_dir().display()))?;
    let lock = File::create(guests_dir().join("lock"))?;
    lock.lock().context("cannot lock the directory of guests")?;
    if let (Some(guest), false) = (existing(name, &recipe), options.force) {
        return Ok(guest);
    }
    let making = guests_dir().join(format!("{name}.making"));
    recreate(&making)?;
    eprintln!("making the guest {name} (once)");
    (recipe.build)(&making, options).with_context(|| format!("cannot make the guest {name}"))?;
    fs::write(making.join(RECIPE), recipe.text)?;
    Ok(Guest {
        dir: replace(name, &making)?,
    })
}

/// Moves a finished directory to its place, and removes what was there.
fn replace(name: &str, making: &Path) -> Result<PathBuf> {
    let place = guests_dir().join(name);
    let old = guests_dir().join(format!("{name}.old"));
    if place.exists() {
        fs::rename(&place, &old)?;
    }
    fs::rename(making, &place)
        .with_context(|| format!("cannot move {} into place", place.display()))?;
    if old.exists() {
        fs::remove_dir_all(old)?;
    }
    Ok(place)
}

/// A stock kernel with the busybox shell.
fn linux_shell(
    dir: &Path,
    kernel_package: &str,
    suite: &str,
    architecture: &'static str,
    options: &Options,
) -> Result<()> {
    let kernel_tree = unpack_kernel(dir, kernel_package, suite, architecture, options)?;
    let busybox = busybox(dir, architecture, options)?;
    progress("packing the initial RAM disk");
    let tree = initramfs::shell(&busybox, &kernel_tree)?;
    initramfs::write_gzip(&tree, &dir.join(INITRD))?;
    fs::write(dir.join(DISK), qcow2::empty(SCRATCH_BYTES))?;
    fs::remove_dir_all(dir.join("tmp"))?;
    Ok(())
}

/// The cloud kernel with the programs of `bench/guest`, which run by themselves.
fn bench(dir: &Path, options: &Options) -> Result<()> {
    let kernel_tree = unpack_kernel(dir, "linux-image-cloud-amd64", "bookworm", AMD64, options)?;
    let busybox = busybox(dir, AMD64, options)?;
    let mut tree = initramfs::shell(&busybox, &kernel_tree)?;
    let sources = host::workspace().join("bench/guest");
    tree.file("etc/autorun", 0o755, fs::read(sources.join("autorun"))?);
    tree.file(
        "bin/kernels",
        0o755,
        fs::read(compile(&sources, &dir.join("tmp/kernels"))?)?,
    );
    initramfs::write_gzip(&tree, &dir.join(INITRD))?;
    fs::remove_dir_all(dir.join("tmp"))?;
    Ok(())
}

/// The text of all files that go into the bench guest.
fn bench_sources_text() -> Result<String> {
    let dir = host::workspace().join("bench/guest");
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        })
        .collect()
}

/// Compiles all C files of a directory into one static program for any x86-64. Loops are left scalar:
/// what vectors cost is a kernel of its own.
fn compile(sources: &Path, program: &Path) -> Result<PathBuf> {
    host::need(&[("gcc", "gcc libc6-dev")])?;
    progress("compiling the guest programs");
    let mut files: Vec<PathBuf> = fs::read_dir(sources)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "c"));
    files.sort();
    let flags = [
        "-O2",
        "-static",
        "-march=x86-64",
        "-fno-tree-vectorize",
        "-Wall",
        "-Wextra",
        "-Wno-parentheses",
    ];
    host::run(
        host::command("gcc")
            .args(flags)
            .arg("-o")
            .arg(program)
            .args(files),
    )?;
    Ok(program.to_owned())
}

/// The cloud kernel with Alpine's user space.
fn alpine(dir: &Path, options: &Options) -> Result<()> {
    let tarball = options.alpine_tarball.as_deref().context(
        "Alpine's user space is not a Debian package: give its mini root file system with --alpine-tarball FILE",
    )?;
    let kernel_tree = unpack_kernel(dir, "linux-image-cloud-amd64", "bookworm", AMD64, options)?;
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
    architecture: &'static str,
    options: &Options,
) -> Result<PathBuf> {
    host::need(&[
        ("apt-get", "apt"),
        ("dpkg-deb", "dpkg"),
        ("gzip", "gzip"),
        ("xz", "xz-utils"),
    ])?;
    let apt = Apt::open(suite, architecture, options.sources.as_deref())?;
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
fn busybox(dir: &Path, architecture: &'static str, options: &Options) -> Result<Vec<u8>> {
    let tree = dir.join("tmp/busybox");
    Apt::open("bookworm", architecture, options.sources.as_deref())?
        .unpack("busybox-static", &tree)?;
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
