//! Integer instructions that are functions of `Cpu` in both engines: rare, or with more results than a lifted meaning is
//! worth. Bit tests in segments with limits, the binary-coded ones, CMPXCHG8B/16B, BOUND, ENTER, PUSHA, POPA, XLAT, CRC32, RDRAND, SALC.

use crate::cpu::{Cpu, cut};
use crate::eval::Eval;
use crate::exception::{Stop, Vector};
use crate::flags::{AF, CF, FlagOp, OF, PF, SF, ZF};
use crate::op::{AH, Arg, Kind, Op, OpFlags, RAX, RBP, RBX, RCX, RDX, RSP, Width};
use crate::semantics::bit;

fn set_bits(cpu: &mut Cpu, bits: u64) {
    cpu.flags(FlagOp::Real, Width::Q, bits, bits, bits);
}

/// ZF, SF and PF of a byte.
fn szp(v: u64) -> u64 {
    let v = v as u8;
    let bit = |on: bool, flag: u64| if on { flag } else { 0 };
    bit(v == 0, ZF) | bit(v & 0x80 != 0, SF) | bit(v.count_ones() & 1 == 0, PF)
}

/// CMPXCHG8B: width D.
pub(crate) fn cmpxchg8b(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let at = cpu.ea(op, 8)?;
    let (old, loc) = cpu.load_rmw(Width::Q, at)?;
    let expected = cpu.reg(Width::D, RDX) << 32 | cpu.reg(Width::D, RAX);
    let new = cpu.reg(Width::D, RCX) << 32 | cpu.reg(Width::D, RBX);
    let same = old == expected;
    cpu.store_rmw(Width::Q, loc, if same { new } else { old });
    if !same {
        cpu.set_reg(Width::D, RAX, old & 0xffff_ffff);
        cpu.set_reg(Width::D, RDX, old >> 32);
    }
    let bits = cpu.flag_bits() & !ZF | if same { ZF } else { 0 };
    set_bits(cpu, bits);
    Ok(())
}

/// CMPXCHG16B. The address must be a multiple of 16, so both halves lie in one page.
pub(crate) fn cmpxchg16b(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let at = cpu.ea(op, 16)?;
    if at & 15 != 0 {
        return Err(cpu.gp(0));
    }
    let (low, low_place) = cpu.load_rmw(Width::Q, at)?;
    let (high, high_place) = cpu.load_rmw(Width::Q, at + 8)?;
    let expected = (cpu.reg(Width::Q, RAX), cpu.reg(Width::Q, RDX));
    let new = (cpu.reg(Width::Q, RBX), cpu.reg(Width::Q, RCX));
    let same = (low, high) == expected;
    let written = if same { new } else { (low, high) };
    cpu.store_rmw(Width::Q, low_place, written.0);
    cpu.store_rmw(Width::Q, high_place, written.1);
    if !same {
        cpu.set_reg(Width::Q, RAX, low);
        cpu.set_reg(Width::Q, RDX, high);
    }
    let bits = cpu.flag_bits() & !ZF | if same { ZF } else { 0 };
    set_bits(cpu, bits);
    Ok(())
}

pub(crate) fn bound(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let w = op.width;
    // The pair lies within the limit as a whole, and is aligned if its first half is.
    cpu.lane_address(op, 0, 2 * w.bytes())?;
    let at = cpu.ea(op, w.bytes())?;
    let lower = cpu.load(w, at)?;
    let upper = cpu.load(w, at.wrapping_add(w.bytes() as u64) & 0xffff_ffff)?;
    let index = cpu.reg(w, op.dst);
    let outside = cpu.slt(w, index, lower) || cpu.slt(w, upper, index);
    cpu.raise_if(outside, Vector::Bound)
}

/// ENTER: the frame size is in `imm`, the nesting level in `sub`.
pub(crate) fn enter(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let (w, s) = (op.width, op.stack_width());
    let bytes = w.bytes() as u64;
    let level = (op.sub & 31) as u64;
    let top = cpu.reg(s, RSP);
    let frame = cpu.sub(s, top, bytes);
    // Of a 16-bit stack pointer the frame pointer still has all bits of ESP.
    let whole = cpu.reg(Width::Q, RSP) & !s.mask() | frame;
    // What is pushed: values, and frame pointers that are read again after what was pushed before them, which may have changed them.
    let mut pushed = vec![Ok(cpu.reg(w, RBP))];
    if level > 0 {
        let mut display = cpu.reg(s, RBP);
        for _ in 1..level {
            display = cpu.sub(s, display, bytes);
            let at = cpu.stack_ea(op, display, bytes as u32, false)?;
            cpu.load(w, at)?;
            pushed.push(Err(at));
        }
        pushed.push(Ok(whole & w.mask()));
    }
    // All places are checked before the first is written. The new top must be writable, as the SDM asks, although nothing is written
    // there.
    let mut sp = top;
    let mut places = Vec::with_capacity(pushed.len());
    for _ in &pushed {
        sp = cpu.sub(s, sp, bytes);
        places.push(cpu.stack_ea(op, sp, bytes as u32, true)?);
    }
    let sp = cpu.sub(s, sp, op.imm);
    let end = cpu.stack_ea(op, sp, bytes as u32, true)?;
    for at in places.iter().chain([&end]) {
        cpu.check_store(*at, bytes as u32)?;
    }
    for (at, value) in places.into_iter().zip(pushed) {
        let v = value.or_else(|from| cpu.load(w, from))?;
        cpu.store(w, at, v)?;
    }
    cpu.set_reg(w, RBP, whole & w.mask());
    cpu.set_reg(s, RSP, sp);
    Ok(())
}

pub(crate) fn pusha(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let (w, s) = (op.width, op.stack_width());
    let bytes = w.bytes() as u64;
    let top = cpu.reg(s, RSP);
    let mut sp = top;
    // All places are checked before the first is written.
    let mut places = [0; 8];
    for at in &mut places {
        sp = cpu.sub(s, sp, bytes);
        *at = cpu.stack_ea(op, sp, bytes as u32, true)?;
        cpu.check_store(*at, bytes as u32)?;
    }
    for (r, at) in places.into_iter().enumerate() {
        let v = cpu.reg(w, r as u8);
        cpu.store(w, at, v)?;
    }
    cpu.set_reg(s, RSP, sp);
    Ok(())
}

pub(crate) fn popa(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let (w, s) = (op.width, op.stack_width());
    let bytes = w.bytes() as u64;
    let mut sp = cpu.reg(s, RSP);
    let mut values = [0; 8];
    for r in (0..8).rev() {
        let at = cpu.stack_ea(op, sp, bytes as u32, false)?;
        values[r] = cpu.load(w, at)?;
        sp = cpu.add(s, sp, bytes);
    }
    for (r, v) in values.into_iter().enumerate() {
        if r != RSP as usize {
            cpu.set_reg(w, r as u8, v);
        }
    }
    cpu.set_reg(s, RSP, sp);
    Ok(())
}

/// XLAT: AL = [seg:BX + AL].
pub(crate) fn xlat(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let al = cpu.reg(Width::B, RAX);
    let offset = cut(op.addr, cpu.state.gpr[RBX as usize].wrapping_add(al));
    let at = if op.has(OpFlags::SEG_CHECK) {
        cpu.linear(op.seg, offset, 1, false)?
    } else if op.has(OpFlags::SEG_BASE) {
        offset.wrapping_add(cpu.state.segment(op.seg).base)
    } else {
        offset
    };
    let v = cpu.load(Width::B, at)?;
    cpu.set_reg(Width::B, RAX, v);
    Ok(())
}

/// CRC32 (the Castagnoli polynomial, reflected); `width2` is the source's width.
pub(crate) fn crc32(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let v = crate::semantics::source(cpu, op, op.width2, op.src_arg)?;
    let mut crc = cpu.reg(Width::D, op.dst) as u32;
    for byte in v.to_le_bytes().iter().take(op.width2.bytes() as usize) {
        crc ^= *byte as u32;
        for _ in 0..8 {
            let low = crc & 1;
            crc = crc >> 1 ^ if low != 0 { POLYNOMIAL } else { 0 };
        }
    }
    cpu.set_reg(Width::D, op.dst, crc as u64);
    Ok(())
}

impl Cpu {
    /// The next number of the seeded generator (xoshiro256**).
    fn next_random(&mut self) -> u64 {
        let s = &mut self.state.rng;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

/// RDRAND and RDSEED: always succeed, CF set and the other flags cleared.
pub(crate) fn random(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let v = cpu.next_random() & op.width.mask();
    cpu.set_reg(op.width, op.dst, v);
    set_bits(cpu, CF);
    Ok(())
}

/// SALC: AL is all ones if CF is set, else zero.
pub(crate) fn salc(cpu: &mut Cpu, _: &Op) -> Result<(), Stop> {
    let v = if cpu.flag_bits() & CF != 0 { 0xff } else { 0 };
    cpu.set_reg(Width::B, RAX, v);
    Ok(())
}

/// DAA and DAS (`sub` 1).
pub(crate) fn decimal_adjust(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let al = cpu.reg(Width::B, RAX);
    let bits = cpu.flag_bits();
    let (half, carry) = (bits & AF != 0, bits & CF != 0);
    let low = al & 15 > 9 || half;
    let high = al > 0x99 || carry;
    let adjust = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let mut new = 0;
    let r = if op.sub == 0 {
        al.wrapping_add(adjust) & 0xff
    } else {
        // The borrow out of the low correction alone also sets CF.
        if low && al < 6 {
            new |= CF;
        }
        al.wrapping_sub(adjust) & 0xff
    };
    if low {
        new |= AF;
    }
    if high {
        new |= CF;
    }
    cpu.set_reg(Width::B, RAX, r);
    set_bits(cpu, new | szp(r));
    Ok(())
}

/// AAA and AAS (`sub` 1).
pub(crate) fn ascii_adjust(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let ax = cpu.reg(Width::W, RAX);
    let adjust = ax & 15 > 9 || cpu.flag_bits() & AF != 0;
    let step = if adjust { 0x106 } else { 0 };
    let ax = if op.sub == 0 {
        cpu.add(Width::W, ax, step)
    } else {
        cpu.sub(Width::W, ax, step)
    };
    let ax = ax & 0xff0f;
    cpu.set_reg(Width::W, RAX, ax);
    let carry = if adjust { AF | CF } else { 0 };
    set_bits(cpu, carry | szp(ax));
    Ok(())
}

/// AAM: the base is in `imm`.
pub(crate) fn aam(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let base = op.imm & 0xff;
    cpu.raise_if(base == 0, Vector::Divide)?;
    let al = cpu.reg(Width::B, RAX);
    cpu.set_reg(Width::B, AH, al / base);
    cpu.set_reg(Width::B, RAX, al % base);
    set_bits(cpu, szp(al % base));
    Ok(())
}

/// AAD.
pub(crate) fn aad(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let al = cpu.reg(Width::B, RAX);
    let ah = cpu.reg(Width::B, AH);
    let v = al.wrapping_add(ah.wrapping_mul(op.imm)) & 0xff;
    cpu.set_reg(Width::W, RAX, v);
    set_bits(cpu, szp(v));
    Ok(())
}

/// ADCX and ADOX (`sub` 1): an addition that touches one flag.
pub(crate) fn add_one_flag(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let flag = if op.sub == 0 { CF } else { OF };
    let w = op.width;
    let b = crate::semantics::source(cpu, op, w, op.src_arg)?;
    let a = cpu.reg(w, op.dst);
    let bits = cpu.flag_bits();
    let carry = (bits & flag != 0) as u128;
    let sum = a as u128 + b as u128 + carry;
    cpu.set_reg(w, op.dst, sum as u64 & w.mask());
    let out = if sum >> w.bits() != 0 { flag } else { 0 };
    set_bits(cpu, bits & !flag | out);
    Ok(())
}

/// What [`bit_in_segment`] does; `op.sub` is the index.
pub(crate) const BIT_TESTS: [Kind; 4] = [Kind::Bt, Kind::Bts, Kind::Btr, Kind::Btc];

/// BT and its relatives on memory in a segment with limits, the bit number in a register: as with an immediate, on the operand that
/// holds the bit.
pub(crate) fn bit_in_segment(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let w = op.width;
    let number = cpu.reg(w, op.src);
    let unused = 64 - w.bits();
    let signed = (number << unused) as i64 >> unused;
    let distance = (signed >> w.bits().trailing_zeros()) * i64::from(w.bytes());
    let there = Op {
        disp: op.disp.wrapping_add(distance),
        imm: number & (u64::from(w.bits()) - 1),
        ..*op
    };
    bit::test(
        cpu,
        &there,
        BIT_TESTS[usize::from(op.sub)],
        w,
        Arg::Mem,
        Arg::Imm,
    )
}
