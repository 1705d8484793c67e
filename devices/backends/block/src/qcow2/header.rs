//! A qcow2 image judged by its header and tables, before it is opened.
//!
//! What it is: the difference between "invalid data" and a sentence that says what is wrong and
//! what helps. It also finds what the format driver cannot: an image that lost its end reads as
//! zeroes there, silently.
//!
//! What it is not: a format driver (imago is) or a checker (`qemu-img check` is). Only damage that
//! shows in the header, or as a table or cluster beyond the end of the file, is found.
//!
//! Source: QEMU, docs/interop/qcow2.txt, sections "Header", "Host cluster management" and "L1 and
//! L2 tables".

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use imago::StorageExt;

use crate::error::{Error, Kind};
use crate::image::Store;
use crate::probe::read_prefix;

use super::tables::get_count;

const V2_HEADER_BYTES: usize = 72;
const V3_HEADER_BYTES: usize = 104;
/// QEMU's own limits (QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE). They bound what a hostile header
/// can make us read.
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFTABLE_BYTES: u64 = 8 << 20;

const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;

/// Bits 9 to 55 of a table entry: the offset of a cluster.
pub(super) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
const L2_COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: the cluster reads as zeroes, whatever it holds.
const L2_ZERO: u64 = 1;

/// The fields of a header that say where the rest of the image is.
#[derive(Debug)]
pub(super) struct Header {
    version: u32,
    pub(super) cluster_bits: u32,
    size: u64,
    crypt_method: u32,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) reftable_offset: u64,
    reftable_clusters: u32,
    incompatible: u64,
    refcount_order: u32,
}

/// Why an image cannot be served; the path is put in front by [`examine`].
struct Fault(Kind, String);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault(Kind::Io, format!("cannot be read: {error}"))
    }
}

/// Refuses the image in `file` if it cannot be served as it is. `length` is the file's.
pub(crate) fn examine(file: &File, path: &Path, length: u64) -> Result<(), Error> {
    let judge = || {
        let header = Header::read(file)?;
        header.check_features()?;
        header.check_layout(length)?;
        header.check_end(file, length)
    };
    judge()
        .map_err(|Fault(kind, why)| Error::new(kind, format!("image '{}' {why}", path.display())))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Header {
    fn read(file: &File) -> Result<Header, Fault> {
        let mut bytes = [0; V3_HEADER_BYTES];
        let filled = read_prefix(file, &mut bytes)?;
        Header::parse(&bytes, filled)
    }

    /// The header of an image that was examined before.
    pub(super) fn load(store: &Store) -> io::Result<Header> {
        let mut bytes = [0; V3_HEADER_BYTES];
        store.read(&mut bytes[..], 0)?;
        Header::parse(&bytes, bytes.len())
            .map_err(|Fault(_, why)| io::Error::new(io::ErrorKind::InvalidData, why))
    }

    /// Reads the fields of `bytes`, of which `filled` come from the file.
    fn parse(bytes: &[u8; V3_HEADER_BYTES], filled: usize) -> Result<Header, Fault> {
        if filled < 4 || &bytes[..4] != b"QFI\xfb" {
            return Err(Fault(
                Kind::Format,
                "is not a qcow2 image; give the format that it has (format=raw serves any file)"
                    .into(),
            ));
        }
        let version = be32(bytes, 4);
        let needed = if version == 2 {
            V2_HEADER_BYTES
        } else {
            V3_HEADER_BYTES
        };
        if filled < needed {
            return Err(truncated(format!(
                "its header needs {needed} bytes and the file has {filled}"
            )));
        }
        if !(2..=3).contains(&version) {
            return Err(Fault(
                Kind::Unsupported,
                format!(
                    "is of qcow version {version}; convert it with `qemu-img convert -O qcow2`"
                ),
            ));
        }
        let v3 = version == 3;
        Ok(Header {
            version,
            cluster_bits: be32(bytes, 20),
            size: be64(bytes, 24),
            crypt_method: be32(bytes, 32),
            l1_entries: be32(bytes, 36),
            l1_offset: be64(bytes, 40),
            reftable_offset: be64(bytes, 48),
            reftable_clusters: be32(bytes, 56),
            incompatible: if v3 { be64(bytes, 72) } else { 0 },
            refcount_order: if v3 { be32(bytes, 96) } else { 4 },
        })
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bits of a reference count.
    pub(super) fn count_bits(&self) -> u64 {
        1 << self.refcount_order
    }

    pub(super) fn counts_per_block(&self) -> u64 {
        self.cluster() * 8 / self.count_bits()
    }

    pub(super) fn reftable_bytes(&self) -> u64 {
        u64::from(self.reftable_clusters) << self.cluster_bits
    }

    fn check_features(&self) -> Result<(), Fault> {
        let unsupported =
            |what: &str, how: &str| Err(Fault(Kind::Unsupported, format!("{what}; {how}")));
        let rewrite = "rewrite it with `qemu-img convert -O qcow2`";
        match self.crypt_method {
            0 => {}
            method => {
                let name = match method {
                    1 => "AES",
                    2 => "LUKS",
                    _ => "an unknown method",
                };
                return Err(Fault(
                    Kind::Encrypted,
                    format!(
                        "is encrypted ({name}), which is not served; decrypt a copy with `qemu-img convert`"
                    ),
                ));
            }
        }
        let has = |bit| self.incompatible & bit != 0;
        if has(INCOMPATIBLE_CORRUPT) {
            return Err(Fault(
                Kind::Corrupt,
                "is marked corrupt by an earlier user; keep a copy and try `qemu-img check -r all`"
                    .into(),
            ));
        }
        if has(INCOMPATIBLE_DIRTY) {
            return unsupported(
                "was not closed in good order (its dirty bit is set, so its reference counts are stale)",
                "run `qemu-img check -r all` on it once",
            );
        }
        if has(INCOMPATIBLE_DATA_FILE) {
            return unsupported(
                "keeps its data in an external data file, which is not served",
                rewrite,
            );
        }
        if has(INCOMPATIBLE_COMPRESSION) {
            return unsupported(
                "is compressed by another method than zlib, which is not served",
                rewrite,
            );
        }
        if has(INCOMPATIBLE_EXTENDED_L2) {
            return unsupported(
                "has extended L2 entries (subclusters), which are not served",
                rewrite,
            );
        }
        match self.incompatible {
            0 => Ok(()),
            bits => unsupported(
                &format!("has unknown incompatible features ({bits:#x})"),
                rewrite,
            ),
        }
    }

    fn check_layout(&self, length: u64) -> Result<(), Fault> {
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(corrupt(format!(
                "its cluster size is 2^{}, not 512 B to 2 MiB",
                self.cluster_bits
            )));
        }
        if self.refcount_order > 6 {
            return Err(corrupt(format!(
                "its reference counts are 2^{} bits wide",
                self.refcount_order
            )));
        }
        let cluster = self.cluster();
        let reach_of_l1_entry = u128::from(cluster) * u128::from(cluster / 8);
        let needed = u128::from(self.size).div_ceil(reach_of_l1_entry);
        if u128::from(self.l1_entries) < needed {
            return Err(corrupt(format!(
                "its L1 table has {} entries and a disk of {} bytes needs {needed}",
                self.l1_entries, self.size
            )));
        }
        let l1_bytes = u64::from(self.l1_entries) * 8;
        let reftable_bytes = self.reftable_bytes();
        self.check_table("L1", self.l1_offset, l1_bytes, MAX_L1_BYTES, length)?;
        self.check_table(
            "refcount",
            self.reftable_offset,
            reftable_bytes,
            MAX_REFTABLE_BYTES,
            length,
        )
    }

    fn check_table(
        &self,
        name: &str,
        offset: u64,
        bytes: u64,
        most: u64,
        length: u64,
    ) -> Result<(), Fault> {
        if bytes > most {
            return Err(corrupt(format!(
                "its {name} table claims {bytes} bytes, more than the {most} that are allowed"
            )));
        }
        if offset & ((1 << self.cluster_bits) - 1) != 0 {
            return Err(corrupt(format!(
                "its {name} table is not aligned to a cluster ({offset:#x})"
            )));
        }
        if ends_beyond(offset, bytes, length) {
            return Err(truncated(format!(
                "its {name} table lies at {offset:#x} and the file ends at {length:#x}"
            )));
        }
        Ok(())
    }

    /// Finds clusters in use beyond the end of the file. The reference counts say cheaply whether
    /// there can be any; the tables decide, for a count without a user is only a leak.
    fn check_end(&self, file: &File, length: u64) -> Result<(), Fault> {
        let blocks = self.refcount_blocks(file)?;
        self.check_counts(file, &blocks)?;
        if self.counts_beyond(file, length, &blocks)? {
            self.check_mappings(file, length)
        } else {
            Ok(())
        }
    }

    fn counts_beyond(&self, file: &File, length: u64, blocks: &[u64]) -> Result<bool, Fault> {
        let cluster = self.cluster();
        let first_lost = length.div_ceil(cluster);
        let first_block = first_lost / self.counts_per_block();
        let mut skip_bits = (first_lost % self.counts_per_block()) << self.refcount_order;
        for &block in blocks.iter().skip(first_block as usize) {
            if block != 0 {
                if ends_beyond(block, cluster, length) {
                    return Ok(true);
                }
                let counts = read_at(file, block, cluster)?;
                if any_bit_from(&counts, skip_bits) {
                    return Ok(true);
                }
            }
            skip_bits = 0;
        }
        Ok(false)
    }

    /// Refuses an image in which the header or one of the two first tables counts as free: the next cluster that is wanted would be
    /// laid over it.
    fn check_counts(&self, file: &File, blocks: &[u64]) -> Result<(), Fault> {
        let tables = [
            ("header", 0, 1),
            ("L1 table", self.l1_offset, u64::from(self.l1_entries) * 8),
            (
                "refcount table",
                self.reftable_offset,
                self.reftable_bytes(),
            ),
        ];
        for (name, offset, bytes) in tables {
            let last = offset + bytes.max(1) - 1;
            for cluster in offset >> self.cluster_bits..=last >> self.cluster_bits {
                if self.count(file, blocks, cluster)? == 0 {
                    return Err(corrupt(format!("its {name} counts as free")));
                }
            }
        }
        Ok(())
    }

    /// How often the cluster of this number is used, by the refcount blocks.
    fn count(&self, file: &File, blocks: &[u64], cluster: u64) -> Result<u64, Fault> {
        let (block, index) = (
            (cluster / self.counts_per_block()) as usize,
            cluster % self.counts_per_block(),
        );
        let width = self.count_bits();
        match blocks.get(block) {
            None | Some(0) => Ok(0),
            Some(block) => {
                let at = block.saturating_add(index * width / 8);
                let bytes = read_at(file, at, width.div_ceil(8))?;
                Ok(get_count(&bytes, index % (8 / width.min(8)), width))
            }
        }
    }

    /// Where the blocks of reference counts lie; zero is none. Each is another one, so that who reads them all has read no more than
    /// the file.
    fn refcount_blocks(&self, file: &File) -> Result<Vec<u64>, Fault> {
        let table = read_at(file, self.reftable_offset, self.reftable_bytes())?;
        let blocks: Vec<u64> = table
            .chunks_exact(8)
            .map(|entry| be64(entry, 0) & !0x1ff)
            .collect();
        let mut sorted: Vec<u64> = blocks.iter().copied().filter(|&block| block != 0).collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(blocks),
            Some(pair) => Err(corrupt(format!(
                "two entries of its refcount table lead to {:#x}",
                pair[0]
            ))),
        }
    }

    fn check_mappings(&self, file: &File, length: u64) -> Result<(), Fault> {
        let cluster = self.cluster();
        let l1 = read_at(file, self.l1_offset, u64::from(self.l1_entries) * 8)?;
        let mut seen = HashSet::new();
        for (l1_index, l1_entry) in l1.chunks_exact(8).enumerate() {
            let table = be64(l1_entry, 0) & OFFSET_MASK;
            if table == 0 || !seen.insert(table) {
                continue;
            }
            if ends_beyond(table, cluster, length) {
                return Err(truncated(format!(
                    "an L2 table lies at {table:#x} and the file ends at {length:#x}"
                )));
            }
            let l2 = read_at(file, table, cluster)?;
            for (l2_index, l2_entry) in l2.chunks_exact(8).enumerate() {
                let data = self.data_offset(be64(l2_entry, 0));
                if data.is_some_and(|offset| offset >= length) {
                    let disk_offset =
                        (l1_index as u64 * (cluster / 8) + l2_index as u64) << self.cluster_bits;
                    return Err(truncated(format!(
                        "the data of disk offset {disk_offset:#x} lie at {:#x} and the file ends at {length:#x}",
                        data.unwrap_or_default()
                    )));
                }
            }
        }
        Ok(())
    }

    /// The first and the last byte of the file that an L2 entry uses, if it uses any.
    pub(super) fn bytes_used(&self, entry: u64) -> Option<(u64, u64)> {
        if entry & L2_COMPRESSED == 0 {
            let offset = entry & OFFSET_MASK;
            return (offset != 0).then_some((offset, offset));
        }
        let offset_bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        // Sectors of 512 bytes behind the one in which the data begin.
        let sectors = (entry & (L2_COMPRESSED - 1)) >> offset_bits;
        Some((offset, (offset | 511) + sectors * 512))
    }

    /// Where in the file an L2 entry's data begin, if they matter.
    fn data_offset(&self, entry: u64) -> Option<u64> {
        if entry & L2_COMPRESSED != 0 {
            let offset_bits = 62 - (self.cluster_bits - 8);
            return Some(entry & ((1 << offset_bits) - 1));
        }
        let is_zero = self.version >= 3 && entry & L2_ZERO != 0;
        Some(entry & OFFSET_MASK).filter(|&offset| offset != 0 && !is_zero)
    }
}

/// Whether `bytes` bytes at `offset` end beyond `length`.
fn ends_beyond(offset: u64, bytes: u64, length: u64) -> bool {
    offset.checked_add(bytes).is_none_or(|end| end > length)
}

/// Whether a bit at `first` or later is set. Counts narrower than a byte fill it from its low end.
fn any_bit_from(bytes: &[u8], first: u64) -> bool {
    let (byte, bit) = ((first / 8) as usize, first % 8);
    bytes.get(byte).is_some_and(|&head| head >> bit != 0)
        || bytes
            .get(byte + 1..)
            .is_some_and(|rest| rest.iter().any(|&byte| byte != 0))
}

fn read_at(file: &File, offset: u64, bytes: u64) -> Result<Vec<u8>, Fault> {
    let mut buffer = vec![0; usize::try_from(bytes).expect("tables are bounded")];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}

fn corrupt(why: String) -> Fault {
    Fault(
        Kind::Corrupt,
        format!("is corrupt: {why}; keep a copy and try `qemu-img check -r all`"),
    )
}

fn truncated(why: String) -> Fault {
    Fault(
        Kind::Truncated,
        format!("is truncated: {why}; fetch or copy it again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_counts_are_found_at_their_bit() {
        assert!(any_bit_from(&[0b0001_0000, 0], 4));
        assert!(!any_bit_from(&[0b0001_0000, 0], 5));
        assert!(any_bit_from(&[0, 1], 3));
        assert!(!any_bit_from(&[0xff], 8));
    }
}
