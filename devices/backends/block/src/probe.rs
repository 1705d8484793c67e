//! What a file's first bytes say that it is.
//!
//! Guessing a format is dangerous where the guest writes those bytes: a guest on a raw disk could
//! write a qcow2 header that names a file of the host, and read that file after the next start.
//! So a guess of "raw" is a promise to keep the disk looking raw ([`would_be_probed`]), and
//! whoever names the format is free of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes at the head of a disk that decide a guess. QEMU looks at as many.
pub(crate) const PROBE_BYTES: usize = 512;

/// Magic numbers of formats that QEMU (and the file's owner) would recognise: offset, bytes, name.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"QFI\xfb\x00\x00\x00\x02", "qcow2"),
    (0, b"QFI\xfb\x00\x00\x00\x03", "qcow2"),
    (0, b"QFI\xfb", "qcow"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format", "cloop"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
];

/// The format whose magic number `head` carries.
pub(crate) fn magic(head: &[u8]) -> Option<&'static str> {
    MAGICS
        .iter()
        .find(|(at, bytes, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes)))
        .map(|(_, _, name)| *name)
}

/// The format whose magic number `file` carries.
pub(crate) fn magic_of(file: &File) -> io::Result<Option<&'static str>> {
    let mut head = [0; PROBE_BYTES];
    let filled = read_prefix(file, &mut head)?;
    Ok(magic(&head[..filled]))
}

/// Whether writing `data` at the head of a raw disk would make the next guess another one.
pub(crate) fn would_be_probed(data: &[u8]) -> Option<&'static str> {
    magic(&data[..data.len().min(PROBE_BYTES)])
}

/// Fills as much of `buffer` from the head of `file` as there is.
pub(crate) fn read_prefix(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_qcow_are_told_apart() {
        assert_eq!(magic(b"QFI\xfb\x00\x00\x00\x03rest"), Some("qcow2"));
        assert_eq!(magic(b"QFI\xfb\x00\x00\x00\x01rest"), Some("qcow"));
        assert_eq!(magic(b"QFI"), None);
        assert_eq!(magic(&[0; 512]), None);
    }
}
