//! The cache of decoded blocks: found by physical address and mode word, dropped by 64-byte line.
//!
//! A block is a straight run of instructions within one page, up to a branch, or one instruction that crosses into the next
//! page. It holds no virtual address, so one block serves every mapping of its bytes.
//!
//! Invariants: every line that a live block reads is marked in RAM, so that a store to it is reported; a dead block's
//! physical address is [`DEAD`], which no lookup asks for, so links to it fail their check.

use atoll_mmu::{CodeWrite, MemStop, OFFSET, PAGE};
use rustc_hash::FxHashMap;

use crate::cpu::Cpu;
use crate::decode::decode;
use crate::op::{Op, OpFlags};

/// The physical address of a dead block, and of an absent second page.
const DEAD: u64 = u64::MAX;
/// No block.
pub(super) const NONE: u32 = u32::MAX;
/// A block ends after so many instructions, so that one decode is bounded.
const MAX_OPS: usize = 48;
/// How many instructions are kept before all is forgotten: 6 MiB with what finds them.
const MAX_TOTAL: usize = 64_000;
const SHORTCUTS: usize = 8192;
const LINE: u64 = 64;

/// A decoded block.
#[derive(Debug)]
pub(super) struct Block {
    /// Where its bytes begin, in guest-physical memory.
    pub(super) pa: u64,
    /// The page of the bytes that follow, for an instruction over two pages.
    pub(super) second: u64,
    pub(super) mode: u32,
    /// Its bytes.
    pub(super) len: u16,
    /// The engine's mark: not zero where it has something better than this block.
    pub(super) tag: u32,
    /// How often it was entered.
    pub(super) heat: u32,
    /// The blocks that followed last: after falling through, after a taken branch.
    pub(super) next: [u32; 2],
    pub(super) ops: Box<[Op]>,
}

impl Block {
    fn covers(&self, line: u64) -> bool {
        if self.pa == DEAD {
            return false;
        }
        let head = self.pa & !(LINE - 1) <= line && line < self.pa + self.len as u64;
        head || self.second != DEAD && line == self.second
    }
    pub(super) fn is(&self, pa: u64, mode: u32) -> bool {
        self.pa == pa && self.mode == mode
    }
    pub(super) fn crosses(&self) -> bool {
        self.second != DEAD
    }
}

/// All decoded blocks of a vCPU.
#[derive(Debug)]
pub struct BlockCache {
    pub(super) blocks: Vec<Block>,
    free: Vec<u32>,
    index: FxHashMap<(u64, u32), u32>,
    lines: FxHashMap<u64, Vec<u32>>,
    /// The engine's marks, which outlive the blocks that carry them.
    tags: FxHashMap<(u64, u32), u32>,
    /// A direct-mapped front of `index`.
    shortcuts: Box<[u32]>,
    total: usize,
}

impl Default for BlockCache {
    fn default() -> BlockCache {
        BlockCache {
            blocks: Vec::new(),
            free: Vec::new(),
            index: FxHashMap::default(),
            lines: FxHashMap::default(),
            tags: FxHashMap::default(),
            shortcuts: vec![NONE; SHORTCUTS].into(),
            total: 0,
        }
    }
}

fn shortcut(pa: u64, mode: u32) -> usize {
    (pa ^ pa >> 13 ^ (mode as u64) << 3) as usize & (SHORTCUTS - 1)
}

impl BlockCache {
    /// An empty cache.
    pub fn new() -> BlockCache {
        BlockCache::default()
    }

    /// Instructions decoded and kept.
    pub fn instructions(&self) -> usize {
        self.total
    }

    /// Forgets everything but the marks in RAM, which stay until their lines are written.
    pub fn clear(&mut self) {
        self.forget_blocks();
        self.tags.clear();
    }

    fn forget_blocks(&mut self) {
        self.blocks.clear();
        self.free.clear();
        self.index.clear();
        self.lines.clear();
        self.shortcuts.fill(NONE);
        self.total = 0;
    }

    /// Drops the blocks of the lines that a write touched.
    pub fn drop_code(&mut self, write: CodeWrite) {
        let first = write.address & !(LINE - 1);
        let last = (write.address + write.len.max(1) - 1) & !(LINE - 1);
        for line in (first..=last).step_by(LINE as usize) {
            for id in self.lines.remove(&line).unwrap_or_default() {
                if self.blocks[id as usize].covers(line) {
                    self.kill(id);
                }
            }
        }
    }

    fn kill(&mut self, id: u32) {
        let block = &mut self.blocks[id as usize];
        self.index.remove(&(block.pa, block.mode));
        block.pa = DEAD;
        block.second = DEAD;
        self.total -= block.ops.len();
        block.ops = Box::default();
        self.free.push(id);
    }

    /// Marks a place: the run loop stops where it comes to the block there, decoded now or later. 0 takes the mark away.
    pub fn set_tag(&mut self, pa: u64, mode: u32, tag: u32) {
        if tag == 0 {
            self.tags.remove(&(pa, mode));
        } else {
            self.tags.insert((pa, mode), tag);
        }
        if let Some(&id) = self.index.get(&(pa, mode)) {
            self.blocks[id as usize].tag = tag;
        }
    }

    /// How often the block at a place was entered; a tagged one counts as hot.
    pub fn heat(&self, pa: u64, mode: u32) -> u32 {
        self.at(pa, mode).map_or(0, |block| match block.tag {
            0 => block.heat,
            _ => u32::MAX,
        })
    }

    /// How often the block at a place was entered to be interpreted, tagged or not.
    pub fn entered(&self, pa: u64, mode: u32) -> u32 {
        self.at(pa, mode).map_or(0, |block| block.heat)
    }

    fn at(&self, pa: u64, mode: u32) -> Option<&Block> {
        let id = *self.index.get(&(pa, mode))?;
        self.blocks.get(id as usize)
    }

    /// Sets how often the block at a place counts as entered: a higher threshold for code that keeps changing.
    pub fn set_heat(&mut self, pa: u64, mode: u32, heat: u32) {
        if let Some(&id) = self.index.get(&(pa, mode)) {
            self.blocks[id as usize].heat = heat;
        }
    }

    /// The block at `pa`, decoded now if need be. `va` is its linear address, to fetch a second page by.
    pub(super) fn find(
        &mut self,
        cpu: &mut Cpu,
        va: u64,
        pa: u64,
        mode: u32,
    ) -> Result<u32, MemStop> {
        let at = shortcut(pa, mode);
        let id = self.shortcuts[at];
        if let Some(block) = self.blocks.get(id as usize)
            && block.is(pa, mode)
        {
            return Ok(id);
        }
        let id = match self.index.get(&(pa, mode)) {
            Some(&id) => id,
            None => self.decode(cpu, va, pa, mode)?,
        };
        self.shortcuts[at] = id;
        Ok(id)
    }

    /// Drops the block and decodes it again: the page behind a page-crossing instruction is another one now.
    pub(super) fn refresh(
        &mut self,
        cpu: &mut Cpu,
        id: u32,
        va: u64,
        pa: u64,
        mode: u32,
    ) -> Result<u32, MemStop> {
        self.kill(id);
        self.find(cpu, va, pa, mode)
    }

    #[cold]
    fn decode(&mut self, cpu: &mut Cpu, va: u64, pa: u64, mode: u32) -> Result<u32, MemStop> {
        if self.total > MAX_TOTAL {
            self.forget_blocks();
        }
        let mut bytes = [0u8; 16 * MAX_OPS];
        let n = cpu.mmu.code_bytes(pa, &mut bytes);
        if n == 0 {
            return Err(MemStop::Device { pa });
        }
        let mut ops = Vec::with_capacity(8);
        let mut at = 0;
        while at < n && ops.len() < MAX_OPS {
            let Some(op) = decode(&bytes[at..n.min(at + 15)], mode, cpu.features()) else {
                break;
            };
            at += op.len as usize;
            ops.push(op);
            if op.has(OpFlags::ENDS_BLOCK) {
                break;
            }
        }
        let mut second = DEAD;
        if ops.is_empty() {
            // The first instruction does not end in this page.
            let next = (va | OFFSET).wrapping_add(1);
            second = cpu.mmu.fetch(next)?;
            // The accessed bit that this set may be one of the bytes before, or of other code.
            cpu.note_code_writes();
            let mut whole = [0u8; 15];
            cpu.mmu.code_bytes(pa, &mut whole[..n]);
            cpu.mmu.code_bytes(second, &mut whole[n..]);
            let op = decode(&whole, mode, cpu.features()).expect("15 bytes hold any instruction");
            cpu.mmu.mark_code(second, 15 - n as u64);
            at = n;
            ops.push(op);
        }
        cpu.mmu.mark_code(pa, at as u64);
        Ok(self.insert(Block {
            pa,
            second,
            mode,
            len: at as u16,
            tag: self.tags.get(&(pa, mode)).copied().unwrap_or(0),
            heat: 0,
            next: [NONE; 2],
            ops: ops.into(),
        }))
    }

    fn insert(&mut self, block: Block) -> u32 {
        let id = self.free.pop().unwrap_or(self.blocks.len() as u32);
        self.total += block.ops.len();
        self.index.insert((block.pa, block.mode), id);
        let first = block.pa & !(LINE - 1);
        let last = (block.pa + block.len as u64 - 1) & !(LINE - 1);
        debug_assert!(block.pa & !OFFSET == last & !OFFSET && block.len as u64 <= PAGE);
        for line in (first..=last).step_by(LINE as usize) {
            self.lines.entry(line).or_default().push(id);
        }
        if block.crosses() {
            self.lines.entry(block.second).or_default().push(id);
        }
        if let Some(slot) = self.blocks.get_mut(id as usize) {
            *slot = block;
        } else {
            self.blocks.push(block);
        }
        id
    }
}
