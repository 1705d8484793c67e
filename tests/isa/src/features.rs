//! Which instructions can be compared: those that the host CPU and the guest's model both have.

use std::sync::OnceLock;

use atoll_x86::features::Features;
use atoll_x86::system::Vendor;
use iced_x86::CpuidFeature;

/// The guest's model: everything that is implemented.
pub fn guest() -> Features {
    Features::IMPLEMENTED
}

/// Whose rules the guest follows: those of the host's maker.
pub fn vendor() -> Vendor {
    match host_says("GenuineIntel") {
        true => Vendor::Intel,
        false => Vendor::Amd,
    }
}

/// Why a form with this requirement is not compared; None if it is.
pub fn obstacle(feature: CpuidFeature) -> Option<&'static str> {
    use CpuidFeature::{D3NOW, D3NOWEXT};
    if matches!(feature, D3NOW | D3NOWEXT) {
        return Some("3DNow!, which the engine has not: no host could bear witness to it");
    }
    let Some((needs, host)) = row(feature) else {
        return Some("an extension that no CPU model offers");
    };
    if !guest().contains(needs) {
        return Some("the guest's CPU model lacks the extension");
    }
    (!host).then_some("the host CPU lacks the extension")
}

/// The guest's flag for a requirement, and whether the host meets it. None: never generated.
fn row(feature: CpuidFeature) -> Option<(Features, bool)> {
    use CpuidFeature::*;
    macro_rules! host {
        ($name:tt) => {
            std::is_x86_feature_detected!($name)
        };
    }
    let always = Features::empty();
    Some(match feature {
        INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | INTEL8086_ONLY => {
            (always, true)
        }
        CPUID | PAUSE | MULTIBYTENOP | TSC | MSR => (always, true),
        CMOV => (Features::CMOV, true),
        FPU | FPU287 | FPU387 => (Features::FPU, true),
        MMX => (Features::MMX, true),
        FXSR => (Features::FXSR, host!("fxsr")),
        SSE => (Features::SSE, host!("sse")),
        SSE2 => (Features::SSE2, host!("sse2")),
        SSE3 => (Features::SSE3, host!("sse3")),
        SSSE3 => (Features::SSSE3, host!("ssse3")),
        SSE4_1 => (Features::SSE4_1, host!("sse4.1")),
        SSE4_2 => (Features::SSE4_2, host!("sse4.2")),
        SSE4A => (Features::SSE4A, host!("sse4a")),
        CX8 => (Features::CX8, true),
        CMPXCHG16B => (Features::CX16, host!("cmpxchg16b")),
        POPCNT => (Features::POPCNT, host!("popcnt")),
        LZCNT => (Features::LZCNT, host!("lzcnt")),
        BMI1 => (Features::BMI1, host!("bmi1")),
        BMI2 => (Features::BMI2, host!("bmi2")),
        ADX => (Features::ADX, host!("adx")),
        MOVBE => (Features::MOVBE, host!("movbe")),
        AES => (Features::AES, host!("aes")),
        PCLMULQDQ => (Features::PCLMULQDQ, host!("pclmulqdq")),
        SHA => (Features::SHA, host!("sha")),
        AVX => (Features::AVX, host!("avx")),
        AVX2 => (Features::AVX2, host!("avx2")),
        CpuidFeature::FMA => (Features::FMA, host!("fma")),
        F16C => (Features::F16C, host!("f16c")),
        CLFSH => (Features::CLFLUSH, true),
        CLFLUSHOPT => (Features::CLFLUSHOPT, true),
        CLWB => (Features::CLWB, true),
        FSGSBASE => (Features::FSGSBASE, true),
        PREFETCHW => (Features::PREFETCHW, true),
        SYSCALL => (Features::SYSCALL, true),
        SEP => (Features::SEP, true),
        INVPCID => (Features::INVPCID, true),
        XSAVE => (Features::XSAVE, host!("xsave")),
        XSAVEOPT => (Features::XSAVEOPT, host!("xsaveopt")),
        // Refused in user mode, with or without.
        MONITOR => (Features::MONITOR, true),
        RDTSCP => (Features::RDTSCP, true),
        RDRAND => (Features::RDRAND, host!("rdrand")),
        RDSEED => (Features::RDSEED, host!("rdseed")),
        RDPID => (Features::RDPID, true),
        XSAVEC => (Features::XSAVEC, host!("xsavec")),
        CpuidFeature::CLZERO => (Features::CLZERO, host_says("clzero")),
        _ => return None,
    })
}

/// Whether the kernel has this word for the host CPU. The standard library does not know all of them.
fn host_says(what: &str) -> bool {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    text.split_whitespace().any(|word| word == what)
}
