//! `-d`: what the guest does, as text for a developer.
//!
//! Watching changes nothing: a run has the same hash with and without. For a log of single instructions the run loop makes
//! stretches of one instruction; everything else is told by who does it (the CPU what it delivers, the board what is accessed).

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_machine::Board;
use atoll_machine::watch::{Seen, Space};
use atoll_x86::listing::listing;
use atoll_x86::state::{State, mode};
use atoll_x86::{Cpu, cpu::Delivery};
use machine_spec::DebugItem;

/// Text that is gathered before it is sent on.
const ENOUGH: usize = 32 << 10;
/// The longest instruction.
const LONGEST: usize = 15;

/// Takes text, a piece at a time.
pub type Sink = Box<dyn FnMut(String) + Send>;

/// Where all lines go, in order.
#[derive(Clone)]
struct Lines(Arc<Mutex<(String, Sink)>>);

impl Lines {
    fn with(&self, write: impl FnOnce(&mut String)) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, sink) = &mut *lines;
        write(text);
        if text.len() >= ENOUGH {
            sink(std::mem::take(text));
        }
    }

    fn flush(&self) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, sink) = &mut *lines;
        if !text.is_empty() {
            sink(std::mem::take(text));
        }
    }
}

/// See the module's documentation.
pub struct DebugLog {
    items: Vec<DebugItem>,
    lines: Lines,
    /// The instruction that runs now: its linear address and the mode, until it is listed.
    now: Option<(u64, u32)>,
    /// Instructions that were listed, by address and bytes.
    listed: HashSet<(u64, [u8; LONGEST])>,
}

impl std::fmt::Debug for DebugLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DebugLog")
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}

impl DebugLog {
    /// A log of these items of the machine that `cpu` belongs to.
    pub fn new(items: &[DebugItem], cpu: &mut Cpu, sink: Sink) -> DebugLog {
        let log = DebugLog {
            items: items.to_vec(),
            lines: Lines(Arc::new(Mutex::new((String::new(), sink)))),
            now: None,
            listed: HashSet::new(),
        };
        if log.has(DebugItem::Int) {
            let lines = log.lines.clone();
            let mut count = 0u64;
            cpu.watch = Some(Box::new(move |state, delivery| {
                lines.with(|text| delivered(text, count, state, delivery));
                count += 1;
            }));
        }
        let all = log.has(DebugItem::Io);
        let memory = log.has(DebugItem::GuestErrors);
        let ports = log.has(DebugItem::Unimp);
        if all || memory || ports {
            let lines = log.lines.clone();
            board(cpu).watch(Box::new(move |seen| {
                let nothing = match seen.space {
                    Space::Memory => memory,
                    Space::Port => ports,
                };
                if all || nothing && !seen.is_claimed {
                    lines.with(|text| accessed(text, seen));
                }
            }));
        }
        log
    }

    fn has(&self, item: DebugItem) -> bool {
        self.items.contains(&item)
    }

    /// Whether it wants to see each instruction.
    pub fn steps(&self) -> bool {
        [DebugItem::InAsm, DebugItem::Exec, DebugItem::Cpu]
            .iter()
            .any(|item| self.has(*item))
    }

    /// The instruction at RIP is about to run.
    pub fn before(&mut self, cpu: &mut Cpu) {
        let (exec, registers) = (self.has(DebugItem::Exec), self.has(DebugItem::Cpu));
        self.now = Some((cpu.linear_rip(), cpu.state.mode));
        let state = &cpu.state;
        self.lines.with(|text| {
            if registers {
                dump(text, state);
            }
            if exec {
                let cs = state.segment(atoll_x86::op::Seg::Cs).selector;
                let _ = writeln!(text, "Trace {cs:04x}:{:016x}", state.rip());
            }
        });
    }

    /// It has run. Its bytes are where it was fetched from just now.
    pub fn after(&mut self, cpu: &Cpu) {
        let Some((rip, word)) = self.now.take().filter(|_| self.has(DebugItem::InAsm)) else {
            return;
        };
        let mut bytes = [0; LONGEST];
        let mut have = 0;
        while have < LONGEST {
            let Some(place) = cpu.mmu.peek_fetch(rip.wrapping_add(have as u64)) else {
                break;
            };
            match cpu.mmu.code_bytes(place, &mut bytes[have..]) {
                0 => break,
                more => have += more,
            }
        }
        if have > 0 && self.listed.insert((rip, bytes)) {
            let (instruction, length) = listing(&bytes[..have], word, rip);
            self.lines.with(|text| {
                let _ = write!(text, "0x{rip:016x}:  ");
                let hex = bytes[..length.min(have)].iter();
                let hex = hex.fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
                let _ = writeln!(text, "{hex:<32}{instruction}");
            });
        }
    }

    /// The machine is reset; these are the registers that it had.
    pub fn reset(&mut self, cpu: &Cpu) {
        if self.has(DebugItem::CpuReset) {
            self.lines.with(|text| {
                let _ = writeln!(text, "CPU Reset at {} ns", cpu.state.clock.now_ns());
                dump(text, &cpu.state);
            });
        }
    }

    /// Sends on what was gathered.
    pub fn flush(&self) {
        self.lines.flush();
    }
}

fn board(cpu: &mut Cpu) -> &mut Board {
    crate::vcpu::board(cpu)
}

fn delivered(text: &mut String, count: u64, state: &State, delivery: &Delivery) {
    let Delivery {
        vector,
        code,
        origin,
        from: (cs, rip),
    } = delivery;
    let code = code.map_or(String::from("----"), |code| format!("{code:04x}"));
    let _ = writeln!(
        text,
        "{count:6}: v={vector:02x} e={code} {origin} IP={cs:04x}:{rip:016x} to={:016x} cpl={} SP={:016x} CR2={:016x} at {} ns",
        state.rip(),
        state.cpl(),
        state.gpr[atoll_x86::op::RSP as usize],
        state.cr2,
        state.clock.now_ns(),
    );
}

fn accessed(text: &mut String, seen: &Seen) {
    let space = match seen.space {
        Space::Port => "port",
        Space::Memory => "memory",
    };
    let what = if seen.is_write { "write" } else { "read" };
    let nothing = if seen.is_claimed {
        ""
    } else {
        " (nothing there)"
    };
    let _ = writeln!(
        text,
        "{what} {space} 0x{:x} size {} value 0x{:x} at {} ns{nothing}",
        seen.address, seen.bytes, seen.value, seen.now_ns
    );
}

/// The registers, as QEMU lays them out.
fn dump(text: &mut String, state: &State) {
    const NAMES: [&str; 16] = [
        "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12",
        "R13", "R14", "R15",
    ];
    const ORDER: [usize; 16] = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];
    for row in ORDER.chunks(4) {
        let row = row
            .iter()
            .map(|&n| format!("{}={:016x}", NAMES[n], state.gpr[n]));
        let _ = writeln!(text, "{}", row.collect::<Vec<_>>().join(" "));
    }
    let _ = writeln!(
        text,
        "RIP={:016x} RFL={:08x} CPL={} HLT={} mode={}",
        state.rip(),
        state.eflags(),
        state.cpl(),
        state.halted,
        if state.mode & mode::LONG != 0 {
            64
        } else if state.mode & mode::CODE32 != 0 {
            32
        } else {
            16
        },
    );
    let names = ["ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"];
    for (name, segment) in names.iter().zip(&state.seg) {
        let _ = writeln!(
            text,
            "{name:<3}={:04x} {:016x} {:08x} {:04x}",
            segment.selector, segment.base, segment.limit, segment.attr
        );
    }
    let _ = writeln!(
        text,
        "CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x} EFER={:x}",
        state.cr0, state.cr2, state.cr3, state.cr4, state.efer
    );
}
