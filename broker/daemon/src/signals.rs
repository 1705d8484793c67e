//! The signals that the broker takes, and what they mean to it.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals become a descriptor. They are blocked rather than ignored, because children inherit what is ignored.
///
/// SIGINT, SIGHUP and SIGQUIT go to everybody at a terminal, and its owner decides what they mean; SIGTTOU and SIGTTIN would stop a
/// broker that puts the terminal back from the background.
pub(crate) fn take() -> Result<SignalFd, String> {
    let signals = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGTTOU,
        Signal::SIGTTIN,
    ];
    let signals: SigSet = signals.into_iter().collect();
    let taken = signals.thread_block();
    let taken = taken.and_then(|()| {
        SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
    });
    taken.map_err(|errno| format!("cannot take signals: {errno}"))
}

/// Was SIGTERM among the signals that came?
pub(crate) fn was_terminated(signals: &SignalFd) -> bool {
    let mut terminated = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        terminated |= signal.ssi_signo == Signal::SIGTERM as u32;
    }
    terminated
}
