//! What can be known before anything is started: files that are not there, a host that is too small.
//!
//! Everything is looked at, so that all problems are told at once. A race with somebody who takes a
//! file away meanwhile is no harm: whoever opens it says so as well.

use crate::run::boot_files;
use machine_spec::{CharBackend, Image, ImageFormat, Machine, Origin, Problems, is_bios_size};
use rustix::fs::Access;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The host's memory beside the guest's own that a run may take.
const OVERHEAD: u64 = 96 << 20;
/// 0x1badb002, which begins a Multiboot header within the first 8 KiB.
const MULTIBOOT_MAGIC: [u8; 4] = [0x02, 0xb0, 0xad, 0x1b];
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Everything about the host that stands in the way of `machine`.
pub(crate) fn check(machine: &Machine) -> Problems {
    let mut problems = Problems::default();
    if let Some(bios) = &machine.boot.bios {
        check_bios(bios, &mut problems);
    }
    if let Some(kernel) = &machine.boot.kernel {
        check_kernel(kernel, &mut problems);
    }
    let mut files = 0u64;
    for file in boot_files(machine) {
        files += readable(&file.path, "initrd", &mut problems).unwrap_or(0);
    }
    if files >= machine.memory_bytes {
        let text = "the initrd is larger than the guest's memory";
        problems.add(&Origin::Whole, text);
    }
    for drive in &machine.drives {
        check_image(&drive.image, &mut problems);
    }
    for chardev in &machine.chardevs {
        if let CharBackend::File { path, .. } | CharBackend::Unix { path, .. } = &chardev.backend {
            check_folder(path, &mut problems);
        }
    }
    let outputs = [&machine.stats, &machine.trail, &machine.debug.file];
    outputs
        .into_iter()
        .flatten()
        .for_each(|path| check_folder(path, &mut problems));
    check_memory(machine.memory_bytes, &mut problems);
    problems
}

/// The size of a plain file that can be read.
fn readable(path: &Path, what: &str, problems: &mut Problems) -> Option<u64> {
    let shown = path.display();
    let found = File::open(path).and_then(|file| file.metadata());
    match found {
        Ok(data) if data.is_dir() => {
            problems.add(
                &Origin::Whole,
                format!("the {what} '{shown}' is a directory"),
            );
            None
        }
        Ok(data) => Some(data.len()),
        Err(error) => {
            problems.add(
                &Origin::Whole,
                format!("cannot read the {what} '{shown}': {error}"),
            );
            None
        }
    }
}

/// The size of a firmware image, which has to fit below 4 GiB.
fn check_bios(path: &Path, problems: &mut Problems) {
    let Some(bytes) = readable(path, "firmware", problems) else {
        return;
    };
    if !is_bios_size(bytes) {
        let text = format!(
            "the firmware '{}' has {bytes} bytes; an image has a multiple of 64 KiB, at most 16 MiB",
            path.display()
        );
        problems.add(&Origin::Whole, text);
    }
}

/// The marks of a bzImage, of ELF and of Multiboot. The worker's loaders look closer.
fn check_kernel(path: &Path, problems: &mut Problems) {
    if readable(path, "kernel", problems).is_none() {
        return;
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8192).read_to_end(&mut head));
    let multiboot = |word: &[u8]| *word == MULTIBOOT_MAGIC;
    let known = head.get(0x202..0x206) == Some(b"HdrS")
        || head.starts_with(b"\x7fELF")
        || head.chunks_exact(4).any(multiboot);
    let shown = path.display();
    if head.starts_with(&[0x1f, 0x8b]) {
        let text = format!("the kernel '{shown}' is compressed; unpack it with gunzip");
        problems.add(&Origin::Whole, text);
    } else if read.is_err() || !known {
        let text = format!("the kernel '{shown}' is no Linux bzImage, Multiboot or ELF file");
        problems.add(&Origin::Whole, text);
    }
}

fn check_image(image: &Image, problems: &mut Problems) {
    let shown = image.path.display();
    if readable(&image.path, "disk image", problems).is_none() {
        return;
    }
    let writes = !image.readonly && !image.snapshot;
    if writes && rustix::fs::access(&image.path, Access::WRITE_OK).is_err() {
        let text = format!("cannot write the disk image '{shown}'; add readonly=on or snapshot=on");
        problems.add(&Origin::Whole, text);
    }
    if image.format_named || image.format != ImageFormat::Raw {
        return;
    }
    let mut magic = [0; 4];
    let read = File::open(&image.path).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_ok() && magic == QCOW2_MAGIC {
        let text = format!(
            "the disk image '{shown}' begins like qcow2; say format=qcow2 (or format=raw, if a guest \
             wrote that)"
        );
        problems.add(&Origin::Whole, text);
    }
}

/// A file to be made needs a folder to be made in.
fn check_folder(path: &Path, problems: &mut Problems) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        problems.add(
            &Origin::Whole,
            format!("'{}' is a directory", path.display()),
        );
    } else if !folder.is_dir() {
        let text = format!("cannot write '{}': there is no such folder", path.display());
        problems.add(&Origin::Whole, text);
    }
}

fn check_memory(wanted: u64, problems: &mut Problems) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let host = total_memory(&text).unwrap_or(u64::MAX);
    if wanted.saturating_add(OVERHEAD) > host {
        let (wanted, host) = (wanted >> 20, host >> 20);
        let text =
            format!("the guest's memory of {wanted} MiB does not fit: the host has {host} MiB");
        problems.add(&Origin::Whole, text);
    }
}

/// MemTotal and SwapTotal of /proc/meminfo, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let value = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some((value("MemTotal:")? + value("SwapTotal:").unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_host() {
        let text = "MemTotal:       100 kB\nMemFree: 5 kB\nSwapTotal:      28 kB\n";
        assert_eq!(total_memory(text), Some(128 << 10));
        assert_eq!(total_memory(""), None);
    }

    #[test]
    fn all_problems_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("k"), [0; 1000]).unwrap();
        std::fs::write(path("d.img"), b"QFI\xfb....").unwrap();
        let flags = format!(
            "-kernel {0}/k -initrd {0}/none -drive file={0}/d.img -drive file={0} --stats {0}/no/s -m 500G",
            folder.path().display()
        );
        let mut draft = machine_spec::Draft::new();
        draft.read_flags(&flags.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let problems = check(&draft.finish().unwrap()).to_string();
        let expected = [
            "bzImage",
            "none",
            "format=qcow2",
            "directory",
            "no such folder",
            "memory",
        ];
        for word in expected {
            assert!(problems.contains(word), "{word}: {problems}");
        }
        assert_eq!(problems.lines().count(), expected.len(), "{problems}");
    }
}
