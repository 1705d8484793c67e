//! The interpreter's entries for the lifted SSE instructions: the hot ones as functions of constants.
//!
//! A handler is the one meaning of `semantics::sse` with the operation and the operand forms fixed, so that the choice of
//! the operation folds away; the rest goes through `semantics::sse::execute`.

use crate::cpu::Cpu;
use crate::exception::Stop;
use crate::op::{Arg, Handler, Kind, Op, OpFlags, Width};
use crate::semantics::sse::{self, Form, Part};

/// The entry for a decoded lifted SSE instruction.
pub(crate) fn handler(op: &Op) -> Handler {
    // The fixed forms are those of SSE.
    if op.has(OpFlags::VEX) {
        return generic;
    }
    let mem = op.src_arg == Arg::Mem;
    match op.kind {
        Kind::MovX => match (op.dst_arg, op.src_arg) {
            (Arg::Mem, _) => mov_x_to_mem,
            (_, Arg::Mem) => mov_x_from_mem,
            _ => mov_x_reg,
        },
        Kind::MovPart => mov_part(op),
        Kind::VecBin => VEC_BIN[usize::from(op.sub)][usize::from(mem)],
        Kind::FpBin => FP_BIN[usize::from(op.sub)][usize::from(op.sub2)][usize::from(mem)],
        Kind::VecMask if op.width == Width::B => {
            |cpu, op| sse::vec_mask(cpu, op, Form::Legacy, Width::B)
        }
        _ => generic,
    }
}

fn generic(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    sse::execute(cpu, op)
}

fn mov_x_reg(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    sse::mov_x(cpu, op, Form::Legacy, Arg::Reg, Arg::Reg, false)
}
fn mov_x_from_mem(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    sse::mov_x(cpu, op, Form::Legacy, Arg::Reg, Arg::Mem, op.sub & 1 != 0)
}
fn mov_x_to_mem(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    sse::mov_x(cpu, op, Form::Legacy, Arg::Mem, Arg::Reg, op.sub & 1 != 0)
}

/// Loads, stores and merges of 4 and 8 bytes.
fn mov_part(op: &Op) -> Handler {
    macro_rules! part {
        ($p:ident) => {
            match op.width {
                Width::D => |cpu, op| sse::mov_part(cpu, op, Form::Legacy, Part::$p, Width::D),
                Width::Q => |cpu, op| sse::mov_part(cpu, op, Form::Legacy, Part::$p, Width::Q),
                _ => generic,
            }
        };
    }
    match sse::part(op.sub) {
        Part::Load => part!(Load),
        Part::Store => part!(Store),
        Part::FromGeneral => part!(FromGeneral),
        Part::ToGeneral => part!(ToGeneral),
        Part::Merge => part!(Merge),
        _ => generic,
    }
}

fn vec_bin<const F: u8, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    sse::vec_bin(
        cpu,
        op,
        Form::Legacy,
        sse::vec_bin_of(F),
        if MEM { Arg::Mem } else { Arg::Reg },
    )
}

fn fp_bin<const F: u8, const FP: u8, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let src = if MEM { Arg::Mem } else { Arg::Reg };
    sse::fp_bin(
        cpu,
        op,
        Form::Legacy,
        sse::fp_bin_of(F),
        sse::fp_of(FP),
        src,
    )
}

macro_rules! vec_bins {
    ($($n:literal)*) => { [$([vec_bin::<$n, false>, vec_bin::<$n, true>]),*] };
}
static VEC_BIN: [[Handler; 2]; 81] = vec_bins! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
    40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73
    74 75 76 77 78 79 80
};

macro_rules! fp_bins {
    ($($n:literal)*) => {
        [$([
            [fp_bin::<$n, 0, false>, fp_bin::<$n, 0, true>],
            [fp_bin::<$n, 1, false>, fp_bin::<$n, 1, true>],
            [fp_bin::<$n, 2, false>, fp_bin::<$n, 2, true>],
            [fp_bin::<$n, 3, false>, fp_bin::<$n, 3, true>],
        ]),*]
    };
}
static FP_BIN: [[[Handler; 2]; 4]; 9] = fp_bins!(0 1 2 3 4 5 6 7 8);
