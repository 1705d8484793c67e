//! One register access, as a bus hands it to a model.
//!
//! Invariant: `size` is 1, 2, 4 or 8, and a written value has no bit above `8 * size`. [`Access::read`] and
//! [`Access::write`] keep it; a bus never builds one by hand.

use serde::{Deserialize, Serialize};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Read,
    Write(u64),
}

/// An access to one region of a device: a PCI BAR (`region` is the BAR's number) or one of the windows of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub region: u16,
    /// From the start of the region.
    pub offset: u64,
    /// 1, 2, 4 or 8 bytes.
    pub size: u8,
    pub kind: Kind,
}

impl Access {
    pub fn read(region: u16, offset: u64, size: u8) -> Access {
        Access {
            region,
            offset,
            size: legal_size(size),
            kind: Kind::Read,
        }
    }

    pub fn write(region: u16, offset: u64, size: u8, value: u64) -> Access {
        let size = legal_size(size);
        Access {
            region,
            offset,
            size,
            kind: Kind::Write(value & mask(size)),
        }
    }

    /// Whether the fields keep this type's invariant: to be asked of everything that came from a peer.
    pub fn is_legal(&self) -> bool {
        matches!(self.size, 1 | 2 | 4 | 8)
            && match self.kind {
                Kind::Read => true,
                Kind::Write(value) => value & !mask(self.size) == 0,
            }
    }

    /// Does the access in pieces of at most `granule` bytes, in ascending order, as a bus does for a device that is
    /// narrower than the access. `f` answers each piece; the answers are joined little-endian.
    pub fn by_granule(self, granule: u8, mut f: impl FnMut(Access) -> u64) -> u64 {
        if self.size <= granule {
            return f(self) & mask(self.size);
        }
        let mut joined = 0;
        for at in (0..self.size).step_by(usize::from(granule)) {
            let shift = u32::from(at) * 8;
            let kind = match self.kind {
                Kind::Read => Kind::Read,
                Kind::Write(value) => Kind::Write((value >> shift) & mask(granule)),
            };
            let piece = Access {
                region: self.region,
                offset: self.offset.wrapping_add(u64::from(at)),
                size: granule,
                kind,
            };
            joined |= (f(piece) & mask(granule)) << shift;
        }
        joined
    }
}

fn legal_size(size: u8) -> u8 {
    assert!(
        matches!(size, 1 | 2 | 4 | 8),
        "an access is of 1, 2, 4 or 8 bytes, not {size}"
    );
    size
}

fn mask(size: u8) -> u64 {
    if size >= 8 {
        u64::MAX
    } else {
        (1 << (u32::from(size) * 8)) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_write_falls_apart_into_ascending_pieces() {
        let mut pieces = Vec::new();
        Access::write(0, 0x10, 4, 0x4433_2211).by_granule(1, |a| {
            pieces.push((a.offset, a.kind));
            0
        });
        let expected: Vec<_> = (0..4)
            .map(|i| (0x10 + i, Kind::Write(0x11 * (i + 1))))
            .collect();
        assert_eq!(pieces, expected);
    }

    #[test]
    fn a_wide_read_joins_its_pieces_little_endian() {
        assert_eq!(
            Access::read(0, 0, 4).by_granule(2, |a| 0x1000 + a.offset),
            0x1002_1000
        );
    }
}
