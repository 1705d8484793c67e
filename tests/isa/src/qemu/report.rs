//! What a comparison found, as text.

use std::fmt;

use super::diff::{Divergence, Ended, Outcome};
use super::registers::Difference;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {:x} in Atoll, {:x} in QEMU",
            self.name, self.ours, self.qemu
        )
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<String> = self
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        writeln!(
            f,
            "instruction {} differs: at {:#x}, {}",
            self.number, self.before.rip, self.text
        )?;
        writeln!(f, "  bytes from there on: {}", bytes.join(" "))?;
        if let Some(fault) = self.fault {
            writeln!(f, "  in Atoll it raised {fault:?}")?;
        }
        for access in &self.accesses {
            writeln!(f, "  in Atoll it made {access}")?;
        }
        for (address, bytes) in &self.memory {
            let digits = |byte: &Option<u8>| byte.map_or("??".to_owned(), |b| format!("{b:02x}"));
            let bytes: Vec<String> = bytes.iter().map(digits).collect();
            writeln!(
                f,
                "  Atoll's memory at {address:#x} is now {}",
                bytes.join(" ")
            )?;
        }
        for difference in &self.differences {
            writeln!(f, "  {difference}")?;
        }
        writeln!(f, "\nbefore it:\n{}", self.before.text())?;
        writeln!(f, "\nafter it in Atoll:\n{}", self.ours.text())?;
        writeln!(f, "\nafter it in QEMU:\n{}", self.qemu.text())?;
        writeln!(f, "\nbefore it came:")?;
        for line in &self.context {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for divergence in &self.divergences {
            writeln!(f, "{divergence}")?;
        }
        if !self.notes.0.is_empty() {
            writeln!(
                f,
                "taken over from QEMU, because it came from outside of CPU and memory and was not the same:"
            )?;
        }
        for (source, (times, first)) in &self.notes.0 {
            writeln!(f, "  {source}, {times} times; {first}")?;
        }
        let why = match self.ended {
            Ended::Qemu => "QEMU's machine ended",
            Ended::Idle => "QEMU is idle",
            Ended::Enough => "no more were asked for",
            Ended::Differences => "that is as far as was asked for",
        };
        let (count, interrupts) = (self.instructions, self.interrupts);
        match self.divergences.len() {
            0 => writeln!(
                f,
                "{count} instructions and {interrupts} interrupts agree; {why}"
            ),
            n => writeln!(
                f,
                "{n} of {count} instructions differ ({interrupts} interrupts); {why}"
            ),
        }
    }
}
