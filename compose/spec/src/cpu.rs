//! CPU models and features by name, as a user may write them.
//!
//! What a model is and what a feature does is the worker's to know; it has the same names, and a test of it compares the two lists.
//! Here is what a user needs before a machine exists: which names there are, which are meant by other spellings, and which QEMU knows
//! but Atoll's CPU does not have.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A CPU model: QEMU's by QEMU's names, and two of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuModel {
    Atoll,
    Max,
    I486,
    Pentium,
    Pentium2,
    Pentium3,
    Athlon,
    Core2Duo,
    Qemu32,
    Qemu64,
    Nehalem,
    Haswell,
    Epyc,
}

impl CpuModel {
    pub const ALL: [Self; 13] = [
        Self::Atoll,
        Self::Max,
        Self::I486,
        Self::Pentium,
        Self::Pentium2,
        Self::Pentium3,
        Self::Athlon,
        Self::Core2Duo,
        Self::Qemu32,
        Self::Qemu64,
        Self::Nehalem,
        Self::Haswell,
        Self::Epyc,
    ];

    pub fn name(self) -> &'static str {
        self.row().0
    }

    pub fn description(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Atoll => (
                "atoll",
                "what stock guests run fastest on (x86-64-v2); the default",
            ),
            Self::Max => ("max", "everything that the engine has"),
            Self::I486 => ("486", "Intel 486 with CPUID"),
            Self::Pentium => ("pentium", "Intel Pentium MMX"),
            Self::Pentium2 => ("pentium2", "Intel Pentium II"),
            Self::Pentium3 => ("pentium3", "Intel Pentium III: SSE"),
            Self::Athlon => ("athlon", "AMD Athlon, 32 bits"),
            Self::Core2Duo => ("core2duo", "Intel Core 2 Duo T7700: the first with 64 bits"),
            Self::Qemu32 => ("qemu32", "QEMU's virtual CPU of 32 bits"),
            Self::Qemu64 => ("qemu64", "QEMU's virtual CPU of 64 bits"),
            Self::Nehalem => ("Nehalem", "Intel Core i7 9xx: x86-64-v2"),
            Self::Haswell => ("Haswell", "Intel Core of the 4th generation: x86-64-v3"),
            Self::Epyc => ("EPYC", "AMD EPYC: x86-64-v3 and SHA"),
        }
    }

    /// The model of this name, in upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|model| model.name().eq_ignore_ascii_case(name))
    }
}

/// A feature that a model can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The name by which the worker knows it.
    pub name: &'static str,
    /// Other spellings: of QEMU, of Linux's /proc/cpuinfo.
    pub also: &'static [&'static str],
    /// Whether the CPU can have it. The others are known by name only.
    pub offered: bool,
}

const fn has(name: &'static str, also: &'static [&'static str]) -> Feature {
    Feature {
        name,
        also,
        offered: true,
    }
}

const fn lacks(name: &'static str, also: &'static [&'static str]) -> Feature {
    Feature {
        name,
        also,
        offered: false,
    }
}

/// All features, in the order of the help.
pub const FEATURES: &[Feature] = &[
    has("fpu", &[]),
    has("vme", &[]),
    has("de", &[]),
    has("pse", &[]),
    has("tsc", &[]),
    has("msr", &[]),
    has("pae", &[]),
    has("mce", &[]),
    has("cx8", &["cmpxchg8b"]),
    has("apic", &[]),
    has("sep", &["sysenter"]),
    has("mtrr", &[]),
    has("pge", &[]),
    has("mca", &[]),
    has("cmov", &[]),
    has("pat", &[]),
    has("pse36", &[]),
    has("clflush", &["clfsh"]),
    has("mmx", &[]),
    has("fxsr", &[]),
    has("sse", &[]),
    has("sse2", &[]),
    has("sse3", &["pni"]),
    has("pclmulqdq", &["pclmuldq"]),
    has("ssse3", &[]),
    has("cx16", &["cmpxchg16b"]),
    has("pcid", &[]),
    has("sse4_1", &[]),
    has("sse4_2", &[]),
    has("x2apic", &[]),
    has("monitor", &["mwait"]),
    has("movbe", &[]),
    has("popcnt", &[]),
    has("tsc_deadline", &["tsc_deadline_timer"]),
    has("aes", &["aesni"]),
    has("avx", &[]),
    has("avx2", &[]),
    has("fma", &[]),
    has("f16c", &[]),
    has("bmi1", &[]),
    has("bmi2", &[]),
    has("sha", &["sha_ni"]),
    has("xsave", &[]),
    has("xsaveopt", &[]),
    has("rdrand", &[]),
    has("rdseed", &[]),
    has("hypervisor", &[]),
    has("fsgsbase", &[]),
    has("tsc_adjust", &[]),
    has("smep", &[]),
    has("smap", &[]),
    has("umip", &[]),
    has("erms", &[]),
    has("fsrm", &[]),
    has("invpcid", &[]),
    has("adx", &[]),
    has("clflushopt", &[]),
    has("clwb", &[]),
    has("rdpid", &[]),
    has("arch_capabilities", &[]),
    has("syscall", &[]),
    has("nx", &["xd"]),
    has("mmxext", &[]),
    has("pdpe1gb", &[]),
    has("rdtscp", &[]),
    has("lm", &["i64"]),
    has("lahf_lm", &[]),
    has("lzcnt", &["abm"]),
    has("prefetchw", &["3dnowprefetch"]),
    has("invariant_tsc", &["invtsc", "nonstop_tsc", "constant_tsc"]),
    has("arat", &[]),
    has("clzero", &[]),
    has("sse4a", &[]),
    has("xgetbv1", &[]),
    has("xsavec", &[]),
    lacks("3dnow", &[]),
    lacks("3dnowext", &[]),
    lacks("acpi", &[]),
    lacks("avx512f", &[]),
    lacks("ds", &["dts"]),
    lacks("fxsr_opt", &["ffxsr"]),
    lacks("hle", &[]),
    lacks("ht", &[]),
    lacks("la57", &[]),
    lacks("misalignsse", &[]),
    lacks("pku", &[]),
    lacks("rtm", &[]),
    lacks("ss", &[]),
    lacks("svm", &[]),
    lacks("vmx", &[]),
    lacks("wbnoinvd", &[]),
    lacks("xsaves", &[]),
];

/// The feature of this name: upper and lower case, `.`, `-` and `_` are alike.
pub fn feature(name: &str) -> Option<&'static Feature> {
    let name = name.to_ascii_lowercase().replace(['.', '-'], "_");
    FEATURES
        .iter()
        .find(|feature| feature.name == name || feature.also.contains(&name.as_str()))
}

/// Every way to write a feature.
pub(crate) fn spellings() -> impl Iterator<Item = &'static str> {
    let all = FEATURES.iter();
    all.flat_map(|feature| std::iter::once(feature.name).chain(feature.also.iter().copied()))
}

/// The text of `-cpu help`.
pub fn cpu_help() -> String {
    let mut text = "Available CPU models:\n".to_owned();
    for model in CpuModel::ALL {
        let _ = writeln!(text, "  {:<12}{}", model.name(), model.description());
    }
    text += "\nFeatures to switch with +NAME and -NAME (other spellings in brackets):\n";
    let mut line = String::from(" ");
    for feature in FEATURES.iter().filter(|feature| feature.offered) {
        let word = match feature.also {
            [] => feature.name.to_owned(),
            also => format!("{} [{}]", feature.name, also.join(" ")),
        };
        if line.len() + word.len() > 78 {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_found_by_every_spelling() {
        let cases = [
            ("sse4.1", "sse4_1"),
            ("SSE4-2", "sse4_2"),
            ("pni", "sse3"),
            ("invtsc", "invariant_tsc"),
            ("tsc-deadline", "tsc_deadline"),
        ];
        for (text, name) in cases {
            assert_eq!(
                feature(text).map(|feature| feature.name),
                Some(name),
                "{text}"
            );
        }
        assert_eq!(feature("sse5"), None);
        let mut all: Vec<_> = FEATURES
            .iter()
            .flat_map(|f| f.also.iter().chain([&f.name]))
            .collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "a spelling means two things");
    }

    #[test]
    fn models_are_found_by_name() {
        for model in CpuModel::ALL {
            assert_eq!(CpuModel::named(&model.name().to_uppercase()), Some(model));
            assert!(cpu_help().contains(model.name()));
        }
        assert_eq!(CpuModel::named("pentium5"), None);
    }
}
