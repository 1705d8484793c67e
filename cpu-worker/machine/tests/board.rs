//! The board with real models and a back end of a few lines: ports, lines, timers, script and reset, as the CPU meets them.

use std::sync::{Arc, Mutex};

use atoll_machine::{Backends, Board, Halt, Lost, pc};
use atoll_mmu::Ram;
use atoll_x86::Bus;
use atoll_x86::bus::{Clock, attention};
use device_core::{PowerEvent, Request, Status};
use machine_spec::{Cpu, CpuModel, GuestMachine, Place, PlaceKind, ScriptStep};

/// Keeps what was printed; answers nothing.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Backends for Printed {
    fn submit(&mut self, _place: u16, _issued_ns: u64, _request: &Request<&[u8]>) -> u64 {
        0
    }
    fn post(&mut self, _place: u16, _issued_ns: u64, request: &Request<&[u8]>) {
        if let Request::CharOut(bytes) = request {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }
    fn reply(&mut self, _place: u16, _ticket: u64, _data: &mut Vec<u8>) -> Result<Status, Lost> {
        Ok(Status::Ok)
    }
}

struct Rig {
    board: Board,
    clock: Clock,
    printed: Printed,
}

fn rig(script: Vec<ScriptStep>) -> Rig {
    let guest = GuestMachine {
        version: 1,
        memory_bytes: 16 << 20,
        cpu: Cpu {
            model: CpuModel::Atoll,
            features: Vec::new(),
        },
        bios: false,
        append: String::new(),
        modules: Vec::new(),
        places: vec![Place {
            id: "serial0".into(),
            kind: PlaceKind::Serial { index: 0 },
        }],
        rtc_epoch: 0,
        icount_shift: None,
        seed: 1,
        script,
    };
    let printed = Printed::default();
    let board = pc::build(
        &guest,
        Ram::anonymous(16 << 20),
        None,
        Box::new(printed.clone()),
        &[None],
    );
    let mut clock = Clock {
        charges: 1,
        ..Clock::default()
    };
    clock.set_deadline(0, 1 << 40);
    Rig {
        board,
        clock,
        printed,
    }
}

impl Rig {
    fn out(&mut self, port: u16, value: u8) {
        self.board
            .port_out(&mut self.clock, port, 1, u32::from(value));
    }
    fn input(&mut self, port: u16) -> u8 {
        self.board.port_in(&mut self.clock, port, 1) as u8
    }
    /// Virtual time goes on to `at_ns`, and what is due happens.
    fn advance(&mut self, at_ns: u64) {
        self.clock.set_deadline(at_ns, 1 << 40);
        self.board.run_due(at_ns);
    }
}

#[test]
fn a_byte_to_com1_is_printed_and_charged() {
    let mut rig = rig(Vec::new());
    for byte in *b"hello" {
        rig.out(0x3f8, byte);
    }
    assert_eq!(*rig.printed.0.lock().unwrap(), b"hello");
    assert_eq!(
        rig.clock.now_ns(),
        5 * 500,
        "a port access costs 500 virtual ns"
    );
}

#[test]
fn the_divisor_latch_prints_nothing() {
    let mut rig = rig(Vec::new());
    rig.out(0x3fb, 0x83);
    rig.out(0x3f8, 0x01);
    rig.out(0x3f9, 0x00);
    rig.out(0x3fb, 0x03);
    assert!(rig.printed.0.lock().unwrap().is_empty());
}

#[test]
fn the_interval_timer_interrupts_through_the_pic() {
    let mut rig = rig(Vec::new());
    // The PIC pair: vectors 0x20 and 0x28, only IRQ 0 open. Channel 0: mode 2, about 1 kHz.
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfe),
    ] {
        rig.out(port, value);
    }
    for (port, value) in [
        (0xa0, 0x11),
        (0xa1, 0x28),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0xff),
    ] {
        rig.out(port, value);
    }
    for (port, value) in [(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)] {
        rig.out(port, value);
    }
    assert!(
        Some(rig.clock.deadline_ns) <= rig.board.next_event_ns(),
        "the CPU's budget ends no later than the event"
    );
    let start = rig.clock.now_ns();
    while !rig.board.irq.is_pending() {
        let due = rig.board.next_event_ns().expect("the timer is armed");
        assert!(due - start < 1_100_000, "an edge after about a millisecond");
        rig.advance(due);
    }
    assert_eq!(rig.board.irq.acknowledge(), Some(0x20));
}

#[test]
fn the_script_answers_at_its_virtual_time() {
    let step = ScriptStep {
        port: 0,
        expect: b"login:".to_vec(),
        send: b"root".to_vec(),
        delay_ns: 1000,
    };
    let mut rig = rig(vec![step]);
    // The guest opens the port: nobody types before it asks to send.
    rig.out(0x3fc, 0x0b);
    for byte in *b"login:" {
        rig.out(0x3f8, byte);
    }
    let due = rig.board.next_event_ns().expect("the script waits to type");
    rig.advance(due - 1);
    assert_eq!(rig.input(0x3fd) & 1, 0, "nothing was typed yet");
    rig.advance(due);
    // The model has room for one byte at a time unless its FIFO is on; the rest follows as the guest reads.
    let mut typed = Vec::new();
    while rig.input(0x3fd) & 1 != 0 {
        typed.push(rig.input(0x3f8));
        let now_ns = rig.clock.now_ns();
        rig.board.run_due(now_ns);
    }
    assert_eq!(typed, b"root");
}

#[test]
fn the_reset_port_asks_for_a_reset_and_s5_for_power_off() {
    let mut rig = rig(Vec::new());
    rig.out(0xcf9, 0x0e);
    assert_ne!(rig.clock.attention & attention::MACHINE, 0);
    assert_eq!(rig.board.take_halt(), Some(Halt::Power(PowerEvent::Reset)));
    let sleep = 1 << 13;
    rig.board.port_out(&mut rig.clock, 0x604, 2, sleep);
    assert_eq!(rig.board.take_halt(), Some(Halt::Power(PowerEvent::Off)));
}

#[test]
fn the_bridges_are_found_on_the_bus() {
    let mut rig = rig(Vec::new());
    let mut id = |devfn: u32| {
        rig.board
            .port_out(&mut rig.clock, 0xcf8, 4, 0x8000_0000 | devfn << 8);
        rig.board.port_in(&mut rig.clock, 0xcfc, 4)
    };
    assert_eq!(id(0), 0x1237_8086);
    assert_eq!(id(8), 0x7000_8086);
    assert_eq!(id(11), 0x7113_8086);
    assert_eq!(id(16), u32::MAX);
}

#[test]
fn a_port_that_nobody_claims_reads_all_ones() {
    let mut rig = rig(Vec::new());
    assert_eq!(rig.board.port_in(&mut rig.clock, 0x1234, 2), 0xffff);
    assert_eq!(
        rig.board.mmio_read(&mut rig.clock, 0xd000_0000, 8),
        u64::MAX
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_accesses_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
        atoll_machine::hostile::accesses(&bytes);
    }
}
