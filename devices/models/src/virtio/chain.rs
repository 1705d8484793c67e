//! A descriptor chain taken from a queue: what the device may read, and what it may write.
//!
//! Framing is the driver's: no device relies on where one segment ends and the next begins (virtio 1.2, 2.7.4).

use device_core::{Cx, Dma};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) len: u32,
}

/// Segments seen as one run of bytes. Their total stays below 2^32: the queue refuses longer chains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    pub(super) head: u16,
    pub(super) readable: Run,
    pub(super) writable: Run,
}

impl Chain {
    pub(super) fn clear(&mut self) {
        self.readable.segments.clear();
        self.writable.segments.clear();
    }
}

impl Run {
    pub(super) fn push(&mut self, segment: Segment) {
        self.segments.push(segment);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.len)).sum()
    }

    /// The pieces of RAM that bytes `from` to `from + len` of the run are in.
    fn pieces(&self, from: u64, len: u64) -> impl Iterator<Item = (u64, usize)> + '_ {
        let (mut skip, mut left) = (from, len);
        self.segments.iter().filter_map(move |segment| {
            let size = u64::from(segment.len);
            let start = skip.min(size);
            skip -= start;
            let take = (size - start).min(left);
            left -= take;
            (take > 0).then(|| (segment.address.wrapping_add(start), take as usize))
        })
    }

    /// Fills `buf` from byte `from` on. False if the run is shorter, or any of it is outside RAM.
    pub(super) fn read(&self, from: u64, buf: &mut [u8], dma: &mut dyn Dma) -> bool {
        let mut at = 0;
        for (address, len) in self.pieces(from, buf.len() as u64) {
            if !dma.read(address, &mut buf[at..at + len]) {
                return false;
            }
            at += len;
        }
        at == buf.len()
    }

    /// Writes `bytes` from byte `from` of the run on, as far as it reaches. Returns how many bytes that was.
    pub(super) fn write(&self, from: u64, bytes: &[u8], cx: &mut Cx<'_>) -> u64 {
        let mut at = 0;
        for (address, len) in self.pieces(from, bytes.len() as u64) {
            cx.effects.dma_write(address, &bytes[at..at + len]);
            at += len;
        }
        at as u64
    }

    /// The address of the last byte, if there is one.
    pub(super) fn last_byte(&self) -> Option<u64> {
        self.pieces(self.len().checked_sub(1)?, 1)
            .next()
            .map(|(address, _)| address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::Effects;
    use device_core::rig::Ram;

    fn run() -> Run {
        let mut run = Run::default();
        for (address, len) in [(10, 4), (0, 0), (20, 2), (2, 3)] {
            run.push(Segment { address, len });
        }
        run
    }

    #[test]
    fn a_run_is_read_across_its_segments() {
        let mut ram = Ram((0..32).collect());
        let mut buf = [0; 5];
        assert!(run().read(2, &mut buf, &mut ram));
        assert_eq!(buf, [12, 13, 20, 21, 2]);
        assert!(!run().read(5, &mut buf, &mut ram), "too short");
        assert_eq!((run().len(), run().last_byte()), (9, Some(4)));
    }

    #[test]
    fn a_run_is_written_across_its_segments_and_no_further() {
        let mut effects = Effects::new();
        let mut ram = Ram(vec![0; 32]);
        let written = run().write(
            3,
            &[1, 2, 3, 4, 5, 6, 7],
            &mut Cx::new(0, &mut ram, &mut effects),
        );
        assert_eq!(written, 6);
        let writes: Vec<_> = effects
            .iter()
            .map(|e| match e {
                device_core::Effect::DmaWrite { address, bytes } => (address, bytes.to_vec()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            writes,
            [(13, vec![1]), (20, vec![2, 3]), (2, vec![4, 5, 6])]
        );
    }
}
