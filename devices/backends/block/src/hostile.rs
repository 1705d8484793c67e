//! Arbitrary bytes as a disk image: the body of fuzz targets and of a property test.

use std::path::Path;

use crate::{Config, Discard, Disk, Format, open};

/// What is read and written at a time: images may claim any size.
const PIECE: u64 = 64 << 10;

/// Makes `bytes` the file at `path`, opens it as a disk of that format, or of the one that it looks like, and uses it. It may be refused
/// and it may fail; it does not panic. That it ends, and what memory it takes meanwhile, its caller sees.
pub fn image(path: &Path, bytes: &[u8], format: Option<Format>) {
    std::fs::write(path, bytes).expect("the image can be written");
    let config = || Config {
        format,
        discard: Discard::Unmap,
        ..Config::new(path)
    };
    if let Ok(mut disk) = open(config()) {
        exercise(&mut disk);
    }
    // What a hostile image became is one as well.
    if let Ok(mut disk) = open(config()) {
        let mut data = vec![0; disk.info().size.min(PIECE) as usize];
        let _ = disk.read(0, &mut data);
    }
}

/// Reads, writes, zeroes and discards at both ends of the disk and in between. What is read back proves nothing: two clusters of such an image
/// may be one.
fn exercise(disk: &mut Disk) {
    let size = disk.info().size;
    let length = size.min(PIECE);
    let mut data = vec![0; length as usize];
    for offset in [0, (size / 2) & !511, size - length] {
        let offset = offset.min(size - length);
        let _ = disk.read(offset, &mut data);
        let part = length.min(PIECE / 2) & !511;
        let written = &data[..part as usize];
        let _ = disk.write(offset, written, offset != 0);
        let _ = disk.write_zeroes(offset, (length / 4) & !511, false);
        let _ = disk.discard(offset, (length / 2) & !511);
    }
    let _ = disk.discard(0, size);
    let _ = disk.flush();
}
