//! What a device is in Atoll: a [`Model`], the [`Access`]es that go in and the [`Effect`]s that come out.
//!
//! A model is a pure state machine. The seat that holds it (in the cpu-worker, or in a device process behind a register
//! link) calls it with an access, a timer, a completion or an input, each at its virtual time, and applies the effects in
//! order when the call returns. The same calls give the same effects, whatever the host does.
//!
//! This crate is *not* a bus, an event wheel or a back end, and it defines no byte of a ring: [`wire`] turns accesses and
//! effects into payloads that a link carries.
//!
//! Invariants:
//! * A model knows no file, socket, thread or clock; time is an argument (`now_ns`, virtual nanoseconds since power-on).
//! * Nothing that a guest does makes a model panic, and nothing but a malformed section makes it return an error.
//! * Effects do not change what the same call reads by DMA: reads see RAM as it was when the call began.
//! * A quiet access allocates nothing: [`Effects`] keeps its buffers from call to call.
#![forbid(unsafe_code)]

mod access;
pub mod conformance;
mod effect;
mod manifest;
mod model;
mod noise;
mod request;
pub mod rig;
mod rng;
mod section;
pub mod wire;

pub use access::{Access, Kind};
pub use effect::{Effect, Effects, PowerEvent, Span};
pub use manifest::{
    Attach, Bar, BarKind, Capability, ConfigByte, Manifest, Msix, PciFunction, Ports, Space, Window,
};
pub use model::{Cx, Dma, Input, Model, NoDma, Reply, Status};
pub use noise::Noise;
pub use request::{BlockRequest, Request};
pub use rng::SplitMix64;
pub use section::{LoadError, Section};
