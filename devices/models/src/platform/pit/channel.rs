//! One counter of the 8254: six modes as functions of the clock.
//!
//! Times are in ticks of the counter's clock. A count that is written at tick `t` is loaded by the next one, so its element 0
//! is at `t + 1`. Invariant: everything between two calls follows from `Count` alone.

use serde::{Deserialize, Serialize};

/// A change of the output, as the interrupt line sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Edge {
    /// The level changes at this tick.
    Level(i64),
    /// A low pulse of one clock ends at this tick.
    Pulse(i64),
}

impl Edge {
    pub(super) fn tick(self) -> i64 {
        match self {
            Edge::Level(tick) | Edge::Pulse(tick) => tick,
        }
    }
}

/// A count under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    /// 1 to 65536.
    reload: i64,
    /// The tick at which the counter held `reload`.
    start: i64,
    /// While the gate is low: how many ticks had passed.
    stopped: Option<i64>,
}

impl Count {
    fn elapsed(&self, now: i64) -> i64 {
        self.stopped.unwrap_or_else(|| (now - self.start).max(0))
    }

    /// The place within the period of modes 2 and 3.
    fn phase(&self, now: i64) -> i64 {
        self.elapsed(now) % self.reload
    }

    /// The length of the high half of a square wave.
    fn high_half(&self) -> i64 {
        (self.reload + 1) / 2
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Channel {
    mode: u8,
    bcd: bool,
    /// Which bytes are read and written: 1 low, 2 high, 3 low then high.
    bytes: u8,
    gate: bool,
    count: Option<Count>,
    /// Modes 1 and 5: a count that waits for the gate. Modes 2 and 3: one that waits for the tick beside it.
    next: Option<(i64, i64)>,
    /// The low byte of a count of which the high byte is still to be written.
    low: Option<u8>,
    /// The low byte was read, the high one is next.
    read_high: bool,
    latched: Option<u16>,
    status: Option<u8>,
}

impl Default for Channel {
    /// Not programmed: the output is high and nothing counts.
    fn default() -> Channel {
        Channel {
            mode: 2,
            bcd: false,
            bytes: 3,
            gate: true,
            count: None,
            next: None,
            low: None,
            read_high: false,
            latched: None,
            status: None,
        }
    }
}

impl Channel {
    // Programming.

    /// A control word, or the counter latch command in its place.
    pub(super) fn control(&mut self, word: u8, now: i64) {
        let bytes = word >> 4 & 3;
        if bytes == 0 {
            self.latch_count(now);
            return;
        }
        // Modes 6 and 7 are 2 and 3.
        let mode = word >> 1 & 7;
        let mode = if mode > 5 { mode - 4 } else { mode };
        *self = Channel {
            mode,
            bcd: word & 1 != 0,
            bytes,
            gate: self.gate,
            ..Channel::default()
        };
    }

    pub(super) fn write(&mut self, value: u8, now: i64) {
        self.settle(now);
        let value = match (self.bytes, self.low.take()) {
            (1, _) => u16::from(value),
            (2, _) => u16::from(value) << 8,
            (_, Some(low)) => u16::from(value) << 8 | u16::from(low),
            (_, None) => {
                self.low = Some(value);
                if self.mode == 0 {
                    // The first byte stops a count in mode 0 and takes the output low.
                    self.count = None;
                }
                return;
            }
        };
        let reload = self.decode(value);
        match self.mode {
            1 | 5 => self.next = Some((reload, i64::MAX)),
            2 | 3 if self.count.is_some_and(|count| count.stopped.is_none()) => {
                self.next = self.boundary(now).map(|at| (reload, at));
            }
            _ => {
                self.count = Some(Count {
                    reload,
                    start: now + 1,
                    stopped: (!self.gate).then_some(0),
                })
            }
        }
    }

    pub(super) fn set_gate(&mut self, gate: bool, now: i64) {
        self.settle(now);
        let (rose, fell) = (gate && !self.gate, !gate && self.gate);
        self.gate = gate;
        if rose {
            self.gate_rose(now);
        } else if fell
            && !matches!(self.mode, 1 | 5)
            && let Some(count) = &mut self.count
        {
            count.stopped = Some(count.elapsed(now));
        }
    }

    fn gate_rose(&mut self, now: i64) {
        let Some(reload) = self
            .next
            .map(|(reload, _)| reload)
            .or(self.count.map(|count| count.reload))
        else {
            return;
        };
        match (self.mode, &mut self.count) {
            (0 | 4, Some(count)) => {
                if let Some(elapsed) = count.stopped.take() {
                    count.start = now - elapsed;
                }
            }
            (0 | 4, None) => {}
            // A trigger: the count starts from the top.
            _ => {
                self.next = None;
                self.count = Some(Count {
                    reload,
                    start: now + 1,
                    stopped: None,
                });
            }
        }
    }

    /// Applies a count of modes 2 and 3 whose time has come.
    fn settle(&mut self, now: i64) {
        let (Some((reload, at)), Some(old)) = (self.next, self.count) else {
            return;
        };
        if now < at || matches!(self.mode, 1 | 5) {
            return;
        }
        let mut new = Count {
            reload,
            start: at,
            stopped: old.stopped,
        };
        if self.mode == 3 && old.phase(at) != 0 {
            // Taken over in the middle: the low half comes next.
            new.start -= new.high_half();
        }
        self.count = Some(new);
        self.next = None;
    }

    // The output.

    pub(super) fn output(&mut self, now: i64) -> bool {
        self.settle(now);
        let Some(count) = self.count else {
            return self.mode != 0;
        };
        let elapsed = count.elapsed(now);
        match self.mode {
            0 | 1 => elapsed >= count.reload,
            2 => !self.gate || count.phase(now) != count.reload - 1,
            3 => !self.gate || count.phase(now) < count.high_half(),
            _ => elapsed != count.reload,
        }
    }

    /// The output without the low pulses of one clock, which [`Edge::Pulse`] stands for.
    pub(super) fn line_level(&mut self, now: i64) -> bool {
        matches!(self.mode, 2 | 4 | 5) || self.output(now)
    }

    /// The first edge after `now`.
    pub(super) fn next_edge(&mut self, now: i64) -> Option<Edge> {
        self.settle(now);
        let count = self.count.filter(|count| count.stopped.is_none())?;
        let at = |elapsed: i64| Some(count.start + elapsed).filter(|&tick| tick > now);
        match self.mode {
            0 | 1 => at(count.reload).map(Edge::Level),
            2 => self.boundary(now).map(Edge::Pulse),
            3 => self.boundary(now).map(Edge::Level),
            _ => at(count.reload + 1).map(Edge::Pulse),
        }
    }

    /// Modes 2 and 3: when the counter reloads next.
    fn boundary(&self, now: i64) -> Option<i64> {
        let count = self.count?;
        // Before its first tick a count is at its own beginning.
        let from = now.max(count.start);
        let phase = count.phase(from);
        let in_high_half = self.mode == 3 && phase < count.high_half();
        Some(
            from + if in_high_half {
                count.high_half()
            } else {
                count.reload
            } - phase,
        )
    }

    // Reading.

    pub(super) fn read(&mut self, now: i64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let value = self.latched.unwrap_or_else(|| self.counter(now));
        let high = self.bytes == 2 || (self.bytes == 3 && self.read_high);
        if self.bytes == 3 {
            self.read_high = !self.read_high;
        }
        if high || self.bytes == 1 {
            self.latched = None;
        }
        (value >> if high { 8 } else { 0 }) as u8
    }

    /// A second latch before the first is read changes nothing.
    pub(super) fn latch_count(&mut self, now: i64) {
        if self.latched.is_none() {
            self.latched = Some(self.counter(now));
        }
    }

    pub(super) fn latch_status(&mut self, now: i64) {
        if self.status.is_none() {
            let output = u8::from(self.output(now)) << 7;
            let loaded = self.count.is_some_and(|count| now >= count.start) && self.next.is_none();
            self.status = Some(
                output
                    | u8::from(!loaded) << 6
                    | self.bytes << 4
                    | self.mode << 1
                    | u8::from(self.bcd),
            );
        }
    }

    fn counter(&mut self, now: i64) -> u16 {
        self.settle(now);
        let Some(count) = self.count else { return 0 };
        let value = match self.mode {
            2 => count.reload - count.phase(now),
            3 => {
                let phase = count.phase(now);
                let within = if phase < count.high_half() {
                    phase
                } else {
                    phase - count.high_half()
                };
                (count.reload & !1) - 2 * within
            }
            _ => count.reload - count.elapsed(now),
        };
        let value = value.rem_euclid(self.modulus());
        if self.bcd {
            to_bcd(value)
        } else {
            value as u16
        }
    }

    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    fn decode(&self, value: u16) -> i64 {
        let value = if self.bcd {
            from_bcd(value)
        } else {
            i64::from(value)
        };
        if value == 0 { self.modulus() } else { value }
    }

    /// Whether a state that was loaded is one that this code can make.
    pub(super) fn is_sound(&self) -> bool {
        let reload = |reload: i64| (1..=0x1_0000).contains(&reload);
        let tick = |tick: i64| (-0x2_0000..i64::MAX / 4).contains(&tick);
        let count = |c: Count| {
            reload(c.reload)
                && tick(c.start)
                && c.stopped.is_none_or(|t| (0..i64::MAX / 4).contains(&t))
        };
        self.mode <= 5
            && (1..=3).contains(&self.bytes)
            && self.count.is_none_or(count)
            && self
                .next
                .is_none_or(|(n, at)| reload(n) && (at == i64::MAX || tick(at)))
    }
}

fn to_bcd(value: i64) -> u16 {
    [1000, 100, 10, 1]
        .iter()
        .fold(0, |bcd, unit| bcd << 4 | (value / unit % 10) as u16)
}

fn from_bcd(value: u16) -> i64 {
    let digits = [12, 8, 4, 0].map(|shift| i64::from(value >> shift & 0xF));
    digits.iter().fold(0, |sum, digit| sum * 10 + digit) % 10_000
}
