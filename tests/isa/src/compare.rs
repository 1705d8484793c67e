//! Where two outcomes of one case differ, less what the documentation leaves undefined.

use std::fmt::Write;

use iced_x86::{Instruction, Mnemonic as M, OpKind, RflagsBits};
use isa_native::{COMPLETED, Case, Outcome, Registers};

const CF: u64 = 1;
const AF: u64 = 1 << 4;
const OF: u64 = 1 << 11;
/// The flags that are compared: the arithmetic ones and DF.
const COMPARED: u64 = 0xcd5;

/// What the documentation does not define about one case.
#[derive(Clone, Copy, Debug, Default)]
struct Undefined {
    flags: u64,
    /// The destination and all arithmetic flags: nothing can be said.
    everything: bool,
}

fn flags_of(bits: u32) -> u64 {
    let table = [
        (RflagsBits::OF, OF),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::AF, AF),
        (RflagsBits::CF, CF),
        (RflagsBits::PF, 1 << 2),
    ];
    table
        .iter()
        .filter(|(b, _)| bits & b != 0)
        .fold(0, |f, (_, v)| f | v)
}

fn undefined(i: &Instruction, case: &Case) -> Undefined {
    let mut u = Undefined {
        flags: flags_of(i.rflags_undefined()),
        everything: false,
    };
    if let Some((count, bits)) = shift_count(i, case) {
        shift(&mut u, i, count, bits);
    }
    u
}

/// The masked count and the operand's width, if the instruction shifts or rotates.
fn shift_count(i: &Instruction, case: &Case) -> Option<(u64, u64)> {
    let last = match i.mnemonic() {
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr => 1,
        M::Shld | M::Shrd => 2,
        _ => return None,
    };
    let count = match i.op_kind(last) {
        OpKind::Register => case.before.gpr[1],
        _ => i.immediate(last),
    };
    let bytes = match i.op_kind(0) {
        OpKind::Register => i.op0_register().size(),
        _ => i.memory_size().size(),
    };
    let bits = bytes as u64 * 8;
    Some((count & if bits == 64 { 63 } else { 31 }, bits))
}

/// What a shift by this count leaves undefined (SDM vol. 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD).
fn shift(u: &mut Undefined, i: &Instruction, count: u64, bits: u64) {
    if count == 0 {
        u.flags = 0;
        return;
    }
    u.flags = if count == 1 { 0 } else { OF };
    match i.mnemonic() {
        M::Rol | M::Ror | M::Rcl | M::Rcr => {}
        M::Sar => u.flags |= AF,
        M::Shld | M::Shrd => {
            u.flags |= AF;
            u.everything = count > bits;
        }
        _ => {
            u.flags |= AF;
            if count > bits || count == bits && bits < 32 && i.mnemonic() != M::Shl {
                u.flags |= CF;
            }
        }
    }
}

/// Where Linux's user space ends: the last page of the user half is never mapped.
const USER_END: u64 = 0x7fff_ffff_f000;

/// The kernel reports page faults outside of user space as protection faults, so that they tell nothing.
fn error_code(o: &Outcome) -> u32 {
    if o.vector == 14 && o.cr2 >= USER_END {
        o.error | 1
    } else {
        o.error
    }
}

/// The state after a case, less what CPUs do differently by their documentation.
fn settled(i: &Instruction, o: &Outcome) -> Registers {
    let mut r = o.after;
    let name = format!("{:?}", i.mnemonic());
    let unmasked = r.fx.status & 0x80 != 0;
    if unmasked
        && (name.starts_with("Fcom")
            || name.starts_with("Fucom")
            || name.starts_with("Ficom")
            || name == "Ftst")
    {
        // AMD's set the condition codes also when an unmasked exception is pending, Intel's do not.
        r.fx.status &= !0x4700;
        r.rflags &= !COMPARED;
    }
    const UE: u32 = 0x10;
    const PE: u32 = 0x20;
    if o.vector == 19 && name.starts_with("Mul") && r.fx.mxcsr & UE != 0 {
        // For products of two denormals, AMD's leave it out.
        r.fx.mxcsr &= !PE;
    }
    let mmx =
        (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm());
    if mmx && o.vector != COMPLETED {
        // Whether the unit has been turned over to MMX by then is not documented.
        (r.fx.status, r.fx.tags) = (r.fx.status & !0x3800, 0);
        r.fx.st = [[0; 2]; 8];
    }
    r
}

/// A fault of the fetch after a completed jump is not the instruction's.
fn completed(outcome: &Outcome) -> Outcome {
    const FETCH: u32 = 16;
    let mut o = *outcome;
    if o.vector == 14 && o.error & FETCH != 0 && o.cr2 == o.after.rip {
        o.vector = COMPLETED;
    }
    o
}

/// One line a difference; empty if there is none.
pub fn differences(i: &Instruction, case: &Case, host: &Outcome, ours: &Outcome) -> String {
    let (host, ours) = (&completed(host), &completed(ours));
    let mut text = String::new();
    let mut line = |name: &str, host: u64, ours: u64| {
        if host != ours {
            let _ = writeln!(text, "    {name}: host {host:#x}, here {ours:#x}");
        }
    };
    line("vector", host.vector.into(), ours.vector.into());
    if host.vector != ours.vector {
        return text;
    }
    if host.vector != COMPLETED {
        line(
            "error code",
            error_code(host).into(),
            error_code(ours).into(),
        );
        line("CR2", host.cr2, ours.cr2);
    }
    let u = undefined(i, case);
    if u.everything {
        return text;
    }
    let (h, o) = (settled(i, host), settled(i, ours));
    const NAMES: [&str; 16] = [
        "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12",
        "R13", "R14", "R15",
    ];
    for (n, name) in NAMES.iter().enumerate() {
        line(name, h.gpr[n], o.gpr[n]);
    }
    line("RIP", h.rip, o.rip);
    let defined = COMPARED & !if host.vector == COMPLETED { u.flags } else { 0 };
    line("RFLAGS", h.rflags & defined, o.rflags & defined);
    // PUSHF and LAHF show undefined flags of nobody; stores of flags are compared as they are.
    line("memory digest", host.memory, ours.memory);
    line("MXCSR", h.fx.mxcsr.into(), o.fx.mxcsr.into());
    for n in 0..16 {
        line(&format!("XMM{n} low"), h.fx.xmm[n][0], o.fx.xmm[n][0]);
        line(&format!("XMM{n} high"), h.fx.xmm[n][1], o.fx.xmm[n][1]);
    }
    line("x87 control", h.fx.control.into(), o.fx.control.into());
    line("x87 status", h.fx.status.into(), o.fx.status.into());
    line("x87 tags", h.fx.tags.into(), o.fx.tags.into());
    for n in 0..8 {
        line(
            &format!("ST({n}) significand"),
            h.fx.st[n][0],
            o.fx.st[n][0],
        );
        line(
            &format!("ST({n}) sign and exponent"),
            h.fx.st[n][1] & 0xffff,
            o.fx.st[n][1] & 0xffff,
        );
    }
    text
}
