//! What the CPU asks of the board.
//!
//! Every call carries the [`Clock`], so that the board knows the exact virtual time of the access, can charge for it, can
//! pull the next event nearer, and can tell the engine to leave (an interrupt was raised).

/// Virtual time as the engine counts it. `repr(C)`: emitted code lowers `budget`.
///
/// Invariant: `now_ns() == deadline_ns - (budget << shift)`. An instruction lowers `budget` by one *before* it runs, so that during an
/// access `now_ns` counts the accessing instruction itself. A charge lowers it further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(C)]
pub struct Clock {
    /// Instructions left until the deadline; negative only by charges.
    pub budget: i64,
    /// Virtual time at which `budget` reaches zero, in ns.
    pub deadline_ns: u64,
    /// Why the engine should return to its run loop at the next boundary; zero if it need not. See `attention`.
    pub attention: u32,
    /// One instruction is `1 << shift` ns.
    pub shift: u32,
    /// Budget spent on charges, not instructions, in units of `1 << shift` ns since the machine started.
    pub charged: u64,
    /// Whether accesses are charged (`-icount` turns it off).
    pub charges: u32,
    /// Whether what runs now will be taken back and done again, see [`rehearsal`].
    pub rehearsal: u32,
}

/// Values of [`Clock::rehearsal`].
pub mod rehearsal {
    /// What happens happens.
    pub const NONE: u32 = 0;
    /// The registers, memory and fills will be put back. What cannot be (the board, a flush of the TLB) refuses to take part.
    pub const ON: u32 = 1;
    /// The present instruction asked for such a thing: what it has done since is void.
    pub const REFUSED: u32 = 2;
}

/// Bits of [`Clock::attention`].
pub mod attention {
    /// A device raised an interrupt, or interrupts were unmasked while one is pending.
    pub const INTERRUPT: u32 = 1;
    /// A store hit translated or decoded code; `Mmu::take_code_writes` says where.
    pub const CODE: u32 = 2;
    /// The mode word may have changed: look blocks up anew.
    pub const MODE: u32 = 4;
    /// The machine was powered off or reset, or the monitor wants the CPU.
    pub const MACHINE: u32 = 8;
    /// Single-step or a debug trap is pending.
    pub const DEBUG: u32 = 16;
}

impl Clock {
    /// The virtual time now, in ns.
    #[inline(always)]
    pub fn now_ns(&self) -> u64 {
        self.deadline_ns
            .wrapping_sub((self.budget << self.shift) as u64)
    }
    /// How much of the time until now was not charged, in units of an instruction: its growth while the CPU runs counts instructions.
    #[inline]
    pub fn uncharged(&self) -> u64 {
        (self.now_ns() >> self.shift).wrapping_sub(self.charged)
    }
    /// Spends `ns` of virtual time on an access.
    #[inline]
    pub fn charge_ns(&mut self, ns: u64) {
        if self.charges != 0 {
            let units = ns >> self.shift;
            self.budget -= units as i64;
            self.charged += units;
        }
    }
    /// Moves the deadline to `at_ns` if that is nearer: a timer was set. Times in the past end the budget now.
    pub fn pull_deadline(&mut self, at_ns: u64) {
        let now = self.now_ns();
        if at_ns < self.deadline_ns {
            self.set_deadline(now, at_ns.max(now));
        }
    }
    /// Starts a new stretch from `now_ns` to `at_ns`; the budget is rounded up, so that the event is due at the first boundary at or after it.
    pub fn set_deadline(&mut self, now_ns: u64, at_ns: u64) {
        let ns = at_ns.saturating_sub(now_ns);
        let units = (ns + ((1 << self.shift) - 1)) >> self.shift;
        self.budget = units as i64;
        self.deadline_ns = now_ns + (units << self.shift);
    }
}

/// The board, as seen by one CPU.
pub trait Bus: Send {
    /// Reads `bytes` (1, 2, 4 or 8) at guest-physical `address`, which is not RAM. Unclaimed addresses read all ones.
    fn mmio_read(&mut self, clock: &mut Clock, address: u64, bytes: u32) -> u64;
    /// Writes `bytes` (1, 2, 4 or 8) at guest-physical `address`, which is not RAM.
    fn mmio_write(&mut self, clock: &mut Clock, address: u64, bytes: u32, value: u64);
    /// IN of 1, 2 or 4 bytes.
    fn port_in(&mut self, clock: &mut Clock, port: u16, bytes: u32) -> u32;
    /// OUT of 1, 2 or 4 bytes.
    fn port_out(&mut self, clock: &mut Clock, port: u16, bytes: u32, value: u32);
    /// RDMSR of an MSR that the CPU itself does not hold (local APIC, kvmclock); None is #GP.
    fn msr_read(&mut self, clock: &mut Clock, msr: u32) -> Option<u64>;
    /// WRMSR likewise; false is #GP.
    fn msr_write(&mut self, clock: &mut Clock, msr: u32, value: u64) -> bool;
    /// CR8: the task priority.
    fn tpr(&mut self) -> u8;
    /// Sets CR8.
    fn set_tpr(&mut self, clock: &mut Clock, tpr: u8);
    /// Whether an interrupt waits to be taken (subject to IF and the shadow).
    fn interrupt_pending(&mut self, clock: &mut Clock) -> bool;
    /// Acknowledges the highest pending interrupt and gives its vector; None if it went away.
    fn acknowledge(&mut self, clock: &mut Clock) -> Option<u8>;
    /// Whether the A20 gate is open.
    fn a20_is_open(&mut self) -> bool;
    /// Whether an NMI waits. It also sets [`attention::INTERRUPT`] when it comes up.
    fn nmi_pending(&mut self) -> bool;
    /// Takes a pending NMI.
    fn take_nmi(&mut self) -> bool;
    /// The board itself, for the run loop that built it.
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}
