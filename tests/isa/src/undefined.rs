//! What the manuals leave undefined, as data (Intel SDM vol. 2, "Flags Affected"; AMD APM vol. 3, appendix F).

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use isa_native::Machine;
use isa_native::segments::{self, CODE_64, CS, SS};

use crate::forms;

const CF: u64 = 1;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
const ALL: u64 = CF | PF | AF | ZF | SF | OF;

/// The flags that a completed instruction leaves undefined.
pub fn flags(i: &Instruction, before: &Machine) -> u64 {
    use Mnemonic::*;
    match i.mnemonic() {
        And | Or | Xor | Test => AF,
        Mul | Imul => SF | ZF | AF | PF,
        Div | Idiv => ALL,
        Bsf | Bsr => ALL & !ZF,
        Bt | Bts | Btr | Btc => OF | SF | AF | PF,
        Daa | Das => OF,
        Aaa | Aas => OF | SF | ZF | PF,
        Aam | Aad => OF | AF | CF,
        Tzcnt | Lzcnt => OF | SF | AF | PF,
        // Whether there was a number.
        Rdrand | Rdseed => CF,
        Bextr => AF | SF | PF,
        Blsi | Blsr | Blsmsk | Bzhi | Andn => AF | PF,
        Shl | Sal | Shr | Sar => shift(i, before),
        Rol | Ror | Rcl | Rcr => match count(i, before) {
            0 => 0,
            1 => 0,
            _ => OF,
        },
        Shld | Shrd => match count(i, before) {
            0 => 0,
            1 => AF,
            n if n > width(i) => ALL,
            _ => AF | OF,
        },
        _ => 0,
    }
}

fn shift(i: &Instruction, before: &Machine) -> u64 {
    let n = count(i, before);
    let carry = if i.mnemonic() != Mnemonic::Sar && n >= width(i) {
        CF
    } else {
        0
    };
    match n {
        0 => 0,
        1 => AF | carry,
        _ => AF | OF | carry,
    }
}

/// The masked count of a shift or rotation.
fn count(i: &Instruction, before: &Machine) -> u64 {
    let last = i.op_count() - 1;
    let raw = match i.op_kind(last) {
        OpKind::Immediate8 => i.immediate8() as u64,
        _ => before.gpr[1] & 0xff,
    };
    raw & if width(i) == 64 { 63 } else { 31 }
}

/// The width of the first operand in bits.
fn width(i: &Instruction) -> u64 {
    let bytes = match i.op0_kind() {
        OpKind::Register => i.op0_register().size(),
        _ => i.memory_size().size(),
    };
    8 * bytes as u64
}

/// The general register that a completed instruction leaves undefined, as its number.
pub fn register(i: &Instruction, before: &Machine, after: &Machine) -> Option<usize> {
    use Mnemonic::*;
    let undefined = match i.mnemonic() {
        // With a source of zero; ZF says so.
        Bsf | Bsr => after.rflags & ZF != 0,
        Bswap => i.op0_register().size() == 2,
        Shld | Shrd => count(i, before) > width(i),
        _ => false,
    };
    let is_register = i.op0_kind() == OpKind::Register;
    (undefined && is_register).then(|| number(i.op0_register()))
}

/// Whether a faulting instruction may have loaded some of its registers: POPA.
pub fn is_loading_in_pieces(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Popa | Mnemonic::Popad)
}

/// Bytes of memory, from the operand's address, that a completed instruction leaves undefined or that differ by CPU: pointers
/// of the last x87 instruction, which AMD keeps only while an exception is pending; the mask of MXCSR; reserved bytes.
pub fn memory(i: &Instruction, before: &Machine) -> Vec<Range<u64>> {
    use Mnemonic::*;
    match i.mnemonic() {
        Fxsave | Fxsave64 => vec![5..24, 28..32, 416..512],
        Xsave | Xsave64 => saved(before, false),
        Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 => saved(before, true),
        Fnstenv | Fnsave if is_16(i) => std::iter::once(6..14).collect(),
        Fnstenv | Fnsave => vec![2..4, 6..8, 10..12, 12..28],
        Shld | Shrd if count(i, before) > width(i) => std::iter::once(0..8).collect(),
        Push if is_segment_in_32_bits(i) => std::iter::once(2..4).collect(),
        _ => Vec::new(),
    }
}

/// Of what the XSAVE family stores (SDM vol. 1, 13.6 and 13.7): whether a component in its initial configuration counts as in use is
/// the CPU's choice, and so what XSTATE_BV says of it; and, where only what is in use is stored (`optimised`), whether it is stored.
fn saved(before: &Machine, optimised: bool) -> Vec<Range<u64>> {
    let mut open = vec![5..24, 28..32, 416..512];
    let unused = initial(before);
    if unused != 0 {
        open.push(512..513);
    }
    let (x87, sse, upper) = ([0..24, 32..160], [24..32, 160..416], 576..832);
    let parts = [&x87[..], &sse[..], std::slice::from_ref(&upper)];
    for (n, places) in parts.into_iter().enumerate() {
        if optimised && unused >> n & 1 != 0 {
            open.extend_from_slice(places);
        }
    }
    open
}

/// The components (bits of XCR0) that are in their initial configuration.
fn initial(m: &Machine) -> u64 {
    let new = isa_native::Fx::default();
    let x87 = isa_native::Fx {
        mxcsr: new.mxcsr,
        xmm: new.xmm,
        ..m.fx
    };
    let zero = |v: &[[u64; 2]; 16]| *v == [[0; 2]; 16];
    u64::from(x87 == new) | u64::from(zero(&m.fx.xmm)) << 1 | u64::from(zero(&m.ymm_high)) << 2
}

/// The bits of general register `n` that differ after a completed instruction: what tells of the CPU, the time or chance; XGETBV also
/// tells of components that the guest has not, and with ECX = 1 of those in use.
pub fn register_bits(i: &Instruction, n: usize, before: &Machine) -> u64 {
    use Mnemonic::*;
    const RAX: usize = 0;
    const RCX: usize = 1;
    const RDX: usize = 2;
    const RBX: usize = 3;
    const RSP: usize = 4;
    const LOW: u64 = u32::MAX as u64;
    match i.mnemonic() {
        Cpuid if n <= RBX => LOW,
        Rdtsc if matches!(n, RAX | RDX) => LOW,
        Rdtscp if matches!(n, RAX | RDX | RCX) => LOW,
        Rdpid if n == number(i.op0_register()) => LOW,
        Rdrand | Rdseed if n == number(i.op0_register()) => u64::MAX >> (64 - width(i)),
        // What is dropped is added to ESP with AMD, to SP with Intel (SDM vol. 2B, RET).
        Retf if n == RSP && has_short_stack(before) => 0xffff_0000,
        Xgetbv if n == RAX => {
            let in_use = before.gpr[RCX] as u32 == 1;
            !7 | if in_use { initial(before) } else { 0 }
        }
        _ => 0,
    }
}

/// Whether the stack pointer is SP.
fn has_short_stack(m: &Machine) -> bool {
    segments::descriptor(m.selectors[SS]).is_some_and(|d| !d.big)
}

/// Whether a far transfer led from 64-bit code to other code with a stack above 4 GiB, which that code does not reach: what becomes of the
/// upper half of RSP, and whether a return address is pushed to where it points, is the CPU's.
pub fn is_stack_open(before: &Machine, after: &Machine) -> bool {
    let leaves = before.selectors[CS] == CODE_64 && after.selectors[CS] != CODE_64;
    leaves && (before.gpr[4] | after.gpr[4]) > u64::from(u32::MAX)
}

/// The number of a general register.
fn number(r: Register) -> usize {
    r.full_register() as usize - Register::RAX as usize
}

/// PUSH of a segment register with operands of 32 bits: the upper half becomes zero with AMD and stays with Intel (SDM vol. 2B,
/// PUSH).
pub fn is_segment_in_32_bits(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::Register
        && i.op0_register().is_segment_register()
        && i.code().op_code().operand_size() == 32
}

fn is_16(i: &Instruction) -> bool {
    use iced_x86::MemorySize::*;
    matches!(i.memory_size(), FpuEnv14 | FpuState94)
}

/// Whether an instruction that accesses memory in several pieces, in no stated order, may have done some of it before it
/// faulted, so that neither the bytes stored nor the address of the page fault are defined.
pub fn is_in_pieces(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        i.mnemonic(),
        Enter
            | Fxsave
            | Fxsave64
            | Fxrstor
            | Fxrstor64
            | Fnsave
            | Fnstenv
            | Frstor
            | Fldenv
            | Maskmovq
            | Maskmovdqu
            | Vmaskmovdqu
    ) || is_state(i)
}

/// Whether the operand is accessed in parts: far pointers, bounds, 80-bit numbers, and images.
fn has_parts(i: &Instruction) -> bool {
    use Mnemonic::*;
    is_in_pieces(i)
        || matches!(i.mnemonic(), Lds | Les | Lfs | Lgs | Lss | Bound)
        || forms::is_far(i.code()) && i.memory_size().size() != 0
        || i.memory_size().size() == 10
}

/// Whether the parts of the operand lie on either side of the end of 64 KiB, where 16-bit addresses begin again: with some CPUs those of
/// each part, with others only that of the first (SDM vol. 3B, 22.18.13). `offset` is the operand's in its segment.
pub fn is_wrap_open(i: &Instruction, offset: u64) -> bool {
    /// As much as the greatest image has.
    const IMAGE: u64 = 832;
    let no_register = i.memory_base() == Register::None && i.memory_index() == Register::None;
    let short = i.memory_base().is_gpr16()
        || i.memory_index().is_gpr16()
        || no_register && i.memory_displ_size() == 2
        || i.op_kinds().any(|k| k == OpKind::MemorySegDI);
    let bytes = match i.memory_size().size() as u64 {
        0 => IMAGE,
        n => n,
    };
    short && has_parts(i) && (offset & 0xffff) + bytes > 0x1_0000
}

/// Whether a faulting instruction may have stored some of what it stores, although where it faults is defined: PUSHA.
pub fn is_storing_in_pieces(i: &Instruction) -> bool {
    is_in_pieces(i) || matches!(i.mnemonic(), Mnemonic::Pusha | Mnemonic::Pushad)
}

/// XSAVE and its family.
fn is_state(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        i.mnemonic(),
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64
    )
}

/// Whether the order in which two faults are found is the CPU's: a call whose target and stack are both bad, both operands of CMPS, the parts of an operand, a vector that is misaligned and beyond a limit, an image of which a part cannot be reached and another is not canonical, misaligned or not to be loaded.
pub fn is_order_open(i: &Instruction, host: u32, guest: u32) -> bool {
    let bad = |vector: u32| matches!(vector, 12..=14 | 17);
    let vector = i.memory_size().size() >= 16 && host != guest;
    if is_segment_in_32_bits(i) && host != guest {
        // Four bytes are to be written, or two.
        return bad(host) || bad(guest);
    }
    let open = i.mnemonic() == Mnemonic::Call || is_address_open(i) || vector || has_parts(i);
    open && bad(host) && bad(guest)
}

/// Whether the page that a fault names is the CPU's choice: both operands of CMPS may fault.
pub fn is_address_open(i: &Instruction) -> bool {
    use Mnemonic::*;
    is_in_pieces(i) || matches!(i.mnemonic(), Cmpsb | Cmpsw | Cmpsd | Cmpsq)
}

/// Whether the alignment check of this access is the CPU's: of vectors, and of what has a stricter rule of its own (SDM
/// vol. 3A, 6.15, #AC).
pub fn is_alignment_open(i: &Instruction) -> bool {
    is_state(i)
        || i.memory_size().size() >= 16
            && !matches!(
                i.mnemonic(),
                Mnemonic::Fnstenv | Mnemonic::Fldenv | Mnemonic::Fnsave | Mnemonic::Frstor
            )
        || matches!(i.mnemonic(), Mnemonic::Maskmovdqu | Mnemonic::Maskmovq)
}

/// How far results may be from each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// Equal.
    Exact,
    /// The reciprocal approximations: a relative error below 1.5 * 2^-12 on either side (SDM vol. 2, RCPPS).
    Approximate,
    /// The x87 transcendentals: within 1 ulp of the true result on either side (SDM vol. 1, 8.3.10). C1 tells of a
    /// rounding that follows from the result. Outside of their range F2XM1 and FYL2XP1 are not defined at all.
    Transcendental,
}

/// How the results of this instruction are compared.
pub fn precision(i: &Instruction) -> Precision {
    use Mnemonic::*;
    match i.mnemonic() {
        Rcpps | Rcpss | Rsqrtps | Rsqrtss | Vrcpps | Vrcpss | Vrsqrtps | Vrsqrtss => {
            Precision::Approximate
        }
        Fsin | Fcos | Fsincos | Fptan | Fpatan | F2xm1 | Fyl2x | Fyl2xp1 => {
            Precision::Transcendental
        }
        _ => Precision::Exact,
    }
}

/// Whether the operand is outside of the range for which a transcendental is defined.
pub fn is_out_of_range(i: &Instruction, before: &Machine) -> bool {
    let [significand, sign] = before.fx.st[0];
    let exponent = sign & 0x7fff;
    // Not above 1 for F2XM1, not above 1 - sqrt(1/2), which is a bit more than a quarter, for FYL2XP1.
    let limit = match i.mnemonic() {
        Mnemonic::F2xm1 => (0x3fff, 1 << 63),
        Mnemonic::Fyl2xp1 => (0x3ffd, 0x95f6_19a0_0000_0000),
        _ => return false,
    };
    exponent != 0x7fff && (exponent, significand) > limit
}

/// Whether x87 state after this case says nothing: an MMX instruction that faulted, which by then may have turned the unit
/// over to MMX or not.
pub fn is_x87_open(i: &Instruction, completed: bool) -> bool {
    let mmx =
        (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_mm());
    mmx && !completed
}

/// What AMD's x87 comparisons set also when an unmasked exception is pending, and Intel's do not: the condition codes, and
/// the flags of FCOMI and its relatives.
pub fn sets_conditions_despite_exception(i: &Instruction, after: &Machine) -> bool {
    use Mnemonic::*;
    let compares = matches!(
        i.mnemonic(),
        Fcom | Fcomp
            | Fcompp
            | Fucom
            | Fucomp
            | Fucompp
            | Ficom
            | Ficomp
            | Fcomi
            | Fcomip
            | Fucomi
            | Fucomip
            | Ftst
    );
    compares && after.fx.fsw & 0x80 != 0
}

/// The bits of MXCSR that differ after an unmasked exception (19): for products of two denormals AMD's leave out PE.
pub fn mxcsr(i: &Instruction, vector: u32, after: &Machine) -> u32 {
    use Mnemonic::*;
    const UE: u32 = 0x10;
    const PE: u32 = 0x20;
    let multiplies = matches!(i.mnemonic(), Mulss | Mulsd | Mulps | Mulpd);
    if vector == 19 && multiplies && after.fx.mxcsr & UE != 0 {
        PE
    } else {
        0
    }
}
