//! Arbitrary bytes as a row of numbers: what the bodies of fuzz targets make their calls of.

/// The bytes that are left.
#[derive(Clone, Copy, Debug)]
pub struct Noise<'a>(pub &'a [u8]);

impl Noise<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `bytes` bytes (at most eight) as a little-endian number; where they run out, zeroes.
    pub fn number(&mut self, bytes: usize) -> u64 {
        let (now, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        now.iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number(1) % bound
    }

    /// A number of eight bytes, which are cut to fewer as often as not.
    pub fn value(&mut self) -> u64 {
        let bytes = 1 << self.below(4);
        self.number(bytes)
    }
}
