//! Decoding of the instructions that are functions of `Cpu`.

use iced_x86::Instruction;

use super::Ctx;
use crate::op::Op;

/// The instruction, if it is one of these.
pub(crate) fn decode(_i: &Instruction, _c: &Ctx) -> Option<Op> {
    None
}
