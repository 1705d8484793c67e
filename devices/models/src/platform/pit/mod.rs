//! The 8254 interval timer with its three channels, and port 0x61.
//!
//! Sources: Intel 8254 datasheet (231164-005); port 0x61 as in the 82371AB datasheet (290562), 8.2.1 (NMI status and control).
//!
//! Channel 0 drives line 0 (IRQ 0), channel 1 refreshed the memory of the first PCs and is free, channel 2 has its gate and its
//! output in port 0x61. Nothing counts: a counter is a function of the time at which it was loaded, and only channel 0's edges
//! are events.
//!
//! Not modelled: the speaker, NMI status (reads 0), the one-clock low pulse of modes 2 and 4 as seen on IRQ 0, which is made at
//! its end: the edge that the PIC sees is at the right clock.

use device_core::{
    Access, Attach, Cx, Kind, LoadError, Manifest, Model, Ports, Section, Space, Window,
};
use serde::{Deserialize, Serialize};

use super::{ticks_at, time_of_tick};
use crate::pin::Pin;

mod channel;
use channel::{Channel, Edge};

const KIND: &str = "i8254";
const VERSION: u16 = 1;

/// 14.31818 MHz / 12 = 105/88 MHz.
const TICKS: u64 = 105;
const TICKS_NS: u64 = 88_000;
/// How often the refresh bit of port 0x61 changes.
const REFRESH_NS: u64 = 15_085;

const REGION_COUNTERS: u16 = 0;
const TIMER_CHANNEL_0: u16 = 0;
const LINE_IRQ0: u16 = 0;

const GATE_2: u8 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    channels: [Channel; 3],
    /// The writable bits of port 0x61.
    port_61: u8,
    /// The edge of channel 0 that the timer is armed for.
    armed: Option<Edge>,
    irq0: Pin,
}

/// The interval timer at ports 0x40 to 0x43, and port 0x61.
#[derive(Clone, Debug, Default)]
pub struct Pit {
    state: State,
}

impl Pit {
    pub fn new() -> Pit {
        let mut pit = Pit::default();
        pit.state.channels[2].set_gate(false, 0);
        pit
    }

    fn read(&mut self, offset: u64, now: i64) -> u8 {
        match self.state.channels.get_mut(offset as usize) {
            Some(channel) => channel.read(now),
            // The control word is write-only.
            None => 0,
        }
    }

    fn write(&mut self, offset: u64, value: u8, now: i64) {
        match self.state.channels.get_mut(offset as usize) {
            Some(channel) => channel.write(value, now),
            None => self.control(value, now),
        }
    }

    fn control(&mut self, value: u8, now: i64) {
        let channels = &mut self.state.channels;
        if let Some(channel) = channels.get_mut(usize::from(value >> 6)) {
            channel.control(value, now);
            return;
        }
        // Read-back: one bit a channel, and two that are low for what is to be latched.
        for (i, channel) in channels.iter_mut().enumerate() {
            if value & 2 << i != 0 {
                if value & 0x20 == 0 {
                    channel.latch_count(now);
                }
                if value & 0x10 == 0 {
                    channel.latch_status(now);
                }
            }
        }
    }

    fn read_61(&mut self, now_ns: u64, now: i64) -> u8 {
        let out = u8::from(self.state.channels[2].output(now)) << 5;
        let refresh = (now_ns / REFRESH_NS) as u8 & 1;
        self.state.port_61 | out | refresh << 4
    }

    fn write_61(&mut self, value: u8, now: i64) {
        self.state.port_61 = value & 0x0F;
        self.state.channels[2].set_gate(value & GATE_2 != 0, now);
    }

    /// Makes the edge that the timer is armed for, if its time has come: an access at that very time comes first otherwise, and
    /// would program it away.
    fn take_edge(&mut self, now: i64, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        if let Some(edge) = s.armed.filter(|edge| edge.tick() <= now) {
            s.armed = None;
            if let Edge::Pulse(_) = edge {
                s.irq0.pulse(LINE_IRQ0, cx);
            }
        }
    }

    /// Puts channel 0's output on its line and arms the timer for its next change.
    fn follow(&mut self, now: i64, cx: &mut Cx<'_>) {
        let s = &mut self.state;
        let channel = &mut s.channels[0];
        s.irq0.set(LINE_IRQ0, channel.line_level(now), cx);
        let next = channel.next_edge(now);
        if next != s.armed {
            s.armed = next;
            match next {
                Some(edge) => cx.effects.set_timer(
                    TIMER_CHANNEL_0,
                    time_of_tick(edge.tick() as u64, TICKS, TICKS_NS),
                ),
                None => cx.effects.cancel_timer(TIMER_CHANNEL_0),
            }
        }
    }
}

/// The tick of the counters' clock.
fn tick(now_ns: u64) -> i64 {
    ticks_at(now_ns, TICKS, TICKS_NS) as i64
}

impl Model for Pit {
    fn manifest(&self) -> Manifest {
        let window = |base, len| Window {
            space: Space::Port,
            base,
            len,
            granule: 1,
        };
        Manifest {
            kind: KIND.into(),
            attach: Attach::Fixed(vec![window(0x40, 4), window(0x61, 1)]),
            lines: 1,
            timers: 1,
            ports: Ports::default(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        let now = tick(cx.now_ns);
        access.by_granule(1, |a| {
            let value = match (a.region, a.kind) {
                (REGION_COUNTERS, Kind::Read) => self.read(a.offset & 3, now),
                (REGION_COUNTERS, Kind::Write(value)) => {
                    self.take_edge(now, cx);
                    self.write(a.offset & 3, value as u8, now);
                    self.follow(now, cx);
                    0
                }
                (_, Kind::Read) => self.read_61(cx.now_ns, now),
                (_, Kind::Write(value)) => {
                    self.write_61(value as u8, now);
                    0
                }
            };
            u64::from(value)
        })
    }

    fn timer(&mut self, _timer: u16, cx: &mut Cx<'_>) {
        let now = tick(cx.now_ns);
        self.take_edge(now, cx);
        self.follow(now, cx);
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Pit::new();
    }

    fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: State = section.state(KIND, VERSION)?;
        if !state.channels.iter().all(Channel::is_sound) {
            return Err(section.malformed("an impossible counter"));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
