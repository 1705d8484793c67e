//! Decoded blocks for the interpreter, found by physical address and mode word.
//!
//! A block ends where control may go elsewhere, at the end of its page, or after [`MAX_OPS`] instructions. An instruction
//! over two pages is a block of its own that remembers both.

use atoll_mmu::MemStop;
use atoll_x86::decode::decode;
use atoll_x86::op::OpFlags;
use atoll_x86::{Cpu, Op};
use rustc_hash::FxHashMap;

pub(crate) const PAGE: u64 = 4096;
const MAX_OPS: usize = 64;
const FRONT: usize = 4096;

/// An entry of a region, as a block remembers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) region: u32,
    pub(crate) number: u32,
}

/// Instructions in a row.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) physical: u64,
    pub(crate) mode: u32,
    pub(crate) ops: Box<[Op]>,
    /// Bytes of code.
    pub(crate) len: u64,
    /// The physical page that the last bytes lie in, if it is another one.
    pub(crate) second: Option<u64>,
    /// How often it was started; `u32::MAX` if it is not to be compiled.
    pub(crate) heat: u32,
    /// The region that is entered here.
    pub(crate) entry: Option<Entry>,
}

/// The cache of blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    slots: Vec<Option<Block>>,
    free: Vec<u32>,
    by_place: FxHashMap<(u64, u32), u32>,
    /// Direct-mapped, in front of the map: (physical, mode, slot).
    front: Box<[(u64, u32, u32)]>,
    by_page: FxHashMap<u64, Vec<u32>>,
}

fn front_slot(physical: u64) -> usize {
    (physical ^ (physical >> 12)) as usize & (FRONT - 1)
}

impl Blocks {
    pub(crate) fn new() -> Blocks {
        Blocks {
            slots: Vec::new(),
            free: Vec::new(),
            by_place: FxHashMap::default(),
            front: vec![(u64::MAX, 0, 0); FRONT].into(),
            by_page: FxHashMap::default(),
        }
    }

    /// The block at a place, if it was decoded.
    #[inline]
    pub(crate) fn find(&mut self, physical: u64, mode: u32) -> Option<u32> {
        let f = &mut self.front[front_slot(physical)];
        if f.0 == physical && f.1 == mode {
            return Some(f.2);
        }
        let &slot = self.by_place.get(&(physical, mode))?;
        *f = (physical, mode, slot);
        Some(slot)
    }

    pub(crate) fn known(&self, physical: u64, mode: u32) -> bool {
        self.by_place.contains_key(&(physical, mode))
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Block {
        self.slots[slot as usize].as_ref().expect("a live block")
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Block {
        self.slots[slot as usize].as_mut().expect("a live block")
    }

    /// Decodes the block at `va`, which is at `physical`, and marks its lines.
    pub(crate) fn decode(&mut self, cpu: &mut Cpu, va: u64, physical: u64) -> Result<u32, MemStop> {
        let mode = cpu.state.mode;
        let mut page = [0; PAGE as usize];
        let n = cpu.mmu.code_bytes(physical, &mut page);
        let bytes = &page[..n];
        let mut ops = Vec::new();
        let mut len = 0;
        let mut second = None;
        while ops.len() < MAX_OPS {
            let rest = &bytes[len..];
            let Some(op) = decode(&rest[..rest.len().min(15)], mode, cpu.features()) else {
                if ops.is_empty() {
                    let (op, behind) = decode_across(cpu, va, rest)?;
                    len = usize::from(op.len);
                    second = Some(behind);
                    ops.push(op);
                }
                break;
            };
            len += usize::from(op.len);
            ops.push(op);
            if op.has(OpFlags::ENDS_BLOCK) {
                break;
            }
        }
        let block = Block {
            physical,
            mode,
            ops: ops.into(),
            len: len as u64,
            second,
            heat: 0,
            entry: None,
        };
        for (at, n) in block.extents() {
            cpu.mmu.mark_code(at, n);
        }
        Ok(self.insert(block))
    }

    fn insert(&mut self, block: Block) -> u32 {
        let place = (block.physical, block.mode);
        let extents = block.extents();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        for (at, _) in extents {
            self.by_page.entry(at / PAGE).or_default().push(slot);
        }
        self.slots[slot as usize] = Some(block);
        self.by_place.insert(place, slot);
        slot
    }

    /// Drops the blocks that touch lines of the `len` bytes at `address`, which lie in one page.
    pub(crate) fn invalidate(&mut self, address: u64, len: u64) {
        let Some(list) = self.by_page.get(&(address / PAGE)) else {
            return;
        };
        let hit: Vec<u32> = list
            .iter()
            .copied()
            .filter(|&s| {
                self.get(s)
                    .extents()
                    .any(|(at, n)| lines_meet(at, n, address, len))
            })
            .collect();
        for slot in hit {
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(block) = self.slots[slot as usize].take() else {
            return;
        };
        self.by_place.remove(&(block.physical, block.mode));
        let f = &mut self.front[front_slot(block.physical)];
        if f.2 == slot {
            f.0 = u64::MAX;
        }
        for (at, _) in block.extents() {
            if let Some(list) = self.by_page.get_mut(&(at / PAGE)) {
                list.retain(|&s| s != slot);
            }
        }
        self.free.push(slot);
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Blocks::new();
    }
}

impl Block {
    /// The physical bytes it was decoded from.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let first = (PAGE - self.physical % PAGE).min(self.len);
        let rest = self.second.map(|p| (p, self.len - first));
        std::iter::once((self.physical, first)).chain(rest)
    }
}

/// Whether two ranges touch a common 64-byte line.
pub(crate) fn lines_meet(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    let (a0, a1) = (a >> 6, (a + a_len.max(1) - 1) >> 6);
    let (b0, b1) = (b >> 6, (b + b_len.max(1) - 1) >> 6);
    a0 <= b1 && b0 <= a1
}

/// Decodes an instruction whose first bytes end a page; gives the physical page of the rest too.
fn decode_across(cpu: &mut Cpu, va: u64, head: &[u8]) -> Result<(Op, u64), MemStop> {
    let next = (va | (PAGE - 1)).wrapping_add(1);
    let behind = cpu.mmu.fetch(next)?;
    let mut bytes = [0; 30];
    bytes[..head.len()].copy_from_slice(head);
    let tail = cpu.mmu.code_bytes(behind, &mut bytes[head.len()..][..15]);
    let all = &bytes[..(head.len() + tail).min(15)];
    let op =
        decode(all, cpu.state.mode, cpu.features()).expect("fifteen bytes decode to something");
    Ok((op, behind))
}
