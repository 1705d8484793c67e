//! Disk images as block devices.
//!
//! What it is: the back end behind a virtio-blk (or any other) disk model. [`open`] turns a
//! [`Config`] into a [`Disk`], whose calls are synchronous and take effect in the order in which
//! they are made. The formats are `raw` and `qcow2`; the `imago` crate reads and writes them, this
//! crate decides what may be opened, by whom, and what a flush means.
//!
//! What it is not: it knows no guest register, no ring, no process and no clock. A reply is a pure
//! function of the calls so far and of the initial images, except where the host itself fails (a
//! full disk, a broken one).
//!
//! Invariants:
//! * Nothing is opened that the configuration does not name or allow: a qcow2 header may ask for
//!   any path on the host, and only [`Backing`] says yes.
//! * An image is locked before its content is trusted, by the byte ranges that QEMU uses, so that
//!   two programs never write one image at the same time.
//! * A call that returned is *applied*: every later read of this or of a successor's `Disk` sees
//!   it, provided that calls since the last [`Disk::settle`] are repeated in order after a kill.
//!   [`Disk::flush`] alone makes data survive a loss of power.
#![forbid(unsafe_code)]

mod chain;
mod config;
mod disk;
mod error;
mod file;
mod holder;
pub mod hostile;
mod image;
mod lock;
mod probe;
mod qcow2;

pub use chain::{Role, StorageHook, open, open_with};
pub use config::{Backing, Cache, Config, Discard, Format, Locking, Snapshot};
pub use disk::{Disk, Info};
pub use error::{Error, Kind};
