//! From a plan to Cranelift's intermediate form.
//!
//! Guest registers are variables of the function builder across all blocks and loops; RIP is the value that entered plus a
//! constant; the budget is one more variable, lowered once per block. Every way out is cold and stores only what is dirty.
//!
//! Invariant: the values that hold at an exit are those before the instruction (`before`), because the meanings read, check and
//! fault first and commit last, and commits are only applied to variables.

mod eval;
mod exits;
mod flags;
mod fp;
mod memory;
mod vector;
mod x87;

use atoll_x86::Op;
use atoll_x86::flags::ARITH;
use atoll_x86::state::mode;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, BlockArg, Function, InstBuilder, MemFlagsData, SigRef, Signature, UserFuncName,
    Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Switch, Variable};

use crate::abi::{self, Leave};
use crate::effects::{Class, Regs, class};
use crate::flow::{Flow, Need};
use crate::links::Links;
use crate::plan::{Edge, End, Plan};

use exits::Exit;
use flags::Flags;

pub(crate) use vector::translates;

/// Guest memory and state: never traps, any alignment.
fn plain() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// What translating a plan leaves beside the function.
pub(crate) struct Emitted {
    /// Place of each entry, by number.
    pub(crate) entries: Vec<i64>,
    /// Direct edges out of the region, where emitted code reads them.
    pub(crate) links: Links,
    /// The instructions that emitted code calls, where it expects them.
    pub(crate) calls: Vec<Box<Op>>,
}

/// How an instruction ends its block.
#[derive(Clone, Copy)]
enum Transfer {
    None,
    Branch(eval::Truth),
    Jump,
    To(Value),
}

/// The translator of one region.
pub(crate) struct Emitter<'a, 'f> {
    b: FunctionBuilder<'f>,
    plan: &'a Plan,
    flow: &'a Flow,
    gpr: [Variable; 16],
    xmm: [Variable; 16],
    budget: Variable,
    /// The virtual address of the head's page.
    base: Variable,
    /// Those arithmetic flags as bits that are looked at behind a join.
    bits: Variable,
    blocks: Vec<ir::Block>,
    /// The common end of all exits: (rip, budget, reason).
    leave: ir::Block,
    region_sig: SigRef,
    run_op_sig: SigRef,
    /// Of what changes no register, without and with an argument.
    preserving_sigs: [SigRef; 2],
    out: Emitted,

    // Where we are.
    block: usize,
    at: i64,
    next: i64,
    op: Op,
    flags_after: Need,
    /// Instructions of this block already done.
    spent: i64,
    dirty: Regs,
    flags: Flags,
    /// Flags at the end of each block, for a successor that has no other predecessor.
    flags_out: Vec<Flags>,
    transfer: Transfer,
    /// The flags that the last floating-point comparison gave, and its operands.
    compared: Option<(Value, Value, Value)>,
    /// What the last narrow load or extension gave, and the same as 64 bits.
    loaded: Option<(Value, Value)>,
    /// The host's x87 unit holds the guest's here.
    x87_loaded: bool,
    exits: Vec<Exit>,
    cpu: Option<(ir::Block, Value)>,
}

/// The signature of regions.
fn region_signature() -> Signature {
    let mut s = Signature::new(CallConv::Tail);
    s.params = vec![AbiParam::new(types::I64); 4];
    s.returns = vec![AbiParam::new(types::I32)];
    s
}

/// Translates `plan` into `func`.
pub(crate) fn emit(
    func: &mut Function,
    context: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
    plan: &Plan,
    flow: &Flow,
) -> Emitted {
    *func = Function::with_name_signature(UserFuncName::default(), region_signature());
    let mut b = FunctionBuilder::new(func, context);
    let mut run_op = Signature::new(CallConv::SystemV);
    run_op.params = vec![AbiParam::new(types::I64)];
    run_op.returns = vec![AbiParam::new(types::I64)];
    let region_sig = b.import_signature(region_signature());
    let run_op_sig = b.import_signature(run_op);
    let preserving_sigs = [0, 1].map(|arguments| {
        let mut preserving = Signature::new(CallConv::PreserveAll);
        preserving.params = vec![AbiParam::new(types::I64); arguments];
        b.import_signature(preserving)
    });
    let gpr = [(); 16].map(|()| b.declare_var(types::I64));
    let xmm = [(); 16].map(|()| b.declare_var(types::I8X16));
    let budget = b.declare_var(types::I64);
    let base = b.declare_var(types::I64);
    let bits = b.declare_var(types::I64);
    let blocks = plan.blocks.iter().map(|_| b.create_block()).collect();
    let leave = b.create_block();
    let mut e = Emitter {
        b,
        plan,
        flow,
        gpr,
        xmm,
        budget,
        base,
        bits,
        blocks,
        leave,
        region_sig,
        run_op_sig,
        preserving_sigs,
        out: Emitted {
            entries: Vec::new(),
            links: Links::new(plan),
            calls: Vec::new(),
        },
        block: 0,
        at: 0,
        next: 0,
        op: Op::EMPTY,
        flags_after: Need::default(),
        spent: 0,
        dirty: 0,
        flags: Flags::Memory,
        flags_out: vec![Flags::Memory; plan.blocks.len()],
        transfer: Transfer::None,
        compared: None,
        loaded: None,
        x87_loaded: false,
        exits: Vec::new(),
        cpu: None,
    };
    e.entry_points();
    for &i in &flow.order {
        e.block(i);
    }
    e.common_leave();
    e.b.seal_all_blocks();
    let out = e.out;
    e.b.finalize(config);
    out
}

impl Emitter<'_, '_> {
    fn cpu(&mut self) -> Value {
        let here = self.b.current_block().expect("a block is open");
        if let Some((block, v)) = self.cpu
            && block == here
        {
            return v;
        }
        let v = self.b.ins().get_pinned_reg(types::I64);
        self.cpu = Some((here, v));
        v
    }

    fn load_state(&mut self, ty: ir::Type, offset: i32) -> Value {
        let cpu = self.cpu();
        self.b.ins().load(ty, plain(), cpu, offset)
    }

    fn store_state(&mut self, v: Value, offset: i32) {
        let cpu = self.cpu();
        self.b.ins().store(plain(), v, cpu, offset);
    }

    fn store_word(&mut self, word: u32, offset: i32) {
        let v = self.b.ins().iconst(types::I32, i64::from(word));
        self.store_state(v, offset);
    }

    fn long(&self) -> bool {
        self.plan.mode & mode::LONG != 0
    }

    /// The address of a place, as RIP has it.
    fn rip_of(&mut self, at: i64) -> Value {
        let base = self.b.use_var(self.base);
        self.rip_from(base, at)
    }

    fn rip_from(&mut self, base: Value, at: i64) -> Value {
        let rip = self.b.ins().iadd_imm_s(base, at);
        if self.long() {
            rip
        } else {
            let low = self.b.ins().ireduce(types::I32, rip);
            self.b.ins().uextend(types::I64, low)
        }
    }

    fn var(&self, r: u32) -> Variable {
        if r < 16 {
            self.gpr[r as usize]
        } else {
            self.xmm[r as usize - 16]
        }
    }

    fn home(r: u32) -> (ir::Type, i32) {
        if r < 16 {
            (types::I64, abi::gpr(r as u8))
        } else {
            (types::I8X16, abi::xmm(r as u8 - 16))
        }
    }

    /// Loads registers into their variables.
    fn load_regs(&mut self, regs: Regs) {
        for r in (0..32).filter(|r| regs >> r & 1 != 0) {
            let (ty, offset) = Self::home(r);
            let v = self.load_state(ty, offset);
            let var = self.var(r);
            self.b.def_var(var, v);
        }
    }

    fn store_regs(&mut self, regs: Regs) {
        for r in (0..32).filter(|r| regs >> r & 1 != 0) {
            let var = self.var(r);
            let v = self.b.use_var(var);
            self.store_state(v, Self::home(r).1);
        }
    }

    /// The function's first block: dispatch on the number of the entry, one stub each.
    fn entry_points(&mut self) {
        let first = self.b.create_block();
        self.b.append_block_params_for_function_params(first);
        self.b.switch_to_block(first);
        self.b.append_block_param(self.leave, types::I64);
        self.b.append_block_param(self.leave, types::I64);
        self.b.append_block_param(self.leave, types::I32);
        let params = self.b.block_params(first).to_vec();
        let (budget, rip, number) = (params[0], params[1], params[2]);
        self.b.def_var(self.budget, budget);
        let entries: Vec<usize> = (0..self.plan.blocks.len())
            .filter(|&i| self.plan.blocks[i].entry)
            .collect();
        let stubs: Vec<ir::Block> = entries.iter().map(|_| self.b.create_block()).collect();
        if stubs.len() == 1 {
            self.b.ins().jump(stubs[0], &[]);
        } else {
            let mut switch = Switch::new();
            for (i, stub) in stubs.iter().enumerate().skip(1) {
                switch.set_entry(i as u128, *stub);
            }
            switch.emit(&mut self.b, number, stubs[0]);
        }
        for (&i, &stub) in entries.iter().zip(&stubs) {
            self.b.switch_to_block(stub);
            self.out.entries.push(self.plan.blocks[i].at);
            self.entry_stub(i, rip, budget);
        }
    }

    /// Checks the page, tests the budget, loads what is live.
    fn entry_stub(&mut self, i: usize, rip: Value, budget: Value) {
        let (plan, flow) = (self.plan, self.flow);
        let (b, facts) = (&plan.blocks[i], &flow.facts[i]);
        let base = self.b.ins().iadd_imm_s(rip, -b.at);
        self.b.def_var(self.base, base);
        self.dirty = 0;
        self.flags = Flags::Memory;
        self.spent = 0;
        self.at = b.at;
        for page in [b.first_page, b.last_page] {
            let stale = self.exit_at(b.at, Leave::Stale);
            self.check_page(page, stale);
            if b.first_page == b.last_page {
                break;
            }
        }
        if !facts.tested {
            let short = self.exit_at(b.at, Leave::Budget);
            self.test_budget(budget, facts.cost, short);
        }
        self.load_regs(facts.live_in);
        if let Form::Bits { .. } = self.form(i) {
            let bits = self.flag_bits_of_state();
            self.b.def_var(self.bits, bits);
        }
        let target = self.blocks[i];
        self.b.ins().jump(target, &[]);
        self.flush_exits();
    }

    fn test_budget(&mut self, budget: Value, cost: i64, short: ir::Block) {
        let enough = self
            .b
            .ins()
            .icmp_imm_s(IntCC::SignedGreaterThanOrEqual, budget, cost);
        let on = self.b.create_block();
        self.b.ins().brif(enough, on, &[], short, &[]);
        self.b.switch_to_block(on);
    }

    /// Goes to `stale` unless the code TLB maps the region's page `page` where the plan found it.
    fn check_page(&mut self, page: i64, stale: ir::Block) {
        let physical = self.plan.pages[&page];
        let va = self.rip_of(page * 4096);
        let set = self.load_state(types::I64, abi::CODE_SET);
        let shifted = self.b.ins().ushr_imm_u(va, 7);
        let mask = (atoll_mmu::CODE_ENTRIES as i64 - 1) * 32;
        let index = self.b.ins().band_imm_s(shifted, mask);
        let entry = self.b.ins().iadd(set, index);
        let tag = self.b.ins().load(types::I64, plain(), entry, 0);
        let on = self.b.create_block();
        let check = self.b.create_block();
        let same = self.b.ins().icmp(IntCC::Equal, tag, va);
        self.b.ins().brif(same, check, &[], stale, &[]);
        self.b.switch_to_block(check);
        let found = self.b.ins().load(types::I64, plain(), entry, 24);
        let found = self.b.ins().band_imm_s(found, -4096);
        let same = self
            .b
            .ins()
            .icmp_imm_s(IntCC::Equal, found, physical as i64);
        self.b.ins().brif(same, on, &[], stale, &[]);
        self.b.switch_to_block(on);
    }

    /// How the flags come into a block.
    fn form(&self, i: usize) -> Form {
        let facts = &self.flow.facts[i];
        let Need { exits, reads } = facts.flags_in;
        if facts.flags_in.is_dead() {
            return Form::Dead;
        }
        let called = facts
            .preds
            .iter()
            .any(|&p| matches!(self.plan.blocks[p].end, End::Call(_)));
        if let [p] = facts.preds[..]
            && !self.plan.blocks[i].entry
            && !called
        {
            return Form::From(p);
        }
        match reads {
            0 => Form::Memory,
            _ => Form::Bits {
                which: reads,
                stored: exits && reads != ARITH,
            },
        }
    }

    fn block(&mut self, i: usize) {
        let (plan, flow) = (self.plan, self.flow);
        let b = &plan.blocks[i];
        let facts = &flow.facts[i];
        self.b.switch_to_block(self.blocks[i]);
        self.block = i;
        self.spent = 0;
        self.dirty = facts.dirty_in;
        self.at = b.at;
        self.flags = match self.form(i) {
            Form::Dead => Flags::Dead,
            Form::From(p) => self.flags_out[p].clone(),
            Form::Memory => Flags::Memory,
            Form::Bits { which, stored } => {
                let bits = self.b.use_var(self.bits);
                if stored {
                    Flags::Stored { bits, which }
                } else {
                    Flags::bits(bits)
                }
            }
        };
        if facts.tested {
            let short = self.exit_at(b.at, Leave::Budget);
            let budget = self.b.use_var(self.budget);
            self.test_budget(budget, facts.cost, short);
        }
        self.transfer = Transfer::None;
        self.x87_loaded = false;
        let mut stopped = false;
        for (k, op) in b.ops.iter().enumerate() {
            self.op = *op;
            self.flags_after = facts.flags_after[k];
            self.next = self.at + i64::from(op.len);
            let class = class(op, plan.mode);
            if class == Class::Call {
                self.call(op, b.end);
                stopped = true;
                break;
            }
            if facts.early && facts.effects[k].may_leave {
                self.store_regs(self.dirty);
                self.dirty = 0;
            }
            let done = match class {
                Class::Host(form) => self.x87(op, form),
                _ => atoll_x86::semantics::execute(self, op),
            };
            if done.is_err() {
                unreachable!("`translates` admits only what can be translated");
            }
            self.dirty |= facts.effects[k].writes;
            self.spent += 1;
            self.at = self.next;
        }
        if !stopped {
            self.end(i, b.end);
        }
        self.flush_exits();
    }

    /// Lowers the budget by what the block did.
    fn settle(&mut self) {
        if self.spent != 0 {
            let budget = self.b.use_var(self.budget);
            let budget = self.less(budget, self.spent);
            self.b.def_var(self.budget, budget);
            self.spent = 0;
        }
    }

    fn end(&mut self, i: usize, end: End) {
        self.flags_out[i] = self.flags.clone();
        match (end, self.transfer) {
            (End::Fall(e) | End::Jump(e), _) => {
                self.settle();
                self.go(e);
            }
            (End::Branch(taken, not), Transfer::Branch(c)) => {
                self.settle();
                let (t, n) = (self.b.create_block(), self.b.create_block());
                self.brif(c, t, n);
                let flags = self.flags.clone();
                self.b.switch_to_block(t);
                self.go(taken);
                self.flags = flags;
                self.b.switch_to_block(n);
                self.go(not);
            }
            (End::Indirect, Transfer::To(target)) => {
                self.settle();
                self.indirect(target);
            }
            (End::Leave, _) => {
                let out = self.exit_at(self.at, Leave::Interpret);
                self.b.ins().jump(out, &[]);
            }
            (End::Branch(..) | End::Indirect | End::Call(_) | End::Far, _) => {
                unreachable!("the last instruction decides the end")
            }
        }
    }

    /// Follows an edge with the budget settled.
    fn go(&mut self, e: Edge) {
        match e {
            Edge::Block(s) => {
                let (plan, from) = (self.plan, self.plan.blocks[self.block].last_page);
                let to = &plan.blocks[s];
                if to.first_page != from {
                    let stale = self.exit_at(to.at, Leave::Stale);
                    self.check_page(to.first_page, stale);
                }
                if to.last_page != to.first_page {
                    let stale = self.exit_at(to.at, Leave::Stale);
                    self.check_page(to.last_page, stale);
                }
                match self.form(s) {
                    Form::Dead | Form::From(_) => {}
                    Form::Memory => self.sync_flags(),
                    Form::Bits { which, stored } => {
                        let bits = self.flag_value(which);
                        self.b.def_var(self.bits, bits);
                        if stored {
                            self.sync_flags();
                        }
                    }
                }
                let target = self.blocks[s];
                self.b.ins().jump(target, &[]);
            }
            Edge::Out(at) => self.link(at),
        }
    }

    /// Leaves for another region, through a link.
    fn link(&mut self, at: i64) {
        self.store_regs(self.dirty);
        self.sync_flags();
        let rip = self.rip_of(at);
        let budget = self.b.use_var(self.budget);
        let address = self.out.links.address(at) as i64;
        let address = self.b.ins().iconst(types::I64, address);
        let code = self.b.ins().load(types::I64, plain(), address, 0);
        let entry = self.b.ins().load(types::I64, plain(), address, 8);
        self.b
            .ins()
            .return_call_indirect(self.region_sig, code, &[budget, rip, entry, address]);
    }

    /// Leaves for an address known at run time, through the table of targets.
    fn indirect(&mut self, target: Value) {
        self.store_regs(self.dirty);
        self.sync_flags();
        let mode = (u64::from(self.plan.mode) << 48) as i64;
        let mode = self.b.ins().iconst(types::I64, mode);
        self.look_up(target, mode);
    }

    /// Leaves through the table of targets for this address in this mode, which is given in place.
    fn look_up(&mut self, target: Value, mode: Value) {
        let budget = self.b.use_var(self.budget);
        let table = self.load_state(types::I64, abi::helper(abi::Helper::Table));
        let high = self.b.ins().ushr_imm_u(target, 10);
        let mixed = self.b.ins().bxor(target, high);
        let index = self.b.ins().band_imm_s(mixed, abi::TARGETS as i64 - 1);
        let offset = self.b.ins().ishl_imm_u(index, 5);
        let slot = self.b.ins().iadd(table, offset);
        let key = self.b.ins().bxor(target, mode);
        let found = self.b.ins().load(types::I64, plain(), slot, 0);
        let hit = self.b.ins().icmp(IntCC::Equal, key, found);
        let (on, miss) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(miss);
        self.b.ins().brif(hit, on, &[], miss, &[]);
        self.b.switch_to_block(on);
        let code = self.b.ins().load(types::I64, plain(), slot, 8);
        let entry = self.b.ins().load(types::I64, plain(), slot, 16);
        let none = self.b.ins().iconst(types::I64, 0);
        self.b
            .ins()
            .return_call_indirect(self.region_sig, code, &[budget, target, entry, none]);
        self.b.switch_to_block(miss);
        let none = self.b.ins().iconst(types::I64, 0);
        self.store_state(none, abi::ANSWER);
        self.jump_leave(target, budget, Leave::Link);
    }

    /// An instruction that is a function of `Cpu`: everything goes to memory and comes back from there.
    fn call(&mut self, op: &Op, end: End) {
        self.store_regs(self.dirty);
        self.sync_flags();
        let rip = self.rip_of(self.next);
        self.store_state(rip, abi::RIP_AT);
        let budget = self.b.use_var(self.budget);
        let budget = self.less(budget, self.spent + 1);
        self.store_state(budget, abi::BUDGET);
        let op = Box::new(*op);
        let address = self.b.ins().iconst(types::I64, &raw const *op as i64);
        self.out.calls.push(op);
        let function = self.load_state(types::I64, abi::helper(abi::Helper::RunOp));
        let call = self
            .b
            .ins()
            .call_indirect(self.run_op_sig, function, &[address]);
        let ran = self.b.inst_results(call)[0];
        let (on, out) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(out);
        self.b.ins().brif(ran, out, &[], on, &[]);
        self.b.switch_to_block(out);
        self.leave_call(ran);
        self.b.switch_to_block(on);
        let budget = self.load_state(types::I64, abi::BUDGET);
        self.b.def_var(self.budget, budget);
        self.dirty = 0;
        self.flags = Flags::Memory;
        self.spent = 0;
        self.at = self.next;
        match end {
            End::Call(Edge::Block(s)) => {
                self.load_regs(self.flow.facts[s].live_in);
                self.go(Edge::Block(s));
            }
            End::Call(out) => self.go(out),
            End::Far => {
                let target = self.load_state(types::I64, abi::RIP_AT);
                let mode = self.load_state(types::I32, abi::MODE);
                let mode = self.b.ins().uextend(types::I64, mode);
                let mode = self.b.ins().ishl_imm_u(mode, 48);
                self.look_up(target, mode);
            }
            _ => unreachable!("a call ends its block"),
        }
    }

    /// The function asked to leave, or did not complete.
    fn leave_call(&mut self, ran: Value) {
        let (again, plain_exit) = (self.b.create_block(), self.b.create_block());
        let redo = self.b.ins().icmp_imm_s(IntCC::Equal, ran, abi::ran::AGAIN);
        self.b.ins().brif(redo, again, &[], plain_exit, &[]);
        self.b.switch_to_block(plain_exit);
        let rip = self.load_state(types::I64, abi::RIP_AT);
        let budget = self.load_state(types::I64, abi::BUDGET);
        self.jump_leave(rip, budget, Leave::Attention);
        self.b.switch_to_block(again);
        let rip = self.rip_of(self.at);
        let budget = self.load_state(types::I64, abi::BUDGET);
        let budget = self.b.ins().iadd_imm_s(budget, 1);
        self.jump_leave(rip, budget, Leave::Interpret);
    }

    fn jump_leave(&mut self, rip: Value, budget: Value, why: Leave) {
        let why = self.b.ins().iconst(types::I32, why as i64);
        let args = [rip, budget, why].map(BlockArg::Value);
        self.b.ins().jump(self.leave, &args);
    }

    fn common_leave(&mut self) {
        self.b.set_cold_block(self.leave);
        self.b.switch_to_block(self.leave);
        let p = self.b.block_params(self.leave).to_vec();
        self.store_state(p[0], abi::RIP_AT);
        self.store_state(p[1], abi::BUDGET);
        self.b.ins().return_(&[p[2]]);
    }

    fn brif(&mut self, c: eval::Truth, then: ir::Block, other: ir::Block) {
        let (then, other) = if c.negated {
            (other, then)
        } else {
            (then, other)
        };
        self.b.ins().brif(c.value, then, &[], other, &[]);
    }
}

/// See [`Emitter::form`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Dead,
    /// As at the end of the only predecessor.
    From(usize),
    /// In the state.
    Memory,
    /// Those that an instruction looks at are in the variable `bits`; where exits want them all and these are not, all are in the state
    /// as well.
    Bits {
        which: u64,
        stored: bool,
    },
}
