//! Images that cannot be served: each refusal names the file, the reason and a remedy.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use block_backend::{Backing, Cache, Config, Discard, Error, Format, Kind, Snapshot, open};
use common::{MIB, create, path, pattern, qemu_img_ok, text};

/// Opens and expects a refusal of `kind` whose text has all of `words`.
fn refused(config: Config, kind: Kind, words: &[&str]) {
    let name = config.path.display().to_string();
    let error: Error = open(config).expect_err("refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    let said = format!("{error:?}");
    assert!(said.contains(&name), "'{said}' names the file");
    for word in words {
        assert!(said.contains(word), "'{said}' says '{word}'");
    }
}

/// Overwrites bytes of a file.
fn poke(path: &Path, offset: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

#[test]
fn names_that_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    refused(
        Config::new(path(&directory, "absent")),
        Kind::NotFound,
        &["qemu-img create"],
    );
    refused(
        Config::new(directory.path()),
        Kind::NotADisk,
        &["a directory"],
    );
    refused(
        Config::new("/dev/null"),
        Kind::NotADisk,
        &["neither a file nor a block device"],
    );
}

#[test]
fn a_file_without_permission() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "secret");
    fs::write(&image, [0; 512]).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&image).is_ok() {
        return; // root may open anything
    }
    refused(Config::new(&image), Kind::Permission, &["give the user"]);
}

#[test]
fn other_formats_and_wrong_formats() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "disk.vmdk");
    qemu_img_ok(&["create", "-q", "-f", "vmdk", text(&image), "1M"]);
    refused(Config::new(&image), Kind::Format, &["vmdk", "format=raw"]);
    let raw = Config {
        format: Some(Format::Raw),
        ..Config::new(&image)
    };
    assert!(open(raw).is_ok(), "a named format is believed");
    let qcow2 = Config {
        format: Some(Format::Qcow2),
        ..Config::new(&image)
    };
    refused(qcow2, Kind::Format, &["not a qcow2 image"]);
}

#[test]
fn features_that_are_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    let cases: &[(u8, Kind, &str)] = &[
        (1 << 0, Kind::Unsupported, "dirty bit"),
        (1 << 1, Kind::Corrupt, "marked corrupt"),
        (1 << 2, Kind::Unsupported, "external data file"),
        (1 << 3, Kind::Unsupported, "another method than zlib"),
        (1 << 4, Kind::Unsupported, "extended L2"),
        (1 << 5, Kind::Unsupported, "0x20"),
    ];
    for &(bit, kind, word) in cases {
        create(&image, "qcow2", MIB, "", None);
        poke(&image, 79, &[bit]);
        refused(Config::new(&image), kind, &[word, "qemu-img"]);
    }
    for (method, name) in [(1, "AES"), (2, "LUKS")] {
        create(&image, "qcow2", MIB, "", None);
        poke(&image, 35, &[method]);
        refused(Config::new(&image), Kind::Encrypted, &[name]);
    }
    create(&image, "qcow2", MIB, "", None);
    poke(&image, 7, &[4]);
    refused(
        Config {
            format: Some(Format::Qcow2),
            ..Config::new(&image)
        },
        Kind::Unsupported,
        &["version 4"],
    );
}

#[test]
fn headers_that_contradict_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    let cases: &[(usize, &[u8], Kind, &str)] = &[
        (23, &[40], Kind::Corrupt, "cluster size"),
        (24, &[0, 0xff], Kind::Corrupt, "L1 table"),
        (36, &[0xff, 0xff, 0xff, 0xff], Kind::Corrupt, "claims"),
        (47, &[1], Kind::Corrupt, "not aligned"),
        (40, &[0, 0xff], Kind::Truncated, "L1 table lies at"),
        (48, &[0, 0xff], Kind::Truncated, "refcount table lies at"),
        (56, &[0x7f], Kind::Corrupt, "claims"),
        (99, &[9], Kind::Corrupt, "reference counts"),
    ];
    for (offset, bytes, kind, word) in cases {
        create(&image, "qcow2", MIB, "", None);
        poke(&image, *offset, bytes);
        refused(Config::new(&image), *kind, &[word]);
    }
}

#[test]
fn an_image_that_lost_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    let open_file = |length: u64| {
        fs::OpenOptions::new()
            .write(true)
            .open(&image)
            .unwrap()
            .set_len(length)
            .unwrap()
    };
    create(&image, "qcow2", 4 * MIB, "", None);
    let mut disk = open(Config::new(&image)).unwrap();
    disk.write(0, &pattern(1, 0, 2 << 20), false).unwrap();
    drop(disk);
    let whole = fs::metadata(&image).unwrap().len();
    for (length, word) in [
        (whole - (1 << 20), "data of disk offset"),
        (300, "table lies at"),
        (60, "header needs"),
    ] {
        open_file(length);
        refused(
            Config::new(&image),
            Kind::Truncated,
            &[word, "copy it again"],
        );
    }
}

#[test]
fn a_leak_beyond_the_end_is_no_loss() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "qcow2", MIB, "", None);
    // The refcount block lies in the third cluster; count the tenth cluster, which is not there.
    poke(&image, (2 << 16) + 2 * 9 + 1, &[1]);
    assert!(open(Config::new(&image)).is_ok());
}

#[test]
fn backing_files_only_where_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let inside = path(&directory, "inside");
    fs::create_dir(&inside).unwrap();
    let (base, image) = (inside.join("base"), path(&directory, "image"));
    fs::write(&base, [1; 4096]).unwrap();
    create(&image, "qcow2", MIB, "", Some((&base, "raw")));
    let with = |backing| Config {
        backing,
        ..Config::new(&image)
    };
    refused(
        with(Backing::Deny),
        Kind::BackingDenied,
        &[text(&base), "qemu-img rebase"],
    );
    refused(
        with(Backing::Within(vec!["/usr".into()])),
        Kind::BackingDenied,
        &[text(&base)],
    );
    assert!(open(with(Backing::Within(vec![inside.clone()]))).is_ok());
    assert!(open(with(Backing::Within(vec![base.clone()]))).is_ok());
    // A link does not lead out of what is allowed.
    fs::remove_file(&base).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &base).unwrap();
    refused(
        with(Backing::Within(vec![inside])),
        Kind::BackingDenied,
        &[],
    );
}

#[test]
fn backing_files_that_are_no_files_or_loop() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "qcow2", MIB, "", None);
    qemu_img_ok(&[
        "rebase",
        "-u",
        "-f",
        "qcow2",
        "-b",
        "nbd:localhost:1",
        "-F",
        "raw",
        text(&image),
    ]);
    let any = || Config {
        backing: Backing::Any,
        ..Config::new(&image)
    };
    refused(any(), Kind::Unsupported, &["only files are served"]);
    qemu_img_ok(&[
        "rebase",
        "-u",
        "-f",
        "qcow2",
        "-b",
        text(&image),
        "-F",
        "qcow2",
        text(&image),
    ]);
    let error = open(Config {
        read_only: true,
        ..any()
    })
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
}

#[test]
fn a_guessed_raw_disk_goes_on_looking_raw() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    fs::write(&image, [0; 4096]).unwrap();
    let mut header = vec![0; 512];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let mut guessed = open(Config::new(&image)).unwrap();
    let error = guessed.write(0, &header, false).unwrap_err();
    assert_eq!(error.kind(), Kind::ProbeGuard);
    guessed.write(512, &header, false).unwrap();
    guessed.write(0, &[7; 512], false).unwrap();
    drop(guessed);
    let mut named = open(Config {
        format: Some(Format::Raw),
        ..Config::new(&image)
    })
    .unwrap();
    named.write(0, &header, false).unwrap();
}

#[test]
fn requests_beyond_the_end_and_writes_to_read_only_disks() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    fs::write(&image, [0; 4096]).unwrap();
    let mut disk = open(Config {
        discard: Discard::Unmap,
        ..Config::new(&image)
    })
    .unwrap();
    let mut sector = [0; 512];
    let kind = |result: Result<(), Error>| result.unwrap_err().kind();
    for offset in [4096, 3585, u64::MAX - 100] {
        assert_eq!(kind(disk.read(offset, &mut sector)), Kind::OutOfRange);
        assert_eq!(kind(disk.write(offset, &sector, false)), Kind::OutOfRange);
        assert_eq!(kind(disk.discard(offset, 512)), Kind::OutOfRange);
        assert_eq!(kind(disk.write_zeroes(offset, 512, true)), Kind::OutOfRange);
    }
    drop(disk);
    let mut disk = open(Config {
        read_only: true,
        ..Config::new(&image)
    })
    .unwrap();
    assert_eq!(kind(disk.write(0, &sector, false)), Kind::ReadOnly);
    assert_eq!(kind(disk.discard(0, 512)), Kind::ReadOnly);
    disk.flush().unwrap();
}

#[test]
fn direct_io_works_or_is_refused_clearly() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    for (format, cache) in [("raw", Cache::None), ("qcow2", Cache::Directsync)] {
        create(&image, format, MIB, "", None);
        match open(Config {
            cache,
            ..Config::new(&image)
        }) {
            Err(error) => assert_eq!(error.kind(), Kind::NoDirectIo, "{error:?}"),
            Ok(mut disk) => {
                // Odd addresses in memory and odd sectors on disk take a detour and come out right.
                let data = pattern(9, 512, 512 * 7);
                disk.write(512, &data, false).unwrap();
                let mut back = vec![0; data.len() + 1];
                disk.read(512, &mut back[1..]).unwrap();
                assert_eq!(back[1..], data);
            }
        }
    }
}

#[test]
fn a_snapshot_of_a_read_only_file_is_writable() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    fs::write(&image, [5; 8192]).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o400)).unwrap();
    let mut disk = open(Config {
        snapshot: Snapshot::Temporary,
        ..Config::new(&image)
    })
    .unwrap();
    disk.write(512, &[6; 512], true).unwrap();
    disk.flush().unwrap();
    let mut back = [0; 1024];
    disk.read(0, &mut back).unwrap();
    assert_eq!((back[0], back[511], back[512], back[1023]), (5, 5, 6, 6));
}
