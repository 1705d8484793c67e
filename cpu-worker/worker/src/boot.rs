//! The first instruction: what stands in RAM and in the registers when a machine starts, and again after each reset.

use atoll_machine::firmware::{self, Boot, Chunk, Entry, LoadError, Loaded, Start};
use atoll_machine::pc;
use atoll_mmu::Ram;
use atoll_transport::Bytes;
use atoll_x86::Cpu;
use atoll_x86::features::Features;
use atoll_x86::op::{RAX, RBX, RSI, RSP, Seg};
use atoll_x86::state::{Segment, attr, cr};
use device_models::platform::FwCfg;
use machine_spec::GuestMachine;

/// The files that a guest is started from, where the broker keeps them: a copy of ours would only be wanted at a reset, and be as large as
/// all else that the worker has.
#[derive(Debug)]
pub struct Files {
    kernel: Option<Bytes>,
    modules: Vec<Bytes>,
    /// The hash of what they held at first.
    hash: blake3::Hash,
}

/// The broker changed the files, or took them away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesChanged;

impl Files {
    /// The files and what they hold.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn new(
        kernel: Option<Bytes>,
        modules: Vec<Bytes>,
    ) -> atoll_transport::Result<(Files, Images)> {
        let images = Images::read(kernel.as_ref(), &modules)?;
        let hash = images.hash();
        let files = Files {
            kernel,
            modules,
            hash,
        };
        Ok((files, images))
    }

    /// What they hold, which is what they held before.
    ///
    /// # Errors
    /// If it is not.
    pub fn read(&self) -> Result<Images, FilesChanged> {
        let images = Images::read(self.kernel.as_ref(), &self.modules).map_err(|_| FilesChanged)?;
        match images.hash() == self.hash {
            true => Ok(images),
            false => Err(FilesChanged),
        }
    }
}

/// What those files hold.
#[derive(Debug, Default)]
pub struct Images {
    /// Empty if there is none.
    pub kernel: Vec<u8>,
    /// Initial RAM disk or boot modules, in the order of `GuestMachine::modules`.
    pub modules: Vec<Vec<u8>>,
}

impl Images {
    fn read(kernel: Option<&Bytes>, modules: &[Bytes]) -> atoll_transport::Result<Images> {
        Ok(Images {
            kernel: kernel.map(copy).transpose()?.unwrap_or_default(),
            modules: modules.iter().map(copy).collect::<Result<_, _>>()?,
        })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.kernel);
        for module in &self.modules {
            hasher.update(module);
        }
        hasher.finalize()
    }

    /// Everything that has to be put into RAM, and where a CPU with these features starts.
    fn plan<'a>(
        &'a self,
        guest: &'a GuestMachine,
        features: Features,
    ) -> Result<Loaded<'a>, LoadError> {
        let (mut chunks, rsdp) = pc::firmware(guest);
        let long_mode = features.contains(Features::LM);
        let (loaded, entry) = firmware::load(&self.boot(guest, rsdp, long_mode))?;
        // A kernel that wants a BIOS's places for itself has them.
        chunks.extend(loaded);
        Ok((chunks, entry))
    }

    fn boot<'a>(&'a self, guest: &'a GuestMachine, rsdp: u64, long_mode: bool) -> Boot<'a> {
        let module = |(bytes, text): (&'a Vec<u8>, &'a String)| firmware::Module { bytes, text };
        let modules = self.modules.iter().zip(&guest.modules);
        Boot {
            kernel: &self.kernel,
            modules: modules.map(module).collect(),
            command_line: &guest.append,
            memory_bytes: guest.memory_bytes,
            rsdp,
            long_mode,
        }
    }

    /// What firmware finds in fw_cfg; none in a machine without firmware.
    ///
    /// # Errors
    /// [`LoadError`], when the kernel is none that firmware can be given.
    pub fn fw_cfg(&self, guest: &GuestMachine) -> Result<Option<FwCfg>, LoadError> {
        // The kernel itself asks the firmware for ACPI, and the CPU for its features.
        let contents = || firmware::fw_cfg::contents(&self.boot(guest, 0, true));
        let contents = guest.bios.then(contents).transpose()?;
        Ok(contents.map(|(items, files)| FwCfg::new(items, files)))
    }
}

/// Copies an image out of its segment: the memory is the broker's, and a copy cannot change under us.
///
/// # Errors
/// If it cannot be read.
pub fn copy(bytes: &Bytes) -> atoll_transport::Result<Vec<u8>> {
    let mut copy = vec![0; bytes.len()];
    bytes.read(0, &mut copy).map(|()| copy)
}

/// Puts the images and the firmware's work into RAM, and the CPU at its entry. A machine that has firmware does that itself: its CPU is
/// where a reset left it.
///
/// # Errors
/// [`LoadError`], when the kernel is none or does not fit.
pub fn boot(cpu: &mut Cpu, images: &Images, guest: &GuestMachine) -> Result<(), LoadError> {
    if guest.bios {
        return Ok(());
    }
    let (chunks, entry) = images.plan(guest, cpu.features())?;
    start(cpu, &chunks, &entry);
    Ok(())
}

/// Puts the chunks into RAM and the registers as the entry says.
fn start(cpu: &mut Cpu, chunks: &[Chunk<'_>], entry: &Entry) {
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
    let segment = |selector: u16, attr: u16| Segment {
        base: 0,
        limit: u32::MAX,
        attr,
        selector,
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
