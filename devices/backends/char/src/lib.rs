//! What is at the host's end of a serial line: a terminal, a pseudo-terminal, a socket, a file, nothing.
//!
//! A [`Port`] joins a line to one [`Endpoint`]. Bytes from the guest are numbered from the beginning
//! of the run and pass through an [`Outbox`]; the number of the first byte that was neither delivered
//! nor given up is handed out after each write, so that a successor knows where to go on. An attached
//! but slow reader makes [`Port::output`] wait; with nobody attached the newest 64 KiB are kept.
//!
//! [`Console`] is the other end of the `Console` endpoint, in the process that holds the terminal,
//! with the [`Escape`] keys and [`RawTerminal`].
//!
//! Not here: rings, sessions, and the guest's UART.
#![forbid(unsafe_code)]

mod console;
mod endpoint;
mod escape;
mod outbox;
mod port;
mod terminal;

pub use console::{Console, socket_pair};
pub use endpoint::{Endpoint, listen, open_pty};
pub use escape::{Escape, HELP, Key};
pub use outbox::{KEPT, Outbox};
pub use port::{Input, Output, Port};
pub use terminal::{RawTerminal, Saved};
