//! The hash of guest RAM, kept up to date at the price of the pages that were written.
//!
//! Each page has a digest of its own, zero for a page of zeroes, so that a page never touched and one written with zeroes are the
//! same. The hash of RAM is that of all digests that are not zero, with their addresses; it is a function of RAM's contents alone,
//! whichever pages were looked at when.

use atoll_mmu::Ram;

const PAGE: usize = 4096;

/// Half a BLAKE3 hash; none for a page of zeroes.
type Digest = [u8; 16];
const ZERO: Digest = [0; 16];

/// The digests of all pages of one RAM.
#[derive(Debug)]
pub struct RamHash {
    /// (base, index of the first page's digest, pages) of each region.
    regions: Vec<(u64, usize, usize)>,
    digests: Vec<Digest>,
}

impl RamHash {
    /// The digests of a RAM of zeroes.
    pub fn new(ram: &Ram) -> RamHash {
        let mut pages = 0;
        let place = |(base, len, _): (u64, u64, bool)| {
            let first = pages;
            pages += len as usize / PAGE;
            (base, first, len as usize / PAGE)
        };
        let regions = ram.regions().map(place).collect();
        RamHash {
            regions,
            digests: vec![ZERO; pages],
        }
    }

    /// The digests of what the RAM holds; everything outside of the ranges `touched` is zeroes. It may take long, so now and then it
    /// calls `alive`.
    pub fn of(ram: &Ram, touched: &[(u64, u64)], alive: &mut dyn FnMut()) -> RamHash {
        const AT_A_TIME: usize = 64 << 20;
        let mut hash = RamHash::new(ram);
        for &(start, len) in touched {
            for piece in (start..start + len).step_by(AT_A_TIME) {
                let end = (piece + AT_A_TIME as u64).min(start + len);
                (piece..end)
                    .step_by(PAGE)
                    .for_each(|address| hash.look_at(ram, address));
                alive();
            }
        }
        hash
    }

    /// Takes over what the page at this address holds.
    pub fn look_at(&mut self, ram: &Ram, address: u64) {
        let mut page = [0; PAGE];
        let region = self
            .regions
            .iter()
            .find(|(base, _, pages)| address.wrapping_sub(*base) < (pages * PAGE) as u64);
        if let Some((base, first, _)) = region
            && ram.read_behind(address, &mut page)
        {
            self.digests[first + (address - base) as usize / PAGE] = digest(&page);
        }
    }

    /// The hash of all of RAM.
    pub fn finish(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        // Many digests at a time: BLAKE3 is fast on long inputs.
        let mut batch = Vec::with_capacity(1 << 16);
        for &(base, first, pages) in &self.regions {
            for (page, digest) in self.digests[first..first + pages].iter().enumerate() {
                if *digest != ZERO {
                    batch.extend_from_slice(&(base + (page * PAGE) as u64).to_le_bytes());
                    batch.extend_from_slice(digest);
                }
                if batch.len() > (1 << 16) - 24 {
                    hasher.update(&batch);
                    batch.clear();
                }
            }
        }
        hasher.update(&batch);
        *hasher.finalize().as_bytes()
    }
}

fn digest(page: &[u8; PAGE]) -> Digest {
    if page.iter().all(|byte| *byte == 0) {
        return ZERO;
    }
    let hash = blake3::hash(page);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}
