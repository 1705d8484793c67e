//! Arbitrary bytes as a disk image of a format that the first of them chooses: qcow2, or what it looks like.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use block_backend::{Format, hostile};

/// In memory, for each input is written out.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/atoll-fuzz-{}.img", std::process::id())));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((choice, image)) = bytes.split_first() {
        let format = [Some(Format::Qcow2), None][usize::from(choice % 2)];
        hostile::image(&FILE, image, format);
        std::fs::remove_file(&*FILE).expect("it was written");
    }
});
