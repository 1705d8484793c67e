//! A seeded generator, and values that find edges.

/// xorshift64*: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; any seed will do.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(n)) >> 64) as u64
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An integer for a general register: anything, or something near an edge of some width.
    pub fn integer(&mut self) -> u64 {
        let edge = [
            0,
            1,
            2,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
        ];
        match self.below(8) {
            0 => self.pick(&edge),
            1 => self.pick(&edge).wrapping_neg(),
            2 => self.pick(&[
                1 << 63,
                (1 << 63) - 1,
                u64::MAX,
                1 << 32,
                0x0f0f_0f0f_0f0f_0f0f,
            ]),
            3 => self.word() >> self.below(64),
            4 => (self.word() as i64 >> self.below(64)) as u64,
            5 => self.word() & 0xffff_ffff,
            _ => self.word(),
        }
    }

    /// The bits of a float of a kind worth trying.
    pub fn float(&mut self) -> u32 {
        let sign = (self.word() as u32) << 31;
        sign | match self.below(10) {
            0 => 0,
            1 => self.word() as u32 & 0x7f_ffff,
            2 => 0x7f80_0000,
            3 => 0x7fc0_0000 | self.word() as u32 & 0x3f_ffff,
            4 => 0x7f80_0001 | self.word() as u32 & 0x3f_ffff,
            5 => (self.below(200) as f32 - 100.0).to_bits() & 0x7fff_ffff,
            6 => self.pick(&[
                1,
                0x7f_ffff,
                0x80_0000,
                0x7f7f_ffff,
                0x3f80_0000,
                0x4f00_0000,
                0x4eff_ffff,
                0x5f00_0000,
            ]),
            7 => 0x3f80_0000 - 32 + self.below(64) as u32,
            8 => 0x3000_0000 + self.word() as u32 % 0x2000_0000,
            _ => self.word() as u32 & 0x7fff_ffff,
        }
    }

    /// The bits of a double of a kind worth trying.
    pub fn double(&mut self) -> u64 {
        let sign = self.word() << 63;
        let fraction = self.word() >> 12;
        sign | match self.below(10) {
            0 => 0,
            1 => fraction,
            2 => 0x7ff << 52,
            3 => 0xfff << 51 | fraction >> 1,
            4 => 0x7ff << 52 | fraction >> 1 | 1,
            5 => (self.below(200) as f64).to_bits(),
            6 => self.pick(&[
                1,
                (1 << 52) - 1,
                1 << 52,
                0x7fef_ffff_ffff_ffff,
                0x3ff0_0000_0000_0000,
                0x41e0_0000_0000_0000,
                0x41df_ffff_ffe0_0000,
                0x43e0_0000_0000_0000,
                0x3800_0000_0000_0000,
                0x36a0_0000_0000_0000,
                0x47ef_ffff_f000_0000,
            ]),
            7 => 0x3ff0_0000_0000_0000 + self.below(64) - 32,
            8 => (0x380 + self.below(0x100)) << 52 | fraction,
            _ => self.word() >> 1,
        }
    }

    /// A vector: floats, doubles, small lanes, text, or noise.
    pub fn vector(&mut self) -> [u64; 2] {
        let kind = self.below(7);
        [0, 1].map(|_| match kind {
            0 | 1 => u64::from(self.float()) | u64::from(self.float()) << 32,
            2 | 3 => self.double(),
            4 => self.word() & 0x0303_0303_0303_0303,
            5 => self.integer(),
            _ => self.word(),
        })
    }

    /// An x87 register: every class of 80-bit value.
    pub fn extended(&mut self) -> [u64; 2] {
        let sign = self.word() & 0x8000;
        let integer_bit = 1 << 63;
        let noise = self.word() | integer_bit;
        let (m, e) = match self.below(14) {
            0 => (0, 0),
            1 => (self.word() >> 1, 0),
            2 => (integer_bit, 0x7fff),
            3 => (noise | 1 << 62, 0x7fff),
            4 => (noise & !(1 << 62) | 1, 0x7fff),
            5 => (self.word() >> 1, self.word() & 0x7fff),
            6 => (noise, 0),
            7 => (
                self.below(1000) << 54 | integer_bit,
                0x3fff + self.below(10),
            ),
            8 => (noise, self.pick(&[1, 2, 0x7ffe, 0x7ffd])),
            9 => (noise, 0x3fff + self.below(70)),
            10 => (noise, 0x3fff - self.below(70)),
            11 => (noise, 0x3fff + self.below(2200) - 1100),
            12 => (noise & !0 << 40, 0x3fff + self.below(300) - 150),
            _ => (noise, self.word() & 0x7fff),
        };
        [m, e | sign]
    }
}
