//! The event wheel: everything that is to happen at a known virtual time, in the one order that all hosts agree on.
//!
//! An event is due at the first instruction boundary whose virtual time is at or after its own. Equal times go by class
//! (completions, timers, lines, input), then by the device's place in the machine file, then by sequence number; never by attach or
//! arrival. The wheel belongs to the machine, not to a vCPU.
//!
//! Timers are re-armed far more often than they fire, so arming only notes the newest sequence number and leaves the old
//! entry in the heap, to be dropped when it surfaces.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is due. The order of the variants is the order of classes at equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The reply to a device's request takes effect.
    Completion {
        device: u16,
        token: u64,
        ticket: u64,
    },
    /// A device's timer fires.
    Timer { device: u16, timer: u16 },
    /// The local APIC's timer fires.
    LapicTimer,
    /// The script types its next bytes.
    Script,
}

impl Event {
    fn class(self) -> u8 {
        match self {
            Event::Completion { .. } => 0,
            Event::Timer { .. } | Event::LapicTimer => 1,
            Event::Script => 3,
        }
    }

    /// The place by which equal classes are ordered; the CPU's own timer comes first.
    fn place(self) -> u16 {
        match self {
            Event::Completion { device, .. } | Event::Timer { device, .. } => device + 1,
            Event::LapicTimer | Event::Script => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at_ns: u64,
    class: u8,
    place: u16,
    seq: u64,
    event: Event,
}

/// The timers that can be armed: one slot each, holding the sequence number of the entry that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TimerKey {
    Device(u16, u16),
    Lapic,
    Script,
}

fn timer_key(event: Event) -> Option<TimerKey> {
    match event {
        Event::Completion { .. } => None,
        Event::Timer { device, timer } => Some(TimerKey::Device(device, timer)),
        Event::LapicTimer => Some(TimerKey::Lapic),
        Event::Script => Some(TimerKey::Script),
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Wheel {
    heap: BinaryHeap<Reverse<Entry>>,
    armed: rustc_hash::FxHashMap<TimerKey, u64>,
    next_seq: u64,
}

impl Wheel {
    /// Schedules `event` at `at_ns`. A timer that was armed is moved.
    pub fn schedule(&mut self, at_ns: u64, event: Event) {
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(key) = timer_key(event) {
            self.armed.insert(key, seq);
        }
        self.heap.push(Reverse(Entry {
            at_ns,
            class: event.class(),
            place: event.place(),
            seq,
            event,
        }));
        self.compact();
    }

    /// Disarms a timer; nothing happens if it is not armed.
    pub fn cancel(&mut self, event: Event) {
        if let Some(key) = timer_key(event) {
            self.armed.remove(&key);
        }
    }

    /// When the next event is due; None when nothing is scheduled.
    pub fn next_ns(&mut self) -> Option<u64> {
        self.drop_stale();
        self.heap.peek().map(|Reverse(entry)| entry.at_ns)
    }

    /// Takes the next event due at or before `now_ns`, with its time.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(u64, Event)> {
        self.drop_stale();
        let Reverse(entry) = *self.heap.peek()?;
        if entry.at_ns > now_ns {
            return None;
        }
        self.heap.pop();
        if let Some(key) = timer_key(entry.event) {
            self.armed.remove(&key);
        }
        Some((entry.at_ns, entry.event))
    }

    /// The completions that are scheduled, as (device, ticket), in the order of their times.
    pub fn completions(&self) -> Vec<(u16, u64)> {
        let mut entries: Vec<Entry> = self.heap.iter().map(|Reverse(entry)| *entry).collect();
        entries.sort();
        let completion = |entry: Entry| match entry.event {
            Event::Completion { device, ticket, .. } => Some((device, ticket)),
            _ => None,
        };
        entries.into_iter().filter_map(completion).collect()
    }

    /// When an armed timer is due.
    pub fn due_of(&self, event: Event) -> Option<u64> {
        let entry = |entry: &&Reverse<Entry>| {
            entry.0.event == event && !Self::is_stale(&self.armed, &entry.0)
        };
        self.heap.iter().find(entry).map(|entry| entry.0.at_ns)
    }

    /// Forgets everything, as a machine reset does.
    pub fn clear(&mut self) {
        self.heap.clear();
        self.armed.clear();
    }

    fn is_stale(armed: &rustc_hash::FxHashMap<TimerKey, u64>, entry: &Entry) -> bool {
        timer_key(entry.event).is_some_and(|key| armed.get(&key) != Some(&entry.seq))
    }

    fn drop_stale(&mut self) {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if !Self::is_stale(&self.armed, entry) {
                return;
            }
            self.heap.pop();
        }
    }

    /// Keeps a timer that is re-armed far in the future again and again from filling the heap.
    fn compact(&mut self) {
        if self.heap.len() > 64 && self.heap.len() > 4 * (self.armed.len() + 16) {
            let armed = &self.armed;
            self.heap
                .retain(|Reverse(entry)| !Self::is_stale(armed, entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(device: u16) -> Event {
        Event::Timer { device, timer: 0 }
    }

    #[test]
    fn equal_times_go_by_class_then_place_then_sequence() {
        let done = |device, token| Event::Completion {
            device,
            token,
            ticket: 0,
        };
        let order = [
            done(0, 9),
            done(3, 1),
            done(3, 0),
            Event::LapicTimer,
            timer(1),
            timer(2),
        ];
        let mut wheel = Wheel::default();
        for i in [1, 2, 5, 0, 4, 3] {
            wheel.schedule(100, order[i]);
        }
        let popped: Vec<Event> = std::iter::from_fn(|| wheel.pop_due(100))
            .map(|(_, e)| e)
            .collect();
        assert_eq!(popped, order);
    }

    #[test]
    fn a_timer_armed_again_moves() {
        let mut wheel = Wheel::default();
        wheel.schedule(10, timer(1));
        wheel.schedule(50, timer(1));
        assert_eq!(wheel.next_ns(), Some(50));
        assert_eq!(wheel.pop_due(49), None);
        wheel.schedule(20, timer(1));
        assert_eq!(wheel.pop_due(100), Some((20, timer(1))));
        assert_eq!(wheel.next_ns(), None);
    }

    #[test]
    fn a_cancelled_timer_is_gone_and_completions_stay() {
        let mut wheel = Wheel::default();
        let done = Event::Completion {
            device: 0,
            token: 1,
            ticket: 2,
        };
        wheel.schedule(10, timer(1));
        wheel.schedule(30, done);
        wheel.cancel(timer(1));
        assert_eq!(wheel.pop_due(100), Some((30, done)));
    }

    #[test]
    fn re_arming_for_ever_does_not_grow_the_heap() {
        let mut wheel = Wheel::default();
        for i in 0..100_000 {
            wheel.schedule(1_000_000 + i, timer(0));
        }
        assert!(wheel.heap.len() < 1000);
        assert_eq!(wheel.next_ns(), Some(1_000_000 + 99_999));
    }
}
