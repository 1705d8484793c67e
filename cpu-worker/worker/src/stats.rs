//! What a run cost, as JSON: instructions, virtual and wall time, tiers, waiting, requests per device.

use serde_json::{Value, json};

use crate::links::SharedLinks;
use crate::vcpu::{Machine, board};

/// The statistics at the end of a run.
pub fn json(machine: &mut Machine, links: &SharedLinks) -> String {
    let engine = machine.engine.stats();
    let instructions = machine.instructions();
    let compiled = engine.compiled_instructions;
    let share = if instructions == 0 {
        0.0
    } else {
        compiled as f64 / instructions as f64
    };
    let devices: Vec<Value> = board(&mut machine.cpu)
        .seats()
        .iter()
        .map(|seat| json!({ "id": seat.id, "kind": seat.manifest.kind, "requests": seat.requests, "faulted": seat.faulted }))
        .collect();
    let mut links = links.lock();
    let wire = links.wire();
    json!({
        "instructions": instructions,
        "virtual_ns": machine.now_ns(),
        "idle_virtual_ns": machine.idle_ns(),
        "wall_ns": wire.wall_ns(),
        "wall_waiting_ns": wire.waited_ns,
        "wall_idle_ns": wire.idle_wall_ns,
        "resets": machine.resets(),
        "share_compiled": share,
        "engine": engine,
        "devices": devices,
    })
    .to_string()
}
