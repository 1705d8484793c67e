//! Makes the instruction's memory operands lie where they are to lie.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use isa_native::Machine;
use isa_native::layout::{CODE, CODE_LEN, DATA, DATA_LEN};
use isa_native::segments::{self, CS, DS, ES, FS, GS, SS};

use super::code::{Bytes, has_memory, is_gather};
use super::{far, save_area, segments as choice};
use crate::forms;
use crate::rng::Rng;
use crate::values;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// Sets registers, and displacements in the code, and gives the address of the explicit memory operand.
pub(super) fn aim(code: &mut Bytes, m: &mut Machine, rng: &mut Rng) -> Option<u64> {
    let i = code.instruction;
    m.gpr[RSP] = stack(m, rng);
    if matches!(i.mnemonic(), Mnemonic::Leave | Mnemonic::Enter) {
        m.gpr[RBP] = stack(m, rng);
    }
    strings(&i, m, rng);
    small_numbers(&i, m, rng);
    if save_area::is_of_family(&i) {
        save_area::ask(&i, m, rng);
    }
    selectors(&i, m, rng);
    if forms::is_far(i.code()) {
        far::aim(code, m, rng);
    }
    if !has_memory(&i) {
        return None;
    }
    if is_gather(i.code()) {
        indices(&i, m, rng);
    }
    if matches!(i.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) && rng.chance(80) {
        return None;
    }
    let bytes = match save_area::is_of_family(&i) {
        true => save_area::BYTES as u64,
        false => (i.memory_size().size() as u64).max(1),
    };
    let wanted = data_address(m.selectors[segment_place(i.memory_segment())], bytes, rng);
    solve(code, m, wanted, rng);
    let at = effective_address(&code.instruction, m);
    enrich(&code.instruction, m, at, rng);
    Some(at)
}

/// A stack pointer: mostly aligned and well inside.
fn stack(m: &Machine, rng: &mut Rng) -> u64 {
    let at = match rng.below(10) {
        0 => data_address(m.selectors[SS], 8, rng),
        1 => DATA + 2048 + rng.below(2048),
        _ => (DATA + 2048 + rng.below(4096)) & !7,
    };
    let offset = at.wrapping_sub(segments::base(m.selectors[SS]));
    match segments::descriptor(m.selectors[SS]) {
        // Only SP counts.
        Some(d) if !d.big => offset & 0xffff | if rng.chance(30) { rng.word() << 16 } else { 0 },
        _ => offset,
    }
}

/// Where an operand of `bytes` in this segment lies; with a liking for the ends of the segment.
fn data_address(selector: u16, bytes: u64, rng: &mut Rng) -> u64 {
    match segments::descriptor(selector) {
        Some(d) if rng.chance(15) => {
            let edge = u64::from(d.base) + rng.pick(&[u64::from(d.limit_in_bytes()) + 1, 0x1_0000]);
            (edge + 4).wrapping_sub(rng.below(bytes.min(64) + 8))
        }
        _ => values::data_address(rng, bytes),
    }
}

/// An offset in the code segment to go to.
fn target(m: &Machine, rng: &mut Rng) -> u64 {
    let base = segments::base(m.selectors[CS]);
    (CODE + rng.below(CODE_LEN as u64)).wrapping_sub(base)
}

/// Source and destination of string instructions, and implicit pointers like them.
fn strings(i: &Instruction, m: &mut Machine, rng: &mut Rng) {
    let pointed = i.is_string_instruction()
        || matches!(
            i.mnemonic(),
            Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Xlatb | Mnemonic::Clzero
        );
    if !pointed {
        return;
    }
    let selector = m.selectors[segment_place(i.memory_segment())];
    let segment = segment_base(i.memory_segment(), m);
    m.gpr[RSI] = data_address(selector, 8, rng).wrapping_sub(segment);
    m.gpr[RDI] = data_address(m.selectors[ES], 8, rng);
    let masked = matches!(i.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu);
    let to = if masked {
        segment
    } else {
        segments::base(m.selectors[ES])
    };
    m.gpr[RDI] = m.gpr[RDI].wrapping_sub(to);
    m.gpr[RBX] = values::data_address(rng, 256).wrapping_sub(segment);
    if i.mnemonic() == Mnemonic::Clzero {
        m.gpr[RAX] = m.gpr[RSI];
    }
    m.gpr[RCX] = match rng.below(20) {
        0 => rng.word(),
        1 => rng.below(2000),
        _ => rng.below(24),
    };
    if rng.chance(20) {
        // Only ECX counts, and only ESI and EDI, where the address size is 32 bits.
        m.gpr[RCX] |= rng.word() << 32;
    }
    if m.selectors[CS] & 4 != 0 && rng.chance(20) {
        // Likewise where it is 16.
        for r in [RCX, RSI, RDI, RBX] {
            m.gpr[r] ^= rng.word() << 16;
        }
    }
    // Overlapping copies, and comparisons that go on.
    if rng.chance(15) {
        m.gpr[RSI] = m.gpr[RDI]
            .wrapping_add(rng.below(33) + to)
            .wrapping_sub(16 + segment);
    }
    if rng.chance(30) {
        let byte = rng.pick(&[0, 0xff, 0x55]);
        m.gpr[RAX] = u64::from_le_bytes([byte; 8]);
        let from = rng.below(DATA_LEN as u64 / 2) as usize;
        m.memory[from..][..DATA_LEN / 2].fill(byte);
    }
}

/// Selectors in registers and on the stack, for what loads or looks at them.
fn selectors(i: &Instruction, m: &mut Machine, rng: &mut Rng) {
    if !choice::takes_selector(i) {
        return;
    }
    let selector = choice::to_load(i, rng);
    let source = i.op_register(i.op_count() - 1);
    if i.mnemonic() == Mnemonic::Pop {
        far::put_on_stack(m, &selector.to_le_bytes());
    } else if let Some(r) = general(source) {
        m.gpr[r] = m.gpr[r] & !0xffff | u64::from(selector);
    }
}

/// Counts, bit offsets and divisors that are not hopeless.
fn small_numbers(i: &Instruction, m: &mut Machine, rng: &mut Rng) {
    use Mnemonic::*;
    match i.mnemonic() {
        Bt | Bts | Btr | Btc if i.op_kind(0) == OpKind::Memory && rng.chance(90) => {
            if let Some(r) = general(i.op1_register()) {
                m.gpr[r] = rng.below(8192).wrapping_sub(4096);
            }
        }
        Div | Idiv if rng.chance(70) => {
            m.gpr[RDX] = if rng.chance(50) {
                rng.below(256)
            } else {
                ((m.gpr[RAX] as i64) >> 63) as u64
            };
            if rng.chance(50) {
                m.gpr[RAX] &= 0xff;
            }
        }
        Loop | Loope | Loopne | Jrcxz | Jecxz if rng.chance(60) => {
            let high = if rng.chance(30) { rng.word() << 32 } else { 0 };
            m.gpr[RCX] = rng.below(3) | high;
        }
        Shl | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd if rng.chance(60) => {
            m.gpr[RCX] = m.gpr[RCX] & !0xff | rng.below(72);
        }
        // An address to go to, or one that is not canonical.
        Jmp | Call if rng.chance(80) => {
            if let Some(r) = general(i.op0_register()) {
                m.gpr[r] = match rng.chance(30) {
                    true => target(m, rng),
                    false => values::pointer(rng),
                };
            }
        }
        Wrfsbase | Wrgsbase if rng.chance(80) => {
            if let Some(r) = general(i.op0_register()) {
                m.gpr[r] &= 0x7fff_ffff_ffff;
            }
        }
        Pcmpestri | Pcmpestrm | Pcmpestri64 | Pcmpestrm64 if rng.chance(80) => {
            m.gpr[RAX] = rng.below(20).wrapping_sub(2);
            m.gpr[RDX] = rng.below(20).wrapping_sub(2);
        }
        _ => {}
    }
}

/// Indices of a gather that mostly stay near the operand's address.
fn indices(i: &Instruction, m: &mut Machine, rng: &mut Rng) {
    let n = i.memory_index().number();
    let wide = rng.chance(50);
    for half in [&mut m.fx.xmm[n], &mut m.ymm_high[n]] {
        for word in half {
            let near = |rng: &mut Rng| {
                let spread = if rng.chance(90) { 128 } else { 4096 };
                rng.below(spread).wrapping_sub(64)
            };
            *word = match rng.below(20) {
                0 => rng.word(),
                _ if wide => near(rng),
                _ => near(rng) & 0xffff_ffff | near(rng) << 32,
            };
        }
    }
}

/// Chooses base, index and displacement so that the operand lies at `wanted`, as nearly as the form allows.
fn solve(code: &mut Bytes, m: &mut Machine, wanted: u64, rng: &mut Rng) {
    let i = code.instruction;
    let offset = wanted.wrapping_sub(segment_base(i.memory_segment(), m));
    let (base, index) = (i.memory_base(), i.memory_index());
    if base.is_ip() {
        let next = m.rip.wrapping_add(code.len as u64);
        patch(code, offset.wrapping_sub(next));
        return;
    }
    let scale = i.memory_index_scale() as u64;
    let disp = i.memory_displacement64();
    let rest = offset.wrapping_sub(disp);
    match (general(base), general(index)) {
        (None, None) => patch(code, offset),
        (Some(b), None) => m.gpr[b] = rest,
        (Some(b), Some(x)) if b == x => m.gpr[b] = divide(rest, scale + 1),
        (Some(b), Some(x)) => {
            if rng.chance(60) {
                m.gpr[x] = rng.below(4096).wrapping_sub(2048);
            }
            m.gpr[b] = rest.wrapping_sub(m.gpr[x].wrapping_mul(scale));
        }
        (None, Some(x)) => {
            m.gpr[x] = rng.below(4096);
            patch(code, offset.wrapping_sub(m.gpr[x].wrapping_mul(scale)));
        }
    }
    if rng.chance(30) && is_cut(&i) {
        // Upper halves of address registers do not count under 67h.
        for r in [base, index].into_iter().filter_map(general) {
            m.gpr[r] ^= rng.word() << 32;
        }
    }
    if rng.chance(30) && is_cut_to_16(&i) {
        for r in [base, index].into_iter().filter_map(general) {
            m.gpr[r] ^= rng.word() << 16;
        }
    }
}

/// `n / by` modulo 2^64, rounded down by a factor of two where `by` is even.
fn divide(n: u64, by: u64) -> u64 {
    if by == 2 {
        return n >> 1;
    }
    // Newton's iteration for the inverse of an odd number: each step doubles the bits that are right.
    let mut inverse = by;
    for _ in 0..6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(by.wrapping_mul(inverse)));
    }
    n.wrapping_mul(inverse)
}

/// Replaces the displacement in the bytes, if it is there, and reads them again.
fn patch(code: &mut Bytes, disp: u64) {
    let (at, len) = (
        code.offsets.displacement_offset(),
        code.offsets.displacement_size(),
    );
    if len
        < if is_cut_to_16(&code.instruction) {
            2
        } else {
            4
        }
    {
        return;
    }
    code.bytes[at..at + len].copy_from_slice(&disp.to_le_bytes()[..len]);
    if let Some(new) = super::code::decode(code.bits, code.bytes) {
        *code = new;
    }
}

/// Whether the address is cut to 32 bits.
fn is_cut(i: &Instruction) -> bool {
    i.memory_base().is_gpr32() || i.memory_index().is_gpr32()
}

/// Whether the address is cut to 16 bits.
fn is_cut_to_16(i: &Instruction) -> bool {
    let no_register = i.memory_base() == Register::None && i.memory_index() == Register::None;
    i.memory_base().is_gpr16()
        || i.memory_index().is_gpr16()
        || no_register && i.memory_displ_size() == 2
}

/// The linear address of the explicit memory operand, RIP-relative ones seen from the case's RIP.
fn effective_address(i: &Instruction, m: &Machine) -> u64 {
    let value = |r: Register| general(r).map_or(0, |r| m.gpr[r]);
    let mut offset = value(i.memory_base())
        .wrapping_add(value(i.memory_index()).wrapping_mul(i.memory_index_scale() as u64))
        .wrapping_add(i.memory_displacement64());
    if i.memory_base().is_ip() {
        // iced gives the target of an instruction at address 0.
        offset = offset.wrapping_add(m.rip);
    }
    let no_register = i.memory_base() == Register::None && i.memory_index() == Register::None;
    let cut =
        is_cut(i) || i.memory_base() == Register::EIP || no_register && i.memory_displ_size() == 4;
    if cut {
        offset &= 0xffff_ffff;
    }
    if is_cut_to_16(i) {
        offset &= 0xffff;
    }
    offset.wrapping_add(segment_base(i.memory_segment(), m))
}

fn segment_base(r: Register, m: &Machine) -> u64 {
    match r {
        Register::FS => m.fs_base,
        Register::GS => m.gs_base,
        _ => segments::base(m.selectors[segment_place(r)]),
    }
}

/// A segment register's place among the selectors; that of DS for none.
pub fn segment_place(r: Register) -> usize {
    match r {
        Register::ES => ES,
        Register::CS => CS,
        Register::SS => SS,
        Register::FS => FS,
        Register::GS => GS,
        _ => DS,
    }
}

/// The number of a general register of any width but AH to BH.
fn general(r: Register) -> Option<usize> {
    if !r.is_gpr() {
        return None;
    }
    let full = r.full_register();
    Some(full as usize - Register::RAX as usize)
}

/// Gives the operand's memory a value that the instruction is interested in.
fn enrich(i: &Instruction, m: &mut Machine, at: u64, rng: &mut Rng) {
    use Mnemonic::*;
    let offset = at.wrapping_sub(DATA);
    let bytes = i.memory_size().size();
    let room = |n: usize| offset <= (DATA_LEN - n.min(DATA_LEN)) as u64;
    let at = offset as usize;
    let mut put = |bytes: &[u8]| m.memory[at..at + bytes.len()].copy_from_slice(bytes);
    match i.mnemonic() {
        Cmpxchg8b if room(8) && rng.chance(50) => {
            put(&(m.gpr[RAX] as u32).to_le_bytes());
            m.memory[at + 4..at + 8].copy_from_slice(&(m.gpr[RDX] as u32).to_le_bytes());
        }
        Cmpxchg16b if room(16) && rng.chance(50) => {
            put(&m.gpr[RAX].to_le_bytes());
            m.memory[at + 8..at + 16].copy_from_slice(&m.gpr[RDX].to_le_bytes());
        }
        Cmpxchg if room(8) && rng.chance(50) => put(&m.gpr[RAX].to_le_bytes()[..bytes.min(8)]),
        Fld | Fstp | Fbld if bytes == 10 && room(10) => {
            let [significand, sign] = values::extended(rng);
            put(&significand.to_le_bytes());
            m.memory[at + 8..at + 10].copy_from_slice(&(sign as u16).to_le_bytes());
            if i.mnemonic() == Fbld && rng.chance(90) {
                for byte in &mut m.memory[at..at + 9] {
                    *byte = (rng.below(10) | rng.below(10) << 4) as u8;
                }
                m.memory[at + 9] = rng.pick(&[0, 0x80]);
            }
        }
        Ldmxcsr | Vldmxcsr if room(4) => put(&loadable_mxcsr(rng).to_le_bytes()),
        Fldcw if room(2) => put(&(rng.word() as u16 & 0xf40 | 0x7f).to_le_bytes()),
        Fxrstor | Fxrstor64 if room(512) => loadable_image(&mut m.memory[at..], rng),
        Xrstor | Xrstor64 if room(save_area::BYTES) => {
            save_area::fill(&mut m.memory[at..], rng);
            loadable_image(&mut m.memory[at..], rng);
        }
        _ if choice::takes_selector(i) && room(bytes.max(2)) => {
            // Of a far pointer it is the end.
            let at = at + bytes.max(2) - 2;
            m.memory[at..at + 2].copy_from_slice(&choice::to_load(i, rng).to_le_bytes());
        }
        _ if forms::is_far(i.code()) && room(bytes) => {
            let pointer = far::pointer(i, m, bytes - 2, rng);
            m.memory[at..at + bytes].copy_from_slice(&pointer);
        }
        Fldenv | Frstor if room(28) => {
            let fcw = rng.word() as u16 & 0xf00 | 0x7f;
            put(&fcw.to_le_bytes());
            let fsw = rng.word() as u16 & 0x7f00;
            m.memory[at + 4..at + 6].copy_from_slice(&fsw.to_le_bytes());
        }
        _ if i.memory_size() == iced_x86::MemorySize::Float64 && room(8) && rng.chance(70) => {
            put(&values::double(rng).to_le_bytes());
        }
        _ if i.memory_size() == iced_x86::MemorySize::Float32 && room(4) && rng.chance(70) => {
            put(&values::single(rng).to_le_bytes());
        }
        _ if i.memory_size().is_packed() && bytes == 16 && room(16) && rng.chance(70) => {
            let v = values::vector(rng);
            put(&v[0].to_le_bytes());
            m.memory[at + 8..at + 16].copy_from_slice(&v[1].to_le_bytes());
        }
        _ => {}
    }
}

/// Makes an FXSAVE image loadable: control words without reserved bits, exceptions masked, nothing pending.
fn loadable_image(image: &mut [u8], rng: &mut Rng) {
    let fcw = rng.word() as u16 & 0xf00 | 0x7f;
    image[..2].copy_from_slice(&fcw.to_le_bytes());
    let fsw = rng.word() as u16 & 0x7f00;
    image[2..4].copy_from_slice(&fsw.to_le_bytes());
    image[24..28].copy_from_slice(&loadable_mxcsr(rng).to_le_bytes());
}

/// An MXCSR, mostly without reserved bits. The bit of AMD's misaligned mode, which no CPU of ours has, is never set.
fn loadable_mxcsr(rng: &mut Rng) -> u32 {
    const MISALIGNED: u32 = 1 << 17;
    rng.word() as u32 & if rng.chance(90) { 0xffff } else { !MISALIGNED }
}
