//! What AVX and AVX2 have beyond the SSE operations on three operands or two halves: moves between the halves, broadcasts,
//! and fused multiply-add.
//!
//! | kind | sub | sub2 | width | operands |
//! |---|---|---|---|---|
//! | VecYmm | [`Ymm`] | | of a broadcast's lane | `imm` as the instruction has it |
//! | FpFma | [`crate::eval::FpFma`] | [`crate::eval::Fp`], and [`Order`] above it | | dst, src1, src |

use super::sse::{
    Form, both, fp_fma_of, fp_of, put, put_wide, scalar_width, source, source_low, source_wide,
};
use crate::eval::{Eval, VecBin, VecShuf};
use crate::op::{Arg, Op, Width};

/// Moves of 128-bit halves and of lanes across them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Ymm {
    /// The source's low lane to all lanes: VBROADCASTSS, VBROADCASTSD, VPBROADCASTx.
    Broadcast,
    /// 16 bytes of memory to both halves: VBROADCASTF128, VBROADCASTI128.
    BroadcastHalf,
    /// VINSERTF128, VINSERTI128.
    InsertHalf,
    /// VEXTRACTF128, VEXTRACTI128.
    ExtractHalf,
    /// VPERM2F128, VPERM2I128.
    PermuteHalves,
    /// VPERMQ, VPERMPD.
    PermuteQ,
    /// VZEROUPPER.
    ZeroUpper,
    /// VZEROALL.
    ZeroAll,
}

impl Ymm {
    fn of(n: u8) -> Ymm {
        use Ymm::*;
        const ALL: [Ymm; 8] = [
            Broadcast,
            BroadcastHalf,
            InsertHalf,
            ExtractHalf,
            PermuteHalves,
            PermuteQ,
            ZeroUpper,
            ZeroAll,
        ];
        ALL[n as usize]
    }
}

/// Which of dst, src1 and src are x, y and z of x * y + z: the digits of VFMADD132 and its relatives. It decides too which of
/// several NaNs is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Order {
    O132 = 0,
    O213 = 1,
    O231 = 2,
}

/// Evaluates a VecYmm.
pub(super) fn execute<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let imm = op.imm as u8;
    match Ymm::of(op.sub) {
        Ymm::Broadcast => broadcast(e, op, form)?,
        Ymm::BroadcastHalf => {
            let v = source(e, op, form, op.src_arg)?;
            put_wide(e, op, [v, v]);
        }
        Ymm::InsertHalf => {
            let v = source(e, op, form, op.src_arg)?;
            let mut r = both(e, op.src1);
            r[usize::from(imm & 1)] = v;
            put_wide(e, op, r);
        }
        Ymm::ExtractHalf => {
            let v = half(e, op.src, imm & 1);
            if op.dst_arg == Arg::Mem {
                let address = e.ea(op, 16)?;
                return e.store_x(address, false, v);
            }
            put(e, op, Form::Vex, v);
        }
        Ymm::PermuteHalves => {
            let b = source_wide(e, op, op.src_arg)?;
            let a = both(e, op.src1);
            let zero = e.x_const(0, 0);
            let r = [imm, imm >> 4].map(|n| match n & 15 {
                0..=1 => a[usize::from(n & 1)],
                2..=3 => b[usize::from(n & 1)],
                4..=7 => [a, b][usize::from(n >> 1 & 1)][usize::from(n & 1)],
                _ => zero,
            });
            put_wide(e, op, r);
        }
        Ymm::PermuteQ => {
            let b = source_wide(e, op, op.src_arg)?;
            let r = [imm, imm >> 4].map(|n| {
                let from = |n: u8| b[usize::from(n >> 1 & 1)];
                let lanes = n & 1 | (n >> 2 & 1) << 1;
                e.x_shuf(VecShuf::Pd, from(n), from(n >> 2), lanes)
            });
            put_wide(e, op, r);
        }
        Ymm::ZeroUpper | Ymm::ZeroAll => {
            let zero = e.x_const(0, 0);
            // Outside of 64-bit mode there are eight registers.
            for r in 0..if op.has(crate::op::OpFlags::LONG) {
                16
            } else {
                8
            } {
                if op.sub == Ymm::ZeroAll as u8 {
                    e.set_xmm(r, zero);
                }
                e.set_xmm_high(r, zero);
            }
        }
    }
    Ok(())
}

/// Half `n` of a register.
fn half<E: Eval>(e: &mut E, r: crate::op::Reg, n: u8) -> E::X {
    if n == 0 { e.xmm(r) } else { e.xmm_high(r) }
}

fn broadcast<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let v = source_low(e, op, op.src_arg, op.width)?;
    let v = match op.width {
        Width::B => {
            let first = e.x_const(0, 0);
            e.x_bin(VecBin::PshufB, v, first)
        }
        Width::W => {
            let v = e.x_shuf(VecShuf::Lw, v, v, 0);
            e.x_shuf(VecShuf::D, v, v, 0)
        }
        Width::D => e.x_shuf(VecShuf::D, v, v, 0),
        Width::Q => e.x_shuf(VecShuf::DupLoD, v, v, 0),
    };
    if form == Form::Wide {
        put_wide(e, op, [v, v]);
    } else {
        put(e, op, form, v);
    }
    Ok(())
}

/// VFMADDxxx to VFMSUBADDxxx. Scalar ones keep the rest of dst, which is its own first source.
pub(super) fn fma<E: Eval>(e: &mut E, op: &Op, form: Form) -> Result<(), E::Stop> {
    let (f, fp) = (fp_fma_of(op.sub), fp_of(op.sub2 & 3));
    let order = op.sub2 >> 2;
    let arrange = |first: E::X, second: E::X, third: E::X| match order {
        n if n == Order::O132 as u8 => [first, third, second],
        n if n == Order::O213 as u8 => [second, first, third],
        _ => [second, third, first],
    };
    if form == Form::Wide {
        let c = source_wide(e, op, op.src_arg)?;
        let (a, b) = (both(e, op.dst), both(e, op.src1));
        let r = e.halves(|e, i| e.fp_fma(f, fp, arrange(a[i], b[i], c[i]), a[i]))?;
        put_wide(e, op, r);
    } else {
        let c = match scalar_width(fp) {
            Some(w) => source_low(e, op, op.src_arg, w)?,
            None => source(e, op, form, op.src_arg)?,
        };
        let (a, b) = (e.xmm(op.dst), e.xmm(op.src1));
        let r = e.fp_fma(f, fp, arrange(a, b, c), a)?;
        put(e, op, form, r);
    }
    Ok(())
}
