//! The two outcomes of a case, side by side.

use isa_native::layout::DATA;
use isa_native::segments;
use isa_native::{Event, Machine, Slot};

use crate::forms::Bits;
use crate::generate::{Case, segment_place};
use crate::undefined::{self, Precision};

/// One thing in which the outcomes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    /// What the case began with.
    pub before: u128,
    pub host: u128,
    pub guest: u128,
}

/// All that there are.
const FLAGS: u64 = 0x3f_7fd5;
const ARITHMETIC: u64 = 0x8d5;
const TF: u64 = 1 << 8;
const RF: u64 = 1 << 16;
const DEBUG: u32 = 1;
const ALIGNMENT: u32 = 17;
/// From here on the host's kernel reports page faults as protection violations, whatever is mapped.
const KERNEL_ONLY: u64 = 0x7fff_ffff_f000;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// Collects differences.
struct Side<'a> {
    before: &'a Machine,
    host: &'a Machine,
    guest: &'a Machine,
    found: Vec<Difference>,
}

/// The differences of a case whose guest ended with this event and machine. `steps`: the guest had TF set, as the host had.
pub fn compare(
    case: &Case,
    slot: &Slot,
    event: Event,
    guest: &Machine,
    steps: bool,
) -> Vec<Difference> {
    let mut side = Side {
        before: &slot.before,
        host: &slot.after,
        guest,
        found: Vec::new(),
    };
    if undefined::is_order_open(&case.instruction, slot.event.vector, event.vector) {
        return Vec::new();
    }
    if undefined::is_stack_open(&slot.before, &slot.after) {
        return Vec::new();
    }
    let base =
        segments::base(slot.before.selectors[segment_place(case.instruction.memory_segment())]);
    // MASKMOVDQU and its relatives have theirs in DI.
    let offset = case
        .operand
        .map_or(slot.before.gpr[7], |at| at.wrapping_sub(base));
    if undefined::is_wrap_open(&case.instruction, offset) {
        return Vec::new();
    }
    if slot.event.vector == ALIGNMENT && undefined::is_alignment_open(&case.instruction) {
        return Vec::new();
    }
    side.event(case, slot.event, event);
    let completed = slot.event.vector == DEBUG;
    side.registers(case, completed, steps);
    side.vectors(case, slot.event.vector);
    if !undefined::is_x87_open(&case.instruction, completed) {
        side.x87(case);
    }
    side.memory(case, completed);
    side.found
}

impl Side<'_> {
    fn check(&mut self, what: impl FnOnce() -> String, before: u128, host: u128, guest: u128) {
        if host != guest {
            self.found.push(Difference {
                what: what(),
                before,
                host,
                guest,
            });
        }
    }

    fn event(&mut self, case: &Case, host: Event, guest: Event) {
        let vectors = (host.vector as u128, guest.vector as u128);
        self.check(|| "exception".into(), 0, vectors.0, vectors.1);
        if host.vector != guest.vector {
            return;
        }
        if matches!(host.vector, 8 | 10..=14 | 17) && !undefined::is_in_pieces(&case.instruction) {
            let in_kernel_half = host.vector == 14 && host.cr2 >= KERNEL_ONLY;
            let mask = if in_kernel_half { !1 } else { u64::MAX };
            let (h, g) = (host.error & mask, guest.error & mask);
            self.check(|| "error code".into(), 0, h as u128, g as u128);
        }
        if host.vector == 14 && !undefined::is_address_open(&case.instruction) {
            self.check(|| "cr2".into(), 0, host.cr2 as u128, guest.cr2 as u128);
        }
    }

    fn registers(&mut self, case: &Case, completed: bool, steps: bool) {
        let (b, h, g) = (self.before, self.host, self.guest);
        let undefined = if completed {
            undefined::register(&case.instruction, b, h)
        } else {
            None
        };
        // Other code has eight registers, and what becomes of their upper halves is not defined.
        let (count, cut) = match case.bits {
            Bits::B64 => (16, u64::MAX),
            Bits::B32 | Bits::B16 => (8, u32::MAX as u64),
        };
        let low = |v: u64| (v & cut) as u128;
        let count = if !completed && undefined::is_loading_in_pieces(&case.instruction) {
            0
        } else {
            count
        };
        for n in (0..count).filter(|&n| Some(n) != undefined) {
            let open = undefined::register_bits(&case.instruction, n, b);
            let v = |m: &Machine| low(m.gpr[n] & if completed { !open } else { u64::MAX });
            self.check(|| NAMES[n].into(), v(b), v(h), v(g));
        }
        self.check(|| "rip".into(), low(b.rip), low(h.rip), low(g.rip));
        let mut mask = FLAGS;
        if !steps {
            mask &= !TF;
        }
        if !steps && completed {
            // What comes behind the instruction has cleared it.
            mask &= !RF;
        }
        if completed {
            mask &= !undefined::flags(&case.instruction, b);
        }
        if undefined::sets_conditions_despite_exception(&case.instruction, h) {
            mask &= !ARITHMETIC;
        }
        let flags = |m: &Machine| (m.rflags & mask) as u128;
        self.check(
            || format!("flags {}", flag_names((h.rflags ^ g.rflags) & mask)),
            flags(b),
            flags(h),
            flags(g),
        );
        for (n, name) in ["es", "cs", "ss", "ds", "fs", "gs"].iter().enumerate() {
            // The host's kernel returns to user mode by IRET, which makes null selectors 0.
            let v = |m: &Machine| match m.selectors[n] {
                0..4 => 0,
                selector => selector as u128,
            };
            self.check(|| (*name).into(), v(b), v(h), v(g));
        }
        self.check(
            || "fs base".into(),
            b.fs_base as u128,
            h.fs_base as u128,
            g.fs_base as u128,
        );
        self.check(
            || "gs base".into(),
            b.gs_base as u128,
            h.gs_base as u128,
            g.gs_base as u128,
        );
    }

    fn vectors(&mut self, case: &Case, vector: u32) {
        let (b, h, g) = (self.before, self.host, self.guest);
        let approximate = undefined::precision(&case.instruction) == Precision::Approximate;
        for n in 0..16 {
            let v = |m: &Machine| wide(m.fx.xmm[n]);
            if !approximate || !are_near(v(h), v(g)) {
                self.check(|| format!("xmm{n}"), v(b), v(h), v(g));
            }
            let v = |m: &Machine| wide(m.ymm_high[n]);
            if !approximate || !are_near(v(h), v(g)) {
                self.check(|| format!("ymm{n} high"), v(b), v(h), v(g));
            }
        }
        let open = undefined::mxcsr(&case.instruction, vector, h);
        let v = |m: &Machine| (m.fx.mxcsr & !open) as u128;
        self.check(|| "mxcsr".into(), v(b), v(h), v(g));
    }

    fn x87(&mut self, case: &Case) {
        const C1: u16 = 1 << 9;
        const DE: u16 = 2;
        const UE: u16 = 16;
        const PE: u16 = 32;
        const CONDITIONS: u16 = 0x4700;
        let (b, h, g) = (self.before, self.host, self.guest);
        let i = &case.instruction;
        let transcendental = undefined::precision(i) == Precision::Transcendental;
        if transcendental && (undefined::is_out_of_range(i, b) || has_unmasked(h)) {
            return;
        }
        for n in 0..8 {
            let v = |m: &Machine| wide(m.fx.st[n]) & ((1 << 80) - 1);
            // Adjacent encodings are adjacent numbers, over the edges of the exponent too.
            if !transcendental {
                self.check(|| format!("st{n}"), v(b), v(h), v(g));
            }
        }
        let mut open = if transcendental { C1 | PE | UE | DE } else { 0 };
        if undefined::sets_conditions_despite_exception(i, h) {
            open |= CONDITIONS;
        }
        let v = |m: &Machine| m.fx.fcw as u128;
        self.check(|| "x87 control".into(), v(b), v(h), v(g));
        let v = |m: &Machine| (m.fx.fsw & !open) as u128;
        self.check(|| "x87 status".into(), v(b), v(h), v(g));
        let v = |m: &Machine| m.fx.ftw as u128;
        self.check(|| "x87 tags".into(), v(b), v(h), v(g));
    }

    fn memory(&mut self, case: &Case, completed: bool) {
        let (b, h, g) = (self.before, self.host, self.guest);
        if h.memory == g.memory || !completed && undefined::is_storing_in_pieces(&case.instruction)
        {
            return;
        }
        let start = case
            .operand
            .unwrap_or_else(|| h.stack_top())
            .wrapping_sub(DATA);
        let free = undefined::memory(&case.instruction, b);
        let is_free = |at: usize| {
            completed
                && free
                    .iter()
                    .any(|r| r.contains(&(at as u64).wrapping_sub(start)))
        };
        let differs = |at: usize| h.memory[at] != g.memory[at] && !is_free(at);
        let Some(first) = (0..h.memory.len()).find(|&at| differs(at)) else {
            return;
        };
        let word = |m: &Machine| {
            let end = (first + 8).min(m.memory.len());
            m.memory[first..end]
                .iter()
                .rev()
                .fold(0, |v, &b| v << 8 | b as u128)
        };
        let (vb, vh, vg) = (word(b), word(h), word(g));
        self.found.push(Difference {
            what: format!("memory at {:#x}", DATA + first as u64),
            before: vb,
            host: vh,
            guest: vg,
        });
    }
}

/// How far two results, each within 1 ulp of the true one, may be apart.
const ULPS: u128 = 2;

/// Whether an x87 exception is unmasked: how a transcendental then ends depends on flags that depend on its result.
fn has_unmasked(m: &Machine) -> bool {
    m.fx.fcw & 0x3f != 0x3f
}

/// Whether the results of a transcendental are further apart than two functions, each within 1 ulp of the true result, can be.
/// That is counted and no failure: CPUs reduce large angles by a value of pi of their own.
pub fn deviates(case: &Case, slot: &Slot, guest: &Machine) -> bool {
    let i = &case.instruction;
    let v = |m: &Machine, n: usize| without_integer_bit(wide(m.fx.st[n]) & ((1 << 80) - 1));
    undefined::precision(i) == Precision::Transcendental
        && !undefined::is_out_of_range(i, &slot.before)
        && !has_unmasked(&slot.before)
        && (0..8).any(|n| v(&slot.after, n).abs_diff(v(guest, n)) > ULPS)
}

/// An 80-bit value without its integer bit, so that the encodings of neighbouring normal numbers are neighbours.
fn without_integer_bit(v: u128) -> u128 {
    let significand = v & ((1 << 63) - 1);
    (v >> 64) << 63 | significand
}

/// Whether each binary32 lane is equal or within the error of an approximation on either side.
fn are_near(host: u128, guest: u128) -> bool {
    let lane = |v: u128, n: u32| f32::from_bits((v >> (32 * n)) as u32);
    (0..4).all(|n| {
        let (h, g) = (lane(host, n), lane(guest, n));
        let error = ((h as f64 - g as f64) / h as f64).abs();
        h.to_bits() == g.to_bits() || error <= 2.0 * 1.5 / 4096.0
    })
}

fn wide([low, high]: [u64; 2]) -> u128 {
    low as u128 | (high as u128) << 64
}

fn flag_names(bits: u64) -> String {
    const FLAG_NAMES: [(u32, &str); 10] = [
        (0, "CF"),
        (2, "PF"),
        (4, "AF"),
        (6, "ZF"),
        (7, "SF"),
        (8, "TF"),
        (10, "DF"),
        (11, "OF"),
        (16, "RF"),
        (18, "AC"),
    ];
    let set = FLAG_NAMES.iter().filter(|(bit, _)| bits >> bit & 1 != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}
