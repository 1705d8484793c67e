//! A seat for tests: RAM, timers, lines and requests in flight around one model.
//!
//! It keeps to what a real seat promises: effects apply in order when the call returns, an armed timer and a submitted
//! request come back at their time and in order. It checks everything that a model owes its seat (lines and timers within the
//! manifest, requests within their bounds). Given a twin, it makes each call a second time through [`wire`] and
//! asserts that result and effects are equal.

use std::collections::BTreeMap;

use crate::access::Access;
use crate::effect::{Effect, Effects, PowerEvent};
use crate::manifest::{Attach, Manifest};
use crate::model::{Cx, Dma, Input, Model, Reply, Status};
use crate::request::{BlockRequest, Request};
use crate::wire::{self, Call};

/// Guest RAM from address 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ram(pub Vec<u8>);

impl Ram {
    fn range(&self, address: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.0.len()).then_some(start..end)
    }

    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        if let Some(range) = self.range(address, bytes.len()) {
            self.0[range].copy_from_slice(bytes);
        }
    }
}

impl Dma for Ram {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> bool {
        match self.range(address, buf.len()) {
            Some(range) => buf.copy_from_slice(&self.0[range]),
            None => buf.fill(0),
        }
        self.range(address, buf.len()).is_some()
    }
}

/// A submitted request, kept until its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    pub at_ns: u64,
    pub token: u64,
    pub request: Request<Vec<u8>>,
}

/// Answers a request: the rig's back end.
pub type Backend = Box<dyn FnMut(&Request<Vec<u8>>) -> (Status, Vec<u8>) + Send>;

#[expect(missing_debug_implementations, reason = "holds a model")]
pub struct Rig {
    pub model: Box<dyn Model>,
    pub manifest: Manifest,
    pub ram: Ram,
    pub now_ns: u64,
    /// The levels of the device's lines.
    pub lines: Vec<bool>,
    /// All level changes, and all MSI-X vectors fired, since the test last took them.
    pub edges: Vec<(u16, bool)>,
    pub vectors: Vec<u16>,
    pub power: Vec<PowerEvent>,
    pub a20: Vec<bool>,
    /// Bytes that the device posted.
    pub posted: Vec<u8>,
    pub input_ready: bool,
    pub timers: BTreeMap<u16, u64>,
    pub in_flight: Vec<InFlight>,
    /// The effects of the last call.
    pub effects: Effects,
    backend: Backend,
    /// A model like the first, to be called through the wire.
    pub twin: Option<Box<dyn Model>>,
}

impl Rig {
    pub fn new(model: Box<dyn Model>) -> Rig {
        let manifest = model.manifest();
        Rig {
            manifest: manifest.clone(),
            model,
            ram: Ram::default(),
            now_ns: 0,
            lines: vec![false; usize::from(manifest.lines)],
            edges: Vec::new(),
            vectors: Vec::new(),
            power: Vec::new(),
            a20: Vec::new(),
            posted: Vec::new(),
            input_ready: false,
            timers: BTreeMap::new(),
            in_flight: Vec::new(),
            effects: Effects::new(),
            backend: Box::new(zeroes),
            twin: None,
        }
    }

    pub fn with_ram(mut self, bytes: usize) -> Rig {
        self.ram = Ram(vec![0; bytes]);
        self
    }

    /// `twin` is a fresh model like the rig's own.
    pub fn with_twin(mut self, twin: Box<dyn Model>) -> Rig {
        self.twin = Some(twin);
        self
    }

    pub fn with_backend(mut self, backend: Backend) -> Rig {
        self.backend = backend;
        self
    }

    pub fn read(&mut self, region: u16, offset: u64, size: u8) -> u64 {
        self.call(Call::Access(Access::read(region, offset, size)))
    }

    pub fn write(&mut self, region: u16, offset: u64, size: u8, value: u64) {
        self.call(Call::Access(Access::write(region, offset, size, value)));
    }

    pub fn input(&mut self, input: Input<'_>) -> usize {
        self.call(Call::Input(input)) as usize
    }

    pub fn reset(&mut self) {
        self.timers.clear();
        self.in_flight.clear();
        self.lines.fill(false);
        self.call(Call::Reset);
    }

    /// Moves time on by `ns`, calling the model for everything that falls due, in order.
    pub fn advance(&mut self, ns: u64) {
        let end = self.now_ns.saturating_add(ns);
        while let Some(due) = self.next_due().filter(|&at| at <= end) {
            self.now_ns = self.now_ns.max(due);
            self.run_due();
        }
        self.now_ns = end;
    }

    /// When the next timer or completion is due.
    pub fn next_due(&self) -> Option<u64> {
        let completion = self.in_flight.iter().map(|f| f.at_ns).min();
        let timer = self.timers.values().copied().min();
        completion.into_iter().chain(timer).min()
    }

    /// Calls the model for one thing that is due now: completions before timers, then in order of issue.
    fn run_due(&mut self) {
        let now = self.now_ns;
        let mut due = self
            .in_flight
            .iter()
            .enumerate()
            .filter(|(_, f)| f.at_ns <= now);
        if let Some((place, _)) = due.by_ref().min_by_key(|(place, f)| (f.at_ns, *place)) {
            let done = self.in_flight.remove(place);
            let (status, data) = (self.backend)(&done.request);
            self.call(Call::Complete(
                done.token,
                Reply {
                    status,
                    data: &data,
                },
            ));
        } else if let Some((&timer, _)) = self
            .timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .min_by_key(|(_, at)| **at)
        {
            self.timers.remove(&timer);
            self.call(Call::Timer(timer));
        }
    }

    /// Makes one call, applies its effects and returns its result.
    pub fn call(&mut self, call: Call<'_>) -> u64 {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        let mut cx = Cx::new(self.now_ns, &mut self.ram, &mut effects);
        let result = dispatch(self.model.as_mut(), &call, &mut cx);
        self.call_twin(&call, result, &effects);
        for effect in effects.iter() {
            self.apply(effect);
        }
        self.effects = effects;
        self.check_bounds();
        result
    }

    /// The same call with everything encoded and decoded.
    fn call_twin(&mut self, call: &Call<'_>, result: u64, effects: &Effects) {
        let Some(twin) = &mut self.twin else { return };
        let mut bytes = Vec::new();
        wire::encode_call(self.now_ns, call, &mut bytes);
        let (now_ns, decoded) = wire::decode_call(&bytes).expect("an encoded call decodes");
        let mut out = Effects::new();
        let answer = dispatch(
            twin.as_mut(),
            &decoded,
            &mut Cx::new(now_ns, &mut self.ram, &mut out),
        );
        bytes.clear();
        wire::encode_answer(answer, &out, &mut bytes);
        let mut arrived = Effects::new();
        let answer = wire::decode_answer(&bytes, &mut arrived).expect("an encoded answer decodes");
        assert_eq!(answer, result, "{call:?}: direct and through the wire");
        assert!(
            arrived == *effects,
            "{call:?}: direct and through the wire: {effects:?} and {arrived:?}"
        );
    }

    fn apply(&mut self, effect: Effect<&[u8]>) {
        match effect {
            Effect::Line { line, level } => {
                let state = self
                    .lines
                    .get_mut(usize::from(line))
                    .expect("a line of the manifest");
                if *state != level {
                    self.edges.push((line, level));
                }
                *state = level;
            }
            Effect::Msix { vector } => {
                let Attach::Pci(function) = &self.manifest.attach else {
                    panic!("MSI-X of no PCI function")
                };
                let vectors = function.msix.map_or(0, |m| m.vectors);
                assert!(vector < vectors, "vector {vector} of {vectors}");
                self.vectors.push(vector);
            }
            Effect::DmaWrite { address, bytes } => self.ram.write(address, bytes),
            Effect::Submit {
                token,
                latency_ns,
                request,
            } => {
                assert!(
                    self.in_flight.iter().all(|f| f.token != token),
                    "token {token} is in flight already"
                );
                let request = request.map(<[u8]>::to_vec);
                self.in_flight.push(InFlight {
                    at_ns: self.now_ns.saturating_add(latency_ns),
                    token,
                    request,
                });
            }
            Effect::Post {
                request: Request::CharOut(bytes),
            } => self.posted.extend_from_slice(bytes),
            Effect::Post { request } => panic!("{request:?} has a reply and is posted"),
            Effect::SetTimer { timer, at_ns } => {
                assert!(
                    timer < self.manifest.timers,
                    "timer {timer} is not in the manifest"
                );
                self.timers.insert(timer, at_ns);
            }
            Effect::CancelTimer { timer } => {
                assert!(
                    timer < self.manifest.timers,
                    "timer {timer} is not in the manifest"
                );
                self.timers.remove(&timer);
            }
            Effect::InputReady => self.input_ready = true,
            Effect::Power(event) => self.power.push(event),
            Effect::A20 { open } => self.a20.push(open),
        }
    }

    fn check_bounds(&self) {
        let ports = self.manifest.ports;
        assert!(
            self.in_flight.len() <= ports.max_in_flight as usize,
            "more requests in flight than reserved"
        );
        let bytes: u64 = self
            .in_flight
            .iter()
            .map(|f| payload_bytes(&f.request))
            .sum();
        assert!(
            bytes <= ports.max_bytes_in_flight,
            "{bytes} payload bytes in flight, {} reserved",
            ports.max_bytes_in_flight
        );
    }
}

/// Calls a model: the one place that turns a [`Call`] into a method.
pub fn dispatch(model: &mut dyn Model, call: &Call<'_>, cx: &mut Cx<'_>) -> u64 {
    match call {
        Call::Access(access) => return model.access(*access, cx),
        Call::Timer(timer) => model.timer(*timer, cx),
        Call::Complete(token, reply) => model.complete(*token, reply, cx),
        Call::Input(input) => return model.input(input, cx) as u64,
        Call::Reset => model.reset(cx),
    }
    0
}

/// What a request reserves: the payload that it carries and the payload of its reply.
pub fn payload_bytes(request: &Request<Vec<u8>>) -> u64 {
    match request {
        Request::Block(BlockRequest::Read { len, .. }) => u64::from(*len),
        Request::Block(BlockRequest::Write { data, .. })
        | Request::CharOut(data)
        | Request::Frame(data) => data.len() as u64,
        Request::Block(_) => 0,
    }
}

fn zeroes(request: &Request<Vec<u8>>) -> (Status, Vec<u8>) {
    match request {
        Request::Block(BlockRequest::Read { len, .. }) => (Status::Ok, vec![0; *len as usize]),
        _ => (Status::Ok, Vec::new()),
    }
}
