//! Atoll and QEMU respect each other's image locks.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use block_backend::{Backing, Config, Kind, Locking, Snapshot, open};
use common::{MIB, create, path, qemu_img, text};

/// A `qemu-io` that holds an image until it is dropped.
struct QemuIo {
    child: Child,
    _input: ChildStdin,
}

impl QemuIo {
    fn hold(image: &Path, format: &str, read_only: bool) -> QemuIo {
        let mut command = Command::new("qemu-io");
        if read_only {
            command.arg("-r");
        }
        let mut child = command
            .args(["-f", format])
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io runs (package qemu-utils)");
        let mut input = child.stdin.take().unwrap();
        // It answers only once the image is open and locked.
        writeln!(input, "length").unwrap();
        let mut answer = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(answer.any(|line| line.unwrap().contains("1 MiB")));
        QemuIo {
            child,
            _input: input,
        }
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reading(image: &Path) -> Config {
    Config {
        read_only: true,
        ..Config::new(image)
    }
}

#[test]
fn a_writing_qemu_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "qcow2", MIB, "", None);
    let holder = QemuIo::hold(&image, "qcow2", false);
    for config in [
        Config::new(&image),
        reading(&image),
        Config {
            snapshot: Snapshot::Temporary,
            ..Config::new(&image)
        },
    ] {
        let error = open(config).unwrap_err();
        assert_eq!(error.kind(), Kind::Locked, "{error:?}");
        let said = error.to_string();
        let who = format!("process {} (qemu-io)", holder.child.id());
        assert!(said.contains(&who) && said.contains(text(&image)), "{said}");
    }
    assert!(
        open(Config {
            locking: Locking::Off,
            ..reading(&image)
        })
        .is_ok()
    );
    drop(holder);
    assert!(open(Config::new(&image)).is_ok());
}

#[test]
fn readers_share_and_keep_writers_out() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "raw", MIB, "", None);
    let _holder = QemuIo::hold(&image, "raw", true);
    let first = open(reading(&image)).unwrap();
    let second = open(reading(&image)).unwrap();
    assert_eq!(open(Config::new(&image)).unwrap_err().kind(), Kind::Locked);
    drop((first, second));
}

#[test]
fn qemu_respects_ours() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "qcow2", MIB, "", None);
    let writer = open(Config::new(&image)).unwrap();
    let output = qemu_img(&["info", text(&image)]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Failed to get shared \"write\" lock")
    );
    drop(writer);
    let _reader = open(reading(&image)).unwrap();
    assert!(
        qemu_img(&["info", text(&image)]).status.success(),
        "readers share"
    );
    let resize = qemu_img(&["resize", "-f", "qcow2", text(&image), "2M"]);
    assert!(!resize.status.success(), "a reader keeps writers out");
}

#[test]
fn two_of_us_refuse_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "raw", MIB, "", None);
    let first = open(Config::new(&image)).unwrap();
    let said = open(Config::new(&image)).unwrap_err().to_string();
    assert!(
        said.contains(&format!("process {}", std::process::id())),
        "{said}"
    );
    drop(first);
    assert!(open(Config::new(&image)).is_ok(), "closing unlocks");
}

/// A base image is for many: each overlay takes it for reading only, needs no right to write it, and keeps writers out of it.
#[test]
fn overlays_share_a_base_that_nobody_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let base = path(&directory, "base");
    create(&base, "qcow2", MIB, "", None);
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o444)).unwrap();
    let overlay = |name: &str| {
        let image = path(&directory, name);
        create(&image, "qcow2", MIB, "", Some((&base, "qcow2")));
        Config {
            backing: Backing::Within(vec![base.clone()]),
            ..Config::new(&image)
        }
    };
    let first = open(overlay("first")).unwrap();
    let second = open(overlay("second")).unwrap();
    assert_eq!(open(Config::new(&base)).unwrap_err().kind(), Kind::Locked);
    assert!(open(reading(&base)).is_ok(), "readers share");
    drop((first, second));
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open(Config::new(&base)).is_ok(), "closing unlocks");
}
