//! Instruction truth: generated user-mode instructions, run by the host CPU and by Atoll's engines, compared whole.
//!
//! Both engines share one meaning for each instruction, so comparing them with each other cannot find a wrong one. Here the
//! witness is the CPU that the tests run on. A case is one instruction of 64-bit mode with registers, flags, MXCSR, x87 state
//! and memory around it ([`generate`]); `isa-native` runs it on the host, an [`engine::Engine`] in Atoll, and [`compare`] says
//! where they differ. What the documentation leaves undefined is masked there, and only there.
//!
//! What is not compared, with reasons:
//! - RCPPS, RSQRTPS and the x87 transcendentals: software by design, bounded in `atoll-hostfp`'s own tests.
//! - instructions that read the machine rather than their operands (CPUID, RDTSC, RDRAND, SGDT, XGETBV ...), change segments
//!   or the mode, or need privileges.
//! - the XSAVE family, whose layout follows the host's own set of components.
//! - x87's last-instruction pointers and opcode, which CPUs save by different rules.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod compare;
pub mod engine;
pub mod forms;
pub mod generate;
pub mod machine;
pub mod random;
