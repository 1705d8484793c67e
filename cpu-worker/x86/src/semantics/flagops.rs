//! LAHF, SAHF, and the instructions that set one flag.

use crate::eval::Eval;
use crate::flags::{AF, CF, FlagOp, OF, PF, SF, ZF};
use crate::op::{AH, Kind, Width};

#[inline(always)]
pub fn execute<E: Eval>(e: &mut E, kind: Kind) -> Result<(), E::Stop> {
    let q = Width::Q;
    match kind {
        Kind::Cld => e.set_df(false),
        Kind::Std => e.set_df(true),
        Kind::Lahf => {
            let all = e.flag_bits();
            let fixed = e.imm(q, 2);
            let all = e.or(q, all, fixed);
            let low = e.trunc(q, Width::B, all);
            e.set_reg(Width::B, AH, low);
        }
        Kind::Sahf => {
            let ah = e.reg(Width::B, AH);
            let ah = e.zext(Width::B, q, ah);
            let mask = e.imm(q, SF | ZF | AF | PF | CF);
            let ah = e.and(q, ah, mask);
            let all = e.flag_bits();
            let overflow = e.imm(q, OF);
            let kept = e.and(q, all, overflow);
            let all = e.or(q, ah, kept);
            e.flags(FlagOp::Real, q, all, all, all);
        }
        _ => {
            let all = e.flag_bits();
            let carry = e.imm(q, CF);
            let all = match kind {
                Kind::Cmc => e.xor(q, all, carry),
                Kind::Stc => e.or(q, all, carry),
                _ => {
                    let others = e.imm(q, !CF);
                    e.and(q, all, others)
                }
            };
            e.flags(FlagOp::Real, q, all, all, all);
        }
    }
    Ok(())
}
