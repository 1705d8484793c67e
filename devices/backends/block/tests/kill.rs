//! A process may be killed between any two writes that it makes to an image. For every such
//! moment of a trace: the image is not corrupt, and a successor that repeats the requests since
//! the last settlement, in order, restores every byte.

mod common;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use block_backend::{Backing, Config, Discard, Disk, Role, Snapshot, open, open_with};
use common::storage::Meter;
use common::{Op, check, content, create, path, pattern, read_all};

const SIZE: u64 = 512 << 10;

/// A seeded trace that writes, overwrites, frees and settles. (A linear congruential generator
/// with Knuth's MMIX constants; its high bits are good enough to spread requests.)
fn trace(seed: u64, count: usize) -> Vec<Op> {
    let mut state = seed;
    let mut next = |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    (0..count)
        .map(|_| {
            let sectors = SIZE / 512;
            let first = next(sectors);
            let length = (1 + next(40)).min(sectors - first) * 512;
            let offset = first * 512;
            match next(12) {
                0..=6 => Op::Write {
                    offset,
                    length: length as usize,
                    fill: next(256) as u8,
                    fua: false,
                },
                7 => Op::Zero {
                    offset,
                    length,
                    unmap: next(2) == 0,
                },
                8 | 9 => Op::Discard { offset, length },
                10 => Op::Settle,
                _ => Op::Flush,
            }
        })
        .collect()
}

fn config(image: &Path) -> Config {
    Config {
        discard: Discard::Unmap,
        backing: Backing::Any,
        ..Config::new(image)
    }
}

/// Applies `ops` from the last settlement on. Returns where a later one would have to begin again,
/// and whether all went through.
fn run(disk: &mut Disk, ops: &[Op], from: usize, model: &mut [u8]) -> (usize, bool) {
    let mut settled = from;
    for (index, op) in ops.iter().enumerate().skip(from) {
        if op.apply(disk, model).is_err() {
            return (settled, false);
        }
        op.apply_to_model(model);
        if matches!(op, Op::Settle | Op::Flush) {
            settled = index + 1;
        }
    }
    (settled, true)
}

fn final_content(start: &[u8], ops: &[Op]) -> Vec<u8> {
    let mut model = start.to_vec();
    for op in ops {
        op.apply_to_model(&mut model);
    }
    model
}

/// Kills at every write of the trace on an image that `make` makes.
fn kill_everywhere(ops: &[Op], make: &dyn Fn(&Path) -> std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let image = make(directory.path());
    let pristine = directory.path().join("pristine");
    std::fs::copy(&image, &pristine).unwrap();
    let start = content(&image, "qcow2");
    let expected = final_content(&start, ops);

    let meter = Meter::unlimited();
    let mut disk = open_with(config(&image), &mut |role, file| wrap(&meter, role, file)).unwrap();
    let (_, whole) = run(&mut disk, ops, 0, &mut start.clone());
    assert!(whole);
    drop(disk);
    let writes = meter.writes.load(Relaxed);
    assert!(writes > 50, "the trace writes: {writes}");

    for limit in 0..writes {
        std::fs::copy(&pristine, &image).unwrap();
        let meter = Meter::stopping_after(limit);
        let settled = match open_with(config(&image), &mut |role, file| wrap(&meter, role, file)) {
            Err(_) => 0,
            Ok(mut disk) => run(&mut disk, ops, 0, &mut start.clone()).0,
        };
        check(&image);
        let mut successor = open(config(&image)).unwrap();
        // The model starts anywhere: a trace without reads never looks at it.
        let (_, whole) = run(&mut successor, ops, settled, &mut start.clone());
        assert!(whole);
        assert!(
            read_all(&mut successor) == expected,
            "killed after {limit} of {writes} writes"
        );
        drop(successor);
        check(&image);
        assert!(
            content(&image, "qcow2") == expected,
            "killed after {limit} of {writes} writes"
        );
    }
}

fn wrap(
    meter: &std::sync::Arc<Meter>,
    role: Role,
    file: imago::file::File,
) -> Box<dyn imago::DynStorage> {
    if role == Role::Backing {
        Box::new(file)
    } else {
        meter.wrap(file)
    }
}

#[test]
fn no_kill_corrupts_an_image_of_small_clusters() {
    kill_everywhere(&trace(1, 40), &|directory| {
        let image = directory.join("image");
        create(&image, "qcow2", SIZE, "cluster_size=512", None);
        image
    });
}

#[test]
fn no_kill_corrupts_an_image_over_a_backing_file() {
    kill_everywhere(&trace(2, 60), &|directory| {
        let (base, image) = (directory.join("base"), directory.join("image"));
        std::fs::write(&base, pattern(9, 0, SIZE as usize)).unwrap();
        create(
            &image,
            "qcow2",
            SIZE,
            "cluster_size=4096",
            Some((&base, "raw")),
        );
        image
    });
}

#[test]
fn no_kill_corrupts_an_image_with_an_internal_snapshot() {
    kill_everywhere(&trace(3, 40), &|directory| {
        let image = directory.join("image");
        create(&image, "qcow2", SIZE, "cluster_size=2048", None);
        let mut disk = open(config(&image)).unwrap();
        disk.write(0, &pattern(1, 0, SIZE as usize / 2), false)
            .unwrap();
        drop(disk);
        common::qemu_img_ok(&["snapshot", "-c", "before", common::text(&image)]);
        image
    });
}

#[test]
fn a_snapshots_overlay_outlives_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    std::fs::write(&image, pattern(4, 0, SIZE as usize)).unwrap();
    let start = std::fs::read(&image).unwrap();
    let ops = trace(4, 40);
    let expected = final_content(&start, &ops);

    // The first limits hit while the overlay itself is being made.
    for limit in 0.. {
        let overlay = tempfile::tempfile_in(directory.path()).unwrap();
        let with_overlay = || Config {
            snapshot: Snapshot::Overlay(overlay.try_clone().unwrap()),
            ..config(&image)
        };
        let meter = Meter::stopping_after(limit);
        let (settled, whole) =
            match open_with(with_overlay(), &mut |role, file| wrap(&meter, role, file)) {
                Err(_) => (0, false),
                Ok(mut disk) => run(&mut disk, &ops, 0, &mut start.clone()),
            };
        let mut successor = open(with_overlay()).unwrap();
        assert!(run(&mut successor, &ops, settled, &mut start.clone()).1);
        assert!(
            read_all(&mut successor) == expected,
            "killed after {limit} writes"
        );
        if whole {
            break;
        }
    }
    assert!(
        std::fs::read(&image).unwrap() == start,
        "the image itself never changes"
    );
}
