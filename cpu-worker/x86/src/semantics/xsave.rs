//! FXSAVE, FXRSTOR and the XSAVE family: x87, SSE and AVX state as one area of memory.
//!
//! Layouts: Intel SDM vol. 1, 10.5.1 (legacy region) and 13.4 (header, standard and compacted form). What counts as "in
//! use" is decided by value: a component that equals its initial configuration is not.
//!
//! Invariant: an area is read whole before anything is changed, and checked for writing before anything is stored.

use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop};
use crate::features::Features;
use crate::op::{Op, OpFlags, RAX, RCX, RDX, Width};
use crate::semantics::sse_fn::{MXCSR_MASK, set_mxcsr};
use crate::semantics::x87;
use crate::state::{MXCSR_DEFAULT, X87, cr};

type Done = Result<(), Stop>;

/// State components (bits of XCR0).
pub const COMPONENT_X87: u64 = 1;
pub const COMPONENT_SSE: u64 = 2;
pub const COMPONENT_AVX: u64 = 4;
/// Bytes of the legacy region. The last 96 are neither written nor read, but must be there.
const LEGACY_BYTES: u64 = 512;
/// Where the header is, and the AVX component in both forms (nothing lies before it).
const HEADER: u64 = 512;
const AVX: u64 = 576;
const AVX_BYTES: u64 = 256;
/// XCOMP_BV: the area is compacted.
const COMPACTED: u64 = 1 << 63;

/// Words 0 to 2 of the legacy region: control, status, tags, opcode; instruction and data pointer.
fn x87_head(s: &X87, wide: bool) -> [u64; 3] {
    let first = u64::from(s.control)
        | u64::from(s.status) << 16
        | u64::from(s.tags) << 32
        | u64::from(s.opcode) << 48;
    if wide {
        [first, s.ip, s.dp]
    } else {
        let far = |offset: u64, selector: u16| offset & 0xffff_ffff | u64::from(selector) << 32;
        [first, far(s.ip, s.cs), far(s.dp, s.ds)]
    }
}

fn set_x87_head(s: &mut X87, head: [u64; 3], wide: bool) {
    s.control = x87::control_word(head[0] as u16);
    s.status = (head[0] >> 16) as u16;
    s.tags = (head[0] >> 32) as u8;
    s.opcode = (head[0] >> 48) as u16 & 0x7ff;
    let part = |v: u64| if wide { v } else { v & 0xffff_ffff };
    (s.ip, s.dp) = (part(head[1]), part(head[2]));
    let selector = |v: u64| if wide { 0 } else { (v >> 32) as u16 };
    (s.cs, s.ds) = (selector(head[1]), selector(head[2]));
    x87::update_summary(s);
}

/// How many XMM registers this mode has.
fn xmm_count(op: &Op) -> usize {
    if op.has(OpFlags::LONG) { 16 } else { 8 }
}

fn load(cpu: &mut Cpu, base: u64, offset: u64) -> Result<u64, Stop> {
    cpu.load(Width::Q, base.wrapping_add(offset))
}

fn store(cpu: &mut Cpu, base: u64, offset: u64, v: u64) -> Done {
    cpu.store(Width::Q, base.wrapping_add(offset), v)
}

/// The area's address, aligned or #GP(0).
fn area(cpu: &mut Cpu, op: &Op, bytes: u64, align: u64) -> Result<u64, Stop> {
    let base = cpu.ea(op, bytes as u32)?;
    if base & (align - 1) != 0 {
        return Err(cpu.gp(0));
    }
    Ok(base)
}

/// #NM of the legacy instructions.
fn legacy_ready(cpu: &mut Cpu) -> Done {
    if cpu.state.cr0 & (cr::CR0_EM | cr::CR0_TS) != 0 {
        return Err(cpu.raise(Fault::NM));
    }
    Ok(())
}

fn store_x87(cpu: &mut Cpu, base: u64, wide: bool) -> Done {
    let head = x87_head(&cpu.state.x87, wide);
    for (i, v) in head.into_iter().enumerate() {
        store(cpu, base, 8 * i as u64, v)?;
    }
    for i in 0..8u8 {
        let [low, high] = x87::st(&cpu.state.x87, i);
        let at = 32 + 16 * u64::from(i);
        store(cpu, base, at, low)?;
        store(cpu, base, at + 8, high & 0xffff)?;
    }
    Ok(())
}

fn store_mxcsr(cpu: &mut Cpu, base: u64) -> Done {
    let v = u64::from(cpu.state.mxcsr) | u64::from(MXCSR_MASK) << 32;
    store(cpu, base, 24, v)
}

fn store_vectors(cpu: &mut Cpu, at: u64, vectors: &[[u64; 2]]) -> Done {
    for (i, v) in vectors.iter().enumerate() {
        store(cpu, at, 16 * i as u64, v[0])?;
        store(cpu, at, 16 * i as u64 + 8, v[1])?;
    }
    Ok(())
}

fn load_vectors(cpu: &mut Cpu, at: u64, n: usize) -> Result<[[u64; 2]; 16], Stop> {
    let mut v = [[0; 2]; 16];
    for (i, x) in v.iter_mut().enumerate().take(n) {
        *x = [
            load(cpu, at, 16 * i as u64)?,
            load(cpu, at, 16 * i as u64 + 8)?,
        ];
    }
    Ok(v)
}

/// The x87 part of an area as a new unit.
fn load_x87(cpu: &mut Cpu, base: u64, wide: bool) -> Result<X87, Stop> {
    let mut s = cpu.state.x87;
    let head = [
        load(cpu, base, 0)?,
        load(cpu, base, 8)?,
        load(cpu, base, 16)?,
    ];
    set_x87_head(&mut s, head, wide);
    let stack = load_vectors(cpu, base.wrapping_add(32), 8)?;
    for (i, v) in stack.into_iter().enumerate().take(8) {
        *x87::st_mut(&mut s, i as u8) = [v[0], v[1] & 0xffff];
    }
    Ok(s)
}

fn load_mxcsr(cpu: &mut Cpu, base: u64) -> Result<u32, Stop> {
    let v = load(cpu, base, 24)? as u32;
    if v & !MXCSR_MASK != 0 {
        return Err(cpu.gp(0));
    }
    Ok(v)
}

pub fn fxsave(cpu: &mut Cpu, op: &Op) -> Done {
    legacy_ready(cpu)?;
    let base = area(cpu, op, LEGACY_BYTES, 16)?;
    let n = xmm_count(op);
    // All of the image must be writable, also what is not written.
    cpu.check_store(base, LEGACY_BYTES as u32)?;
    store_x87(cpu, base, op.width == Width::Q)?;
    store_mxcsr(cpu, base)?;
    let xmm = cpu.state.xmm;
    store_vectors(cpu, base.wrapping_add(160), &xmm[..n])
}

pub fn fxrstor(cpu: &mut Cpu, op: &Op) -> Done {
    legacy_ready(cpu)?;
    let base = area(cpu, op, LEGACY_BYTES, 16)?;
    cpu.load(Width::B, base.wrapping_add(LEGACY_BYTES - 1))?;
    let n = xmm_count(op);
    let x87 = load_x87(cpu, base, op.width == Width::Q)?;
    let mxcsr = load_mxcsr(cpu, base)?;
    let xmm = load_vectors(cpu, base.wrapping_add(160), n)?;
    cpu.state.x87 = x87;
    cpu.state.xmm[..n].copy_from_slice(&xmm[..n]);
    set_mxcsr(cpu, mxcsr);
    Ok(())
}

/// #UD and #NM of the XSAVE family; gives the components asked for.
fn extended_ready(cpu: &mut Cpu) -> Result<u64, Stop> {
    if cpu.state.cr4 & cr::CR4_OSXSAVE == 0 {
        return Err(cpu.raise(Fault::UD));
    }
    if cpu.state.cr0 & cr::CR0_TS != 0 {
        return Err(cpu.raise(Fault::NM));
    }
    let asked = cpu.reg(Width::D, RAX) | cpu.reg(Width::D, RDX) << 32;
    Ok(asked & cpu.state.xcr0)
}

/// The components that differ from their initial configuration.
fn in_use(cpu: &Cpu, op: &Op) -> u64 {
    let s = &cpu.state;
    let n = xmm_count(op);
    let any = |v: &[[u64; 2]]| v.iter().any(|x| *x != [0; 2]);
    let bit = |on: bool, c: u64| if on { c } else { 0 };
    bit(s.x87 != X87::default(), COMPONENT_X87)
        | bit(any(&s.xmm[..n]), COMPONENT_SSE)
        | bit(any(&s.ymm_high[..n]), COMPONENT_AVX)
}

/// Bytes of an area with these components.
fn area_bytes(components: u64) -> u64 {
    if components & COMPONENT_AVX != 0 {
        AVX + AVX_BYTES
    } else {
        AVX
    }
}

/// Stores the chosen components; the header is the caller's.
fn store_components(cpu: &mut Cpu, op: &Op, base: u64, components: u64) -> Done {
    let n = xmm_count(op);
    if components & COMPONENT_X87 != 0 {
        store_x87(cpu, base, op.width == Width::Q)?;
    }
    if components & COMPONENT_SSE != 0 {
        let xmm = cpu.state.xmm;
        store_vectors(cpu, base.wrapping_add(160), &xmm[..n])?;
    }
    if components & COMPONENT_AVX != 0 {
        let ymm = cpu.state.ymm_high;
        store_vectors(cpu, base.wrapping_add(AVX), &ymm[..n])?;
    }
    Ok(())
}

/// XSAVE (`optimised`: XSAVEOPT, which leaves out what is not in use).
fn save_standard(cpu: &mut Cpu, op: &Op, optimised: bool) -> Done {
    let asked = extended_ready(cpu)?;
    let base = area(cpu, op, area_bytes(asked), 64)?;
    cpu.check_store(base, area_bytes(asked) as u32)?;
    let used = in_use(cpu, op);
    let old = load(cpu, base, HEADER)?;
    store_components(cpu, op, base, if optimised { asked & used } else { asked })?;
    if asked & (COMPONENT_SSE | COMPONENT_AVX) != 0 {
        store_mxcsr(cpu, base)?;
    }
    store(cpu, base, HEADER, old & !asked | asked & used)
}

pub fn xsave(cpu: &mut Cpu, op: &Op) -> Done {
    save_standard(cpu, op, false)
}

pub fn xsaveopt(cpu: &mut Cpu, op: &Op) -> Done {
    save_standard(cpu, op, true)
}

/// XSAVEC: compacted form; SSE counts as in use also for an MXCSR that is not the default.
pub fn xsavec(cpu: &mut Cpu, op: &Op) -> Done {
    let asked = extended_ready(cpu)?;
    let base = area(cpu, op, area_bytes(asked), 64)?;
    cpu.check_store(base, area_bytes(asked) as u32)?;
    let mut used = in_use(cpu, op);
    if cpu.state.mxcsr != MXCSR_DEFAULT {
        used |= COMPONENT_SSE;
    }
    store_components(cpu, op, base, asked & used)?;
    if asked & used & COMPONENT_SSE != 0 {
        store_mxcsr(cpu, base)?;
    }
    store(cpu, base, HEADER, asked & used)?;
    store(cpu, base, HEADER + 8, asked | COMPACTED)
}

/// The header's checks (SDM vol. 1, 13.8.1 and 13.8.2); gives XSTATE_BV and whether the area is compacted.
fn header(cpu: &mut Cpu, base: u64) -> Result<(u64, bool), Stop> {
    let present = load(cpu, base, HEADER)?;
    let form = load(cpu, base, HEADER + 8)?;
    let mut rest = 0;
    for i in 2..8 {
        rest |= load(cpu, base, HEADER + 8 * i)?;
    }
    let compacted = form & COMPACTED != 0;
    let xcr0 = cpu.state.xcr0;
    let good = if compacted {
        cpu.features().contains(Features::XSAVEC)
            && form & !(xcr0 | COMPACTED) == 0
            && present & !form == 0
            && rest == 0
    } else {
        let reserved = load(cpu, base, HEADER + 16)?;
        form == 0 && present & !xcr0 == 0 && reserved == 0
    };
    if good {
        Ok((present, compacted))
    } else {
        Err(cpu.gp(0))
    }
}

pub fn xrstor(cpu: &mut Cpu, op: &Op) -> Done {
    let asked = extended_ready(cpu)?;
    let base = area(cpu, op, AVX, 64)?;
    let n = xmm_count(op);
    let (present, compacted) = header(cpu, base)?;
    let from_area = asked & present;
    let mut x87 = X87::default();
    if from_area & COMPONENT_X87 != 0 {
        x87 = load_x87(cpu, base, op.width == Width::Q)?;
    }
    let mut xmm = [[0; 2]; 16];
    if from_area & COMPONENT_SSE != 0 {
        xmm = load_vectors(cpu, base.wrapping_add(160), n)?;
    }
    let mut ymm = [[0; 2]; 16];
    if from_area & COMPONENT_AVX != 0 {
        ymm = load_vectors(cpu, base.wrapping_add(AVX), n)?;
    }
    let mxcsr = restored_mxcsr(cpu, base, asked, present, compacted)?;

    if asked & COMPONENT_X87 != 0 {
        cpu.state.x87 = x87;
    }
    if asked & COMPONENT_SSE != 0 {
        cpu.state.xmm[..n].copy_from_slice(&xmm[..n]);
    }
    if asked & COMPONENT_AVX != 0 {
        cpu.state.ymm_high[..n].copy_from_slice(&ymm[..n]);
    }
    set_mxcsr(cpu, mxcsr);
    Ok(())
}

/// MXCSR belongs to SSE in the compacted form; in the standard one it is loaded with SSE or AVX, present or not.
fn restored_mxcsr(
    cpu: &mut Cpu,
    base: u64,
    asked: u64,
    present: u64,
    compacted: bool,
) -> Result<u32, Stop> {
    if compacted {
        match (asked & COMPONENT_SSE != 0, present & COMPONENT_SSE != 0) {
            (true, true) => load_mxcsr(cpu, base),
            (true, false) => Ok(MXCSR_DEFAULT),
            _ => Ok(cpu.state.mxcsr),
        }
    } else if asked & (COMPONENT_SSE | COMPONENT_AVX) != 0 {
        load_mxcsr(cpu, base)
    } else {
        Ok(cpu.state.mxcsr)
    }
}

/// XGETBV: XCR0, or with ECX = 1, where the model has that, the part of it that is in use.
pub fn xgetbv(cpu: &mut Cpu, op: &Op) -> Done {
    if cpu.state.cr4 & cr::CR4_OSXSAVE == 0 {
        return Err(cpu.raise(Fault::UD));
    }
    let v = match cpu.reg(Width::D, RCX) {
        0 => cpu.state.xcr0,
        1 if cpu.features().contains(Features::XGETBV1) => cpu.state.xcr0 & in_use(cpu, op),
        _ => return Err(cpu.gp(0)),
    };
    cpu.set_reg(Width::D, RAX, v & 0xffff_ffff);
    cpu.set_reg(Width::D, RDX, v >> 32);
    Ok(())
}

/// XSETBV; `op.imm` holds the components that this CPU model has.
pub fn xsetbv(cpu: &mut Cpu, op: &Op) -> Done {
    if cpu.state.cr4 & cr::CR4_OSXSAVE == 0 {
        return Err(cpu.raise(Fault::UD));
    }
    let v = cpu.reg(Width::D, RAX) | cpu.reg(Width::D, RDX) << 32;
    let avx_without_sse = v & (COMPONENT_SSE | COMPONENT_AVX) == COMPONENT_AVX;
    if cpu.state.cpl() != 0
        || cpu.reg(Width::D, RCX) != 0
        || v & COMPONENT_X87 == 0
        || v & !op.imm != 0
        || avx_without_sse
    {
        return Err(cpu.gp(0));
    }
    cpu.state.xcr0 = v;
    cpu.update_mode_within();
    Ok(())
}
