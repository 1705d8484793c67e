//! Damaged and hostile images: they may be refused and they may fail, but nothing panics, nothing
//! hangs, and nothing outside the image is touched.

mod common;

use block_backend::{Config, Discard, Format, Kind, hostile, open};
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
        hostile::image(&image, &bytes, Some(Format::Qcow2));
    });
}

/// imago would look for room for the missing count in the place of that cluster, for ever.
#[test]
fn a_cluster_without_a_count_is_not_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = sound(&directory);
    let at = |bytes: &[u8], at: usize| {
        let number = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        (number & ((1 << 56) - 1)) as usize
    };
    let table = at(&bytes, at(&bytes, 40));
    bytes[table + 32..table + 40].copy_from_slice(&(1u64 << 63 | 64 << 20).to_be_bytes());
    let image = path(&directory, "uncounted");
    std::fs::write(&image, bytes).unwrap();
    let config = Config {
        discard: Discard::Unmap,
        ..Config::new(&image)
    };
    let refused = open(config).unwrap().discard(0, SIZE).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupt, "{refused}");
}

/// The next cluster that is wanted would be laid over the header.
#[test]
fn a_header_that_counts_as_free_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = sound(&directory);
    let table = u64::from_be_bytes(bytes[48..56].try_into().unwrap()) as usize;
    bytes[table..table + 8].fill(0);
    let image = path(&directory, "free");
    std::fs::write(&image, bytes).unwrap();
    let refused = open(Config::new(&image)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupt, "{refused}");
}
