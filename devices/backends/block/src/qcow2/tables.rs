//! L2 tables made in an order that survives a kill.
//!
//! qcow2 maps a disk in two levels: an entry of the L1 table leads to an L2 table, whose entries
//! lead to data clusters, and every cluster in use has a reference count. imago writes back its
//! cached counts before the cached L2 tables that rely on them; but where a range has no L2 table
//! yet (or shares it with an internal snapshot), it writes the new L1 entry at once, before the
//! count. A kill in between leaves a table in a cluster that counts as free, and the next user of
//! the image overwrites it.
//!
//! So imago never gets to make an L2 table: before a request reaches a range without one of its
//! own, [`Tables::make`] writes the count, the table and the L1 entry, in this order, while imago's
//! caches are clean; then the image is opened anew. At worst a kill leaks the cluster. It happens
//! once per L1 entry in the life of an image (512 MiB of disk with clusters of 64 KiB).

use std::io;
use std::ops::RangeInclusive;

use imago::StorageExt;

use super::header::{Header, OFFSET_MASK, be64};
use crate::image::Store;

/// Bit 63 of a table entry: the cluster's count is exactly one, so it may be changed in place.
const COPIED: u64 = 1 << 63;

/// The L1 table of an image that is open for writing, and where free clusters were last found.
#[derive(Debug)]
pub(crate) struct Tables {
    l1: Vec<u64>,
    /// Entries whose L2 tables were examined.
    examined: Vec<bool>,
    l1_offset: u64,
    /// Bytes of disk that one L1 entry maps.
    reach: u64,
    /// Refcount block that had room when it was last searched.
    roomy_block: u64,
}

impl Tables {
    pub(crate) fn load(store: &Store) -> io::Result<Tables> {
        let header = Header::load(store)?;
        let bytes = read(store, header.l1_offset, u64::from(header.l1_entries) * 8)?;
        let l1: Vec<u64> = bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect();
        Ok(Tables {
            examined: vec![false; l1.len()],
            l1,
            l1_offset: header.l1_offset,
            reach: header.cluster() * (header.cluster() / 8),
            roomy_block: 0,
        })
    }

    /// The L1 entries that a range of the disk needs. The range is not empty and on the disk.
    pub(crate) fn entries(&self, offset: u64, length: u64) -> RangeInclusive<usize> {
        let entry = |at: u64| usize::try_from(at / self.reach).expect("an L1 table fits in memory");
        entry(offset)..=entry(offset + length - 1)
    }

    /// The range of the disk that one L1 entry maps.
    pub(crate) fn reach_of(&self, entry: usize) -> (u64, u64) {
        (entry as u64 * self.reach, self.reach)
    }

    /// Nothing in this image is mapped by the entry.
    pub(crate) fn is_empty(&self, entry: usize) -> bool {
        self.l1[entry] & OFFSET_MASK == 0
    }

    /// The entry has an L2 table that nobody shares.
    pub(crate) fn is_own(&self, entry: usize) -> bool {
        self.l1[entry] & COPIED != 0
    }

    /// Refuses a change of what `entry` maps if it maps a cluster that no refcount block counts. imago would free the cluster, look there for
    /// free ones from then on, want a block to count them, and look for room for that in the same place, without end.
    pub(crate) fn examine(&mut self, store: &Store, entry: usize) -> io::Result<()> {
        if self.examined[entry] || self.is_empty(entry) {
            return Ok(());
        }
        let header = Header::load(store)?;
        let counts = Counts::load(store, &header)?;
        let table = read(store, self.l1[entry] & OFFSET_MASK, header.cluster())?;
        for mapping in table.chunks_exact(8) {
            let used = header.bytes_used(be64(mapping, 0));
            if used.is_some_and(|(first, last)| !counts.covers(first) || !counts.covers(last)) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a cluster in use has no reference count; keep a copy and try `qemu-img check -r all`",
                ));
            }
        }
        self.examined[entry] = true;
        Ok(())
    }

    /// Gives `entry` an L2 table of its own. Nobody else may hold the image's metadata in a cache.
    pub(crate) fn make(&mut self, store: &Store, entry: usize) -> io::Result<()> {
        // The refcount table moves when it grows, so it is looked up every time.
        let header = Header::load(store)?;
        let old = self.l1[entry] & OFFSET_MASK;
        let counts = Counts::load(store, &header)?;
        let (new, block) = counts.take_free_cluster(self.roomy_block)?;
        self.roomy_block = block;
        if old == 0 {
            write(store, new, &vec![0; header.cluster() as usize])?;
        } else {
            write(store, new, &read(store, old, header.cluster())?)?;
        }
        let value = new | COPIED;
        write(
            store,
            self.l1_offset + entry as u64 * 8,
            &value.to_be_bytes(),
        )?;
        self.l1[entry] = value;
        self.examined[entry] = true;
        if old != 0 {
            counts.release(old)?;
        }
        Ok(())
    }
}

/// Whether the first cluster of the L1 table counts as used.
pub(crate) fn l1_is_counted(store: &Store) -> io::Result<bool> {
    let header = Header::load(store)?;
    Ok(Counts::load(store, &header)?.count_of(header.l1_offset)? != 0)
}

/// Reference counts, read and written without a cache.
struct Counts<'a> {
    store: &'a Store,
    header: &'a Header,
    /// Offsets of the refcount blocks, zero for one that does not exist.
    blocks: Vec<u64>,
}

impl<'a> Counts<'a> {
    fn load(store: &'a Store, header: &'a Header) -> io::Result<Self> {
        let bytes = read(store, header.reftable_offset, header.reftable_bytes())?;
        let blocks: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|entry| be64(entry, 0) & !0x1ff)
            .collect();
        if blocks.iter().any(|block| block % header.cluster() != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a refcount block is not aligned to a cluster",
            ));
        }
        Ok(Counts {
            store,
            header,
            blocks,
        })
    }

    /// Finds a cluster with count zero and sets it to one. Looks into block `hint` first, then
    /// into all in order, then makes a new block. Returns the cluster's offset and its block.
    fn take_free_cluster(&self, hint: u64) -> io::Result<(u64, u64)> {
        let all = 0..self.blocks.len() as u64;
        for block in std::iter::once(hint)
            .filter(|hint| all.contains(hint))
            .chain(all.clone())
        {
            if let Some(cluster) = self.take_free_in(block)? {
                return Ok((cluster, block));
            }
        }
        self.take_in_new_block()
    }

    fn take_free_in(&self, block: u64) -> io::Result<Option<u64>> {
        let offset = self.blocks[block as usize];
        if offset == 0 {
            return Ok(None);
        }
        let width = self.header.count_bits();
        let counts = read(self.store, offset, self.header.cluster())?;
        let Some(index) =
            (0..self.per_block()).find(|&index| get_count(&counts, index, width) == 0)
        else {
            return Ok(None);
        };
        self.store_count(offset, &counts, index, 1)?;
        Ok(Some(self.cluster_at(block, index)))
    }

    /// A block that does not exist says that all its clusters are free: it takes the first of them
    /// for itself and the second is the one wanted. The block is whole before the table names it.
    fn take_in_new_block(&self) -> io::Result<(u64, u64)> {
        let Some(block) = self.blocks.iter().position(|&offset| offset == 0) else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the refcount table is full; convert the image to one of larger clusters",
            ));
        };
        let block = block as u64;
        let mut counts = vec![0; self.header.cluster() as usize];
        set_count(&mut counts, 0, self.header.count_bits(), 1);
        set_count(&mut counts, 1, self.header.count_bits(), 1);
        let offset = self.cluster_at(block, 0);
        write(self.store, offset, &counts)?;
        write(
            self.store,
            self.header.reftable_offset + block * 8,
            &offset.to_be_bytes(),
        )?;
        Ok((self.cluster_at(block, 1), block))
    }

    /// Lowers the count of a cluster by one.
    fn release(&self, cluster: u64) -> io::Result<()> {
        let (offset, index) = self.place_of(cluster);
        match self.count_of(cluster)?.checked_sub(1) {
            Some(count) => {
                let counts = read(self.store, offset, self.header.cluster())?;
                self.store_count(offset, &counts, index, count)
            }
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an L2 table lies in a cluster that counts as free",
            )),
        }
    }

    /// Whether there is a block that counts the cluster at this offset.
    fn covers(&self, offset: u64) -> bool {
        self.place_of(offset).0 != 0
    }

    fn count_of(&self, cluster: u64) -> io::Result<u64> {
        let (offset, index) = self.place_of(cluster);
        if offset == 0 {
            return Ok(0);
        }
        let counts = read(self.store, offset, self.header.cluster())?;
        Ok(get_count(&counts, index, self.header.count_bits()))
    }

    /// The block that counts a cluster, zero if there is none, and the count's place in it.
    fn place_of(&self, cluster: u64) -> (u64, u64) {
        let cluster = cluster >> self.header.cluster_bits;
        let block = usize::try_from(cluster / self.per_block()).unwrap_or(usize::MAX);
        let offset = self.blocks.get(block).copied().unwrap_or(0);
        (offset, cluster % self.per_block())
    }

    /// Writes one count of the block at `offset`, and no byte that holds none of it.
    fn store_count(&self, offset: u64, counts: &[u8], index: u64, count: u64) -> io::Result<()> {
        let width = self.header.count_bits();
        let bytes = (index * width / 8) as usize..((index + 1) * width).div_ceil(8) as usize;
        let mut counts = counts.to_vec();
        set_count(&mut counts, index, width, count);
        write(self.store, offset + bytes.start as u64, &counts[bytes])
    }

    fn per_block(&self) -> u64 {
        self.header.counts_per_block()
    }

    fn cluster_at(&self, block: u64, index: u64) -> u64 {
        (block * self.per_block() + index) << self.header.cluster_bits
    }
}

/// One count of a block: big-endian from a byte up, else packed from the low bits of a byte.
pub(super) fn get_count(counts: &[u8], index: u64, width: u64) -> u64 {
    let at = (index * width / 8) as usize;
    if width >= 8 {
        return counts[at..at + width as usize / 8]
            .iter()
            .fold(0, |count, &byte| count << 8 | u64::from(byte));
    }
    u64::from(counts[at]) >> (index * width % 8) & ((1 << width) - 1)
}

fn set_count(counts: &mut [u8], index: u64, width: u64, count: u64) {
    let at = (index * width / 8) as usize;
    if width >= 8 {
        let bytes = width as usize / 8;
        counts[at..at + bytes].copy_from_slice(&count.to_be_bytes()[8 - bytes..]);
        return;
    }
    let shift = index * width % 8;
    let mask = (((1u16 << width) - 1) << shift) as u8;
    counts[at] = counts[at] & !mask | (count << shift) as u8 & mask;
}

fn read(store: &Store, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).expect("tables are bounded")];
    store.read(&mut bytes, offset)?;
    Ok(bytes)
}

fn write(store: &Store, offset: u64, bytes: &[u8]) -> io::Result<()> {
    store.write(bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_keep_their_neighbours() {
        for order in 0..=6 {
            let width = 1u64 << order;
            let most = u64::MAX >> (64 - width);
            let mut counts = vec![0xff; 64];
            set_count(&mut counts, 3, width, 0);
            assert_eq!(get_count(&counts, 3, width), 0, "width {width}");
            assert_eq!(
                (get_count(&counts, 2, width), get_count(&counts, 4, width)),
                (most, most),
                "width {width}"
            );
            set_count(&mut counts, 3, width, 1);
            assert_eq!(get_count(&counts, 3, width), 1, "width {width}");
            assert_eq!(
                (get_count(&counts, 2, width), get_count(&counts, 4, width)),
                (most, most),
                "width {width}"
            );
        }
    }
}
