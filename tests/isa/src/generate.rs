//! Makes cases: a form with random operand bits, and registers and memory that make the operands meaningful.
//!
//! Memory operands are aimed at the data pages by choosing the base register (or the displacement) once everything else is
//! fixed; most addresses are good, some misaligned, some across page edges, read-only, unmapped or not canonical.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as M, OpKind, Register,
};
use isa_native::{CODE, Case, DATA, ENTRY, Fx, Registers, WRITABLE_BYTES};

use crate::forms::{self, Form};
use crate::random::Random;

/// Arithmetic flags and DF.
const FLAGS: u64 = 0xcd5;
const PAGE: u64 = 4096;
const RSP: usize = 4;
const RBP: usize = 5;

/// A case and what iced makes of it.
#[derive(Clone, Debug)]
pub struct Generated {
    pub case: Case,
    pub instruction: Instruction,
}

/// One case of a form. None if the random bits made something else of it that is not compared.
pub fn case(r: &mut Random, form: &Form) -> Option<Generated> {
    let mut bytes = encode(r, form);
    let mut i = forms::instruction(&bytes)?;
    if !forms::is_compared(&i, &bytes) {
        return None;
    }
    let mut case = Case {
        code: [0xcc; 16],
        len: i.len() as u8,
        patches: [(0, 0); 2],
        patch_count: 0,
        before: registers(r),
    };
    prepare(r, &i, &mut case);
    let target = aim(r, &i, &mut case, &mut bytes);
    settle(r, &i, &mut case, target);
    if i.flow_control() != FlowControl::Next {
        shorten_branch(r, &i, &mut bytes);
    }
    i = forms::instruction(&bytes)?;
    case.code[..i.len()].copy_from_slice(&bytes[..i.len()]);
    Some(Generated {
        case,
        instruction: i,
    })
}

/// The form's bytes: random prefixes that mean little, random register extensions, ModRM, SIB, displacement, immediate.
fn encode(r: &mut Random, form: &Form) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    if r.chance(4) {
        bytes.push(r.pick(&[0x26, 0x2e, 0x36, 0x3e]));
    }
    if r.chance(6) {
        bytes.push(0x67);
    }
    if form.prefix.is_none() && r.chance(3) {
        bytes.push(r.pick(&[0x66, 0xf2, 0xf3]));
    }
    if form.memory && r.chance(3) {
        bytes.push(0xf0);
    }
    bytes.extend(form.prefix);
    let rex = 0x40 | u8::from(form.rex_w) << 3 | r.below(8) as u8;
    if form.rex_w || r.chance(50) {
        bytes.push(rex);
    }
    bytes.extend_from_slice(&form.opcode);
    bytes.push(r.pick(&form.modrm));
    while bytes.len() < 24 {
        bytes.push(r.word() as u8);
    }
    bytes.truncate(15);
    bytes
}

fn registers(r: &mut Random) -> Registers {
    let control = x87_control(r);
    let mut fx = Fx {
        control,
        status: x87_status(r, control),
        tags: if r.chance(60) {
            r.pick(&[0xff, 0x3f, 0x0f])
        } else {
            r.word() as u8
        },
        reserved: 0,
        opcode: 0,
        ip: 0,
        dp: 0,
        mxcsr: mxcsr(r),
        mxcsr_mask: 0xffff,
        st: [[0; 2]; 8],
        xmm: [[0; 2]; 16],
    };
    if r.chance(50) {
        // The registers in use lie from TOP on, as programs have them.
        fx.tags = (0xffu16 << 8 >> r.below(9)) as u8;
        fx.tags = fx.tags.rotate_left(u32::from(fx.status >> 11 & 7));
    }
    fx.st.fill_with(|| r.extended());
    fx.xmm.fill_with(|| r.vector());
    let mut gpr = [0; 16];
    gpr.fill_with(|| r.integer());
    gpr[RSP] = DATA + 0x400 + r.below(0x1800 / 8) * 8;
    Registers {
        gpr,
        rip: ENTRY,
        rflags: 0x202 | r.word() & FLAGS & !0x400 | u64::from(r.chance(15)) << 10,
        fx,
    }
}

fn x87_control(r: &mut Random) -> u16 {
    if r.chance(50) {
        return 0x37f;
    }
    let precision = r.pick(&[0u16, 2, 3]);
    let masks = if r.chance(70) {
        0x3f
    } else {
        r.word() as u16 & 0x3f
    };
    0x40 | precision << 8 | (r.below(4) as u16) << 10 | masks
}

/// A status word whose summary bits fit its flags and masks.
fn x87_status(r: &mut Random, control: u16) -> u16 {
    let mut flags = if r.chance(50) {
        0
    } else {
        r.word() as u16 & 0x7f
    };
    if !r.chance(4) {
        flags &= control | 0x40;
    }
    let pending = flags & !control & 0x3f != 0;
    flags | r.word() as u16 & 0x7f00 | if pending { 0x8080 } else { 0 }
}

fn mxcsr(r: &mut Random) -> u32 {
    let flags = if r.chance(50) {
        0
    } else {
        r.word() as u32 & 0x3f
    };
    match r.below(10) {
        0..5 => 0x1f80 | flags,
        5..8 => 0x1f80 | flags | r.word() as u32 & 0xe040,
        _ => r.word() as u32 & 0xffc0 | flags,
    }
}

/// Registers that an instruction reads besides its operands, and operands that need to be of a kind.
fn prepare(r: &mut Random, i: &Instruction, case: &mut Case) {
    let g = &mut case.before.gpr;
    let (rax, rcx, rdx, rbx) = (0, 1, 2, 3);
    match i.mnemonic() {
        M::Div | M::Idiv if r.chance(70) => {
            let sign = i.mnemonic() == M::Idiv && g[rax] >> 63 != 0;
            g[rdx] = if sign { u64::MAX } else { 0 };
            if r.chance(50) {
                g[rdx] = r.below(4);
            }
        }
        M::Rol
        | M::Ror
        | M::Rcl
        | M::Rcr
        | M::Shl
        | M::Sal
        | M::Shr
        | M::Sar
        | M::Shld
        | M::Shrd
            if r.chance(60) =>
        {
            g[rcx] = g[rcx] & !0xff | r.below(34);
        }
        M::Pcmpestri | M::Pcmpestrm => {
            let lengths = [0, 3, 8, 15, 16, 17, 100];
            (g[rax], g[rdx]) = (r.pick(&lengths), r.pick(&lengths));
            if r.chance(20) {
                g[rax] = g[rax].wrapping_neg();
            }
            if r.chance(20) {
                g[rdx] = r.integer();
            }
        }
        M::Xlatb => g[rbx] = aimed(r, 1),
        M::Leave | M::Enter => g[RBP] = DATA + 0x400 + r.below(0x1800),
        M::Loop | M::Loope | M::Loopne | M::Jrcxz | M::Jecxz => g[rcx] = r.below(3),
        _ => {}
    }
    if is_string(i) {
        g[rcx] = if r.chance(90) {
            r.below(40)
        } else {
            r.below(3000)
        };
        (g[6], g[7]) = (aimed(r, 8), aimed(r, 8));
        if r.chance(50) {
            // Equal text now and then, so that comparisons go on for a while.
            g[rax] = 0;
        }
    }
    if matches!(i.mnemonic(), M::Maskmovq | M::Maskmovdqu) {
        g[7] = aimed(r, 16);
    }
    // A wild POPF would load TF, and of two bad operands of POP it is not said which is found first.
    let stack_alone =
        uses_stack(i) && !forms::has_memory(i) && !matches!(i.mnemonic(), M::Popf | M::Popfq);
    if stack_alone && r.chance(8) {
        g[RSP] = aimed(r, 8);
    }
    // A bit offset in a register reaches far: keep most of them near.
    if matches!(i.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
        && i.op_kind(0) == OpKind::Memory
        && i.op_kind(1) == OpKind::Register
        && r.chance(95)
    {
        g[i.op1_register().number()] = (r.below(0x8000) as i64 - 0x4000) as u64;
    }
}

fn is_string(i: &Instruction) -> bool {
    i.op_kinds().any(|k| {
        !matches!(k, OpKind::Memory) && !matches!(i.mnemonic(), M::Maskmovq | M::Maskmovdqu)
    }) && forms::has_memory(i)
        && !i.op_kinds().any(|k| k == OpKind::Memory)
        && i.mnemonic() != M::Xlatb
}

fn uses_stack(i: &Instruction) -> bool {
    i.is_stack_instruction() || matches!(i.mnemonic(), M::Enter | M::Leave)
}

/// An address for `size` bytes: mostly in the writable pages and aligned.
fn aimed(r: &mut Random, size: u64) -> u64 {
    let writable = WRITABLE_BYTES as u64;
    match r.below(100) {
        0..60 => DATA + r.below((writable - 1024) / 16) * 16,
        60..75 => DATA + r.below(writable - 1024),
        75..83 => DATA + PAGE - r.below(size + 2),
        83..90 => DATA + writable - r.below(size + 2),
        90..94 => DATA + writable + r.below(PAGE / 16 - 64) * 16,
        94..97 => DATA + writable + PAGE - r.below(size + 2),
        97..99 => DATA - r.below(size + 2),
        _ => r.pick(&[
            0x8000_0000_0000_0000,
            0x7fff_ffff_ffff,
            0xffff_7fff_ffff_fff8,
            0,
        ]),
    }
}

/// Points the memory operand somewhere worth while, and says where it points.
fn aim(r: &mut Random, i: &Instruction, case: &mut Case, bytes: &mut [u8]) -> Option<u64> {
    if !i.op_kinds().any(|k| k == OpKind::Memory)
        || i.mnemonic() == M::Lea
        || i.mnemonic() == M::Xlatb
    {
        return None;
    }
    let size = match i.memory_size().size() as u64 {
        0 => 16,
        n => n,
    };
    let target = aimed(r, size);
    let (base, index) = (i.memory_base(), i.memory_index());
    let narrow = base.size() == 4 || index.size() == 4;
    let number = |x: Register| (x != Register::None && !x.is_ip()).then(|| x.number());
    let scaled = |g: &[u64; 16]| {
        let v = number(index).map_or(0, |n| g[n]);
        v.wrapping_mul(i.memory_index_scale().into())
    };
    let g = &mut case.before.gpr;
    if let Some(b) = number(base) {
        let rest = target.wrapping_sub(i.memory_displacement64());
        if number(index) == Some(b) {
            g[b] = rest / (1 + u64::from(i.memory_index_scale()));
        } else {
            g[b] = rest.wrapping_sub(scaled(g));
        }
        if narrow {
            g[b] = g[b] & 0xffff_ffff | r.word() << 32;
        }
        return Some(target);
    }
    if let Some(n) = number(index) {
        g[n] = r.below(64);
    }
    let mut decoder = Decoder::with_ip(64, bytes, ENTRY, DecoderOptions::NO_WBNOINVD);
    let decoded = decoder.decode();
    let offsets = decoder.get_constant_offsets(&decoded);
    let (at, len) = (offsets.displacement_offset(), offsets.displacement_size());
    let from = if base.is_ip() {
        ENTRY + i.len() as u64
    } else {
        scaled(g)
    };
    // What a displacement cannot hold is cut: then the address is a random one.
    let displacement = target.wrapping_sub(from);
    bytes[at..at + len].copy_from_slice(&displacement.to_le_bytes()[..len]);
    Some(target)
}

fn patch(case: &mut Case, address: u64, value: u64) {
    let n = usize::from(case.patch_count);
    if n < 2 && address >= DATA && address + 8 <= DATA + WRITABLE_BYTES as u64 {
        case.patches[n] = (address, value);
        case.patch_count += 1;
    }
}

/// An address of the code page that holds INT3, away from the instruction.
fn code_target(r: &mut Random) -> u64 {
    CODE + 0x100 + r.below(0x600)
}

/// Memory contents that an instruction needs to be interesting.
fn settle(r: &mut Random, i: &Instruction, case: &mut Case, target: Option<u64>) {
    let sp = case.before.gpr[RSP];
    let g = case.before.gpr;
    match i.mnemonic() {
        M::Ret => {
            let to = if r.chance(95) {
                code_target(r)
            } else {
                1 << 63 | r.word()
            };
            patch(case, sp, to);
        }
        M::Popf | M::Popfd | M::Popfq => {
            let flags = r.word() & FLAGS | 2;
            patch(case, sp, flags);
        }
        M::Jmp | M::Call => {
            // Which of a bad target and a bad stack is found first differs between CPUs.
            let stack = sp >= DATA + 16 && sp < DATA + WRITABLE_BYTES as u64;
            let to = if !stack || r.chance(95) {
                code_target(r)
            } else {
                1 << 63 | r.word()
            };
            match (i.op0_kind(), target) {
                (OpKind::Register, _) => case.before.gpr[i.op0_register().number()] = to,
                (OpKind::Memory, Some(t)) => patch(case, t, to),
                _ => {}
            }
        }
        M::Cmpxchg if r.chance(50) => {
            if let Some(t) = target {
                patch(case, t, g[0]);
            }
        }
        M::Cmpxchg8b if r.chance(50) => {
            if let Some(t) = target {
                patch(case, t, g[0] & 0xffff_ffff | g[2] << 32);
            }
        }
        M::Cmpxchg16b if r.chance(50) => {
            if let Some(t) = target {
                patch(case, t, g[0]);
                patch(case, t.wrapping_add(8), g[2]);
            }
        }
        M::Ldmxcsr => {
            if let (Some(t), true) = (target, r.chance(90)) {
                let v = mxcsr(r);
                patch(case, t, v.into());
            }
        }
        _ => floats_in_memory(r, i, case, target),
    }
}

/// Floating-point operands in memory of the kinds that registers get.
fn floats_in_memory(r: &mut Random, i: &Instruction, case: &mut Case, target: Option<u64>) {
    use iced_x86::MemorySize as S;
    let Some(t) = target else { return };
    match i.memory_size() {
        S::Float32 => {
            let v = u64::from(r.float()) | r.word() << 32;
            patch(case, t, v);
        }
        S::Float64 => {
            let v = r.double();
            patch(case, t, v);
        }
        S::Float80 => {
            let [low, high] = r.extended();
            patch(case, t, low);
            patch(case, t.wrapping_add(8), high);
        }
        S::Bcd => {
            // Digits; what other nibbles mean is not defined.
            let digits = |v: u64| (0..16).fold(0, |d, k| d | ((v >> (4 * k) & 15) % 10) << (4 * k));
            let (low, high) = (
                digits(r.word()),
                digits(r.word()) & 0xff | r.word() & 0x8000,
            );
            patch(case, t, low);
            patch(case, t.wrapping_add(8), high);
        }
        S::Packed128_Float32 | S::Packed128_Float64 => {
            let [low, high] = r.vector();
            patch(case, t, low);
            patch(case, t.wrapping_add(8), high);
        }
        _ => {}
    }
}

/// Keeps the target of a relative branch in the code page and off the instruction.
fn shorten_branch(r: &mut Random, i: &Instruction, bytes: &mut [u8]) {
    let mut decoder = Decoder::with_ip(64, bytes, ENTRY, DecoderOptions::NO_WBNOINVD);
    let decoded = decoder.decode();
    let offsets = decoder.get_constant_offsets(&decoded);
    let len = offsets.immediate_size();
    if !matches!(
        i.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    ) || len == 0
    {
        return;
    }
    let back = r.chance(50);
    let distance = match (len, back) {
        (1, false) => r.below(127) as i64,
        (1, true) => -32 - r.below(96) as i64,
        (_, false) => r.below(0x700) as i64,
        (_, true) => -32 - r.below(0x700) as i64,
    };
    let at = offsets.immediate_offset();
    bytes[at..at + len].copy_from_slice(&distance.to_le_bytes()[..len]);
}
