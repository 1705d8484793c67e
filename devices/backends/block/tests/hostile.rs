//! Damaged and hostile images: they may be refused and they may fail, but nothing panics, nothing
//! hangs, and nothing outside the image is touched.

mod common;

use block_backend::{Config, Discard, Format, open};
use common::{create, path, pattern};
use proptest::prelude::*;

const SIZE: u64 = 256 << 10;

/// A sound image with data, holes, zeroes and an internal snapshot.
fn sound(directory: &tempfile::TempDir) -> Vec<u8> {
    let image = path(directory, "sound");
    create(&image, "qcow2", SIZE, "cluster_size=512", None);
    let mut disk = open(Config::new(&image)).unwrap();
    disk.write(0, &pattern(1, 0, 64 << 10), false).unwrap();
    disk.write_zeroes(16 << 10, 8 << 10, false).unwrap();
    drop(disk);
    common::qemu_img_ok(&["snapshot", "-c", "before", common::text(&image)]);
    std::fs::read(&image).unwrap()
}

/// Where damage hurts: the header, or any table or data cluster.
fn damage(length: usize) -> impl Strategy<Value = Vec<(usize, u8)>> {
    let byte = prop_oneof![Just(0), Just(0xff), Just(1), any::<u8>()];
    let place = prop_oneof![2 => 8..120usize, 3 => 512..length];
    proptest::collection::vec((place, byte), 1..6)
}

#[test]
fn damage_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let sound = sound(&directory);
    let image = path(&directory, "damaged");
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(damage in damage(sound.len()))| {
        let mut bytes = sound.clone();
        for (place, byte) in damage {
            bytes[place] = byte;
        }
        std::fs::write(&image, bytes).unwrap();
        let config = Config {
            format: Some(Format::Qcow2),
            discard: Discard::Unmap,
            ..Config::new(&image)
        };
        if let Ok(mut disk) = open(config) {
            let size = disk.info().size.min(SIZE);
            let mut data = vec![0; size as usize];
            let _ = disk.read(0, &mut data);
            let some = data.len().min(40 << 10);
            let _ = disk.write(0, &data[..some], false);
            let _ = disk.discard(0, size / 2);
            let _ = disk.write_zeroes(size / 2, size / 4, false);
            let _ = disk.flush();
        }
    });
}
