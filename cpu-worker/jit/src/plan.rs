//! A region before it is code: a loop-closed control-flow graph of decoded instructions.
//!
//! Places are offsets from the head's page (`at = va - (head & !0xfff)`), since no virtual address is baked in. A region spans
//! at most [`MAX_PAGES`] virtual pages around its head, those whose mapping the code TLB holds when the region is made; emitted
//! code checks the mapping again whenever control crosses into another page.

use atoll_x86::Op;
use atoll_x86::op::{Kind, OpFlags};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::effects::{Class, class};

/// Virtual pages of a region: the head's and these many before and after.
pub(crate) const REACH: i64 = 2;
const MAX_BLOCKS: usize = 200;
const MAX_OPS: usize = 640;
/// A row of instructions without a transfer that has so many is cut at the next multiple of `GRID` bytes, and what follows is a region of its
/// own. An interrupt returns to any instruction, which becomes a head: in a long row each would have a copy of all the rest, so they
/// share it.
const ROW: usize = 128;
const GRID: i64 = 256;
const PAGE: i64 = 4096;

/// Where control goes statically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// To a block of this region.
    Block(usize),
    /// To this place, outside.
    Out(i64),
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Goes on.
    Fall(Edge),
    /// The last instruction is JCC or LOOP: taken, not taken.
    Branch(Edge, Edge),
    /// The last instruction is JMP or CALL.
    Jump(Edge),
    /// The last instruction is RET or an indirect JMP or CALL.
    Indirect,
    /// The last instruction is a function call ([`Class::Call`]); then goes on.
    Call(Edge),
    /// The last instruction is a function call that says where to go on, and in which mode.
    Far,
    /// The instruction after the last one is the interpreter's.
    Leave,
}

impl End {
    /// Where control goes from here that is known.
    fn edges(self) -> impl Iterator<Item = Edge> {
        let (a, b) = match self {
            End::Fall(e) | End::Jump(e) | End::Call(e) => (Some(e), None),
            End::Branch(taken, not) => (Some(taken), Some(not)),
            End::Indirect | End::Leave | End::Far => (None, None),
        };
        a.into_iter().chain(b)
    }
}

/// A block of the graph.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) at: i64,
    pub(crate) ops: Vec<Op>,
    pub(crate) end: End,
    /// The page of the first byte and of the last: they differ only if the block is one instruction over two pages.
    pub(crate) first_page: i64,
    pub(crate) last_page: i64,
    /// Control may come in from outside.
    pub(crate) entry: bool,
}

impl Block {
    /// Where the instruction after the block is.
    pub(crate) fn next(&self) -> i64 {
        self.at + self.ops.iter().map(|o| i64::from(o.len)).sum::<i64>()
    }
    /// Leaves the region after so many instructions, if there are more.
    fn shorten(&mut self, most: usize) {
        if most < self.ops.len() {
            self.ops.truncate(most);
            self.end = End::Fall(Edge::Out(self.next()));
        }
    }
    /// The successors within the region.
    pub(crate) fn successors(&self) -> impl Iterator<Item = usize> {
        self.end.edges().filter_map(|e| match e {
            Edge::Block(b) => Some(b),
            Edge::Out(_) => None,
        })
    }
}

/// A region to be translated.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The mode word.
    pub(crate) mode: u32,
    /// The head is block 0.
    pub(crate) blocks: Vec<Block>,
    /// Physical pages by page offset from the head's (-REACH to REACH).
    pub(crate) pages: FxHashMap<i64, u64>,
}

/// What discovery asks.
pub(crate) trait Source {
    /// The decoded instruction at a place, if its bytes lie in known pages.
    fn op(&mut self, at: i64) -> Option<Op>;
    /// The physical page behind a page offset, if known.
    fn page(&mut self, page: i64) -> Option<u64>;
    /// Whether the place was ever executed: cold code is left out.
    fn warm(&mut self, at: i64) -> bool;
}

impl Plan {
    /// Gathers the region whose head is at `head` (0 to 4095), at most `cap` instructions.
    pub(crate) fn discover(
        source: &mut dyn Source,
        head: i64,
        mode: u32,
        cap: usize,
    ) -> Option<Plan> {
        let mut d = Discovery {
            source,
            mode,
            ops: FxHashMap::default(),
            starts: FxHashMap::default(),
            cuts: FxHashSet::default(),
            work: vec![head],
            cap: cap.min(MAX_OPS),
        };
        d.starts.insert(head, true);
        d.gather();
        d.build(head)
    }

    /// How many instructions it has.
    pub(crate) fn len(&self) -> usize {
        self.blocks.iter().map(|b| b.ops.len()).sum()
    }

    /// Leaves out about half of the instructions: those that are farthest from the head.
    pub(crate) fn halve(&mut self) {
        let most = self.len() / 2;
        let kept = self.nearest(most.max(1));
        let places: Vec<i64> = self.blocks.iter().map(|b| b.at).collect();
        let mut new = vec![None; places.len()];
        for (n, &old) in kept.iter().enumerate() {
            new[old] = Some(n);
        }
        let edge = |e: Edge| match e {
            Edge::Block(b) => new[b].map_or(Edge::Out(places[b]), Edge::Block),
            Edge::Out(_) => e,
        };
        let mut blocks: Vec<Option<Block>> = self.blocks.drain(..).map(Some).collect();
        self.blocks = kept.iter().filter_map(|&old| blocks[old].take()).collect();
        for b in &mut self.blocks {
            b.end = match b.end {
                End::Fall(e) => End::Fall(edge(e)),
                End::Branch(t, n) => End::Branch(edge(t), edge(n)),
                End::Jump(e) => End::Jump(edge(e)),
                End::Call(e) => End::Call(edge(e)),
                End::Indirect | End::Far | End::Leave => b.end,
            };
        }
        if let [only] = &mut self.blocks[..] {
            only.shorten(most.max(1));
        }
    }

    /// The blocks that are reached first from the head, with so many instructions in all; the head whatever it has.
    fn nearest(&self, most: usize) -> Vec<usize> {
        let mut kept = vec![0];
        let mut ops = self.blocks[0].ops.len();
        let mut next = 0;
        while next < kept.len() {
            for s in self.blocks[kept[next]].successors() {
                let more = self.blocks[s].ops.len();
                if !kept.contains(&s) && ops + more <= most {
                    kept.push(s);
                    ops += more;
                }
            }
            next += 1;
        }
        kept
    }

    /// The physical bytes that it was made from, as (address, length): sorted, apart from each other, each within a page.
    pub(crate) fn code(&self) -> Vec<(u64, u64)> {
        let mut pieces = Vec::new();
        for b in &self.blocks {
            let (mut at, end) = (b.at, b.next().max(b.at + 1));
            while at < end {
                let page = at.div_euclid(PAGE);
                let n = (end - at).min((page + 1) * PAGE - at);
                if let Some(&physical) = self.pages.get(&page) {
                    pieces.push((physical + at.rem_euclid(PAGE) as u64, n as u64));
                }
                at += n;
            }
        }
        pieces.sort_unstable();
        let mut all: Vec<(u64, u64)> = Vec::with_capacity(4);
        for (at, n) in pieces {
            match all.last_mut() {
                Some(last) if at % PAGE as u64 != 0 && at <= last.0 + last.1 => {
                    last.1 = last.1.max(at + n - last.0);
                }
                _ => all.push((at, n)),
            }
        }
        all.shrink_to_fit();
        all
    }

    /// The places outside of it that control goes to statically, sorted.
    pub(crate) fn outs(&self) -> Vec<i64> {
        let out = |edge| match edge {
            Edge::Out(at) => Some(at),
            Edge::Block(_) => None,
        };
        let mut all: Vec<i64> = self
            .blocks
            .iter()
            .flat_map(|b| b.end.edges())
            .filter_map(out)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

struct Discovery<'a> {
    source: &'a mut dyn Source,
    mode: u32,
    ops: FxHashMap<i64, Op>,
    /// Block starts; true for entries.
    starts: FxHashMap<i64, bool>,
    /// Where a row goes on that would have made the region too large.
    cuts: FxHashSet<i64>,
    work: Vec<i64>,
    cap: usize,
}

fn is_transfer(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, Jcc | Jmp | JmpInd | Call | CallInd | Ret | Loop)
}

impl Discovery<'_> {
    fn near(at: i64) -> bool {
        (-REACH..=REACH).contains(&at.div_euclid(PAGE))
    }

    /// Follows control from each start, noting instructions and further starts.
    fn gather(&mut self) {
        let mut next = 0;
        while next < self.work.len() {
            self.row(self.work[next]);
            next += 1;
        }
    }

    /// Follows control from one start to the next transfer.
    fn row(&mut self, start: i64) {
        let mut at = start;
        let mut len = 0;
        while !self.ops.contains_key(&at) && self.ops.len() < self.cap {
            let Some(op) = self.fetch(at) else {
                return;
            };
            self.ops.insert(at, op);
            len += 1;
            let after = at + i64::from(op.len);
            let Some(on) = self.follow(&op, after) else {
                return;
            };
            let cut = len >= ROW && on.div_euclid(GRID) != at.div_euclid(GRID);
            if cut || self.ops.len() >= self.cap {
                self.cuts.insert(on);
                return;
            }
            at = on;
        }
    }

    fn fetch(&mut self, at: i64) -> Option<Op> {
        if !Discovery::near(at) {
            return None;
        }
        let op = self.source.op(at)?;
        let last = (at + i64::from(op.len) - 1).div_euclid(PAGE);
        if !(-REACH..=REACH).contains(&last) || self.source.page(last).is_none() {
            return None;
        }
        if class(&op, self.mode) == Class::Leave {
            // The interpreter does it, and then looks for an entry right after it.
            self.start(at + i64::from(op.len), true);
            return None;
        }
        Some(op)
    }

    /// Notes the targets of an instruction; gives where straight-line code goes on.
    fn follow(&mut self, op: &Op, after: i64) -> Option<i64> {
        let target = after.wrapping_add(op.imm as i64);
        match op.kind {
            Kind::Jcc | Kind::Loop => {
                self.start(target, false);
                self.start(after, false);
                None
            }
            Kind::Jmp => {
                self.start(target, false);
                None
            }
            Kind::Call | Kind::CallInd => {
                self.start(after, true);
                None
            }
            Kind::JmpInd | Kind::Ret => None,
            _ if op.has(OpFlags::TRANSFERS) => None,
            _ if class(op, self.mode) == Class::Call => {
                // The interpreter's block goes on here, so that the place itself is no start that it knows.
                self.begin(after, false);
                None
            }
            _ => Some(after),
        }
    }

    /// Notes a place that control may come to, unless it never did.
    fn start(&mut self, at: i64, entry: bool) {
        if Discovery::near(at) && self.source.warm(at) {
            self.begin(at, entry);
        }
    }

    fn begin(&mut self, at: i64, entry: bool) {
        if let Some(e) = self.starts.get_mut(&at) {
            *e |= entry;
            return;
        }
        if self.starts.len() < MAX_BLOCKS {
            self.starts.insert(at, entry);
            self.work.push(at);
        }
    }

    /// Cuts the instructions into blocks.
    fn build(self, head: i64) -> Option<Plan> {
        self.ops.get(&head)?;
        let mut order: Vec<i64> = self.starts.keys().copied().collect();
        order.retain(|at| self.ops.contains_key(at));
        order.sort_unstable();
        order.retain(|&at| at != head);
        order.insert(0, head);
        let mut index: FxHashMap<i64, usize> = FxHashMap::default();
        for (i, at) in order.iter().enumerate() {
            index.insert(*at, i);
        }
        let mut blocks = Vec::new();
        let mut i = 0;
        while i < order.len() {
            let b = self.block(order[i], &mut index, &mut order);
            blocks.push(b);
            i += 1;
        }
        let pages = (-REACH..=REACH)
            .filter_map(|p| self.source.page(p).map(|physical| (p, physical)))
            .collect();
        Some(Plan {
            mode: self.mode,
            blocks,
            pages,
        })
    }

    /// The block that starts at `at`. Where a block must be cut at a page edge, the rest becomes a block of its own.
    fn block(&self, at: i64, index: &mut FxHashMap<i64, usize>, order: &mut Vec<i64>) -> Block {
        let mut b = Block {
            at,
            ops: Vec::new(),
            end: End::Leave,
            first_page: at.div_euclid(PAGE),
            last_page: at.div_euclid(PAGE),
            entry: self.starts.get(&at).copied().unwrap_or(false),
        };
        let edge = |index: &FxHashMap<i64, usize>, to: i64| match index.get(&to) {
            Some(&i) => Edge::Block(i),
            None => Edge::Out(to),
        };
        let mut here = at;
        loop {
            let Some(op) = self.ops.get(&here) else {
                b.end = if self.cuts.contains(&here) {
                    End::Fall(Edge::Out(here))
                } else {
                    End::Leave
                };
                return b;
            };
            let after = here + i64::from(op.len);
            let last = (after - 1).div_euclid(PAGE);
            b.last_page = last;
            b.ops.push(*op);
            let target = after.wrapping_add(op.imm as i64);
            match op.kind {
                Kind::Jcc | Kind::Loop => {
                    b.end = End::Branch(edge(index, target), edge(index, after));
                    return b;
                }
                Kind::Jmp | Kind::Call => {
                    b.end = End::Jump(edge(index, target));
                    return b;
                }
                kind if is_transfer(kind) => {
                    b.end = End::Indirect;
                    return b;
                }
                _ if op.has(OpFlags::TRANSFERS) => {
                    b.end = End::Far;
                    return b;
                }
                _ if class(op, self.mode) == Class::Call => {
                    b.end = End::Call(edge(index, after));
                    return b;
                }
                _ => {}
            }
            // The next instruction starts another block if somebody jumps to it or if it lies, even in part, in another page than this one began.
            let next_last = self
                .ops
                .get(&after)
                .map(|o| (after + i64::from(o.len) - 1).div_euclid(PAGE));
            let crosses = next_last.is_some_and(|p| p != b.first_page);
            if crosses && !index.contains_key(&after) {
                index.insert(after, order.len());
                order.push(after);
            }
            if let Some(&i) = index.get(&after) {
                b.end = End::Fall(Edge::Block(i));
                return b;
            }
            here = after;
        }
    }
}
