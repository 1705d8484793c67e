//! The world outside of a real worker: the broker's clock and messages, and the input rings of its links.

use atoll_abi::clock::{Policy, WorkerState};
use atoll_abi::control::Control;

use crate::links::SharedLinks;
use crate::vcpu::{Inputs, Outside};

/// See the module's documentation.
pub struct Broker {
    links: SharedLinks,
    /// Takes the lines of the trail.
    record: Box<dyn FnMut(&str)>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

impl Broker {
    pub fn new(links: SharedLinks, record: Box<dyn FnMut(&str)>) -> Broker {
        Broker { links, record }
    }
}

impl Outside for Broker {
    fn poll(&mut self, now_ns: u64, room: &dyn Fn(u16) -> usize) -> Inputs {
        let mut links = self.links.lock();
        links.flush(now_ns);
        let mut inputs = Inputs::default();
        for message in links.wire().take_messages() {
            match message {
                Control::PowerButton => inputs.power_button = true,
                Control::Reset => inputs.reset = true,
                // A successor finds everything in the link's segment; ringing it is all that it may need, and the next request does.
                _ => {}
            }
        }
        inputs.bytes = links.take_input(room);
        inputs.stop = links.wire().ended();
        inputs
    }

    fn horizon(&mut self, now_ns: u64) -> u64 {
        let mut links = self.links.lock();
        let horizon = links.wire().horizon(now_ns);
        if horizon > now_ns {
            return horizon;
        }
        let at_horizon = !links.wire().is_running() || links.wire().policy() == Policy::Exact;
        if at_horizon {
            links.wire().set_state(WorkerState::AtHorizon);
        }
        let deadline = (!at_horizon).then(|| links.wire().wall_of(now_ns));
        links.sleep(deadline, |wire| wire.horizon(now_ns) > now_ns);
        links.wire().set_state(WorkerState::Running);
        links.wire().horizon(now_ns)
    }

    fn idle(&mut self, now_ns: u64, next_ns: Option<u64>) -> u64 {
        if let Some(next) = next_ns
            && self.may_skip_to(now_ns, next)
        {
            return next;
        }
        self.sleep_idle(now_ns, next_ns)
    }

    fn publish(&mut self, now_ns: u64, instructions: u64) {
        self.links.lock().wire().publish(now_ns, instructions);
    }

    fn record(&mut self, line: &str) {
        (self.record)(line);
    }
}

impl Broker {
    /// Sends what was gathered; then, in `exact`, idle time up to the horizon is skipped.
    fn may_skip_to(&mut self, now_ns: u64, next_ns: u64) -> bool {
        let mut links = self.links.lock();
        links.flush(now_ns);
        let wire = links.wire();
        wire.policy() == Policy::Exact && next_ns <= wire.horizon(now_ns)
    }

    /// Sleeps until the next event's wall time or until input comes; gives the virtual time that the wall clock has reached then.
    fn sleep_idle(&mut self, now_ns: u64, next_ns: Option<u64>) -> u64 {
        let mut links = self.links.lock();
        let started = std::time::Instant::now();
        links.wire().set_state(WorkerState::Idle);
        let paced = links.wire().policy() == Policy::Paced;
        let deadline = next_ns
            .filter(|_| paced)
            .map(|next| links.wire().wall_of(next));
        links.sleep(deadline, |_| false);
        links.wire().idle_wall_ns += started.elapsed().as_nanos() as u64;
        links.wire().set_state(WorkerState::Running);
        if !paced {
            // Only input or the broker ends this wait; virtual time stood still.
            return now_ns;
        }
        let reached = links.wire().virtual_now().max(now_ns);
        next_ns.map_or(reached, |next| reached.min(next))
    }
}
