//! Region translator: x86 to host code by Cranelift.
