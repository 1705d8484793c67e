//! CPUID and the CPU model behind it (SDM vol. 2A, CPUID).

use atoll_mmu::PHYS_BITS;

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::features::Features as F;
use crate::op::{Op, RAX, RBX, RCX, RDX, Width};
use crate::state::cr;

/// What a CPU is: its abilities and its names.
#[derive(Clone, Debug)]
pub struct Model {
    pub features: F,
    /// Leaf 1 EAX: family, model, stepping.
    pub signature: u32,
    pub vendor: Vendor,
    pub brand: [u8; 48],
    /// The last basic leaf, and the last extended one (0: there are none). Features that are told further up raise them.
    pub max_basic: u32,
    pub max_extended: u32,
    /// The local APIC's identifier.
    pub apic_id: u32,
    /// Where RDRAND and RDSEED start.
    pub seed: [u64; 4],
}

/// Whose rules hold where processors differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Intel,
    Amd,
}

impl Vendor {
    fn id(self) -> &'static [u8; 12] {
        match self {
            Vendor::Intel => b"GenuineIntel",
            Vendor::Amd => b"AuthenticAMD",
        }
    }
}

/// EDX of leaf 1.
const LEGACY: &[(F, u32)] = &[
    (F::FPU, 0),
    (F::VME, 1),
    (F::DE, 2),
    (F::PSE, 3),
    (F::TSC, 4),
    (F::MSR, 5),
    (F::PAE, 6),
    (F::MCE, 7),
    (F::CX8, 8),
    (F::APIC, 9),
    (F::SEP, 11),
    (F::MTRR, 12),
    (F::PGE, 13),
    (F::MCA, 14),
    (F::CMOV, 15),
    (F::PAT, 16),
    (F::PSE36, 17),
    (F::CLFLUSH, 19),
    (F::MMX, 23),
    (F::FXSR, 24),
    (F::SSE, 25),
    (F::SSE2, 26),
];

/// The bits of [`LEGACY`] that AMD's processors repeat in EDX of leaf 8000_0001H: all but SEP, CLFLUSH, SSE and SSE2.
const LEGACY_MIRROR: u32 = 0x0183_f3ff;

/// EAX, EBX, ECX, EDX.
type Leaf = [u32; 4];

/// The crystal clock of leaf 15H, which is the local APIC timer's and the TSC's: 1 GHz.
const CRYSTAL_HZ: u32 = 1_000_000_000;
/// Features of leaf 4000_0001H: clock source (old and new MSRs), no delay needed after port I/O, stable clock.
const KVM_FEATURES: u32 = 1 | 1 << 1 | 1 << 3 | 1 << 24;

const MAX_HYPERVISOR: u32 = 0x4000_0001;

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|i| {
        let mut w = [0; 4];
        w.copy_from_slice(&bytes[4 * i..4 * i + 4]);
        u32::from_le_bytes(w)
    })
}

impl Model {
    /// One register's bits from (feature, bit) pairs.
    fn bits(&self, table: &[(F, u32)]) -> u32 {
        table
            .iter()
            .filter(|(f, _)| self.features.contains(*f))
            .fold(0, |v, (_, bit)| v | 1 << bit)
    }

    /// The last basic leaf: that of the model, or the one that a feature is told in.
    fn last_basic(&self) -> u32 {
        let [_, ebx, ecx, edx] = self.extensions();
        let told = |leaf: u32, there: bool| if there { leaf } else { 1 };
        self.max_basic
            .max(told(7, ebx | ecx | edx != 0))
            .max(told(0xd, self.features.contains(F::XSAVE)))
    }

    /// The last extended leaf, likewise; 0 if there is none.
    fn last_extended(&self) -> u32 {
        let [_, _, ecx, edx] = self.extended();
        let told = |leaf: u32, there: bool| if there { leaf } else { 0 };
        self.max_extended
            .max(told(0x8000_0001, ecx | edx & !LEGACY_MIRROR != 0))
            .max(told(0x8000_0007, self.features.contains(F::INVARIANT_TSC)))
            .max(told(
                0x8000_0008,
                self.features.intersects(F::LM | F::CLZERO),
            ))
    }

    /// Whether CPUID tells of the paravirtual clock: it takes MSRs and a TSC.
    fn has_kvmclock(&self) -> bool {
        self.features.contains(F::MSR | F::TSC)
    }

    /// A leaf that is there. `cr4` and `xcr0` are the state that some bits mirror.
    fn leaf(&self, leaf: u32, sub: u32, cr4: u64, xcr0: u64) -> Leaf {
        let intel = self.vendor == Vendor::Intel;
        match leaf {
            0 => {
                let v: [u32; 3] = words(self.vendor.id());
                [self.last_basic(), v[0], v[2], v[1]]
            }
            1 => self.version(cr4),
            // Descriptors are in leaf 4, or where there is none: L1 data and code of 32 KiB, L2 of 1 MiB. AMD tells by extended leaves.
            2 if intel && self.max_basic >= 4 => [0x00ff_0001, 0, 0, 0],
            2 if intel => [1, 0, 0, 0x0087_302c],
            4 if intel => cache(sub),
            // MWAIT watches lines of 64 bytes, knows the extension in ECX, and has one depth of C1.
            5 if self.features.contains(F::MONITOR) => [64, 64, 3, 0x10],
            // The APIC timer runs in every sleep state.
            6 => [self.bits(&[(F::ARAT, 2)]), 0, 0, 0],
            7 if sub == 0 => self.extensions(),
            0xb => self.topology(sub),
            0xd => self.save_area(sub, xcr0),
            0x15 => [1, 1, CRYSTAL_HZ, 0],
            0x16 => [CRYSTAL_HZ / 1_000_000, CRYSTAL_HZ / 1_000_000, 100, 0],
            0x4000_0000 if self.has_kvmclock() => {
                let v: [u32; 3] = words(b"KVMKVMKVM\0\0\0");
                [MAX_HYPERVISOR, v[0], v[1], v[2]]
            }
            0x4000_0001 if self.has_kvmclock() => [KVM_FEATURES, 0, 0, 0],
            0x8000_0000 if intel => [self.last_extended(), 0, 0, 0],
            0x8000_0000 => {
                let v: [u32; 3] = words(self.vendor.id());
                [self.last_extended(), v[0], v[2], v[1]]
            }
            0x8000_0001 => self.extended(),
            0x8000_0002..=0x8000_0004 => words(&self.brand[16 * (leaf as usize & 7) - 32..]),
            // TLBs that are not told of, L1 data and code of 32 KiB in 8 ways.
            0x8000_0005 if !intel => [0, 0, 0x2008_0140, 0x2008_0140],
            // L2 of 1 MiB in 16 ways on Atoll and Intel, in 8 on AMD, which tells more.
            0x8000_0006 => [0, 0, if intel { 0x0100_6040 } else { 0x0400_6140 }, 0],
            0x8000_0007 => [0, 0, 0, self.bits(&[(F::INVARIANT_TSC, 8)])],
            0x8000_0008 => {
                let linear = if self.features.contains(F::LM) {
                    48
                } else {
                    32
                };
                [PHYS_BITS | linear << 8, self.bits(&[(F::CLZERO, 0)]), 0, 0]
            }
            _ => [0; 4],
        }
    }

    fn version(&self, cr4: u64) -> Leaf {
        let mut ecx = self.bits(&[
            (F::SSE3, 0),
            (F::PCLMULQDQ, 1),
            (F::MONITOR, 3),
            (F::SSSE3, 9),
            (F::FMA, 12),
            (F::CX16, 13),
            (F::PCID, 17),
            (F::SSE4_1, 19),
            (F::SSE4_2, 20),
            (F::X2APIC, 21),
            (F::MOVBE, 22),
            (F::POPCNT, 23),
            (F::TSC_DEADLINE, 24),
            (F::AES, 25),
            (F::XSAVE, 26),
            (F::AVX, 28),
            (F::F16C, 29),
            (F::RDRAND, 30),
            (F::HYPERVISOR, 31),
        ]);
        if cr4 & cr::CR4_OSXSAVE != 0 {
            ecx |= 1 << 27;
        }
        let edx = self.bits(LEGACY);
        // CLFLUSH works on 64 bytes; one logical processor.
        let line = self.bits(&[(F::CLFLUSH, 11)]);
        let ebx = line | 1 << 16 | self.apic_id << 24;
        [self.signature, ebx, ecx, edx]
    }

    fn extensions(&self) -> Leaf {
        let ebx = self.bits(&[
            (F::FSGSBASE, 0),
            (F::TSC_ADJUST, 1),
            (F::BMI1, 3),
            (F::AVX2, 5),
            (F::SMEP, 7),
            (F::BMI2, 8),
            (F::ERMS, 9),
            (F::INVPCID, 10),
            (F::RDSEED, 18),
            (F::ADX, 19),
            (F::SMAP, 20),
            (F::CLFLUSHOPT, 23),
            (F::CLWB, 24),
            (F::SHA, 29),
        ]);
        let ecx = self.bits(&[(F::UMIP, 2), (F::RDPID, 22)]);
        // IBRS, IBPB and STIBP come with the register that says they are not needed.
        let edx = self.bits(&[
            (F::FSRM, 4),
            (F::ARCH_CAPABILITIES, 26),
            (F::ARCH_CAPABILITIES, 27),
            (F::ARCH_CAPABILITIES, 29),
        ]);
        [0, ebx, ecx, edx]
    }

    fn extended(&self) -> Leaf {
        let ecx = self.bits(&[
            (F::LAHF_LM, 0),
            (F::LZCNT, 5),
            (F::SSE4A, 6),
            (F::PREFETCHW, 8),
        ]);
        let edx = self.bits(&[
            (F::SYSCALL, 11),
            (F::NX, 20),
            (F::MMXEXT, 22),
            (F::PDPE1GB, 26),
            (F::RDTSCP, 27),
            (F::LM, 29),
        ]);
        match self.vendor {
            Vendor::Intel => [0, 0, ecx, edx],
            Vendor::Amd => [
                self.signature,
                0,
                ecx,
                edx | self.bits(LEGACY) & LEGACY_MIRROR,
            ],
        }
    }

    /// One thread in one core.
    fn topology(&self, sub: u32) -> Leaf {
        match sub {
            0 => [0, 1, 0x100, self.apic_id],
            1 => [0, 1, 0x201, self.apic_id],
            _ => [0, 0, sub, self.apic_id],
        }
    }

    fn save_area(&self, sub: u32, xcr0: u64) -> Leaf {
        if !self.features.contains(F::XSAVE) {
            return [0; 4];
        }
        let avx = self.features.contains(F::AVX);
        let size = |avx: bool| if avx { 832 } else { 576 };
        match sub {
            0 => [if avx { 7 } else { 3 }, size(xcr0 & 4 != 0), size(avx), 0],
            1 => [
                self.bits(&[(F::XSAVEOPT, 0), (F::XSAVEC, 1), (F::XGETBV1, 2)]),
                0,
                0,
                0,
            ],
            2 if avx => [256, 576, 0, 0],
            _ => [0; 4],
        }
    }
}

/// Leaf 4: L1 data and code of 32 KiB, L2 of 1 MiB, L3 of 16 MiB.
fn cache(sub: u32) -> Leaf {
    let leaf = |kind: u32, level: u32, ways: u32, sets: u32| {
        let eax = kind | level << 5 | 1 << 8;
        [eax, (ways - 1) << 22 | 63, sets - 1, 0]
    };
    match sub {
        0 => leaf(1, 1, 8, 64),
        1 => leaf(2, 1, 8, 64),
        2 => leaf(3, 2, 16, 1024),
        3 => leaf(3, 3, 16, 16384),
        _ => [0; 4],
    }
}

/// CPUID. A leaf beyond the last gives the last basic one on Intel's processors, zeroes on AMD's.
pub(crate) fn cpuid(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    let leaf = cpu.reg(Width::D, RAX) as u32;
    let sub = cpu.reg(Width::D, RCX) as u32;
    let model = &cpu.model;
    let known = match leaf >> 28 {
        0 => leaf <= model.last_basic(),
        4 => leaf <= 0x4fff_ffff && model.features.contains(F::HYPERVISOR),
        8 => leaf <= model.last_extended(),
        _ => false,
    };
    let (cr4, xcr0) = (cpu.state.cr4, cpu.state.xcr0);
    let values = match (known, model.vendor) {
        (true, _) => model.leaf(leaf, sub, cr4, xcr0),
        (false, Vendor::Intel) => model.leaf(model.last_basic(), sub, cr4, xcr0),
        (false, Vendor::Amd) => [0; 4],
    };
    for (r, v) in [RAX, RBX, RCX, RDX].into_iter().zip(values) {
        cpu.set_reg(Width::D, r, v as u64);
    }
    Ok(())
}
