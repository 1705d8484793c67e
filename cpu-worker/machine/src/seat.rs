//! A worker seat: a device model inside the CPU worker.
//!
//! A model's effects are applied only when its call has returned. A model that panics is taken out of service: its effects are dropped,
//! its registers read all ones from then on, and the run is marked; the guest goes on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use atoll_mmu::Ram;
use device_core::{Cx, Dma, Effects, Manifest, Model};

/// Where one of a device's lines leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTarget {
    /// An ISA interrupt: the PIC pair and the I/O APIC.
    Isa(u8),
    /// The INTx pin of its PCI function.
    Pci,
}

/// A model and what the board knows of it.
pub struct Seat {
    /// For messages and statistics.
    pub id: String,
    pub model: Box<dyn Model>,
    pub manifest: Manifest,
    pub lines: Vec<LineTarget>,
    /// Levels of the lines, so that a reset can lower them.
    pub levels: Vec<bool>,
    /// The place of the machine file whose link serves this device's requests.
    pub place: Option<u16>,
    /// Outside input that the model had no room for.
    pub input: VecDeque<u8>,
    /// The model panicked.
    pub faulted: bool,
    /// Requests submitted since the start.
    pub requests: u64,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("id", &self.id)
            .field("faulted", &self.faulted)
            .finish_non_exhaustive()
    }
}

/// Guest RAM as the models read it.
struct RamDma<'a>(&'a Ram);

impl Dma for RamDma<'_> {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> bool {
        let found = self.0.read(address, buf);
        if !found {
            buf.fill(0);
        }
        found
    }
}

impl Seat {
    pub fn new(
        id: &str,
        model: Box<dyn Model>,
        lines: Vec<LineTarget>,
        place: Option<u16>,
    ) -> Seat {
        let manifest = model.manifest();
        assert_eq!(
            lines.len(),
            usize::from(manifest.lines),
            "{id}: the board wires every line of a device"
        );
        let levels = vec![false; lines.len()];
        Seat {
            id: id.to_owned(),
            model,
            manifest,
            lines,
            levels,
            place,
            input: VecDeque::new(),
            faulted: false,
            requests: 0,
        }
    }

    /// Calls the model. `effects` holds what came out, nothing if it panicked; then the answer is None.
    pub fn call<R>(
        &mut self,
        now_ns: u64,
        ram: &Ram,
        effects: &mut Effects,
        f: impl FnOnce(&mut dyn Model, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        effects.clear();
        if self.faulted {
            return None;
        }
        let mut dma = RamDma(ram);
        let model = self.model.as_mut();
        let called = catch_unwind(AssertUnwindSafe(|| {
            f(model, &mut Cx::new(now_ns, &mut dma, effects))
        }));
        if called.is_err() {
            self.faulted = true;
            effects.clear();
        }
        called.ok()
    }
}
