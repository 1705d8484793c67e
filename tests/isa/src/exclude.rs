//! Forms that the host CPU cannot bear witness to from user mode, each with the reason.

use atoll_x86::system::Vendor;
use iced_x86::{Code, CodeSize, FlowControl, Instruction, Mnemonic, OpKind};
use isa_native::Machine;
use isa_native::segments::{CODE_64, CS, PER_CPU, SS, USER_DATA};

use crate::{features, forms};

/// The vector of 32-bit Linux's system calls.
const LINUX_CALL: u8 = 0x80;

/// Why this form is not generated; None if it is.
pub fn reason(code: Code) -> Option<&'static str> {
    use Mnemonic::*;
    Some(match code.mnemonic() {
        INVALID => return None,
        Reservednop if is_prefetch_register(code) => "#UD with AMD, no operation with Intel",
        Lss | Lfs | Lgs | Jmp | Call if has_long_pointer(code) => {
            "an offset of 64 bits with Intel, of 32 with AMD"
        }
        Syscall => "enters the host's kernel",
        Sysenter if features::vendor() == Vendor::Intel => "enters the host's kernel",
        Sgdt | Sidt | Sldt | Smsw | Str => "emulated by the host's kernel under UMIP",
        Vmcall | Vmmcall | Vmlaunch | Vmresume | Skinit => "belongs to the host's hypervisor",
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
        Mnemonic::Int => (i.immediate8() == LINUX_CALL).then_some("enters the host's kernel"),
        Mnemonic::Movsxd => (i.code() == Code::Movsxd_r16_rm16 && i.op1_kind() == OpKind::Memory)
            .then_some("reads 16 bits with Intel, 32 with AMD"),
        Mnemonic::Pause => (bytes.len() > 2 && prefixed(&[0xf3]))
            .then_some("PAUSE with REX.B is an exchange with R8"),
        Mnemonic::Loope | Mnemonic::Loopne if prefixed(&[0xf2, 0xf3]) => {
            Some("LOOPcc heeds REP prefixes with AMD")
        }
        Mnemonic::Vpinsrd | Mnemonic::Vpextrd if i.code_size() != CodeSize::Code64 => {
            has_vex_w(bytes).then_some("VEX.W where registers have 32 bits is #UD with AMD")
        }
        Mnemonic::Clzero if i.code_size() == CodeSize::Code64 && prefixed(&[0x67]) => {
            prefixed(&[0x64, 0x65]).then_some(
                "a base is added to 32 bits of address without their carry, in CR2 at least",
            )
        }
        _ if is_near_branch(i) && prefixed(&[0x66]) && i.code_size() == CodeSize::Code64 => {
            Some("near branches with 66h have 16-bit operands with AMD, 64-bit ones with Intel")
        }
        _ => None,
    }
}

/// Why this selector is not shown to an instruction that is generated.
pub fn selector(i: &Instruction, selector: u16) -> Option<&'static str> {
    (i.mnemonic() == Mnemonic::Lsl && selector | 3 == PER_CPU)
        .then_some("the limit is the number of the processor that the host runs on")
}

/// Why a far transfer does not go to this segment from this machine.
pub fn target(i: &Instruction, m: &Machine, selector: u16) -> Option<&'static str> {
    let enters = m.selectors[CS] != CODE_64 && selector | 3 == CODE_64;
    (enters && i.mnemonic() == Mnemonic::Call && m.selectors[SS] != USER_DATA).then_some(
        "the return address goes where 64-bit code has its stack with AMD, where the caller has it with Intel",
    )
}

fn is_near_branch(i: &Instruction) -> bool {
    use FlowControl::*;
    let branches = matches!(
        i.flow_control(),
        UnconditionalBranch | IndirectBranch | ConditionalBranch | Return | Call | IndirectCall
    );
    branches && !forms::is_far(i.code())
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

/// A far pointer with an offset of 64 bits.
fn has_long_pointer(code: Code) -> bool {
    use Mnemonic::{Call, Jmp, Lfs, Lgs, Lss};
    let far = match code.mnemonic() {
        Jmp | Call => forms::is_far(code),
        Lss | Lfs | Lgs => true,
        _ => false,
    };
    far && code.op_code().operand_size() == 64
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
