//! When an image is synced: exactly when a cache mode promises it.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use block_backend::{Cache, Config, Discard, Disk, Kind, Snapshot, open_with};
use common::storage::Meter;
use common::{MIB, create, path};

fn metered(directory: &tempfile::TempDir, format: &str, cache: Cache) -> (Disk, Arc<Meter>) {
    let image = path(directory, "image");
    create(&image, format, MIB, "", None);
    let meter = Meter::unlimited();
    let config = Config {
        cache,
        discard: Discard::Unmap,
        ..Config::new(&image)
    };
    let disk = open_with(config, &mut |_, file| meter.wrap(file)).unwrap();
    (disk, meter)
}

/// Syncs that `call` causes.
fn syncs(disk: &mut Disk, meter: &Meter, call: impl FnOnce(&mut Disk)) -> u64 {
    let before = meter.syncs.load(Relaxed);
    call(disk);
    meter.syncs.load(Relaxed) - before
}

#[test]
fn cache_modes_sync_when_they_say_so() {
    // mode, syncs by: a write, a write with FUA, a discard, zeroes, a flush
    let table = [
        (Cache::Writeback, [0, 1, 0, 0, 1]),
        (Cache::Writethrough, [1, 1, 1, 1, 1]),
        (Cache::Unsafe, [0, 0, 0, 0, 0]),
    ];
    for format in ["raw", "qcow2"] {
        for (cache, expected) in table {
            let directory = tempfile::tempdir().unwrap();
            let (mut disk, meter) = metered(&directory, format, cache);
            assert_eq!(disk.info().writeback, cache != Cache::Writethrough);
            let counted = [
                syncs(&mut disk, &meter, |disk| {
                    disk.write(0, &[1; 4096], false).unwrap()
                }),
                syncs(&mut disk, &meter, |disk| {
                    disk.write(0, &[2; 4096], true).unwrap()
                }),
                syncs(&mut disk, &meter, |disk| disk.discard(0, 65536).unwrap()),
                syncs(&mut disk, &meter, |disk| {
                    disk.write_zeroes(65536, 512, false).unwrap()
                }),
                syncs(&mut disk, &meter, |disk| disk.flush().unwrap()),
            ];
            assert_eq!(counted, expected, "{format} {cache:?}");
        }
    }
}

#[test]
fn settling_writes_metadata_once_and_never_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, meter) = metered(&directory, "qcow2", Cache::Writeback);
    disk.write(0, &[1; 4096], false).unwrap();
    assert!(!disk.is_settled());
    let before = meter.writes.load(Relaxed);
    assert_eq!(syncs(&mut disk, &meter, |disk| disk.settle().unwrap()), 0);
    assert!(disk.is_settled() && meter.writes.load(Relaxed) > before);
    let settled = meter.writes.load(Relaxed);
    disk.settle().unwrap();
    assert_eq!(meter.writes.load(Relaxed), settled);
}

#[test]
fn raw_images_are_always_settled() {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, _) = metered(&directory, "raw", Cache::Writeback);
    disk.write(0, &[1; 4096], false).unwrap();
    assert!(disk.is_settled());
}

#[test]
fn a_discard_of_an_empty_disk_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, meter) = metered(&directory, "qcow2", Cache::Writeback);
    disk.discard(0, MIB).unwrap();
    disk.settle().unwrap();
    assert_eq!(meter.writes.load(Relaxed), 0);
}

#[test]
fn detected_zeroes_take_no_space() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "qcow2", MIB, "", None);
    let config = Config {
        detect_zeroes: true,
        ..Config::new(&image)
    };
    let meter = Meter::unlimited();
    let mut disk = open_with(config, &mut |_, file| meter.wrap(file)).unwrap();
    disk.write(0, &vec![0; MIB as usize], false).unwrap();
    assert_eq!(meter.writes.load(Relaxed), 0);
}

#[test]
fn what_is_thrown_away_is_never_synced() {
    let directory = tempfile::tempdir().unwrap();
    let image = path(&directory, "image");
    create(&image, "raw", MIB, "", None);
    let config = Config {
        snapshot: Snapshot::Temporary,
        cache: Cache::Writethrough,
        ..Config::new(&image)
    };
    let meter = Meter::unlimited();
    let mut disk = open_with(config, &mut |_, file| meter.wrap(file)).unwrap();
    disk.write(0, &[1; 512], true).unwrap();
    disk.flush().unwrap();
    assert_eq!(meter.syncs.load(Relaxed), 0);
}

#[test]
fn a_full_file_system_is_an_error_that_passes() {
    let data = vec![7; 300 << 10];
    for limit in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let image = path(&directory, "image");
        create(&image, "qcow2", MIB, "cluster_size=4096", None);
        let meter = Meter::full_after(limit);
        let mut disk = open_with(Config::new(&image), &mut |_, file| meter.wrap(file)).unwrap();
        let written = disk.write(0, &data, false).and_then(|()| disk.flush());
        if let Err(error) = written {
            assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
            assert!(error.to_string().contains("free some space"), "{error}");
        }
        meter.make_room();
        disk.write(0, &data, false).unwrap();
        disk.flush().unwrap();
        drop(disk);
        common::check(&image);
        assert!(common::content(&image, "qcow2")[..data.len()] == data);
    }
}
