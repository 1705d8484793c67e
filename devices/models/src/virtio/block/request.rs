//! From a descriptor chain to what is to be done: the checks that every request passes (virtio 1.2, 5.2.6).

use device_core::{BlockRequest, Dma};

use super::config::{BlockConfig, MAX_RANGE_SECTORS, MAX_REQUEST_BYTES};
use super::{Chain, STATUS_IO_ERROR, STATUS_OK, STATUS_UNSUPPORTED};

/// Type, reserved, sector.
pub(super) const HEADER_LEN: u64 = 16;
const SECTOR: u64 = 512;

pub(super) const TYPE_READ: u32 = 0;
pub(super) const TYPE_WRITE: u32 = 1;
pub(super) const TYPE_FLUSH: u32 = 4;
pub(super) const TYPE_IDENTIFY: u32 = 8;
pub(super) const TYPE_DISCARD: u32 = 11;
pub(super) const TYPE_WRITE_ZEROES: u32 = 13;

/// Of a discard or write-zeroes range.
const FLAG_UNMAP: u32 = 1;

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Answer with this status; nothing else.
    Answer(u8),
    Identify,
    /// Ask the back end. `bytes` is the payload, in either direction.
    Submit {
        request: BlockRequest<()>,
        bytes: u32,
    },
}

/// None if the chain holds no request at all. It has a writable byte: the caller saw to that.
pub(super) fn parse(chain: &Chain, config: &BlockConfig, dma: &mut dyn Dma) -> Option<Action> {
    let mut header = [0; HEADER_LEN as usize];
    if !chain.readable.read(0, &mut header, dma) {
        return None;
    }
    let kind = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let sector = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
    let (to_guest, from_guest) = (chain.writable.len() - 1, chain.readable.len() - HEADER_LEN);
    Some(match kind {
        TYPE_READ => transfer(
            sector,
            to_guest,
            config,
            BlockRequest::Read {
                sector,
                len: to_guest as u32,
            },
        ),
        TYPE_WRITE | TYPE_DISCARD | TYPE_WRITE_ZEROES if config.read_only => {
            Action::Answer(STATUS_IO_ERROR)
        }
        TYPE_WRITE => transfer(
            sector,
            from_guest,
            config,
            BlockRequest::Write {
                sector,
                data: (),
                fua: false,
            },
        ),
        TYPE_FLUSH if config.read_only => Action::Answer(STATUS_OK),
        TYPE_FLUSH => Action::Submit {
            request: BlockRequest::Flush,
            bytes: 0,
        },
        TYPE_IDENTIFY => Action::Identify,
        TYPE_DISCARD if config.discard => range(chain, from_guest, config, false, dma)?,
        TYPE_WRITE_ZEROES => range(chain, from_guest, config, true, dma)?,
        _ => Action::Answer(STATUS_UNSUPPORTED),
    })
}

fn transfer(sector: u64, bytes: u64, config: &BlockConfig, request: BlockRequest<()>) -> Action {
    let block = u64::from(config.block_size).max(SECTOR);
    let aligned = bytes.is_multiple_of(block) && sector.is_multiple_of(block / SECTOR);
    if !aligned || bytes > MAX_REQUEST_BYTES || !is_within(sector, bytes / SECTOR, config) {
        return Action::Answer(STATUS_IO_ERROR);
    }
    if bytes == 0 {
        return Action::Answer(STATUS_OK);
    }
    Action::Submit {
        request,
        bytes: bytes as u32,
    }
}

/// The one range of a discard or write-zeroes request: sector, number of sectors, flags.
fn range(
    chain: &Chain,
    len: u64,
    config: &BlockConfig,
    zeroes: bool,
    dma: &mut dyn Dma,
) -> Option<Action> {
    if len != 16 {
        return Some(Action::Answer(if len == 0 {
            STATUS_OK
        } else {
            STATUS_IO_ERROR
        }));
    }
    let mut bytes = [0; 16];
    if !chain.readable.read(HEADER_LEN, &mut bytes, dma) {
        return None;
    }
    let value = u128::from_le_bytes(bytes);
    let (sector, sectors, flags) = (value as u64, (value >> 64) as u32, (value >> 96) as u32);
    let unmap = flags & FLAG_UNMAP != 0;
    // Unknown flags, and unmap with a discard, are "not supported" (5.2.6.2).
    if flags & !FLAG_UNMAP != 0 || (unmap && !zeroes) {
        return Some(Action::Answer(STATUS_UNSUPPORTED));
    }
    if sectors > MAX_RANGE_SECTORS || !is_within(sector, u64::from(sectors), config) {
        return Some(Action::Answer(STATUS_IO_ERROR));
    }
    if sectors == 0 {
        return Some(Action::Answer(STATUS_OK));
    }
    let request = if zeroes {
        BlockRequest::WriteZeroes {
            sector,
            sectors,
            unmap,
            fua: false,
        }
    } else {
        BlockRequest::Discard { sector, sectors }
    };
    Some(Action::Submit { request, bytes: 0 })
}

fn is_within(sector: u64, sectors: u64, config: &BlockConfig) -> bool {
    sector
        .checked_add(sectors)
        .is_some_and(|end| end <= config.sectors)
}
