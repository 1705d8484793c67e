//! Instructions by chance, most of which do something: operands in memory mostly reach memory, loops mostly end.

use device_core::SplitMix64;

use super::system::system;
use super::{Mode, devices, place};

/// Writes a program for code of 16, 32 or 64 bits.
pub(super) struct Coder {
    pub(super) bits: u32,
    pub(super) bytes: Vec<u8>,
}

/// The longest that one step of a generator writes.
const STEP: usize = 40;

impl Coder {
    pub(super) fn new(bits: u32) -> Coder {
        Coder {
            bits,
            bytes: Vec::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() + STEP < place::CODE_BYTES
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// MOV of a constant to register 0 to 7, 32 bits.
    pub(super) fn constant(&mut self, register: u8, value: u32) {
        if self.bits == 16 {
            self.put(&[0x66]);
        }
        self.put(&[0xb8 + register]);
        self.put(&value.to_le_bytes());
    }

    /// An access to a port, by one of IN and OUT of 1, 2 and 4 bytes.
    pub(super) fn port(&mut self, port: u16, which: u8, value: u32) {
        self.constant(2, port.into());
        self.constant(0, value);
        let wide = self.bits != 16;
        let out = (which & 1) * 2;
        match which {
            0 | 1 => return self.put(&[0xec + out]),
            2 | 3 if wide => self.put(&[0x66]),
            4.. if !wide => self.put(&[0x66]),
            _ => {}
        }
        self.put(&[0xed + out]);
    }

    /// An opcode and its operand in memory at an absolute address; the opcode is that of the wide form.
    fn absolute(&mut self, opcode: u8, address: u64, bytes: u32) {
        let opcode = opcode - u8::from(bytes == 1);
        let address = (address as u32).to_le_bytes();
        if self.bits == 64 {
            // 32 bits would be extended by their sign: through R15.
            self.put(&[0x41, 0xbf]);
            self.put(&address);
        }
        if bytes != 1 && (self.bits == 16) == (bytes == 4) {
            self.put(&[0x66]);
        }
        match self.bits {
            64 => return self.put(&[0x41, opcode, 0x07]),
            16 => self.put(&[0x67, opcode, 0x05]),
            _ => self.put(&[opcode, 0x05]),
        }
        self.put(&address);
    }

    pub(super) fn store(&mut self, address: u64, value: u32, bytes: u32) {
        self.absolute(0xc7, address, bytes);
        let value = value.to_le_bytes();
        self.put(&value[..bytes as usize]);
    }

    /// Into (E)AX or AL.
    pub(super) fn load(&mut self, address: u64, bytes: u32) {
        self.absolute(0x8b, address, bytes);
    }
}

/// A program of instructions.
pub(super) fn instructions(rng: &mut SplitMix64, mode: Mode) -> Vec<u8> {
    let mut c = Coder::new(mode.bits());
    // Long programs seldom come to their end.
    let end = 32 + rng.below(place::CODE_BYTES as u64 - 32) as usize;
    while c.has_room() && c.bytes.len() < end {
        match rng.below(64) {
            0..24 => integer(rng, &mut c),
            24..32 => one_byte(rng, &mut c),
            32..38 => vector(rng, &mut c),
            38..41 => x87(rng, &mut c),
            41..45 => string(rng, &mut c),
            45..51 => branch(rng, &mut c),
            51..59 => system(rng, &mut c),
            59..61 => rewrite(rng, &mut c),
            61 => {
                let port = devices::port(rng);
                c.port(port, rng.below(6) as u8, rng.next_u64() as u32);
            }
            62 => {
                let n = 1 + rng.below(8);
                (0..n).for_each(|_| c.put(&[rng.next_u64() as u8]));
            }
            _ => {
                let (r, value) = (rng.below(8) as u8, operand(rng));
                c.constant(if r == 4 { 0 } else { r }, value);
            }
        }
    }
    c.bytes
}

pub(super) fn pick(rng: &mut SplitMix64, from: &[u8]) -> u8 {
    from[rng.below(from.len() as u64) as usize]
}

/// A number as instructions meet it.
pub(super) fn operand(rng: &mut SplitMix64) -> u32 {
    match rng.below(4) {
        0 => rng.next_u64() as u32,
        1 => rng.below(64) as u32,
        2 => (place::DATA + 0x1000 * rng.below(16) + 0xff0 + rng.below(32)) as u32,
        _ => [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, u32::MAX][rng.below(8) as usize],
    }
}

/// Prefixes, few.
pub(super) fn prefixes(rng: &mut SplitMix64, c: &mut Coder) {
    if rng.below(4) == 0 {
        let some = [
            0x66, 0x67, 0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65,
        ];
        c.put(&[pick(rng, &some)]);
    }
    if c.bits == 64 && rng.below(2) == 0 {
        c.put(&[0x40 | rng.below(16) as u8]);
    }
}

/// A ModRM byte with what follows, for this field in the middle or any.
pub(super) fn modrm(rng: &mut SplitMix64, c: &mut Coder, reg: Option<u8>) {
    let reg = reg.unwrap_or(rng.below(8) as u8) << 3;
    let (kind, mut rm) = (rng.below(8), rng.below(8) as u8);
    // The stack pointer seldom is one's own register.
    if kind < 3 {
        if rm == 4 && rng.below(4) != 0 {
            rm = 3;
        }
        c.put(&[0xc0 | reg | rm]);
        return;
    }
    let form = [0x00, 0x40, 0x80, 0x40, 0x00][kind as usize - 3];
    c.put(&[form | reg | rm]);
    let narrow = c.bits == 16;
    let mut absolute = form == 0 && rm == if narrow { 6 } else { 5 };
    if rm == 4 && !narrow {
        let sib = rng.next_u64() as u8;
        // No index more often than not.
        let sib = if rng.below(4) == 0 {
            sib
        } else {
            sib & 7 | 0x20
        };
        c.put(&[sib]);
        absolute |= form == 0 && sib & 7 == 5;
    }
    let near = rng.below(64) as u32;
    match form {
        0x40 => c.put(&[near as u8]),
        0x80 if narrow => c.put(&(near as u16).to_le_bytes()),
        0x80 => c.put(&near.to_le_bytes()),
        _ if absolute && narrow => c.put(&(rng.next_u64() as u16).to_le_bytes()),
        _ if absolute => c.put(&((place::DATA + rng.below(0x1_0000)) as u32).to_le_bytes()),
        _ => {}
    }
}

/// As many bytes as an immediate of the operand size has without prefixes; with one it is another instruction that begins.
fn immediate(rng: &mut SplitMix64, c: &mut Coder) {
    let bytes = operand(rng).to_le_bytes();
    c.put(&bytes[..if c.bits == 16 { 2 } else { 4 }]);
}

fn integer(rng: &mut SplitMix64, c: &mut Coder) {
    const PLAIN: [u8; 18] = [
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8d, 0xd0, 0xd1, 0xd2, 0xd3, 0xfe, 0x63,
        0x62, 0x8f, 0xff,
    ];
    const TWO: [u8; 42] = [
        0x40, 0x41, 0x42, 0x44, 0x47, 0x4c, 0x4f, 0x90, 0x92, 0x94, 0x9a, 0x9f, 0xa3, 0xab, 0xb3,
        0xbb, 0xbc, 0xbd, 0xa5, 0xad, 0xaf, 0xb0, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf, 0xc0, 0xc1, 0xc7,
        0xb8, 0xb2, 0xb4, 0xb5, 0xc3, 0x18, 0x1f, 0x0d, 0x02, 0x03, 0xae, 0xa7,
    ];
    prefixes(rng, c);
    match rng.below(12) {
        0..4 => {
            c.put(&[rng.below(8) as u8 * 8 + rng.below(4) as u8]);
            modrm(rng, c, None);
        }
        4 | 5 => {
            c.put(&[pick(rng, &PLAIN)]);
            // The ways out of PLAIN's last are branches.
            let reg = rng.below(3) as u8;
            modrm(rng, c, Some(reg));
        }
        6 => {
            c.put(&[0x81]);
            modrm(rng, c, None);
            immediate(rng, c);
        }
        7 => {
            c.put(&[pick(rng, &[0x80, 0x83, 0xc0, 0xc1, 0x6b, 0xc6])]);
            modrm(rng, c, None);
            c.put(&[operand(rng) as u8]);
        }
        8 => {
            c.put(&[0xf6 | rng.below(2) as u8]);
            let reg = 2 + rng.below(6) as u8;
            modrm(rng, c, Some(reg));
        }
        9 => {
            c.put(&[0x0f, pick(rng, &[0xa4, 0xac, 0xba])]);
            modrm(rng, c, None);
            c.put(&[operand(rng) as u8]);
        }
        10 => {
            c.put(&[pick(rng, &[0x69, 0xc7])]);
            modrm(rng, c, Some(0));
            immediate(rng, c);
        }
        _ => {
            c.put(&[0x0f, pick(rng, &TWO)]);
            modrm(rng, c, None);
        }
    }
}

/// Instructions without operands in memory but the stack.
fn one_byte(rng: &mut SplitMix64, c: &mut Coder) {
    const SOME: [u8; 52] = [
        0x06, 0x07, 0x0e, 0x16, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x40, 0x48, 0x50, 0x51, 0x53,
        0x56, 0x58, 0x59, 0x5b, 0x5e, 0x60, 0x61, 0x90, 0x91, 0x97, 0x98, 0x99, 0x9b, 0x9c, 0x9e,
        0x9f, 0xc9, 0xd6, 0xd7, 0xf5, 0xf8, 0xf9, 0xfc, 0xfd, 0x50, 0x52, 0x5a, 0x5f, 0x57, 0x54,
        0x55, 0x5d, 0xf9, 0xf8, 0x50, 0x58, 0x90,
    ];
    prefixes(rng, c);
    match rng.below(8) {
        0 => {
            c.put(&[pick(rng, &[0x6a, 0xd4, 0xd5, 0xb0, 0xa8, 0x3c])]);
            c.put(&[operand(rng) as u8]);
        }
        1 => {
            c.put(&[0x68]);
            immediate(rng, c);
        }
        2 => c.put(&[0xc8, rng.below(64) as u8, 0, rng.below(6) as u8]),
        3 => c.put(&[0x0f, 0xc8 | rng.below(8) as u8]),
        _ => c.put(&[pick(rng, &SOME)]),
    }
}

fn vector(rng: &mut SplitMix64, c: &mut Coder) {
    match rng.below(4) {
        0 if c.bits != 16 => {
            // VEX of either length.
            let map = 1 + rng.below(3) as u8;
            let (v, l, p) = (rng.below(16) as u8, rng.below(2) as u8, rng.below(4) as u8);
            if map == 1 && rng.below(2) == 0 {
                c.put(&[0xc5, 0x80 | v << 3 | l << 2 | p]);
            } else {
                let w = rng.below(2) as u8;
                c.put(&[0xc4, 0xe0 | map, w << 7 | v << 3 | l << 2 | p]);
            }
            c.put(&[rng.next_u64() as u8]);
            modrm(rng, c, None);
            if map == 3 {
                c.put(&[rng.next_u64() as u8]);
            }
        }
        1 => {
            let p = pick(rng, &[0x66, 0xf2, 0xf3, 0x66]);
            c.put(&[p, 0x0f, 0x38, rng.next_u64() as u8]);
            modrm(rng, c, None);
        }
        _ => {
            if rng.below(3) != 0 {
                c.put(&[pick(rng, &[0x66, 0xf2, 0xf3])]);
            }
            let opcode = pick(rng, &[0x10, 0x20, 0x50, 0x60, 0x70, 0xd0, 0xe0, 0xf0, 0xc0]);
            c.put(&[0x0f, opcode | rng.below(16) as u8]);
            modrm(rng, c, None);
            if matches!(opcode, 0x70 | 0xc0) {
                c.put(&[rng.next_u64() as u8]);
            }
        }
    }
}

fn x87(rng: &mut SplitMix64, c: &mut Coder) {
    c.put(&[0xd8 | rng.below(8) as u8]);
    modrm(rng, c, None);
}

fn string(rng: &mut SplitMix64, c: &mut Coder) {
    if rng.below(4) != 0 {
        c.constant(1, rng.below(80) as u32);
    }
    if rng.below(4) == 0 {
        c.put(&[0xfc | rng.below(2) as u8]);
    }
    if rng.below(3) == 0 {
        let to = match (c.bits, rng.below(3)) {
            (16, _) => rng.next_u64() as u32 & 0xffff,
            (_, 0) => (place::CODE + rng.below(0x8000)) as u32,
            _ => operand(rng),
        };
        c.constant(6 + rng.below(2) as u8, to);
    }
    if rng.below(3) != 0 {
        c.put(&[0xf2 | rng.below(2) as u8]);
    }
    if rng.below(4) == 0 {
        c.put(&[pick(rng, &[0x66, 0x67, 0x64, 0x48])]);
    }
    let some = [
        0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6e, 0x6f,
    ];
    c.put(&[pick(rng, &some)]);
}

fn branch(rng: &mut SplitMix64, c: &mut Coder) {
    let forward = rng.below(24) as u8;
    match rng.below(10) {
        0..5 => c.put(&[0x70 | rng.below(16) as u8, forward]),
        5 => c.put(&[pick(rng, &[0xeb, 0xe3]), forward]),
        6 => {
            // A loop of a few rounds over what stands before it.
            let back = (c.bytes.len() as u64).min(2 + rng.below(40)) as u8;
            c.constant(1, 1 + rng.below(40) as u32);
            let back = back.wrapping_add(if c.bits == 16 { 6 } else { 5 });
            // The count would be set anew in each round: past it.
            let back = if rng.below(8) == 0 { back } else { 0 };
            c.put(&[0xe2, 0u8.wrapping_sub(back.wrapping_add(2))]);
        }
        7 => {
            c.put(&[0xe8]);
            c.put(&[forward, 0, 0, 0][..if c.bits == 16 { 2 } else { 4 }]);
        }
        8 => {
            // A counted loop of real rounds: ECX, a body, LOOP.
            c.constant(1, 1 + rng.below(60) as u32);
            let start = c.bytes.len();
            for _ in 0..rng.below(2) {
                integer(rng, c);
            }
            let back = c.bytes.len() - start + 2;
            c.put(&[0xe2, 0u8.wrapping_sub(back as u8)]);
        }
        _ => c.put(&[0xc3]),
    }
}

/// Stores into code: of this program or another, near or far ahead.
fn rewrite(rng: &mut SplitMix64, c: &mut Coder) {
    let here = c.bytes.len() as u64;
    let at = match rng.below(4) {
        0 => place::CODE + rng.below(0x8000),
        _ => place::CODE + rng.below(32) * 0x400 + here + rng.below(64),
    };
    let bytes = 1 << rng.below(3);
    c.store(at, pick(rng, &[0x90, 0x40, 0xf8, 0x50]).into(), bytes);
}
