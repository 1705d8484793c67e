//! The trail: what a run was, in a form that two runs can be compared by.
//!
//! A trail is a text of JSON lines. The first names the inputs (`head`), the others are points at fixed virtual times
//! (`at`: hashes of registers, RAM and events) and the outside inputs with their stamps (`in`, `button`). Equal inputs, equal trail.

use crate::boot::Images;
use crate::ram_hash::RamHash;
use atoll_abi::control::TRAIL_VERSION;
use atoll_x86::Cpu;
use std::fmt::Write;

/// Makes the records.
#[derive(Debug, Default)]
pub struct Trail {
    inputs: u64,
    /// What RAM held at the last record.
    ram: Option<RamHash>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash of all registers.
pub fn register_hash(cpu: &Cpu) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    cpu.state.hash_registers(&mut |bytes| {
        hasher.update(bytes);
    });
    *hasher.finalize().as_bytes()
}

/// One hash for everything.
pub fn state_hash(
    now_ns: u64,
    instructions: u64,
    cpu: &Cpu,
    ram: [u8; 32],
    events: [u8; 32],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now_ns.to_le_bytes());
    hasher.update(&instructions.to_le_bytes());
    hasher.update(&register_hash(cpu));
    hasher.update(&ram);
    hasher.update(&events);
    *hasher.finalize().as_bytes()
}

impl Trail {
    /// The first line: everything that the run depends on.
    pub fn head(guest: &[u8], bios: &[u8], images: &Images) -> String {
        let hash = |bytes: &[u8]| hex(blake3::hash(bytes).as_bytes());
        // One module, the initial RAM disk, is named by its own hash; several by the hash of theirs.
        let initrd = match images.modules.as_slice() {
            [] => hash(&[]),
            [one] => hash(one),
            several => hash(
                several
                    .iter()
                    .map(|bytes| hash(bytes))
                    .collect::<String>()
                    .as_bytes(),
            ),
        };
        format!(
            "{{\"trail\":{TRAIL_VERSION},\"machine\":\"{}\",\"bios\":\"{}\",\"kernel\":\"{}\",\"initrd\":\"{}\"}}\n",
            hash(guest),
            hash(bios),
            hash(&images.kernel),
            initrd
        )
    }

    /// A point: where the run stands. RAM's hash looks only at the pages that were written since the last one.
    pub fn record(
        &mut self,
        now_ns: u64,
        instructions: u64,
        cpu: &mut Cpu,
        events: [u8; 32],
    ) -> String {
        let ram = self.ram_hash(cpu);
        format!(
            "{{\"at\":{now_ns},\"instructions\":{instructions},\"registers\":\"{}\",\"ram\":\"{}\",\"events\":\"{}\",\"rip\":\"{:x}\"}}\n",
            hex(&register_hash(cpu)),
            hex(&ram),
            hex(&events),
            cpu.state.rip()
        )
    }

    fn ram_hash(&mut self, cpu: &mut Cpu) -> [u8; 32] {
        let ram = cpu.mmu.ram().clone();
        let hash = self.ram.get_or_insert_with(|| RamHash::new(&ram));
        cpu.mmu.take_written(|address| hash.look_at(&ram, address));
        hash.finish()
    }

    pub fn input(&mut self, now_ns: u64, place: u16, bytes: &[u8]) -> String {
        self.inputs += 1;
        format!(
            "{{\"in\":{now_ns},\"place\":{place},\"bytes\":\"{}\"}}\n",
            hex(bytes)
        )
    }

    pub fn power_button(&mut self, now_ns: u64) -> String {
        self.inputs += 1;
        format!("{{\"button\":{now_ns}}}\n")
    }
}
