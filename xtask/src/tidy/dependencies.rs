//! Who may depend on whom: the arrows between our crates, and the fences around heavy ones.
//!
//! Dev-dependencies are free of the arrows, for a test may hold both ends of a wire, but not of
//! the fences.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host;

/// Our crates, each with those of ours that it may use. What is not here may not be.
const ARROWS: &[(&str, &[&str])] = &[
    // The wire depends on nothing of ours; nobody else defines a byte that crosses a process.
    ("atoll-abi", &[]),
    ("atoll-transport", &["atoll-abi"]),
    // The engine knows no device, the models no engine; the board is where they meet. Guest RAM is a segment.
    ("atoll-hostfp", &[]),
    ("atoll-mmu", &["atoll-abi", "atoll-transport"]),
    ("atoll-x86", &["atoll-hostfp", "atoll-mmu"]),
    ("atoll-jit", &["atoll-hostfp", "atoll-mmu", "atoll-x86"]),
    ("device-core", &["atoll-abi"]),
    ("device-models", &["atoll-abi", "device-core"]),
    (
        "atoll-machine",
        &[
            "atoll-abi",
            "atoll-mmu",
            "atoll-x86",
            "device-core",
            "device-models",
            "machine-spec",
        ],
    ),
    (
        "cpu-worker",
        &[
            "atoll-abi",
            "atoll-transport",
            "atoll-hostfp",
            "atoll-mmu",
            "atoll-x86",
            "atoll-jit",
            "atoll-machine",
            "device-core",
            "device-models",
            "machine-spec",
        ],
    ),
    // Models and back ends meet only in a process's main.
    (
        "device-sdk",
        &["atoll-abi", "atoll-transport", "device-core"],
    ),
    ("block-backend", &["atoll-abi", "device-core"]),
    ("char-backend", &["atoll-abi", "device-core"]),
    (
        "blockd",
        &[
            "atoll-abi",
            "atoll-transport",
            "block-backend",
            "device-core",
            "device-models",
            "device-sdk",
        ],
    ),
    (
        "seriald",
        &[
            "atoll-abi",
            "atoll-transport",
            "char-backend",
            "device-core",
            "device-models",
            "device-sdk",
        ],
    ),
    // The broker and the command line know processes and the wire, never what runs in them.
    ("machine-spec", &["atoll-abi"]),
    ("broker-core", &["atoll-abi", "machine-spec"]),
    (
        "broker",
        &[
            "atoll-abi",
            "atoll-transport",
            "broker-core",
            "machine-spec",
        ],
    ),
    // A user's terminal is the same whether seriald or the command line holds it.
    (
        "atoll",
        &[
            "atoll-abi",
            "atoll-transport",
            "char-backend",
            "machine-spec",
        ],
    ),
    // The whole machine without processes, for tests.
    (
        "sim",
        &[
            "atoll-jit",
            "atoll-machine",
            "atoll-mmu",
            "atoll-x86",
            "cpu-worker",
            "device-core",
            "machine-spec",
        ],
    ),
    (
        "isa-tests",
        &[
            "atoll-hostfp",
            "atoll-mmu",
            "atoll-x86",
            "atoll-jit",
            "atoll-machine",
            "isa-native",
            "machine-spec",
            "sim",
        ],
    ),
    ("isa-native", &[]),
    ("guest-tests", &["xtask"]),
    ("atoll-bench", &["xtask"]),
    ("xtask", &[]),
];

/// A package of others, or a family by its prefix, that only some of ours may name.
struct Fence {
    package: &'static str,
    only: &'static [&'static str],
    why: &'static str,
}

const FENCES: &[Fence] = &[
    Fence {
        package: "cranelift-",
        only: &["atoll-jit"],
        why: "only the JIT names Cranelift",
    },
    Fence {
        package: "iced-x86",
        only: &["atoll-x86", "atoll-jit", "isa-tests"],
        why: "only the engine and its tests decode x86",
    },
    Fence {
        package: "tokio",
        only: &[],
        why: "hot loops have threads of their own",
    },
    Fence {
        package: "imago",
        only: &["block-backend"],
        why: "image formats belong to the block back end",
    },
    Fence {
        package: "interprocess",
        only: &[
            "atoll-transport",
            "broker",
            "cpu-worker",
            "blockd",
            "seriald",
            "atoll",
        ],
        why: "sockets belong to the transport and the mains",
    },
    Fence {
        package: "linux-loader",
        only: &["atoll-machine"],
        why: "boot protocols belong to the board",
    },
    Fence {
        package: "acpi_tables",
        only: &["atoll-machine"],
        why: "firmware tables belong to the board",
    },
    Fence {
        package: "toml",
        only: &["machine-spec"],
        why: "the machine file has one reader",
    },
];

/// Crates that know no operating system: pure types and state machines.
const PURE: &[&str] = &[
    "atoll-abi",
    "device-core",
    "device-models",
    "broker-core",
    "atoll-x86",
    "machine-spec",
];

/// Packages that reach the operating system.
const OS: &[&str] = &[
    "rustix",
    "libc",
    "nix",
    "interprocess",
    "shared_memory",
    "mio",
    "async-std",
    "smol",
    "tempfile",
];

/// Everything in the manifests that breaks a rule.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let text = host::output(host::command(env!("CARGO")).current_dir(root).args([
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--offline",
    ]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let empty = Vec::new();
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let target = dependency["name"]
                .as_str()
                .context("a dependency has no name")?;
            let dev = dependency["kind"].as_str() == Some("dev");
            faults.extend(fault(name, target, dev, names.contains(&target)));
        }
        if !ARROWS.iter().any(|(known, _)| *known == name) {
            faults.push(format!(
                "{name}: a new crate needs a row in the table of arrows of xtask's tidy"
            ));
        }
    }
    Ok(faults)
}

/// What is wrong with `name` depending on `target`.
fn fault(name: &str, target: &str, dev: bool, ours: bool) -> Option<String> {
    if ours {
        let allowed = ARROWS
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&[][..], |(_, targets)| targets);
        return (!dev && !allowed.contains(&target))
            .then(|| format!("{name} may not depend on {target} (the table of arrows)"));
    }
    if !dev && PURE.contains(&name) && OS.contains(&target) {
        return Some(format!(
            "{name} knows no operating system, and depends on {target}"
        ));
    }
    let fence = FENCES.iter().find(|fence| {
        target == fence.package || fence.package.ends_with('-') && target.starts_with(fence.package)
    })?;
    (!fence.only.contains(&name))
        .then(|| format!("{name} may not depend on {target}: {}", fence.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_and_fences_hold() {
        assert!(fault("broker", "atoll-machine", false, true).is_some());
        assert!(fault("broker", "atoll-machine", true, true).is_none());
        assert!(fault("cpu-worker", "cranelift-codegen", false, false).is_some());
        assert!(fault("atoll-jit", "cranelift-codegen", false, false).is_none());
        assert!(fault("device-models", "rustix", false, false).is_some());
        assert!(fault("broker", "tokio", true, false).is_some());
    }

    #[test]
    fn arrows_point_only_downwards() {
        for (at, (name, targets)) in ARROWS.iter().enumerate() {
            for target in *targets {
                let row = ARROWS.iter().position(|(known, _)| known == target);
                assert!(row.is_some(), "{name} may use {target}, which has no row");
                let back = ARROWS[row.unwrap()].1;
                assert!(
                    !back.contains(name) && row != Some(at),
                    "{name} and {target} are a circle"
                );
            }
        }
    }
}
