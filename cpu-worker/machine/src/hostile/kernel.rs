//! A hostile kernel image.

use crate::firmware::{Boot, Loaded, Module, fw_cfg, load};
use crate::map;

const MEMORY: u64 = 64 << 20;

/// Loads the image behind the first four bytes, which choose the CPU, a module and where the command line ends, both directly and through
/// firmware. What is loaded lies within RAM.
pub fn kernel(bytes: &[u8]) {
    let Some((&[cpu, modules, low, high], image)) = bytes.split_first_chunk() else {
        return;
    };
    let module = vec![1; usize::from(u16::from_le_bytes([low, high]))];
    let module = Module {
        bytes: &module,
        text: "m",
    };
    let line = "console=com0 ".repeat(usize::from(cpu) / 2);
    let boot = Boot {
        kernel: image,
        modules: vec![module; usize::from(modules % 4)],
        command_line: &line,
        memory_bytes: MEMORY,
        rsdp: 0xe_0000,
        long_mode: cpu % 2 == 0,
    };
    if let Ok(loaded) = load(&boot) {
        assert!(is_sound(&loaded), "{:x?}", loaded.1);
    }
    // Offered to firmware it is copied by firmware, into whatever place that likes.
    let _ = fw_cfg::contents(&boot);
}

fn is_sound((chunks, entry): &Loaded<'_>) -> bool {
    let (low, _) = map::split_ram(MEMORY);
    chunks.iter().all(|chunk| chunk.end() <= low)
        && entry.gdt_base + u64::from(entry.gdt_limit) < low
        && entry.ip < 1 << 32
}
