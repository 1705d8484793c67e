//! Decoding of SSE to SSE4.2, MMX, AES, PCLMUL and the state instructions (FXSAVE, XSAVE, LDMXCSR ...).

use iced_x86::Instruction;

use super::Ctx;
use crate::op::Op;

/// The instruction, if it belongs to these families.
pub(crate) fn decode(_i: &Instruction, _c: &Ctx) -> Option<Op> {
    None
}
