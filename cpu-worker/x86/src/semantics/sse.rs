//! SSE to SSE4.2: the lifted instructions.

use crate::eval::Eval;
use crate::op::Op;

/// Evaluates a lifted vector instruction.
pub fn execute<E: Eval>(_e: &mut E, _op: &Op) -> Result<(), E::Stop> {
    Ok(())
}
