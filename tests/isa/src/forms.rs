//! Every instruction form that is compared: found by decoding the whole opcode space once.
//!
//! A form is an encoding as iced names it ([`Code`]) with a register or a memory operand. Only what Atoll's decoder
//! accepts is a form, so the list grows with it.

use std::collections::BTreeMap;

use atoll_x86::Kind;
use atoll_x86::decode::decode;
use atoll_x86::state::mode;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as M, OpKind, Register,
};

use crate::engine::features;

/// The mode word of the cases: 64-bit user code.
pub const MODE: u32 =
    mode::LONG | mode::STACK32 | mode::FLAT | mode::USER | mode::PROTECTED | mode::LMA;

/// A form's name: the encoding, and whether it has a memory operand.
pub type Name = (u16, bool);

/// How to encode a form: everything up to the ModRM byte, and the values that this may have.
#[derive(Clone, Debug)]
pub struct Form {
    pub code: Code,
    pub memory: bool,
    /// The mandatory prefix, if any.
    pub prefix: Option<u8>,
    pub rex_w: bool,
    pub opcode: Vec<u8>,
    pub modrm: Vec<u8>,
}

/// All forms, in a fixed order.
pub fn all() -> Vec<Form> {
    let mut forms: BTreeMap<Name, Form> = BTreeMap::new();
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    for map in maps {
        for last in 0..=255u8 {
            let opcode: Vec<u8> = map.iter().copied().chain([last]).collect();
            if is_prefix(&opcode) {
                continue;
            }
            for prefix in [None, Some(0x66), Some(0xf3), Some(0xf2)] {
                for rex_w in [false, true] {
                    scan(&mut forms, &opcode, prefix, rex_w);
                }
            }
        }
    }
    forms.into_values().collect()
}

/// Bytes that begin something else than an opcode of these maps.
fn is_prefix(opcode: &[u8]) -> bool {
    match opcode {
        [b] => {
            matches!(b, 0x0f | 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x62 | 0x64..=0x67 | 0xc4 | 0xc5 | 0xf0 | 0xf2 | 0xf3)
        }
        [0x0f, b] => matches!(b, 0x38 | 0x3a),
        _ => false,
    }
}

fn scan(forms: &mut BTreeMap<Name, Form>, opcode: &[u8], prefix: Option<u8>, rex_w: bool) {
    for modrm in 0..=255u8 {
        let mut bytes: Vec<u8> = prefix.into_iter().collect();
        if rex_w {
            bytes.push(0x48);
        }
        bytes.extend_from_slice(opcode);
        bytes.push(modrm);
        bytes.resize(15, 0);
        let Some(i) = instruction(&bytes) else {
            continue;
        };
        if !is_compared(&i, &bytes) {
            continue;
        }
        let memory = has_memory(&i);
        let form = forms
            .entry((i.code() as u16, memory))
            .or_insert_with(|| Form {
                code: i.code(),
                memory,
                prefix,
                rex_w,
                opcode: opcode.to_vec(),
                modrm: Vec::new(),
            });
        if form.prefix == prefix && form.rex_w == rex_w && form.opcode == opcode {
            form.modrm.push(modrm);
        }
    }
}

/// Decodes as 64-bit code with all that the host might know.
pub fn instruction(bytes: &[u8]) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, isa_native::ENTRY, DecoderOptions::NO_WBNOINVD);
    let i = decoder.decode();
    (!i.is_invalid()).then_some(i)
}

/// Whether an operand is in memory, implied ones of string instructions included.
pub fn has_memory(i: &Instruction) -> bool {
    i.op_kinds().any(|k| {
        matches!(
            k,
            OpKind::Memory
                | OpKind::MemorySegSI
                | OpKind::MemorySegESI
                | OpKind::MemorySegRSI
                | OpKind::MemorySegDI
                | OpKind::MemorySegEDI
                | OpKind::MemorySegRDI
                | OpKind::MemoryESDI
                | OpKind::MemoryESEDI
                | OpKind::MemoryESRDI
        )
    })
}

/// Whether Atoll runs the instruction and comparing it makes sense.
pub fn is_compared(i: &Instruction, bytes: &[u8]) -> bool {
    let Some(op) = decode(bytes, MODE, features()) else {
        return false;
    };
    let system = |n: u32| {
        let r = i.op_register(n);
        i.op_kind(n) == OpKind::Register && (r.is_segment_register() || r.is_cr() || r.is_dr())
    };
    // FS and GS have the process's own bases.
    let foreign_base = matches!(i.segment_prefix(), Register::FS | Register::GS);
    !matches!(op.kind, Kind::Invalid | Kind::System | Kind::Time)
        && !excluded(i.mnemonic())
        && !(0..i.op_count()).any(system)
        && !foreign_base
        && !cpus_disagree(i, &bytes[..i.len()])
}

/// Encodings that makers of CPUs document, or do, differently.
fn cpus_disagree(i: &Instruction, bytes: &[u8]) -> bool {
    let prefixed = |any: &[u8]| bytes.iter().any(|b| any.contains(b));
    match i.code() {
        // REX.B makes it an exchange with R8, which iced does not know.
        Code::Pause => bytes.len() > 2,
        // Intel's reads 16 bits, AMD's 32.
        Code::Movsxd_r16_rm16 => true,
        // No-operations of Intel's, #UD with AMD.
        Code::Reservednop_rm16_r16_0F0D
        | Code::Reservednop_rm32_r32_0F0D
        | Code::Reservednop_rm64_r64_0F0D => true,
        // Where target and stack are both not canonical, the order of the checks differs.
        Code::Call_rm64 if i.op0_kind() == OpKind::Register => {
            i.op0_register() == Register::RSP || prefixed(&[0x66])
        }
        // AMD's LOOPcc heed F2 and F3.
        _ if matches!(i.mnemonic(), M::Loope | M::Loopne) => prefixed(&[0x66, 0xf2, 0xf3]),
        // Near branches with an operand size of 16 bits.
        _ => i.flow_control() != FlowControl::Next && prefixed(&[0x66]),
    }
}

/// See the crate's documentation for the reasons.
fn excluded(m: M) -> bool {
    matches!(
        m,
        M::Rcpps
            | M::Rcpss
            | M::Rsqrtps
            | M::Rsqrtss
            | M::Fsin
            | M::Fcos
            | M::Fsincos
            | M::Fptan
            | M::Fpatan
            | M::F2xm1
            | M::Fyl2x
            | M::Fyl2xp1
            | M::Rdrand
            | M::Rdseed
            | M::Rdpid
            | M::Rdfsbase
            | M::Rdgsbase
            | M::Wrfsbase
            | M::Wrgsbase
            | M::Sgdt
            | M::Sidt
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            | M::Xsave
            | M::Xsave64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xsavec
            | M::Xsavec64
            | M::Xrstor
            | M::Xrstor64
            | M::Xgetbv
            | M::Fxsave
            | M::Fxsave64
            | M::Cpuid
            | M::Int
            | M::Int1
            | M::Int3
            | M::Into
            | M::In
            | M::Out
            | M::Insb
            | M::Insw
            | M::Insd
            | M::Outsb
            | M::Outsw
            | M::Outsd
            | M::Fnstenv
            | M::Fnsave
            | M::Fldenv
            | M::Frstor
            | M::Fxrstor
            | M::Fxrstor64
    )
}
