//! What a hostile user's image or guest can do to the board, as functions of arbitrary bytes: the bodies of fuzz targets and of
//! property tests. Each must return, whatever the bytes.

mod accesses;
mod kernel;

pub use accesses::accesses;
pub use kernel::kernel;
