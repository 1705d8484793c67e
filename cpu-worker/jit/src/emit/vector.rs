//! Integer SIMD as Cranelift's vector operations, and which instructions are translated at all.

use atoll_x86::eval::{VecBin, VecShift, VecShuf, VecUn};
use atoll_x86::op::{Kind, Op, Width};
use atoll_x86::state::mode;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value, types,
};

use super::Emitter;
use super::eval::Truth;

/// Whether a lifted instruction is translated; the others are called.
pub(crate) fn translates(op: &Op, mode: u32) -> bool {
    use Kind::*;
    match op.kind {
        MovX => true,
        MovPart => true,
        VecBin => bin_supported(op.sub),
        FpBin | FpUnary | FpCompare | FpConvert => super::fp::translates(op, mode),
        VecShiftImm | VecShiftReg | VecShuffle | VecUnary | VecExtract | VecInsert | VecMask
        | VecTest | VecBlend => false,
        _ => mode & mode::DEBUG == 0,
    }
}

fn bin_supported(sub: u8) -> bool {
    use VecBin::*;
    [
        And, Or, Xor, AndNot, AddB, AddW, AddD, AddQ, SubB, SubW, SubD, SubQ,
    ]
    .iter()
    .any(|&b| b as u8 == sub)
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

    pub(super) fn vector_bin(&mut self, op: VecBin, a: Value, b: Value) -> Value {
        use VecBin::*;
        let t = match op {
            AddW | SubW => types::I16X8,
            AddD | SubD => types::I32X4,
            AddQ | SubQ => types::I64X2,
            _ => types::I8X16,
        };
        if a == b && matches!(op, Xor | SubB | SubW | SubD | SubQ) {
            return self.vector_const(0, 0);
        }
        let (x, y) = (self.cast(t, a), self.cast(t, b));
        let r = match op {
            And => self.b.ins().band(x, y),
            Or => self.b.ins().bor(x, y),
            Xor => self.b.ins().bxor(x, y),
            AndNot => self.b.ins().band_not(y, x),
            AddB | AddW | AddD | AddQ => self.b.ins().iadd(x, y),
            _ => self.b.ins().isub(x, y),
        };
        self.cast(types::I8X16, r)
    }

    pub(super) fn vector_un(&mut self, _: VecUn, a: Value) -> Value {
        a
    }
    pub(super) fn vector_shift(&mut self, _: VecShift, a: Value, _: Value) -> Value {
        a
    }
    pub(super) fn vector_shift_imm(&mut self, _: VecShift, a: Value, _: u8) -> Value {
        a
    }
    pub(super) fn vector_shuffle(&mut self, _: VecShuf, a: Value, _: Value, _: u8) -> Value {
        a
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
        let x = self.cast(Self::lane_type(w), a);
        let r = self.b.ins().insertlane(x, v, i);
        self.cast(types::I8X16, r)
    }

    pub(super) fn vector_mask(&mut self, w: Width, a: Value) -> Value {
        let x = self.cast(Self::lane_type(w), a);
        self.b.ins().vhigh_bits(types::I32, x)
    }

    pub(super) fn vector_is_zero(&mut self, a: Value) -> Truth {
        let lo = self.vector_lane(Width::Q, a, 0);
        let hi = self.vector_lane(Width::Q, a, 1);
        let any = self.b.ins().bor(lo, hi);
        Truth::plain(self.b.ins().icmp_imm_s(IntCC::Equal, any, 0))
    }

    pub(super) fn vector_blend(&mut self, _: Width, a: Value, _: Value, _: Value) -> Value {
        a
    }
}
