//! Integer SIMD as Cranelift's vector operations, and which instructions are translated at all.
//!
//! A vector is an `i8x16` between instructions; casts to the lanes of an operation cost nothing.

use atoll_x86::eval::{VecBin, VecShift, VecShuf, VecUn};
use atoll_x86::op::{Kind, Op, Width};
use atoll_x86::state::mode;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    ConstantData, Endianness, InstBuilder, MemFlagsData, Opcode, Type, Value, types,
};

use super::eval::Truth;
use super::{Emitter, plain};

/// Whether a lifted instruction is translated; the others are called.
pub(crate) fn translates(op: &Op, mode: u32) -> bool {
    use Kind::*;
    match op.kind {
        VecBin => !called_bin(op.sub),
        VecUnary => op.sub != VecUn::MinPosUW as u8,
        FpBin | FpUnary | FpCompare | FpConvert | FpFma => super::fp::translates(op, mode),
        _ => mode & mode::DEBUG == 0,
    }
}

/// The operations without a counterpart that is worth it.
fn called_bin(sub: u8) -> bool {
    use VecBin::*;
    [
        MulSDQ, SadBW, SignB, SignW, SignD, HaddSatW, HsubW, HsubD, HsubSatW, SllVD, SllVQ, SrlVD,
        SrlVQ, SraVD, PermilS, PermilD,
    ]
    .iter()
    .any(|&b| b as u8 == sub)
}

/// The lanes that an operation works on.
fn lanes(op: VecBin) -> Type {
    use VecBin::*;
    match op {
        AddW | SubW | AddSatSW | AddSatUW | SubSatSW | SubSatUW | AvgUW | MinSW | MaxSW | MinUW
        | MaxUW | MulLoW | MulHiSW | MulHiUW | MaddWD | MulHrSW | CmpEqW | CmpGtW | PackSSWB
        | PackUSWB | HaddW => types::I16X8,
        AddD | SubD | MinSD | MaxSD | MinUD | MaxUD | MulLoD | CmpEqD | CmpGtD | PackSSDW
        | PackUSDW | HaddD => types::I32X4,
        AddQ | SubQ | MulUDQ | CmpEqQ | CmpGtQ => types::I64X2,
        _ => types::I8X16,
    }
}

/// For the unpacking operations: bytes of a lane, and whether the high halves are interleaved.
fn unpack(op: VecBin) -> Option<(usize, bool)> {
    use VecBin::*;
    Some(match op {
        UnpackLoB => (1, false),
        UnpackLoW => (2, false),
        UnpackLoD => (4, false),
        UnpackLoQ => (8, false),
        UnpackHiB => (1, true),
        UnpackHiW => (2, true),
        UnpackHiD => (4, true),
        UnpackHiQ => (8, true),
        _ => return None,
    })
}

impl Emitter<'_, '_> {
    /// The same bits as another type.
    pub(super) fn cast(&mut self, to: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == to {
            return v;
        }
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(to, flags, v)
    }

    fn bytes(&mut self, v: Value) -> Value {
        self.cast(types::I8X16, v)
    }

    pub(super) fn vector_const(&mut self, lo: u64, hi: u64) -> Value {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&lo.to_le_bytes());
        bytes[8..].copy_from_slice(&hi.to_le_bytes());
        let c = self
            .b
            .func
            .dfg
            .constants
            .insert(ConstantData::from(&bytes[..]));
        self.b.ins().vconst(types::I8X16, c)
    }

    fn is_zero_const(&self, v: Value) -> bool {
        let dfg = &self.b.func.dfg;
        let Some(inst) = dfg.value_def(v).inst() else {
            return false;
        };
        match dfg.insts[inst] {
            cranelift_codegen::ir::InstructionData::UnaryConst {
                opcode: Opcode::Vconst,
                constant_handle,
            } => dfg.constants.get(constant_handle).iter().all(|&b| b == 0),
            _ => false,
        }
    }

    /// Bytes of `a` (0 to 15) and `b` (16 to 31), picked by `mask`.
    fn pick(&mut self, a: Value, b: Value, mask: [u8; 16]) -> Value {
        let (a, b) = (self.bytes(a), self.bytes(b));
        let mask = self
            .b
            .func
            .dfg
            .immediates
            .push(ConstantData::from(&mask[..]));
        self.b.ins().shuffle(a, b, mask)
    }

    /// Lanes of `size` bytes, picked from `a` and `b` by number.
    fn pick_lanes(&mut self, a: Value, b: Value, size: usize, lanes: &[usize]) -> Value {
        let mask = std::array::from_fn(|i| (lanes[i / size] * size + i % size) as u8);
        self.pick(a, b, mask)
    }

    pub(super) fn vector_bin(&mut self, op: VecBin, a: Value, b: Value) -> Value {
        use VecBin::*;
        if let Some((size, high)) = unpack(op) {
            let n = 16 / size;
            let first = if high { n / 2 } else { 0 };
            let order: Vec<usize> = (0..n)
                .map(|i| first + i / 2 + if i % 2 == 1 { n } else { 0 })
                .collect();
            return self.pick_lanes(a, b, size, &order);
        }
        if a == b && matches!(op, Xor | SubB | SubW | SubD | SubQ) {
            return self.vector_const(0, 0);
        }
        let t = lanes(op);
        let (x, y) = (self.cast(t, a), self.cast(t, b));
        let r = match op {
            And => self.b.ins().band(x, y),
            Or => self.b.ins().bor(x, y),
            Xor => self.b.ins().bxor(x, y),
            AndNot => self.b.ins().band_not(y, x),
            AddB | AddW | AddD | AddQ => self.b.ins().iadd(x, y),
            SubB | SubW | SubD | SubQ => self.b.ins().isub(x, y),
            AddSatSB | AddSatSW => self.b.ins().sadd_sat(x, y),
            AddSatUB | AddSatUW => self.b.ins().uadd_sat(x, y),
            SubSatSB | SubSatSW => self.b.ins().ssub_sat(x, y),
            SubSatUB | SubSatUW => self.b.ins().usub_sat(x, y),
            AvgUB | AvgUW => self.b.ins().avg_round(x, y),
            MinUB | MinUW | MinUD => self.b.ins().umin(x, y),
            MaxUB | MaxUW | MaxUD => self.b.ins().umax(x, y),
            MinSB | MinSW | MinSD => self.b.ins().smin(x, y),
            MaxSB | MaxSW | MaxSD => self.b.ins().smax(x, y),
            MulLoW | MulLoD => self.b.ins().imul(x, y),
            CmpEqB | CmpEqW | CmpEqD | CmpEqQ => self.b.ins().icmp(IntCC::Equal, x, y),
            CmpGtB | CmpGtW | CmpGtD | CmpGtQ => self.b.ins().icmp(IntCC::SignedGreaterThan, x, y),
            PackSSWB | PackSSDW => self.b.ins().snarrow(x, y),
            PackUSWB | PackUSDW => self.b.ins().unarrow(x, y),
            HaddW | HaddD => self.b.ins().iadd_pairwise(x, y),
            PshufB => self.b.ins().x86_pshufb(x, y),
            MaddUBSW => self.b.ins().x86_pmaddubsw(y, x),
            MulHrSW => self.b.ins().x86_pmulhrsw(x, y),
            _ => self.multiply(op, x, y),
        };
        self.bytes(r)
    }

    /// Products wider than their operands.
    fn multiply(&mut self, op: VecBin, x: Value, y: Value) -> Value {
        if op == VecBin::MulUDQ {
            let low = self.vector_const(0xffff_ffff, 0xffff_ffff);
            let low = self.cast(types::I64X2, low);
            let (x, y) = (self.b.ins().band(x, low), self.b.ins().band(y, low));
            return self.b.ins().imul(x, y);
        }
        let signed = op != VecBin::MulHiUW;
        let mut half = |high: bool| {
            let [x, y] = [x, y].map(|v| match (signed, high) {
                (true, false) => self.b.ins().swiden_low(v),
                (true, true) => self.b.ins().swiden_high(v),
                (false, false) => self.b.ins().uwiden_low(v),
                (false, true) => self.b.ins().uwiden_high(v),
            });
            self.b.ins().imul(x, y)
        };
        let (lo, hi) = (half(false), half(true));
        match op {
            VecBin::MaddWD => self.b.ins().iadd_pairwise(lo, hi),
            VecBin::MulHiSW => {
                let lo = self.b.ins().sshr_imm_u(lo, 16);
                let hi = self.b.ins().sshr_imm_u(hi, 16);
                self.b.ins().snarrow(lo, hi)
            }
            _ => {
                let lo = self.b.ins().ushr_imm_u(lo, 16);
                let hi = self.b.ins().ushr_imm_u(hi, 16);
                self.b.ins().unarrow(lo, hi)
            }
        }
    }

    pub(super) fn vector_un(&mut self, op: VecUn, a: Value) -> Value {
        use VecUn::*;
        let r = match op {
            AbsB | AbsW | AbsD => {
                let t = match op {
                    AbsB => types::I8X16,
                    AbsW => types::I16X8,
                    _ => types::I32X4,
                };
                let x = self.cast(t, a);
                self.b.ins().iabs(x)
            }
            SxBW => self.widen_lanes(a, true, types::I8X16, 1),
            SxBD => self.widen_lanes(a, true, types::I8X16, 2),
            SxBQ => self.widen_lanes(a, true, types::I8X16, 3),
            SxWD => self.widen_lanes(a, true, types::I16X8, 1),
            SxWQ => self.widen_lanes(a, true, types::I16X8, 2),
            SxDQ => self.widen_lanes(a, true, types::I32X4, 1),
            ZxBW => self.widen_lanes(a, false, types::I8X16, 1),
            ZxBD => self.widen_lanes(a, false, types::I8X16, 2),
            ZxBQ => self.widen_lanes(a, false, types::I8X16, 3),
            ZxWD => self.widen_lanes(a, false, types::I16X8, 1),
            ZxWQ => self.widen_lanes(a, false, types::I16X8, 2),
            ZxDQ => self.widen_lanes(a, false, types::I32X4, 1),
            MinPosUW => a,
        };
        self.bytes(r)
    }

    /// Doubles the low lanes, `steps` times.
    fn widen_lanes(&mut self, a: Value, signed: bool, from: Type, steps: u32) -> Value {
        let mut v = self.cast(from, a);
        for _ in 0..steps {
            v = if signed {
                self.b.ins().swiden_low(v)
            } else {
                self.b.ins().uwiden_low(v)
            };
        }
        v
    }

    fn shift_lanes(op: VecShift) -> (Type, i64) {
        use VecShift::*;
        match op {
            SllW | SrlW | SraW => (types::I16X8, 16),
            SllD | SrlD | SraD => (types::I32X4, 32),
            _ => (types::I64X2, 64),
        }
    }

    /// Lane shifts by a count in a register: counts at or above the width give zero, or the sign.
    pub(super) fn vector_shift(&mut self, op: VecShift, a: Value, count: Value) -> Value {
        use VecShift::*;
        let (t, bits) = Self::shift_lanes(op);
        let x = self.cast(t, a);
        let over = self
            .b
            .ins()
            .icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, count, bits);
        let most = self.b.ins().iconst(types::I64, bits - 1);
        let n = self.b.ins().select(over, most, count);
        let n = self.b.ins().ireduce(types::I32, n);
        let r = match op {
            SllW | SllD | SllQ => self.b.ins().ishl(x, n),
            SrlW | SrlD | SrlQ => self.b.ins().ushr(x, n),
            _ => self.b.ins().sshr(x, n),
        };
        let r = self.bytes(r);
        if matches!(op, SraW | SraD) {
            return r;
        }
        let zero = self.vector_const(0, 0);
        self.b.ins().select(over, zero, r)
    }

    pub(super) fn vector_shift_imm(&mut self, op: VecShift, a: Value, count: u8) -> Value {
        use VecShift::*;
        if matches!(op, SllB | SrlB) {
            let n = count.min(16);
            let zero = self.vector_const(0, 0);
            // Bytes 16 and up are the zeros.
            let mask = std::array::from_fn(|i| {
                let i = i as u8;
                match op {
                    SllB => i.checked_sub(n).unwrap_or(16),
                    _ if i + n < 16 => i + n,
                    _ => 16,
                }
            });
            return self.pick(a, zero, mask);
        }
        let (t, bits) = Self::shift_lanes(op);
        let x = self.cast(t, a);
        let n = i64::from(count);
        let r = match op {
            SraW | SraD => self.b.ins().sshr_imm_u(x, n.min(bits - 1)),
            _ if n >= bits => return self.vector_const(0, 0),
            SllW | SllD | SllQ => self.b.ins().ishl_imm_u(x, n),
            _ => self.b.ins().ushr_imm_u(x, n),
        };
        self.bytes(r)
    }

    pub(super) fn vector_shuffle(&mut self, op: VecShuf, a: Value, b: Value, imm: u8) -> Value {
        use VecShuf::*;
        let two = |n: u32| usize::from(imm >> (2 * n) & 3);
        let bit = |n: u32| usize::from(imm >> n & 1);
        match op {
            D => self.pick_lanes(b, b, 4, &[two(0), two(1), two(2), two(3)]),
            Lw => self.pick_lanes(b, b, 2, &[two(0), two(1), two(2), two(3), 4, 5, 6, 7]),
            Hw => {
                let order = [0, 1, 2, 3, 4 + two(0), 4 + two(1), 4 + two(2), 4 + two(3)];
                self.pick_lanes(b, b, 2, &order)
            }
            Ps => self.pick_lanes(a, b, 4, &[two(0), two(1), 4 + two(2), 4 + two(3)]),
            Pd => self.pick_lanes(a, b, 8, &[bit(0), 2 + bit(1)]),
            Align => self.align(a, b, usize::from(imm)),
            DupLoD => self.pick_lanes(b, b, 8, &[0, 0]),
            DupEvenS => self.pick_lanes(b, b, 4, &[0, 0, 2, 2]),
            DupOddS => self.pick_lanes(b, b, 4, &[1, 1, 3, 3]),
        }
    }

    /// PALIGNR: sixteen bytes from byte `n` on of b below a, zeros beyond.
    fn align(&mut self, a: Value, b: Value, n: usize) -> Value {
        if n >= 32 {
            return self.vector_const(0, 0);
        }
        if n >= 16 {
            return self.vector_shift_imm(VecShift::SrlB, a, n as u8 - 16);
        }
        self.pick(b, a, std::array::from_fn(|i| (i + n) as u8))
    }

    fn lane_type(w: Width) -> Type {
        match w {
            Width::B => types::I8X16,
            Width::W => types::I16X8,
            Width::D => types::I32X4,
            Width::Q => types::I64X2,
        }
    }

    pub(super) fn vector_lane(&mut self, w: Width, a: Value, i: u8) -> Value {
        let v = self.cast(Self::lane_type(w), a);
        self.b.ins().extractlane(v, i)
    }

    pub(super) fn vector_with_lane(&mut self, w: Width, a: Value, i: u8, v: Value) -> Value {
        if i == 0 && w >= Width::D && self.is_zero_const(a) {
            let r = self.alone(w, v);
            return self.bytes(r);
        }
        let x = self.cast(Self::lane_type(w), a);
        let r = self.b.ins().insertlane(x, v, i);
        self.bytes(r)
    }

    /// A vector of `v` and zeros. A value just loaded is loaded into a vector register instead.
    fn alone(&mut self, w: Width, v: Value) -> Value {
        let dfg = &self.b.func.dfg;
        if let Some(inst) = dfg.value_def(v).inst()
            && dfg.insts[inst].opcode() == Opcode::Load
            && self.b.func.layout.inst_block(inst) == self.b.current_block()
        {
            let address = dfg.inst_args(inst)[0];
            let (scalar, vector) = if w == Width::D {
                (types::F32, types::F32X4)
            } else {
                (types::F64, types::F64X2)
            };
            if dfg.insts[inst].load_store_offset() == Some(0) {
                let f = self.b.ins().load(scalar, plain(), address, 0);
                return self.b.ins().scalar_to_vector(vector, f);
            }
        }
        self.b.ins().scalar_to_vector(Self::lane_type(w), v)
    }

    pub(super) fn vector_mask(&mut self, w: Width, a: Value) -> Value {
        let x = self.cast(Self::lane_type(w), a);
        self.b.ins().vhigh_bits(types::I32, x)
    }

    pub(super) fn vector_is_zero(&mut self, a: Value) -> Truth {
        let x = self.bytes(a);
        let any = self.b.ins().vany_true(x);
        Truth::plain(any).not()
    }

    /// Where the sign bit of the mask's lane is set, b, else a.
    pub(super) fn vector_blend(&mut self, w: Width, a: Value, b: Value, mask: Value) -> Value {
        let t = Self::lane_type(w);
        let m = self.cast(t, mask);
        let bits = i64::from(w.bits()) - 1;
        let m = self.b.ins().sshr_imm_u(m, bits);
        let (x, y) = (self.cast(t, b), self.cast(t, a));
        let r = self.b.ins().bitselect(m, x, y);
        self.bytes(r)
    }
}
