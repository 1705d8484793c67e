//! The quick translator: the first tier, from a plan to host code in one pass.
//!
//! It costs about half a microsecond an instruction where Cranelift costs thirty. The meanings are
//! the same: `semantics::execute` writes an instruction down as items ([`items`]), and [`emit`] turns those into host instructions one by
//! one. What it cannot do it leaves to the instruction's function, as regions of the second tier do. Code that stays hot reports
//! itself, and is then made anew by Cranelift.

mod asm;
mod emit;
mod hosts;
mod items;
mod region;

pub(crate) use region::compile;
