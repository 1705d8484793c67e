//! What the guest is made of before its devices: memory, CPU, board and what it boots.

use crate::cpu::{self, CpuModel};
use crate::draft::Draft;
use crate::machine::{Cpu, CpuFeature, Initrd};
use crate::options::Options;
use crate::problem::Origin;
use crate::units;

pub(super) fn initrd(draft: &mut Draft, origin: &Origin, text: &str) {
    let base = draft.base.clone();
    let initrd = Initrd {
        base,
        text: text.to_owned(),
    };
    if initrd.files(|_| false).len() > Initrd::MAX_FILES {
        draft
            .problems
            .add(origin, format!("at most {} files", Initrd::MAX_FILES));
    }
    draft.boot.initrd = Some(initrd);
}

/// QEMU's `NAME[,process=...]`.
pub(super) fn name(draft: &mut Draft, _: &Origin, text: &str) {
    let first = text.split(',').next().unwrap_or(text);
    draft.name = Some(first.strip_prefix("guest=").unwrap_or(first).to_owned());
}

pub(super) fn memory(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    match options
        .take("size", &mut draft.problems)
        .as_deref()
        .map(|text| units::size(text, 1 << 20))
    {
        Some(Ok(bytes)) => draft.memory = Some((origin, bytes)),
        Some(Err(message)) => draft.problems.add(&origin, message),
        None => draft.problems.add(&origin, "a size is missing"),
    }
    for key in ["slots", "maxmem"] {
        options.refuse(
            key,
            "memory cannot be added to a running machine",
            &mut draft.problems,
        );
    }
    options.finish(&mut draft.problems);
}

/// `-cpu MODEL,+feature,-feature,feature=on`.
pub(super) fn cpu(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    let mut result = Cpu {
        model: CpuModel::Atoll,
        features: Vec::new(),
    };
    for (key, value) in options.drain() {
        match (key.as_str(), value.as_deref()) {
            ("model", Some("default" | "base")) => result.model = CpuModel::Atoll,
            ("model", Some("host")) => {
                let message = "the guest's CPU does not depend on the host's; write atoll or max";
                draft.problems.add(&origin, message);
            }
            ("model", Some(name)) => match CpuModel::named(name) {
                Some(model) => result.model = model,
                None => {
                    let known = CpuModel::ALL.map(CpuModel::name);
                    draft.problems.unknown(&origin, "CPU model", name, known);
                }
            },
            // Every feature is checked, and none is left out in silence.
            ("check" | "enforce", None | Some("on")) => {}
            ("features", Some(list)) => {
                let features = list.split(',').filter(|feature| !feature.is_empty());
                features
                    .for_each(|feature| cpu_feature(draft, &origin, &mut result, feature, None));
            }
            (feature, value) => cpu_feature(draft, &origin, &mut result, feature, value),
        }
    }
    draft.cpu = Some(result);
}

fn cpu_feature(draft: &mut Draft, origin: &Origin, cpu: &mut Cpu, text: &str, value: Option<&str>) {
    let (name, on) = match (text.strip_prefix('+'), text.strip_prefix('-'), value) {
        (Some(name), _, None) => (name, true),
        (_, Some(name), None) => (name, false),
        (None, None, None) => (text, true),
        (_, _, Some(value)) => match units::boolean(value) {
            Ok(on) => (text, on),
            Err(message) => return draft.problems.add(origin, format!("{text}: {message}")),
        },
    };
    match cpu::feature(name) {
        Some(feature) if feature.offered => cpu.features.push(CpuFeature {
            name: feature.name.to_owned(),
            on,
        }),
        // What is not there is easily left out.
        Some(_) if !on => {}
        Some(feature) => {
            let message = format!("{}: Atoll's CPU does not have this feature", feature.name);
            draft.problems.add(origin, message);
        }
        None => draft
            .problems
            .unknown(origin, "CPU feature", name, cpu::spellings()),
    }
}

pub(super) fn smp(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    for key in ["cpus", "cores", "sockets", "threads", "maxcpus", "dies"] {
        let Some(text) = options.take(key, &mut draft.problems) else {
            continue;
        };
        if text != "1" {
            let message = format!(
                "{key}={text}: there is one virtual CPU; several will take turns by instruction \
                 count, so that runs stay exact, but are not there yet"
            );
            draft.problems.add(&origin, message);
        }
    }
    options.finish(&mut draft.problems);
}

pub(super) fn machine(draft: &mut Draft, mut options: Options) {
    options.ignore(&[
        "usb",
        "graphics",
        "vmport",
        "dump-guest-core",
        "mem-merge",
        "smm",
        "kernel-irqchip",
    ]);
    let origin = options.origin.clone();
    if let Some(kind) = options.take("type", &mut draft.problems) {
        let known = kind.starts_with("pc-i440fx") || kind.starts_with("pc-q35");
        if !known && !["pc", "q35", "atoll"].contains(&kind.as_str()) {
            draft
                .problems
                .unknown(&origin, "machine", &kind, ["pc", "q35", "atoll"]);
        }
    }
    if let Some(kind) = options.take("accel", &mut draft.problems) {
        accelerator(draft, &origin, &kind);
    }
    options.finish(&mut draft.problems);
}

pub(super) fn accel(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.ignore(&["thread", "tb-size", "split-wx", "one-insn-per-tb"]);
    if let Some(kind) = options.take("accel", &mut draft.problems) {
        accelerator(draft, &origin, &kind);
    }
    options.finish(&mut draft.problems);
}

fn accelerator(draft: &mut Draft, origin: &Origin, text: &str) {
    if !text.split(':').any(|choice| choice == "tcg") {
        let message = format!("\"{text}\": Atoll translates every instruction, as QEMU's tcg does");
        draft.problems.add(origin, message);
    }
}

pub(super) fn append(draft: &mut Draft, origin: &Origin, text: &str) {
    draft.append = Some((origin.clone(), text.to_owned()));
}
