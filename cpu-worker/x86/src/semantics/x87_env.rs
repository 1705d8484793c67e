//! x87 control instructions: words, environments, whole states.
//!
//! Environment formats: Intel SDM vol. 1, 8.1.10, figures 8-9 to 8-12.

use super::x87::{self as unit, control_word, ready, st, st_mut};
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop};
use crate::op::{Arg, Op, RAX, Width};
use crate::state::{X87, X87_MASKS, cr, mode};

type Result = core::result::Result<(), Stop>;

/// WAIT: #NM only if CR0.MP and CR0.TS are both set.
pub fn wait(cpu: &mut Cpu, _: &Op) -> Result {
    const BOTH: u64 = cr::CR0_MP | cr::CR0_TS;
    if cpu.state.cr0 & BOTH == BOTH {
        return Err(cpu.raise(Fault::NM));
    }
    unit::pending(cpu)
}

/// FNENI, FNDISI and FNSETPM, which only the 8087 and the 80287 obeyed.
pub fn ignored(cpu: &mut Cpu, _: &Op) -> Result {
    unit::available(cpu)
}

pub fn fnclex(cpu: &mut Cpu, _: &Op) -> Result {
    unit::available(cpu)?;
    const FLAGS: u16 = 0x80ff;
    cpu.state.x87.status &= !FLAGS;
    Ok(())
}

/// FNINIT: the registers keep their values, tagged empty.
pub fn fninit(cpu: &mut Cpu, _: &Op) -> Result {
    unit::available(cpu)?;
    initialise(cpu);
    Ok(())
}

fn initialise(cpu: &mut Cpu) {
    cpu.state.x87 = X87 {
        regs: cpu.state.x87.regs,
        ..X87::default()
    };
    unit::adopt(cpu);
}

pub fn fldcw(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let address = cpu.ea(op, 2)?;
    let v = cpu.load(Width::W, address)? as u16;
    cpu.state.x87.control = control_word(v);
    unit::adopt(cpu);
    Ok(())
}

pub fn fnstcw(cpu: &mut Cpu, op: &Op) -> Result {
    unit::available(cpu)?;
    let address = cpu.ea(op, 2)?;
    let v = cpu.state.x87.control.into();
    cpu.store(Width::W, address, v)
}

/// FNSTSW to AX or memory.
pub fn fnstsw(cpu: &mut Cpu, op: &Op) -> Result {
    unit::available(cpu)?;
    let v = cpu.state.x87.status.into();
    if op.dst_arg == Arg::Mem {
        let address = cpu.ea(op, 2)?;
        return cpu.store(Width::W, address, v);
    }
    cpu.set_reg(Width::W, RAX, v);
    Ok(())
}

/// The tag word of the environment: two bits a physical register (valid, zero, special, empty).
fn full_tags(s: &X87) -> u16 {
    (0..8).fold(0, |word, p| {
        let [m, e] = s.regs[p];
        let tag = match e & 0x7fff {
            _ if s.tags >> p & 1 == 0 => 3,
            0 if m == 0 => 1,
            0 | 0x7fff => 2,
            _ if m >> 63 == 0 => 2,
            _ => 0,
        };
        word | tag << (2 * p)
    })
}

/// Only "empty" is taken from a tag word; the rest follows from the values.
fn abridged_tags(word: u16) -> u8 {
    (0..8).fold(0, |t, p| {
        if word >> (2 * p) & 3 == 3 {
            t
        } else {
            t | 1 << p
        }
    })
}

/// Whether instruction and data pointers are real-mode addresses.
fn real_format(cpu: &Cpu) -> bool {
    cpu.state.mode & mode::PROTECTED == 0 || cpu.state.mode & mode::V86 != 0
}

/// Seven words of the environment in the format of `w` (W or D).
fn environment(cpu: &Cpu, w: Width) -> [u32; 7] {
    let s = &cpu.state.x87;
    let (control, status, tags) = (s.control.into(), s.status.into(), full_tags(s).into());
    let (ip, dp, opcode) = (s.ip as u32, s.dp as u32, u32::from(s.opcode));
    let (cs, ds) = (u32::from(s.cs), u32::from(s.ds));
    match (w, real_format(cpu)) {
        (Width::W, false) => [control, status, tags, ip & 0xffff, cs, dp & 0xffff, ds],
        (Width::W, true) => {
            let (ip, dp) = (ip.wrapping_add(cs << 4), dp.wrapping_add(ds << 4));
            let high = |v: u32| (v >> 16 & 15) << 12;
            [
                control,
                status,
                tags,
                ip & 0xffff,
                high(ip) | opcode,
                dp & 0xffff,
                high(dp),
            ]
        }
        (_, false) => {
            let reserved = 0xffff_0000;
            let [c, st, t] = [control, status, tags].map(|v: u32| v | reserved);
            [c, st, t, ip, cs | opcode << 16, dp, ds | reserved]
        }
        (_, true) => {
            let reserved = 0xffff_0000;
            let [c, st, t] = [control, status, tags].map(|v: u32| v | reserved);
            let (ip, dp) = (ip.wrapping_add(cs << 4), dp.wrapping_add(ds << 4));
            let high = |v: u32| (v >> 16) << 12;
            [
                c,
                st,
                t,
                ip & 0xffff | reserved,
                high(ip) | opcode,
                dp & 0xffff | reserved,
                high(dp),
            ]
        }
    }
}

/// The unit with an environment loaded; the caller has it adopted.
fn with_environment(cpu: &Cpu, w: Width, e: [u32; 7]) -> X87 {
    let mut s = cpu.state.x87;
    s.control = control_word(e[0] as u16);
    s.status = e[1] as u16;
    s.tags = abridged_tags(e[2] as u16);
    if real_format(cpu) {
        let high = |v: u32| u64::from(v >> 12 & 0xffff) << 16;
        (s.ip, s.dp) = (
            u64::from(e[3] & 0xffff) | high(e[4]),
            u64::from(e[5] & 0xffff) | high(e[6]),
        );
        (s.cs, s.ds) = (0, 0);
        s.opcode = e[4] as u16 & 0x7ff;
    } else {
        (s.ip, s.dp) = (e[3].into(), e[5].into());
        (s.cs, s.ds) = (e[4] as u16, e[6] as u16);
        if w == Width::D {
            s.opcode = (e[4] >> 16) as u16 & 0x7ff;
        }
    }
    s
}

const fn environment_bytes(w: Width) -> u64 {
    7 * w.bytes() as u64
}

fn load_environment(cpu: &mut Cpu, w: Width, address: u64) -> core::result::Result<[u32; 7], Stop> {
    let mut e = [0; 7];
    for (i, v) in e.iter_mut().enumerate() {
        let at = i as u64 * u64::from(w.bytes());
        *v = cpu.load(w, address.wrapping_add(at))? as u32;
    }
    Ok(e)
}

/// Everything is checked for writing, then everything is written.
fn store_environment(cpu: &mut Cpu, w: Width, address: u64, bytes: u64) -> Result {
    cpu.check_store(address, bytes as u32)?;
    for (i, v) in environment(cpu, w).into_iter().enumerate() {
        let at = i as u64 * u64::from(w.bytes());
        cpu.store(w, address.wrapping_add(at), u64::from(v) & w.mask())?;
    }
    Ok(())
}

/// FNSTENV; afterwards all exceptions are masked.
pub fn fnstenv(cpu: &mut Cpu, op: &Op) -> Result {
    unit::available(cpu)?;
    let bytes = environment_bytes(op.width);
    let address = cpu.ea(op, bytes as u32)?;
    store_environment(cpu, op.width, address, bytes)?;
    cpu.state.x87.control |= X87_MASKS;
    unit::adopt(cpu);
    Ok(())
}

pub fn fldenv(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let address = cpu.ea(op, environment_bytes(op.width) as u32)?;
    let e = load_environment(cpu, op.width, address)?;
    cpu.state.x87 = with_environment(cpu, op.width, e);
    unit::adopt(cpu);
    Ok(())
}

/// FNSAVE: the environment and the eight registers from ST(0) on; then as FNINIT.
pub fn fnsave(cpu: &mut Cpu, op: &Op) -> Result {
    unit::available(cpu)?;
    let head = environment_bytes(op.width);
    let address = cpu.ea(op, head as u32 + 80)?;
    store_environment(cpu, op.width, address, head + 80)?;
    for i in 0..8u8 {
        let v = st(&cpu.state.x87, i);
        let at = address.wrapping_add(head + 10 * u64::from(i));
        super::x87_arith::store_80(cpu, at, v)?;
    }
    initialise(cpu);
    Ok(())
}

pub fn frstor(cpu: &mut Cpu, op: &Op) -> Result {
    ready(cpu)?;
    let head = environment_bytes(op.width);
    let address = cpu.ea(op, head as u32 + 80)?;
    let e = load_environment(cpu, op.width, address)?;
    let mut s = with_environment(cpu, op.width, e);
    for i in 0..8u8 {
        let at = address.wrapping_add(head + 10 * u64::from(i));
        let low = cpu.load(Width::Q, at)?;
        let high = cpu.load(Width::W, at.wrapping_add(8))?;
        *st_mut(&mut s, i) = [low, high];
    }
    cpu.state.x87 = s;
    unit::adopt(cpu);
    Ok(())
}
