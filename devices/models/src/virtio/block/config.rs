//! What a block device is made with, and how the guest reads it (virtio 1.2, 5.2.4).

/// Feature bits of the device type (5.2.3).
const FEATURE_SIZE_MAX: u64 = 1 << 1;
const FEATURE_SEG_MAX: u64 = 1 << 2;
const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_BLOCK_SIZE: u64 = 1 << 6;
pub(super) const FEATURE_FLUSH: u64 = 1 << 9;
const FEATURE_TOPOLOGY: u64 = 1 << 10;
pub(super) const FEATURE_CONFIG_WCE: u64 = 1 << 11;
const FEATURE_DISCARD: u64 = 1 << 13;
const FEATURE_WRITE_ZEROES: u64 = 1 << 14;

pub(super) const QUEUE_LEN: u16 = 256;
/// Segments of a request, and bytes of each. A page a segment: a request is as long as it may be however scattered it is.
const SEGMENTS_MAX: u32 = QUEUE_LEN as u32 - 2;
const SEGMENT_BYTES_MAX: u32 = 4096;
/// What a back end takes in one request, and a little more than the two above allow. Longer ones, from a driver that does not
/// know of the limits, fail.
pub(super) const MAX_REQUEST_BYTES: u64 = 1 << 20;
/// Of one discard or write-zeroes request: 2 GiB.
pub(super) const MAX_RANGE_SECTORS: u32 = 1 << 22;

/// Where the cache mode is.
pub(super) const WRITEBACK: u64 = 0x20;

/// The medium behind a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockConfig {
    /// In sectors of 512 bytes.
    pub sectors: u64,
    pub read_only: bool,
    /// The logical block size: 512 to 4096, a power of two.
    pub block_size: u32,
    /// The physical block size, for alignment; at least `block_size`.
    pub physical_block_size: u32,
    /// At most 20 bytes are shown.
    pub serial: String,
    /// Whether writes may be cached until a flush, unless the driver chooses otherwise.
    pub writeback: bool,
    /// Whether discards are offered.
    pub discard: bool,
}

impl Default for BlockConfig {
    fn default() -> BlockConfig {
        BlockConfig {
            sectors: 0,
            read_only: false,
            block_size: 512,
            physical_block_size: 512,
            serial: String::new(),
            writeback: true,
            discard: true,
        }
    }
}

impl BlockConfig {
    pub(super) fn features(&self) -> u64 {
        let read_only = FEATURE_SIZE_MAX | FEATURE_SEG_MAX | FEATURE_BLOCK_SIZE | FEATURE_TOPOLOGY;
        if self.read_only {
            return read_only | FEATURE_READ_ONLY;
        }
        let discard = if self.discard { FEATURE_DISCARD } else { 0 };
        read_only | FEATURE_FLUSH | FEATURE_CONFIG_WCE | FEATURE_WRITE_ZEROES | discard
    }

    /// One byte of the configuration structure.
    pub(super) fn register(&self, offset: u64, writeback: bool) -> u8 {
        let field = |start: u64, value: u64| (value >> (8 * (offset - start))) as u8;
        let range = if self.read_only {
            0
        } else {
            u64::from(MAX_RANGE_SECTORS)
        };
        let discard = if self.discard { range } else { 0 };
        match offset {
            0x00..0x08 => field(0x00, self.sectors),
            0x08..0x0C => field(0x08, u64::from(SEGMENT_BYTES_MAX)),
            0x0C..0x10 => field(0x0C, u64::from(SEGMENTS_MAX)),
            0x14..0x18 => field(0x14, u64::from(self.block_size)),
            // Physical blocks as a power of two of logical ones; no offset; the smallest and the best transfer in logical blocks.
            0x18 => (self.physical_block_size / self.block_size.max(1))
                .max(1)
                .ilog2() as u8,
            0x1A..0x1C => field(
                0x1A,
                u64::from(self.physical_block_size / self.block_size.max(1)),
            ),
            WRITEBACK => u8::from(writeback),
            0x22..0x24 => field(0x22, 1),
            0x24..0x28 => field(0x24, discard),
            0x28..0x2C => field(0x28, u64::from(discard != 0)),
            0x2C..0x30 => field(0x2C, u64::from(self.block_size / 512)),
            0x30..0x34 => field(0x30, range),
            0x34..0x38 => field(0x34, u64::from(range != 0)),
            0x38 => 1,
            _ => 0,
        }
    }

    pub(super) fn serial_bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        for (to, from) in bytes.iter_mut().zip(self.serial.bytes()) {
            *to = from;
        }
        bytes
    }
}
