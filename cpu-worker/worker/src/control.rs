//! The worker's side of the broker: the session, the clock page, and the bell on which the worker sleeps.
//!
//! A thread of its own reads the session, so that the run loop never does a system call to find out that nothing came: it looks at two atomics.
//! That thread touches nothing of the machine.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atoll_abi::clock::{ClockPage, Policy, RunState, WorkerState};
use atoll_abi::control::Control;
use atoll_abi::{LinkId, VirtualTime};
use atoll_transport::{Doorbell, Session, View, Waiter, monotonic_ns};

/// What the reading thread found, for the run loop.
#[derive(Debug, Default)]
struct Inbox {
    arrived: AtomicU32,
    hung_up: AtomicBool,
    stop: AtomicBool,
    messages: Mutex<Vec<Control>>,
}

/// See the module's documentation.
pub struct Wire {
    clock: View<ClockPage>,
    broker_bell: Doorbell,
    waiter: Waiter,
    inbox: Arc<Inbox>,
    links: Vec<LinkId>,
    /// Wall time in which virtual time stood still for a reply, and in which the guest was idle.
    pub waited_ns: u64,
    pub idle_wall_ns: u64,
    waiting_since: Option<Instant>,
    started: Instant,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("inbox", &self.inbox)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Takes over the receiving half of the session. `links` are the ids of the links by place.
    pub fn new(
        clock: View<ClockPage>,
        bell: &Doorbell,
        links: Vec<LinkId>,
        session: Session,
    ) -> Wire {
        let inbox = Arc::new(Inbox::default());
        let (shared, ring) = (Arc::clone(&inbox), bell.clone());
        std::thread::Builder::new()
            .name("session".into())
            .spawn(move || read_session(session, &shared, &ring))
            .expect("a thread can be started when the process has just begun");
        let broker_bell = Doorbell::new(clock.map(|page| &page.broker_bell));
        Wire {
            clock,
            broker_bell,
            waiter: bell.waiter(),
            inbox,
            links,
            waited_ns: 0,
            idle_wall_ns: 0,
            waiting_since: None,
            started: Instant::now(),
        }
    }

    /// Wall time since the worker attached.
    pub fn wall_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    pub fn waiter(&mut self) -> &mut Waiter {
        &mut self.waiter
    }

    /// The broker is gone, or wants the run to end.
    pub fn ended(&self) -> bool {
        self.inbox.hung_up.load(Ordering::Acquire)
            || self.inbox.stop.load(Ordering::Acquire)
            || self.clock.run_state() == RunState::Stopping
    }

    pub fn hung_up(&self) -> bool {
        self.inbox.hung_up.load(Ordering::Acquire)
    }

    /// Notes for `atoll ps` that virtual time stands still for the link of `place`, or that it goes on.
    pub fn waiting(&mut self, place: Option<u16>) {
        match place {
            Some(place) => {
                let link = self.links.get(usize::from(place)).copied();
                self.waiting_since = Some(Instant::now());
                self.clock.set_worker_state(WorkerState::Waiting, link);
            }
            None => {
                let since = self.waiting_since.take();
                self.waited_ns += since.map_or(0, |since| since.elapsed().as_nanos() as u64);
                self.clock.set_worker_state(WorkerState::Running, None);
            }
        }
    }

    /// Waits until `ready`, a second at a time so that the heartbeat goes on, or until the run ends.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) {
        let (inbox, clock) = (&self.inbox, &self.clock);
        let ended = || {
            inbox.hung_up.load(Ordering::Acquire)
                || inbox.stop.load(Ordering::Acquire)
                || clock.run_state() == RunState::Stopping
        };
        self.waiter
            .wait(Some(Instant::now() + Duration::from_secs(1)), || {
                ready() || ended()
            });
        self.beat();
    }

    /// Sleeps until `ready`, a control message, the end of the run, or the deadline.
    pub fn sleep(&mut self, deadline: Option<Instant>, ready: impl Fn(&Wire) -> bool) {
        // The waiter is taken out so that `ready` may look at everything else.
        let bell = self.waiter.doorbell();
        let mut waiter = std::mem::replace(&mut self.waiter, bell.waiter());
        let most = Instant::now() + Duration::from_millis(500);
        let until = deadline.map_or(most, |deadline| deadline.min(most));
        waiter.wait(Some(until), || {
            ready(self) || self.has_messages() || self.ended()
        });
        self.waiter = waiter;
        self.beat();
    }

    /// A sign of life where virtual time stands still.
    pub fn beat(&self) {
        self.clock.beat();
    }

    pub fn has_messages(&self) -> bool {
        self.inbox.arrived.load(Ordering::Acquire) != 0
    }

    /// The control messages that came.
    pub fn take_messages(&mut self) -> Vec<Control> {
        if !self.has_messages() {
            return Vec::new();
        }
        self.inbox.arrived.store(0, Ordering::Release);
        std::mem::take(
            &mut *self
                .inbox
                .messages
                .lock()
                .expect("no panic happens under this lock"),
        )
    }

    pub fn policy(&self) -> Policy {
        self.clock.policy()
    }

    /// The virtual time that the worker may not pass now; its own time while it is held.
    pub fn horizon(&self, now_ns: u64) -> u64 {
        if self.clock.run_state() != RunState::Running {
            return now_ns;
        }
        let horizon = self.clock.horizon().ns();
        match self.clock.policy() {
            Policy::Exact => horizon,
            Policy::Paced => horizon.min(self.paced_limit(now_ns)),
        }
    }

    /// In `paced` virtual time is never ahead of the wall clock, but for the slack that makes looking at the clock cheap.
    fn paced_limit(&self, now_ns: u64) -> u64 {
        const SLACK_NS: u64 = 1_000_000;
        let reached = self.virtual_now();
        if reached >= now_ns {
            reached.saturating_add(SLACK_NS)
        } else {
            now_ns
        }
    }

    /// The virtual time that the wall clock has reached.
    pub fn virtual_now(&self) -> u64 {
        self.clock.pace().virtual_at(monotonic_ns()).ns()
    }

    /// When the wall clock reaches a virtual time.
    pub fn wall_of(&self, at_ns: u64) -> Instant {
        let wall = self.clock.pace().wall_at(VirtualTime(at_ns));
        Instant::now() + Duration::from_nanos(wall.saturating_sub(monotonic_ns()))
    }

    pub fn is_running(&self) -> bool {
        self.clock.run_state() == RunState::Running
    }

    pub fn publish(&self, now_ns: u64, instructions: u64) {
        self.clock.publish_now(VirtualTime(now_ns), instructions);
    }

    pub fn set_state(&self, state: WorkerState) {
        self.clock.set_worker_state(state, None);
        if matches!(state, WorkerState::AtHorizon | WorkerState::Stopped) {
            self.broker_bell.ring();
        }
    }
}

fn read_session(mut session: Session, inbox: &Inbox, bell: &Doorbell) {
    loop {
        match session.recv(None) {
            Ok(Some(message)) => {
                if matches!(message.control, Control::Stop { .. }) {
                    inbox.stop.store(true, Ordering::Release);
                }
                inbox
                    .messages
                    .lock()
                    .expect("no panic happens under this lock")
                    .push(message.control);
                inbox.arrived.fetch_add(1, Ordering::Release);
            }
            Ok(None) => {}
            Err(_) => {
                inbox.hung_up.store(true, Ordering::Release);
                bell.ring();
                return;
            }
        }
        bell.ring();
    }
}
