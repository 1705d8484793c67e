//! Instruction truth against the host CPU.
