//! The process's line to its broker while it serves.
//!
//! One thread owns the receiving end of the session: it takes orders, sends a heartbeat with the
//! link's progress, and ends the process when it is told to, when the broker hangs up, or at
//! SIGTERM. Whoever serves asks [`Control::ending`], and is woken by the doorbells and the event that
//! it registered. SIGINT and SIGHUP do nothing: they go to every process of a terminal, and the one
//! that owns the console decides what they mean.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atoll_abi::control::{ConsoleRequest, Control as Order, Fault, FaultKind, LogLevel, LogRecord};
use atoll_transport::{Doorbell, Error, LinkMemory, Session};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::attach::fault;

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// The broker asked.
    Asked = 1,
    /// The broker is gone.
    HangUp = 2,
    /// SIGTERM.
    Signal = 3,
}

/// The line to the broker. Clones are the same line.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// A second handle of the session's socket: sending and receiving do not wait for each other.
    sender: Mutex<Session>,
    ending: AtomicU8,
    progress: AtomicU64,
    link: Mutex<Option<LinkMemory>>,
    bells: Mutex<Vec<Doorbell>>,
    ended: OwnedFd,
    started: Mutex<bool>,
    changed: Condvar,
}

/// No thread panics while it holds one of these locks; if one does, the data are still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    pub(crate) fn new(session: &Session) -> Result<Control, Fault> {
        let host = |error: std::io::Error| fault(FaultKind::Host, error);
        let sender = session.as_fd().try_clone_to_owned().map_err(host)?;
        let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| host(errno.into()))?;
        Ok(Control {
            shared: Arc::new(Shared {
                sender: Mutex::new(Session::from_fd(sender)),
                ending: AtomicU8::new(0),
                progress: AtomicU64::new(0),
                link: Mutex::new(None),
                bells: Mutex::new(Vec::new()),
                ended,
                started: Mutex::new(false),
                changed: Condvar::new(),
            }),
        })
    }

    /// Whether, and why, this process has to end.
    pub fn ending(&self) -> Option<Ending> {
        match self.shared.ending.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Ending::Asked),
            2 => Some(Ending::HangUp),
            _ => Some(Ending::Signal),
        }
    }

    /// Rings `bell` when the process has to end, for who sleeps on it.
    pub fn ring_at_end(&self, bell: Doorbell) {
        lock(&self.shared.bells).push(bell);
        if self.ending().is_some() {
            self.wake();
        }
    }

    /// Readable once the process has to end, for who polls.
    pub fn end_event(&self) -> BorrowedFd<'_> {
        self.shared.ended.as_fd()
    }

    /// Heartbeats report the progress of this link.
    pub fn watch(&self, link: &LinkMemory) {
        *lock(&self.shared.link) = Some(link.clone());
        self.ring_at_end(link.server_bell());
    }

    /// Something was done that no link counts.
    pub fn beat(&self) {
        self.shared.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for the order to begin; `false` if the end came first.
    pub fn wait_start(&self) -> bool {
        let mut started = lock(&self.shared.started);
        while !*started && self.ending().is_none() {
            started = self
                .shared
                .changed
                .wait(started)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *started
    }

    /// One line for the machine's log.
    pub fn log(&self, level: LogLevel, text: impl Into<String>) {
        self.send(&Order::Log(LogRecord {
            level,
            at: None,
            text: text.into(),
        }));
    }

    /// The user asked for something at the console.
    pub fn console(&self, request: ConsoleRequest) {
        self.send(&Order::Console(request));
    }

    /// Sends a message. That nobody reads it is noticed by the receiving thread.
    pub(crate) fn send(&self, order: &Order) {
        let _ = lock(&self.shared.sender).send(order);
    }

    fn end(&self, ending: Ending) {
        let _ = self.shared.ending.compare_exchange(
            0,
            ending as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        self.wake();
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.shared.ended, &1u64.to_ne_bytes());
        for bell in lock(&self.shared.bells).iter() {
            bell.ring();
        }
        // The lock makes sure that a waiter is either before its test or asleep.
        let _started = lock(&self.shared.started);
        self.shared.changed.notify_all();
    }

    fn heartbeat(&self) {
        let counted = self.shared.progress.load(Ordering::Relaxed);
        let served = lock(&self.shared.link)
            .as_ref()
            .map_or(0, LinkMemory::progress);
        self.send(&Order::Heartbeat {
            progress: counted.wrapping_add(served),
        });
    }
}

/// Turns the signals that concern this process into a descriptor. Call before any other thread is
/// started, and before the sandbox.
pub(crate) fn take_signals() -> Result<SignalFd, String> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals
        .thread_block()
        .and_then(|()| {
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        })
        .map_err(|errno| format!("cannot take signals: {errno}"))
}

/// Starts the thread that listens to the broker.
pub(crate) fn spawn(control: &Control, session: Session, signals: SignalFd) -> Result<(), Fault> {
    let control = control.clone();
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let ending = listen(&control, session, &signals);
            control.end(ending);
        })
        .map_err(|error| fault(FaultKind::Host, format!("cannot start a thread: {error}")))?;
    Ok(())
}

fn listen(control: &Control, mut session: Session, signals: &SignalFd) -> Ending {
    let mut next_beat = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next_beat {
            control.heartbeat();
            next_beat = now + HEARTBEAT;
        }
        let timeout = (next_beat - now).try_into().ok();
        let mut ready = [
            PollFd::new(&session, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        // An interrupted wait is a short wait.
        let _ = poll(&mut ready, timeout.as_ref());
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                return Ending::Signal;
            }
        }
        if let Some(ending) = take_orders(control, &mut session) {
            return ending;
        }
    }
}

fn take_orders(control: &Control, session: &mut Session) -> Option<Ending> {
    loop {
        match session.try_recv() {
            Ok(None) => return None,
            Ok(Some(message)) => match message.control {
                Order::Start => {
                    *lock(&control.shared.started) = true;
                    control.wake_starter();
                }
                Order::Stop { .. } => return Some(Ending::Asked),
                // What else there is concerns the worker.
                _ => {}
            },
            Err(Error::HangUp) => return Some(Ending::HangUp),
            Err(error) => {
                control.send(&Order::Fault(fault(FaultKind::Protocol, error)));
                return Some(Ending::HangUp);
            }
        }
    }
}

impl Control {
    fn wake_starter(&self) {
        self.shared.changed.notify_all();
    }
}
