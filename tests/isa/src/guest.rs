//! Our side: a vCPU in 64-bit user mode with the same code and data at the same addresses as the child, an IDT whose
//! handlers halt, and one instruction run by an engine.
//!
//! The interpreter single-steps (TF is set, as in the child), so exception delivery and debug traps are run too. Emitted
//! code cannot be single-stepped; there the instruction is followed by INT3, and the breakpoint is taken for the trap.

use atoll_jit::{Engine, Exit, Tier};
use atoll_mmu::{Mmu, Ram};
use atoll_x86::Cpu;
use atoll_x86::bus::{Bus, Clock, attention};
use atoll_x86::decode::decode;
use atoll_x86::interp::Interpreter;
use atoll_x86::op::{Kind, OpFlags, RSP, Seg};
use atoll_x86::state::{Segment, TableReg, attr, cr};
use atoll_x86::system::Model;
use isa_native::layout::{CODE, CODE_LEN, DATA, DATA_LEN, FILL, READ_ONLY, read_only_page};
use isa_native::segments::{self, CODE_32, CODE_64, CS, Descriptor, GDT, LDT, LOCAL, SS, TASK};
use isa_native::{Event, Machine, Slot};

use crate::features;

// Guest-physical places.
const TABLES: u64 = 0x1000;
const GDT_AT: u64 = 0x7000;
const LDT_AT: u64 = 0x7800;
const IDT: u64 = 0x8000;
const TSS: u64 = 0x9000;
const STUBS: u64 = 0xa000;
const STACK_TOP: u64 = 0xc000;
const DATA_PAGES: u64 = 0x10000;
const CODE_PAGES: u64 = 0x10_0000;
/// Physical places for code, used in turn: the translator keeps away from pages that are written to again and again.
const CODE_PLACES: u64 = 1024;
const RAM_LEN: u64 = CODE_PAGES + CODE_PLACES * CODE_LEN as u64;
/// Where the supervisor sees all of RAM.
const SYSTEM: u64 = 0xffff_8000_0000_0000;

const TF: u64 = 1 << 8;
const RF: u64 = 1 << 16;
const DEBUG: u32 = 1;
const BREAKPOINT: u32 = 3;
const GENERAL: u32 = 13;
const PAGE_FAULT: u32 = 14;
/// The error code of a page fault says that it was an instruction fetch.
const FETCH: u64 = 16;
/// No case needs more instructions, iterations of a repeated one included.
const BUDGET: u64 = 100_000;

/// A vCPU and its engine.
#[derive(Debug)]
pub struct Guest {
    cpu: Cpu,
    runner: Runner,
    /// Where the code pages are now.
    code: u64,
    /// Instructions executed by the emitted code of engines that are gone.
    compiled: u64,
}

#[derive(Debug)]
enum Runner {
    Interpreter(Box<Interpreter>),
    Translator(Tier, Box<Engine>),
}

/// How a case ended on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In a handler; the machine and the event are valid.
    Done(Event),
    /// Not in a handler within the budget, or by a triple fault: never right.
    Lost(Exit),
}

impl Guest {
    /// A guest run by the interpreter.
    pub fn interpreted() -> Guest {
        Guest {
            cpu: build(),
            runner: Runner::Interpreter(Box::default()),
            code: CODE_PAGES,
            compiled: 0,
        }
    }

    /// A guest whose every instruction is translated, by this translator.
    pub fn translated(tier: Tier) -> Guest {
        Guest {
            cpu: build(),
            runner: Runner::Translator(tier, Box::new(Engine::inline(1, tier))),
            code: CODE_PAGES,
            compiled: 0,
        }
    }

    /// Whether cases are single-stepped.
    pub fn steps(&self) -> bool {
        matches!(self.runner, Runner::Interpreter(_))
    }

    /// How many instructions emitted code executed.
    pub fn compiled(&self) -> u64 {
        match &self.runner {
            Runner::Interpreter(_) => 0,
            Runner::Translator(_, engine) => self.compiled + engine.stats().compiled_instructions,
        }
    }

    /// Runs the case in `slot` and puts the machine after it into `after`.
    pub fn run(&mut self, slot: &Slot, after: &mut Machine) -> End {
        if !self.steps() {
            self.move_code();
        }
        self.load(&slot.before);
        let ram = self.cpu.mmu.ram().clone();
        let at = self.code + slot.code_offset();
        let len = (slot.code_len as u64).min(self.code + CODE_LEN as u64 - at) as usize;
        ram.write(at, &slot.code[..len]);
        let repeats = self.steps() && self.repeats(slot);
        let end = loop {
            let event = match self.go() {
                Exit::Halt => self.save(slot, after),
                other => break End::Lost(other),
            };
            // Between two iterations of a repeated string instruction the manual has a trap (SDM vol. 3B, 18.3.1.4). Processors differ: the
            // host may make many in one step, so that the guest goes on until it is through.
            if !(repeats && event.vector == DEBUG && after.rip == slot.before.rip) {
                break End::Done(event);
            }
            self.cpu.state.halted = 0;
            after.rflags &= !RF;
            self.load(after);
        };
        ram.write(at, &[FILL; 16][..len]);
        self.cpu.state.halted = 0;
        end
    }

    /// Whether the case is a string instruction with a repeat prefix.
    fn repeats(&self, slot: &Slot) -> bool {
        let code = &slot.code[..slot.code_len as usize];
        decode(code, self.cpu.state.mode, self.cpu.features())
            .is_some_and(|op| op.kind == Kind::String && op.has(OpFlags::REP.union(OpFlags::REPNE)))
    }

    /// Maps the code pages to the next physical place. After the last one comes the first, with a new engine.
    fn move_code(&mut self) {
        self.code += CODE_LEN as u64;
        if self.code == RAM_LEN {
            self.code = CODE_PAGES;
            self.compiled = self.compiled();
            if let Runner::Translator(tier, engine) = &mut self.runner {
                **engine = Engine::inline(1, *tier);
                engine.drop_code(&mut self.cpu);
            }
        }
        map_code(self.cpu.mmu.ram(), self.code);
        self.cpu.mmu.flush_all();
    }

    fn go(&mut self) -> Exit {
        use atoll_x86::interp::Exit as Ended;
        self.cpu.state.clock.set_deadline(0, BUDGET);
        if self.cpu.mmu.ram().code_written() {
            self.cpu.state.clock.attention |= attention::CODE;
        }
        match &mut self.runner {
            Runner::Translator(_, engine) => engine.run(&mut self.cpu),
            Runner::Interpreter(interpreter) => match interpreter.run(&mut self.cpu) {
                Ended::Halt => Exit::Halt,
                Ended::Shutdown => Exit::Shutdown,
                Ended::Budget => Exit::Deadline,
                Ended::Attention | Ended::Hot | Ended::Tagged(_) => Exit::Machine,
            },
        }
    }

    fn load(&mut self, m: &Machine) {
        let steps = self.steps();
        let s = &mut self.cpu.state;
        s.gpr[..16].copy_from_slice(&m.gpr);
        s.set_rip(m.rip);
        s.set_eflags(if steps { m.rflags | TF } else { m.rflags & !TF });
        for (seg, &selector) in SEGMENTS.into_iter().zip(&m.selectors) {
            s.seg[seg as usize] = segment(selector);
        }
        s.seg[Seg::Fs as usize].base = m.fs_base;
        s.seg[Seg::Gs as usize].base = m.gs_base;
        s.cr2 = 0;
        s.dr[6] = 0xffff_0ff0;
        s.mxcsr = m.fx.mxcsr;
        s.xmm = m.fx.xmm;
        s.ymm_high = m.ymm_high;
        s.x87.control = m.fx.fcw;
        s.x87.status = m.fx.fsw;
        s.x87.tags = m.fx.ftw;
        (s.x87.opcode, s.x87.ip, s.x87.dp) = (m.fx.fop, m.fx.fip, m.fx.fdp);
        let top = (m.fx.fsw >> 11) as usize;
        for (n, &[significand, sign]) in m.fx.st.iter().enumerate() {
            s.x87.regs[(top + n) & 7] = [significand, sign & 0xffff];
        }
        self.cpu.mmu.ram().write(DATA_PAGES, &m.memory);
        self.cpu.update_mode();
    }

    /// The user's machine as the handler finds it, and the exception that led there.
    fn save(&mut self, slot: &Slot, after: &mut Machine) -> Event {
        let s = &self.cpu.state;
        let vector = ((s.rip().wrapping_sub(SYSTEM + STUBS)) / 16) as u32;
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        let ram = self.cpu.mmu.ram();
        let frame = s.gpr[RSP as usize].wrapping_sub(SYSTEM);
        let word = |n: u64| ram.read_uint(frame + 8 * n, 8).unwrap_or(0);
        let first = has_error as u64;
        after.gpr.copy_from_slice(&s.gpr[..16]);
        after.rip = word(first);
        after.rflags = word(first + 2);
        after.gpr[RSP as usize] = word(first + 3);
        for (seg, selector) in SEGMENTS.into_iter().zip(&mut after.selectors) {
            *selector = s.seg[seg as usize].selector;
        }
        after.selectors[CS] = word(first + 1) as u16;
        after.selectors[SS] = word(first + 4) as u16;
        after.fs_base = s.seg[Seg::Fs as usize].base;
        after.gs_base = s.seg[Seg::Gs as usize].base;
        after.ymm_high = s.ymm_high;
        let fx = &mut after.fx;
        (fx.fcw, fx.fsw, fx.ftw) = (s.x87.control, s.x87.status, s.x87.tags);
        (fx.fop, fx.fip, fx.fdp) = (s.x87.opcode, s.x87.ip, s.x87.dp);
        (fx.mxcsr, fx.xmm) = (s.mxcsr, s.xmm);
        let top = (fx.fsw >> 11) as usize;
        for (n, st) in fx.st.iter_mut().enumerate() {
            *st = s.x87.regs[(top + n) & 7];
        }
        ram.read(DATA_PAGES, &mut after.memory);
        let mut event = Event {
            state: Event::DONE,
            vector,
            error: if has_error { word(0) & 0xffff_ffff } else { 0 },
            cr2: s.cr2,
        };
        if !self.steps() {
            completed(&mut event, slot, after);
        }
        event
    }
}

/// Takes for a completed instruction what only happened behind one: the breakpoint, or the fetch from where it branched to.
fn completed(event: &mut Event, slot: &Slot, after: &mut Machine) {
    let is_breakpoint = slot.event.vector == BREAKPOINT;
    if event.vector == BREAKPOINT && !is_breakpoint {
        event.vector = DEBUG;
        after.rip = after.rip.wrapping_sub(1);
    }
    let (from, to) = (slot.before.linear_rip(), after.linear_rip());
    let fetch = match event.vector {
        PAGE_FAULT => event.error & FETCH != 0 && event.cr2 == to,
        // Behind the limit of the code segment.
        GENERAL => segments::base(after.selectors[CS]) != 0 && event.error == 0,
        _ => false,
    };
    // After MOV SS the host's trap waits for the next instruction, so that it meets this fault too.
    let met = slot.after.linear_rip() != from && slot.event.vector == event.vector;
    if fetch && !met && to != from {
        event.vector = DEBUG;
    }
}

/// In the order of [`Machine::selectors`].
const SEGMENTS: [Seg; 6] = [Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs];

/// A segment register loaded with this selector, which is null, one of Linux's or of the local table.
fn segment(selector: u16) -> Segment {
    let (base, limit, attr) = match segments::descriptor(selector) {
        Some(d) => {
            let high = high_dword(&d);
            (d.base, d.limit_in_bytes(), (high >> 8) as u16 & 0xf0ff)
        }
        None if selector < 4 => (0, 0, 0),
        None => {
            let kind = match selector {
                CODE_64 => attr::L | 0xb,
                CODE_32 => attr::DB | 0xb,
                _ => attr::DB | 3,
            };
            let user = 3 << attr::DPL_SHIFT;
            (0, u32::MAX, attr::P | attr::S | attr::G | user | kind)
        }
    };
    Segment {
        base: base.into(),
        limit,
        attr,
        selector,
    }
}

/// The second dword of a descriptor without its base.
fn high_dword(d: &Descriptor) -> u32 {
    let accessed = 1;
    let kind = u32::from(d.code) << 3 | u32::from(d.down) << 2 | u32::from(d.open) << 1 | accessed;
    let [s, user] = [1 << 4, 3 << 5];
    let flags = [
        (d.present, 7),
        (d.available, 12),
        (d.big, 14),
        (d.pages, 15),
    ];
    let attributes = flags.iter().fold(kind | s | user, |all, &(on, bit)| {
        all | u32::from(on) << bit
    });
    attributes << 8 | d.limit & 0xf_0000
}

/// A vCPU with the memory of [`isa_native::layout`] and a system that catches every exception.
fn build() -> Cpu {
    let ram = Ram::anonymous(RAM_LEN);
    page_tables(&ram);
    descriptor_tables(&ram);
    ram.write(DATA_PAGES + DATA_LEN as u64, &read_only_page());
    for place in 0..CODE_PLACES {
        ram.write(CODE_PAGES + place * CODE_LEN as u64, &[FILL; CODE_LEN]);
    }
    let model = Model {
        features: features::guest(),
        vendor: features::vendor(),
        ..Model::default()
    };
    let mut cpu = Cpu::new(model, Mmu::new(ram), Box::new(NoBoard));
    let s = &mut cpu.state;
    s.cr0 =
        cr::CR0_PE | cr::CR0_MP | cr::CR0_ET | cr::CR0_NE | cr::CR0_WP | cr::CR0_AM | cr::CR0_PG;
    s.cr3 = TABLES;
    s.cr4 = cr::CR4_PAE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT | cr::CR4_FSGSBASE | cr::CR4_OSXSAVE;
    s.xcr0 = 7;
    s.efer = cr::EFER_LME | cr::EFER_LMA | cr::EFER_SCE | cr::EFER_NXE;
    s.gdtr = TableReg {
        base: SYSTEM + GDT_AT,
        limit: 8 * GDT.len() as u16 - 1,
    };
    s.idtr = TableReg {
        base: SYSTEM + IDT,
        limit: 0xfff,
    };
    s.seg[Seg::Tr as usize] = Segment {
        base: SYSTEM + TSS,
        // No I/O map: every port is denied.
        limit: 0x67,
        attr: attr::P | 0xb,
        selector: TASK,
    };
    s.seg[Seg::Ldtr as usize] = Segment {
        base: SYSTEM + LDT_AT,
        limit: 8 * LDT.len() as u32 - 1,
        attr: attr::P | 2,
        selector: LOCAL,
    };
    s.x87 = Default::default();
    cpu.update_mode();
    cpu
}

// Bits of a page-table entry.
const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
/// Accessed and dirty already, so that no case differs by them.
const AD: u64 = 0x60;
const LARGE: u64 = 0x80;
const NX: u64 = 1 << 63;

/// Where the entry of a user page is.
fn entry(at: u64) -> u64 {
    TABLES + 0x3000 + 8 * (at >> 12 & 511)
}

/// Maps the code pages to `place`.
fn map_code(ram: &Ram, place: u64) {
    for n in 0..2 {
        let page = place + 0x1000 * n;
        assert!(ram.write_uint(entry(CODE + 0x1000 * n), 8, page | P | U | AD));
    }
}

fn page_tables(ram: &Ram) {
    let all = P | W | U | AD;
    let put = |at: u64, v: u64| assert!(ram.write_uint(at, 8, v));
    let [top, pointers, directory, table] = [0, 1, 2, 3].map(|n| TABLES + 0x1000 * n);
    let [system_pointers, system_directory] = [4, 5].map(|n| TABLES + 0x1000 * n);
    put(top, pointers | all);
    put(pointers, directory | all);
    put(directory + 8 * (DATA >> 21), table | all);
    put(top + 8 * 256, system_pointers | P | W | AD);
    put(system_pointers, system_directory | P | W | AD);
    put(system_directory, P | W | AD | LARGE);
    for n in 0..3 {
        let write = if DATA + 0x1000 * n == READ_ONLY { 0 } else { W };
        put(
            entry(DATA + 0x1000 * n),
            (DATA_PAGES + 0x1000 * n) | P | U | AD | NX | write,
        );
    }
    map_code(ram, CODE_PAGES);
}

/// Linux's GDT, the cases' LDT, an IDT whose gates lead to HLT, and a TSS with a stack.
fn descriptor_tables(ram: &Ram) {
    let put = |at: u64, v: u64| assert!(ram.write_uint(at, 8, v));
    for (n, d) in (0u64..).zip(GDT) {
        put(GDT_AT + 8 * n, d);
    }
    for (n, d) in (0u64..).zip(&LDT) {
        let Some(d) = d else { continue };
        let (base, high) = (u64::from(d.base), u64::from(high_dword(d)));
        let low = u64::from(d.limit & 0xffff) | (base & 0xff_ffff) << 16;
        put(LDT_AT + 8 * n, low | (high | base & 0xff00_0000) << 32);
    }
    for vector in 0..256 {
        let handler = SYSTEM + STUBS + 16 * vector;
        let dpl: u64 = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let low = handler & 0xffff
            | 0x10 << 16
            | (0x8e00 | dpl << 13) << 32
            | (handler >> 16 & 0xffff) << 48;
        put(IDT + 16 * vector, low);
        put(IDT + 16 * vector + 8, handler >> 32);
        ram.write(STUBS + 16 * vector, &[0xf4]);
    }
    put(TSS + 4, SYSTEM + STACK_TOP);
    // The I/O map begins behind the limit.
    put(TSS + 0x60, 0x68 << 48);
}

/// A board with nothing on it.
struct NoBoard;

impl Bus for NoBoard {
    fn mmio_read(&mut self, _: &mut Clock, _: u64, _: u32) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: &mut Clock, _: u64, _: u32, _: u64) {}
    fn port_in(&mut self, _: &mut Clock, _: u16, _: u32) -> u32 {
        u32::MAX
    }
    fn port_out(&mut self, _: &mut Clock, _: u16, _: u32, _: u32) {}
    fn msr_read(&mut self, _: &mut Clock, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: &mut Clock, _: u32, _: u64) -> bool {
        false
    }
    fn tpr(&mut self) -> u8 {
        0
    }
    fn set_tpr(&mut self, _: &mut Clock, _: u8) {}
    fn interrupt_pending(&mut self, _: &mut Clock) -> bool {
        false
    }
    fn acknowledge(&mut self, _: &mut Clock) -> Option<u8> {
        None
    }
    fn a20_is_open(&mut self) -> bool {
        true
    }
    fn nmi_pending(&mut self) -> bool {
        false
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
