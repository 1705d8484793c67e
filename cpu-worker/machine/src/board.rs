//! The board: devices in their seats, the event wheel, and the application of effects at their virtual time.
//!
//! Everything that the guest can see changes here, on the worker's thread, at a virtual time fixed beforehand. The board
//! knows no back end (see [`Backends`]) and no engine; the run loop calls [`Board::run_due`] between stretches of guest code, and
//! the CPU calls it through `Bus` (in `bus.rs`) within one.
//!
//! Invariant: outside a call, every effect of every model call so far has been applied, and `wheel` holds everything still to come.

use atoll_mmu::Ram;
use device_core::{Effect, Effects, Input, PowerEvent, Reply, Request, Status};

use crate::irq::Interrupts;
use crate::kvmclock::KvmClock;
use crate::pci::PciRoot;
use crate::script::Script;
use crate::seat::{LineTarget, Seat};
use crate::wheel::{Event, Wheel};

/// What serves the requests of the devices. `place` is the device's place in the machine file.
pub trait Backends: Send {
    /// Issues a request at virtual time `issued_ns`. It may wait for room in a full ring, never for the answer.
    fn submit(&mut self, place: u16, issued_ns: u64, request: &Request<&[u8]>) -> u64;
    /// Issues a request that nobody answers.
    fn post(&mut self, place: u16, issued_ns: u64, request: &Request<&[u8]>);
    /// Waits for the answer to the request with this ticket; its data goes to `data`.
    ///
    /// # Errors
    /// [`Lost`], when the back end is gone for good; the machine then stops.
    fn reply(&mut self, place: u16, ticket: u64, data: &mut Vec<u8>) -> Result<Status, Lost>;
}

/// A back end is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub place: u16,
}

/// Why the guest should not run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    Power(PowerEvent),
    Lost(Lost),
}

/// See the module's documentation.
pub struct Board {
    pub irq: Interrupts,
    pub(crate) seats: Vec<Seat>,
    pub(crate) pci: PciRoot,
    pub(crate) decode: crate::decode::Decode,
    pub(crate) ram: Ram,
    pub(crate) kvmclock: KvmClock,
    /// The wall clock at virtual time zero, seconds since 1970.
    pub(crate) epoch_s: i64,
    pub(crate) wheel: Wheel,
    backends: Box<dyn Backends>,
    script: Script,
    effects: Effects,
    reply: Vec<u8>,
    halt: Option<Halt>,
    pub(crate) a20_open: bool,
    /// The ISA interrupts that PCI devices hold high, as bits.
    pub(crate) routed: u16,
    /// The earliest event scheduled since the CPU last looked.
    pub(crate) nearer_ns: Option<u64>,
    /// The rolling hash of everything that was applied; see [`Board::events_hash`].
    events: blake3::Hasher,
    lapic_armed: Option<u64>,
    pub(crate) watch: Option<crate::watch::Watch>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board")
            .field("seats", &self.seats)
            .field("halt", &self.halt)
            .finish_non_exhaustive()
    }
}

impl Board {
    /// A board with these devices, in the order that breaks ties between equal times.
    pub fn new(
        ram: Ram,
        seats: Vec<Seat>,
        pci: PciRoot,
        epoch_s: i64,
        script: Script,
        backends: Box<dyn Backends>,
    ) -> Board {
        let decode = crate::decode::Decode::new(&seats);
        let mut board = Board {
            irq: Interrupts::default(),
            seats,
            pci,
            decode,
            ram,
            kvmclock: KvmClock::default(),
            epoch_s,
            wheel: Wheel::default(),
            backends,
            script,
            effects: Effects::new(),
            reply: Vec::new(),
            halt: None,
            a20_open: true,
            routed: 0,
            nearer_ns: None,
            events: blake3::Hasher::new(),
            lapic_armed: None,
            watch: None,
        };
        board.follow_chipset();
        board.reset_devices(0);
        if let Some(at) = board.script.start(0) {
            board.schedule(at, Event::Script);
        }
        board
    }

    /// A system reset at `now_ns`: requests under way are waited for and their answers dropped, then every device and controller is
    /// reset. RAM stays as it is.
    pub fn reset(&mut self, now_ns: u64) {
        let script_at = self.wheel.due_of(Event::Script);
        for (device, ticket) in self.wheel.completions() {
            let Some(place) = self.seats[usize::from(device)].place else {
                continue;
            };
            if let Err(lost) = self.backends.reply(place, ticket, &mut self.reply) {
                self.halt = Some(Halt::Lost(lost));
                return;
            }
        }
        self.wheel.clear();
        self.lapic_armed = None;
        self.halt = None;
        if let Some(at) = script_at {
            self.schedule(at, Event::Script);
        }
        self.irq.reset();
        self.routed = 0;
        self.pci.reset();
        self.decode.rebuild_bars(&self.pci);
        self.follow_chipset();
        self.kvmclock.reset();
        self.a20_open = true;
        self.reset_devices(now_ns);
    }

    fn reset_devices(&mut self, now_ns: u64) {
        for device in 0..self.seats.len() {
            let seat = &mut self.seats[device];
            seat.input.clear();
            self.call(now_ns, device, |model, cx| model.reset(cx));
            let levels = std::mem::take(&mut self.seats[device].levels);
            for (line, _) in levels.iter().enumerate().filter(|(_, level)| **level) {
                self.set_line(device, line as u16, false);
            }
            self.seats[device].levels = vec![false; levels.len()];
        }
    }

    /// Calls a model and applies what comes out; None if the model is out of service.
    pub(crate) fn call<R>(
        &mut self,
        now_ns: u64,
        device: usize,
        f: impl FnOnce(&mut dyn device_core::Model, &mut device_core::Cx<'_>) -> R,
    ) -> Option<R> {
        let mut effects = std::mem::take(&mut self.effects);
        let result = self.seats[device].call(now_ns, &self.ram, &mut effects, f);
        for effect in effects.iter() {
            self.apply(now_ns, device, effect);
        }
        self.effects = effects;
        result
    }

    fn apply(&mut self, now_ns: u64, device: usize, effect: Effect<&[u8]>) {
        match effect {
            Effect::Line { line, level } => self.set_line(device, line, level),
            Effect::Msix { vector } => {
                if let Some((address, data)) = self.pci.msix(device, vector) {
                    self.note(now_ns, device, b"msi", u64::from(vector), &[]);
                    self.irq.msi(address, data);
                }
            }
            Effect::DmaWrite { address, bytes } => {
                if self.pci.is_bus_master(device) && self.ram.write(address, bytes) {
                    self.note(now_ns, device, b"dma", address, &[]);
                }
            }
            Effect::Submit {
                token,
                latency_ns,
                request,
            } => self.submit(now_ns, device, token, latency_ns, &request),
            Effect::Post { request } => self.post(now_ns, device, &request),
            Effect::SetTimer { timer, at_ns } => self.schedule(
                at_ns,
                Event::Timer {
                    device: device as u16,
                    timer,
                },
            ),
            Effect::CancelTimer { timer } => self.wheel.cancel(Event::Timer {
                device: device as u16,
                timer,
            }),
            Effect::InputReady => self.nearer_ns = Some(now_ns),
            Effect::A20 { open } => self.a20_open = open,
            Effect::Power(event) => {
                self.note(now_ns, device, b"power", event as u64, &[]);
                self.halt.get_or_insert(Halt::Power(event));
            }
        }
    }

    fn submit(
        &mut self,
        now_ns: u64,
        device: usize,
        token: u64,
        latency_ns: u64,
        request: &Request<&[u8]>,
    ) {
        let Some(place) = self.seats[device].place else {
            return;
        };
        self.seats[device].requests += 1;
        let ticket = self.backends.submit(place, now_ns, request);
        self.schedule(
            now_ns + latency_ns,
            Event::Completion {
                device: device as u16,
                token,
                ticket,
            },
        );
    }

    fn post(&mut self, now_ns: u64, device: usize, request: &Request<&[u8]>) {
        let Some(place) = self.seats[device].place else {
            return;
        };
        self.seats[device].requests += 1;
        if let Request::CharOut(bytes) = request {
            self.note(now_ns, device, b"out", 0, bytes);
            if let Some(port) = self.port_of(device)
                && let Some(at) = self.script.observe(now_ns, port, bytes)
            {
                self.schedule(at, Event::Script);
            }
        }
        self.backends.post(place, now_ns, request);
    }

    /// The COM number (0 for COM1) of a serial device.
    fn port_of(&self, device: usize) -> Option<u8> {
        self.decode
            .serial_ports()
            .iter()
            .position(|d| *d == Some(device))
            .map(|port| port as u8)
    }

    fn set_line(&mut self, device: usize, line: u16, level: bool) {
        let seat = &mut self.seats[device];
        let Some(target) = seat.lines.get(usize::from(line)).copied() else {
            return;
        };
        if let Some(old) = seat.levels.get_mut(usize::from(line)) {
            *old = level;
        }
        match target {
            LineTarget::Pci => {
                if let Some((gsi, level)) = self.pci.set_intx(device, level) {
                    self.irq.set_gsi(gsi, level);
                    self.route_interrupts();
                }
            }
            LineTarget::Isa(irq) => self.irq.set_isa(irq, level),
        }
    }

    pub(crate) fn schedule(&mut self, at_ns: u64, event: Event) {
        self.wheel.schedule(at_ns, event);
        self.nearer_ns = Some(self.nearer_ns.map_or(at_ns, |nearer| nearer.min(at_ns)));
    }

    /// Keeps the wheel's entry for the local APIC's timer up to date; called after everything that touches the APIC.
    pub(crate) fn sync_lapic_timer(&mut self) {
        let next = self.irq.lapic.next_timer_ns();
        if next == self.lapic_armed {
            return;
        }
        self.lapic_armed = next;
        match next {
            Some(at) => self.schedule(at, Event::LapicTimer),
            None => self.wheel.cancel(Event::LapicTimer),
        }
    }

    /// When the next event is due.
    pub fn next_event_ns(&mut self) -> Option<u64> {
        self.wheel.next_ns()
    }

    /// Applies everything due at `now_ns`, in order. Waits for replies that are not there yet: virtual time stands still.
    pub fn run_due(&mut self, now_ns: u64) {
        self.offer_input(now_ns);
        while self.halt.is_none() {
            let Some((_, event)) = self.wheel.pop_due(now_ns) else {
                break;
            };
            match event {
                Event::Completion {
                    device,
                    token,
                    ticket,
                } => self.complete(now_ns, usize::from(device), token, ticket),
                Event::Timer { device, timer } => {
                    self.call(now_ns, usize::from(device), |model, cx| {
                        model.timer(timer, cx)
                    });
                }
                Event::LapicTimer => {
                    self.lapic_armed = None;
                    self.irq.lapic.timer_due(now_ns);
                    self.sync_lapic_timer();
                }
                Event::Script => self.type_script(now_ns),
            }
            self.offer_input(now_ns);
        }
        self.nearer_ns = None;
    }

    fn complete(&mut self, now_ns: u64, device: usize, token: u64, ticket: u64) {
        let Some(place) = self.seats[device].place else {
            return;
        };
        let mut data = std::mem::take(&mut self.reply);
        match self.backends.reply(place, ticket, &mut data) {
            Ok(status) => {
                self.note(now_ns, device, b"done", token, &[]);
                self.call(now_ns, device, |model, cx| {
                    model.complete(
                        token,
                        &Reply {
                            status,
                            data: &data,
                        },
                        cx,
                    )
                });
            }
            Err(lost) => self.halt = Some(Halt::Lost(lost)),
        }
        self.reply = data;
    }

    /// The text that the script still waits for, as it would be written in a script.
    pub fn unmet_script(&self) -> Option<String> {
        self.script
            .unmet()
            .map(|text| text.escape_ascii().to_string())
    }

    fn type_script(&mut self, now_ns: u64) {
        let (typed, next) = self.script.take(now_ns);
        if let Some(typed) = typed
            && let Some(Some(device)) = self
                .decode
                .serial_ports()
                .get(usize::from(typed.port))
                .copied()
        {
            self.input(now_ns, device, &typed.bytes);
        }
        if let Some(at) = next {
            self.schedule(at, Event::Script);
        }
    }

    /// Input arrives for the device at `device`: what the model has no room for waits, in order.
    pub fn input(&mut self, now_ns: u64, device: usize, bytes: &[u8]) {
        self.note(now_ns, device, b"in", 0, bytes);
        self.seats[device].input.extend(bytes);
        self.offer_input(now_ns);
    }

    /// Input for the serial port of this place, from outside. False if there is no such device.
    pub fn input_at_place(&mut self, now_ns: u64, place: u16, bytes: &[u8]) -> bool {
        match self.seats.iter().position(|seat| seat.place == Some(place)) {
            Some(device) => {
                self.input(now_ns, device, bytes);
                true
            }
            None => false,
        }
    }

    /// How many bytes of input wait for room in the device of this place.
    pub fn input_waiting(&self, place: u16) -> usize {
        self.seats
            .iter()
            .find(|seat| seat.place == Some(place))
            .map_or(0, |seat| seat.input.len())
    }

    fn offer_input(&mut self, now_ns: u64) {
        for device in 0..self.seats.len() {
            while !self.seats[device].input.is_empty() {
                let bytes: Vec<u8> = self.seats[device].input.iter().copied().take(256).collect();
                let taken = self
                    .call(now_ns, device, |model, cx| {
                        model.input(&Input::Char(&bytes), cx)
                    })
                    .unwrap_or(bytes.len());
                let taken = taken.min(bytes.len());
                self.seats[device].input.drain(..taken);
                if taken < bytes.len() {
                    break;
                }
            }
        }
    }

    /// Presses the ACPI power button.
    pub fn press_power_button(&mut self, now_ns: u64) {
        for device in 0..self.seats.len() {
            if self.seats[device].manifest.kind == "acpi-pm" {
                self.note(now_ns, device, b"button", 0, &[]);
                self.call(now_ns, device, |model, cx| {
                    model.input(&Input::PowerButton, cx)
                });
            }
        }
    }

    /// Why the guest should stop, once.
    pub fn take_halt(&mut self) -> Option<Halt> {
        self.halt.take()
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halt.is_some()
    }

    /// The devices, for statistics and messages.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// The rolling hash of all events so far: what was applied, to which device, when, and with which bytes where the guest's
    /// RAM does not show them (DMA is seen in the hash of RAM).
    pub fn events_hash(&self) -> [u8; 32] {
        *self.events.finalize().as_bytes()
    }

    fn note(&mut self, now_ns: u64, device: usize, what: &[u8], number: u64, bytes: &[u8]) {
        self.events.update(&now_ns.to_le_bytes());
        self.events.update(&(device as u64).to_le_bytes());
        self.events.update(&number.to_le_bytes());
        self.events.update(&(bytes.len() as u64).to_le_bytes());
        self.events.update(what);
        self.events.update(bytes);
    }
}
