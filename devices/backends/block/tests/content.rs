//! Random requests through every kind of image, against a vector; QEMU judges the result.

mod common;

use block_backend::{Backing, Config, Discard, Format, Snapshot, open};
use common::{Op, check, content, create, path, pattern, read_all};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;
const SECTORS: u64 = SIZE / 512;

/// A range of whole sectors: mostly short, sometimes over many clusters.
fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..SECTORS, prop_oneof![4 => 1..16u64, 1 => 1..400u64])
        .prop_map(|(first, count)| (first * 512, count.min(SECTORS - first) * 512))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (range(), any::<u8>(), any::<bool>())
            .prop_map(|((offset, length), fill, fua)| Op::Write { offset, length: length as usize, fill, fua }),
        2 => (range(), any::<bool>()).prop_map(|((offset, length), unmap)| Op::Zero { offset, length, unmap }),
        2 => range().prop_map(|(offset, length)| Op::Discard { offset, length }),
        4 => range().prop_map(|(offset, length)| Op::Read { offset, length: length as usize }),
        1 => Just(Op::Settle),
        1 => Just(Op::Flush),
    ]
}

/// An image to test: how it is made, and whether it leans on others.
#[derive(Clone, Copy, Debug)]
struct Shape {
    format: Format,
    options: &'static str,
    backed: bool,
    snapshot: bool,
}

const SHAPES: &[Shape] = &[
    Shape {
        format: Format::Raw,
        options: "",
        backed: false,
        snapshot: false,
    },
    Shape {
        format: Format::Raw,
        options: "",
        backed: false,
        snapshot: true,
    },
    Shape {
        format: Format::Qcow2,
        options: "cluster_size=512",
        backed: false,
        snapshot: false,
    },
    Shape {
        format: Format::Qcow2,
        options: "cluster_size=65536",
        backed: true,
        snapshot: false,
    },
    Shape {
        format: Format::Qcow2,
        options: "cluster_size=4096,refcount_bits=1",
        backed: true,
        snapshot: false,
    },
    Shape {
        format: Format::Qcow2,
        options: "compat=0.10,cluster_size=2048",
        backed: false,
        snapshot: false,
    },
    Shape {
        format: Format::Qcow2,
        options: "cluster_size=4096,preallocation=metadata",
        backed: false,
        snapshot: true,
    },
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn images_hold_what_was_written(
        shape in proptest::sample::select(SHAPES),
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        run(shape, &ops);
    }
}

fn run(shape: Shape, ops: &[Op]) {
    let directory = tempfile::tempdir().unwrap();
    let (image, mut model) = make(&directory, shape);
    let before = content(&image, shape.format.name());
    assert!(before == model, "QEMU and the model agree at the start");
    let config = Config {
        format: Some(shape.format),
        discard: Discard::Unmap,
        backing: Backing::Within(vec![directory.path().to_owned()]),
        snapshot: if shape.snapshot {
            Snapshot::Temporary
        } else {
            Snapshot::Off
        },
        ..Config::new(&image)
    };
    let mut disk = open(config).unwrap();
    for op in ops {
        op.apply(&mut disk, &model).unwrap();
        op.apply_to_model(&mut model);
    }
    assert!(read_all(&mut disk) == model);
    drop(disk);
    if shape.format == Format::Qcow2 {
        assert_eq!(check(&image), common::Soundness::Clean);
    }
    let expected = if shape.snapshot { before } else { model };
    assert!(
        content(&image, shape.format.name()) == expected,
        "QEMU reads what was written"
    );
}

/// Makes the image, and below it a raw and a qcow2 backing file, with something in each.
fn make(directory: &tempfile::TempDir, shape: Shape) -> (std::path::PathBuf, Vec<u8>) {
    let mut model = vec![0; SIZE as usize];
    let image = path(directory, "image");
    let mut backing = None;
    if shape.backed {
        let (base, middle) = (path(directory, "base.raw"), path(directory, "middle.qcow2"));
        // Shorter than the disk above it: the rest reads as zeroes.
        let base_bytes = pattern(3, 0, 600 << 10);
        std::fs::write(&base, &base_bytes).unwrap();
        model[..base_bytes.len()].copy_from_slice(&base_bytes);
        create(&middle, "qcow2", SIZE, "", Some((&base, "raw")));
        let mut config = Config::new(&middle);
        config.backing = Backing::Any;
        let mut disk = open(config).unwrap();
        let write = Op::Write {
            offset: 100 << 10,
            length: 300 << 10,
            fill: 77,
            fua: false,
        };
        write.apply(&mut disk, &model).unwrap();
        write.apply_to_model(&mut model);
        backing = Some(middle);
    }
    let over = backing.as_deref().map(|path| (path, "qcow2"));
    create(&image, shape.format.name(), SIZE, shape.options, over);
    (image, model)
}

#[test]
fn a_raw_file_may_end_within_a_sector() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "odd.raw");
    std::fs::write(&image, vec![7; 1000]).unwrap();
    let mut config = Config::new(&image);
    config.format = Some(Format::Raw);
    let mut disk = open(config).unwrap();
    assert_eq!(disk.info().size, 1024);
    let mut model = vec![7; 1000];
    model.resize(1024, 0);
    assert_eq!(read_all(&mut disk), model);
    disk.write(512, &[9; 512], false).unwrap();
    model[512..].fill(9);
    assert_eq!(read_all(&mut disk), model);
    drop(disk);
    assert_eq!(std::fs::read(&image).unwrap(), model);
}

#[test]
fn compressed_clusters_are_read_and_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let (plain, image) = (path(&directory, "plain"), path(&directory, "packed"));
    let mut model = pattern(5, 0, SIZE as usize);
    std::fs::write(&plain, &model).unwrap();
    common::qemu_img_ok(&[
        "convert",
        "-c",
        "-f",
        "raw",
        "-O",
        "qcow2",
        common::text(&plain),
        common::text(&image),
    ]);
    let mut disk = open(Config::new(&image)).unwrap();
    assert!(read_all(&mut disk) == model);
    let write = Op::Write {
        offset: 60 << 10,
        length: 10 << 10,
        fill: 1,
        fua: false,
    };
    write.apply(&mut disk, &model).unwrap();
    write.apply_to_model(&mut model);
    assert!(read_all(&mut disk) == model);
    drop(disk);
    check(&image);
    assert!(content(&image, "qcow2") == model);
}
