//! The CPU models: QEMU's by its names, with what each of them is and has, and two of our own.
//!
//! The table says what such a processor has; [`Model::named`] offers of it what the engine has ([`F::IMPLEMENTED`]). Every model says
//! that it runs under a hypervisor, as QEMU's do; `-hypervisor` hides it.
//!
//! What QEMU's emulation offers under these names and the engine has not: 3DNow! (athlon, max; no processor of today can bear
//! witness to its approximations), SVM (qemu64, EPYC, max), LA57, MPX, protection keys and VAES (max), and of bits without
//! instructions ACPI, SS, MISALIGNSSE, OSVW, TOPOEXT, FXSR_OPT and CR8LEGACY. HLE and RTM, which QEMU's table has for Haswell,
//! neither of them emulates. CLZERO, which QEMU's emulation lacks, has none of the models but `max`.

use crate::features::Features as F;
use crate::system::cpuid::{Model, Vendor};

/// One model.
struct Row {
    name: &'static str,
    vendor: Vendor,
    /// Family, model, stepping.
    version: (u32, u32, u32),
    /// The last basic and extended leaf of CPUID.
    leaves: (u32, u32),
    brand: &'static str,
    features: F,
}

const I486: F = F::FPU.union(F::VME).union(F::PSE);
const PENTIUM: F = I486
    .union(F::DE)
    .union(F::TSC)
    .union(F::MSR)
    .union(F::MCE)
    .union(F::CX8)
    .union(F::MMX)
    .union(F::APIC);
const PENTIUM2: F = PENTIUM
    .union(F::PAE)
    .union(F::SEP)
    .union(F::MTRR)
    .union(F::PGE)
    .union(F::MCA)
    .union(F::CMOV)
    .union(F::PAT)
    .union(F::PSE36)
    .union(F::FXSR);
const PENTIUM3: F = PENTIUM2.union(F::SSE);
/// What QEMU's 32-bit models have in common.
const QEMU32: F = PENTIUM3
    .difference(F::VME.union(F::MTRR).union(F::MCA).union(F::PSE36))
    .union(F::SSE2);
const QEMU64: F = QEMU32
    .union(F::MTRR)
    .union(F::CLFLUSH)
    .union(F::MCA)
    .union(F::PSE36)
    .union(F::SSE3)
    .union(F::CX16)
    .union(F::LM)
    .union(F::SYSCALL)
    .union(F::NX)
    .union(F::LAHF_LM);
const CORE2: F = QEMU64.union(F::VME).union(F::SSSE3);
const NEHALEM: F = CORE2.union(F::SSE4_1).union(F::SSE4_2).union(F::POPCNT);
/// What the models of the AVX2 generation have in common.
const X86_64_V3: F = NEHALEM
    .union(F::PCLMULQDQ)
    .union(F::AES)
    .union(F::MOVBE)
    .union(F::RDRAND)
    .union(F::XSAVE)
    .union(F::XSAVEOPT)
    .union(F::AVX)
    .union(F::AVX2)
    .union(F::FMA)
    .union(F::F16C)
    .union(F::BMI1)
    .union(F::BMI2)
    .union(F::LZCNT)
    .union(F::RDTSCP)
    .union(F::FSGSBASE)
    .union(F::SMEP)
    .union(F::ARAT);
const HASWELL: F = X86_64_V3
    .union(F::X2APIC)
    .union(F::TSC_DEADLINE)
    .union(F::PCID)
    .union(F::INVPCID)
    .union(F::ERMS);
const EPYC: F = X86_64_V3
    .union(F::MONITOR)
    .union(F::RDSEED)
    .union(F::ADX)
    .union(F::SMAP)
    .union(F::CLFLUSHOPT)
    .union(F::SHA)
    .union(F::PDPE1GB)
    .union(F::MMXEXT)
    .union(F::PREFETCHW)
    .union(F::SSE4A)
    .union(F::XSAVEC)
    .union(F::XGETBV1);

const ROWS: &[Row] = &[
    Row {
        name: "486",
        vendor: Vendor::Intel,
        version: (4, 8, 0),
        leaves: (1, 0),
        brand: "",
        features: I486,
    },
    Row {
        name: "pentium",
        vendor: Vendor::Intel,
        version: (5, 4, 3),
        leaves: (1, 0),
        brand: "",
        features: PENTIUM,
    },
    Row {
        name: "pentium2",
        vendor: Vendor::Intel,
        version: (6, 5, 2),
        leaves: (2, 0),
        brand: "",
        features: PENTIUM2,
    },
    Row {
        name: "pentium3",
        vendor: Vendor::Intel,
        version: (6, 7, 3),
        leaves: (3, 0),
        brand: "",
        features: PENTIUM3,
    },
    Row {
        name: "athlon",
        vendor: Vendor::Amd,
        version: (6, 2, 3),
        leaves: (2, 0x8000_0008),
        brand: "Atoll Virtual CPU (athlon)",
        // As QEMU has it, with SSE2, which no Athlon of 32 bits had.
        features: QEMU32
            .union(F::PSE36)
            .union(F::VME)
            .union(F::MTRR)
            .union(F::MCA)
            .union(F::MMXEXT),
    },
    Row {
        name: "core2duo",
        vendor: Vendor::Intel,
        version: (6, 15, 11),
        leaves: (10, 0x8000_0008),
        brand: "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz",
        features: CORE2.union(F::MONITOR),
    },
    Row {
        name: "qemu32",
        vendor: Vendor::Intel,
        version: (6, 6, 3),
        leaves: (4, 0x8000_0004),
        brand: "Atoll Virtual CPU (qemu32)",
        features: QEMU32.union(F::SSE3),
    },
    Row {
        name: "qemu64",
        vendor: Vendor::Amd,
        version: (15, 107, 1),
        leaves: (0xd, 0x8000_000a),
        brand: "Atoll Virtual CPU (qemu64)",
        features: QEMU64,
    },
    Row {
        name: "Nehalem",
        vendor: Vendor::Intel,
        version: (6, 26, 3),
        leaves: (11, 0x8000_0008),
        brand: "Intel Core i7 9xx (Nehalem Class Core i7)",
        features: NEHALEM,
    },
    Row {
        name: "Haswell",
        vendor: Vendor::Intel,
        version: (6, 60, 4),
        leaves: (0xd, 0x8000_0008),
        brand: "Intel Core Processor (Haswell)",
        features: HASWELL,
    },
    Row {
        name: "EPYC",
        vendor: Vendor::Amd,
        version: (23, 1, 2),
        leaves: (0xd, 0x8000_0008),
        brand: "AMD EPYC Processor",
        features: EPYC,
    },
];

/// The names of all models.
pub const NAMES: &[&str] = &[
    "atoll", "max", "486", "pentium", "pentium2", "pentium3", "athlon", "core2duo", "qemu32",
    "qemu64", "Nehalem", "Haswell", "EPYC",
];

/// Leaf 1 EAX (SDM vol. 2A, figure 3-6): a family of 15 or more, and a model of 16 or more, go into the extended fields.
const fn signature((family, model, stepping): (u32, u32, u32)) -> u32 {
    let (base, extended) = if family > 15 {
        (15, family - 15)
    } else {
        (family, 0)
    };
    extended << 20 | model >> 4 << 16 | base << 8 | (model & 15) << 4 | stepping
}

fn padded(text: &str) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

impl Default for Model {
    /// A processor of x86-64-v2 by Intel's rules: with IBRS_ALL and the "not vulnerable" bits kernels run it without retpolines and
    /// page-table isolation. The signature is of a Nehalem, on none of Linux's lists of quirks that cost something.
    fn default() -> Model {
        Model {
            features: F::DEFAULT,
            signature: signature((6, 26, 5)),
            vendor: Vendor::Intel,
            brand: padded("Atoll Virtual CPU"),
            max_basic: 0x16,
            max_extended: 0x8000_0008,
            apic_id: 0,
            seed: [
                0x9e37_79b9_7f4a_7c15,
                0xbf58_476d_1ce4_e5b9,
                0x94d0_49bb_1331_11eb,
                1,
            ],
        }
    }
}

impl Model {
    /// The model of this name, as [`NAMES`] spells it.
    pub fn named(name: &str) -> Option<Model> {
        match name {
            "atoll" => return Some(Model::default()),
            "max" => {
                return Some(Model {
                    features: F::IMPLEMENTED,
                    ..Model::default()
                });
            }
            _ => {}
        }
        let row = ROWS.iter().find(|row| row.name == name)?;
        Some(Model {
            features: row
                .features
                .union(F::HYPERVISOR)
                .intersection(F::IMPLEMENTED),
            signature: signature(row.version),
            vendor: row.vendor,
            brand: padded(row.brand),
            max_basic: row.leaves.0,
            max_extended: row.leaves.1,
            ..Model::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_model() {
        for name in NAMES {
            let model = Model::named(name).unwrap();
            assert!(F::IMPLEMENTED.contains(model.features), "{name}");
        }
        assert_eq!(NAMES.len(), ROWS.len() + 2);
    }

    #[test]
    fn signatures_are_as_the_manual_lays_them_out() {
        let cases = [
            ("486", 0x480),
            ("pentium3", 0x673),
            ("core2duo", 0x6fb),
            ("Nehalem", 0x106a3),
            ("Haswell", 0x306c4),
            ("qemu64", 0x60fb1),
            ("EPYC", 0x80_0f12),
            ("atoll", 0x106a5),
        ];
        for (name, expected) in cases {
            assert_eq!(Model::named(name).unwrap().signature, expected, "{name}");
        }
    }

    #[test]
    fn a_generation_has_what_the_one_before_had() {
        let features = |name: &str| Model::named(name).unwrap().features;
        let line = [
            "486", "pentium", "pentium2", "pentium3", "core2duo", "Nehalem", "Haswell",
        ];
        for pair in line.windows(2) {
            // QEMU's Core 2 Duo alone has MONITOR.
            let older = features(pair[0]).difference(F::MONITOR);
            assert!(features(pair[1]).contains(older), "{pair:?}");
        }
        assert!(!features("pentium3").intersects(F::SSE2 | F::LM | F::NX));
        assert!(!features("486").intersects(F::TSC | F::CX8 | F::CMOV | F::MSR));
    }
}
