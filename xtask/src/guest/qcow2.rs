//! An empty qcow2 image: a disk that holds nothing yet.
//!
//! Format: QEMU, docs/interop/qcow2.txt, version 3 without features. Four clusters: the header, a refcount table
//! of one block, that block, and the L1 table, whose entries of zero say that nothing is allocated.

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
/// 16 bits a reference count, the width that every reader knows.
const REFCOUNT_ORDER: u32 = 4;
const HEADER_LENGTH: u32 = 104;

/// The bytes of an empty image of a disk of `size` bytes.
pub(super) fn empty(size: u64) -> Vec<u8> {
    let cluster = |number: usize| (number * CLUSTER) as u64;
    // One L2 table fills a cluster with entries of eight bytes, one for each cluster of data.
    let l1_entries = size.div_ceil((CLUSTER * CLUSTER / 8) as u64);
    assert!(
        l1_entries * 8 <= CLUSTER as u64,
        "the L1 table of a larger disk would need more than its cluster"
    );
    let mut image = vec![0; 4 * CLUSTER];
    image[..4].copy_from_slice(b"QFI\xfb");
    let words = [
        (4, 3),
        (20, CLUSTER_BITS),
        (36, l1_entries as u32),
        (56, 1),
        (96, REFCOUNT_ORDER),
        (100, HEADER_LENGTH),
    ];
    for (at, value) in words {
        image[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    let longs = [
        (24, size),
        (40, cluster(3)),
        (48, cluster(1)),
        (CLUSTER, cluster(2)),
    ];
    for (at, value) in longs {
        image[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    for used in 0..4 {
        image[2 * CLUSTER + 2 * used + 1] = 1;
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_where_the_tables_are() {
        let image = empty(1 << 30);
        let long = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
        assert_eq!(&image[..8], b"QFI\xfb\0\0\0\x03");
        assert_eq!(long(24), 1 << 30);
        assert_eq!(image[36..40], 2u32.to_be_bytes(), "512 MiB an L2 table");
        assert_eq!(long(48), CLUSTER as u64);
        assert_eq!(
            image[2 * CLUSTER..2 * CLUSTER + 10],
            [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
        );
    }
}
