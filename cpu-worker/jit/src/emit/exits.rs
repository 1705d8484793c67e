//! Cold exits: each stores what is dirty where it leaves; what all exits of a block store alike, they share.

use cranelift_codegen::ir::{self, BlockArg, InstBuilder, Value, types};

use super::Emitter;
use super::flags::Flags;
use crate::abi::Leave;

/// An exit that was branched to but not yet written.
pub(crate) struct Exit {
    block: ir::Block,
    stores: Vec<(i32, Value)>,
    flags: Flags,
    place: Place,
    why: Leave,
}

/// Where an exit leaves.
enum Place {
    /// At this place, with this budget less so many instructions.
    At {
        at: i64,
        base: Value,
        budget: Value,
        spent: i64,
    },
    /// As the parameters of its block say: RIP and budget.
    Params,
}

impl Emitter<'_, '_> {
    /// What an exit must store now.
    fn stores(&mut self) -> Vec<(i32, Value)> {
        let mut stores = Vec::new();
        for r in (0..32).filter(|r| self.dirty >> r & 1 != 0) {
            let var = self.var(r);
            let v = self.b.use_var(var);
            stores.push((Self::home(r).1, v));
        }
        stores
    }

    /// A block to branch to: leaves with the present state, RIP being `at`.
    pub(super) fn exit_at(&mut self, at: i64, why: Leave) -> ir::Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        let exit = Exit {
            block,
            stores: self.stores(),
            flags: self.flags.clone(),
            place: Place::At {
                at,
                base: self.b.use_var(self.base),
                budget: self.b.use_var(self.budget),
                spent: self.spent,
            },
            why,
        };
        self.exits.push(exit);
        block
    }

    /// A block to branch to: the present instruction is the interpreter's.
    pub(super) fn exit_before(&mut self) -> ir::Block {
        self.exit_at(self.at, Leave::Interpret)
    }

    /// The same for branches that are cold themselves: RIP and budget are parameters, so that instructions between which nothing to be
    /// stored changed share the block.
    pub(super) fn shared_exit(&mut self) -> ir::Block {
        let stores = self.stores();
        let same = |e: &&Exit| {
            matches!(e.place, Place::Params) && e.stores == stores && e.flags.same(&self.flags)
        };
        if let Some(e) = self.exits.iter().find(same) {
            return e.block;
        }
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        self.b.append_block_param(block, types::I64);
        self.b.append_block_param(block, types::I64);
        let flags = self.flags.clone();
        self.exits.push(Exit {
            block,
            stores,
            flags,
            place: Place::Params,
            why: Leave::Interpret,
        });
        block
    }

    /// RIP and budget before the present instruction.
    pub(super) fn here(&mut self) -> [BlockArg; 2] {
        let rip = self.rip_of(self.at);
        let budget = self.b.use_var(self.budget);
        let budget = self.less(budget, self.spent);
        [rip, budget].map(BlockArg::Value)
    }

    /// The budget after so many instructions more.
    pub(super) fn less(&mut self, budget: Value, spent: i64) -> Value {
        if spent == 0 {
            budget
        } else {
            // As an addition of a constant Cranelift would merge it with an earlier one, and the constant would take a register.
            let spent = self.b.ins().iconst(types::I64, spent);
            self.b.ins().isub(budget, spent)
        }
    }

    /// Writes the pending exits.
    pub(super) fn flush_exits(&mut self) {
        let exits = std::mem::take(&mut self.exits);
        let alike: Vec<&Exit> = exits.iter().filter(|e| e.why == Leave::Interpret).collect();
        let shared = match alike[..] {
            [first, _, ..] => first
                .stores
                .iter()
                .filter(|s| alike.iter().all(|e| e.stores.contains(s)))
                .copied()
                .collect(),
            _ => Vec::new(),
        };
        // A tail is worth its jump from two stores on.
        let tail = (shared.len() >= 2).then(|| {
            let t = self.b.create_block();
            self.b.append_block_param(t, types::I64);
            self.b.append_block_param(t, types::I64);
            t
        });
        for e in exits {
            let tail = tail.filter(|_| e.why == Leave::Interpret);
            self.write_exit(e, &shared, tail);
        }
        if let Some(t) = tail {
            self.b.set_cold_block(t);
            self.b.switch_to_block(t);
            self.write_stores(&shared, &[]);
            let p = self.b.block_params(t).to_vec();
            self.jump_leave(p[0], p[1], Leave::Interpret);
        }
    }

    fn write_exit(&mut self, e: Exit, shared: &[(i32, Value)], tail: Option<ir::Block>) {
        self.b.switch_to_block(e.block);
        self.write_stores(&e.stores, if tail.is_some() { shared } else { &[] });
        let flags = std::mem::replace(&mut self.flags, e.flags);
        self.sync_flags();
        self.flags = flags;
        let (rip, budget) = match e.place {
            Place::At {
                at,
                base,
                budget,
                spent,
            } => (self.rip_from(base, at), self.less(budget, spent)),
            Place::Params => {
                let p = self.b.block_params(e.block);
                (p[0], p[1])
            }
        };
        match tail {
            Some(t) => {
                let args = [rip, budget].map(BlockArg::Value);
                self.b.ins().jump(t, &args);
            }
            None => self.jump_leave(rip, budget, e.why),
        }
    }

    fn write_stores(&mut self, stores: &[(i32, Value)], but: &[(i32, Value)]) {
        for s in stores.iter().filter(|s| !but.contains(s)) {
            self.store_state(s.1, s.0);
        }
    }
}
