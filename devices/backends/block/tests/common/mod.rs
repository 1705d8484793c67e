//! What the tests of images share: QEMU's own tools as the judge, and a seeded source of requests.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file includes this module and uses its part"
)]

pub mod storage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use block_backend::{Disk, Error};

pub const MIB: u64 = 1 << 20;

/// Runs `qemu-img` and returns what it printed; it must be installed (`qemu-utils`).
pub fn qemu_img(arguments: &[&str]) -> Output {
    Command::new("qemu-img")
        .args(arguments)
        .output()
        .expect("qemu-img runs (package qemu-utils)")
}

pub fn qemu_img_ok(arguments: &[&str]) {
    let output = qemu_img(arguments);
    assert!(
        output.status.success(),
        "qemu-img {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes an image of `size` bytes with `options` (`-o`), over `backing` if there is one.
pub fn create(path: &Path, format: &str, size: u64, options: &str, backing: Option<(&Path, &str)>) {
    let size = size.to_string();
    let mut arguments = vec!["create", "-q", "-f", format];
    if !options.is_empty() {
        arguments.extend(["-o", options]);
    }
    if let Some((path, format)) = backing {
        arguments.extend(["-b", text(path), "-F", format]);
    }
    arguments.extend([text(path), &size]);
    qemu_img_ok(&arguments);
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// What `qemu-img check` found in a qcow2 image.
#[derive(Debug, PartialEq, Eq)]
pub enum Soundness {
    Clean,
    /// Clusters are counted that nothing uses: space is lost, no data are.
    Leaks,
}

/// `qemu-img check`; panics if it finds the image corrupt.
pub fn check(path: &Path) -> Soundness {
    let output = qemu_img(&["check", "-f", "qcow2", text(path)]);
    match output.status.code() {
        Some(0) => Soundness::Clean,
        Some(3) => Soundness::Leaks,
        other => panic!(
            "qemu-img check {}: {other:?}\n{}{}",
            path.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// The disk's content as QEMU reads it.
pub fn content(path: &Path, format: &str) -> Vec<u8> {
    let plain = path.with_extension("content");
    qemu_img_ok(&[
        "convert",
        "-f",
        format,
        "-O",
        "raw",
        text(path),
        text(&plain),
    ]);
    let bytes = fs::read(&plain).expect("converted image is readable");
    fs::remove_file(plain).expect("converted image is ours");
    bytes
}

pub fn path(directory: &tempfile::TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

/// A request that changes a disk, or makes changes safer.
#[derive(Clone, Debug)]
pub enum Op {
    Write {
        offset: u64,
        length: usize,
        fill: u8,
        fua: bool,
    },
    Zero {
        offset: u64,
        length: u64,
        unmap: bool,
    },
    Discard {
        offset: u64,
        length: u64,
    },
    Read {
        offset: u64,
        length: usize,
    },
    Settle,
    Flush,
}

/// A write's bytes: no two sectors alike, so that a sector in the wrong place shows.
pub fn pattern(fill: u8, offset: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| {
            let sector = (offset + at) / 512;
            fill.wrapping_add(sector as u8)
                .wrapping_add((at % 251) as u8)
        })
        .collect()
}

impl Op {
    /// Does it to `disk`, and where it reads, compares with `model`.
    pub fn apply(&self, disk: &mut Disk, model: &[u8]) -> Result<(), Error> {
        match *self {
            Op::Write {
                offset,
                length,
                fill,
                fua,
            } => disk.write(offset, &pattern(fill, offset, length), fua),
            Op::Zero {
                offset,
                length,
                unmap,
            } => disk.write_zeroes(offset, length, unmap),
            Op::Discard { offset, length } => disk.discard(offset, length),
            Op::Read { offset, length } => {
                let mut data = vec![0xee; length];
                disk.read(offset, &mut data)?;
                assert!(
                    data == model[offset as usize..][..length],
                    "read at {offset:#x} differs"
                );
                Ok(())
            }
            Op::Settle => disk.settle(),
            Op::Flush => disk.flush(),
        }
    }

    /// Does it to a disk that is a vector, where discarded ranges read as zeroes.
    pub fn apply_to_model(&self, model: &mut [u8]) {
        match *self {
            Op::Write {
                offset,
                length,
                fill,
                ..
            } => {
                model[offset as usize..][..length].copy_from_slice(&pattern(fill, offset, length));
            }
            Op::Zero { offset, length, .. } | Op::Discard { offset, length } => {
                model[offset as usize..][..length as usize].fill(0);
            }
            Op::Read { .. } | Op::Settle | Op::Flush => {}
        }
    }
}

/// Everything that a disk holds.
pub fn read_all(disk: &mut Disk) -> Vec<u8> {
    let mut data = vec![0; disk.info().size as usize];
    disk.read(0, &mut data).expect("whole disk reads");
    data
}
