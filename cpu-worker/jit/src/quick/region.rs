//! From a plan to host code: blocks, entries, edges, exits, calls.
//!
//! The code has the signature of regions (`abi`): budget in RDI, RIP in RSI, the entry's number in EDX, the link in RCX; the pinned register is
//! R15. Within it, R14 is the budget and R13 the address of the head's page. All else of the guest is in the state at each
//! instruction's end, so that an exit stores RIP and budget alone.

use atoll_mmu::CODE_ENTRIES;
use atoll_x86::op::Kind;
use atoll_x86::state::mode;
use atoll_x86::{Op, semantics};

use super::asm::{
    Alu, CC_B, CC_E, CC_L, CC_NE, CC_S, Cc, Host, Label, Mem, R13, R14, RAX, RCX, RDI, RDX, RSI,
    Turn,
};
use super::emit::{Code, Known, Transfer, field};
use crate::abi::{self, Helper, Leave, ran};
use crate::compiler::Compiled;
use crate::effects::{Class, class};
use crate::flow::Flow;
use crate::links::Links;
use crate::plan::{Edge, End, Plan};

/// An exit that was branched to: leaves at a place, with the budget less so many instructions.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) label: Label,
    pub(super) at: i64,
    pub(super) spent: i64,
    pub(super) why: Leave,
}

/// Code that is seldom run and stands behind the rest.
#[derive(Debug)]
pub(super) enum Cold {
    Exit(Exit),
    /// The TLB has no entry for the access.
    Miss {
        label: Label,
        back: Label,
        exit: Label,
        address: Host,
        what: i32,
    },
    /// A function did not end with "go on".
    Called {
        label: Label,
        at: i64,
    },
    /// A counter ran out: it starts anew, and the engine hears of it.
    Warm {
        label: Label,
        counter: usize,
        at: i64,
    },
}

/// Where shared code begins.
struct Tails {
    /// By reason: RIP is in RCX, the budget in R14.
    leave: [Label; Leave::COUNT],
    end: Label,
    /// A function: looks up by the helper; afterwards RCX is the host address, and ZF tells that there is none.
    miss: Label,
}

/// The translator of one plan.
struct Region<'a> {
    plan: &'a Plan,
    flow: &'a Flow,
    code: Code,
    tails: Tails,
    blocks: Vec<Label>,
    /// What is known of the flags at each block's end.
    known: Vec<Option<Known>>,
    entries: Vec<i64>,
    links: Links,
    calls: Vec<Box<Op>>,
    counters: Box<[u32]>,
    counted: usize,
    patience: u32,
    /// The page of the last byte of the present block.
    page: i64,
}

/// Translates a plan. Its entries report to the engine after `patience` passes, and then each time again.
pub(crate) fn compile(mut plan: Plan, patience: u32) -> Compiled {
    let start = std::time::Instant::now();
    let flow = Flow::new(&mut plan);
    let mut code = Code::new(plan.mode & mode::LONG != 0);
    let n = plan.blocks.len();
    let mut r = Region {
        tails: Tails {
            leave: [(); Leave::COUNT].map(|()| code.asm.label()),
            end: code.asm.label(),
            miss: code.asm.label(),
        },
        blocks: plan.blocks.iter().map(|_| code.asm.label()).collect(),
        known: vec![None; n],
        code,
        plan: &plan,
        flow: &flow,
        entries: Vec::new(),
        links: Links::new(&plan),
        calls: Vec::new(),
        counters: vec![patience; n].into(),
        counted: 0,
        patience,
        page: 0,
    };
    r.entry_points();
    for (k, &i) in flow.order.iter().enumerate() {
        r.block(i, flow.order.get(k + 1).copied());
    }
    r.cold();
    r.shared();
    let Region {
        code,
        entries,
        links,
        calls,
        counters,
        ..
    } = r;
    Compiled {
        code: code.asm.finish(),
        entries,
        links: links.finish(),
        calls,
        counters,
        ns: start.elapsed().as_nanos() as u64,
        plan,
    }
}

impl Region<'_> {
    /// Dispatches on the number of the entry, then checks the page and tests the budget.
    fn entry_points(&mut self) {
        let entries: Vec<usize> = (0..self.plan.blocks.len())
            .filter(|&i| self.plan.blocks[i].entry)
            .collect();
        let stubs: Vec<Label> = entries.iter().map(|_| self.code.asm.label()).collect();
        self.dispatch(&stubs, 0);
        for (&i, &stub) in entries.iter().zip(&stubs) {
            self.code.asm.bind(stub);
            self.entries.push(self.plan.blocks[i].at);
            self.entry_stub(i);
        }
    }

    /// Jumps to the stub whose number, counted from `first`, is in EDX: by halves.
    fn dispatch(&mut self, stubs: &[Label], first: usize) {
        let asm = &mut self.code.asm;
        if let [only] = stubs {
            return asm.jmp(*only);
        }
        let half = stubs.len() / 2;
        let upper = asm.label();
        asm.alu_imm(Alu::Cmp, 4, RDX, (first + half) as i32);
        asm.jcc(CC_B ^ 1, upper);
        self.dispatch(&stubs[..half], first);
        self.code.asm.bind(upper);
        self.dispatch(&stubs[half..], first + half);
    }

    fn entry_stub(&mut self, i: usize) {
        let (b, facts) = (&self.plan.blocks[i], &self.flow.facts[i]);
        let asm = &mut self.code.asm;
        asm.mov(8, R14, RDI);
        asm.lea(8, R13, Mem::At(RSI, -b.at as i32));
        self.check_page(b.first_page, b.at);
        if b.last_page != b.first_page {
            self.check_page(b.last_page, b.at);
        }
        if !facts.tested {
            self.test_budget(facts.cost, b.at);
            self.count(b.at);
        }
        self.code.asm.jmp(self.blocks[i]);
    }

    fn exit_to(&mut self, at: i64, spent: i64, why: Leave) -> Label {
        let label = self.code.asm.label();
        self.code.cold.push(Cold::Exit(Exit {
            label,
            at,
            spent,
            why,
        }));
        label
    }

    fn test_budget(&mut self, cost: i64, at: i64) {
        let short = self.exit_to(at, 0, Leave::Budget);
        self.code.asm.alu_imm(Alu::Cmp, 8, R14, cost as i32);
        self.code.asm.jcc(CC_L, short);
    }

    /// Counts a pass through an entry.
    fn count(&mut self, at: i64) {
        let counter = &raw const self.counters[self.counted] as usize;
        self.counted += 1;
        let label = self.code.asm.label();
        self.code.asm.mov_imm(RCX, counter as u64);
        self.code.asm.dec_mem(Mem::At(RCX, 0));
        self.code.asm.jcc(CC_S, label);
        self.code.cold.push(Cold::Warm { label, counter, at });
    }

    /// Leaves at `at` unless the code TLB maps the region's page `page` where the plan found it.
    fn check_page(&mut self, page: i64, at: i64) {
        let physical = self.plan.pages[&page];
        let stale = self.exit_to(at, 0, Leave::Stale);
        self.code.rip(RSI, page * 4096);
        let asm = &mut self.code.asm;
        asm.mov(4, RCX, RSI);
        asm.turn_imm(Turn::Shr, 4, RCX, 7);
        asm.alu_imm(Alu::And, 4, RCX, (CODE_ENTRIES as i32 - 1) * 32);
        asm.alu_mem(Alu::Add, 8, RCX, field(abi::CODE_SET));
        asm.alu_mem(Alu::Cmp, 8, RSI, Mem::At(RCX, 0));
        asm.jcc(CC_NE, stale);
        asm.load(8, RCX, Mem::At(RCX, 24));
        asm.alu_imm(Alu::And, 8, RCX, -4096);
        asm.mov_imm(RSI, physical);
        asm.alu(Alu::Cmp, 8, RCX, RSI);
        asm.jcc(CC_NE, stale);
    }

    fn block(&mut self, i: usize, following: Option<usize>) {
        let (plan, flow) = (self.plan, self.flow);
        let (b, facts) = (&plan.blocks[i], &flow.facts[i]);
        self.code.asm.bind(self.blocks[i]);
        self.code.hosts.forget_all();
        self.page = b.last_page;
        self.code.spent = 0;
        self.code.at = b.at;
        self.code.words = None;
        self.code.known = match facts.preds[..] {
            [p] if !b.entry && !matches!(plan.blocks[p].end, End::Call(_)) => self.known[p],
            _ => None,
        };
        if facts.tested {
            self.test_budget(facts.cost, b.at);
            self.count(b.at);
        }
        let mut transfer = Transfer::None;
        for (k, op) in b.ops.iter().enumerate() {
            self.code.next = self.code.at + i64::from(op.len);
            if class(op, plan.mode) == Class::Call {
                self.call(op, true);
                self.code.at = self.code.next;
                break;
            }
            match self.lifted(op, !facts.flags_after[k].is_dead()) {
                Some(t) => transfer = t,
                None => self.call(op, false),
            }
            self.code.at = self.code.next;
        }
        self.known[i] = self.code.known;
        self.end(b.end, transfer, following);
    }

    /// Translates an instruction from its meaning; None, with nothing emitted, if that is beyond this translator.
    fn lifted(&mut self, op: &Op, flags: bool) -> Option<Transfer> {
        let c = &mut self.code;
        c.items.clear();
        c.exit = None;
        if op.kind as u16 >= FIRST_VECTOR as u16
            || semantics::execute(&mut c.items, op).is_err()
            || c.items.beyond
        {
            return None;
        }
        let before = (c.asm.here(), c.cold.len(), c.hosts, c.known, c.words);
        match c.instruction(op, flags) {
            Ok(t) => {
                c.spent += 1;
                Some(t)
            }
            Err(_) => {
                c.asm.cut(before.0);
                c.cold.truncate(before.1);
                (c.hosts, c.known, c.words) = (before.2, before.3, before.4);
                None
            }
        }
    }

    /// Calls an instruction's function. `ends` where the plan knows of it: then the next block tests the budget.
    fn call(&mut self, op: &Op, ends: bool) {
        let op = Box::new(*op);
        let address = &raw const *op as u64;
        self.calls.push(op);
        let label = self.code.asm.label();
        let c = &mut self.code;
        c.rip(RCX, c.next);
        c.asm.store(8, field(abi::RIP_AT), RCX);
        c.asm.lea(8, R14, Mem::At(R14, -(c.spent + 1) as i32));
        c.asm.store(8, field(abi::BUDGET), R14);
        c.asm.mov_imm(RDI, address);
        c.call(Helper::RunOp);
        c.asm.test(8, RAX, RAX);
        c.asm.jcc(CC_NE, label);
        c.cold.push(Cold::Called { label, at: c.at });
        if ends {
            c.asm.load(8, R14, field(abi::BUDGET));
        } else {
            // A device that was reached may have moved the deadline.
            c.asm.alu_mem(Alu::Cmp, 8, R14, field(abi::BUDGET));
            c.asm.mov_imm_keeping_flags(RAX, ran::LEAVE as u32);
            c.asm.jcc(CC_NE, label);
        }
        c.spent = 0;
        c.known = None;
        c.words = None;
        c.hosts.forget_all();
    }

    /// Lowers the budget by what the block did. Changes no flags of the host.
    fn settle(&mut self) {
        let c = &mut self.code;
        if c.spent != 0 {
            c.asm.lea(8, R14, Mem::At(R14, -c.spent as i32));
            c.spent = 0;
        }
    }

    fn end(&mut self, end: End, transfer: Transfer, following: Option<usize>) {
        self.settle();
        match (end, transfer) {
            (End::Fall(e) | End::Jump(e) | End::Call(e), _) => self.go(e, following),
            (End::Branch(taken, not), Transfer::If(cc)) => self.branch(cc, taken, not, following),
            (End::Indirect, Transfer::Rsi) => {
                let mode = u64::from(self.plan.mode) << 48;
                self.code.asm.mov_imm(RAX, mode);
                self.look_up();
            }
            (End::Far, _) => {
                let asm = &mut self.code.asm;
                asm.load(8, RSI, field(abi::RIP_AT));
                asm.load(4, RAX, field(abi::MODE));
                asm.turn_imm(Turn::Shl, 8, RAX, 48);
                self.look_up();
            }
            (End::Leave, _) => self.leave(self.code.at, Leave::Interpret),
            (End::Branch(..) | End::Indirect, _) => {
                unreachable!("the last instruction decides the end")
            }
        }
    }

    /// The number of the block that an edge leads to within the page that control is in.
    fn near(&self, e: Edge) -> Option<usize> {
        match e {
            Edge::Block(s) => {
                let to = &self.plan.blocks[s];
                (to.first_page == self.page && to.last_page == self.page).then_some(s)
            }
            Edge::Out(_) => None,
        }
    }

    fn branch(&mut self, cc: Cc, taken: Edge, not: Edge, following: Option<usize>) {
        match (self.near(taken), self.near(not)) {
            (Some(t), _) if self.near(not).is_none() || Some(t) != following => {
                self.code.asm.jcc(cc, self.blocks[t]);
                self.go(not, following);
            }
            (_, Some(n)) => {
                self.code.asm.jcc(cc ^ 1, self.blocks[n]);
                self.go(taken, following);
            }
            _ => {
                let other = self.code.asm.label();
                self.code.asm.jcc(cc ^ 1, other);
                self.go(taken, None);
                self.code.asm.bind(other);
                self.go(not, following);
            }
        }
    }

    /// Follows an edge with the budget settled.
    fn go(&mut self, e: Edge, following: Option<usize>) {
        match e {
            Edge::Block(s) => {
                let to = &self.plan.blocks[s];
                if to.first_page != self.page {
                    self.check_page(to.first_page, to.at);
                }
                if to.last_page != to.first_page {
                    self.check_page(to.last_page, to.at);
                }
                if following != Some(s) {
                    self.code.asm.jmp(self.blocks[s]);
                }
            }
            Edge::Out(at) => self.link(at),
        }
    }

    /// Leaves for another region, through a link.
    fn link(&mut self, at: i64) {
        let address = self.links.address(at) as u64;
        let c = &mut self.code;
        c.rip(RSI, at);
        c.asm.mov(8, RDI, R14);
        c.asm.mov_imm(RCX, address);
        c.asm.load(8, RDX, Mem::At(RCX, 8));
        c.asm.jmp_mem(Mem::At(RCX, 0));
    }

    /// Leaves for the address in RSI, through the table of targets; the mode is in RAX, in place.
    fn look_up(&mut self) {
        let c = &mut self.code;
        let miss = c.asm.label();
        c.asm.mov(8, RCX, RSI);
        c.asm.turn_imm(Turn::Shr, 8, RCX, 10);
        c.asm.alu(Alu::Xor, 4, RCX, RSI);
        c.asm.alu_imm(Alu::And, 4, RCX, abi::TARGETS as i32 - 1);
        c.asm.turn_imm(Turn::Shl, 4, RCX, 5);
        c.asm
            .alu_mem(Alu::Add, 8, RCX, field(abi::helper(Helper::Table)));
        c.asm.alu(Alu::Xor, 8, RAX, RSI);
        c.asm.alu_mem(Alu::Cmp, 8, RAX, Mem::At(RCX, 0));
        c.asm.jcc(CC_NE, miss);
        c.asm.mov(8, RDI, R14);
        c.asm.load(8, RDX, Mem::At(RCX, 16));
        c.asm.mov(8, RAX, RCX);
        c.asm.mov_imm(RCX, 0);
        c.asm.jmp_mem(Mem::At(RAX, 8));
        c.asm.bind(miss);
        c.asm.store_imm(8, field(abi::ANSWER), 0);
        c.asm.mov(8, RCX, RSI);
        c.asm.jmp(self.tails.leave[Leave::Link as usize]);
    }

    /// Leaves at a place with the budget in R14.
    fn leave(&mut self, at: i64, why: Leave) {
        self.code.rip(RCX, at);
        self.code.asm.jmp(self.tails.leave[why as usize]);
    }

    /// What all exits and all missed look-ups share.
    fn shared(&mut self) {
        let c = &mut self.code;
        for (why, &label) in self.tails.leave.iter().enumerate() {
            c.asm.bind(label);
            c.asm.mov_imm(RAX, why as u64);
            if why + 1 != self.tails.leave.len() {
                c.asm.jmp(self.tails.end);
            }
        }
        c.asm.bind(self.tails.end);
        c.asm.store(8, field(abi::RIP_AT), RCX);
        c.asm.store(8, field(abi::BUDGET), R14);
        c.asm.ret();
        // The call that led here has made the stack even again.
        c.asm.bind(self.tails.miss);
        c.asm.call_mem(field(abi::helper(Helper::Memory)));
        c.asm.load(8, RCX, field(abi::ANSWER));
        c.asm.test(8, RCX, RCX);
        c.asm.ret();
    }

    fn cold(&mut self) {
        for cold in std::mem::take(&mut self.code.cold) {
            match cold {
                Cold::Exit(e) => {
                    self.code.asm.bind(e.label);
                    if e.spent != 0 {
                        let less = Mem::At(R14, -e.spent as i32);
                        self.code.asm.lea(8, R14, less);
                    }
                    self.leave(e.at, e.why);
                }
                Cold::Miss {
                    label,
                    back,
                    exit,
                    address,
                    what,
                } => {
                    let c = &mut self.code;
                    c.asm.bind(label);
                    c.asm.store(8, field(abi::ASKED_VA), address);
                    c.asm.store_imm(8, field(abi::ASKED_WHAT), what);
                    c.asm.call(self.tails.miss);
                    c.asm.jcc(CC_E, exit);
                    c.asm.alu(Alu::Sub, 8, RCX, address);
                    c.asm.jmp(back);
                }
                Cold::Called { label, at } => self.called(label, at),
                Cold::Warm { label, counter, at } => {
                    let asm = &mut self.code.asm;
                    asm.bind(label);
                    asm.mov_imm(RCX, counter as u64);
                    asm.store_imm(4, Mem::At(RCX, 0), self.patience as i32);
                    self.leave(at, Leave::Warm);
                }
            }
        }
    }

    /// What a function gave back is in RAX, and it is not [`ran::ON`].
    fn called(&mut self, label: Label, at: i64) {
        let c = &mut self.code;
        let again = c.asm.label();
        c.asm.bind(label);
        c.asm.alu_imm(Alu::Cmp, 4, RAX, ran::AGAIN as i32);
        c.asm.jcc(CC_E, again);
        c.asm.mov_imm(RAX, Leave::Attention as u64);
        c.asm.ret();
        c.asm.bind(again);
        c.asm.load(8, R14, field(abi::BUDGET));
        c.asm.alu_imm(Alu::Add, 8, R14, 1);
        self.leave(at, Leave::Interpret);
    }
}

/// Kinds from here on work on vectors.
const FIRST_VECTOR: Kind = Kind::MovX;
