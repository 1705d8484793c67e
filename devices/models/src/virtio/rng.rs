//! The virtio entropy device (virtio 1.2, 5.4).
//!
//! Its bytes are part of the run: they come from a generator that the machine's seed starts, and a snapshot holds its state. They
//! are as unpredictable as the seed is secret, and no more.

use device_core::SplitMix64;

use super::chain::Chain;
use super::device::{Device, Io};

const QUEUE: u16 = 0;
/// Of one request; a driver asks again for more.
const MAX_BYTES: u64 = 4096;

/// A virtio entropy device; [`VirtioRng`](super::VirtioRng) is the function that a machine attaches.
#[derive(Clone, Debug)]
pub struct Rng {
    generator: SplitMix64,
    /// Kept from call to call for its buffers; not state.
    chain: Chain,
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng {
            generator: SplitMix64::new(seed),
            chain: Chain::default(),
        }
    }
}

impl Device for Rng {
    type State = SplitMix64;

    const KIND: &'static str = "virtio-rng";
    const VERSION: u16 = 1;
    const TYPE: u16 = 4;
    /// No class of its own.
    const CLASS: u32 = 0x00_FF_00;
    const QUEUES: &'static [u16] = &[8];

    fn features(&self) -> u64 {
        0
    }

    fn read_config(&self, _offset: u64) -> u8 {
        0
    }

    fn stop(&mut self) {}

    /// The generator runs on: a machine that restarts does not see the same bytes again.
    fn power_cycle(&mut self) {}

    fn process(&mut self, _queue: u16, io: &mut Io<'_, '_>) {
        let mut chain = std::mem::take(&mut self.chain);
        while io.pop(QUEUE, &mut chain) {
            let mut bytes = [0; MAX_BYTES as usize];
            let wanted = chain.writable.len().min(MAX_BYTES) as usize;
            for chunk in bytes[..wanted].chunks_mut(8) {
                chunk.copy_from_slice(&self.generator.next_u64().to_le_bytes()[..chunk.len()]);
            }
            let written = chain.writable.write(0, &bytes[..wanted], io.cx);
            io.push(QUEUE, chain.head, written as u32);
        }
        self.chain = chain;
        if !io.is_broken {
            io.want_notification(QUEUE);
        }
    }

    fn state(&self) -> &SplitMix64 {
        &self.generator
    }

    fn set_state(&mut self, state: SplitMix64) -> Result<(), &'static str> {
        self.generator = state;
        Ok(())
    }
}
