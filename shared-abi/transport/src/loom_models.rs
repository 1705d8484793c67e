//! The ring and the doorbell under loom: every interleaving and every outcome that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p atoll-transport --release --target-dir target/loom --lib`.

use crate::ring::{self, RingSlots, SlotWords};
use crate::sleep::{self, Sleeping};
use crate::sync::{AtomicU64, Ordering};
use atoll_abi::Slot;
use atoll_abi::slot::Kind;
use core::time::Duration;
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A ring of two slots, small enough to wrap within a model.
struct Ring {
    slots: [SlotWords; 2],
    taken: AtomicU64,
}

impl Ring {
    fn new() -> Self {
        let slot = || core::array::from_fn(|_| AtomicU64::new(0));
        Self {
            slots: [slot(), slot()],
            taken: AtomicU64::new(0),
        }
    }
}

impl RingSlots for Ring {
    fn slots(&self) -> u64 {
        2
    }

    fn slot(&self, index: u64) -> &SlotWords {
        &self.slots[index as usize]
    }
}

/// A futex as the kernel promises it: comparing and going to sleep are one step.
struct Futex {
    word: AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            queue: Mutex::new(()),
            woken: Condvar::new(),
        }
    }
}

impl Sleeping for Futex {
    fn load(&self, order: Ordering) -> u32 {
        self.word.load(order)
    }

    fn store(&self, value: u32, order: Ordering) {
        self.word.store(value, order);
    }

    fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.word.swap(value, order)
    }

    fn futex_wait(&self, _: Option<Duration>) {
        let queue = self.queue.lock().unwrap();
        if self.word.load(Ordering::SeqCst) == 1 {
            drop(self.woken.wait(queue).unwrap());
        }
    }

    fn futex_wake(&self) {
        let _queue = self.queue.lock().unwrap();
        self.woken.notify_all();
    }
}

fn message(position: u64) -> Slot {
    Slot {
        stamp: position + 1,
        seq: position,
        words: [position + 2; 4],
        arg: 7,
        ..Slot::of(Kind::Reply)
    }
}

/// A slot that is seen is seen whole, each once and in order, and a slot is not reused before it was copied out.
#[test]
fn a_queue_hands_over_whole_slots_in_order() {
    loom::model(|| {
        let ring = Arc::new(Ring::new());
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                for position in 0..3 {
                    while position - ring.taken.load(Ordering::Acquire) >= 2 {
                        thread::yield_now();
                    }
                    ring::publish(&*ring, position, message(position));
                }
            })
        };
        for position in 0..3 {
            let slot = loop {
                match ring::take(&*ring, position) {
                    Some(slot) => break slot,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(slot, message(position));
            ring.taken.store(position + 1, Ordering::Release);
        }
        producer.join().unwrap();
        assert!(ring::take(&*ring, 3).is_none());
    });
}

/// The payload is written before the commit word, and whoever sees the one sees the other.
#[test]
fn a_commit_word_publishes_the_payload() {
    struct Link {
        ring: Ring,
        payload: UnsafeCell<u64>,
    }
    // SAFETY: the model checks that no two threads touch the payload at once.
    unsafe impl Sync for Link {}

    loom::model(|| {
        let link = Arc::new(Link {
            ring: Ring::new(),
            payload: UnsafeCell::new(0),
        });
        let server = {
            let link = link.clone();
            thread::spawn(move || {
                // SAFETY: the client does not look before the commit; loom fails the model if it does.
                link.payload.with_mut(|payload| unsafe { *payload = 42 });
                ring::publish(&link.ring, 0, message(0));
            })
        };
        if ring::is_published(&link.ring, 0) {
            // SAFETY: committed, so the server is done with it; loom fails the model if not.
            assert_eq!(link.payload.with(|payload| unsafe { *payload }), 42);
        }
        server.join().unwrap();
    });
}

/// The sleeper always learns of the work: a lost wake-up would be a deadlock, which loom reports.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let shared = Arc::new((Futex::new(), AtomicU64::new(0)));
        let waker = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.store(1, Ordering::Release);
                sleep::ring(&shared.0);
            })
        };
        let ready = || shared.1.load(Ordering::Acquire) == 1;
        while !ready() {
            sleep::sleep_unless(&shared.0, ready, None);
        }
        waker.join().unwrap();
    });
}

/// Two wakers, as a reply and a move of the horizon: the sleeper goes on only when it has seen both.
#[test]
fn no_wake_up_is_lost_with_two_wakers() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((Futex::new(), [AtomicU64::new(0), AtomicU64::new(0)]));
        let wakers = [0, 1].map(|which: usize| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1[which].store(1, Ordering::Release);
                sleep::ring(&shared.0);
            })
        });
        let ready = || {
            shared
                .1
                .iter()
                .all(|work| work.load(Ordering::Acquire) == 1)
        };
        while !ready() {
            sleep::sleep_unless(&shared.0, ready, None);
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}
