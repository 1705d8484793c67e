//! Output on its way to the host: numbered bytes that were neither delivered nor given up.
//!
//! Invariant: `first` never decreases, and a byte is never in here twice, however often it is pushed.

use std::collections::VecDeque;

/// What is kept with nobody attached.
pub const KEPT: usize = 64 << 10;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    first: u64,
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Outbox {
    /// An outbox whose bytes below `first` were dealt with by a predecessor.
    pub fn starting_at(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// The number of the first byte that is not dealt with.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next byte that is new.
    pub fn end(&self) -> u64 {
        self.first + self.bytes.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes were given up.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds bytes of which the first has `number`; those that were here before are left out. Bytes
    /// that are missing before them are gone and counted as dropped.
    pub fn push(&mut self, number: u64, bytes: &[u8]) {
        if number > self.end() {
            self.dropped += number - self.first;
            self.bytes.clear();
            self.first = number;
        }
        let known = usize::try_from(self.end() - number).unwrap_or(usize::MAX);
        self.bytes.extend(bytes.get(known..).unwrap_or_default());
    }

    /// The bytes at the front, as many as lie together.
    pub fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// The first `count` bytes are delivered.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.first += count as u64;
    }

    /// Gives up all but the newest bytes.
    pub fn keep_newest(&mut self) {
        let over = self.bytes.len().saturating_sub(KEPT);
        self.dropped += over as u64;
        self.advance(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        let mut outbox = Outbox::starting_at(3);
        outbox.push(0, b"abcde");
        assert_eq!(
            (outbox.front(), outbox.first(), outbox.end()),
            (&b"de"[..], 3, 5)
        );
        outbox.push(4, b"ef");
        assert_eq!(outbox.front(), b"def");
        outbox.advance(1);
        outbox.push(1, b"bc");
        assert_eq!((outbox.front(), outbox.first()), (&b"ef"[..], 4));
        outbox.push(8, b"i");
        assert_eq!(
            (outbox.front(), outbox.first(), outbox.dropped()),
            (&b"i"[..], 8, 4)
        );
        outbox.push(9, &vec![0; KEPT]);
        outbox.keep_newest();
        assert_eq!((outbox.first(), outbox.dropped()), (9, 5));
    }

    proptest! {
        /// Whatever is pushed again after a restart, what comes out is the text without gap or repeat.
        #[test]
        fn a_restart_neither_repeats_nor_drops(
            text in proptest::collection::vec(any::<u8>(), 0..200),
            steps in proptest::collection::vec((0usize..200, 0usize..40, 0usize..40, any::<bool>()), 0..30),
        ) {
            let (mut outbox, mut seen, mut pushed) = (Outbox::default(), Vec::new(), 0);
            for (back, len, advance, restart) in steps {
                if restart {
                    outbox = Outbox::starting_at(outbox.first());
                    pushed = outbox.first() as usize;
                }
                let from = pushed - back.min(pushed);
                let to = (from + len).min(text.len());
                outbox.push(from as u64, &text[from..to.max(from)]);
                pushed = pushed.max(to);
                let now = outbox.front().len().min(advance);
                seen.extend_from_slice(&outbox.front()[..now]);
                outbox.advance(now);
                prop_assert_eq!(&seen[..], &text[..seen.len()]);
            }
        }
    }
}
