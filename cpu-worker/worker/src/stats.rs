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
    let wall_ns = wire.wall_ns();
    let of_time = |ns: u64| (ns as f64 / wall_ns.max(1) as f64).min(1.0);
    json!({
        "instructions": instructions,
        "virtual_ns": machine.now_ns(),
        "idle_virtual_ns": machine.idle_ns(),
        "wall_ns": wall_ns,
        "wall_waiting_ns": wire.waited_ns,
        "wall_idle_ns": wire.idle_wall_ns,
        "resets": machine.resets(),
        "share_compiled": share,
        "share_of_time": {
            "interpreter": of_time(engine.wall_interpreter_ns),
            "quick": of_time(engine.wall_quick_ns),
            "optimised": of_time(engine.wall_optimised_ns),
            "translating": of_time(engine.quick_ns),
            "waiting": of_time(wire.waited_ns),
            "idle": of_time(wire.idle_wall_ns),
        },
        "engine": engine,
        "devices": devices,
    })
    .to_string()
}
