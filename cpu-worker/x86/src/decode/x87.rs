//! Decoding of x87.

use iced_x86::Instruction;

use super::Ctx;
use crate::op::Op;

/// The instruction, if it is one of x87's.
pub(crate) fn decode(_i: &Instruction, _c: &Ctx) -> Option<Op> {
    None
}
