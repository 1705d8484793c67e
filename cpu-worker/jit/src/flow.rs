//! Dataflow over a plan: what is live, what is dirty, which flags are needed, where the budget is tested.

use atoll_x86::Op;
use atoll_x86::flags::ARITH;

use crate::effects::{Class, Effects, Regs, class, needs_flags};
use crate::plan::{Edge, End, Plan};

/// Instructions in a loop that is worth keeping registers out of memory for.
const SMALL_LOOP: usize = 100;

/// Who may still look at the arithmetic flags before they are set anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Exits, which store all of them.
    pub(crate) exits: bool,
    /// The flags that instructions of the region look at.
    pub(crate) reads: u64,
}

impl Need {
    const EXIT: Need = Need {
        exits: true,
        reads: 0,
    };

    /// Nobody does.
    pub(crate) fn is_dead(self) -> bool {
        self == Need::default()
    }

    fn and(self, other: Need) -> Need {
        Need {
            exits: self.exits | other.exits,
            reads: self.reads | other.reads,
        }
    }

    /// Who may look before an instruction, given who may after it.
    fn before(self, op: &Op, e: &Effects) -> Need {
        let mut need = if e.writes_flags {
            Need::default()
        } else {
            self
        };
        if e.keeps_flags {
            need = need.and(self);
            // An exit makes bits of what is one or the other.
            need.reads |= if self.exits { ARITH } else { 0 };
        }
        if needs_flags(op) || !self.is_dead() {
            need.reads |= e.reads_flags;
        }
        need.exits |= e.may_leave;
        need
    }
}

/// The facts about one block.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Registers that must have values when control enters.
    pub(crate) live_in: Regs,
    /// Registers that memory may not hold when control enters.
    pub(crate) dirty_in: Regs,
    pub(crate) flags_in: Need,
    /// Whether the flags are needed after each instruction.
    pub(crate) flags_after: Vec<Need>,
    pub(crate) effects: Vec<Effects>,
    /// Registers are stored before each instruction that may leave, instead of by its exit: outside of small loops each is stored once
    /// either way, and the exits are small.
    pub(crate) early: bool,
    /// The budget is tested at the block's start, against `cost`.
    pub(crate) tested: bool,
    /// Instructions on the longest path from the block's start to the next test.
    pub(crate) cost: i64,
    /// Predecessors within the region.
    pub(crate) preds: Vec<usize>,
}

/// Dataflow results, and the order in which blocks are emitted (reverse post-order).
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) facts: Vec<Facts>,
    pub(crate) order: Vec<usize>,
}

impl Flow {
    /// Analyses the plan and makes its loop heads entries.
    pub(crate) fn new(plan: &mut Plan) -> Flow {
        let mut flow = Flow {
            facts: plan.blocks.iter().map(|b| facts(plan.mode, b)).collect(),
            order: Vec::new(),
        };
        for (i, b) in plan.blocks.iter().enumerate() {
            for s in b.successors() {
                flow.facts[s].preds.push(i);
            }
        }
        flow.order_and_tests(plan);
        flow.loops(plan);
        flow.costs(plan);
        flow.dirty(plan);
        flow.live(plan);
        flow.flags(plan);
        flow
    }

    /// Depth-first search from the entries: the order, and the targets of edges that close a loop.
    fn order_and_tests(&mut self, plan: &mut Plan) {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let n = plan.blocks.len();
        let mut mark = vec![Mark::New; n];
        let mut post = Vec::new();
        plan.blocks[0].entry = true;
        // The head last, so that it comes first in reverse post-order.
        let roots: Vec<usize> = (0..n).rev().filter(|&i| plan.blocks[i].entry).collect();
        let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
        for root in roots {
            if mark[root] != Mark::New {
                continue;
            }
            mark[root] = Mark::Open;
            stack.push((root, plan.blocks[root].successors().collect()));
            while let Some((b, left)) = stack.last_mut() {
                match left.pop() {
                    Some(s) if mark[s] == Mark::New => {
                        mark[s] = Mark::Open;
                        let next = plan.blocks[s].successors().collect();
                        stack.push((s, next));
                    }
                    Some(s) => {
                        if mark[s] == Mark::Open {
                            self.facts[s].tested = true;
                            plan.blocks[s].entry = true;
                        }
                    }
                    None => {
                        mark[*b] = Mark::Done;
                        post.push(*b);
                        stack.pop();
                    }
                }
            }
        }
        // After a function call the budget may have been spent or cut.
        for b in &plan.blocks {
            if let End::Call(Edge::Block(s)) = b.end {
                self.facts[s].tested = true;
            }
        }
        post.reverse();
        self.order = post;
    }

    /// Finds the small loops: strongly connected blocks with few instructions in all.
    fn loops(&mut self, plan: &Plan) {
        let n = plan.blocks.len();
        let reach: Vec<Vec<bool>> = (0..n).map(|i| reachable(plan, i)).collect();
        for (i, facts) in self.facts.iter_mut().enumerate() {
            let size: usize = (0..n)
                .filter(|&j| reach[i][j] && reach[j][i])
                .map(|j| plan.blocks[j].ops.len())
                .sum();
            facts.early = size == 0 || size > SMALL_LOOP;
        }
    }

    fn costs(&mut self, plan: &Plan) {
        for &i in self.order.iter().rev() {
            let further = plan.blocks[i]
                .successors()
                .filter(|&s| !self.facts[s].tested)
                .map(|s| self.facts[s].cost)
                .max()
                .unwrap_or(0);
            self.facts[i].cost = plan.blocks[i].ops.len() as i64 + further;
        }
    }

    /// Forward: what was written on some path from an entry. A function call leaves nothing dirty.
    fn dirty(&mut self, plan: &Plan) {
        let mut changed = true;
        while changed {
            changed = false;
            for &i in &self.order {
                let f = &self.facts[i];
                let out = match plan.blocks[i].end {
                    End::Call(_) => 0,
                    _ => f
                        .effects
                        .iter()
                        .fold(f.dirty_in, |d, e| after(f.early, d, e)),
                };
                for s in plan.blocks[i].successors() {
                    let joined = self.facts[s].dirty_in | out;
                    changed |= joined != self.facts[s].dirty_in;
                    self.facts[s].dirty_in = joined;
                }
            }
        }
    }

    /// Backward: what is read. Every exit reads what is dirty there.
    fn live(&mut self, plan: &Plan) {
        let mut changed = true;
        while changed {
            changed = false;
            for &i in self.order.iter().rev() {
                let mut live = match plan.blocks[i].end {
                    End::Call(_) => 0,
                    _ => plan.blocks[i]
                        .successors()
                        .fold(0, |l, s| l | self.facts[s].live_in),
                };
                for e in self.facts[i].effects.iter().rev() {
                    live = (live & !e.defines) | e.reads;
                }
                live |= self.facts[i].dirty_in;
                changed |= live != self.facts[i].live_in;
                self.facts[i].live_in = live;
            }
        }
    }

    /// Backward: who needs the flags.
    fn flags(&mut self, plan: &Plan) {
        let mut changed = true;
        while changed {
            changed = false;
            for &i in self.order.iter().rev() {
                let b = &plan.blocks[i];
                let leaves = match b.end {
                    End::Indirect | End::Leave | End::Far => Need::EXIT,
                    End::Fall(e) | End::Jump(e) => outside(e),
                    End::Branch(t, n) => outside(t).and(outside(n)),
                    // The function finds them in memory, and what comes after it there too.
                    End::Call(_) => Need::EXIT,
                };
                let mut need = match b.end {
                    End::Call(_) => leaves,
                    _ => b
                        .successors()
                        .fold(leaves, |n, s| n.and(self.facts[s].flags_in)),
                };
                for (k, op) in b.ops.iter().enumerate().rev() {
                    self.facts[i].flags_after[k] = need;
                    need = need.before(op, &self.facts[i].effects[k]);
                }
                // Crossing into another page may leave as well.
                need.exits |= self.facts[i].tested || self.crosses_in(plan, i);
                changed |= need != self.facts[i].flags_in;
                self.facts[i].flags_in = need;
            }
        }
    }

    /// Whether some edge into the block changes the code page.
    pub(crate) fn crosses_in(&self, plan: &Plan, i: usize) -> bool {
        let b = &plan.blocks[i];
        b.first_page != b.last_page
            || self.facts[i]
                .preds
                .iter()
                .any(|&p| plan.blocks[p].last_page != b.first_page)
    }
}

/// What is dirty after an instruction.
fn after(early: bool, dirty: Regs, e: &Effects) -> Regs {
    let kept = if early && e.may_leave { 0 } else { dirty };
    kept | e.writes
}

/// The blocks that control may come to from block `i`, by at least one edge.
fn reachable(plan: &Plan, i: usize) -> Vec<bool> {
    let mut seen = vec![false; plan.blocks.len()];
    let mut work: Vec<usize> = plan.blocks[i].successors().collect();
    while let Some(b) = work.pop() {
        if !std::mem::replace(&mut seen[b], true) {
            work.extend(plan.blocks[b].successors());
        }
    }
    seen
}

fn outside(e: Edge) -> Need {
    match e {
        Edge::Block(_) => Need::default(),
        Edge::Out(_) => Need::EXIT,
    }
}

fn facts(mode: u32, b: &crate::plan::Block) -> Facts {
    let effects: Vec<Effects> = b
        .ops
        .iter()
        .map(|op| match class(op, mode) {
            Class::Lifted => Effects::of(op),
            Class::Host(form) => Effects::of_host(op, form),
            // Everything dirty is stored before it, everything live is loaded after it.
            Class::Call | Class::Leave => Effects {
                may_leave: true,
                ..Effects::default()
            },
        })
        .collect();
    Facts {
        live_in: 0,
        dirty_in: 0,
        flags_in: Need::default(),
        flags_after: vec![Need::default(); b.ops.len()],
        effects,
        early: true,
        tested: false,
        cost: 0,
        preds: Vec::new(),
    }
}
