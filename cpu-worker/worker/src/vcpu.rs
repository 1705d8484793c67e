//! The run loop: stretches of guest code between events, idle time, resets, and the points at which the run is hashed.
//!
//! It is the only place that knows the engine, the board and the world outside at once. The world outside is [`Outside`]: the
//! broker's clock page and the input rings in a real worker, a few lines in a test.
//!
//! Invariant: what the guest sees depends on the machine, on the inputs and on their stamps alone. `Outside` decides how far a stretch may
//! go, never what happens in it.

use atoll_jit::{Engine, Exit, Mode};
use atoll_machine::{Board, Halt};
use atoll_x86::bus::attention;
use atoll_x86::{Cpu, flags};

use crate::boot::FilesChanged;
use crate::debug::DebugLog;
use crate::ram_hash::RamHash;
use crate::trail::Trail;

/// What came from outside since the last look.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Bytes for the device at this place.
    pub bytes: Vec<(u16, Vec<u8>)>,
    pub power_button: bool,
    pub reset: bool,
    /// The run is to end at this boundary.
    pub stop: bool,
}

/// The world outside of the machine, as far as the run loop meets it.
pub trait Outside {
    /// Takes what arrived; `room` tells how many bytes wait already in the device at a place. Called at least every virtual millisecond.
    fn poll(&mut self, now_ns: u64, room: &dyn Fn(u16) -> usize) -> Inputs;
    /// The virtual time that must not be passed now. Waits while that is `now_ns` or earlier; then it may also return `now_ns` because
    /// there are inputs to look at.
    fn horizon(&mut self, now_ns: u64) -> u64;
    /// The guest is idle and nothing is due before `next_ns`. Gives the virtual time to go on at: `next_ns`, or an earlier one at which
    /// the run loop should look around.
    fn idle(&mut self, now_ns: u64, next_ns: Option<u64>) -> u64;
    /// Tells where the run stands.
    fn publish(&mut self, now_ns: u64, instructions: u64);
    /// The engine and the guest want to be known: one record of the trail.
    fn record(&mut self, line: &str);
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    PowerOff,
    /// A guest reset, where resets end the run.
    Reset,
    TripleFault,
    /// The back end of this place is gone for good.
    DeviceLost(u16),
    VirtualDeadline,
    /// The guest waits with nothing that could ever wake it.
    Halted,
    /// The guest reset the machine, and what it is to start from is not there any more.
    FilesChanged,
    /// The broker asked for it.
    Asked,
}

/// What became of a halted CPU.
enum Wake {
    Running,
    Idle,
    Never,
    Shutdown,
}

/// How a run is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub no_reboot: bool,
    pub vtime_limit_ns: Option<u64>,
    pub hash_every_ns: Option<u64>,
}

/// How far a stretch goes when nothing else ends it: the longest time that outside input waits to be seen.
const POLL_NS: u64 = 1_000_000;
/// The same in lockstep, where a stretch of so many instructions would leave the heartbeat out for long.
const LOCKSTEP_POLL_NS: u64 = 50_000;

/// Brings a CPU that was reset to where it started.
pub type Reboot = Box<dyn Fn(&mut Cpu) -> Result<(), FilesChanged>>;

/// A vCPU on its board, with the engine that runs it.
pub struct Machine {
    pub cpu: Cpu,
    pub engine: Engine,
    /// Puts firmware, kernel and registers in place anew, after a reset.
    reboot: Reboot,
    /// The ranges of RAM that were ever touched, for hashing.
    touched: Box<dyn Fn() -> Vec<(u64, u64)>>,
    options: Options,
    idle_ns: u64,
    next_hash_ns: u64,
    resets: u64,
    trail: Trail,
    debug: Option<DebugLog>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("cpu", &self.cpu)
            .field("idle_ns", &self.idle_ns)
            .finish_non_exhaustive()
    }
}

/// The board behind the CPU's bus.
pub fn board(cpu: &mut Cpu) -> &mut Board {
    cpu.bus
        .as_any()
        .downcast_mut::<Board>()
        .expect("the worker builds every CPU on a Board")
}

impl Machine {
    /// The CPU stands at its entry, with everything in place.
    pub fn new(
        cpu: Cpu,
        engine: Engine,
        reboot: Reboot,
        touched: Box<dyn Fn() -> Vec<(u64, u64)>>,
        options: Options,
    ) -> Machine {
        let next_hash_ns = options.hash_every_ns.unwrap_or(u64::MAX);
        Machine {
            cpu,
            engine,
            reboot,
            touched,
            options,
            idle_ns: 0,
            next_hash_ns,
            resets: 0,
            trail: Trail::default(),
            debug: None,
        }
    }

    /// Logs what the guest does from now on.
    pub fn log_to(&mut self, log: DebugLog) {
        self.debug = Some(log);
    }

    pub fn now_ns(&self) -> u64 {
        self.cpu.state.clock.now_ns()
    }

    /// Instructions retired: the time that was neither idle nor charged.
    pub fn instructions(&self) -> u64 {
        let clock = &self.cpu.state.clock;
        ((clock.now_ns() - self.idle_ns) >> clock.shift).saturating_sub(clock.charged)
    }

    pub fn idle_ns(&self) -> u64 {
        self.idle_ns
    }

    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Runs until the machine ends.
    pub fn run(&mut self, outside: &mut dyn Outside) -> Stopped {
        let stopped = self.run_stretches(outside);
        self.flush_log();
        stopped
    }

    fn flush_log(&self) {
        if let Some(log) = &self.debug {
            log.flush();
        }
    }

    fn run_stretches(&mut self, outside: &mut dyn Outside) -> Stopped {
        loop {
            if let Some(stopped) = self.boundary(outside) {
                return stopped;
            }
            let now_ns = self.now_ns();
            if self.cpu.state.halted != 0 {
                match self.wake(outside, now_ns) {
                    Wake::Running => {}
                    Wake::Idle => continue,
                    Wake::Never => return Stopped::Halted,
                    Wake::Shutdown => match self.reset(Stopped::TripleFault) {
                        Some(stopped) => return stopped,
                        None => continue,
                    },
                }
            }
            let horizon_ns = outside.horizon(now_ns);
            if horizon_ns <= now_ns {
                continue;
            }
            let until_ns = self.next_stop(now_ns).min(horizon_ns);
            match self.stretch(now_ns, until_ns) {
                Exit::Deadline | Exit::Halt => {}
                Exit::Machine => self.cpu.state.clock.attention &= !attention::MACHINE,
                Exit::Shutdown => {
                    if let Some(stopped) = self.reset(Stopped::TripleFault) {
                        return stopped;
                    }
                }
            }
        }
    }

    /// Runs guest code up to a virtual time, or one instruction if somebody wants to see each.
    fn stretch(&mut self, now_ns: u64, until_ns: u64) -> Exit {
        let Some(log) = self.debug.as_mut().filter(|log| log.steps()) else {
            self.cpu.state.clock.set_deadline(now_ns, until_ns);
            return self.engine.run(&mut self.cpu);
        };
        self.cpu.state.clock.set_deadline(now_ns, now_ns + 1);
        // The engine would take it first, and then the instruction is another one.
        if self.cpu.try_interrupt().is_err() {
            return Exit::Shutdown;
        }
        log.before(&mut self.cpu);
        let exit = self.engine.run(&mut self.cpu);
        log.after(&self.cpu);
        exit
    }

    /// Everything that happens between two stretches: input, due events, hashes, limits.
    fn boundary(&mut self, outside: &mut dyn Outside) -> Option<Stopped> {
        let now_ns = self.now_ns();
        outside.publish(now_ns, self.instructions());
        while now_ns >= self.next_hash_ns {
            let line = self.trail_record();
            outside.record(&line);
            self.next_hash_ns += self.options.hash_every_ns.unwrap_or(u64::MAX);
        }
        if let Some(limit) = self.options.vtime_limit_ns
            && now_ns >= limit
        {
            return Some(Stopped::VirtualDeadline);
        }
        let inputs = {
            let board = board(&mut self.cpu);
            outside.poll(now_ns, &|place| board.input_waiting(place))
        };
        self.take(now_ns, &inputs, outside);
        if inputs.stop {
            return Some(Stopped::Asked);
        }
        let board = board(&mut self.cpu);
        board.run_due(now_ns);
        let halt = if inputs.reset {
            Some(Halt::Power(device_core::PowerEvent::Reset))
        } else {
            board.take_halt()
        };
        match halt {
            None => None,
            Some(Halt::Power(device_core::PowerEvent::Off)) => Some(Stopped::PowerOff),
            Some(Halt::Power(device_core::PowerEvent::Reset)) => self.reset(Stopped::Reset),
            Some(Halt::Lost(lost)) => Some(Stopped::DeviceLost(lost.place)),
        }
    }

    fn take(&mut self, now_ns: u64, inputs: &Inputs, outside: &mut dyn Outside) {
        for (place, bytes) in &inputs.bytes {
            outside.record(&self.trail.input(now_ns, *place, bytes));
            board(&mut self.cpu).input_at_place(now_ns, *place, bytes);
        }
        if inputs.power_button {
            outside.record(&self.trail.power_button(now_ns));
            board(&mut self.cpu).press_power_button(now_ns);
        }
    }

    /// The next virtual time at which the run loop has something to do.
    fn next_stop(&mut self, now_ns: u64) -> u64 {
        let event_ns = board(&mut self.cpu).next_event_ns().unwrap_or(u64::MAX);
        let limit_ns = self.options.vtime_limit_ns.unwrap_or(u64::MAX);
        let poll_ns = match self.engine.mode() {
            Mode::Lockstep => LOCKSTEP_POLL_NS,
            _ => POLL_NS,
        };
        event_ns
            .min(limit_ns)
            .min(self.next_hash_ns)
            .min(now_ns + poll_ns)
    }

    /// The CPU is halted: it takes an interrupt, or virtual time goes on without instructions.
    fn wake(&mut self, outside: &mut dyn Outside, now_ns: u64) -> Wake {
        match self.cpu.try_interrupt() {
            Ok(true) => Wake::Running,
            Ok(false) if self.idle(outside, now_ns) => Wake::Idle,
            Ok(false) => Wake::Never,
            Err(_) => Wake::Shutdown,
        }
    }

    /// Skips or sleeps to the next event. False if nothing can ever wake the CPU.
    fn idle(&mut self, outside: &mut dyn Outside, now_ns: u64) -> bool {
        let event_ns = board(&mut self.cpu).next_event_ns();
        let next_ns = [
            event_ns,
            self.options.vtime_limit_ns,
            Some(self.next_hash_ns).filter(|at| *at != u64::MAX && event_ns.is_some()),
        ]
        .into_iter()
        .flatten()
        .min();
        if next_ns.is_none() && self.cpu.state.rflags & flags::IF == 0 {
            return false;
        }
        self.flush_log();
        let then_ns = outside.idle(now_ns, next_ns);
        let clock = &mut self.cpu.state.clock;
        let then_ns = now_ns
            + ((then_ns.saturating_sub(now_ns) + (1 << clock.shift) - 1) >> clock.shift
                << clock.shift);
        self.idle_ns += then_ns - now_ns;
        clock.set_deadline(then_ns, then_ns);
        true
    }

    /// Restarts the machine in place, or ends the run if resets do.
    fn reset(&mut self, why: Stopped) -> Option<Stopped> {
        if let Some(log) = &mut self.debug {
            log.reset(&self.cpu);
        }
        if self.options.no_reboot {
            return Some(why);
        }
        let now_ns = self.now_ns();
        self.resets += 1;
        self.cpu.reset();
        board(&mut self.cpu).reset(now_ns);
        let rebooted = (self.reboot)(&mut self.cpu);
        self.engine.drop_code(&mut self.cpu);
        rebooted.err().map(|FilesChanged| Stopped::FilesChanged)
    }

    /// One record of the trail: where the run stands, and hashes of registers, RAM and events so far.
    pub fn trail_record(&mut self) -> String {
        let (now_ns, instructions) = (self.now_ns(), self.instructions());
        let events = board(&mut self.cpu).events_hash();
        self.trail
            .record(now_ns, instructions, &mut self.cpu, events)
    }

    /// The hash that stands for the whole run: registers, RAM, events and time. It looks at all of RAM, whoever wrote it, and calls `alive`
    /// now and then while it does.
    pub fn final_hash(&mut self, alive: &mut dyn FnMut()) -> [u8; 32] {
        let (now_ns, instructions) = (self.now_ns(), self.instructions());
        let events = board(&mut self.cpu).events_hash();
        let ram = RamHash::of(self.cpu.mmu.ram(), &(self.touched)(), alive).finish();
        crate::trail::state_hash(now_ns, instructions, &self.cpu, ram, events)
    }
}
