//! Decoding of string instructions.

use iced_x86::Instruction;

use super::Ctx;
use crate::op::Op;

/// The instruction, if it is a string instruction.
pub(crate) fn decode(_i: &Instruction, _c: &Ctx) -> Option<Op> {
    None
}
