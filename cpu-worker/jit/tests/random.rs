//! Random programs: seeded sequences of instructions of user mode, looped, in lockstep and in all modes.

mod common;

use atoll_hostfp::live;
use atoll_jit::{Exit, Mode};
use common::{CODE, DATA, cpu, outcome, run};

/// xorshift64*: the cases are the same on every host.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// RBX points to data, RSP to the stack, RBP counts the loop: nobody writes them.
const FREE: [u8; 13] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// An instruction with a ModRM operand: prefixes, REX, opcode, ModRM (a register or memory near RBX).
fn modrm(
    rng: &mut Rng,
    prefix: &[u8],
    opcode: &[u8],
    reg: u8,
    rm_reg: Option<u8>,
    wide: bool,
) -> Vec<u8> {
    let mut code = prefix.to_vec();
    let rex_r = (reg >> 3) << 2;
    match rm_reg {
        Some(r) => {
            code.push(0x40 | rex_r | (r >> 3) | if wide { 8 } else { 0 });
            code.extend(opcode);
            code.push(0xc0 | (reg & 7) << 3 | (r & 7));
        }
        None => {
            code.push(0x40 | rex_r | if wide { 8 } else { 0 });
            code.extend(opcode);
            match rng.below(3) {
                0 => code.extend([0x03 | (reg & 7) << 3]),
                1 => code.extend([0x43 | (reg & 7) << 3, (rng.next() & 0x7f) as u8]),
                _ => {
                    code.push(0x83 | (reg & 7) << 3);
                    // Sometimes across a page.
                    let d = if rng.below(20) == 0 {
                        0xffd
                    } else {
                        rng.below(0x1f00) as u32
                    };
                    code.extend(d.to_le_bytes());
                }
            }
        }
    }
    code
}

fn operand(rng: &mut Rng) -> Option<u8> {
    (rng.below(3) != 0).then(|| rng.pick(&FREE))
}

fn integer(rng: &mut Rng) -> Vec<u8> {
    let reg = rng.pick(&FREE);
    let wide = rng.below(2) == 0;
    let prefix: &[u8] = if !wide && rng.below(4) == 0 {
        &[0x66]
    } else {
        &[]
    };
    let rm = operand(rng);
    match rng.below(20) {
        0..=5 => {
            let op = (rng.below(8) * 8 + rng.below(4)) as u8;
            modrm(rng, prefix, &[op], reg, rm, wide)
        }
        6 => {
            let op = rng.pick(&[0x84u8, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b]);
            modrm(rng, prefix, &[op], reg, rm, wide)
        }
        7 | 8 => {
            // Group 1 with an immediate byte.
            let n = rng.below(8) as u8;
            let op = rng.pick(&[0x80u8, 0x83]);
            let mut c = modrm(rng, prefix, &[op], n, rm, wide);
            c.push(rng.next() as u8);
            c
        }
        9 | 10 => {
            // Shifts by an immediate or CL.
            let n = rng.pick(&[0u8, 1, 2, 3, 4, 5, 7]);
            if rng.below(2) == 0 {
                let op = rng.pick(&[0xc0u8, 0xc1]);
                let mut c = modrm(rng, prefix, &[op], n, rm, wide);
                c.push(rng.next() as u8);
                c
            } else {
                let op = rng.pick(&[0xd0u8, 0xd1, 0xd2, 0xd3]);
                modrm(rng, prefix, &[op], n, rm, wide)
            }
        }
        11 => {
            let n = rng.pick(&[2u8, 3, 4, 5]);
            let op = rng.pick(&[0xf6u8, 0xf7]);
            modrm(rng, prefix, &[op], n, rm, wide)
        }
        12 => {
            let n = rng.below(2) as u8;
            let op = rng.pick(&[0xfeu8, 0xff]);
            modrm(rng, prefix, &[op], n, rm, wide)
        }
        13 => {
            let op = rng.pick(&[0xb6u8, 0xb7, 0xbe, 0xbf, 0xaf, 0xc0, 0xc1, 0xb0, 0xb1]);
            modrm(rng, prefix, &[0x0f, op], reg, rm, wide)
        }
        14 => {
            let op = 0x40 + rng.below(16) as u8;
            modrm(rng, prefix, &[0x0f, op], reg, rm, wide)
        }
        15 => {
            let op = 0x90 + rng.below(16) as u8;
            modrm(rng, &[], &[0x0f, op], 0, rm, false)
        }
        16 => {
            // BT and its relatives with an immediate or a register.
            if rng.below(2) == 0 {
                let n = 4 + rng.below(4) as u8;
                let mut c = modrm(rng, prefix, &[0x0f, 0xba], n, rm, wide);
                c.push(rng.next() as u8);
                c
            } else {
                let op = rng.pick(&[0xa3u8, 0xab, 0xb3, 0xbb]);
                let r = rng.pick(&FREE);
                modrm(rng, prefix, &[0x0f, op], reg, Some(r), wide)
            }
        }
        17 => {
            let op = rng.pick(&[0xa4u8, 0xac]);
            let mut c = modrm(rng, prefix, &[0x0f, op], reg, rm, wide);
            c.push(rng.next() as u8);
            c
        }
        18 => {
            let op = rng.pick(&[0xbcu8, 0xbd]);
            modrm(rng, prefix, &[0x0f, op], reg, rm, wide)
        }
        _ => rng
            .pick(&[
                &[0xf8u8][..],
                &[0xf9],
                &[0xf5],
                &[0x9f],
                &[0x9e],
                &[0x98],
                &[0x48, 0x98],
                &[0x99],
                &[0x48, 0x99],
                &[0x50, 0x59],
                &[0x41, 0x50, 0x41, 0x59],
                &[0x9c, 0x58],
                &[0x0f, 0xc8],
                &[0x49, 0x0f, 0xc9],
            ])
            .to_vec(),
    }
}

fn vector(rng: &mut Rng) -> Vec<u8> {
    let reg = rng.below(16) as u8;
    let rm = (rng.below(2) == 0).then(|| rng.below(16) as u8);
    match rng.below(6) {
        // Whole moves, unaligned.
        0 => {
            let op = rng.pick(&[0x6fu8, 0x7f]);
            modrm(rng, &[0xf3], &[0x0f, op], reg, rm, false)
        }
        // Packed integer operations between registers.
        1 | 2 => {
            let op = rng.pick(&[
                0x60u8, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c,
                0x6d, 0x74, 0x75, 0x76, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd8, 0xd9, 0xda, 0xdb, 0xdc,
                0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe8, 0xe9, 0xea, 0xeb, 0xec,
                0xed, 0xee, 0xef, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc,
                0xfd, 0xfe,
            ]);
            let r = rng.below(16) as u8;
            modrm(rng, &[0x66], &[0x0f, op], reg, Some(r), false)
        }
        // Between general and vector registers.
        3 => {
            let wide = rng.below(2) == 0;
            let op = rng.pick(&[0x6eu8, 0x7e]);
            let r = rng.pick(&FREE);
            modrm(rng, &[0x66], &[0x0f, op], reg, Some(r), wide)
        }
        // Shuffles, shifts, PMOVMSKB.
        4 => {
            let r = rng.below(16) as u8;
            let p = rng.pick(&[0x66u8, 0xf2, 0xf3]);
            let mut c = modrm(rng, &[p], &[0x0f, 0x70], reg, Some(r), false);
            c.push(rng.next() as u8);
            c
        }
        _ => match rng.below(3) {
            0 => {
                let g = rng.pick(&FREE);
                let r = rng.below(16) as u8;
                modrm(rng, &[0x66], &[0x0f, 0xd7], g, Some(r), false)
            }
            1 => {
                let (op, n) = rng.pick(&[
                    (0x71u8, 2u8),
                    (0x71, 4),
                    (0x71, 6),
                    (0x72, 2),
                    (0x72, 4),
                    (0x72, 6),
                    (0x73, 2),
                    (0x73, 3),
                    (0x73, 6),
                    (0x73, 7),
                ]);
                let r = rng.below(16) as u8;
                let mut c = modrm(rng, &[0x66], &[0x0f, op], n, Some(r), false);
                c.push(rng.below(70) as u8);
                c
            }
            _ => {
                let op = rng.pick(&[
                    0x00u8, 0x01, 0x04, 0x08, 0x0b, 0x1c, 0x1d, 0x1e, 0x38, 0x3c, 0x40, 0x20, 0x31,
                    0x17,
                ]);
                let r = rng.below(16) as u8;
                modrm(rng, &[0x66], &[0x0f, 0x38, op], reg, Some(r), false)
            }
        },
    }
}

fn float(rng: &mut Rng) -> Vec<u8> {
    let reg = rng.below(16) as u8;
    let rm = (rng.below(2) == 0).then(|| rng.below(16) as u8);
    let p = rng.pick(&[&[0xf2u8][..], &[0xf3]]);
    match rng.below(8) {
        0..=3 => {
            let op = rng.pick(&[0x51u8, 0x58, 0x59, 0x5a, 0x5c, 0x5d, 0x5e, 0x5f]);
            modrm(rng, p, &[0x0f, op], reg, rm, false)
        }
        4 => {
            let op = rng.pick(&[0x2eu8, 0x2f]);
            let p = rng.pick(&[&[0x66u8][..], &[]]);
            modrm(rng, p, &[0x0f, op], reg, rm, false)
        }
        5 => {
            // Integers to floats.
            let r = rng.pick(&FREE);
            let wide = rng.below(2) == 0;
            modrm(rng, p, &[0x0f, 0x2a], reg, Some(r), wide)
        }
        6 => {
            let g = rng.pick(&FREE);
            let wide = rng.below(2) == 0;
            let op = rng.pick(&[0x2cu8, 0x2d]);
            modrm(rng, p, &[0x0f, op], g, rm, wide)
        }
        _ => {
            let r = rng.below(16) as u8;
            let p = rng.pick(&[&[0x66u8][..], &[], &[0xf2], &[0xf3]]);
            let op = rng.pick(&[0x51u8, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f]);
            modrm(rng, p, &[0x0f, op], reg, Some(r), false)
        }
    }
}

/// Where control words for FLDCW are: any rounding and precision. All are masked but the last, with which an x87 exception, in
/// time, shuts the machine down.
const CONTROL_WORDS: u32 = 0x3f00;
const WORDS: u64 = 32;

fn control_words() -> Vec<u8> {
    let word = |n: u16| match n {
        31 => 0x0370,
        _ => (n & 3) << 10 | (n >> 2 & 3) << 8 | if n & 16 == 0 { 0x7f } else { 0xe0ff },
    };
    (0..WORDS as u16)
        .flat_map(|n| word(n).to_le_bytes())
        .collect()
}

fn x87(rng: &mut Rng) -> Vec<u8> {
    match rng.below(24) {
        0 => {
            let most = WORDS - u64::from(rng.below(8) != 0);
            let n = rng.below(most) as u32;
            let mut c = vec![0xd9, 0xab];
            c.extend((CONTROL_WORDS + 2 * n).to_le_bytes());
            c
        }
        // FNSTSW AX, FNCLEX, WAIT; FNINIT, FSIN, FPTAN, FYL2X, EMMS.
        1 => rng
            .pick(&[&[0xdfu8, 0xe0][..], &[0xdb, 0xe2], &[0x9b]])
            .to_vec(),
        2 => rng
            .pick(&[
                &[0xdbu8, 0xe3][..],
                &[0xd9, 0xfe],
                &[0xd9, 0xf2],
                &[0xd9, 0xf1],
                &[0x0f, 0x77],
            ])
            .to_vec(),
        3..=9 => loop {
            let (escape, n) = (0xd8 + rng.below(8) as u8, rng.below(8) as u8);
            let form = live::form(u16::from_be_bytes([escape, n << 3]));
            if form.is_some_and(|f| f != live::Form::LoadControl) {
                break modrm(rng, &[], &[escape], n, None, false);
            }
        },
        // FCOMI and FUCOMI, and a use of their flags.
        10 => {
            let r = rng.below(16) as u8;
            vec![
                rng.pick(&[0xdb, 0xdf]),
                0xe8 + r,
                0x0f,
                0x90 + (r ^ 5),
                0xc0,
            ]
        }
        _ => loop {
            let code = [0xd8 + rng.below(8) as u8, 0xc0 + rng.below(64) as u8];
            if live::form(u16::from_be_bytes(code)).is_some() {
                break code.to_vec();
            }
        },
    }
}

/// A loop of `n` random instructions with a few forward branches, done `rounds` times, and HLT.
fn program(rng: &mut Rng, kind: u64, n: usize, rounds: u32) -> Vec<u8> {
    let mut body: Vec<Vec<u8>> = Vec::new();
    for _ in 0..n {
        let i = match kind {
            0 => integer(rng),
            1 => vector(rng),
            2 => float(rng),
            4 => match rng.below(4) {
                0 => integer(rng),
                _ => x87(rng),
            },
            _ => match rng.below(3) {
                0 => integer(rng),
                1 => vector(rng),
                _ => float(rng),
            },
        };
        if rng.below(6) == 0 {
            // A forward branch over the instruction.
            body.push(vec![0x70 + rng.below(16) as u8, i.len() as u8]);
        }
        body.push(i);
    }
    let mut code = vec![0xbb];
    code.extend((DATA as u32).to_le_bytes());
    code.push(0xbd);
    code.extend(rounds.to_le_bytes());
    let start = code.len();
    for i in body {
        code.extend(i);
    }
    code.extend([0xff, 0xcd, 0x0f, 0x85]);
    let back = start as i32 - (code.len() as i32 + 4);
    code.extend(back.to_le_bytes());
    code.push(0xf4);
    code
}

fn check(seed: u64, kind: u64, cases: u64) {
    for case in 0..cases {
        let mut rng = Rng(seed + case * 0x9e37_79b9 + 1);
        for _ in 0..10 {
            rng.next();
        }
        let n = 1 + rng.below(40) as usize;
        let code = program(&mut rng, kind, n, 120);
        let mut seen = None;
        for mode in [Mode::Lockstep, Mode::Interp, Mode::Jit] {
            let mut c = cpu(&code);
            let mut r = Rng(seed ^ 77);
            for i in FREE {
                c.state.gpr[i as usize] = r.next() >> (r.below(8) * 8);
            }
            for x in c.state.xmm.iter_mut() {
                *x = [
                    r.next() & 0xbfff_ffff_bfff_ffff,
                    (r.below(1000) as f64).to_bits(),
                ];
            }
            let data: Vec<u8> = (0..0x4000).map(|_| r.next() as u8).collect();
            assert!(c.mmu.ram().write(DATA, &data));
            let words = DATA + u64::from(CONTROL_WORDS);
            assert!(c.mmu.ram().write(words, &control_words()));
            for st in c.state.x87.regs.iter_mut() {
                let sign = r.below(2) << 15;
                *st = [r.next() | 1 << 63, sign | (0x3fe0 + r.below(64))];
            }
            c.state.x87.tags = r.next() as u8;
            c.state.x87.status = (r.below(8) as u16) << 11;
            let text = || format!("seed {seed} case {case}: {code:02x?}");
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(&mut c, mode, 1_000_000).0
            }));
            let Ok(exit) = caught else {
                panic!("{} in {mode:?}", text());
            };
            // A fault (division) shuts down, in every mode at the same place.
            assert!(
                matches!(exit, Exit::Halt | Exit::Shutdown),
                "{exit:?} {}",
                text()
            );
            let o = (exit, outcome(&c), c.state.rip());
            let f = seen.get_or_insert(o.clone());
            if o.1.0 != f.1.0 || o.0 != f.0 {
                panic!(
                    "{mode:?} {:?} {:?} at {:#x} and {:#x} {}",
                    o.0,
                    f.0,
                    o.2 - CODE,
                    f.2 - CODE,
                    text()
                );
            }
            assert!(o.1.1 == f.1.1, "memory {mode:?} {}", text());
        }
    }
}

fn cases() -> u64 {
    std::env::var("ATOLL_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60)
}

#[test]
fn integer_programs() {
    check(1000, 0, cases());
}

#[test]
fn vector_programs() {
    check(2000, 1, cases());
}

#[test]
fn float_programs() {
    check(3000, 2, cases());
}

#[test]
fn mixed_programs() {
    check(4000, 3, cases());
}

#[test]
fn x87_programs() {
    check(5000, 4, cases());
}
