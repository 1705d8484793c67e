//! AVX, AVX2 and F16C instructions that stay functions of `Cpu`: masked moves, gathers, permutations by a vector over both
//! halves, half precision.

use super::sse::{Form, both, put, put_wide, source, source_low, source_wide};
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::{Fault, Stop};
use crate::interp::eval_fp;
use crate::interp::eval_vec::{X, x_lane, x_with_lane};
use crate::op::{Arg, Op, Width};

type Done = Result<(), Stop>;

/// Any VEX instruction while CR0.TS is set.
pub fn switched_off(cpu: &mut Cpu, _: &Op) -> Done {
    Err(cpu.raise(Fault::NM))
}

/// Lane `i` of 256 bits.
fn lane(w: Width, v: [X; 2], i: u32) -> u64 {
    let per = 16 / w.bytes();
    x_lane(w, v[usize::from(i >= per)], (i % per) as u8)
}

fn set_lane(w: Width, v: &mut [X; 2], i: u32, value: u64) {
    let per = 16 / w.bytes();
    let half = &mut v[usize::from(i >= per)];
    *half = x_with_lane(w, *half, (i % per) as u8, value);
}

fn is_set(w: Width, mask: [X; 2], i: u32) -> bool {
    lane(w, mask, i) & w.sign() != 0
}

/// How many lanes of width `w` a vector of this form has.
fn count(form: Form, w: Width) -> u32 {
    let bytes = if form == Form::Wide { 32 } else { 16 };
    bytes / w.bytes()
}

/// VPERMD, VPERMPS: lane i is the one of src that lane i of src1 names.
pub fn permute_d(cpu: &mut Cpu, op: &Op) -> Done {
    let data = source_wide(cpu, op, op.src_arg)?;
    let index = both(cpu, op.src1);
    let mut r = [[0; 2]; 2];
    for i in 0..8 {
        let from = lane(Width::D, index, i) as u32 & 7;
        set_lane(Width::D, &mut r, i, lane(Width::D, data, from));
    }
    put_wide(cpu, op, r);
    Ok(())
}

/// VMASKMOVPx and VPMASKMOVx from memory: what the mask (src1) leaves out is not accessed, and zero. Each lane
/// has segment and page checks of its own.
pub fn masked_load(cpu: &mut Cpu, op: &Op) -> Done {
    let (form, w) = (Form::of(op), op.width);
    let mask = both(cpu, op.src1);
    let mut r = [[0; 2]; 2];
    for i in (0..count(form, w)).filter(|&i| is_set(w, mask, i)) {
        let address = cpu.lane_address(op, u64::from(i * w.bytes()), w.bytes())?;
        let v = cpu.load(w, address)?;
        set_lane(w, &mut r, i, v);
    }
    put_wide(cpu, op, r);
    Ok(())
}

/// VMASKMOVPx and VPMASKMOVx to memory: all lanes that are stored are checked before one is.
pub fn masked_store(cpu: &mut Cpu, op: &Op) -> Done {
    let (form, w) = (Form::of(op), op.width);
    let (mask, data) = (both(cpu, op.src1), both(cpu, op.src));
    let chosen = || (0..count(form, w)).filter(|&i| is_set(w, mask, i));
    for i in chosen() {
        let address = cpu.lane_address(op, u64::from(i * w.bytes()), w.bytes())?;
        cpu.check_store(address, w.bytes())?;
    }
    for i in chosen() {
        let address = cpu.lane_address(op, u64::from(i * w.bytes()), w.bytes())?;
        cpu.store(w, address, lane(w, data, i))?;
    }
    Ok(())
}

/// VGATHERxxx and VPGATHERxx: `src` is the vector of indices, of lanes as wide as `width2`; src1 is the mask, whose lanes are
/// cleared one after the other, as their elements arrive or are passed over. A fault leaves those that came before it (SDM vol. 2, VPGATHERDD).
pub fn gather(cpu: &mut Cpu, op: &Op) -> Done {
    let (form, w, index_width) = (Form::of(op), op.width, op.width2);
    let index = both(cpu, op.src);
    let lanes = count(form, w.max(index_width));
    for i in 0..lanes {
        let mut mask = both(cpu, op.src1);
        if !is_set(w, mask, i) {
            set_lane(w, &mut mask, i, 0);
            put_mask(cpu, op, mask);
            continue;
        }
        let n = lane(index_width, index, i);
        let n = if index_width == Width::D {
            n as i32 as u64
        } else {
            n
        };
        let address = cpu.lane_address(op, n << op.scale, w.bytes())?;
        let v = cpu.load(w, address)?;
        let mut r = both(cpu, op.dst);
        set_lane(w, &mut r, i, v);
        put_wide(cpu, op, r);
        set_lane(w, &mut mask, i, 0);
        put_mask(cpu, op, mask);
    }
    let mut r = both(cpu, op.dst);
    for i in lanes..count(Form::Wide, w) {
        set_lane(w, &mut r, i, 0);
    }
    put_wide(cpu, op, r);
    put_mask(cpu, op, [[0; 2]; 2]);
    Ok(())
}

fn put_mask(cpu: &mut Cpu, op: &Op, mask: [X; 2]) {
    cpu.set_xmm(op.src1, mask[0]);
    cpu.set_xmm_high(op.src1, mask[1]);
}

/// VCVTPH2PS.
pub fn half_to_single(cpu: &mut Cpu, op: &Op) -> Done {
    let form = Form::of(op);
    if form == Form::Wide {
        let src = source(cpu, op, form, op.src_arg)?;
        let r = cpu.halves(|cpu, i| eval_fp::half_to_single(cpu, src[i]))?;
        put_wide(cpu, op, r);
    } else {
        let src = source_low(cpu, op, op.src_arg, Width::Q)?;
        let r = eval_fp::half_to_single(cpu, src[0])?;
        put(cpu, op, form, r);
    }
    Ok(())
}

/// VCVTPS2PH. Whether the result can be stored is found before anything is computed.
pub fn single_to_half(cpu: &mut Cpu, op: &Op) -> Done {
    let (form, imm) = (Form::of(op), op.imm as u8);
    let wide = form == Form::Wide;
    let bytes = if wide { 16 } else { 8 };
    let mut address = 0;
    if op.dst_arg == Arg::Mem {
        address = cpu.ea(op, bytes)?;
        cpu.check_store(address, bytes)?;
    }
    let src = both(cpu, op.src);
    let r = if wide {
        let r = cpu.halves(|cpu, i| eval_fp::single_to_half(cpu, src[i], imm))?;
        [r[0][0], r[1][0]]
    } else {
        [eval_fp::single_to_half(cpu, src[0], imm)?[0], 0]
    };
    match (op.dst_arg, wide) {
        (Arg::Mem, true) => cpu.store_x(address, false, r),
        (Arg::Mem, false) => cpu.store(Width::Q, address, r[0]),
        _ => {
            put(cpu, op, Form::Vex, r);
            Ok(())
        }
    }
}
