//! The names of the SSE floating-point operations, shared by everybody who evaluates them.

/// Lanes of a floating-point operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Fp {
    /// low 32 bits (…SS); the rest of `a` is kept
    Ss,
    /// low 64 bits (…SD)
    Sd,
    /// four floats
    Ps,
    /// two doubles
    Pd,
}

/// Two-operand SSE arithmetic, exactly as the instruction of that name does it, flags of MXCSR included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FpBin {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    /// HADDPx
    Hadd,
    /// HSUBPx
    Hsub,
    /// ADDSUBPx
    AddSub,
}

/// One-operand SSE arithmetic. Sqrt is exact; the approximations are software, equal on every host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FpUn {
    Sqrt,
    /// RCPPS/RCPSS
    Rcp,
    /// RSQRTPS/RSQRTSS
    Rsqrt,
    /// ROUNDxx; the immediate is passed beside it
    Round,
}

/// Fused multiply-add of x, y and z: x * y + z, rounded once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FpFma {
    /// x * y + z
    Add,
    /// x * y - z
    Sub,
    /// -(x * y) + z
    NegAdd,
    /// -(x * y) - z
    NegSub,
    /// Odd lanes add, even ones subtract.
    AddSub,
    /// Odd lanes subtract, even ones add.
    SubAdd,
}

/// Conversions from `b`'s low lanes; scalar ones keep the rest of `a`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[rustfmt::skip]
pub enum FpCvt { Ss2Sd, Sd2Ss, Ps2Pd, Pd2Ps, Dq2Ps, Ps2Dq, TPs2Dq, Dq2Pd, Pd2Dq, TPd2Dq }

/// The integer side of a scalar conversion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Int {
    /// 32 bits.
    D,
    /// 64 bits.
    Q,
}
