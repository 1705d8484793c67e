//! One opened image: imago's access to it, kept safe to kill.
//!
//! imago does the reading and writing. This module adds what [`crate::qcow2::Tables`] explains:
//! before a qcow2 image is changed where it has no L2 table of its own, the table is made and the
//! image opened anew. And it makes zeroes in whatever way format and host support.

use std::io;
use std::sync::Arc;

use imago::format::PreallocateMode;
use imago::{DynStorage, FormatAccess};

use crate::qcow2::Tables;

/// Where an image's bytes are kept, as imago sees it.
pub(crate) type Store = Arc<dyn DynStorage>;
/// An image of any format, as imago sees it.
type Access = FormatAccess<Store>;
/// qcow2 as imago opens it; the backing image is shared so that this one can be opened anew.
pub(crate) type Qcow2 = imago::qcow2::Qcow2<Store, Arc<Access>>;

/// An opened image.
#[derive(Debug)]
pub(crate) struct Image {
    access: Access,
    growth: Option<Growth>,
}

/// What a writable qcow2 image needs to get new L2 tables.
#[derive(Debug)]
struct Growth {
    store: Store,
    backing: Option<Arc<Access>>,
    tables: Tables,
    /// Opening anew failed, so what imago has cached may be stale.
    broken: bool,
}

impl Image {
    /// An image whose file is the disk.
    pub(crate) fn raw(store: Store, writable: bool) -> io::Result<Image> {
        let raw = imago::raw::Raw::open_image(store, writable)?;
        Ok(Image {
            access: FormatAccess::new(raw),
            growth: None,
        })
    }

    /// A qcow2 image over `backing`.
    pub(crate) fn qcow2(store: Store, writable: bool, backing: Option<Image>) -> io::Result<Image> {
        let backing = backing.map(|image| Arc::new(image.access));
        let access = open_qcow2(&store, writable, backing.as_ref())?;
        let growth = if writable {
            let tables = Tables::load(&store)?;
            Some(Growth {
                store,
                backing,
                tables,
                broken: false,
            })
        } else {
            None
        };
        Ok(Image { access, growth })
    }

    /// Bytes of disk.
    pub(crate) fn size(&self) -> u64 {
        self.access.size()
    }

    /// Requests aligned to this take no detour.
    pub(crate) fn alignment(&self) -> usize {
        self.access.req_align()
    }

    /// Fills `data`; past the end of the disk, with zeroes.
    pub(crate) fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.access.read(data, offset)
    }

    pub(crate) fn write(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.make_tables(offset, data.len() as u64)?;
        self.access.write(data, offset)
    }

    /// Makes a range read as zeroes; with `free`, gives its space back where that is possible.
    pub(crate) fn zero(&mut self, offset: u64, length: u64, free: bool) -> io::Result<()> {
        for (offset, length) in self.mapped_parts(offset, length) {
            self.make_tables(offset, length)?;
            let zeroed = if free {
                self.access.discard_to_zero(offset, length)
            } else {
                self.access.write_zeroes(offset, length)
            };
            match zeroed {
                // qcow2 version 2 has no zero clusters; some hosts cannot punch holes.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.zero_by_data(offset, length)?;
                }
                done => done?,
            }
        }
        Ok(())
    }

    fn zero_by_data(&mut self, offset: u64, length: u64) -> io::Result<()> {
        const CHUNK: u64 = 1 << 20;
        let zeroes = vec![0; length.min(CHUNK) as usize];
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let count = CHUNK.min(end - at);
            self.access.write(&zeroes[..count as usize], at)?;
            at += count;
        }
        Ok(())
    }

    /// Grows a raw image.
    pub(crate) fn grow(&mut self, size: u64) -> io::Result<()> {
        self.access.resize_grow(size, PreallocateMode::None)
    }

    /// Writes cached metadata to the file.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.access.flush()
    }

    /// Makes what is in the file durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.access.sync()
    }

    /// The parts of a range that may hold something else than zeroes: without a backing image, a
    /// range without an L2 table holds nothing. (A file system that is being made discards the
    /// whole disk; that must not make a table for each of its parts.)
    fn mapped_parts(&self, offset: u64, length: u64) -> Vec<(u64, u64)> {
        let Some(growth) = self
            .growth
            .as_ref()
            .filter(|growth| growth.backing.is_none())
        else {
            return vec![(offset, length)];
        };
        if length == 0 {
            return Vec::new();
        }
        let tables = &growth.tables;
        let end = offset + length;
        tables
            .entries(offset, length)
            .filter(|&entry| !tables.is_empty(entry))
            .map(|entry| {
                let (first, reach) = tables.reach_of(entry);
                let from = first.max(offset);
                (from, (first + reach).min(end) - from)
            })
            .collect()
    }

    /// Makes the L2 tables that a change of the range needs.
    fn make_tables(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let Some(growth) = self.growth.as_mut().filter(|_| length != 0) else {
            return Ok(());
        };
        if growth.broken {
            return Err(io::Error::other(
                "the image could not be opened again after a failure",
            ));
        }
        for entry in growth.tables.entries(offset, length) {
            growth.tables.examine(&growth.store, entry)?;
        }
        let mut missing = growth
            .tables
            .entries(offset, length)
            .filter(|&entry| !growth.tables.is_own(entry));
        let Some(first) = missing.next() else {
            return Ok(());
        };
        let last = *growth.tables.entries(offset, length).end();

        self.access.flush()?;
        let mut made = Ok(());
        for entry in first..=last {
            if made.is_ok() && !growth.tables.is_own(entry) {
                made = growth.tables.make(&growth.store, entry);
            }
        }
        // imago's view is stale even if only the first step of a table was done.
        growth.broken = true;
        self.access = open_qcow2(&growth.store, true, growth.backing.as_ref())?;
        growth.broken = false;
        made
    }
}

fn open_qcow2(store: &Store, writable: bool, backing: Option<&Arc<Access>>) -> io::Result<Access> {
    let mut image = Qcow2::open_image(Arc::clone(store), writable)?;
    image.set_data_file(None);
    image.set_backing(backing.cloned());
    Ok(FormatAccess::new(image))
}
