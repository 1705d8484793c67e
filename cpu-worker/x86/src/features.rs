//! What a CPU model can do. One set gates CPUID and #UD alike, so that what CPUID says is what works.
//!
//! A feature's name, for users, is its constant's in lower case.

bitflags::bitflags! {
    /// Instruction-set extensions and architectural abilities, named as in /proc/cpuinfo.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct Features: u128 {
        const FPU = 1;
        const VME = 1 << 1;
        const DE = 1 << 2;
        const PSE = 1 << 3;
        const TSC = 1 << 4;
        const MSR = 1 << 5;
        const PAE = 1 << 6;
        const MCE = 1 << 7;
        const CX8 = 1 << 8;
        const APIC = 1 << 9;
        const SEP = 1 << 10;
        const MTRR = 1 << 11;
        const PGE = 1 << 12;
        const MCA = 1 << 13;
        const CMOV = 1 << 14;
        const PAT = 1 << 15;
        const PSE36 = 1 << 16;
        const CLFLUSH = 1 << 17;
        const MMX = 1 << 18;
        const FXSR = 1 << 19;
        const SSE = 1 << 20;
        const SSE2 = 1 << 21;
        const SSE3 = 1 << 22;
        const PCLMULQDQ = 1 << 23;
        const MONITOR = 1 << 24;
        const SSSE3 = 1 << 25;
        const FMA = 1 << 26;
        const CX16 = 1 << 27;
        const PCID = 1 << 28;
        const SSE4_1 = 1 << 29;
        const SSE4_2 = 1 << 30;
        const X2APIC = 1 << 31;
        const MOVBE = 1 << 32;
        const POPCNT = 1 << 33;
        const TSC_DEADLINE = 1 << 34;
        const AES = 1 << 35;
        const XSAVE = 1 << 36;
        const AVX = 1 << 37;
        const F16C = 1 << 38;
        const RDRAND = 1 << 39;
        const HYPERVISOR = 1 << 40;
        const FSGSBASE = 1 << 41;
        const TSC_ADJUST = 1 << 42;
        const BMI1 = 1 << 43;
        const AVX2 = 1 << 44;
        const SMEP = 1 << 45;
        const BMI2 = 1 << 46;
        const ERMS = 1 << 47;
        const INVPCID = 1 << 48;
        const RDSEED = 1 << 49;
        const ADX = 1 << 50;
        const SMAP = 1 << 51;
        const CLFLUSHOPT = 1 << 52;
        const CLWB = 1 << 53;
        const SHA = 1 << 54;
        const UMIP = 1 << 55;
        const RDPID = 1 << 56;
        const FSRM = 1 << 57;
        const ARCH_CAPABILITIES = 1 << 58;
        const XSAVEOPT = 1 << 59;
        const SYSCALL = 1 << 60;
        const NX = 1 << 61;
        const MMXEXT = 1 << 62;
        const PDPE1GB = 1 << 63;
        const RDTSCP = 1 << 64;
        const LM = 1 << 65;
        const LAHF_LM = 1 << 66;
        const LZCNT = 1 << 67;
        const PREFETCHW = 1 << 68;
        const INVARIANT_TSC = 1 << 69;
        const CLZERO = 1 << 70;
        const SSE4A = 1 << 71;
        const WBNOINVD = 1 << 72;
        const ARAT = 1 << 73;
        const XSAVEC = 1 << 74;
        const XGETBV1 = 1 << 75;
    }
}

impl Features {
    /// The default model: x86-64-v2 and what makes kernels take their cheap paths. AVX stays out, because saving it costs guests
    /// more than it gives them here; SMEP and SMAP stay out, because they make each user access of the kernel dearer.
    pub const DEFAULT: Features = {
        let mut f = Features::FPU;
        let on = [
            Features::VME,
            Features::DE,
            Features::PSE,
            Features::TSC,
            Features::MSR,
            Features::PAE,
            Features::MCE,
            Features::CX8,
            Features::APIC,
            Features::SEP,
            Features::MTRR,
            Features::PGE,
            Features::MCA,
            Features::CMOV,
            Features::PAT,
            Features::PSE36,
            Features::CLFLUSH,
            Features::MMX,
            Features::FXSR,
            Features::SSE,
            Features::SSE2,
            Features::SSE3,
            Features::PCLMULQDQ,
            Features::SSSE3,
            Features::CX16,
            Features::PCID,
            Features::SSE4_1,
            Features::SSE4_2,
            Features::X2APIC,
            Features::MOVBE,
            Features::POPCNT,
            Features::TSC_DEADLINE,
            Features::AES,
            Features::XSAVE,
            Features::RDRAND,
            Features::HYPERVISOR,
            Features::FSGSBASE,
            Features::TSC_ADJUST,
            Features::ERMS,
            Features::INVPCID,
            Features::RDSEED,
            Features::CLFLUSHOPT,
            Features::CLWB,
            Features::RDPID,
            Features::FSRM,
            Features::ARCH_CAPABILITIES,
            Features::SYSCALL,
            Features::NX,
            Features::PDPE1GB,
            Features::RDTSCP,
            Features::LM,
            Features::LAHF_LM,
            Features::PREFETCHW,
            Features::INVARIANT_TSC,
            Features::ARAT,
        ];
        let mut i = 0;
        while i < on.len() {
            f = f.union(on[i]);
            i += 1;
        }
        f
    };

    /// Everything that the engine has. A model is offered what is in here of its features, and no more.
    pub const IMPLEMENTED: Features = Features::DEFAULT
        .union(Features::ADX)
        .union(Features::AVX)
        .union(Features::AVX2)
        .union(Features::BMI1)
        .union(Features::BMI2)
        .union(Features::CLZERO)
        .union(Features::F16C)
        .union(Features::FMA)
        .union(Features::LZCNT)
        .union(Features::MMXEXT)
        .union(Features::MONITOR)
        .union(Features::SHA)
        .union(Features::SMAP)
        .union(Features::SMEP)
        .union(Features::SSE4A)
        .union(Features::UMIP)
        .union(Features::XGETBV1)
        .union(Features::XSAVEC)
        .union(Features::XSAVEOPT);

    /// The feature of this name, if the engine has it.
    pub fn named(name: &str) -> Option<Features> {
        let feature = Features::from_name(&name.to_ascii_uppercase())?;
        Features::IMPLEMENTED.contains(feature).then_some(feature)
    }
}
