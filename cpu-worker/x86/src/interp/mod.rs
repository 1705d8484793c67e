//! The interpreter: [`crate::Eval`] on integers, a handler for each operand form, and cached decoded blocks.

mod blocks;
mod eval;
pub mod eval_fp;
pub mod eval_vec;
mod handlers;
pub(crate) mod run;
pub(crate) mod sse_run;
mod step;

pub use blocks::BlockCache;
pub(crate) use eval::signed_48;
pub(crate) use handlers::handler;
pub use run::{Exit, Interpreter};
