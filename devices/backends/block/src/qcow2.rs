//! What this crate knows of qcow2 beside the format driver.
//!
//! Source: QEMU, docs/interop/qcow2.txt.

mod header;
mod tables;

pub(crate) use header::examine;
pub(crate) use tables::{Tables, l1_is_counted};
