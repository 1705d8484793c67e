//! The first instruction: what stands in RAM and in the registers when a machine starts, and again after each reset.

use atoll_machine::firmware::linux::LoadError;
use atoll_machine::firmware::{Chunk, Entry, linux};
use atoll_machine::pc;
use atoll_transport::Bytes;
use atoll_x86::Cpu;
use atoll_x86::op::{RSI, RSP, Seg};
use atoll_x86::state::{Segment, attr, cr};
use machine_spec::GuestMachine;

/// The files that a guest is started from, in segments of the broker.
#[derive(Debug)]
pub struct Images {
    pub kernel: Vec<u8>,
    pub initrd: Vec<u8>,
}

impl Images {
    /// Copies the images out of their segments: the memory is the broker's, and a copy cannot change under us.
    pub fn read(kernel: &Bytes, initrd: Option<&Bytes>) -> atoll_transport::Result<Images> {
        let copy = |bytes: &Bytes| {
            let mut copy = vec![0; bytes.len()];
            bytes.read(0, &mut copy).map(|()| copy)
        };
        Ok(Images {
            kernel: copy(kernel)?,
            initrd: initrd.map_or(Ok(Vec::new()), copy)?,
        })
    }

    /// Everything that has to be put into RAM, and where the CPU starts.
    ///
    /// # Errors
    /// [`LoadError`], when the kernel is none or does not fit.
    pub fn plan(&self, guest: &GuestMachine) -> Result<(Vec<Chunk<'_>>, Entry), LoadError> {
        let (tables, rsdp) = pc::acpi_tables(guest).build();
        let (mut chunks, entry) = linux::load(
            &self.kernel,
            &self.initrd,
            &guest.append,
            guest.memory_bytes,
            rsdp,
        )?;
        chunks.push(tables);
        Ok((chunks, entry))
    }
}

/// Puts the chunks into RAM and the registers as the entry says.
pub fn start(cpu: &mut Cpu, chunks: &[Chunk<'_>], entry: &Entry) {
    for chunk in chunks {
        let placed = cpu.mmu.ram().write(chunk.address, &chunk.bytes);
        assert!(placed, "the loader places chunks within RAM");
    }
    let state = &mut cpu.state;
    state.gpr[usize::from(RSI)] = entry.rsi;
    state.gpr[usize::from(RSP)] = entry.rsp;
    state.set_rip(entry.rip);
    state.set_eflags(2);
    state.cr0 = cr::CR0_PE | cr::CR0_ET | cr::CR0_NE | cr::CR0_PG;
    state.cr3 = entry.cr3;
    state.cr4 = cr::CR4_PAE;
    state.efer = cr::EFER_LME | cr::EFER_LMA;
    state.gdtr.base = entry.gdt_base;
    state.gdtr.limit = entry.gdt_limit;
    const FLAT: u16 = attr::S | attr::P | attr::G;
    state.seg[Seg::Cs as usize] = Segment {
        base: 0,
        limit: u32::MAX,
        attr: 0xb | FLAT | attr::L,
        selector: entry.code_selector,
    };
    for seg in [Seg::Ds, Seg::Es, Seg::Ss, Seg::Fs, Seg::Gs] {
        state.seg[seg as usize] = Segment {
            base: 0,
            limit: u32::MAX,
            attr: 0x3 | FLAT | attr::DB,
            selector: entry.data_selector,
        };
    }
    cpu.update_mode();
}
