//! The same guest in QEMU and in Atoll, and the first instruction that does not do the same in both.
//!
//! QEMU runs alone up to the first instruction of interest; there Atoll takes over its registers and memory, so nothing has to be alike
//! in how the two boot. Then QEMU writes down its registers before each instruction, and Atoll's interpreter does the same one
//! and is compared (`diff`). QEMU is no manual: where it is known to differ (segment limits, flags), the answer is ours to find.
//!
//! What this is not: a test of devices. What they answer is noted and taken over. What they write into memory by themselves is not
//! followed.

mod diff;
mod follow;
mod gdb;
mod pipe;
mod process;
mod registers;
mod report;
mod trace;

pub use diff::{Divergence, Ended, Limits, Notes, Outcome};
pub use follow::Access;
pub use process::Settings;
pub use registers::{Difference, Float, Registers, Segment};

use std::path::Path;

use anyhow::{Context, Result, ensure};
use machine_spec::CpuModel;

use diff::Diff;
use follow::Follower;
use process::Qemu;

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// The kernel's first instruction.
    Entry,
    /// The n-th time that QEMU comes to this linear address, in ring 0.
    Address(u64, u64),
}

/// The 32-bit entry of a bzImage (Linux, Documentation/arch/x86/boot.rst): what runs before it differs.
const LINUX_ENTRY: u64 = 0x10_0000;
const LINUX_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");

/// Compares the two. `dir` is for temporary files.
///
/// # Errors
/// If QEMU or the machine cannot be started, or QEMU does not come to the first instruction.
pub fn compare(settings: &Settings, from: From, limits: Limits, dir: &Path) -> Result<Outcome> {
    let kernel = std::fs::read(&settings.kernel)
        .with_context(|| format!("cannot read {}", settings.kernel.display()))?;
    let is_linux = kernel
        .get(LINUX_MAGIC.0..)
        .is_some_and(|rest| rest.starts_with(LINUX_MAGIC.1));
    let machine = sim::machine(sim::Config {
        memory_bytes: settings.memory_mib << 20,
        cpu: CpuModel::named(&settings.cpu)
            .with_context(|| format!("Atoll has no CPU {:?}", settings.cpu))?,
        kernel,
        append: settings.append.clone(),
        ..sim::Config::default()
    });
    let (address, nth) = match from {
        From::Entry if is_linux => (LINUX_ENTRY, 1),
        From::Entry => (machine.cpu.state.rip(), 1),
        From::Address(address, nth) => (address, nth),
    };
    let mut qemu = Qemu::start(settings, dir.to_owned())?;
    qemu.go_to(address, nth)?;
    let mut registers = qemu.registers()?;
    ensure!(
        registers.seg[2].attr >> 5 & 3 == 0,
        "the comparison begins in ring 0"
    );
    let hidden = qemu.hidden(&registers)?;
    let mut follower = Follower::new(machine.cpu, settings.float);
    follower.set_memory(&qemu.memory(settings.memory_mib << 20)?)?;
    follower.set_registers(&registers, &hidden);
    registers.float.take_if(|_| !settings.float);
    let mut trace = qemu.trace()?;
    Diff::new(&mut follower, limits, || trace.next()).run()
}
