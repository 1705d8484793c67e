//! The comparison: instruction by instruction until a result differs.
//!
//! Both machines begin with the same registers and memory: QEMU's, when it comes to the first instruction of interest. From there on ours
//! follows. Where QEMU took an interrupt, ours takes the same one. What an instruction got from outside of CPU and RAM (a
//! device, a clock, CPUID, an MSR) is noted where it differs and taken over, as are flags that the manuals leave undefined. So whatever
//! else differs is a difference in an instruction's meaning, or comes from memory that an earlier one wrote, or that a device wrote by
//! itself, which is not followed: leave disks and networks out.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Result;
use atoll_x86::Fault;
use atoll_x86::flags::ARITH;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter};

use super::follow::{Access, Follower};
use super::registers::{Difference, Registers};
use super::trace::Event;
use crate::undefined;

/// How many instructions before a difference are told.
const CONTEXT: usize = 16;

/// An instruction that ends differently.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// How many instructions agreed before.
    pub number: u64,
    pub text: String,
    pub bytes: Vec<u8>,
    pub before: Registers,
    pub ours: Registers,
    pub qemu: Registers,
    pub differences: Vec<Difference>,
    /// What it raised in Atoll.
    pub fault: Option<Fault>,
    /// What it accessed outside of the CPU and RAM.
    pub accesses: Vec<Access>,
    /// Memory operands: linear address and what RAM holds there now.
    pub memory: Vec<(u64, Vec<Option<u8>>)>,
    /// The instructions before it.
    pub context: Vec<String>,
}

/// What came from outside and was not the same, with how often, and first where.
#[derive(Clone, Debug, Default)]
pub struct Notes(pub BTreeMap<String, (u64, String)>);

/// Why a comparison ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// QEMU powered off or was reset.
    Qemu,
    /// QEMU has nothing more to do.
    Idle,
    /// As many instructions as were asked for.
    Enough,
    /// As many differences as were asked for.
    Differences,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub instructions: u64,
    pub interrupts: u64,
    pub divergences: Vec<Divergence>,
    pub notes: Notes,
    pub ended: Ended,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub instructions: u64,
    pub differences: usize,
}

/// A comparison under way.
pub(super) struct Diff<'a, F> {
    follower: &'a mut Follower,
    next: F,
    limits: Limits,
    context: VecDeque<(Registers, Vec<u8>)>,
    outcome: Outcome,
}

impl<'a, F: FnMut() -> Result<Event>> Diff<'a, F> {
    pub(super) fn new(follower: &'a mut Follower, limits: Limits, next: F) -> Diff<'a, F> {
        Diff {
            follower,
            next,
            limits,
            context: VecDeque::new(),
            outcome: Outcome {
                instructions: 0,
                interrupts: 0,
                divergences: Vec::new(),
                notes: Notes::default(),
                ended: Ended::Enough,
            },
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome> {
        self.outcome.ended = self.compare_all()?;
        Ok(self.outcome)
    }

    fn compare_all(&mut self) -> Result<Ended> {
        let mut before = match (self.next)()? {
            Event::Before(registers) => *registers,
            _ => return Ok(Ended::Qemu),
        };
        loop {
            if self.outcome.instructions >= self.limits.instructions {
                return Ok(Ended::Enough);
            }
            let after = match (self.next)()? {
                Event::End => return Ok(Ended::Qemu),
                Event::Silence => return Ok(Ended::Idle),
                // QEMU looked around before the instruction; or it is a jump to itself, which changes nothing.
                Event::Before(after) if *after == before => continue,
                Event::Before(after) => {
                    self.instruction(&before, &after);
                    *after
                }
                Event::Interrupt(vector, at) => {
                    if let Some(at) = at.filter(|at| !is_same_place(at, &before)) {
                        self.instruction(&before, &at);
                    }
                    match self.interrupt(vector)? {
                        Ok(after) => after,
                        Err(ended) => return Ok(ended),
                    }
                }
            };
            if self.outcome.divergences.len() >= self.limits.differences {
                return Ok(Ended::Differences);
            }
            before = after;
        }
    }

    /// Executes one instruction and compares what is there now with what QEMU has.
    fn instruction(&mut self, before: &Registers, qemu: &Registers) {
        let ours_before = self.follower.registers();
        let bytes = self.follower.code();
        self.follower.step();
        self.outcome.instructions += 1;
        if let Some(fault) = self.follower.fault() {
            self.follower.clear_pushed_rf(&fault, ours_before.flags);
        }
        if self.context.len() == CONTEXT {
            self.context.pop_front();
        }
        let mut ours = self.follower.registers();
        if !ours.differences(qemu, 0).is_empty() {
            let instruction = decode(&ours_before, &bytes);
            ours = self.excuse(&ours_before, ours, qemu, &instruction);
            let differences = ours.differences(qemu, 0);
            if !differences.is_empty() {
                self.diverged(before, &bytes, &instruction, ours, qemu, differences);
            }
        }
        self.context.push_back((ours_before, bytes));
    }

    /// Takes over what an instruction may have got from outside, or is left undefined; our registers after that.
    fn excuse(
        &mut self,
        before: &Registers,
        ours: Registers,
        qemu: &Registers,
        instruction: &Instruction,
    ) -> Registers {
        // QEMU finds out that a repeated instruction is through by beginning it once more.
        let through = before.rip == qemu.rip && qemu.gpr[1] == 0 && ours.rip != qemu.rip;
        if through && is_repeated(instruction) {
            self.follower.repeat(qemu.rip);
            return self.follower.registers();
        }
        if ours.rip != qemu.rip {
            return ours;
        }
        let mask = self.undefined(before, instruction);
        self.follower.adopt_flags(qemu, mask);
        if let Some(source) = self.source(before, instruction) {
            let mut adopted = self.follower.registers();
            let found = adopted.differences(qemu, 0);
            self.follower.adopt_result(qemu);
            adopted = self.follower.registers();
            if adopted.differences(qemu, 0).is_empty() && !found.is_empty() {
                self.note(source, &found, before.rip);
            }
            return adopted;
        }
        self.follower.registers()
    }

    fn undefined(&self, before: &Registers, instruction: &Instruction) -> u64 {
        let machine = isa_native::Machine {
            gpr: before.gpr,
            rip: before.rip,
            rflags: before.flags,
            ..Default::default()
        };
        undefined::flags(instruction, &machine) & ARITH
    }

    /// Where the instruction may have got something that is not the CPU's doing.
    fn source(&mut self, before: &Registers, instruction: &Instruction) -> Option<String> {
        use Mnemonic::*;
        match instruction.mnemonic() {
            Rdtsc | Rdtscp | Rdpmc | Rdrand | Rdseed => {
                return Some(format!("{:?}", instruction.mnemonic()));
            }
            Cpuid => {
                let (leaf, sub) = (before.gpr[0] as u32, before.gpr[1] as u32);
                return Some(format!("CPUID of leaf {leaf:#x}, {sub:#x}"));
            }
            Rdmsr => return Some(format!("RDMSR of {:#x}", before.gpr[1] as u32)),
            _ => {}
        }
        self.follower.accesses().first().map(Access::to_string)
    }

    fn note(&mut self, source: String, found: &[Difference], rip: u64) {
        let number = self.outcome.instructions;
        let entry = self.outcome.notes.0.entry(source).or_insert_with(|| {
            let values = found.iter().map(Difference::to_string).collect::<Vec<_>>();
            (
                0,
                format!(
                    "first at {rip:#x}, instruction {number}: {}",
                    values.join(", ")
                ),
            )
        });
        entry.0 += 1;
    }

    /// Takes the interrupt that QEMU took, and compares where that leads.
    fn interrupt(&mut self, vector: u8) -> Result<Result<Registers, Ended>> {
        let ours_before = self.follower.registers();
        let taken = self.follower.interrupt(vector);
        self.outcome.interrupts += 1;
        let qemu = match (self.next)()? {
            Event::Before(qemu) => *qemu,
            Event::Silence => return Ok(Err(Ended::Idle)),
            _ => return Ok(Err(Ended::Qemu)),
        };
        let ours = self.follower.registers();
        let differences = ours.differences(&qemu, 0);
        if !differences.is_empty() {
            let refused = if taken {
                ""
            } else {
                ", which Atoll's CPU would not take now"
            };
            let text = format!("(interrupt {vector:#x}{refused})");
            let divergence = Divergence {
                text,
                ..self.divergence(&ours_before, &[], ours, &qemu, differences)
            };
            self.found(divergence);
        }
        Ok(Ok(qemu))
    }

    fn diverged(
        &mut self,
        before: &Registers,
        bytes: &[u8],
        instruction: &Instruction,
        ours: Registers,
        qemu: &Registers,
        differences: Vec<Difference>,
    ) {
        let mut divergence = self.divergence(before, bytes, ours, qemu, differences);
        divergence.text = text(instruction);
        divergence.fault = self.follower.fault();
        divergence.accesses = self.follower.accesses().to_vec();
        for (address, bytes) in operands(before, instruction) {
            divergence
                .memory
                .push((address, self.follower.peek(address, bytes)));
        }
        self.found(divergence);
    }

    fn divergence(
        &self,
        before: &Registers,
        bytes: &[u8],
        ours: Registers,
        qemu: &Registers,
        differences: Vec<Difference>,
    ) -> Divergence {
        let line = |(registers, bytes): &(Registers, Vec<u8>)| {
            format!(
                "{:016x}  {}",
                registers.rip,
                text(&decode(registers, bytes))
            )
        };
        Divergence {
            number: self.outcome.instructions,
            text: String::new(),
            bytes: bytes.to_vec(),
            before: before.clone(),
            ours,
            qemu: qemu.clone(),
            differences,
            fault: None,
            accesses: Vec::new(),
            memory: Vec::new(),
            context: self.context.iter().map(line).collect(),
        }
    }

    /// Keeps it, and goes on from QEMU's registers.
    fn found(&mut self, divergence: Divergence) {
        self.follower.set_registers(&divergence.qemu, &[]);
        self.outcome.divergences.push(divergence);
    }
}

/// Whether the instruction that `before` stands at was not yet executed.
fn is_same_place(at: &Registers, before: &Registers) -> bool {
    at.rip == before.rip && at.gpr == before.gpr && at.flags == before.flags
}

fn is_repeated(instruction: &Instruction) -> bool {
    instruction.is_string_instruction()
        && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

fn decode(at: &Registers, bytes: &[u8]) -> Instruction {
    // CS.L in long mode, else CS.D.
    let bits = match (at.wide, at.seg[1].attr & atoll_x86::state::attr::DB != 0) {
        (true, _) => 64,
        (false, true) => 32,
        (false, false) => 16,
    };
    Decoder::with_ip(bits, bytes, at.rip, DecoderOptions::NONE).decode()
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    NasmFormatter::new().format(instruction, &mut text);
    text
}

/// The memory operands: linear addresses and bytes.
fn operands(before: &Registers, instruction: &Instruction) -> Vec<(u64, usize)> {
    use iced_x86::{OpKind, Register};
    let bytes = instruction.memory_size().size().min(64);
    let value = |register: Register, _, _| {
        let segments = [
            Register::ES,
            Register::CS,
            Register::SS,
            Register::DS,
            Register::FS,
            Register::GS,
        ];
        if let Some(n) = segments.iter().position(|segment| *segment == register) {
            let has_base = !before.wide || n >= 4;
            return Some(if has_base { before.seg[n].base } else { 0 });
        }
        if !register.is_gpr() {
            return None;
        }
        let full = before.gpr[register.number()];
        let bits = 8 * register.size();
        Some(if bits == 64 {
            full
        } else {
            full & ((1 << bits) - 1)
        })
    };
    (0..instruction.op_count())
        .filter(|n| {
            let kind = instruction.op_kind(*n);
            kind == OpKind::Memory || (OpKind::MemorySegSI..=OpKind::MemoryESRDI).contains(&kind)
        })
        .filter_map(|n| instruction.virtual_address(n, 0, value))
        .map(|address| {
            (
                if before.wide {
                    address
                } else {
                    address & 0xffff_ffff
                },
                bytes,
            )
        })
        .collect()
}
