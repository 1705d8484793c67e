//! Why a machine ended, and the exit code that says so.

use crate::layout::numbered;

numbered! {
    /// Why the machine ended. The number is the exit code of `atoll run`.
    pub enum ExitReason: u8 as "exit reason" {
        /// The guest powered the machine off.
        PowerOff = 0,
        /// A panic or a broken invariant of Atoll itself.
        Internal = 1,
        /// The configuration cannot be run: flags, machine file, images, host resources.
        BadConfig = 2,
        /// The guest reset the machine under `-no-reboot`.
        Reset = 10,
        /// The guest's CPU shut down on a triple fault.
        TripleFault = 11,
        /// A device process could not be brought back.
        DeviceLost = 12,
        /// The worker died, or gave no sign of life for 20 s.
        WorkerLost = 13,
        /// The broker died.
        BrokerLost = 14,
        /// The wall-clock limit was reached.
        WallDeadline = 15,
        /// The virtual-time limit was reached.
        VirtualDeadline = 16,
        /// The user quit at the console (Ctrl-A x) or the monitor.
        Quit = 17,
        /// Stopped by a signal, and the guest did not power off within its grace period.
        Terminated = 18,
        /// A script waited for text that never came.
        ScriptFailed = 19,
        /// Lockstep found a difference between the engines.
        Diverged = 20,
        /// The guest halted with nothing left that could wake it.
        Halted = 21,
    }
}

impl ExitReason {
    /// The documented exit code of the process.
    pub const fn code(self) -> u8 {
        self.number()
    }
}
