//! Every instruction form of 64-bit mode, or of 32-bit or 16-bit code, with the encodings that lead to it.
//!
//! The opcode space is walked once: prefixes, map, opcode, ModRM.reg, register or memory operand. Each encoding is read by
//! iced, and filed under the `Code` that it finds; the VEX space is walked likewise, by its own prefix; so redundant prefixes and unusual encodings of a form are generated as
//! often as the usual one, and forms that nobody thought of are not missing.

use std::collections::BTreeMap;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::{exclude, features};

/// Prefix bits of [`Encoding`].
pub const P66: u8 = 1;
pub const P67: u8 = 2;
pub const PF2: u8 = 4;
pub const PF3: u8 = 8;
pub const REX_W: u8 = 16;

/// An encoding, but for what does not choose the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub prefixes: u8,
    /// 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A.
    pub map: u8,
    pub opcode: u8,
    /// With mod = 3 also its register number counts; with another, mod and rm are free.
    pub modrm: u8,
    /// With a VEX prefix, which then holds the map.
    pub vex: Option<Vex>,
}

/// What a VEX prefix says besides the map and registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vex {
    /// 0: none; 1: 66; 2: F3; 3: F2.
    pub pp: u8,
    pub w: bool,
    pub l: bool,
}

impl Vex {
    /// The three bytes, for map `map`. `rxb` and `vvvv` are inverted, as they are encoded.
    pub fn bytes(self, map: u8, rxb: u8, vvvv: u8) -> [u8; 3] {
        let (w, l) = (u8::from(self.w), u8::from(self.l));
        [0xc4, rxb << 5 | map, w << 7 | vvvv << 3 | l << 2 | self.pp]
    }
}

impl Encoding {
    /// Whether the ModRM byte, if there is one, names memory.
    pub fn is_memory(&self) -> bool {
        self.modrm < 0xc0
    }

    /// The opcode with its escape bytes.
    pub fn opcode_bytes(&self) -> ([u8; 3], usize) {
        match self.map {
            0 => ([self.opcode, 0, 0], 1),
            1 => ([0x0f, self.opcode, 0], 2),
            2 => ([0x0f, 0x38, self.opcode], 3),
            _ => ([0x0f, 0x3a, self.opcode], 3),
        }
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Some(vex) = self.vex {
            let start = usize::from(self.prefixes & P67 != 0);
            bytes[0] = 0x67;
            bytes[start..][..3].copy_from_slice(&vex.bytes(self.map, 7, 15));
            // The index of a SIB byte is another register than VEX names.
            bytes[start + 3..][..3].copy_from_slice(&[self.opcode, self.modrm, 0x08]);
            return bytes;
        }
        let mut n = 0;
        let mut put = |b: u8| {
            bytes[n] = b;
            n += 1;
        };
        let legacy = [(P66, 0x66), (P67, 0x67), (PF2, 0xf2), (PF3, 0xf3)];
        for (bit, byte) in legacy {
            if self.prefixes & bit != 0 {
                put(byte);
            }
        }
        if self.prefixes & REX_W != 0 {
            put(0x48);
        }
        let (opcode, len) = self.opcode_bytes();
        opcode[..len].iter().for_each(|&b| put(b));
        put(self.modrm);
        bytes
    }
}

/// Whether code is of 64 bits, or of 32 or 16 in compatibility mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Bits {
    #[default]
    #[value(name = "64")]
    B64,
    #[value(name = "32")]
    B32,
    #[value(name = "16")]
    B16,
}

impl Bits {
    /// For iced.
    pub fn count(self) -> u32 {
        match self {
            Bits::B64 => 64,
            Bits::B32 => 32,
            Bits::B16 => 16,
        }
    }
}

/// A form and its encodings.
#[derive(Clone, Debug)]
pub struct Form {
    pub bits: Bits,
    pub code: Code,
    pub encodings: Vec<Encoding>,
}

/// The forms of code of one size, told apart by whether they are generated.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    pub generated: Vec<Form>,
    /// The others, with the reason.
    pub excluded: Vec<(Code, &'static str)>,
}

/// What a byte of the one-byte map is instead of an opcode: a prefix, an escape, or the start of a VEX, EVEX or REX prefix. In other
/// code only the first two are.
fn is_no_opcode(bits: Bits, map: u8, opcode: u8) -> bool {
    let prefix = matches!(
        opcode,
        0x0f | 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
    );
    let only_long = matches!(opcode, 0x40..=0x4f | 0x62 | 0xc4 | 0xc5);
    map == 0 && (prefix || only_long && bits == Bits::B64)
        || map == 1 && matches!(opcode, 0x38 | 0x3a)
}

/// Walks the opcode space.
pub fn all(bits: Bits) -> Forms {
    let mut found: BTreeMap<usize, Vec<Encoding>> = BTreeMap::new();
    let modrms = (0..8u8).flat_map(|reg| (0xc0..0xc8).chain([0]).map(move |low| low | reg << 3));
    let modrms: Vec<u8> = modrms.collect();
    let mut i = Instruction::default();
    let all_prefixes = if bits == Bits::B64 { 32 } else { REX_W };
    for prefixes in (0..all_prefixes).filter(|p| p & (PF2 | PF3) != PF2 | PF3) {
        for map in 0..4 {
            for opcode in (0..=255).filter(|&o| !is_no_opcode(bits, map, o)) {
                for &modrm in &modrms {
                    let e = Encoding {
                        prefixes,
                        map,
                        opcode,
                        modrm,
                        vex: None,
                    };
                    let bytes = e.bytes();
                    Decoder::new(bits.count(), &bytes, DecoderOptions::NONE).decode_out(&mut i);
                    if is_vex_or_evex(&i) {
                        continue;
                    }
                    found.entry(i.code() as usize).or_default().push(e);
                }
            }
        }
    }
    for e in vex_space(bits) {
        Decoder::new(bits.count(), &e.bytes(), DecoderOptions::NONE).decode_out(&mut i);
        found.entry(i.code() as usize).or_default().push(e);
    }
    let mut forms = Forms::default();
    for (code, encodings) in found {
        let code = Code::try_from(code).expect("a code that iced gave");
        match obstacle(code) {
            Some(why) => forms.excluded.push((code, why)),
            None => forms.generated.push(Form {
                bits,
                code,
                encodings,
            }),
        }
    }
    forms
}

/// In 32-bit and 16-bit code LES, LDS and BOUND with a register are the start of something else, which has a walk of its own or none.
fn is_vex_or_evex(i: &Instruction) -> bool {
    i.code().encoding() != iced_x86::EncodingKind::Legacy
}

/// Every VEX encoding but for registers. Memory is named with a SIB byte, without which gathers are none: 16-bit code has it with 67h.
fn vex_space(size: Bits) -> impl Iterator<Item = Encoding> {
    let modrms = (0..8u8).flat_map(|reg| [4, 0xc0, 0xc1].map(move |low| low | reg << 3));
    let modrms: Vec<u8> = modrms.collect();
    (1..4u8).flat_map(move |map| {
        let modrms = modrms.clone();
        (0..16u8).flat_map(move |bits| {
            let modrms = modrms.clone();
            let vex = Vex {
                pp: bits & 3,
                w: bits & 4 != 0,
                l: bits & 8 != 0,
            };
            (0..=255u8).flat_map(move |opcode| {
                modrms.clone().into_iter().map(move |modrm| Encoding {
                    prefixes: if size == Bits::B16 && modrm < 0xc0 {
                        P67
                    } else {
                        0
                    },
                    map,
                    opcode,
                    modrm,
                    vex: Some(vex),
                })
            })
        })
    })
}

/// Whether it goes where a selector and an offset say: far CALL, JMP and RET, and IRET.
pub fn is_far(code: Code) -> bool {
    use Mnemonic::{Iret, Iretd, Iretq, Retf};
    code.is_jmp_far()
        || code.is_jmp_far_indirect()
        || code.is_call_far()
        || code.is_call_far_indirect()
        || matches!(code.mnemonic(), Retf | Iret | Iretd | Iretq)
}

/// Why a form is not compared; None if it is.
pub fn obstacle(code: Code) -> Option<&'static str> {
    if let Some(why) = exclude::reason(code) {
        return Some(why);
    }
    if code == Code::INVALID {
        return None;
    }
    code.cpuid_features()
        .iter()
        .find_map(|&f| features::obstacle(f))
}
