//! Forms that the host CPU cannot bear witness to from user mode, each with the reason.

use iced_x86::{Code, CodeSize, FlowControl, Instruction, Mnemonic};

/// Why this form is not generated; None if it is.
pub fn reason(code: Code) -> Option<&'static str> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        INVALID => return None,
        Reservednop if is_prefetch_register(code) => "#UD with AMD, no operation with Intel",
        Movsxd if code == Code::Movsxd_r16_rm16 => "reads 16 bits with Intel, 32 with AMD",
        Lss | Lfs | Lgs if code.op_code().operand_size() == 64 => {
            "an offset of 64 bits with Intel, of 32 with AMD"
        }
        Syscall | Sysenter | Int => "enters the host's kernel",
        Int1 => "its trap cannot be told from the single-step trap that ends a case",
        Sysret | Sysretq | Sysexit | Sysexitq | Iret | Iretd | Iretq | Retf | Call | Jmp
            if is_far(code) =>
        {
            "depends on the host's descriptor tables"
        }
        Iret | Iretd | Iretq | Retf => "depends on the host's descriptor tables",
        Sgdt | Sidt | Sldt | Smsw | Str => "emulated by the host's kernel under UMIP",
        Cpuid | Rdpid | Rdtscp => "tells who the CPU is, which differs by intention",
        Rdtsc | Rdpmc => "reads a counter",
        Rdrand | Rdseed => "gives random numbers",
        Monitor | Mwait | Vmcall | Vmmcall | Vmlaunch | Vmresume | Skinit => {
            "belongs to the host's hypervisor"
        }
        _ => return None,
    })
}

/// Why this encoding of a form that is generated is not: CPUs of different makers read it differently.
pub fn encoding(i: &Instruction, bytes: &[u8]) -> Option<&'static str> {
    let prefixed = |any: &[u8]| {
        bytes
            .iter()
            .take_while(|b| is_prefix(**b))
            .any(|b| any.contains(b))
    };
    match i.mnemonic() {
        // What is left of the encoding space may mean something to one maker.
        Mnemonic::INVALID => {
            if is_hypervisor_call(bytes) {
                return Some("belongs to the host's hypervisor");
            }
            if is_verify(bytes) {
                return Some("LOCK before VERR and VERW counts for nothing with AMD");
            }
            is_moved_control_register(bytes).then_some("LOCK before MOV CR0 is MOV CR8 with AMD")
        }
        Mnemonic::Pause => (bytes.len() > 2 && prefixed(&[0xf3]))
            .then_some("PAUSE with REX.B is an exchange with R8"),
        Mnemonic::Loope | Mnemonic::Loopne if prefixed(&[0xf2, 0xf3]) => {
            Some("LOOPcc heeds REP prefixes with AMD")
        }
        Mnemonic::Vpinsrd | Mnemonic::Vpextrd if i.code_size() != CodeSize::Code64 => {
            has_vex_w(bytes).then_some("VEX.W where registers have 32 bits is #UD with AMD")
        }
        _ if is_branch(i) && prefixed(&[0x66]) && i.code_size() == CodeSize::Code64 => {
            Some("near branches with 66h have 16-bit operands with AMD, 64-bit ones with Intel")
        }
        _ => None,
    }
}

fn is_branch(i: &Instruction) -> bool {
    use FlowControl::*;
    matches!(
        i.flow_control(),
        UnconditionalBranch | IndirectBranch | ConditionalBranch | Return | Call | IndirectCall
    )
}

fn has_vex_w(bytes: &[u8]) -> bool {
    let mut rest = bytes.iter().skip_while(|b| **b != 0xc4);
    rest.nth(2).is_some_and(|b| b & 0x80 != 0)
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// VMCALL and its neighbours, and those of SVM.
fn is_hypervisor_call(bytes: &[u8]) -> bool {
    let opcode: Vec<u8> = bytes
        .iter()
        .copied()
        .skip_while(|b| is_prefix(*b))
        .take(3)
        .collect();
    matches!(opcode[..], [0x0f, 0x01, 0xc0..=0xc7 | 0xd8..=0xdf])
}

fn is_verify(bytes: &[u8]) -> bool {
    let mut opcode = bytes.iter().copied().skip_while(|b| is_prefix(*b));
    opcode.next() == Some(0x0f)
        && opcode.next() == Some(0)
        && opcode.next().is_some_and(|modrm| modrm >> 4 & 3 == 2)
}

fn is_moved_control_register(bytes: &[u8]) -> bool {
    let opcode: Vec<u8> = bytes
        .iter()
        .copied()
        .skip_while(|b| is_prefix(*b))
        .take(2)
        .collect();
    matches!(opcode[..], [0x0f, 0x20 | 0x22])
}

fn is_far(code: Code) -> bool {
    let kinds = code.op_code();
    let name = format!("{code:?}");
    match kinds.mnemonic() {
        Mnemonic::Call | Mnemonic::Jmp => name.contains("_m16") || name.contains("_ptr"),
        _ => true,
    }
}

/// 0F 0D with a register: with memory it is PREFETCH.
fn is_prefetch_register(code: Code) -> bool {
    matches!(
        code,
        Code::Reservednop_rm16_r16_0F0D
            | Code::Reservednop_rm32_r32_0F0D
            | Code::Reservednop_rm64_r64_0F0D
    )
}
