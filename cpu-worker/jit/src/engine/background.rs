//! The compile thread: it gets plans (copies of instructions and mappings) and gives machine code back.
//!
//! It never sees guest RAM, page tables or TLB. The engine's thread installs what comes back, and only if no line that the plan was made
//! from was written since. Of the plans that wait, the one whose head went on being hot the most goes first.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustc_hash::FxHashMap;

use super::regions::lines_meet;
use crate::compiler::{Compiled, Compiler};
use crate::plan::Plan;

/// Plans that wait at most.
const WAITING: usize = 256;
/// Plans at the thread at a time: one being compiled, one behind it.
const IN_FLIGHT: usize = 2;
const STACK: usize = 8 << 20;

/// A head: physical address and mode word.
pub(crate) type Place = (u64, u32);

#[derive(Debug)]
struct Waiting {
    /// What the plan was made from, as `Plan::code` gives it.
    code: Vec<(u64, u64)>,
    plan: Plan,
    /// How often the head was reported hot.
    votes: u32,
}

#[derive(Debug)]
struct Running {
    place: Place,
    code: Vec<(u64, u64)>,
    /// A line of it was written.
    stale: bool,
}

/// The thread and what was given to it.
#[derive(Debug)]
pub(crate) struct Background {
    plans: Option<Sender<Plan>>,
    results: Receiver<Option<Compiled>>,
    thread: Option<JoinHandle<()>>,
    waiting: FxHashMap<Place, Waiting>,
    /// In the order in which the results will come.
    running: std::collections::VecDeque<Running>,
}

impl Background {
    /// Starts the thread. None if the system has none to give.
    pub(crate) fn start() -> Option<Background> {
        let (plans, to_do) = channel::<Plan>();
        let (done, results) = channel();
        let work = move || {
            let mut compiler = Compiler::new();
            for plan in to_do {
                if done.send(compiler.compile(plan)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("compile".into())
            .stack_size(STACK)
            .spawn(work)
            .ok()?;
        Some(Background {
            plans: Some(plans),
            results,
            thread: Some(thread),
            waiting: FxHashMap::default(),
            running: Default::default(),
        })
    }

    /// Whether a plan with this head is under way; if it waits, it has one more vote.
    pub(crate) fn vote(&mut self, place: Place) -> bool {
        if let Some(w) = self.waiting.get_mut(&place) {
            w.votes += 1;
            return true;
        }
        self.running.iter().any(|r| r.place == place)
    }

    /// Whether enough plans wait: more would only grow old, and every store to code looks through them.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// Takes a plan.
    pub(crate) fn submit(&mut self, place: Place, plan: Plan) {
        let code = plan.code();
        self.waiting.insert(
            place,
            Waiting {
                plan,
                code,
                votes: 1,
            },
        );
        self.feed();
    }

    /// Gives the thread what it has room for.
    fn feed(&mut self) {
        while self.running.len() < IN_FLIGHT {
            let best = self
                .waiting
                .iter()
                .max_by_key(|(place, w)| (w.votes, **place));
            let Some((&place, _)) = best else {
                return;
            };
            let Some(w) = self.waiting.remove(&place) else {
                return;
            };
            let code = w.code;
            let sent = self.plans.as_ref().is_some_and(|p| p.send(w.plan).is_ok());
            if sent {
                self.running.push_back(Running {
                    place,
                    code,
                    stale: false,
                });
            }
        }
    }

    /// The next finished plan that is still true of the code in RAM: its head, and the region unless Cranelift refused it.
    pub(crate) fn poll(&mut self) -> Option<(Place, Option<Compiled>)> {
        while let Ok(result) = self.results.try_recv() {
            let job = self.running.pop_front()?;
            self.feed();
            if !job.stale {
                return Some((job.place, result));
            }
        }
        None
    }

    /// The bytes were written: plans made from a line of theirs are forgotten. Gives how many there were.
    pub(crate) fn invalidate(&mut self, address: u64, len: u64) -> usize {
        let touched =
            |code: &[(u64, u64)]| code.iter().any(|&(at, n)| lines_meet(at, n, address, len));
        let before = self.waiting.len();
        self.waiting.retain(|_, w| !touched(&w.code));
        let mut gone = before - self.waiting.len();
        for r in self.running.iter_mut().filter(|r| !r.stale) {
            r.stale = touched(&r.code);
            gone += usize::from(r.stale);
        }
        gone
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        for r in &mut self.running {
            r.stale = true;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Without plans to come the thread ends after the one it works on.
        self.plans = None;
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}
