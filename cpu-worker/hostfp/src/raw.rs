//! One instruction and a return: what emitted code calls while the guest's MXCSR is loaded.
//!
//! The stubs neither load nor store MXCSR, so a caller that keeps the guest's there pays for a call and no more.
//!
//! Register use (a subset of the System V ABI, so a caller that saves as for any call is right, and one that knows
//! better may save nothing else):
//! - vectors: `a` in XMM0, `b` in XMM1; the result in XMM0.
//! - integers: in RDI; result in RAX (32-bit results zero-extended).
//! - nothing else is changed but EFLAGS, and RAX by comparisons. No stack is used, and alignment does not matter.
//!
//! RCP and RSQRT have no stub here: they are software; see [`crate::approx`].

use core::arch::naked_asm;

use crate::ops::{Fp, FpBin, FpCvt, Int};

/// The address of a stub.
pub type Stub = unsafe extern "C" fn();

macro_rules! stub {
    ($($line:expr),+) => {{
        /// # Safety
        /// To be called from emitted code only, with registers as the module says.
        #[unsafe(naked)]
        unsafe extern "C" fn stub() {
            naked_asm!($($line,)+ "ret")
        }
        stub as Stub
    }};
}

/// XMM0 = XMM0 op XMM1.
pub fn bin(op: FpBin, fp: Fp) -> Stub {
    macro_rules! four {
        ($name:literal) => {
            match fp {
                Fp::Ss => stub!(concat!($name, "ss xmm0, xmm1")),
                Fp::Sd => stub!(concat!($name, "sd xmm0, xmm1")),
                Fp::Ps => stub!(concat!($name, "ps xmm0, xmm1")),
                Fp::Pd => stub!(concat!($name, "pd xmm0, xmm1")),
            }
        };
    }
    macro_rules! packed {
        ($name:literal) => {
            match fp {
                Fp::Ss | Fp::Ps => stub!(concat!($name, "ps xmm0, xmm1")),
                Fp::Sd | Fp::Pd => stub!(concat!($name, "pd xmm0, xmm1")),
            }
        };
    }
    match op {
        FpBin::Add => four!("add"),
        FpBin::Sub => four!("sub"),
        FpBin::Mul => four!("mul"),
        FpBin::Div => four!("div"),
        FpBin::Min => four!("min"),
        FpBin::Max => four!("max"),
        FpBin::Hadd => packed!("hadd"),
        FpBin::Hsub => packed!("hsub"),
        FpBin::AddSub => packed!("addsub"),
    }
}

/// XMM0 = SQRT of XMM1 (scalar: the rest of XMM0 is kept).
pub fn sqrt(fp: Fp) -> Stub {
    match fp {
        Fp::Ss => stub!("sqrtss xmm0, xmm1"),
        Fp::Sd => stub!("sqrtsd xmm0, xmm1"),
        Fp::Ps => stub!("sqrtps xmm0, xmm1"),
        Fp::Pd => stub!("sqrtpd xmm0, xmm1"),
    }
}

/// XMM0 = XMM1 rounded by ROUNDxx's immediate (scalar: the rest of XMM0 is kept).
pub fn round(fp: Fp, imm: u8) -> Stub {
    macro_rules! imms {
        ($insn:literal, $($n:literal)*) => {
            match imm & 15 {
                $($n => stub!(concat!($insn, " xmm0, xmm1, ", $n)),)*
                _ => unreachable!("four bits"),
            }
        };
    }
    match fp {
        Fp::Ss => imms!("roundss", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        Fp::Sd => imms!("roundsd", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        Fp::Ps => imms!("roundps", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
        Fp::Pd => imms!("roundpd", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
    }
}

/// XMM0 = the lanes' truth of XMM0 compared with XMM1.
pub fn cmp(fp: Fp, predicate: u8) -> Stub {
    macro_rules! imms {
        ($insn:literal, $($n:literal)*) => {
            match predicate & 7 {
                $($n => stub!(concat!($insn, " xmm0, xmm1, ", $n)),)*
                _ => unreachable!("three bits"),
            }
        };
    }
    match fp {
        Fp::Ss => imms!("cmpss", 0 1 2 3 4 5 6 7),
        Fp::Sd => imms!("cmpsd", 0 1 2 3 4 5 6 7),
        Fp::Ps => imms!("cmpps", 0 1 2 3 4 5 6 7),
        Fp::Pd => imms!("cmppd", 0 1 2 3 4 5 6 7),
    }
}

/// RAX = ZF, PF and CF, as EFLAGS bits, of XMM0 compared with XMM1.
pub fn comi(fp: Fp, quiet: bool) -> Stub {
    macro_rules! flags {
        ($insn:literal) => {
            stub!(
                concat!($insn, " xmm0, xmm1"),
                "lahf",
                "movzx eax, ah",
                "and eax, 0x45"
            )
        };
    }
    match (fp, quiet) {
        (Fp::Ss | Fp::Ps, true) => flags!("ucomiss"),
        (Fp::Ss | Fp::Ps, false) => flags!("comiss"),
        (_, true) => flags!("ucomisd"),
        (_, false) => flags!("comisd"),
    }
}

/// RAX = the low lane of XMM0 as an integer.
pub fn to_int(fp: Fp, int: Int, truncate: bool) -> Stub {
    match (fp, int, truncate) {
        (Fp::Ss | Fp::Ps, Int::D, false) => stub!("cvtss2si eax, xmm0"),
        (Fp::Ss | Fp::Ps, Int::D, true) => stub!("cvttss2si eax, xmm0"),
        (Fp::Ss | Fp::Ps, Int::Q, false) => stub!("cvtss2si rax, xmm0"),
        (Fp::Ss | Fp::Ps, Int::Q, true) => stub!("cvttss2si rax, xmm0"),
        (_, Int::D, false) => stub!("cvtsd2si eax, xmm0"),
        (_, Int::D, true) => stub!("cvttsd2si eax, xmm0"),
        (_, Int::Q, false) => stub!("cvtsd2si rax, xmm0"),
        (_, Int::Q, true) => stub!("cvttsd2si rax, xmm0"),
    }
}

/// The low lane of XMM0 = the integer in RDI.
pub fn from_int(fp: Fp, int: Int) -> Stub {
    match (fp, int) {
        (Fp::Ss | Fp::Ps, Int::D) => stub!("cvtsi2ss xmm0, edi"),
        (Fp::Ss | Fp::Ps, Int::Q) => stub!("cvtsi2ss xmm0, rdi"),
        (_, Int::D) => stub!("cvtsi2sd xmm0, edi"),
        (_, Int::Q) => stub!("cvtsi2sd xmm0, rdi"),
    }
}

/// XMM0 = XMM1 converted (scalar: the rest of XMM0 is kept).
pub fn convert(op: FpCvt) -> Stub {
    match op {
        FpCvt::Ss2Sd => stub!("cvtss2sd xmm0, xmm1"),
        FpCvt::Sd2Ss => stub!("cvtsd2ss xmm0, xmm1"),
        FpCvt::Ps2Pd => stub!("cvtps2pd xmm0, xmm1"),
        FpCvt::Pd2Ps => stub!("cvtpd2ps xmm0, xmm1"),
        FpCvt::Dq2Ps => stub!("cvtdq2ps xmm0, xmm1"),
        FpCvt::Ps2Dq => stub!("cvtps2dq xmm0, xmm1"),
        FpCvt::TPs2Dq => stub!("cvttps2dq xmm0, xmm1"),
        FpCvt::Dq2Pd => stub!("cvtdq2pd xmm0, xmm1"),
        FpCvt::Pd2Dq => stub!("cvtpd2dq xmm0, xmm1"),
        FpCvt::TPd2Dq => stub!("cvttpd2dq xmm0, xmm1"),
    }
}

/// Loads MXCSR from RDI's low half: the guest's before emitted code runs, the ABI's default after it.
pub fn load_mxcsr() -> Stub {
    // Eight bytes below RSP are the caller's return address's neighbours in the red zone; signal handlers keep off them.
    stub!("mov dword ptr [rsp - 8], edi", "ldmxcsr [rsp - 8]")
}

/// RAX = MXCSR.
pub fn store_mxcsr() -> Stub {
    stub!("stmxcsr [rsp - 8]", "mov eax, dword ptr [rsp - 8]")
}
