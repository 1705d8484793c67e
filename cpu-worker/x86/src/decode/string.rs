//! Decoding of string instructions.

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use super::{Ctx, apply_segment, function, segment, width_of_bytes};
use crate::op::{AddrSize, Kind, Op, Seg};
use crate::state::mode;
use crate::string::{execute, form};

/// The instruction, if it is a string instruction.
pub(crate) fn decode(i: &Instruction, c: &Ctx) -> Option<Op> {
    let vector = i.op_kinds().any(|k| k == OpKind::Register)
        && (0..i.op_count())
            .any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_vector_register());
    if vector {
        return None;
    }
    let (sub, bytes) = match i.mnemonic() {
        M::Movsb => (form::MOVS, 1),
        M::Movsw => (form::MOVS, 2),
        M::Movsd if i.op_count() == 2 && is_string(i) => (form::MOVS, 4),
        M::Movsq => (form::MOVS, 8),
        M::Cmpsb => (form::CMPS, 1),
        M::Cmpsw => (form::CMPS, 2),
        M::Cmpsd if is_string(i) => (form::CMPS, 4),
        M::Cmpsq => (form::CMPS, 8),
        M::Stosb => (form::STOS, 1),
        M::Stosw => (form::STOS, 2),
        M::Stosd => (form::STOS, 4),
        M::Stosq => (form::STOS, 8),
        M::Lodsb => (form::LODS, 1),
        M::Lodsw => (form::LODS, 2),
        M::Lodsd => (form::LODS, 4),
        M::Lodsq => (form::LODS, 8),
        M::Scasb => (form::SCAS, 1),
        M::Scasw => (form::SCAS, 2),
        M::Scasd => (form::SCAS, 4),
        M::Scasq => (form::SCAS, 8),
        M::Insb => (form::INS, 1),
        M::Insw => (form::INS, 2),
        M::Insd => (form::INS, 4),
        M::Outsb => (form::OUTS, 1),
        M::Outsw => (form::OUTS, 2),
        M::Outsd => (form::OUTS, 4),
        _ => return None,
    };
    let mut op = function(i, c, Kind::String, execute);
    op.sub = sub;
    op.width = width_of_bytes(bytes);
    op.addr = address_size(i);
    // The segment of the source; the destination's is always ES.
    op.seg = segment(i.memory_segment());
    if c.is(mode::LONG) && !matches!(op.seg, Seg::Fs | Seg::Gs) {
        op.seg = Seg::Ds;
    }
    apply_segment(c, &mut op);
    Some(op)
}

fn is_string(i: &Instruction) -> bool {
    i.op_kinds().any(|k| {
        matches!(
            k,
            OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI
        )
    })
}

fn address_size(i: &Instruction) -> AddrSize {
    for k in i.op_kinds() {
        match k {
            OpKind::MemorySegSI | OpKind::MemoryESDI => return AddrSize::A16,
            OpKind::MemorySegESI | OpKind::MemoryESEDI => return AddrSize::A32,
            _ => {}
        }
    }
    AddrSize::A64
}
