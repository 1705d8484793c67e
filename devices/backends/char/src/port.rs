//! A serial line's port: one thread brings output, another looks after the host's end.
//!
//! [`Port::output`] returns once its bytes are delivered or, with nobody attached, kept. [`Port::host`]
//! delivers what could not be written at once, accepts readers, and brings input. Both hold the one
//! lock only while nothing blocks.

use crate::endpoint::{Endpoint, Interest};
use crate::escape::Key;
use crate::outbox::Outbox;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long input is held back before it is offered again to a guest that had no room.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
/// How long an attached reader may take for the last bytes when the run ends.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// The guest's side of the input, and who hears about the host's end.
pub trait Input {
    /// How many bytes the guest was given since the run began.
    fn count(&self) -> u64;
    /// Gives bytes; how many there was room for.
    ///
    /// # Errors
    /// When the line to the guest is broken.
    fn give(&mut self, text: &[u8]) -> io::Result<usize>;
    /// Somebody attached or went away.
    fn attached(&mut self, attached: bool);
    /// The user asked for something.
    fn key(&mut self, key: Key);
}

/// What became of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Delivered or kept: the request may be answered.
    Taken,
    /// The port ended first.
    Ended,
}

/// See the module's documentation.
pub struct Port {
    state: Mutex<State>,
    changed: Condvar,
    wake: OwnedFd,
    /// Told the number of the first byte that was not dealt with, after each write.
    dealt_with: Box<dyn Fn(u64) + Send + Sync>,
}

struct State {
    endpoint: Endpoint,
    outbox: Outbox,
    ended: Option<Instant>,
    failed: Option<String>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

impl Port {
    /// A port whose bytes below `first` were dealt with by a predecessor.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub fn new(
        endpoint: Endpoint,
        first: u64,
        dealt_with: impl Fn(u64) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let outbox = Outbox::starting_at(first);
        Ok(Self {
            state: Mutex::new(State {
                endpoint,
                outbox,
                ended: None,
                failed: None,
            }),
            changed: Condvar::new(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            dealt_with: Box::new(dealt_with),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the first byte that is not dealt with.
    pub fn first(&self) -> u64 {
        self.lock().outbox.first()
    }

    /// Bytes that a predecessor took and that are not dealt with: they wait for a reader.
    pub fn restore(&self, number: u64, bytes: &[u8]) {
        let mut state = self.lock();
        state.outbox.push(number, bytes);
        drop(state);
        self.wake();
    }

    /// Output from the guest; waits while an attached reader is slow.
    ///
    /// # Errors
    /// When the host cannot take output any more, such as a full disk.
    pub fn output(&self, number: u64, bytes: &[u8]) -> io::Result<Output> {
        let mut state = self.lock();
        state.outbox.push(number, bytes);
        let end = state.outbox.end();
        self.deliver(&mut state)?;
        while state.outbox.first() < end && state.endpoint.is_attached() {
            if let Some(failed) = &state.failed {
                return Err(io::Error::other(failed.clone()));
            }
            let left = match state.ended {
                Some(since) => LAST_BYTES.saturating_sub(since.elapsed()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return Ok(Output::Ended);
            }
            self.wake();
            let waited = self
                .changed
                .wait_timeout(state, left.min(Duration::from_secs(3600)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.ended.is_some() {
                // The host's thread may have ended; deliver without it.
                self.deliver(&mut state)?;
                let pause = self.changed.wait_timeout(state, Duration::from_millis(5));
                state = pause.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        if !state.endpoint.is_attached() {
            state.outbox.keep_newest();
            (self.dealt_with)(state.outbox.first());
        }
        Ok(Output::Taken)
    }

    /// Writes as much as there is room for.
    fn deliver(&self, state: &mut State) -> io::Result<()> {
        while !state.outbox.is_empty() && state.endpoint.is_attached() {
            let State {
                endpoint, outbox, ..
            } = state;
            let Some(count) = endpoint.write(outbox.first(), outbox.front())? else {
                break;
            };
            outbox.advance(count);
            (self.dealt_with)(outbox.first());
        }
        Ok(())
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Looks after the host's end until `end` is readable.
    ///
    /// # Errors
    /// When the host's end is broken, or the guest's.
    pub fn host(&self, input: &mut dyn Input, end: BorrowedFd<'_>) -> io::Result<()> {
        let result = self.host_loop(input, end);
        let mut state = self.lock();
        state.ended = Some(Instant::now());
        state.failed = result.as_ref().err().map(io::Error::to_string);
        drop(state);
        self.changed.notify_all();
        result
    }

    fn host_loop(&self, input: &mut dyn Input, end: BorrowedFd<'_>) -> io::Result<()> {
        let mut held: Vec<u8> = Vec::new();
        let mut was_attached = false;
        loop {
            let interest = {
                let mut state = self.lock();
                state.endpoint.look()?;
                self.deliver(&mut state)?;
                self.changed.notify_all();
                bring(&mut state.endpoint, &mut held, input)?;
                let attached = state.endpoint.is_attached();
                if attached != was_attached {
                    was_attached = attached;
                    input.attached(attached);
                }
                let writing = !state.outbox.is_empty();
                state.endpoint.interest(held.is_empty(), writing)
            };
            if self.wait(&interest, (!held.is_empty()).then_some(OFFER_AGAIN), end)? {
                return Ok(());
            }
        }
    }

    /// Waits for something to do; `true` at the end.
    fn wait(
        &self,
        interest: &Interest,
        most: Option<Duration>,
        end: BorrowedFd<'_>,
    ) -> io::Result<bool> {
        let timeout = [interest.timeout, most].into_iter().flatten().min();
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut fds = vec![
            PollFd::new(&end, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        fds.extend(
            interest
                .fds
                .iter()
                .map(|(fd, events)| PollFd::new(&**fd, *events)),
        );
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count[..]);
        Ok(!fds[0].revents().is_empty())
    }
}

/// Moves input from the host's end to the guest, as far as there is room.
fn bring(endpoint: &mut Endpoint, held: &mut Vec<u8>, input: &mut dyn Input) -> io::Result<()> {
    loop {
        let fresh = held.is_empty();
        if fresh {
            *held = endpoint.read(input.count())?;
        }
        for key in endpoint.take_keys() {
            input.key(key);
        }
        if held.is_empty() {
            return Ok(());
        }
        let given = input.give(held)?;
        held.drain(..given);
        if !held.is_empty() {
            return Ok(());
        }
        endpoint.taken();
    }
}
