//! The first instruction: what stands in RAM and in the registers when a machine starts, and again after each reset.

use atoll_machine::firmware::{self, Boot, Chunk, Entry, LoadError, Loaded, Start};
use atoll_machine::pc;
use atoll_mmu::Ram;
use atoll_transport::Bytes;
use atoll_x86::Cpu;
use atoll_x86::features::Features;
use atoll_x86::op::{RAX, RBX, RSI, RSP, Seg};
use atoll_x86::state::{Segment, attr, cr};
use machine_spec::GuestMachine;

/// The files that a guest is started from, in segments of the broker.
#[derive(Debug, Default)]
pub struct Images {
    pub kernel: Vec<u8>,
    /// Initial RAM disk or boot modules, in the order of `GuestMachine::modules`.
    pub modules: Vec<Vec<u8>>,
}

impl Images {
    /// Copies the images out of their segments: the memory is the broker's, and a copy cannot change under us.
    pub fn read(kernel: &Bytes, modules: &[Bytes]) -> atoll_transport::Result<Images> {
        let copy = |bytes: &Bytes| {
            let mut copy = vec![0; bytes.len()];
            bytes.read(0, &mut copy).map(|()| copy)
        };
        Ok(Images {
            kernel: copy(kernel)?,
            modules: modules.iter().map(copy).collect::<Result<_, _>>()?,
        })
    }

    /// Everything that has to be put into RAM, and where a CPU with these features starts.
    ///
    /// # Errors
    /// [`LoadError`], when the kernel is none or does not fit.
    pub fn plan<'a>(
        &'a self,
        guest: &'a GuestMachine,
        features: Features,
    ) -> Result<Loaded<'a>, LoadError> {
        let (tables, rsdp) = pc::acpi_tables(guest).build();
        let module = |(bytes, text): (&'a Vec<u8>, &'a String)| firmware::Module { bytes, text };
        let boot = Boot {
            kernel: &self.kernel,
            modules: self
                .modules
                .iter()
                .zip(&guest.modules)
                .map(module)
                .collect(),
            command_line: &guest.append,
            memory_bytes: guest.memory_bytes,
            rsdp,
            long_mode: features.contains(Features::LM),
        };
        let (mut chunks, entry) = firmware::load(&boot)?;
        chunks.push(tables);
        Ok((chunks, entry))
    }
}

/// Puts the chunks into RAM and the registers as the entry says.
pub fn start(cpu: &mut Cpu, chunks: &[Chunk<'_>], entry: &Entry) {
    for chunk in chunks {
        let ram = cpu.mmu.ram();
        let placed = ram.write(chunk.address, &chunk.bytes)
            && clear(ram, chunk.address + chunk.bytes.len() as u64, chunk.zeroes);
        assert!(placed, "the loader places chunks within RAM");
    }
    let state = &mut cpu.state;
    for (register, value) in [
        (RAX, entry.ax),
        (RBX, entry.bx),
        (RSI, entry.si),
        (RSP, entry.sp),
    ] {
        state.gpr[usize::from(register)] = value;
    }
    state.set_rip(entry.ip);
    state.set_eflags(2);
    state.cr0 = cr::CR0_ET;
    state.gdtr.base = entry.gdt_base;
    state.gdtr.limit = entry.gdt_limit;
    let flat = attr::S | attr::P | attr::G;
    let (code, data) = match entry.start {
        Start::Real => (attr::S | attr::P | 0xb, attr::S | attr::P | 0x3),
        Start::Flat32 => {
            state.cr0 |= cr::CR0_PE;
            (flat | attr::DB | 0xb, flat | attr::DB | 0x3)
        }
        Start::Long { cr3 } => {
            state.cr0 |= cr::CR0_PE | cr::CR0_NE | cr::CR0_PG;
            state.cr3 = cr3;
            state.cr4 = cr::CR4_PAE;
            state.efer = cr::EFER_LME | cr::EFER_LMA;
            (flat | attr::L | 0xb, flat | attr::DB | 0x3)
        }
    };
    let segment = |selector: u16, attr: u16| match entry.start {
        Start::Real => Segment {
            base: u64::from(selector) << 4,
            limit: 0xffff,
            attr,
            selector,
        },
        _ => Segment {
            base: 0,
            limit: u32::MAX,
            attr,
            selector,
        },
    };
    state.seg[Seg::Cs as usize] = segment(entry.code_selector, code);
    for seg in [Seg::Ds, Seg::Es, Seg::Ss, Seg::Fs, Seg::Gs] {
        state.seg[seg as usize] = segment(entry.data_selector, data);
    }
    cpu.update_mode();
}

/// Zeroes a range, without touching the pages that are zero already.
fn clear(ram: &Ram, start: u64, bytes: u64) -> bool {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut page = ZEROES;
    let mut at = start;
    while at < start + bytes {
        let count = (4096 - at % 4096).min(start + bytes - at);
        let old = &mut page[..count as usize];
        if !ram.read(at, old)
            || old.iter().any(|byte| *byte != 0) && !ram.write(at, &ZEROES[..count as usize])
        {
            return false;
        }
        at += count;
    }
    true
}
