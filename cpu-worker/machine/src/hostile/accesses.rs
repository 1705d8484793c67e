//! A hostile guest as the board meets it: accesses to ports, registers in memory and MSRs, and time.

use atoll_mmu::Ram;
use atoll_x86::Bus;
use atoll_x86::bus::Clock;
use device_core::{BlockRequest, Noise, Request, Status};
use device_models::platform::{FwCfg, FwCfgFile};
use machine_spec::{Cpu, CpuModel, GuestMachine, Place, PlaceKind};

use crate::{Backends, Board, Lost, map, pc};

/// Little, for it is made anew for each input.
const MEMORY: u64 = 2 << 20;
/// Where the virtio disk's registers are, as the board sets them.
const BAR: u64 = map::PCI_WINDOW.start;
/// Calls that are made of one input at most, and events that one advance lets happen.
const STEPS: usize = 2000;
const EVENTS: usize = 64;

/// Makes the accesses that the bytes say to a board with everything on it. No model panics.
pub fn accesses(bytes: &[u8]) {
    let mut noise = Noise(bytes);
    let mut board = board(noise.below(2) == 1);
    let mut clock = Clock {
        charges: 1,
        ..Clock::default()
    };
    clock.set_deadline(0, 1 << 40);
    for _ in 0..STEPS {
        if noise.is_empty() {
            break;
        }
        step(&mut board, &mut clock, &mut noise);
    }
    for seat in board.seats() {
        assert!(!seat.faulted, "{} panicked", seat.id);
    }
}

fn step(board: &mut Board, clock: &mut Clock, noise: &mut Noise<'_>) {
    let what = noise.below(16);
    let bytes = 1 << noise.below(4);
    match what {
        0..3 => {
            board.port_in(clock, port(noise), u32::min(bytes, 4));
        }
        3..6 => {
            let (port, value) = (port(noise), noise.value() as u32);
            board.port_out(clock, port, u32::min(bytes, 4), value);
        }
        6 => pci_config(board, clock, noise),
        7 => {
            board.mmio_read(clock, register(noise), bytes);
        }
        8 | 9 => {
            let (address, value) = (register(noise), noise.value());
            board.mmio_write(clock, address, bytes, value);
        }
        10 => {
            board.msr_read(clock, msr(noise));
        }
        11 => {
            let (msr, value) = (msr(noise), noise.value());
            board.msr_write(clock, msr, value);
        }
        12 => {
            let (at, value) = (noise.number(2), noise.value());
            board.ram.write(at, &value.to_le_bytes());
        }
        13 => interrupts(board, clock, noise.number(1)),
        _ => {
            let ns = noise.number(3);
            advance(board, clock, ns);
        }
    }
    // A guest that asked for a reset gets one.
    if board.take_halt().is_some() {
        board.reset(clock.now_ns());
    }
}

/// A port, mostly of a device.
fn port(noise: &mut Noise<'_>) -> u16 {
    const BASES: [u16; 16] = [
        0x20, 0xa0, 0x40, 0x60, 0x70, 0x92, 0x3f8, 0x4d0, 0x510, 0x514, 0x518, 0x600, 0x604, 0x608,
        0xcf8, 0xcfc,
    ];
    let base = BASES[noise.below(16) as usize];
    let offset = noise.number(1) as u16;
    if offset < 0x80 {
        base + offset % 8
    } else {
        base ^ offset << 4
    }
}

/// The address of a register in memory.
fn register(noise: &mut Noise<'_>) -> u64 {
    let base = [map::LAPIC, map::IOAPIC, BAR, BAR + 0x4000][noise.below(4) as usize];
    base + noise.number(2)
}

fn msr(noise: &mut Noise<'_>) -> u32 {
    match noise.below(8) {
        0 => 0x1b,
        1 => 0x6e0,
        2 => 0x4b56_4d00 + noise.below(8) as u32,
        3 => 0x11 + noise.below(2) as u32,
        _ => 0x800 + noise.number(1) as u32,
    }
}

/// A register of a function's configuration space is chosen, and written.
fn pci_config(board: &mut Board, clock: &mut Clock, noise: &mut Noise<'_>) {
    let function = [0, 1 << 3, 1 << 3 | 3, 3 << 3][noise.below(4) as usize];
    let address = 0x8000_0000 | function << 8 | noise.number(1) as u32 & 0xfc;
    board.port_out(clock, map::PCI_CONFIG, 4, address);
    let (lane, bytes) = (noise.below(4) as u16, 1 << noise.below(3));
    let value = noise.value() as u32;
    board.port_out(clock, map::PCI_CONFIG + 4 + lane, bytes, value);
    board.port_in(clock, map::PCI_CONFIG + 4 + lane, bytes);
}

/// What the CPU does of its own accord, and what comes from outside.
fn interrupts(board: &mut Board, clock: &mut Clock, which: u64) {
    match which % 8 {
        0 => board.set_tpr(clock, (which >> 4) as u8),
        1 => {
            board.take_nmi();
        }
        2 => board.press_power_button(clock.now_ns()),
        3 => {
            board.input_at_place(clock.now_ns(), 0, b"typed");
        }
        _ if board.interrupt_pending(clock) => {
            board.acknowledge(clock);
        }
        _ => {}
    }
}

/// Lets time go on, event by event: a timer that is set to fire all the time is not followed for ever.
fn advance(board: &mut Board, clock: &mut Clock, ns: u64) {
    let end = clock.now_ns() + ns;
    for _ in 0..EVENTS {
        let at = board
            .next_event_ns()
            .unwrap_or(end)
            .clamp(clock.now_ns(), end);
        clock.set_deadline(at, 1 << 40);
        board.run_due(at);
        if at == end {
            break;
        }
    }
}

/// A machine with a serial port, a disk and, if it has firmware, fw_cfg.
fn board(bios: bool) -> Board {
    let places = vec![
        Place {
            id: "serial0".into(),
            kind: PlaceKind::Serial { index: 0 },
        },
        Place {
            id: "disk0".into(),
            kind: PlaceKind::VirtioBlk {
                pci_slot: 3,
                serial: "hostile".into(),
                readonly: false,
                write_cache: true,
                discard: true,
            },
        },
    ];
    let guest = GuestMachine {
        version: 1,
        memory_bytes: MEMORY,
        cpu: Cpu {
            model: CpuModel::Atoll,
            features: Vec::new(),
        },
        bios,
        append: String::new(),
        modules: Vec::new(),
        places,
        rtc_epoch: 0,
        icount_shift: None,
        seed: 1,
        script: Vec::new(),
    };
    let file = FwCfgFile {
        name: "etc/hostile",
        bytes: vec![7; 100],
    };
    let disk = pc::Disk {
        size_bytes: 64 << 9,
        block_bytes: 512,
        read_only: false,
        discard: true,
    };
    pc::build(
        &guest,
        Ram::anonymous(MEMORY),
        bios.then(|| FwCfg::new(Vec::new(), vec![file])),
        Box::<Answers>::default(),
        &[None, Some(disk)],
    )
}

/// A back end that answers as long as it was asked for: ticket by ticket, how many bytes of a read.
#[derive(Default)]
struct Answers(Vec<u32>);

impl Backends for Answers {
    fn submit(&mut self, _place: u16, _issued_ns: u64, request: &Request<&[u8]>) -> u64 {
        self.0.push(match request {
            Request::Block(BlockRequest::Read { len, .. }) => *len,
            _ => 0,
        });
        self.0.len() as u64 - 1
    }
    fn post(&mut self, _place: u16, _issued_ns: u64, _request: &Request<&[u8]>) {}
    fn reply(&mut self, _place: u16, ticket: u64, data: &mut Vec<u8>) -> Result<Status, Lost> {
        data.clear();
        data.resize(self.0[ticket as usize] as usize, 5);
        Ok(Status::Ok)
    }
}
